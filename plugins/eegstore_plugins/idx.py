"""MNIST's IDX files as stimuli."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, ClassVar, Final, cast

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Stimuli, digest_bytes, digest_files, hookimpl
from eegstore_plugins.captions import DEFAULT, OPTION, captions, check_template
from eegstore_plugins.files import what_is_there

MAGIC: Final = {1: b"\x00\x00\x08\x01", 3: b"\x00\x00\x08\x03"}
GZIP_MAGIC: Final = b"\x1f\x8b"
DEFLATE_MAX_RATIO: Final = 1032
# Row, y, x: beyond the largest set of this format (EMNIST, 697,932 images of 28 by 28).
MAX_LENGTHS: Final = (1 << 20, 1 << 10, 1 << 10)
MAX_BYTES: Final = 1 << 30
READ_BYTES: Final = 1 << 20


def _opener(path: Path) -> tuple[Callable[[], BinaryIO], int]:
    """How to open a file, plain or gzip by its first bytes, and the most it can hold."""
    if not path.is_file():
        raise InputError(f"{str(path)!r}: {what_is_there(path)}, expected an IDX file")
    size = path.stat().st_size
    with path.open("rb") as file:
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    if packed:
        return lambda: cast(BinaryIO, gzip.open(path, "rb")), size * DEFLATE_MAX_RATIO
    return lambda: path.open("rb"), size


def _lengths(file: BinaryIO, path: Path, n_axes: int) -> tuple[int, ...]:
    """The axes' lengths that the header promises."""
    magic = file.read(4)
    if magic != MAGIC[n_axes]:
        raise InputError(
            f"{str(path)!r}: begins with {magic.hex(' ') or 'nothing'}, expected "
            f"{MAGIC[n_axes].hex(' ')} (IDX, unsigned bytes, {n_axes} axes)"
        )
    header = file.read(4 * n_axes)
    if len(header) < 4 * n_axes:
        raise InputError(f"{str(path)!r}: ends inside its header; fetch it again")
    lengths = tuple(int(length) for length in np.frombuffer(header, dtype=">u4"))
    most = MAX_LENGTHS[:n_axes]
    if not all(0 < length <= limit for length, limit in zip(lengths, most, strict=True)):
        raise InputError(
            f"{str(path)!r}: promises the shape {lengths}, expected no axis of 0, "
            f"and at most {most}"
        )
    if math.prod(lengths) > MAX_BYTES:
        raise InputError(
            f"{str(path)!r}: promises {math.prod(lengths)} values (shape {lengths}), expected at "
            f"most {MAX_BYTES}; split the set"
        )
    return lengths


def _read(file: BinaryIO, n_bytes: int) -> bytearray:
    """What a file still has, up to that many bytes; no room is taken for more than there is."""
    content = bytearray()
    while part := file.read(min(READ_BYTES, n_bytes - len(content))):
        content += part
    return content


def read_idx(path: Path, n_axes: int) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, plain or gzip.

    Follows the specification of the IDX format (LeCun, Cortes and Burges, "The MNIST database").
    No more is decompressed than the header promises, and one byte.

    Raises
    ------
    InputError
        Where the file is missing, no such IDX file, longer or shorter than its header says, or
        larger than any set of images that is in use.
    """
    try:
        open_file, most = _opener(path)
        with open_file() as file:
            lengths = _lengths(file, path, n_axes)
            promised = math.prod(lengths)
            content = _read(file, promised + 1) if promised <= most else b""
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{str(path)!r}: cannot be read ({error}); fetch it again") from None
    if len(content) != promised:
        came = "more" if len(content) > promised else "fewer"
        raise InputError(
            f"{str(path)!r}: has {came} than the {promised} values that its header promises "
            f"(shape {lengths}); fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(lengths)


@dataclass(frozen=True)
class Idx:
    """Grey images of an IDX file, such as MNIST's, with the labels of another.

    An image is uint8 (y, x, 3), its grey repeated. The concept is the label's digits; without a
    file of labels every label is -1, and concept and caption are empty.
    """

    name: ClassVar[str] = "idx"
    version: ClassVar[str] = "1"

    images: Path = field(metadata={"description": "IDX file of the images, plain or gzip."})
    labels: Path | None = field(
        default=None, metadata={"description": "IDX file of the labels, plain or gzip."}
    )
    caption: str = field(default=DEFAULT, metadata=OPTION)

    def __post_init__(self) -> None:
        check_template(self.caption)

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        return read_idx(self.images, 3)

    def _labels(self) -> NDArray[np.int64]:
        n_images = len(self._pixels)
        if self.labels is None:
            return np.full(n_images, -1, dtype=np.int64)
        labels = read_idx(self.labels, 1)
        if len(labels) != n_images:
            raise InputError(
                f"{str(self.labels)!r}: {len(labels)} labels for the {n_images} images of "
                f"{str(self.images)!r}; name the two files of one set"
            )
        return labels.astype(np.int64)

    def scan(self) -> Stimuli:
        labels = self._labels()
        concepts = [str(label) if label >= 0 else "" for label in labels]
        return Stimuli(
            image_path=np.array([f"{self.images.name}#{row}" for row in range(len(labels))]),
            label=labels,
            concept=np.array(concepts),
            caption=np.array(captions(self.caption, concepts, labels)),
            content_id=np.array([digest_bytes(image.tobytes()) for image in self._pixels]),
        )

    def read(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        return [np.repeat(image[..., None], 3, axis=-1) for image in self._pixels[start:stop]]

    def fingerprint(self) -> str:
        """Digest of both files."""
        return digest_files([path for path in (self.images, self.labels) if path is not None])


@hookimpl
def eegstore_stimuli() -> list[type[Idx]]:
    """The provider of this module."""
    return [Idx]
