"""Sections on the signal: evoked responses, power spectra, maps of the scalp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore.errors import InputError
from eegstore.report import heads
from eegstore.report.charts import Frame, Line, line_chart, ranges
from eegstore.report.figures import DataTable, figure, legend
from eegstore.report.markup import Markup, data, joined
from eegstore.report.material import Material, Omitted, Rows
from eegstore.report.responses import Average, Spectra, evoked, spectra
from eegstore.report.scales import Axis, counted, covering, number

MAX_CONCEPTS: Final = 3
MIN_TRIALS: Final = 5  # of fewer an interval is wider than any response
MAX_CHANNELS: Final = 3
MAX_TABLE: Final = 60
PREFERRED: Final = ("OZ", "O1", "O2", "POZ", "PO7", "PO8", "P7", "P8", "PZ", "CZ", "C3", "FZ")
LATENCIES_S: Final = (0.1, 0.17, 0.25, 0.35, 0.5)
HALF_WINDOW_S: Final = 0.02
BANDS_HZ: Final = (
    ("δ", 1.0, 4.0), ("θ", 4.0, 8.0), ("α", 8.0, 13.0), ("β", 13.0, 30.0), ("γ", 30.0, 45.0)
)  # fmt: skip
BANDS_TOLD: Final = "δ 1 to 4, θ 4 to 8, α 8 to 13, β 13 to 30, γ 30 to 45 Hz"

Values = NDArray[np.float64]


class Groups(NamedTuple):
    """Trials of a few concepts: rows, which concept each has, and what is told of them."""

    rows: Rows
    group: NDArray[np.int64]
    names: list[str]
    told: str


def _groups(material: Material) -> Groups | Omitted:
    """A sample of the trials of the most frequent concepts; of all trials where all are rare."""
    if not len(material.valid):
        return Omitted("no trial is free of NaN and Inf.")
    many = [name for name, count in material.concepts if count >= MIN_TRIALS]
    names = many[:MAX_CONCEPTS]
    concept = material.concept[material.valid]
    if not names:
        sample = material.sample(material.valid)
        return Groups(sample.rows, np.zeros(len(sample.rows), np.int64), ["all trials"],
                      f"From {sample.told()}.")  # fmt: skip
    sample = material.sample(material.valid[np.isin(concept, np.array(names, dtype=object))])
    of_name = {name: place for place, name in enumerate(names)}
    group = np.array([of_name[one] for one in material.concept[sample.rows]], dtype=np.int64)
    which = "the concepts" if len(names) == len(material.concepts) else (
        f"the {counted(len(names), 'most frequent concept')} (of {MIN_TRIALS} trials or more)"
    )  # fmt: skip
    return Groups(sample.rows, group, names, f"From {sample.told()} of {which}.")


def _legend(groups: Groups) -> Markup:
    counts = np.bincount(groups.group, minlength=len(groups.names))
    return legend([joined(data(name, 40), f" (n = {count:,})")
                   for name, count in zip(groups.names, counts.tolist(), strict=True)])  # fmt: skip


def _shown_channels(material: Material) -> list[int]:
    """Numbers, among those of EEG, of up to three channels: over visual cortex where there are."""
    upper = [name.upper() for name in material.ch_names]
    chosen = [upper.index(name) for name in PREFERRED if name in upper]
    rest = [number for number in range(len(upper)) if number not in chosen]
    return [*chosen, *rest][:MAX_CHANNELS]


def responses(material: Material) -> Markup | Omitted:
    """Average evoked responses of a few concepts, with intervals."""
    groups = _groups(material)
    if isinstance(groups, Omitted):
        return groups
    average = evoked(material, groups.rows, groups.group, len(groups.names))
    with np.errstate(invalid="ignore"):
        power = np.sqrt(
            np.square(average.mean - average.mean.mean(axis=1, keepdims=True)).mean(axis=1)
        )
    panels = _response_panels(material, groups, average, power)
    caption = (
        f"{groups.told} Lines are averages, shaded bands their 95 % confidence intervals "
        "(Student's t; trials taken as independent). Each trial and channel has "
        f"{material.baseline} subtracted. Global field power is the standard deviation over "
        "channels of the average; it grows with noise, so compare it between concepts of a similar "
        "number of trials. Bands that part suggest a difference at that sample; over many samples "
        "some part by chance."
    )
    table = _response_table(material, groups, average, power)
    return figure("evoked", "Average response to each concept", panels, caption, table,
                  key_of=_legend(groups))  # fmt: skip


def _response_panels(
    material: Material, groups: Groups, average: Average, power: Values
) -> list[Markup]:
    channels, times = _shown_channels(material), material.times
    low, high = average.mean - average.margin, average.mean + average.margin
    time = Axis("time from stimulus onset (s)", float(times[0]), float(times[-1]))
    label = f"amplitude ({material.unit})"
    shared = covering(label, average.mean[:, channels], low[:, channels], high[:, channels])
    panels = []
    for channel in channels:
        lines = [
            Line(name, times, average.mean[one, channel], low[one, channel], high[one, channel],
                 one + 1)
            for one, name in enumerate(groups.names)
        ]  # fmt: skip
        name = material.ch_names[channel]
        panels.append(
            line_chart(f"evoked-{channel}", name, f"Average amplitude at {name} over time.",
                       Frame(time, shared), lines)
        )  # fmt: skip
    fields = [
        Line(name, times, power[one], series=one + 1) for one, name in enumerate(groups.names)
    ]
    if len(material.channels) > 1:
        frame = Frame(time, covering(f"amplitude ({material.unit})", power, [0.0]))
        panels.append(
            line_chart("evoked-gfp", "Global field power", "Global field power over time.", frame,
                       fields)
        )  # fmt: skip
    return panels


def _every(n_rows: int) -> tuple[NDArray[np.int64], str]:
    """Which rows a table has, and how that is told."""
    step = -(-n_rows // MAX_TABLE)
    return np.arange(0, n_rows, step), "" if step == 1 else f", every {step}th sample"


def _response_table(
    material: Material, groups: Groups, average: Average, power: Values
) -> DataTable:
    channels = _shown_channels(material)
    at, told = _every(len(material.times))
    head = ["Time (s)"]
    columns: list[list[str]] = [[number(material.times[one], 4) for one in at]]
    for channel in channels:
        for one, name in enumerate(groups.names):
            head.append(f"{material.ch_names[channel]}, {name}")
            mean, margin = average.mean[one, channel, at], average.margin[one, channel, at]
            columns.append(_intervals(mean, margin))
    for one, name in enumerate(groups.names):
        head.append(f"field power, {name}")
        columns.append([number(value, 4) for value in power[one, at]])
    caption = f"Average in {material.unit} ± half the 95 % interval{told}"
    return DataTable(caption, head, list(zip(*columns, strict=True)))


def _intervals(mean: Values, margin: Values) -> list[str]:
    return [f"{number(one, 4)} ± {number(half, 3)}"
            for one, half in zip(mean.tolist(), margin.tolist(), strict=True)]  # fmt: skip


def power(material: Material) -> Markup | Omitted:
    """Power spectra of a few concepts, with the usual bands."""
    groups = _groups(material)
    if isinstance(groups, Omitted):
        return groups
    found = spectra(material, groups.rows, groups.group, len(groups.names))
    if found is None:
        return Omitted("the trials are too short for a power spectrum.")
    unit = f"dB of {material.unit}²/Hz"
    low, high = found.power.mean - found.power.margin, found.power.mean + found.power.margin
    frequency = Axis("frequency (Hz)", 0.0, float(found.frequencies[-1]))
    frame = Frame(frequency, covering(f"power density ({unit})", found.power.mean, low, high))
    lines = [Line(name, found.frequencies, found.power.mean[one], low[one], high[one], one + 1)
             for one, name in enumerate(groups.names)]  # fmt: skip
    bands = [(name, start, min(end, frequency.high))
             for name, start, end in BANDS_HZ if start < frequency.high]  # fmt: skip
    drawn = line_chart("spectra-lines", "", "Power density over frequency.", frame, lines,
                       joined(ranges(frame, bands)))  # fmt: skip
    caption = (
        f"{groups.told} Welch's method on the first {counted(found.n_samples, 'sample')} of each "
        f"trial, averaged over {counted(len(material.channels), 'channel')}, in decibels, then "
        "over trials; shaded bands around the lines are 95 % confidence intervals. Frequency "
        f"bands: {BANDS_TOLD}. A peak at 8 to 13 Hz is the alpha rhythm, a narrow one at 50 or 60 "
        "Hz the mains."
    )
    return figure("spectra", "Power of each concept", [drawn], caption,
                  _power_table(groups, found, unit), key_of=_legend(groups))  # fmt: skip


def _power_table(groups: Groups, found: Spectra, unit: str) -> DataTable:
    columns = [[number(one, 4) for one in found.frequencies]]
    for one in range(len(groups.names)):
        columns.append(_intervals(found.power.mean[one], found.power.margin[one]))
    head = ["Frequency (Hz)", *(data(name, 40) for name in groups.names)]
    return DataTable(f"Power in {unit} ± half the 95 % interval", head,
                     list(zip(*columns, strict=True)))  # fmt: skip


def scalp(material: Material) -> Markup | Omitted:
    """Maps of the mean amplitude over the head at a few latencies."""
    if not len(material.valid):
        return Omitted("no trial is free of NaN and Inf.")
    try:
        where = heads.montage(material.ch_names)
    except InputError as error:
        return Omitted(f"{error}.")
    if where is None:
        return Omitted(
            f"fewer than {heads.MIN_CHANNELS} channel names are in a standard montage, or they are "
            "numbers that no net of numbered channels has all of, so their places on the head are "
            "not known."
        )
    sample = material.sample(material.valid)
    average = evoked(material, sample.rows, np.zeros(len(sample.rows), np.int64), 1)
    windows = _windows(material.times)
    maps = np.stack(
        [average.mean[0][where.channels][:, at].mean(axis=1) for _, at in windows], axis=1
    )
    if not np.isfinite(maps).all():
        return Omitted("the trials are too short for a map at any latency.")
    return _scalp_figure(material, where, [one for one, _ in windows], maps, sample.told())


def _windows(times: Values) -> list[tuple[float, NDArray[np.bool_]]]:
    """Latencies in s, and the samples around each."""
    inside = [one for one in LATENCIES_S if times[0] <= one <= times[-1]]
    latencies = inside or np.linspace(times[0], times[-1], 7)[1:-1].tolist()
    windows = [(one, np.abs(times - one) <= HALF_WINDOW_S + 1e-9) for one in latencies]
    nearest = [(one, at if at.any() else np.abs(times - one) == np.abs(times - one).min())
               for one, at in windows]  # fmt: skip
    return nearest


def _scalp_figure(
    material: Material, where: heads.Montage, latencies: Sequence[float], maps: Values, told: str
) -> Markup:
    limit = float(np.abs(maps).max()) or 1.0
    titles = [f"{1000 * one:.0f} ms" for one in latencies]
    drawn = [
        heads.head(f"scalp-{number}", title, material.unit, maps[:, number], where, limit)
        for number, title in enumerate(titles)
    ]
    names = [material.ch_names[channel] for channel in where.channels]
    rows = [[data(name), *(number(value, 4) for value in row)]
            for name, row in zip(names, maps.tolist(), strict=True)]  # fmt: skip
    table = DataTable(f"Mean amplitude in {material.unit}", ["Channel", *titles], rows)
    caption = (
        f"Mean amplitude within {1000 * HALF_WINDOW_S:.0f} ms of each latency, from {told}, less "
        f"{material.baseline}. Heads are seen from above, the nose up; dots are channels, matched "
        f"by name to MNE's montage {where.name} ({len(where.channels)} of "
        f"{len(material.channels)}). Orange with unbroken lines is positive, blue with dashed "
        "lines negative; the maps share one scale, and between channels they are interpolated."
    )
    return figure("scalp", "Amplitude over the head", [*drawn, heads.scale("scalp-scale",
                  material.unit, limit)], caption, table, class_="heads")  # fmt: skip
