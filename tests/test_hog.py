"""Histograms of oriented gradients."""

from __future__ import annotations

import numpy as np
import pytest

from eegstore import Block, RecipeError
from eegstore.registry import create
from eegstore_plugins.digits import Digits
from eegstore_plugins.hog import Hog


def histograms(*images: np.ndarray, **options) -> np.ndarray:
    """float32, (row, block_y, block_x, cell_y, cell_x, orientation)."""
    extractor = Hog(**options)
    spec = extractor.describe({})
    values = extractor(Block({"image": list(images)}, 0, len(images)))
    assert values.dtype == np.dtype(spec.dtype) == np.float32
    assert values.shape == (len(images), *spec.shape)
    return values.reshape(len(images), *spec.attrs["layout"].values())


def stripes(axis: int, size: int = 64) -> np.ndarray:
    wave = np.uint8(128 + 100 * np.sin(np.arange(size) / 3))
    grey = np.broadcast_to(wave[:, None] if axis == 0 else wave, (size, size))
    return np.repeat(grey[..., None], 3, axis=-1)


def test_hog_has_the_size_of_dalal_and_triggs_layout():
    assert Hog().describe({}).shape == (7 * 7 * 2 * 2 * 9,)
    person = Hog(size=128, cells_per_block=3, pixels_per_cell=6, orientations=5)
    assert person.describe({}).shape == (19 * 19 * 3 * 3 * 5,)


@pytest.mark.parametrize(("axis", "expected"), [(1, 0), (0, 4)])
def test_hog_finds_the_direction_of_the_gradient(axis, expected):
    # Of nine bins over 180 degrees the first holds 0 and the fifth 90.
    energy = histograms(stripes(axis)).sum(axis=(0, 1, 2, 3, 4))
    assert energy.argmax() == expected
    assert energy[expected] == pytest.approx(energy.sum())


def test_hog_blocks_have_unit_norm_and_flat_images_none():
    textured, flat = histograms(stripes(0), np.full((64, 64, 3), 77, dtype=np.uint8))
    norms = np.sqrt((textured**2).sum(axis=(2, 3, 4)))
    np.testing.assert_allclose(norms, 1, atol=1e-4)
    assert not flat.any()


def test_hog_places_blocks_where_the_image_has_them():
    image = np.full((64, 64, 3), 128, dtype=np.uint8)
    image[:20, 44:] = stripes(1)[:20, 44:]
    (values,) = histograms(image)
    by_block = values.sum(axis=(2, 3, 4))
    assert by_block[0, 6] > 0
    assert not by_block[3:].any()
    assert not by_block[:, :4].any()


def test_hog_of_a_row_depends_on_that_row_alone():
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in ((30, 50), (64, 64), (1, 1))
    ]
    together = histograms(*images)
    for image, expected in zip(images, together, strict=True):
        np.testing.assert_array_equal(histograms(image)[0], expected)
    assert np.isfinite(together).all()


def test_hog_is_the_same_for_an_image_and_its_enlargement():
    small, large = stripes(0, 64), np.kron(stripes(0, 64), np.ones((3, 3, 1), dtype=np.uint8))
    near, far = histograms(small, large)
    assert np.abs(near - far).max() < 0.05


def test_hog_averages_detail_finer_than_its_pixels():
    coarse = np.kron(stripes(0), np.ones((8, 8, 1), dtype=np.uint8)).astype(int)
    noise = np.random.default_rng(0).integers(-25, 26, (512, 512, 1))
    energy = histograms((coarse + noise).astype(np.uint8)).sum(axis=(0, 1, 2, 3, 4))
    assert energy[4] > 0.8 * energy.sum()


def test_hog_tells_real_digits_apart():
    digits = Digits(per_label=15)
    labels = digits.scan().label
    values = Hog()(Block({"image": digits.read(0, len(labels))}, 0, len(labels)))
    distance = np.linalg.norm(values[:, None] - values[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (labels[distance.argmin(axis=1)] == labels).mean() > 0.9


def test_hog_refuses_an_image_smaller_than_a_block(tmp_path):
    with pytest.raises(RecipeError, match=r"size is 16, expected a block or more: .* = 24"):
        create("extractor", "hog", {"size": 16, "cells_per_block": 3}, tmp_path)
