"""A folder of image files as stimuli."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eegstore import InputError, RecipeError
from eegstore.registry import create
from eegstore_plugins.image_files import MAX_PIXELS
from eegstore_plugins.image_folder import ImageFolder

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def write_image(path: Path, colour=RED, size=(4, 3), mode="RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds no pixel."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    check = struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + check + b"\0\0\0\0IDAT"


def only_image(folder: Path, **options) -> np.ndarray:
    (image,) = ImageFolder(folder, **options).read(0, 1)
    assert image.dtype == np.uint8
    return image


def test_flat_integer_names_are_the_labels_in_natural_order(tmp_path):
    for number in (10, 2, 1, 0):
        write_image(tmp_path / f"{number}.png", (number, 0, 0))
    folder = ImageFolder(tmp_path)
    stimuli = folder.scan()
    assert stimuli.image_path.tolist() == ["0.png", "1.png", "2.png", "10.png"]
    assert stimuli.label.tolist() == [0, 1, 2, 10]
    assert stimuli.concept.tolist() == ["0", "1", "2", "10"]
    assert stimuli.caption.tolist()[3] == "a photo of a 10"
    assert [image[0, 0, 0] for image in folder.read(0, 4)] == [0, 1, 2, 10]


def test_flat_names_that_are_no_integers_are_concepts(tmp_path):
    for name in ("dog10.png", "dog2.png", "cat.png", "cat.gif"):
        write_image(tmp_path / name)
    stimuli = ImageFolder(tmp_path).scan()
    assert stimuli.image_path.tolist() == ["cat.gif", "cat.png", "dog2.png", "dog10.png"]
    assert stimuli.concept.tolist() == ["cat", "cat", "dog2", "dog10"]
    assert stimuli.label.tolist() == [0, 0, 1, 2]


def test_one_stray_image_among_labelled_ones_relabels_nothing(tmp_path):
    for name in ("1.png", "2.png", "all.png"):
        write_image(tmp_path / name)
    with pytest.raises(InputError, match=r"'1'.*'all'.*say with 'pattern'"):
        ImageFolder(tmp_path).scan()


def test_leading_zeros_do_not_change_an_integer_label(tmp_path):
    names = [f"{'0' * zeros}{number}.png" for number in (7, 8) for zeros in (4, 3, 2, 1, 0)]
    for name in sorted(names, key=lambda name: name[::-1]):
        write_image(tmp_path / name)
    stimuli = ImageFolder(tmp_path).scan()
    assert stimuli.image_path.tolist() == names
    assert stimuli.label.tolist() == [7] * 5 + [8] * 5
    assert set(stimuli.concept) == {"7", "8"}


def test_numbered_concept_folders_lose_their_number_and_count_from_zero(tmp_path):
    for name in ("2_zebra/b10", "2_zebra/b9", "10_ant_bear/a", "1_cow/c"):
        write_image(tmp_path / f"{name}.jpg")
    stimuli = ImageFolder(tmp_path, caption="{label}: {concept}").scan()
    assert stimuli.image_path.tolist() == [
        "1_cow/c.jpg",
        "2_zebra/b9.jpg",
        "2_zebra/b10.jpg",
        "10_ant_bear/a.jpg",
    ]
    assert stimuli.label.tolist() == [0, 1, 1, 2]
    assert stimuli.concept.tolist() == ["cow", "zebra", "zebra", "ant_bear"]
    assert stimuli.caption.tolist() == ["0: cow", "1: zebra", "1: zebra", "2: ant_bear"]


def test_one_folder_without_number_keeps_every_folders_whole_name(tmp_path):
    for name in ("00001_cow/a", "00002_ant/a", "bee/a"):
        write_image(tmp_path / f"{name}.jpg")
    stimuli = ImageFolder(tmp_path).scan()
    assert stimuli.concept.tolist() == ["00001_cow", "00002_ant", "bee"]
    assert stimuli.label.tolist() == [0, 1, 2]


def test_integer_folders_are_the_labels(tmp_path):
    for name in ("1/a", "9/a", "10/a"):
        write_image(tmp_path / f"{name}.jpg")
    assert ImageFolder(tmp_path).scan().label.tolist() == [1, 9, 10]


def test_superscript_digits_are_letters(tmp_path):
    for name in ("a²", "a1"):
        write_image(tmp_path / f"{name}.png")
    assert ImageFolder(tmp_path).scan().image_path.tolist() == ["a1.png", "a².png"]


def test_mixed_depths_are_refused_by_name(tmp_path):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "x" / "b.png")
    with pytest.raises(InputError, match=r"'x/b.png': expected all images .* 'pattern'"):
        ImageFolder(tmp_path).scan()


def test_a_pattern_gives_label_and_concept_at_any_depth(tmp_path):
    for name in ("s1/img_12_cat", "img_7_dog"):
        write_image(tmp_path / f"{name}.png")
    stimuli = ImageFolder(tmp_path, r"img_(?P<label>\d+)_(?P<concept>[a-z]+)\.png$").scan()
    assert stimuli.image_path.tolist() == ["img_7_dog.png", "s1/img_12_cat.png"]
    assert stimuli.label.tolist() == [7, 12]
    assert stimuli.concept.tolist() == ["dog", "cat"]


def test_a_pattern_of_one_group_fills_the_other(tmp_path):
    for name in ("a_10", "b_10", "c_2"):
        write_image(tmp_path / f"{name}.png")
    labels = ImageFolder(tmp_path, r"_(?P<label>\d+)").scan()
    assert labels.label.tolist() == [10, 10, 2]
    assert labels.concept.tolist() == ["10", "10", "2"]
    concepts = ImageFolder(tmp_path, r"_(?P<concept>\d+)").scan()
    assert concepts.concept.tolist() == ["10", "10", "2"]
    assert concepts.label.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"^(?P<label>\d+)", r"'a1.png': pattern .* does not match"),
        (r"(?P<label>\D+)", r"'a1.png': .* finds label 'a', expected an integer"),
        (r"a(?P<concept>x?)", r"'a1.png': group 'concept' .* is empty"),
        (r"a(?P<label>x)?", r"'a1.png': group 'label' .* is empty"),
    ],
)
def test_a_file_that_the_pattern_does_not_fit_is_refused_by_name(tmp_path, pattern, message):
    write_image(tmp_path / "a1.png")
    with pytest.raises(InputError, match=message):
        ImageFolder(tmp_path, pattern).scan()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "("}, r"pattern '\(': missing"),
        ({"pattern": "a"}, r"pattern 'a': has the groups \[\]"),
        ({"pattern": "(?P<word>a)"}, r"has the groups \['word'\], expected \(\?P<label>"),
        ({"caption": "{class}"}, "caption '{class}': has the field 'class', expected {concept}"),
        ({"caption": "{}"}, "has the field ''"),
        ({"caption": "{0}"}, "has the field '0'"),
        ({"caption": "{concept.__class__}"}, r"has the field 'concept\.__class__'"),
        ({"caption": "{concept[0]}"}, r"has the field 'concept\[0\]'"),
        ({"caption": "{concept!r}"}, "has the field 'concept'"),
        ({"caption": "{label:1000000000}"}, "has the field 'label'"),
        ({"caption": "{concept"}, "caption '{concept': expected '}'"),
        ({"background": "white"}, "background: got 'white', expected"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, message):
    with pytest.raises(RecipeError, match=message):
        create("stimuli", "image-folder", {"path": "images", **options}, tmp_path)


def test_a_caption_can_hold_braces_and_no_field(tmp_path):
    write_image(tmp_path / "1.png")
    assert ImageFolder(tmp_path, caption="{{x}}").scan().caption.tolist() == ["{x}"]


def test_hidden_files_and_other_suffixes_are_ignored(tmp_path):
    write_image(tmp_path / "a.PNG", format="PNG")
    write_image(tmp_path / ".hidden" / "b.png")
    write_image(tmp_path / "._a.png")
    (tmp_path / "readme.txt").write_text("no image")
    assert ImageFolder(tmp_path).scan().image_path.tolist() == ["a.PNG"]


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("no image")
    with pytest.raises(InputError, match=r"no image among its 1 files, expected names .* \.jpg"):
        ImageFolder(tmp_path).scan()


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere': no such folder"):
        ImageFolder(tmp_path / "nowhere").scan()


@pytest.mark.parametrize("content", [b"", b"a text that is no image\n"])
def test_a_file_that_is_no_image_is_found_while_scanning(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.jpg': {len(content)} bytes that are no image"):
        ImageFolder(tmp_path).scan()


@pytest.mark.parametrize("side", [8193, 10_000, 20_000])
def test_more_than_64_megapixels_are_refused_from_the_header(tmp_path, side):
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    with pytest.raises(InputError, match=rf"a\.png': more than {MAX_PIXELS} pixels"):
        ImageFolder(tmp_path).scan()


def test_64_megapixels_are_allowed(tmp_path):
    write_image(tmp_path / "a.png", 1, (8192, 8192), mode="1")
    assert ImageFolder(tmp_path).scan().n_stimuli == 1


def test_a_file_too_large_to_be_an_image_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(InputError, match=r"a\.png': 1073741825 bytes, expected 1073741824 at most"):
        ImageFolder(tmp_path).scan()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tiff", "webp"])
def test_a_truncated_image_is_found_while_scanning(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(file)
    content = file.read_bytes()
    for length in (len(content) // 2, len(content) * 9 // 10):
        file.write_bytes(content[:length])
        with pytest.raises(InputError, match=rf"a\.{suffix}': the image cannot be decoded"):
            ImageFolder(tmp_path).scan()


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
def test_bytes_after_an_image_are_no_damage(tmp_path, suffix):
    file = write_image(tmp_path / f"a.{suffix}", BLUE)
    file.write_bytes(file.read_bytes() + bytes(16))
    assert only_image(tmp_path)[0, 0, 2] > 250


def test_damage_inside_an_image_is_found_when_it_is_read(tmp_path):
    file = write_image(tmp_path / "a.png", size=(40, 30))
    content = bytearray(file.read_bytes())
    content[content.index(b"IDAT") + 12] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png': the image cannot be decoded"):
        ImageFolder(tmp_path).read(0, 1)


def encoded(suffix: str) -> bytes:
    content = io.BytesIO()
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    Image.fromarray(pixels).save(content, suffix)
    return content.getvalue()


@settings(max_examples=150, deadline=None)
@given(
    suffix=st.sampled_from(["png", "jpeg", "bmp", "gif", "tiff", "webp"]),
    at=st.floats(0, 1, exclude_max=True),
    patch=st.binary(min_size=1, max_size=8),
)
def test_a_damaged_image_is_read_or_refused_and_nothing_else(suffix, at, patch):
    content = bytearray(encoded(suffix))
    start = int(at * len(content))
    content[start : start + len(patch)] = patch
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.png").write_bytes(content)
        try:
            image, message = only_image(Path(folder)), ""
        except InputError as error:
            image, message = np.empty((1, 1, 3)), str(error)
    assert image.shape[2] == 3
    assert not message or "a.png': " in message
    assert "\n" not in message


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tiff"])
def test_lossless_pixels_come_back_as_they_were(tmp_path, suffix):
    pixels = np.zeros((3, 5, 3), dtype=np.uint8)
    pixels[0, 1] = RED
    pixels[2, 4] = BLUE
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(only_image(tmp_path), pixels)


def test_webp_and_jpeg_are_read(tmp_path):
    write_image(tmp_path / "1.webp", (0, 128, 255), lossless=True)
    write_image(tmp_path / "2.jpeg", (0, 128, 255), quality=100)
    webp, jpeg = ImageFolder(tmp_path).read(0, 2)
    assert webp[0, 0].tolist() == [0, 128, 255]
    np.testing.assert_allclose(jpeg.astype(int), np.broadcast_to([0, 128, 255], jpeg.shape), atol=2)


def test_the_content_decides_the_format_not_the_suffix(tmp_path):
    write_image(tmp_path / "a.jpg", BLUE, format="PNG")
    assert only_image(tmp_path)[0, 0].tolist() == list(BLUE)


def test_a_format_that_is_not_listed_is_refused(tmp_path):
    write_image(tmp_path / "a.png", format="PPM")
    with pytest.raises(InputError, match="no image, expected PNG, JPEG, BMP, GIF, TIFF, WEBP"):
        ImageFolder(tmp_path).scan()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_exif_orientation_6_turns_the_image_clockwise(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((2, 5, 3), dtype=np.uint8)
    pixels[0, 0] = RED
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", exif=exif)
    image = only_image(tmp_path)
    assert image.shape == (5, 2, 3)
    assert image[0, 1].tolist() == list(RED)
    assert image.sum() == 255


@pytest.mark.parametrize(
    ("background", "expected"), [("#ffffff", [255, 127, 127]), ("#00ff00", [128, 127, 0])]
)
def test_transparency_is_laid_on_the_background(tmp_path, background, expected):
    write_image(tmp_path / "a.png", (255, 0, 0, 128), mode="RGBA")
    assert only_image(tmp_path, background=background)[0, 0].tolist() == expected


def test_transparent_palette_and_grey_pixels_show_the_background(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "1.png", transparency=1)
    Image.fromarray(np.array([[[7, 255], [7, 0]]], dtype=np.uint8)).save(tmp_path / "2.png")
    palette.save(tmp_path / "3.gif", transparency=1)
    indexed, grey, gif = ImageFolder(tmp_path).read(0, 3)
    assert indexed[0].tolist() == [[10, 20, 30], list(WHITE)]
    assert grey[0].tolist() == [[7, 7, 7], list(WHITE)]
    assert gif[0].tolist() == [[10, 20, 30], list(WHITE)]


def test_palette_bilevel_and_grey_images_become_rgb(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "1.bmp")
    write_image(tmp_path / "2.png", 1, mode="1")
    write_image(tmp_path / "3.png", 77, mode="L")
    indexed, bilevel, grey = ImageFolder(tmp_path).read(0, 3)
    assert indexed[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    assert bilevel[0, 0].tolist() == [255, 255, 255]
    assert grey[0, 0].tolist() == [77, 77, 77]


def test_cmyk_becomes_rgb(tmp_path):
    write_image(tmp_path / "1.tiff", (0, 255, 255, 0), mode="CMYK")
    write_image(tmp_path / "2.jpg", (255, 255, 0, 0), mode="CMYK", quality=100)
    tiff, jpeg = ImageFolder(tmp_path).read(0, 2)
    assert tiff[0, 0].tolist() == [255, 0, 0]
    np.testing.assert_allclose(jpeg[0, 0].astype(int), [0, 0, 255], atol=2)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix, order):
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values.astype(order)).save(tmp_path / f"a.{suffix}")
    assert only_image(tmp_path)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_thirty_two_bits_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match=r"a\.tiff': .* 32 bits a channel, expected 8 or 16"):
        ImageFolder(tmp_path).scan()


def test_the_first_frame_of_a_gif_is_the_image(tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert only_image(tmp_path).reshape(-1, 3).tolist() == [list(RED)] * 12


def test_content_id_is_the_sha256_of_the_encoded_file(tmp_path):
    file = write_image(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(file.read_bytes())
    write_image(tmp_path / "3.png", BLUE)
    ids = ImageFolder(tmp_path).scan().content_id.tolist()
    assert ids[0] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert ids[0] == ids[1] != ids[2]


def test_state_restores_reading_in_another_instance(tmp_path):
    for number in range(12):
        write_image(tmp_path / f"{number}.png", (number, 0, 0))
    scanned = ImageFolder(tmp_path)
    stored = io.BytesIO()
    np.savez(stored, **scanned.state())
    restored = ImageFolder(tmp_path)
    restored.restore(np.load(io.BytesIO(stored.getvalue()), allow_pickle=False))
    write_image(tmp_path / "00.png", (99, 0, 0))  # a scan of its own would see this one
    assert [image[0, 0, 0] for image in restored.read(9, 12)] == [9, 10, 11]
    whole, part = restored.read(0, 12), restored.read(3, 5)
    np.testing.assert_array_equal(whole[3:5], part)


def test_of_several_changed_files_the_first_is_named(tmp_path):
    for number in range(40):
        write_image(tmp_path / f"{number}.png", (number, 0, 0))
    folder = ImageFolder(tmp_path)
    folder.scan()
    before = list(warnings.filters)
    for number in (31, 7, 19):
        write_image(tmp_path / f"{number}.png", BLUE)
    with pytest.raises(InputError, match=r"[/\\]7\.png': changed since it was scanned"):
        folder.read(0, 40)
    assert warnings.filters == before
    assert [image[0, 0, 0] for image in folder.read(8, 19)] == list(range(8, 19))


def test_a_file_that_changes_after_the_scan_is_refused(tmp_path):
    write_image(tmp_path / "1.png")
    folder = ImageFolder(tmp_path)
    folder.scan()
    write_image(tmp_path / "1.png", BLUE)
    with pytest.raises(InputError, match=r"1\.png': changed since it was scanned"):
        folder.read(0, 1)


def test_the_fingerprint_follows_paths_and_bytes_but_not_the_place(tmp_path):
    for folder, name, colour in (
        ("same", "1.png", RED),
        ("moved", "1.png", RED),
        ("renamed", "2.png", RED),
        ("changed", "1.png", BLUE),
    ):
        write_image(tmp_path / folder / name, colour)
    prints = {
        folder: ImageFolder(tmp_path / folder).fingerprint()
        for folder in ("same", "moved", "renamed", "changed")
    }
    assert prints["same"] == prints["moved"]
    assert len(set(prints.values())) == 3


def test_pipes_devices_and_broken_or_circular_links_are_never_opened(tmp_path):
    makers = {
        "pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
        "broken": lambda path: path.symlink_to("nowhere.png"),
        "loop": lambda path: path.symlink_to(path),
    }
    for name, make in makers.items():
        folder = tmp_path / name
        folder.mkdir()
        make(folder / "a.png")
        with pytest.raises(InputError, match=r"a\.png': not a file"):
            ImageFolder(folder).scan()


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    write_image(tmp_path / "outside.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(InputError, match=r"a\.png': a link that leaves the folder"):
        ImageFolder(tmp_path / "images").scan()


def test_a_link_inside_the_folder_and_a_linked_folder_are_read(tmp_path):
    write_image(tmp_path / "images" / "1.png")
    (tmp_path / "images" / "2.png").symlink_to("1.png")
    (tmp_path / "link").symlink_to("images")
    assert ImageFolder(tmp_path / "link").scan().label.tolist() == [1, 2]


def test_a_linked_concept_folder_is_refused_not_left_out(tmp_path):
    write_image(tmp_path / "a" / "1.png")
    (tmp_path / "b").symlink_to(".")
    with pytest.raises(InputError, match=r"b': a link to a folder"):
        ImageFolder(tmp_path).scan()


def test_a_name_that_is_not_utf8_is_refused_and_shown_escaped(tmp_path):
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(encoded("png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    with pytest.raises(InputError, match=r"\\udcff\.png': the name is not UTF-8"):
        ImageFolder(tmp_path).scan()


@pytest.mark.parametrize("names", [("é.png", "e\u0301.png"), ("é/1.png", "e\u0301/2.png")])
def test_names_in_two_unicode_forms_are_refused_and_told_apart(tmp_path, names):
    for name in names:
        write_image(tmp_path / name)
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system takes both forms for one name")
    twin = names[0].split("/")[0], names[1].split("/")[0]
    with pytest.raises(InputError) as caught:
        ImageFolder(tmp_path).scan()
    assert all(ascii(name) in str(caught.value) for name in twin)
    assert "one name in two Unicode forms; rename one" in str(caught.value)


def test_names_that_differ_in_case_are_different_images(tmp_path):
    for name, colour in (("A", RED), ("a", BLUE)):
        write_image(tmp_path / f"{name}.png", colour)
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system does not tell cases apart")
    folder = ImageFolder(tmp_path)
    assert folder.scan().image_path.tolist() == ["A.png", "a.png"]
    assert folder.scan().concept.tolist() == ["A", "a"]
    assert folder.scan().label.tolist() == [0, 1]
    assert [image[0, 0].tolist() for image in folder.read(0, 2)] == [list(RED), list(BLUE)]


@pytest.mark.shared_data
def test_a_real_png_is_read_as_pillow_shows_it(shared_data):
    folder = ImageFolder(shared_data / "clip-assets")
    stimuli = folder.scan()
    file = shared_data / "clip-assets" / "CLIP.png"
    assert stimuli.image_path.tolist() == ["CLIP.png"]
    assert stimuli.concept.tolist() == ["CLIP"]
    assert stimuli.content_id.tolist() == [hashlib.sha256(file.read_bytes()).hexdigest()]
    (image,) = folder.read(0, 1)
    with Image.open(file) as original:
        rgba = np.asarray(original.convert("RGBA")).astype(float)
    opacity = rgba[..., 3:] / 255
    expected = rgba[..., :3] * opacity + 255 * (1 - opacity)
    assert np.abs(image - expected).max() <= 1
