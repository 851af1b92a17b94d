"""MNIST's IDX files as stimuli."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from eegstore import InputError
from eegstore_plugins.idx import Idx

PIXELS = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)
LABELS = [7, 2, 1, 0, 255]


def idx_bytes(values, shape=None, kind=0x08) -> bytes:
    values = np.asarray(values, dtype=np.uint8)
    shape = values.shape if shape is None else shape
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)
    return header + values.tobytes()


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    images, labels = tmp_path / "images-idx3-ubyte", tmp_path / "labels-idx1-ubyte"
    images.write_bytes(idx_bytes(PIXELS))
    labels.write_bytes(idx_bytes(LABELS))
    return images, labels


def test_idx_reads_labels_paths_and_captions(files):
    stimuli = Idx(*files, caption="This picture is digit {concept}").scan()
    assert stimuli.label.tolist() == LABELS
    assert stimuli.concept.tolist() == ["7", "2", "1", "0", "255"]
    assert stimuli.image_path.tolist()[4] == "images-idx3-ubyte#4"
    assert stimuli.caption.tolist()[0] == "This picture is digit 7"
    assert stimuli.content_id[1] == hashlib.sha256(PIXELS[1].tobytes()).hexdigest()


def test_idx_repeats_the_grey_as_rgb_for_any_range_without_a_scan(files):
    images = Idx(*files).read(1, 4)
    assert len(images) == 3
    for image, grey in zip(images, PIXELS[1:4], strict=True):
        assert image.dtype == np.uint8
        assert image.shape == (3, 4, 3)
        for colour in range(3):
            np.testing.assert_array_equal(image[..., colour], grey)


def test_idx_knows_gzip_by_content_not_by_suffix(files):
    images, labels = files
    plain = Idx(images, labels)
    packed = images.with_name("packed"), labels.with_name("also-packed")
    for path, source in zip(packed, files, strict=True):
        path.write_bytes(gzip.compress(source.read_bytes()))
    zipped = Idx(*packed)
    assert zipped.scan().content_id.tolist() == plain.scan().content_id.tolist()
    np.testing.assert_array_equal(zipped.read(0, 5), plain.read(0, 5))


def test_idx_without_labels_has_neither_label_nor_concept_nor_caption(files):
    stimuli = Idx(files[0]).scan()
    assert stimuli.label.tolist() == [-1] * 5
    assert set(stimuli.concept) == set(stimuli.caption) == {""}


def test_idx_fingerprint_follows_the_content_of_both_files(files):
    images, labels = files
    before = Idx(images, labels).fingerprint()
    assert Idx(images).fingerprint() != before
    moved = images.rename(images.with_name("moved"))
    assert Idx(moved, labels).fingerprint() == before
    labels.write_bytes(idx_bytes([7, 2, 1, 0, 254]))
    assert Idx(moved, labels).fingerprint() != before


def test_idx_names_both_files_where_the_counts_disagree(files):
    images, labels = files
    labels.write_bytes(idx_bytes(LABELS[:3]))
    message = r"labels-idx1-ubyte': 3 labels for the 5 images of '.*images-idx3-ubyte'"
    with pytest.raises(InputError, match=message):
        Idx(images, labels).scan()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing, expected 00 00 08 03"),
        (b"text", "begins with 74 65 78 74, expected 00 00 08 03"),
        (idx_bytes(LABELS), "begins with 00 00 08 01, expected 00 00 08 03"),
        (idx_bytes(np.zeros((1, 3, 4, 4))), "begins with 00 00 08 04"),
        (idx_bytes(PIXELS, kind=0x0D), "begins with 00 00 0d 03"),
        (idx_bytes(PIXELS)[:10], "ends inside its header"),
        (idx_bytes(PIXELS)[:-1], r"has fewer than the 60 values .* \(shape \(5, 3, 4\)\)"),
        (idx_bytes(PIXELS) + b"\0", "has more than the 60 values"),
        (idx_bytes([], (0, 28, 28)), r"promises the shape \(0, 28, 28\)"),
        (gzip.compress(idx_bytes(PIXELS))[:-12], "cannot be read"),
        (gzip.compress(idx_bytes(PIXELS))[:-8] + b"\0" * 8, "cannot be read .*CRC"),
        (gzip.compress(idx_bytes(PIXELS)[:-1]), "has fewer than the 60 values"),
        (gzip.compress(b""), "begins with nothing"),
        (gzip.compress(idx_bytes(PIXELS)) + b"1234", "cannot be read .*Not a gzipped file"),
        (b"\x1f\x8b\xff\xff", "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_idx_names_a_damaged_file(tmp_path, content, message):
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"damaged': {message}"):
        Idx(path).scan()


def test_idx_names_a_missing_file_and_opens_no_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, what in {
        "pipe": "a pipe, a socket or a device",
        "missing": "no such file",
        ".": "a folder",
    }.items():
        with pytest.raises(InputError, match=f"'{tmp_path / name}': {what}, expected an IDX file"):
            Idx(tmp_path / name).scan()


def test_idx_decompresses_no_more_than_the_header_promises(tmp_path):
    bomb = tmp_path / "bomb"
    bomb.write_bytes(gzip.compress(idx_bytes(np.zeros(1 << 26), (1, 28, 28)), 1))
    tracemalloc.start()
    with pytest.raises(InputError, match="has more than the 784 values"):
        Idx(bomb).scan()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_reserves_no_memory_for_a_promise_that_cannot_be_kept(tmp_path, pack):
    path = tmp_path / "boast"
    path.write_bytes(pack(idx_bytes([1, 2, 3], (1 << 20, 32, 32))))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"has fewer than the 1073741824 values"):
        Idx(path).scan()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (4_000_000_000,) * 3,
            r"\(4000000000, 4000000000, 4000000000\), expected no axis of 0, and",
        ),
        (((1 << 20) + 1, 1, 1), r"\(1048577, 1, 1\), .* at most \(1048576, 1024, 1024\)"),
        ((1, 1, 1025), r"\(1, 1, 1025\), .* at most \(1048576, 1024, 1024\)"),
        ((1 << 20, 32, 33), r"1107296256 values .* at most 1073741824; split the set"),
    ],
)
def test_idx_refuses_what_is_larger_than_any_set_in_use_unread(tmp_path, shape, message):
    path = tmp_path / "large"
    path.write_bytes(idx_bytes([], shape))
    # A sparse file: what is promised is there.
    os.truncate(path, min(16 + math.prod(shape), 1 << 40))
    with pytest.raises(InputError, match=f"large': promises .*{message}"):
        Idx(path).scan()


@pytest.mark.shared_data
def test_idx_reads_the_real_mnist_test_set(shared_data):
    folder = shared_data / "mnist-t10k"
    images = folder / "t10k-images-idx3-ubyte.gz"
    provider = Idx(images, folder / "t10k-labels-idx1-ubyte.gz")
    stimuli = provider.scan()
    # The published number of each digit in MNIST's test set.
    expected = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(stimuli.label).tolist() == expected
    assert stimuli.label[:5].tolist() == [7, 2, 1, 0, 4]
    assert stimuli.image_path[123] == "t10k-images-idx3-ubyte.gz#123"
    raw = gzip.decompress(images.read_bytes())[16 + 123 * 784 : 16 + 124 * 784]
    (image,) = provider.read(123, 124)
    assert image[..., 1].tobytes() == raw
    assert stimuli.content_id[123] == hashlib.sha256(raw).hexdigest()


@pytest.mark.shared_data
def test_idx_refuses_the_training_labels_with_the_test_images(shared_data):
    folder = shared_data / "mnist-t10k"
    provider = Idx(folder / "t10k-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz")
    with pytest.raises(InputError, match=r"train-labels.*60000 labels for the 10000 images"):
        provider.scan()
