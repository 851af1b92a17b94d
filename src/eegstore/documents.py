"""The metadata of a store: what its root records, its Zarr documents, and the seal over them."""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from zarr.abc.codec import ArrayBytesCodec, BytesBytesCodec
from zarr.buffer import cpu
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ZstdCodec
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from eegstore.disk import digest_bytes, digest_json
from eegstore.shards import Layout, fill_value
from eegstore.tables import Table

FORMAT: Final = 1
VERSION: Final = importlib.metadata.version("eegstore")
DOCUMENT: Final = "zarr.json"
ROW_DIMENSION: Final[dict[Table, str]] = {"trials": "trial", "stimuli": "stimulus"}
MODEL = ConfigDict(extra="forbid", frozen=True)


class ColumnEntry(BaseModel):
    """A committed array."""

    model_config = MODEL

    table: Table
    name: str
    kind: Literal["wide", "narrow", "coordinate"]
    key: str = Field(description="Digest of all that the values follow from.")
    digest: str = Field(description="SHA-256 of the values as they are stored.")
    shape: list[int]
    dtype: str

    @property
    def path(self) -> str:
        """Path of the array in the store."""
        return f"{self.table}/{self.name}"


class StageEntry(BaseModel):
    """What one stage of a build did."""

    model_config = MODEL

    name: str
    seconds: float = Field(description="Of all workers together.")
    rows: int
    bytes: int


class HistoryEntry(BaseModel):
    """What one build did."""

    model_config = MODEL

    started: str = Field(description="ISO 8601, UTC.")
    seconds: float
    eegstore: str = Field(description="Version that ran.")
    libraries: dict[str, str]
    folder: str = Field(description="Where the recipe's relative paths started from.")
    executor: str
    n_workers: int
    computed: list[str]
    reused: list[str]
    dropped: list[str]
    counts: dict[str, int]
    skipped: list[str] = Field(description="Events that allow_skips left out, a line each.")
    stages: list[StageEntry]


class StoreAttributes(BaseModel):
    """All that the root document records, under the attribute ``eegstore``."""

    model_config = MODEL

    format: int = Field(description="Version of the store's format.")
    version: str = Field(description="Version of eegstore that wrote it.")
    name: str
    notice: str = Field(description="A sentence that every output repeats; empty as a rule.")
    recipe: dict[str, Any]
    columns: list[ColumnEntry]
    history: list[HistoryEntry]
    digest: str = Field(description="SHA-256 over the columns' digests: the store's content.")
    seal: str = Field(description="SHA-256 over every metadata document, this one included.")


def store_digest(columns: list[ColumnEntry]) -> str:
    """The digest of a store's content: the same for any number of workers and interruptions."""
    return digest_json(sorted([entry.path, entry.digest] for entry in columns))


def _codecs(layout: Layout) -> tuple[ArrayBytesCodec, list[BytesBytesCodec]]:
    """Serializer and compressors of an inner chunk, as ``shards`` encodes it."""
    # Of one-byte elements the byte order is not defined.
    plain = BytesCodec(endian="little" if np.dtype(layout.dtype).itemsize > 1 else None)
    if layout.codec == "fast":
        size = np.dtype(layout.dtype).itemsize
        return plain, [BloscCodec(typesize=size, cname="lz4", clevel=5, shuffle="shuffle")]
    if layout.codec == "small":
        return plain, [ZstdCodec(level=3, checksum=False)]
    if layout.codec == "archive":
        from zarr.codecs.numcodecs import PCodec

        return PCodec(level=8), []
    return plain, []


class Documents:
    """Zarr documents in memory, in the order in which they must reach the disk."""

    def __init__(self) -> None:
        self._buffers: dict[str, Any] = {}
        self._memory = MemoryStore(store_dict=self._buffers)
        zarr.create_group(self._memory)

    def add_group(self, path: str) -> None:
        """A group."""
        zarr.create_group(self._memory, path=path)

    def add_copy(self, path: str, content: bytes) -> None:
        """A document as it is already on the disk."""
        self._buffers[f"{path}/{DOCUMENT}"] = cpu.Buffer.from_bytes(content)

    def add_wide(
        self, path: str, layout: Layout, dims: tuple[str, ...], attributes: Mapping[str, Any]
    ) -> None:
        """A sharded array; its shards are written by tasks."""
        serializer, compressors = _codecs(layout)
        with warnings.catch_warnings():
            # pcodec has no Zarr v3 specification yet; the profile's documentation says so.
            warnings.simplefilter("ignore")
            zarr.create_array(
                self._memory,
                name=path,
                shape=(layout.n_rows, *layout.row_shape),
                chunks=layout.chunk_shape,
                shards=(layout.shard_rows, *layout.row_shape),
                dtype=layout.dtype,
                fill_value=fill_value(layout.dtype),
                serializer=serializer,
                compressors=[*compressors, Crc32cCodec()],
                filters=None,
                dimension_names=dims,
                attributes=dict(attributes),
            )

    def add_narrow(
        self, path: str, values: NDArray[Any], dims: tuple[str, ...], attributes: Mapping[str, Any]
    ) -> bytes:
        """An array of one chunk, whose bytes it returns."""
        text = values.dtype.kind == "U"
        array = zarr.create_array(
            self._memory,
            name=path,
            shape=values.shape,
            chunks=values.shape,
            dtype=str if text else values.dtype,
            fill_value="" if text else fill_value(values.dtype.str),
            compressors=[Crc32cCodec()],
            filters=None,
            dimension_names=dims,
            attributes=dict(attributes),
            config={"write_empty_chunks": True},
        )
        array[...] = values.astype(object) if text else values
        chunk = "/".join([path, "c", *["0"] * values.ndim])
        content: bytes = self._buffers.pop(chunk).to_bytes()
        return content

    def files(self) -> dict[str, bytes]:
        """Path to bytes of every document but the root's: arrays first, then their groups."""
        paths = [path for path in self._buffers if path != DOCUMENT]
        deepest_first = sorted(paths, key=lambda path: (-path.count("/"), path))
        return {path: self._buffers[path].to_bytes() for path in deepest_first}

    def sealed_root(self, attributes: StoreAttributes) -> bytes:
        """The root's document, consolidated and sealed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)
            zarr.consolidate_metadata(self._memory)
        root = json.loads(self._buffers[DOCUMENT].to_bytes())
        root["attributes"] = {"eegstore": attributes.model_dump(mode="json") | {"seal": ""}}
        blank = json.dumps(root, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")
        seal = compute_seal(blank, self.files().__getitem__, list(self.files()))
        return blank.replace(b'"seal": ""', f'"seal": "{seal}"'.encode(), 1)


def compute_seal(blank_root: bytes, read: Callable[[str], bytes], paths: list[str]) -> str:
    """Digest of the root's document (its seal blanked) and of every other document."""
    others = {path: digest_bytes(read(path)) for path in paths}
    return digest_json([digest_bytes(blank_root), others])


def blank_seal(root: bytes, seal: str) -> bytes:
    """The root's document as it was before it was sealed."""
    return root.replace(f'"seal": "{seal}"'.encode(), b'"seal": ""', 1)


def schema() -> dict[str, Any]:
    """JSON Schema of the root's attribute ``eegstore``."""
    return StoreAttributes.model_json_schema()
