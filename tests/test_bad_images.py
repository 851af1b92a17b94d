"""Images that cannot be stimuli are refused by name; odd ones come out as they should look."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import eegstore
from command import LIMIT_S, check_build_refused, check_refused, run_command
from eegstore import IncompleteError
from samples import data_files

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
RECIPE = """
[source]
plugin = "synthetic"
n_trials = 4
n_channels = 2
n_times = 32

[stimuli]
plugin = "image-folder"
path = "images"

[pairing]
plugin = "label"
unmatched = "keep"
"""
WITH_HOG = f'{RECIPE}\n[[extract]]\nplugin = "hog"\nsize = 16\n'


def paint(path: Path, colour: object = RED, size: tuple[int, int] = (24, 16), mode: str = "RGB",
          **options: object) -> Path:  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def cut(path: Path) -> None:
    """Keep the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def png(width: int, height: int, depth: int, colour: int, samples: bytes) -> bytes:
    """A PNG of samples that Pillow cannot write (PNG specification, third edition, section 11)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(
            ">I", zlib.crc32(name + content)
        )  # fmt: skip

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    row_bytes = len(samples) // height
    rows = b"".join(
        b"\0" + samples[start : start + row_bytes] for start in range(0, len(samples), row_bytes)
    )
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def device(path: Path) -> None:
    """A device that can be read without end: a node of its own for /dev/zero."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making a device node needs root")


def bind(path: Path) -> None:
    """A socket of the file system; its address is short whatever the folder's is."""
    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)
    os.chdir(here)


def outside(path: Path) -> Path:
    """An image beside the folder of images."""
    return paint(path.parents[1] / "secret.png")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)


def wide_gif(path: Path) -> None:
    """A small frame on a screen of 10,000 x 10,000."""
    content = paint(path).read_bytes()
    path.write_bytes(content[:6] + struct.pack("<HH", 10_000, 10_000) + content[10:])


@dataclass(frozen=True)
class Case:
    """How the second image of a folder is made, and what the one line must name."""

    make: Callable[[Path], object]
    parts: tuple[str, ...]
    name: str = "1.png"


CASES = {
    "truncated PNG": Case(lambda path: cut(noise(path)), ("1.png", "cannot be decoded")),
    "truncated JPEG": Case(lambda path: cut(noise(path)), ("1.jpg", "truncated"), "1.jpg"),
    "truncated GIF": Case(lambda path: cut(noise(path)), ("1.gif", "cannot be decoded"), "1.gif"),
    "0 bytes": Case(Path.touch, ("1.png", "0 bytes that are no image", "PNG, JPEG")),
    "text named .jpg": Case(
        lambda path: path.write_text("no image"), ("1.jpg", "8 bytes that are no image"), "1.jpg"
    ),
    "PostScript named .png": Case(
        lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("1.png", "no image, expected PNG"),
    ),
    "100 megapixels": Case(
        lambda path: path.write_bytes(png(10_000, 10_000, 1, 0, bytes(12_500_000))),
        ("1.png", "more than 67108864 pixels", "scale it down"),
    ),
    "100 megapixels of GIF": Case(wide_gif, ("1.gif", "more than 67108864 pixels"), "1.gif"),
    "32 bits a channel": Case(
        lambda path: paint(path, 0.5, mode="F"), ("1.tiff", "32 bits a channel"), "1.tiff"
    ),
    "3 GiB": Case(sparse, ("1.png", "3221225472 bytes, expected 1073741824 at most")),
    "missing file": Case(lambda path: path.symlink_to("gone.png"), ("1.png", "not a file")),
    "link in a loop": Case(lambda path: path.symlink_to(path.name), ("1.png", "not a file")),
    "link out of the root": Case(
        lambda path: path.symlink_to(outside(path)), ("1.png", "a link that leaves the folder")
    ),
    "link out by ../": Case(
        lambda path: path.symlink_to(f"../{outside(path).name}"), ("1.png", "leaves the folder")
    ),
    "folder in a loop": Case(
        lambda path: path.symlink_to("."), ("images/again", "a link to a folder"), "again"
    ),
    "pipe": Case(os.mkfifo, ("1.png", "not a file", "a pipe")),
    "device": Case(device, ("1.png", "not a file", "a device")),
    "link to a device": Case(lambda path: path.symlink_to("/dev/zero"), ("1.png", "not a file")),
    "socket": Case(bind, ("1.png", "not a file")),
    "name not UTF-8": Case(
        lambda path: paint(Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff.png"))),
        (r"\udcff.png': the name is not UTF-8; rename",),
    ),
    "control characters in a name": Case(
        Path.touch, (r"\x1b[31m\n.png': 0 bytes",), "\x1b[31m\n.png"
    ),
    "two Unicode forms": Case(
        lambda path: [paint(path.with_name(name)) for name in ("\xe9.png", "e\u0301.png")],
        (r"'\xe9.png'", r"'e\u0301.png'", "two Unicode forms"),
    ),
    "another depth": Case(paint, ("cats/1.png", "say with 'pattern'"), "cats/1.png"),
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of one sound image."""
    return paint(tmp_path / "images" / "0.png").parent


@pytest.mark.promise("P14")
@pytest.mark.parametrize("name", CASES)
def test_a_bad_image_is_refused_by_name(images: Path, name: str) -> None:
    case = CASES[name]
    case.make(images / case.name)
    check_build_refused(RECIPE, images.parent, 3, *case.parts)
    assert not (images.parent / "out.zarr").exists()
    assert not (images.parent / "out.zarr.build").exists()


@pytest.mark.promise("P14")
@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda path: None, ("images': no such folder",)),
        (Path.mkdir, ("images': no image among its 0 files", ".png")),
        (lambda path: path.write_bytes(b"0"), ("images': no such folder, expected a folder",)),
        (lambda path: path.symlink_to(path), ("images': no such folder",)),
    ],
    ids=["missing", "empty", "a file", "a link in a loop"],
)
def test_a_folder_without_images_is_refused(
    tmp_path: Path, make: Callable[[Path], object], parts: tuple[str, ...]
) -> None:
    make(tmp_path / "images")
    check_build_refused(RECIPE, tmp_path, 3, *parts)


@pytest.mark.promise("P14")
@pytest.mark.parametrize("key", ["../secret.png", "/etc/passwd", "1.png"])
def test_a_stimulus_that_the_eeg_names_and_the_folder_lacks_is_refused(
    images: Path, key: str
) -> None:
    folder = images.parent
    outside(images / "0.png")
    with h5py.File(folder / "trials.h5", "w") as file:
        file["eeg"] = np.zeros((2, 3, 4), dtype=np.float32)
        file["shown"] = ["0.png", key]
    source = '[source]\nplugin = "hdf5"\npath = "trials.h5"\neeg = "eeg"\nsfreq = 100\n'
    stimuli = '[stimuli]\nplugin = "image-folder"\npath = "images"\n'
    recipe = f'{source}stimulus_key = "shown"\n{stimuli}'
    check_build_refused(recipe, folder, 3, f"no stimulus fits the key {key!r}", "like '0.png'")


WATCH = """
import os, sys
log = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(
    lambda event, args: event == "open" and os.write(log, os.fsencode(str(args[0])) + b"\\n")
)
"""


@pytest.mark.promise("P14")
@pytest.mark.parametrize(
    "name", ["pipe", "device", "link to a device", "link out of the root", "link in a loop"]
)
def test_what_is_no_image_of_the_folder_is_never_opened(images: Path, name: str) -> None:
    folder = images.parent
    case = CASES[name]
    case.make(images / case.name)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WATCH)
    paths = [str(folder / "watch"), os.environ.get("PYTHONPATH", "")]
    env = {"OPENED": str(folder / "opened"), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    outcome = run_command("build", "recipe.toml", "o", cwd=folder, env=env, limit_s=LIMIT_S)
    check_refused(outcome, 3, *case.parts)
    opened = (folder / "opened").read_text().splitlines()
    assert str(images / "0.png") in opened
    assert str(images / "1.png") not in opened
    assert str(folder / "secret.png") not in opened
    assert "/dev/zero" not in opened


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def sixteen_bits(path: Path) -> None:
    """Red, green and blue of 16 bits; grey of 16 bits beside it."""
    path.write_bytes(
        png(2, 1, 16, 2, np.array([0, 256, 65535, 255, 32768, 65280], ">u2").tobytes())
    )
    Image.fromarray(np.array([[0, 255, 256, 32768, 65535]], np.uint16)).save(
        path.with_name("grey16.png")
    )


def accepted(folder: Path) -> dict[str, np.ndarray]:
    """Write one image of each odd kind; what each must look like, uint8 (y, x, 3)."""
    folder.mkdir()
    paint(folder / "cmyk.tiff", (0, 255, 255, 0), mode="CMYK")
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.save(folder / "palette.png")
    palette.save(folder / "transparent.gif", transparency=1)
    sixteen_bits(folder / "colour16.png")
    paint(folder / "alpha.png", (255, 0, 0, 128), mode="RGBA")
    turned = np.zeros((2, 5, 3), dtype=np.uint8)
    turned[0, 0] = RED
    Image.fromarray(turned).save(folder / "exif.png", exif=exif(6))
    frames = [Image.new("RGB", (3, 2), colour) for colour in (RED, BLUE)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    paint(folder / "png.jpg", BLUE, format="PNG")
    paint(folder / "Case.png", RED)
    paint(folder / "case.png", BLUE)
    plain = np.zeros((16, 24, 3), dtype=np.uint8)
    upright = np.zeros((5, 2, 3), dtype=np.uint8)
    upright[0, 1] = RED
    grey = np.array([0, 0, 1, 128, 255], dtype=np.uint8)
    return {
        "cmyk.tiff": plain + np.uint8(RED),
        "palette.png": np.uint8([[[10, 20, 30], [40, 50, 60]]]),
        "transparent.gif": np.uint8([[[10, 20, 30], WHITE]]),
        "colour16.png": np.uint8([[[0, 1, 255], [0, 128, 255]]]),
        "grey16.png": np.repeat(grey[None, :, None], 3, axis=2),
        "alpha.png": plain + np.uint8([255, 127, 127]),
        "exif.png": upright,
        "animated.gif": np.zeros((2, 3, 3), np.uint8) + np.uint8(RED),
        "png.jpg": plain + np.uint8(BLUE),
        "Case.png": plain + np.uint8(RED),
        "case.png": plain + np.uint8(BLUE),
    }


@pytest.mark.promise("P14")
def test_odd_images_come_out_of_a_build_as_they_should_look(tmp_path: Path) -> None:
    expected = accepted(tmp_path / "images")
    if len(list((tmp_path / "images").iterdir())) < len(expected):
        pytest.skip("this file system does not tell cases apart")
    (tmp_path / "recipe.toml").write_text(WITH_HOG)
    outcome = run_command("build", "recipe.toml", "out.zarr", "--quiet", cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    store = eegstore.open_store(tmp_path / "out.zarr")
    paths = store.stimuli["image_path"][:].tolist()
    assert sorted(paths) == sorted(expected)
    for row, path in enumerate(paths):
        np.testing.assert_array_equal(store.image(row), expected[path], err_msg=path)
    rows = [paths.index(name) for name in ("Case.png", "case.png")]
    assert store.stimuli["concept"][rows].tolist() == ["Case", "case"]
    assert len(set(store.stimuli["label"][:].tolist())) == len({Path(path).stem for path in paths})
    assert np.isfinite(store.stimuli["hog"][:]).all()


def test_the_recipes_background_lies_behind_transparent_pixels(tmp_path: Path) -> None:
    paint(tmp_path / "images" / "0.png", (255, 0, 0, 128), mode="RGBA")
    green = RECIPE.replace('"images"', '"images"\nbackground = "#00ff00"')
    (tmp_path / "recipe.toml").write_text(green)
    eegstore.build(tmp_path / "recipe.toml", tmp_path / "out.zarr")
    assert eegstore.open_store(tmp_path / "out.zarr").image(0)[0, 0].tolist() == [128, 127, 0]


BUILD = """
import sys, eegstore

def wait_before_the_first_task(stage, done, total):
    if stage == "extract" and done == 0:
        print("scanned", flush=True)
        sys.stdin.readline()

try:
    eegstore.build(
        "recipe.toml", "out.zarr", executor=sys.argv[1], n_workers=1,
        listener=wait_before_the_first_task,
    )
except eegstore.EegStoreError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def build_meanwhile(folder: Path, executor: str, change: Callable[[], object]) -> tuple[int, str]:
    """Build, and change something after the scan and before the first task; code and output."""
    with subprocess.Popen(
        [sys.executable, "-c", BUILD, executor], cwd=folder, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "scanned\n"
        change()
        out, _ = process.communicate("go on\n", timeout=60)
    return process.returncode, out


def replace_by(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


CHANGES = {
    "other content": (lambda path: paint(path, BLUE), "changed since it was scanned; build again"),
    "truncated": (cut, "changed since it was scanned; build again"),
    "gone": (Path.unlink, "not a file (a broken link, a pipe, a device or gone)"),
    "a pipe": (replace_by(os.mkfifo), "not a file"),
    "a link elsewhere": (
        replace_by(lambda path: path.symlink_to(outside(path))), "a link that leaves the folder"
    ),
}  # fmt: skip


@pytest.mark.promise("P14")
@pytest.mark.parametrize(
    ("name", "executor"), [*((name, "serial") for name in CHANGES), ("other content", "processes")]
)
def test_an_image_that_changes_while_a_build_runs_is_refused(
    images: Path, name: str, executor: str
) -> None:
    folder = images.parent
    (folder / "recipe.toml").write_text(WITH_HOG)
    image = noise(images / "1.png")
    whole = shutil.copy(image, folder / "whole.png")
    change, reason = CHANGES[name]
    code, out = build_meanwhile(folder, executor, lambda: change(image))
    assert code == 3
    assert len(out.splitlines()) == 1
    assert f"{str(image)!r}: {reason}" in out
    with pytest.raises(IncompleteError):
        eegstore.open_store(folder / "out.zarr")
    image.unlink(missing_ok=True)
    shutil.copy(whole, image)
    eegstore.build(folder / "recipe.toml", folder / "out.zarr")
    eegstore.build(folder / "recipe.toml", folder / "undisturbed.zarr")
    assert data_files(folder / "out.zarr") == data_files(folder / "undisturbed.zarr")


def test_a_build_after_the_change_takes_the_image_as_it_is_now(images: Path) -> None:
    folder = images.parent
    (folder / "recipe.toml").write_text(WITH_HOG)
    code, _ = build_meanwhile(folder, "serial", lambda: noise(images / "0.png"))
    assert code == 3
    eegstore.build(folder / "recipe.toml", folder / "out.zarr")
    store = eegstore.open_store(folder / "out.zarr")
    with Image.open(images / "0.png") as now:
        np.testing.assert_array_equal(store.image(0), np.asarray(now))
    assert store.stimuli["hog"][:].max() > 0, "an image of one colour has no gradient"
