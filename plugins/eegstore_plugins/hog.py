"""Histograms of oriented gradients of stimuli: an image feature without a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, hookimpl


@dataclass(frozen=True)
class Hog:
    """Histogram of oriented gradients of the image in grey, scaled to a square.

    Follows Dalal and Triggs, "Histograms of oriented gradients for human detection" (CVPR 2005),
    with L2-Hys normalisation of the blocks. The grey is ITU-R BT.601 luma; the image is scaled by
    an antialiased bilinear filter, and its aspect ratio is not kept. The result is float32,
    (stimulus, feature), without unit; the column's attribute ``layout`` says what the features
    would be as an array of five axes.
    """

    name: ClassVar[str] = "hog"
    version: ClassVar[str] = "1"
    table: ClassVar[Literal["trials", "stimuli"]] = "stimuli"
    reads: ClassVar[tuple[str, ...]] = ("image",)

    size: int = field(
        default=64,
        metadata={
            "description": "Height and width that images are scaled to.",
            "ge": 8,
            "le": 1024,
            "json_schema_extra": {"unit": "pixel"},
        },
    )
    orientations: int = field(
        default=9,
        metadata={"description": "Bins of a histogram, over 180 degrees.", "ge": 1, "le": 360},
    )
    pixels_per_cell: int = field(
        default=8,
        metadata={
            "description": "Height and width of a cell, which has one histogram.",
            "ge": 1,
            "json_schema_extra": {"unit": "pixel"},
        },
    )
    cells_per_block: int = field(
        default=2,
        metadata={
            "description": "Height and width in cells of a block, normalised as one.",
            "ge": 1,
        },
    )

    def __post_init__(self) -> None:
        if self.size < self.pixels_per_cell * self.cells_per_block:
            raise ValueError(
                f"size is {self.size}, expected a block or more: pixels_per_cell x cells_per_block "
                f"= {self.pixels_per_cell * self.cells_per_block}"
            )

    @property
    def _layout(self) -> dict[str, int]:
        n_blocks = self.size // self.pixels_per_cell - self.cells_per_block + 1
        return {
            "block_y": n_blocks,
            "block_x": n_blocks,
            "cell_y": self.cells_per_block,
            "cell_x": self.cells_per_block,
            "orientation": self.orientations,
        }

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        return ColumnSpec(
            dims=("feature",),
            shape=(math.prod(self._layout.values()),),
            dtype="float32",
            units="1",
            attrs={"layout": self._layout},
        )

    def __call__(self, block: Block) -> NDArray[np.float32]:
        return np.stack([self._histograms(image) for image in block["image"]])

    def _histograms(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        from PIL import Image
        from skimage.feature import hog

        grey = Image.fromarray(image).convert("L")
        square = grey.resize((self.size, self.size), Image.Resampling.BILINEAR)
        histograms: NDArray[np.float64] = hog(
            np.asarray(square),
            orientations=self.orientations,
            pixels_per_cell=(self.pixels_per_cell, self.pixels_per_cell),
            cells_per_block=(self.cells_per_block, self.cells_per_block),
            block_norm="L2-Hys",
        )
        return histograms.astype(np.float32)


@hookimpl
def eegstore_extractors() -> list[type[Hog]]:
    """The extractor of this module."""
    return [Hog]
