"""What the root document of a store records, and the seal over all documents."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer
from pydantic.json_schema import GenerateJsonSchema

from eegstore.disk import digest_bytes, digest_json
from eegstore.tables import Table

FORMAT: Final = 2
VERSION: Final = importlib.metadata.version("eegstore")
DOCUMENT: Final = "zarr.json"
ROW_DIMENSION: Final[dict[Table, str]] = {"trials": "trial", "stimuli": "stimulus"}
DIGEST_BYTES: Final = 32
SHARD_RECORD_BYTES: Final = 40
NO_SEAL: Final = "0" * 64  # what the seal is computed over in its own place
MODEL = ConfigDict(extra="forbid", frozen=True)


class ColumnEntry(BaseModel):
    """A committed array."""

    model_config = MODEL

    table: Table
    # Never a path: what a store names may be deleted, and lies inside of it.
    name: str = Field(pattern=r"^[^./\\][^/\\]*$")
    kind: Literal["wide", "narrow", "coordinate", "state"] = Field(
        description="A state is what an extractor was fitted to, as the bytes of an .npz file."
    )
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
    of: Table = Field(description="The table whose rows it went through.")
    seconds: float = Field(description="Of all workers together.")
    rows: int
    bytes: int


class HistoryEntry(BaseModel):
    """What one build did, or what an evaluation found."""

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
    mended: list[str] = Field(default=[], description="Damaged files that were made again.")
    counts: dict[str, int]
    skipped: list[str] = Field(description="Events that allow_skips left out, a line each.")
    stages: list[StageEntry]
    evaluation: dict[str, Any] | None = Field(
        default=None,
        description="What 'eegstore evaluate --record' found; a build has none.",
    )

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A build's entry is as it was before there were evaluations."""
        values: dict[str, Any] = handler(self)
        if values.get("evaluation") is None:
            values.pop("evaluation", None)
        return values


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


def shard_record(size: int, digest: str) -> bytes:
    """A shard's row in ``digests``: its SHA-256, then its size as a little-endian uint64."""
    return bytes.fromhex(digest) + size.to_bytes(SHARD_RECORD_BYTES - DIGEST_BYTES, "little")


def read_shard_record(record: bytes) -> tuple[int, str]:
    """Size and SHA-256 of a shard, from its row in ``digests``."""
    return int.from_bytes(record[DIGEST_BYTES:], "little"), record[:DIGEST_BYTES].hex()


def store_digest(columns: list[ColumnEntry]) -> str:
    """The digest of a store's content: the same for any number of workers and interruptions."""
    return digest_json(sorted([entry.path, entry.digest] for entry in columns))


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """The file of a Zarr document, as every document but the root's is written.

    It follows from what the root's consolidated metadata hold of it (a group's own, empty,
    consolidated metadata aside), so that a document that was lost can be told and made again.
    """
    facts = {key: value for key, value in document.items() if key != "consolidated_metadata"}
    return json.dumps(facts, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _seal(blank_root: bytes, documents: Mapping[str, bytes]) -> str:
    """Digest of the root's document, its seal blank, and of every other document."""
    others = {path: digest_bytes(content) for path, content in documents.items()}
    return digest_json([digest_bytes(blank_root), others])


def _sealing(seal: str) -> bytes:
    """The key and its value, which no string inside the document can look like."""
    return f'"seal": "{seal}"'.encode()


def sealed(blank_root: bytes, documents: Mapping[str, bytes]) -> bytes:
    """The root's document with its seal."""
    seal = _seal(blank_root, documents)
    return blank_root.replace(_sealing(NO_SEAL), _sealing(seal), 1)


def is_sealed(root: bytes, seal: str, documents: Mapping[str, bytes]) -> bool:
    """Whether the root's document is the one that was sealed, together with the others."""
    blank = root.replace(_sealing(seal), _sealing(NO_SEAL), 1)
    return blank != root and _seal(blank, documents) == seal


def schema() -> dict[str, Any]:
    """JSON Schema of the root's attribute ``eegstore``."""
    return {"$schema": GenerateJsonSchema.schema_dialect, **StoreAttributes.model_json_schema()}
