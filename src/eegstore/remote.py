"""Stores behind a URL: read by ranges, many at a time, through ``obstore`` (extra ``remote``)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from eegstore.disk import Place
from eegstore.errors import InputError

AT_ONCE: Final = 32  # requests that are waited for together

Given = TypeVar("Given")
Got = TypeVar("Got")


class RemotePath:
    """A file or folder of an object store: as much of ``pathlib.Path`` as reading a store needs.

    Parameters
    ----------
    url
        Such as ``s3://bucket/s.zarr``, ``gs://…``, ``az://…`` or ``https://…``.
    options
        For ``obstore.store.from_url``, such as ``{"endpoint": "http://localhost:9000"}``; what is
        not said is taken from the environment (``AWS_ACCESS_KEY_ID``, …).
    within
        Path from the URL.
    """

    def __init__(self, url: str, options: Mapping[str, Any], within: str = "") -> None:
        self._url = url.rstrip("/")
        self._options = dict(options)
        self._within = PurePosixPath(within)

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self._url, self._options, str(self._within / name))

    def __str__(self) -> str:
        return self._url if not self._within.name else f"{self._url}/{self._within}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return str(self).rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        """The folder that it is in."""
        return RemotePath(self._url, self._options, str(self._within.parent))

    def facts(self) -> Mapping[str, Any]:
        """``size`` and ``e_tag`` of the object."""
        import obstore

        return _asked(self, lambda: obstore.head(self._store, str(self._within)))

    def read_bytes(self) -> bytes:
        """The whole object."""
        return bytes(self.read_range())

    def read_range(
        self, start: int = 0, stop: int | None = None, e_tag: str | None = None
    ) -> memoryview:
        """A range of bytes of the object, where its entity tag is still the one that is given.

        Raises
        ------
        FileNotFoundError
            Where there is no such object, or another.
        InputError
            Where it cannot be reached.
        """
        import obstore

        options: Any = {} if stop is None else {"range": (start, stop)}
        if e_tag is not None:
            options["if_match"] = e_tag
        get = functools.partial(obstore.get, self._store, str(self._within), options=options)
        return memoryview(_asked(self, lambda: get().bytes()))

    @property
    def _store(self) -> Any:
        text = repr(sorted(self._options.items()))
        return _opened(self._url, Options(text, self._options), os.getpid())


@dataclass(frozen=True)
class Options:
    """Those of a client, known by their text: they may hold what has no hash."""

    text: str
    values: Mapping[str, Any] = field(compare=False)


class Fetched:
    """Files of an object store, of which ranges are fetched.

    Parameters
    ----------
    facts
        Gives the size and the entity tag of a file, by its number; called before any is read.
    fetch
        Gives the bytes of a file, by its number, from a start to a stop, where it still has the
        entity tag.
    """

    in_memory = False

    def __init__(
        self,
        facts: Callable[[int], tuple[int, str | None]],
        fetch: Callable[[int, int, int, str | None], memoryview],
    ) -> None:
        self._facts_of = facts
        self._fetch = fetch
        self._facts: dict[int, tuple[int, str | None]] = {}

    def view(self, file: int, start: int, stop: int) -> memoryview:
        """A range of bytes of a file."""
        return self._fetch(file, start, stop, self._known(file)[1])

    def views(self, ranges: Iterable[tuple[int, int, int]]) -> list[memoryview]:
        """Several ranges, fetched together."""
        return list(at_once(lambda one: self.view(*one), ranges))

    def sizes(self, files: list[int]) -> list[int]:
        """Bytes of files, asked for together."""
        return [size for size, _ in at_once(self._known, files)]

    def gather(
        self,
        files: NDArray[np.int64],
        starts: NDArray[np.int64],
        out: NDArray[np.uint8],
    ) -> None:
        """Not from here: what was fetched is decoded first."""
        raise NotImplementedError

    def address(self, file: int) -> int:
        """0: there is nothing in memory."""
        return 0

    def _known(self, file: int) -> tuple[int, str | None]:
        if file not in self._facts:
            self._facts[file] = self._facts_of(file)
        return self._facts[file]


def location(path: str | Path, options: Mapping[str, Any] | None = None) -> Place:
    """Where a store lies: in a folder, or behind a URL.

    Raises
    ------
    InputError
        Where the URL is of no kind that is known, or its extra is missing.
    """
    if isinstance(path, Path) or "://" not in path:
        return Path(path)
    found = RemotePath(path, options or {})
    _ = found._store
    return found


def at_once(call: Callable[[Given], Got], given: Iterable[Given]) -> Iterator[Got]:
    """What is given to a call that waits, in its order, many at a time."""
    items = list(given)
    if len(items) < 2:
        return map(call, items)
    return _waiting(os.getpid()).map(call, items)


def together(place: Place, call: Callable[[Given], Got], given: Iterable[Given]) -> Iterator[Got]:
    """What is given to a call that reads of a place, in its order; at once where that waits."""
    return at_once(call, given) if isinstance(place, RemotePath) else map(call, given)


@functools.lru_cache(maxsize=1)
def _waiting(_process: int) -> ThreadPoolExecutor:
    """Threads that wait; those of its parent are not in a fork."""
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="eegstore-fetch")


@functools.lru_cache(maxsize=64)
def _opened(url: str, options: Options, _process: int) -> Any:
    """One client for all files of a store; that of its parent does not work in a fork."""
    try:
        from obstore.store import from_url
    except ImportError:
        raise InputError(f"{url}: needs obstore; run: pip install 'eegstore[remote]'") from None
    given = dict(options.values)
    if str(given.get("endpoint", "")).startswith("http://"):
        given["client_options"] = {"allow_http": True} | dict(given.get("client_options", {}))
    try:
        return from_url(url, **given)
    except Exception as error:
        raise InputError(f"{url}: cannot be opened ({_first_line(error)})") from None


def _asked(path: RemotePath, ask: Callable[[], Got]) -> Got:
    """What a request gives; a file that is not there is told as in a folder.

    A network or a server that fails says nothing of the store, and must not pass for its damage.
    """
    from obstore.exceptions import BaseError, NotFoundError, PreconditionError

    try:
        return ask()
    except (NotFoundError, FileNotFoundError, PreconditionError) as error:
        raise FileNotFoundError(2, _first_line(error), str(path)) from None
    except BaseError as error:
        raise InputError(
            f"{path}: cannot be reached ({_first_line(error)}); see to the network, the endpoint "
            "and the credentials, and try again"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
