"""Bait: bytes that leave a mark where a careless reader would execute what they say."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pickle
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eegstore import DamageError, IncompleteError, InputError


class Canary:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.makedirs, (self.mark, 0o777, True)


@dataclass(frozen=True)
class Bait:
    """How its bytes are made, given the mark, and what a careless reader would do with them."""

    make: Callable[[Path], bytes]
    fire: Callable[[bytes], object]


def expression(mark: Path) -> str:
    """Python that makes the mark."""
    return f"__import__('os').makedirs({str(mark)!r}, exist_ok=True)"


def _objects(mark: Path) -> np.ndarray[Any, Any]:
    objects = np.empty(1, dtype=object)
    objects[0] = Canary(mark)
    return objects


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def _torch(mark: Path, **options: Any) -> bytes:
    import torch

    return _saved(lambda file: torch.save({"weights": Canary(mark)}, file, **options))


def _torch_load(content: bytes) -> object:
    import torch

    return torch.load(io.BytesIO(content), weights_only=False)


def _npy_header(mark: Path) -> bytes:
    header = f"{{'descr': {expression(mark)}, 'fortran_order': False, 'shape': (1,)}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def _yaml(mark: Path) -> bytes:
    return f"!!python/object/apply:os.makedirs ['{mark}', 511, true]\n".encode()


def _load_yaml(content: bytes) -> object:
    import yaml

    return yaml.unsafe_load(content)


BAITS = {
    **{
        f"pickle {protocol}": Bait(
            lambda mark, protocol=protocol: pickle.dumps(Canary(mark), protocol), pickle.loads
        )
        for protocol in (0, 2, 5)
    },
    "gzipped pickle": Bait(
        lambda mark: gzip.compress(pickle.dumps(Canary(mark))),
        lambda content: pickle.loads(gzip.decompress(content)),
    ),
    "torch.save": Bait(_torch, _torch_load),
    "torch.save as it was": Bait(
        lambda mark: _torch(mark, _use_new_zipfile_serialization=False), _torch_load
    ),
    "object array": Bait(
        lambda mark: _saved(lambda file: np.save(file, _objects(mark), allow_pickle=True)),
        lambda content: np.load(io.BytesIO(content), allow_pickle=True),
    ),
    "npz of objects": Bait(
        lambda mark: _saved(lambda file: np.savez(file, data=_objects(mark), labels=np.ones(1))),
        lambda content: np.load(io.BytesIO(content), allow_pickle=True)["data"],
    ),
    "npy header": Bait(_npy_header, lambda content: eval(content[10:])),
    "YAML": Bait(_yaml, _load_yaml),
    "Python": Bait(lambda mark: expression(mark).encode(), eval),
}


def baits(kinds: Sequence[str], files: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Each file with every kind, or with the next one in turn."""
    names = list(BAITS)
    for number, file in enumerate(files):
        for kind in kinds or [names[number % len(names)]]:
            yield kind, file


@contextlib.contextmanager
def planted(kind: str, file: Path, mark: Path) -> Iterator[None]:
    """Bait in the place of a file; afterwards nothing has fired, and what lies there would."""
    before = file.read_bytes() if file.exists() else None
    file.write_bytes(BAITS[kind].make(mark))
    yield
    assert not mark.exists(), f"{kind} was executed from {file.name}"
    check_live(kind, file.read_bytes(), mark)
    file.unlink()
    if before is not None:
        file.write_bytes(before)


def check_live(kind: str, bait: bytes, mark: Path) -> None:
    """The bytes do leave their mark when they are executed on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        BAITS[kind].fire(bait)
    mark.rmdir()


def is_refused(call: Callable[..., object], *arguments: Any) -> bool:
    """Whether a call ends as bad input or damage does; any other error is not caught."""
    try:
        call(*arguments)
    except (InputError, DamageError, IncompleteError):
        return True
    return False
