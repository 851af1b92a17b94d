"""A tiny store of every kind of column, built once a process."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from eegstore import build

RECIPE: Final[dict[str, Any]] = {
    "name": "tiny",
    "source": {"plugin": "synthetic", "n_trials": 20, "n_channels": 4, "n_times": 64},
    "stimuli": {
        "plugin": "digits",
        "size": 16,
        "caption": "This picture is digit {concept}",
    },
    "pairing": {"plugin": "label"},
    "split": {"plugin": "random", "test_size": 0.25},
    "extract": [{"plugin": "temporal"}, {"plugin": "hog", "size": 16}],
}


def build_tiny_store(store: Path) -> Path:
    """Build a store of 20 trials and 10 images, with a feature of each; it takes a second."""
    build(RECIPE, store, executor="serial")
    return store


@functools.cache
def tiny_store() -> Path:
    """The store of this process; it is deleted when the process ends."""
    folder = tempfile.mkdtemp(prefix="eegstore-testing-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build_tiny_store(Path(folder) / "tiny.zarr")
