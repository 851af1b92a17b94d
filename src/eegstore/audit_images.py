"""The check that no image of a split is another's in disguise: scaled, or encoded again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore.audit_rows import Rows
from eegstore.findings import Finding, NotCheckedError, Severity, few
from eegstore.images import Images
from eegstore.neighbours import partners
from eegstore.rounds import first_of_content
from eegstore.wording import plural

SIZE: Final = 32
COEFFICIENTS: Final = 8
LOOK_SIZE: Final = 48
HASH_ALIKE: Final = 0.98
ALIKE: Final = 0.99  # correlation of the brightness
EDGES_ALIKE: Final = 0.93  # and of its differences, which tell apart what is laid out alike
N_TREES: Final = 24
ADVICE: Final = (
    "Remove one of each pair, or give both the same concept and split with "
    '[split] plugin = "concept".'
)


class Shown(NamedTuple):
    """Images that differ in content, and where each is shown; int64, (image,).

    ``parts`` is a number of the set of parts: those of one number are in the same.
    """

    stimulus: NDArray[np.int64]
    parts: NDArray[np.int64]


def near_duplicate_images(rows: Rows) -> Iterator[Finding]:
    """Images of different content that look the same, in different splits."""
    rows.need_parts()
    shown = _shown(rows)
    images = Images(rows.store)
    hashes = _hashes(rows, images, shown.stimulus)
    found = partners(hashes, shown.parts, HASH_ALIKE, n_trees=N_TREES).elsewhere
    place = np.flatnonzero(found >= 0)
    pairs = np.unique(np.sort(np.stack([place, found[place]], axis=1), axis=1), axis=0)
    pairs = shown.stimulus[pairs]
    same = [pair for pair in pairs.tolist() if _look_the_same(images, pair)]
    path, meant = rows.store.stimuli["image_path"][:], rows.shares_stimuli
    if same:
        n_images = len(np.unique(same))
        what = f"{plural(n_images, 'image')} that look like one in another split"
        what += f"; the split holds out {meant}, not images" if meant else ""
        examples = few(f"{path[one]} and {path[other]}" for one, other in same)
        severity: Severity = "note" if meant else "error"
        yield Finding("near-duplicate-images", severity, n_images, what, examples, ADVICE)
    if lost := images.lost:
        yield Finding(
            "near-duplicate-images", "note", len(lost),
            f"{plural(len(lost), 'image')} that can no longer be read, and were not compared",
            few(f"{path[stimulus]}: {why}" for stimulus, why in lost.items()),
            "Put the images back where the store was built from, and audit again.",
        )  # fmt: skip


def _shown(rows: Rows) -> Shown:
    """The images that trials show, one of each content."""
    row, stimulus = rows.shown
    content = first_of_content(rows.store)[stimulus]
    _, first, code = np.unique(content, return_index=True, return_inverse=True)
    is_in = np.zeros((len(first), len(rows.part_names)), dtype=np.bool_)
    is_in[code, rows.part[row]] = True
    return Shown(stimulus[first], np.unique(is_in, axis=0, return_inverse=True)[1].reshape(-1))


def _hashes(rows: Rows, images: Images, stimuli: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32, (image, coefficient): perceptual hashes; zeros where an image cannot be read.

    Raises
    ------
    NotCheckedError
        Where none can.
    """
    hashes = np.zeros((len(stimuli), COEFFICIENTS**2 - 1), dtype=np.float32)
    for number, stimulus in enumerate(stimuli.tolist()):
        image = images.read(stimulus)
        if image is not None:
            hashes[number] = perceptual_hash(image)
        if images.is_gone:
            break
        rows.tell("read images", number + 1, len(stimuli))
    if images.none_read:
        raise NotCheckedError(f"the images cannot be read: {images.problem}")
    return hashes


def brightness(image: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """float32, (y, x): the image in grey, without its mean, at a size of its own."""
    from PIL import Image

    grey = Image.fromarray(image).convert("L").resize((size, size), Image.Resampling.BILINEAR)
    values = np.asarray(grey, dtype=np.float32)
    centred: NDArray[np.float32] = values - values.mean()
    return centred


def perceptual_hash(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32, (coefficient,): the lowest frequencies of the brightness, of length 1.

    This is pHash (Zauner 2010) before its coefficients are rounded to bits: the ones near 0, which
    noise turns, count for little. An image of one colour has zeros.
    """
    from scipy.fft import dctn

    lowest = dctn(brightness(image, SIZE), norm="ortho")[:COEFFICIENTS, :COEFFICIENTS]
    values = lowest.reshape(-1)[1:]  # the first is the mean
    length = np.linalg.norm(values)
    hash_: NDArray[np.float32] = (values / length if length > 1 else 0 * values).astype(np.float32)
    return hash_


def _look_the_same(images: Images, pair: Sequence[int]) -> bool:
    """Whether two images are alike in brightness and in its differences."""
    read = [image for image in map(images.read, pair) if image is not None]
    if len(read) < 2:
        return False
    one, other = (brightness(image, LOOK_SIZE) for image in read)
    edges = (np.concatenate([np.diff(image, axis=0).ravel(), np.diff(image, axis=1).ravel()])
             for image in (one, other))  # fmt: skip
    return _cosine(one.ravel(), other.ravel()) > ALIKE and _cosine(*edges) > EDGES_ALIKE


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length else 0.0
