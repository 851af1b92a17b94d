"""The peers that stream samples to a ``DataLoader``: LitData, MosaicML, WebDataset, TorchEEG.

Each sample is the EEG, an embedding and a label. LitData and MosaicML also give a sample by its
number; WebDataset does not.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import types
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import BATCH, Fields, Peer
from torch.utils.data import DataLoader

SHARD_BYTES = 1 << 26


class Stream(Peer):
    """Samples by their number, one after another."""

    samples: Any

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack([self.samples[row]["eeg"] for row in rows.tolist()]))

    def fields(self) -> Iterator[Fields]:
        """The samples to write, as dictionaries of numpy values."""
        for _, eeg, clip, labels in self.blocks():
            for sample in zip(eeg, clip, labels.tolist(), strict=True):
                yield dict(zip(("eeg", "clip", "label"), sample, strict=True))


class LitData(Stream):
    """LitData: samples of numpy arrays in chunks of 64 MB, no worker."""

    name, distribution, modules = "LitData", "litdata", ("litdata",)

    def write(self, folder: Path) -> None:
        from litdata.streaming import Cache

        cache = Cache(str(folder / "trials"), chunk_bytes=SHARD_BYTES)
        for number, sample in enumerate(self.fields()):
            cache[number] = sample
        cache.done()
        cache.merge()

    def open(self) -> None:
        from litdata import StreamingDataset

        self.samples = StreamingDataset(str(self.path / "trials"))

    def epoch(self) -> Iterator[Fields]:
        from litdata import StreamingDataLoader, StreamingDataset

        samples = StreamingDataset(str(self.path / "trials"), shuffle=True, drop_last=False)
        return iter(StreamingDataLoader(samples, batch_size=BATCH, shuffle=True, num_workers=0))


class Mosaic(Stream):
    """MosaicML streaming: MDS shards of 64 MB, shuffled as py1s, no worker."""

    name, distribution, modules = "MosaicML", "mosaicml-streaming", ("streaming",)

    def __init__(self, material: Any) -> None:
        with_torchvision()
        super().__init__(material)

    def write(self, folder: Path) -> None:
        from streaming import MDSWriter

        n_channels, n_times = self.material.eeg.shape[1:]
        columns = {
            "eeg": f"ndarray:float32:{n_channels},{n_times}",
            "clip": f"ndarray:float32:{self.material.embeddings.shape[1]}",
            "label": "int",
        }
        with MDSWriter(out=str(folder / "trials"), columns=columns, size_limit=SHARD_BYTES) as to:
            for sample in self.fields():
                to.write(sample)

    def open(self) -> None:
        from streaming import LocalDataset

        self.samples = LocalDataset(local=str(self.path / "trials"))

    def epoch(self) -> Iterator[Fields]:
        return iter(DataLoader(self._dataset, batch_size=BATCH, num_workers=0))

    @property
    def _dataset(self) -> Any:
        from streaming import StreamingDataset
        from streaming.base.util import clean_stale_shared_memory

        clean_stale_shared_memory()
        return StreamingDataset(
            local=str(self.path / "trials"), shuffle=True, batch_size=BATCH, num_canonical_nodes=1
        )


def with_torchvision() -> None:
    """Stand-ins for torchvision where its build is not torch's: for data sets of images alone."""
    try:
        import torchvision  # noqa: F401
    except Exception:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        names = ("torchvision", "torchvision.datasets", "torchvision.transforms")
        for name in (*names, "torchvision.transforms.functional"):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__spec__ = ModuleSpec(name, None)
        sys.modules["torchvision.datasets"].VisionDataset = object
        sys.modules["torchvision.transforms.functional"].to_tensor = None


class WebDataset(Peer):
    """WebDataset: tar files of 64 MB of raw bytes, a shuffle buffer of 4,096 samples."""

    name, distribution, modules = "WebDataset", "webdataset", ("webdataset",)

    def write(self, folder: Path) -> None:
        import webdataset

        pattern = str(folder / "trials-%06d.tar")
        with (
            contextlib.redirect_stdout(None),
            webdataset.ShardWriter(
                pattern, maxsize=SHARD_BYTES, maxcount=1 << 30, verbose=0
            ) as writer,
        ):
            for start, eeg, clip, labels in self.blocks():
                for number in range(len(eeg)):
                    writer.write({
                        "__key__": f"{start + number:09d}",
                        "eeg": eeg[number].tobytes(),
                        "clip": clip[number].tobytes(),
                        "cls": str(labels[number]),
                    })  # fmt: skip

    def open(self) -> None:
        self._shards = sorted(map(str, self.path.glob("*.tar")))

    def epoch(self) -> Iterator[Fields]:
        import webdataset

        samples = webdataset.WebDataset(self._shards, shardshuffle=100, empty_check=False)
        batches = samples.shuffle(4096).map(self._decoded).batched(BATCH, collation_fn=self._batch)
        return iter(webdataset.WebLoader(batches, batch_size=None, num_workers=0))

    def _decoded(self, sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, int]:
        eeg = np.frombuffer(sample["eeg"], np.float32).reshape(self.material.eeg.shape[1:])
        return eeg, np.frombuffer(sample["clip"], np.float32), int(sample["cls"])

    def _batch(self, samples: list[Any]) -> Fields:
        eeg, clip, labels = zip(*samples, strict=True)
        return {
            "eeg": torch.from_numpy(np.stack(eeg)),
            "clip": torch.from_numpy(np.stack(clip)),
            "label": torch.tensor(labels),
        }


class TorchEeg(Stream):
    """TorchEEG: its LMDB of pickles, a base data set of its own; embeddings are in memory."""

    name, distribution, modules = "TorchEEG", "torcheeg", ("torcheeg.datasets", "lmdb")

    def write(self, folder: Path) -> None:
        """As its ``LMDBEEGSignalIO`` does, but for one sync a trial."""
        import lmdb
        import pandas

        record = folder / "trials" / "_record_0"
        (record / "eeg").mkdir(parents=True)
        size = 2 * self.material.eeg.nbytes + (1 << 26)
        with lmdb.open(str(record / "eeg"), map_size=size) as env, env.begin(write=True) as to:
            for number, sample in enumerate(self.fields()):
                to.put(str(number).encode(), pickle.dumps(sample["eeg"]))
        names = [str(number) for number in range(len(self.material.eeg))]
        info = pandas.DataFrame({"clip_id": names, "label": self.material.labels})
        info.to_csv(record / "info.csv", index=False)

    def open(self) -> None:
        import logging

        from torcheeg.datasets.module.base_dataset import BaseDataset

        logging.getLogger("torcheeg").setLevel(logging.ERROR)
        embeddings = self.material.embeddings

        class Trials(BaseDataset):
            def __getitem__(self, row: int) -> Fields:
                eeg, info = super().__getitem__(row)
                label = info["label"]
                return {
                    "eeg": torch.from_numpy(eeg),
                    "clip": torch.from_numpy(embeddings[label]),
                    "label": label,
                }

        size = 2 * self.material.eeg.nbytes + (1 << 26)
        self.samples: Any = Trials(io_path=str(self.path / "trials"), io_size=size, verbose=False)

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        return torch.stack([self.samples[row]["eeg"] for row in rows.tolist()])

    def epoch(self) -> Iterator[Fields]:
        return iter(DataLoader(self.samples, batch_size=BATCH, shuffle=True, num_workers=0))


STREAMS = (LitData, Mosaic, WebDataset, TorchEeg)
