"""Fixtures for the tests of plugins; pytest finds them wherever eegstore is installed."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a small store, built once a session: 20 trials, 10 images, a feature of each."""
    from eegstore.testing.tiny import build_tiny_store

    return build_tiny_store(tmp_path_factory.mktemp("eegstore") / "tiny.zarr")
