"""The pixels that a CLIP or SigLIP model sees: Pillow's resize, a centre crop, a table of values.

They are bit by bit those of transformers' processors with PIL backend, which go through float64
after the crop where 256 levels a channel can only become 256 values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int]

LEVELS: Final = 256
CHANNELS: Final = 3
PLAIN: Final = ("CLIPImageProcessorPil", "SiglipImageProcessorPil")
EDGE: Final = {"shortest_edge"}
BOX: Final = {"height", "width"}


@dataclass(frozen=True, eq=False)
class Transform:
    """What becomes of an image, uint8 (y, x, 3), before the model.

    Parameters
    ----------
    edge
        Length in pixels that the shorter side is resized to; 0 where ``box`` says the size.
    box
        Height and width that an image is resized to, whatever its proportions.
    crop
        Height and width of the centre crop, zeros where the image ends before it.
    resample
        Number of Pillow's filter.
    table
        float32, (channel, level): the model's value for each level of a channel.
    """

    edge: int
    box: Shape
    crop: Shape
    resample: int
    table: NDArray[np.float32]

    def size(self, height: int, width: int) -> Shape:
        """Height and width in pixels after the resize."""
        if not self.edge:
            return self.box
        longer = int(self.edge * max(height, width) / min(height, width))
        return (longer, self.edge) if width <= height else (self.edge, longer)

    def pixels(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8, (y, x, 3): the image resized and cropped."""
        from PIL import Image

        height, width = self.size(*image.shape[:2])
        resized = Image.fromarray(image).resize((width, height), resample=self.resample)
        return self.cropped(np.asarray(resized))

    def cropped(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8, (y, x, 3): the centre, where odd differences leave more below and to the right."""
        made = np.zeros((*self.crop, CHANNELS), dtype=np.uint8)
        parts = [overlap(*lengths) for lengths in zip(image.shape[:2], self.crop, strict=True)]
        (from_y, to_y), (from_x, to_x) = parts
        made[to_y, to_x] = image[from_y, from_x]
        return made

    def values(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """float32, (image, channel, y, x): what the model reads, each image in a thread."""
        made = np.empty((len(images), CHANNELS, *self.crop), dtype=np.float32)

        def fill(row: int) -> None:
            pixels = self.pixels(images[row])
            for channel in range(CHANNELS):
                # With a mode that cannot raise, take writes into out without a copy.
                np.take(
                    self.table[channel],
                    pixels[..., channel],
                    out=made[row, channel],
                    mode="clip",
                )

        with ThreadPoolExecutor(n_threads()) as pool:
            list(pool.map(fill, range(len(images))))
        return made


def n_threads() -> int:
    """Threads that images are prepared in; Pillow and numpy hold no lock while they compute."""
    return os.cpu_count() or 1


def overlap(length: int, wanted: int) -> tuple[slice, slice]:
    """Where a centre crop of an axis reads, and where it writes."""
    offset, size = (length - wanted) // 2, min(length, wanted)
    read, written = max(offset, 0), max(-offset, 0)
    return slice(read, read + size), slice(written, written + size)


def transform_of(processor: Any) -> Transform | None:
    """The transform of a processor; None where only the processor itself can do it.

    Only transformers' own processors of CLIP and SigLIP are taken, and only those that resize
    every image to one shape without padding.
    """
    ours = type(processor).__module__.startswith("transformers.models.")
    if not (ours and type(processor).__name__ in PLAIN and processor.do_resize):
        return None
    size, resample = _lengths(processor.size), processor.resample
    crop = _lengths(processor.crop_size) if processor.do_center_crop else size
    if (
        set(crop) != BOX
        or set(size) not in (EDGE, BOX)
        or processor.do_pad
        or not isinstance(resample, int)
    ):
        return None
    return Transform(
        edge=size.get("shortest_edge", 0),
        box=_shape(size),
        crop=_shape(crop),
        resample=int(resample),
        table=_table(processor),
    )


def _lengths(size: Any) -> Mapping[str, int]:
    """The lengths that a size names; empty where one of them is none."""
    lengths = dict(size or {})
    return lengths if all(type(one) is int and one > 0 for one in lengths.values()) else {}


def _shape(size: Mapping[str, int]) -> Shape:
    return size.get("height", 0), size.get("width", 0)


def _table(processor: Any) -> NDArray[np.float32]:
    """float32, (channel, level): what the processor itself makes of each level."""
    levels = np.arange(LEVELS, dtype=np.uint8).reshape(-1, 1, 1).repeat(CHANNELS, axis=2)
    made = processor(
        images=[levels],
        do_resize=False,
        do_center_crop=False,
        input_data_format="channels_last",
        return_tensors="np",
    )
    return np.ascontiguousarray(made["pixel_values"][0, :, :, 0], dtype=np.float32)
