"""Scikit-learn's handwritten digits as stimuli."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from eegstore import RecipeError
from eegstore.registry import create
from eegstore_plugins.digits import Digits


def test_digits_gives_ten_images_one_of_each_digit():
    stimuli = Digits().scan()
    assert stimuli.label.tolist() == list(range(10))
    assert stimuli.concept.tolist() == [str(label) for label in range(10)]
    assert stimuli.image_path.tolist() == [f"digits#{row}" for row in range(10)]
    assert stimuli.caption[3] == "a photo of a 3"


def test_digits_stretches_the_grey_levels_and_enlarges_the_pixels():
    (image,) = Digits(size=16).read(0, 1)
    assert image.shape == (16, 16, 3)
    assert image.dtype == np.uint8
    # The first row of the set's first image is 0 0 5 13 9 1 0 0, of 16.
    grey = [0, 0, 80, 207, 143, 16, 0, 0]
    for y in (0, 1):
        for colour in range(3):
            assert image[y, :, colour].tolist() == np.repeat(grey, 2).tolist()


def test_digits_has_all_1797_images_of_the_set():
    stimuli = Digits(per_label=0).scan()
    # The numbers of each digit that the set's description publishes.
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(stimuli.label).tolist() == counts
    assert stimuli.image_path[-1] == "digits#1796"


def test_digits_takes_the_first_images_of_each_digit():
    every, some = Digits(per_label=0), Digits(per_label=3)
    stimuli = some.scan()
    labels = every.scan().label
    expected = sorted(row for digit in range(10) for row in np.flatnonzero(labels == digit)[:3])
    assert stimuli.image_path.tolist() == [f"digits#{row}" for row in expected]
    assert stimuli.label.tolist() == labels[expected].tolist()
    for place in (0, 17, 29):
        row = expected[place]
        (image,), (same,) = some.read(place, place + 1), every.read(row, row + 1)
        np.testing.assert_array_equal(image, same)


def test_digits_content_id_is_the_digest_of_the_pixels():
    digits = Digits(per_label=0)
    ids = digits.scan().content_id
    (image,) = digits.read(1000, 1001)
    assert ids[1000] == hashlib.sha256(image.tobytes()).hexdigest()
    assert len(set(ids)) == 1797
    assert Digits().scan().content_id[0] != Digits(size=8).scan().content_id[0]


@pytest.mark.parametrize("options", [{"size": 20}, {"size": 0}, {"per_label": -1}, {"size": "64"}])
def test_digits_refuses_options_out_of_range(tmp_path, options):
    (option,) = options
    with pytest.raises(RecipeError, match=f"{option}: got {next(iter(options.values()))!r}"):
        create("stimuli", "digits", options, tmp_path)
