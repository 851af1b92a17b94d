"""JPEGs decoded without Pillow: its pixels to the bit, and its word on all that is odd."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image

from eegstore import InputError
from eegstore_plugins import image_files
from eegstore_plugins.image_folder import ImageFolder

MODES = {"RGB": 3, "L": 1, "CMYK": 4}
WHITE = "#ffffff"


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    image_files._decoder.cache_clear()
    yield
    image_files._decoder.cache_clear()


def jpeg(mode="RGB", size=(21, 34), seed=0, orientation=1, **options) -> bytes:
    shape = (*size, MODES[mode])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    content = io.BytesIO()
    image = Image.frombytes(mode, size[::-1], pixels.tobytes())
    image.save(content, "JPEG", exif=exif, **options)
    return content.getvalue()


def decoded(content: bytes) -> np.ndarray | str:
    """The pixels, or what is said of them."""
    try:
        return image_files.rgb(image_files.opened(Path("a.jpg"), content), WHITE)
    except InputError as error:
        return str(error)


def by_pillow(content: bytes) -> np.ndarray | str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_files, "_decoder", lambda: None)
        return decoded(content)


@pytest.fixture
def n_decoded(monkeypatch) -> list[int]:
    """A number for each image that simplejpeg has decoded."""
    image_files._decoder()  # by samples, which are not counted
    calls, real = list[int](), simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda *given, **named: calls.append(1) or real(*given, **named)
    )
    return calls


@settings(deadline=None, max_examples=200)
@given(
    mode=st.sampled_from(sorted(MODES)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    seed=st.integers(0, 99),
    orientation=st.sampled_from([1, 1, 1, 3, 6]),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
)
def test_the_pixels_are_pillows(mode, size, seed, orientation, **options):
    content = jpeg(mode, size, seed, orientation, **options)
    made = decoded(content)
    assert made.dtype == np.uint8
    assert made.flags.writeable
    assert_array_equal(made, by_pillow(content))


@settings(deadline=None, max_examples=300)
@given(
    progressive=st.booleans(),
    at=st.floats(0, 1, exclude_max=True),
    patch=st.binary(max_size=8),
    cut=st.floats(0.2, 1),
)
def test_of_damage_pillow_has_its_say(progressive, at, patch, cut):
    content = bytearray(jpeg(progressive=progressive))
    start = int(at * len(content))
    content[start : start + len(patch)] = patch
    content = bytes(content[: int(cut * len(content))])
    made, expected = decoded(content), by_pillow(content)
    if isinstance(made, str):
        assert made == expected
    else:
        assert_array_equal(made, expected)


@pytest.mark.parametrize(
    ("n_expected", "options"),
    [(1, {}), (1, {"mode": "L"}), (1, {"progressive": True}), (0, {"mode": "CMYK"}),
     (0, {"orientation": 6})],
)  # fmt: skip
def test_plain_jpegs_are_decoded_without_pillow(n_decoded, n_expected, options):
    content = jpeg(**options)
    assert_array_equal(decoded(content), by_pillow(content))
    assert len(n_decoded) == n_expected


def test_a_decoder_with_other_pixels_is_not_used(monkeypatch):
    expected, real = by_pillow(jpeg()), simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda *given, **named: real(*given, **named) ^ 1
    )
    assert_array_equal(decoded(jpeg()), expected)


def test_pillow_decodes_where_nothing_else_is_installed(monkeypatch):
    expected = by_pillow(jpeg())
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert image_files._decoder() is None
    assert_array_equal(decoded(jpeg()), expected)


@pytest.mark.parametrize("first", [3, 7])
def test_of_several_images_that_cannot_be_read_the_first_is_named(tmp_path, first):
    for number in range(12):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(seed=number))
    folder = ImageFolder(tmp_path)
    folder.scan()
    (tmp_path / "5.jpg").unlink()  # found when it is opened
    (tmp_path / f"{first}.jpg").write_bytes(jpeg(seed=99))  # found when it is decoded
    (tmp_path / "9.jpg").write_bytes(b"no image")
    expected = {3: r"3\.jpg': changed since it was scanned", 7: r"5\.jpg': not a file"}
    with pytest.raises(InputError, match=expected[first]):
        folder.read(0, 12)
    with pytest.raises(InputError, match=r"9\.jpg': changed since it was scanned"):
        folder.read(8, 12)
