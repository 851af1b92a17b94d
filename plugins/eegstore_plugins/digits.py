"""Real handwritten digits that need no download, as stimuli."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import Stimuli, digest_bytes, hookimpl
from eegstore_plugins.captions import DEFAULT, OPTION, captions, check_template

SIDE: Final = 8
WHITE: Final = 16


@dataclass(frozen=True)
class Digits:
    """Scikit-learn's handwritten digits: 1,797 images of 8 x 8 pixels, inside its wheel.

    They are the test set of Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits"
    (UCI, 1998). An image is uint8 (y, x, 3): its 17 grey levels stretched to 0 to 255, its pixels
    enlarged to squares. ``content_id`` is the digest of these pixels.
    """

    name: ClassVar[str] = "digits"
    version: ClassVar[str] = "1"

    per_label: int = field(
        default=1,
        metadata={"description": "How many images of each digit, the first ones; 0: all.", "ge": 0},
    )
    size: int = field(
        default=64,
        metadata={
            "description": "Height and width of the images.",
            "ge": SIDE,
            "le": 1024,
            "multiple_of": SIDE,
            "json_schema_extra": {"unit": "pixel"},
        },
    )
    caption: str = field(default=DEFAULT, metadata=OPTION)

    def __post_init__(self) -> None:
        check_template(self.caption)
        if self.size % SIDE:
            raise ValueError(f"size is {self.size}, expected a multiple of {SIDE}")

    @cached_property
    def _digits(self) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.uint8]]:
        """The chosen rows of the set, their labels, and their images, uint8 (stimulus, 8, 8)."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        rows = np.arange(len(digits.target))
        if self.per_label:
            of_label = [rows[digits.target == label][: self.per_label] for label in range(10)]
            rows = np.sort(np.concatenate(of_label))
        grey = np.rint(digits.images[rows] * (255 / WHITE)).astype(np.uint8)
        return rows, digits.target[rows].astype(np.int64), grey

    def scan(self) -> Stimuli:
        rows, labels, _ = self._digits
        concepts = [str(label) for label in labels]
        return Stimuli(
            image_path=np.array([f"digits#{row}" for row in rows]),
            label=labels,
            concept=np.array(concepts),
            caption=np.array(captions(self.caption, concepts, labels)),
            content_id=np.array(
                [digest_bytes(image.tobytes()) for image in self.read(0, len(rows))]
            ),
        )

    def read(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        square = np.ones((self.size // SIDE, self.size // SIDE, 3), dtype=np.uint8)
        return [np.kron(image[..., None], square) for image in self._digits[2][start:stop]]


@hookimpl
def eegstore_stimuli() -> list[type[Digits]]:
    """The provider of this module."""
    return [Digits]
