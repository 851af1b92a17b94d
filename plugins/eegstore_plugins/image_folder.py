"""A folder of image files as stimuli."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Stimuli, digest_bytes, hookimpl
from eegstore_plugins import image_files
from eegstore_plugins.captions import DEFAULT, OPTION, captions, check_template
from eegstore_plugins.image_files import Encoded
from eegstore_plugins.names import in_natural_order, natural_key

SUFFIXES: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
)
INTEGER: Final = re.compile(r"[0-9]{1,18}")
NUMBERED: Final = re.compile(r"[0-9]+_(?P<concept>.+)")


class Category(NamedTuple):
    """What an image's path says that it shows."""

    label: int
    concept: str


class Listing(NamedTuple):
    """The images of a folder in natural order: relative paths, and digests of their bytes."""

    paths: list[str]
    content_ids: list[str]


def _natural(paths: Iterable[str]) -> list[str]:
    """In natural order, part by part."""
    return in_natural_order(paths, lambda path: [natural_key(part) for part in path.split("/")])


def _refuse_unreadable(error: OSError) -> None:
    raise InputError(f"{str(error.filename)!r}: the folder cannot be read: {error.strerror}")


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder that is not hidden; a link to a folder is refused."""
    for parent, folders, files in os.walk(folder, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for link in (Path(parent, name) for name in folders):
            if link.is_symlink():
                raise InputError(f"{str(link)!r}: a link to a folder, expected a folder; copy it")
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _image_paths(folder: Path) -> list[str]:
    """Paths of the images, relative to the folder, in natural order."""
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r}: no such folder, expected a folder of images")
    files = list(_files(folder))
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not images:
        raise InputError(
            f"{str(folder)!r}: no image among its {len(files)} files, "
            f"expected names that end with {' '.join(sorted(SUFFIXES))}"
        )
    for image in images:
        if any("\ud800" <= letter <= "\udfff" for letter in str(image)):
            raise InputError(f"{str(image)!r}: the name is not UTF-8; rename the file")
    paths = _natural(image.relative_to(folder).as_posix() for image in images)
    _refuse_twins(paths)
    return paths


def _refuse_twins(paths: Sequence[str]) -> None:
    """Refuse names of files or folders that look alike: their concepts would too."""
    seen: dict[str, str] = {}
    for path in paths:
        for name in accumulate(path.split("/"), "{}/{}".format):
            twin = seen.setdefault(unicodedata.normalize("NFC", name), name)
            if twin != name:
                raise InputError(
                    f"{twin!a} and {name!a}: one name in two Unicode forms; rename one"
                )


def _changed(file: Path) -> InputError:
    return InputError(f"{str(file)!r}: changed since it was scanned; build again")


def _by_rule(paths: Sequence[str]) -> list[Category]:
    """Categories from the files' names (a flat folder), or from their folders' names."""
    depths = {path.count("/") for path in paths}
    if depths not in ({0}, {1}):
        odd = max(paths, key=lambda path: path.count("/"))
        raise InputError(
            f"{odd!r}: expected all images in the folder itself, or all in one folder a concept; "
            "say with 'pattern' what label and concept are"
        )
    names = [PurePosixPath(path).parent.name or PurePosixPath(path).stem for path in paths]
    integers = [INTEGER.fullmatch(name) is not None for name in names]
    if all(integers):
        return [Category(int(name), str(int(name))) for name in names]
    if any(integers):
        named, odd = names[integers.index(True)], names[integers.index(False)]
        raise InputError(
            f"some images are named by a label ({named!r}) and some are not ({odd!r}); rename or "
            "remove the odd ones, or say with 'pattern' what label and concept are"
        )
    label_of = {name: label for label, name in enumerate(_natural(set(names)))}
    numbers = [NUMBERED.fullmatch(name) for name in names]
    if depths == {0} or not all(numbers):
        return [Category(label_of[name], name) for name in names]
    return [Category(label_of[match[0]], match["concept"]) for match in numbers if match]


def _by_pattern(pattern: str, paths: Sequence[str]) -> list[Category]:
    """Categories from a regular expression's groups; either group stands in for the other."""
    found = [_groups(pattern, path) for path in paths]
    concepts = _natural({groups["concept"] for groups in found if "concept" in groups})
    label_of = {concept: label for label, concept in enumerate(concepts)}
    categories = []
    for groups in found:
        label = int(groups["label"]) if "label" in groups else label_of[groups["concept"]]
        categories.append(Category(label, groups.get("concept", str(label))))
    return categories


def _groups(pattern: str, path: str) -> dict[str, str]:
    """What the named groups hold: no empty text, and an integer for a label."""
    match = re.search(pattern, path)
    if match is None:
        raise InputError(f"{path!r}: pattern {pattern!r} does not match; change it")
    groups = {name: match[name] or "" for name in match.re.groupindex}
    for group, text in groups.items():
        if not text:
            raise InputError(f"{path!r}: group {group!r} of pattern {pattern!r} is empty")
    if not INTEGER.fullmatch(groups.get("label", "0")):
        raise InputError(
            f"{path!r}: pattern {pattern!r} finds label {groups['label']!r}, expected an integer"
        )
    return groups


@dataclass(frozen=True)
class ImageFolder:
    """Images in one folder, flat (``0.jpg``) or one folder a concept (``00001_aardvark/a.jpg``).

    The rows are in the natural order of the relative paths (``10.jpg`` after ``2.jpg``). Without
    ``pattern``, label and concept come from the names: the files' stems in a flat folder, the
    folders' names else. Where all names are integers, these are the labels; else the label is the
    place of the name in natural order, from 0 (so ``00001_aardvark`` has label 0), and the concept
    is the name, without its number where all folders are called ``<number>_<concept>``.

    Each image is decoded to uint8 (y, x, 3): its EXIF orientation applied, transparency laid on
    ``background``, 16 bits scaled to 8, the first frame of many. Embedded colour profiles are not
    applied, as in CLIP's own preprocessing. Hidden files and other suffixes are ignored.
    """

    name: ClassVar[str] = "image-folder"
    version: ClassVar[str] = "1"

    path: Path = field(metadata={"description": "Folder of the images."})
    pattern: str = field(
        default="",
        metadata={
            "description": "Regular expression, searched in each relative path (with /), whose "
            "named groups 'label' and 'concept' (one or both) say what the image shows."
        },
    )
    caption: str = field(default=DEFAULT, metadata=OPTION)
    background: str = field(
        default="#ffffff",
        metadata={
            "description": "Colour behind transparent pixels, as #RRGGBB.",
            "pattern": "^#[0-9a-fA-F]{6}$",
        },
    )

    def __post_init__(self) -> None:
        check_template(self.caption)
        try:
            groups = set(re.compile(self.pattern).groupindex)
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r}: {error}") from None
        if self.pattern and (not groups or groups - {"label", "concept"}):
            raise ValueError(
                f"pattern {self.pattern!r}: has the groups {sorted(groups)}, "
                "expected (?P<label>…), (?P<concept>…) or both"
            )

    @cached_property
    def _listing(self) -> Listing:
        paths = _image_paths(self.path)
        with warnings.catch_warnings(action="ignore"):
            return Listing(paths, [self._content_id(path) for path in paths])

    def _content_id(self, path: str) -> str:
        """Digest of an image's bytes, which are whole."""
        content = image_files.read_bytes(self.path, path)
        image_files.check_whole(image_files.opened(self.path / path, content))
        return digest_bytes(content)

    def scan(self) -> Stimuli:
        paths, content_ids = self._listing
        categories = _by_pattern(self.pattern, paths) if self.pattern else _by_rule(paths)
        labels = [category.label for category in categories]
        concepts = [category.concept for category in categories]
        return Stimuli(
            image_path=np.array(paths),
            label=np.array(labels, dtype=np.int64),
            concept=np.array(concepts),
            caption=np.array(captions(self.caption, concepts, labels)),
            content_id=np.array(content_ids),
        )

    def read(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        paths, content_ids = (part[start:stop] for part in self._listing)
        # Pillow's warnings are not for the user. Their filters are the process', not a thread's.
        with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(os.cpu_count()) as pool:
            # In this thread alone, because in many each would wait for Python's lock at every step.
            opened = map(self._opened, paths, content_ids)
            return list(pool.map(self._pixels, opened, content_ids))

    def _opened(self, path: str, content_id: str) -> Encoded | InputError:
        """An image before it is decoded, or why not: told when those before it are decoded."""
        file = self.path / path
        try:
            content = image_files.read_bytes(self.path, path)
        except InputError as error:
            return error
        try:
            return image_files.opened(file, content)
        except InputError as error:
            return error if digest_bytes(content) == content_id else _changed(file)

    def _pixels(self, opened: Encoded | InputError, content_id: str) -> NDArray[np.uint8]:
        if isinstance(opened, InputError):
            raise opened
        if digest_bytes(opened.content) != content_id:
            raise _changed(opened.file)
        return image_files.rgb(opened, self.background)

    def state(self) -> Mapping[str, NDArray[Any]]:
        return {name: np.array(values) for name, values in self._listing._asdict().items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        listing = Listing(**{name: values.tolist() for name, values in state.items()})
        self.__dict__["_listing"] = listing

    def fingerprint(self) -> str:
        """Digest of the images' paths and bytes."""
        return digest_bytes(*(f"{one}\0".encode() for part in self._listing for one in part))


@hookimpl
def eegstore_stimuli() -> list[type[ImageFolder]]:
    """The provider of this module."""
    return [ImageFolder]
