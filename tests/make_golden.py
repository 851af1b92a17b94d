"""Makes the golden stores of the format that this eegstore writes.

    mkdir /golden && cd /golden && python …/tests/make_golden.py

Run it once, when a format is released. Move the folder ``format-N`` that it writes to
``tests/golden``, and what it prints to ``test_golden.py``. A store that is there is never made
again: it stands for those that users of that version have.
"""

from __future__ import annotations

import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import eegstore
from eegstore import Block, ColumnSpec, digest_bytes
from eegstore.attributes import FORMAT
from eegstore_plugins.hog import Hog
from eegstore_plugins.image_folder import ImageFolder
from eegstore_plugins.spectral import Spectral
from eegstore_plugins.temporal import Temporal
from every_kind import (
    CH_NAMES,
    IMAGES,
    INVALID,
    N_TIMES,
    N_TRIALS,
    PROFILES,
    SFREQ,
    build,
    given_columns,
    write_input,
)

VALID = np.arange(N_TRIALS) != INVALID
TIMES = np.arange(N_TIMES) / SFREQ - 0.1


def trials() -> dict[str, NDArray[Any]]:
    """The columns and coordinates of the trials, but for features."""
    given, paths = given_columns(), sorted(IMAGES)
    shown = [paths.index(key) if key else -1 for key in given["stimulus_key"].tolist()]
    stimulus = np.where(VALID, shown, -1)
    return {
        **given,
        "stimulus": stimulus,
        "score": np.where(stimulus < 0, np.nan, 1).astype(np.float32),
        "split": np.where(VALID, given["split"], "skipped"),
        "valid": VALID,
        "channel": np.array(CH_NAMES),
        "time": TIMES,
    }


def stimuli() -> dict[str, NDArray[Any]]:
    """The columns of the stimuli, but for features."""
    paths = sorted(IMAGES)
    concepts = [path.split("/")[0] for path in paths]
    return {
        "image_path": np.array(paths),
        "label": np.arange(len(paths)) // 2,
        "concept": np.array(concepts),
        "caption": np.array([f"Das ist {concept} 🦉" for concept in concepts]),
        "content_id": np.array([digest_bytes(Path("images", path).read_bytes()) for path in paths]),
    }


def features() -> Iterator[tuple[str, NDArray[Any]]]:
    """What the extractors give when they are called with the input itself."""
    given = given_columns()
    eeg = np.where(VALID[:, None, None], given["eeg"], np.float32(0))
    block = Block(
        {"eeg": eeg}, 0, N_TRIALS, n_valid=given["n_samples"], sfreq=SFREQ, times=TIMES,
        ch_names=CH_NAMES,
    )  # fmt: skip
    coords = {"channel": CH_NAMES, "time": TIMES}
    spec = ColumnSpec(
        ("channel", "time"), eeg.shape[1:], "float32", coords, "uV", attrs={"sfreq": SFREQ}
    )
    for plugin in (Spectral(), Temporal()):
        names = plugin.describe({"eeg": spec}).coords["feature"]
        yield f"trials/{plugin.name}_feature", np.array(names)
        values = plugin(block)
        values[~VALID] = np.nan
        yield f"trials/{plugin.name}", values
    images = ImageFolder(path=Path("images"))
    images.scan()
    shown = Block({"image": images.read(0, len(IMAGES))}, 0, len(IMAGES))
    yield "stimuli/gradients", Hog(size=16)(shown)


def pack(store: Path, archive: Path) -> None:
    """A store in one file; nothing of the machine is in it."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    with tarfile.open(archive, "w:xz", preset=9 | lzma.PRESET_EXTREME) as tar:
        tar.add(store, arcname=store.name, filter=plain)


def main() -> None:
    """Write a store of each codec profile, and the values that they all hold."""
    out = Path(f"format-{FORMAT}")
    out.mkdir()
    write_input(Path())
    tables = {"trials": trials(), "stimuli": stimuli()}
    values = {f"{table}/{name}": one for table in tables for name, one in tables[table].items()}
    np.savez_compressed(out / "values.npz", **(values | dict(features())))
    for profile in PROFILES:
        store = build(Path.cwd(), profile, executor="serial")
        pack(store, out / f"{profile}.tar.xz")
        print(f'    "{out}/{profile}.tar.xz": "{eegstore.open_store(store).digest}",')


if __name__ == "__main__":
    main()
