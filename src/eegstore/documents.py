"""The Zarr documents of a store, made in memory."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec, BytesBytesCodec
from zarr.buffer import cpu
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ZstdCodec
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from eegstore.arrays import narrow_content
from eegstore.attributes import DOCUMENT, StoreAttributes, document_bytes, sealed
from eegstore.shards import Layout, fill_value


def _codecs(layout: Layout) -> tuple[ArrayBytesCodec, list[BytesBytesCodec]]:
    """Serializer and compressors of an inner chunk, as ``shards`` encodes it."""
    # Of one-byte elements the byte order is not defined.
    plain = BytesCodec(endian="little" if np.dtype(layout.dtype).itemsize > 1 else None)
    if layout.codec == "fast":
        size = np.dtype(layout.dtype).itemsize
        return plain, [BloscCodec(typesize=size, **layout.options)]
    if layout.codec == "small":
        return plain, [ZstdCodec(checksum=False, **layout.options)]
    if layout.codec == "archive":
        from zarr.codecs.numcodecs import PCodec

        return PCodec(**layout.options), []
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
        with warnings.catch_warnings():
            # pcodec has no Zarr v3 specification yet; the profile's documentation says so.
            warnings.simplefilter("ignore", ZarrUserWarning)
            serializer, compressors = _codecs(layout)
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
        """An array of one chunk, whose content it returns."""
        text = values.dtype.kind == "U"
        zarr.create_array(
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
        )
        return narrow_content(values)

    def files(self) -> dict[str, bytes]:
        """Path to bytes of every document but the root's: arrays first, then their groups."""
        return {path: document_bytes(document) for path, document in self._parsed().items()}

    def _parsed(self) -> dict[str, dict[str, Any]]:
        paths = [path for path in self._buffers if path != DOCUMENT]
        deepest_first = sorted(paths, key=lambda path: (-path.count("/"), path))
        return {path: json.loads(self._buffers[path].to_bytes()) for path in deepest_first}

    def sealed_root(self, attributes: StoreAttributes) -> bytes:
        """The root's document, consolidated and sealed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)
            zarr.consolidate_metadata(self._memory)
        root = json.loads(self._buffers[DOCUMENT].to_bytes())
        root["attributes"] = {"eegstore": attributes.model_dump(mode="json")}
        # A kept document is what an earlier Zarr wrote: this one would write it in its own way.
        consolidated = root["consolidated_metadata"]["metadata"]
        for path, document in self._parsed().items():
            if document["node_type"] == "array":
                consolidated[path.removesuffix(f"/{DOCUMENT}")] = document
        blank = json.dumps(root, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return sealed(blank, self.files())
