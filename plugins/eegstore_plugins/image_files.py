"""An image file's bytes and pixels: nothing outside its folder is opened, and none is too large."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError

if TYPE_CHECKING:
    from PIL import Image

FORMATS: Final = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
MAX_PIXELS: Final = 1 << 26
MAX_FILE_BYTES: Final = 1 << 30
# A file that ends like this is not cut short; whether another one is shows in decoding it.
END: Final = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "GIF": b";"}


def read_bytes(folder: Path, path: str) -> bytes:
    """A file's bytes; nothing but a regular file inside the folder is ever opened."""
    file = folder / path
    try:
        if not file.is_file():
            raise InputError(f"{str(file)!r}: not a file (a broken link, a pipe, a device or gone)")
        if _has_link(folder, path) and not file.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{str(file)!r}: a link that leaves the folder; copy the image there")
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InputError(f"{str(file)!r}: {size} bytes, expected {MAX_FILE_BYTES} at most")
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{str(file)!r}: cannot be read: {error.strerror}") from None


def _has_link(folder: Path, path: str) -> bool:
    """Whether a part of a path below a folder is a link; without one it leads nowhere else."""
    return any((folder / part).is_symlink() for part in accumulate(path.split("/"), "{}/{}".format))


class Encoded(NamedTuple):
    """A file's bytes, and the image that they hold: its header is read and in bounds."""

    file: Path
    content: bytes
    image: Image.Image


@contextlib.contextmanager
def _told(file: Path, content: bytes) -> Iterator[None]:
    """Let what Pillow raises become an InputError."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except Image.DecompressionBombError:
        raise InputError(
            f"{str(file)!r}: more than {MAX_PIXELS} pixels, the most allowed; scale it down"
        ) from None
    except UnidentifiedImageError:
        raise InputError(
            f"{str(file)!r}: {len(content)} bytes that are no image, expected {', '.join(FORMATS)}"
        ) from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise almost anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{str(file)!r}: the image cannot be decoded: {reason}") from None


def opened(file: Path, content: bytes) -> Encoded:
    """An image, of which no pixel is decoded yet."""
    from PIL import Image

    with _told(file, content):
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if image.mode in ("I", "F"):
            raise ValueError("32 bits a channel, expected 8 or 16")
    return Encoded(file, content, image)


def check_whole(encoded: Encoded) -> None:
    """Refuse an image that is cut short: its end tells, or else decoding it."""
    if not encoded.content.endswith(END.get(encoded.image.format or "", ())):
        with _told(encoded.file, encoded.content):
            encoded.image.load()


def rgb(encoded: Encoded, background: str) -> NDArray[np.uint8]:
    """uint8, (y, x, 3): an image's pixels, upright, opaque, in sRGB."""
    with _told(encoded.file, encoded.content):
        pixels = _plain_jpeg(encoded)
        return _by_pillow(encoded.image, background) if pixels is None else pixels


def _by_pillow(image: Image.Image, background: str) -> NDArray[np.uint8]:
    """uint8, (y, x, 3): any image's pixels."""
    from PIL import Image, ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        # Pillow clips here; the high byte is what it takes of 16-bit colour.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, background)
        image = Image.alpha_composite(canvas, image.convert("RGBA"))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _plain_jpeg(encoded: Encoded) -> NDArray[np.uint8] | None:
    """The pixels of an upright JPEG of colours or grey; None where Pillow has to make them.

    Pillow holds Python's lock for a good part of its work, so that threads wait for each other:
    simplejpeg decodes without it. What it finds any fault with goes to Pillow, which has its say.
    """
    from PIL import ExifTags

    decode, image = _decoder(), encoded.image
    is_plain = image.format == "JPEG" and image.mode in ("RGB", "L")
    if decode is None or not is_plain or image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        return None
    try:
        return decode(encoded.content)
    except ValueError:
        return None


@functools.cache
def _decoder() -> Callable[[bytes], NDArray[np.uint8]] | None:
    """simplejpeg, where it is there and its pixels are those of the Pillow that is there.

    Both go by libjpeg-turbo as a rule, but a build of Pillow may have another library.
    """
    try:
        import simplejpeg
    except ImportError:
        return None

    def decode(content: bytes) -> NDArray[np.uint8]:
        made: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB", strict=True)
        return made

    return decode if all(map(functools.partial(_is_pillows, decode), _samples())) else None


def _samples() -> Iterator[bytes]:
    """Noise as JPEG, with all subsamplings of colour, in sides that no block divides."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    options: list[dict[str, Any]] = [{"subsampling": number} for number in range(3)]
    for one in (*options, {"progressive": True}):
        content = io.BytesIO()
        Image.fromarray(noise).save(content, "JPEG", quality=80, **one)
        yield content.getvalue()


def _is_pillows(decode: Callable[[bytes], NDArray[np.uint8]], content: bytes) -> bool:
    from PIL import Image

    return np.array_equal(decode(content), np.array(Image.open(io.BytesIO(content))))
