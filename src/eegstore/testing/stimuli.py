"""The checks of a provider of stimuli."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from eegstore import Stimuli
from eegstore.testing import reader
from eegstore.testing.check import Check, Violation
from eegstore.testing.common import described_array
from eegstore.testing.stage import Stage
from eegstore.testing.subject import Subject


def rehearse(stage: Stage, plugin: Any) -> dict[str, Any]:
    """Scan and read."""
    return reader.rehearse(stage, plugin, Stimuli)


def images_as_promised(subject: Subject) -> None:
    """A range is a list of images, each uint8, (y, x, 3)."""
    plugin, stimuli = reader.scanned(subject)
    stop = min(stimuli.n_stimuli, reader.MOST_ROWS)
    images = plugin.read(0, stop)
    if not isinstance(images, list) or len(images) != stop:
        shown = f"a list of {len(images)}" if isinstance(images, list) else described_array(images)
        raise Violation(f"read(0, {stop}) gave {shown}, expected a list of {stop} images")
    for row, image in enumerate(images):
        sound = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size > 0
        if not sound or image.ndim != 3 or image.shape[-1] != 3:
            raise Violation(
                f"read(0, {stop}) gave {described_array(image)} as image {row}, "
                "expected uint8 (y, x, 3)"
            )


def content_id_follows(subject: Subject) -> None:
    """Images of one ``content_id`` are equal, and each has one."""
    plugin, stimuli = reader.scanned(subject)
    stop = min(stimuli.n_stimuli, reader.MOST_ROWS)
    first: dict[str, tuple[int, Any]] = {}
    ids = stimuli.content_id[:stop].tolist()
    for row, (id_, image) in enumerate(zip(ids, plugin.read(0, stop), strict=False)):
        if not id_:
            raise Violation(f"stimulus {row} has an empty content_id, expected a digest")
        before, other = first.setdefault(id_, (row, np.array(image)))
        if not np.array_equal(other, image):
            raise Violation(
                f"stimuli {before} and {row} have one content_id, {id_:.12}, and different "
                "pixels; expected one id for one content: they share all that is computed"
            )


CHECKS: Final = (
    *reader.reader_checks("stimuli", "Stimuli"),
    Check("stimuli", "images-as-promised", "read() gives a list of images, each uint8 (y, x, 3).",
          images_as_promised),
    Check("stimuli", "content-id-follows", "Stimuli of one content_id have the same pixels.",
          content_id_follows),
)  # fmt: skip
