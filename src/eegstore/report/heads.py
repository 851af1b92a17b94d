"""Maps of the scalp: values at channels, interpolated over a head seen from above."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.errors import InputError
from eegstore.report.figures import drawing
from eegstore.report.markup import Markup, element, joined
from eegstore.report.scales import number

# The first two are one, which MNE 1.13 has renamed.
MONTAGES: Final = ("colin27_1005", "standard_1005", "GSN-HydroCel-129", "biosemi128")
# Their names are a letter and a number, which others give too: each name has to be one of theirs.
NUMBERED: Final = ("GSN-HydroCel-129", "biosemi128")
MIN_CHANNELS: Final = 8
PIXELS: Final = 64
SIDE: Final = 150.0
RADIUS: Final = 56.0
LEVELS: Final = (-0.75, -0.5, -0.25, 0.25, 0.5, 0.75)
# Of both ends; what is near zero is transparent, so that the map suits a light and a dark page.
POSITIVE: Final = (213, 94, 0)
NEGATIVE: Final = (0, 114, 178)
AROUND: Final = re.compile(r"^EEG[ _-]+|[ _-]+(REF|AVG|AVE|LE|A1|A2|M1|M2)$|\.+$")


@dataclass(frozen=True)
class Montage:
    """Where channels are on a head of radius 1, seen from above, the nose at (0, 1).

    Parameters
    ----------
    name
        MNE's name of the montage.
    channels
        int64, (channel,): numbers of the channels that it knows.
    places
        float64, (channel, 2).
    """

    name: str
    channels: NDArray[np.int64]
    places: NDArray[np.float64]


def _bare(name: str) -> str:
    """A channel's name without what recorders put around it."""
    upper = name.strip().upper()
    return AROUND.sub("", AROUND.sub("", upper)) or upper


def montage(ch_names: Sequence[str]) -> Montage | None:
    """The standard montage that knows most of the channels; None where none knows eight.

    One whose names are numbers is taken only where it knows every channel.

    Raises
    ------
    InputError
        Where MNE is missing.
    """
    try:
        from mne.channels import get_builtin_montages, make_standard_montage
    except ImportError:
        raise InputError(
            "the channels' places need MNE; run: pip install 'eegstore[mne]'"
        ) from None
    known = get_builtin_montages()
    best: Montage | None = None
    for name in [name for name in MONTAGES if name in known]:
        places = _places(make_standard_montage(name))
        if name in NUMBERED and not all(_bare(one) in places for one in ch_names):
            continue
        found = _known(name, places, ch_names)
        if best is None or len(found.channels) > len(best.channels):
            best = found
    return best if best is not None and len(best.channels) >= MIN_CHANNELS else None


def _places(known: Any) -> dict[str, Any]:
    """The place of each channel of MNE's montage, by its bare name."""
    return {_bare(one): place for one, place in known.get_positions()["ch_pos"].items()}


def _known(name: str, places: Mapping[str, Any], ch_names: Sequence[str]) -> Montage:
    """The channels that a montage knows; of those at one place, the first."""
    found: dict[tuple[float, ...], tuple[int, NDArray[np.float64]]] = {}
    for channel, ch_name in enumerate(ch_names):
        if (place := places.get(_bare(ch_name))) is not None:
            flat = _flattened(np.asarray(place, np.float64))
            found.setdefault(tuple(np.round(flat, 3).tolist()), (channel, flat))
    channels = np.array([channel for channel, _ in found.values()], dtype=np.int64)
    return Montage(name, channels, np.array([flat for _, flat in found.values()]).reshape(-1, 2))


def _flattened(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """A place on the head, seen from above: as far from the middle as its angle to the top."""
    angle = np.arccos(place[2] / np.linalg.norm(place)) / (np.pi / 2)
    across = np.hypot(place[0], place[1])
    return angle * place[:2] / across if across > 1e-9 else np.zeros(2)


def interpolated(values: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64, (y, x), the nose up: a thin plate spline through values at places.

    Follows Perrin et al. (1987), Mapping of scalp potentials by surface spline interpolation,
    Electroencephalography and Clinical Neurophysiology 66, 75-81.
    """
    from scipy.interpolate import RBFInterpolator

    reach = _reach(places)
    line = (np.arange(PIXELS) + 0.5) / PIXELS * 2 * reach - reach
    x, y = np.meshgrid(line, line[::-1])
    at = np.stack([x.ravel(), y.ravel()], axis=1)
    spline = RBFInterpolator(places, values, kernel="thin_plate_spline")
    surface: NDArray[np.float64] = spline(at).reshape(PIXELS, PIXELS)
    return surface


def _reach(places: NDArray[np.float64]) -> float:
    """How far from the middle the map goes: over the head, or its outermost channel."""
    return max(1.0, float(np.hypot(*places.T).max()) + 0.06)


def _pixels(surface: NDArray[np.float64], limit: float) -> str:
    """The map as a PNG in a data URI: its colour is the sign, its opacity the size."""
    from PIL import Image

    share = np.clip(surface / limit, -1, 1)
    pixels = np.empty((*share.shape, 4), dtype=np.uint8)
    pixels[..., :3] = np.where(share[..., None] > 0, POSITIVE, NEGATIVE)
    pixels[..., 3] = np.rint(255 * np.abs(share))
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _contours(surface: NDArray[np.float64], limit: float, half: float) -> Iterator[Markup]:
    """Lines of equal value: unbroken above zero, dashed below."""
    from skimage import measure

    find_contours: Any = measure.find_contours
    for level in LEVELS:
        lines = find_contours(surface, level * limit)
        path = "".join(
            "M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in _drawn(line, half)) for line in lines
        )
        if path:
            yield element("path", d=path, class_="contour below" if level < 0 else "contour")


def _drawn(line: NDArray[np.float64], half: float) -> NDArray[np.float64]:
    """Pixel numbers of a contour's points as places of the drawing, every second one."""
    kept = np.concatenate([line[:-1:2], line[-1:]])
    return SIDE / 2 - half + (kept + 0.5) / PIXELS * 2 * half


def head(
    key: str, title: str, unit: str, values: NDArray[np.float64], where: Montage, limit: float
) -> Markup:
    """One head: the values of the montage's channels, coloured up to ``limit``."""
    surface = interpolated(values, where.places)
    reach = _reach(where.places)
    half = RADIUS * reach
    start, middle = SIDE / 2 - half, SIDE / 2
    dots = "".join(
        f"M{middle + RADIUS * x - 1.2:.1f} {middle - RADIUS * y:.1f}"
        "a1.2 1.2 0 1 0 2.4 0a1.2 1.2 0 1 0-2.4 0"
        for x, y in where.places.tolist()
    )
    ears = f"M{middle - 57.5} {middle - 12}q-8 12 0 24M{middle + 57.5} {middle - 12}q8 12 0 24"
    outline = f"M{middle - 9} {middle - RADIUS + 1}L{middle} {middle - RADIUS - 10}l9 11{ears}"
    clip = element("clipPath", element("circle", cx=middle, cy=middle, r=half), id=f"{key}-clip")
    map_ = element(
        "g",
        element("image", href=_pixels(surface, limit), x=start, y=start, width=2 * half,
                height=2 * half, preserveAspectRatio="none"),
        joined(_contours(surface, limit, half)),
        style=f"clip-path:url(#{key}-clip)",
    )  # fmt: skip
    low, high = (number(float(one), 2) for one in (values.min(), values.max()))
    return drawing(
        key, title, f"A head from above, the nose up: from {low} to {high} {unit}.",
        element("defs", clip), map_,
        element("circle", cx=middle, cy=middle, r=RADIUS, class_="head-line"),
        element("path", d=outline, class_="head-line"),
        element("path", d=dots, class_="electrode"),
        element("text", title, x=middle, y=SIDE + 14, class_="row mid"),
        width=SIDE, height=SIDE + 20,
    )  # fmt: skip


def scale(key: str, unit: str, limit: float) -> Markup:
    """What the colours of the heads mean."""
    stops = [
        element("stop", offset=offset, style=f"stop-color:rgb{colour};stop-opacity:{opacity}")
        for offset, colour, opacity in (
            ("0", NEGATIVE, 1), ("0.5", NEGATIVE, 0), ("0.5", POSITIVE, 0), ("1", POSITIVE, 1)
        )
    ]  # fmt: skip
    gradient = element("linearGradient", stops, id=f"{key}-gradient")
    labels = [
        element("text", text, x=x, y="36", class_="tick mid")
        for text, x in (
            (number(-limit, 2), "30"), ("0", "130"), (f"{number(limit, 2)} {unit}", "230")
        )
    ]  # fmt: skip
    bar = element("rect", x="30", y="4", width="200", height="14", class_="scale",
                  style=f"fill:url(#{key}-gradient)")  # fmt: skip
    return drawing(
        key, "Scale of the maps", f"From {number(-limit, 2)} to {number(limit, 2)} {unit}.",
        element("defs", gradient), bar, labels, width=270, height=44, class_="key",
    )  # fmt: skip
