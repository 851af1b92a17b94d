"""Scores of vectors, block by block: queries, a gallery, and the product of each two blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from eegstore.errors import InputError, UsageError

if TYPE_CHECKING:
    import torch

Metric = Literal["cosine", "dot"]

# Rows of the queries and of the gallery in one product.
BLOCK_ROWS: Final = {"cpu": (1024, 32768), "cuda": (4096, 65536)}
BLOCK_VALUES: Final = 1 << 24  # of a block of the gallery: wide rows come fewer at a time
GROUP: Final = 64  # scores come in whole groups
SHORTEST: Final = 2.0**-100  # shorter vectors count as zeros: dividing by their length loses digits
LARGEST: Final = float(np.finfo(np.float32).max)


class Rows(Protocol):
    """Vectors by slices of rows: an array, a memory map, a ``StoredColumn``."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


@dataclass(frozen=True)
class Block:
    """Rows that were read, and what the product takes of them."""

    start: int
    rows: torch.Tensor  # float32, (row, feature)
    norms: torch.Tensor  # float64, (row,): 1 for the plain product, and for zeros
    lengths: torch.Tensor  # float64, (row,): of the vectors in ``unit``
    unit: torch.Tensor  # float32, (row, feature): divided by the norms

    @property
    def stop(self) -> int:
        """The row after the last."""
        return self.start + len(self.rows)


class Products:
    """Queries and a gallery, read block by block, and the products of their blocks."""

    def __init__(
        self, queries: Rows, gallery: Rows, metric: str, device: str, block_rows: int | None
    ) -> None:
        if metric not in get_args(Metric):
            raise UsageError(f"metric is {metric!r}; it is one of {', '.join(get_args(Metric))}")
        if block_rows is not None and block_rows < 1:
            raise UsageError(f"block_rows is {block_rows}; it is 1 or more")
        check_torch()
        self.sides = {"queries": queries, "gallery": gallery}
        self.metric = metric
        self.device = _device(device)
        self.width = _width("gallery", gallery)
        if len(queries) and (width := _width("queries", queries)) != self.width:
            raise InputError(
                f"queries have {width} features and the gallery {self.width}; they are compared "
                "one by one"
            )
        sizes = BLOCK_ROWS.get(self.device.type, BLOCK_ROWS["cpu"])
        fitting = max(1024, BLOCK_VALUES // max(self.width, 1))
        most = min(fitting, block_rows or fitting)
        self.sizes = {"queries": min(sizes[0], most), "gallery": min(sizes[1], most)}

    def blocks(self, side: str) -> Iterator[Block]:
        """One side from the first row to the last."""
        for start in range(0, len(self.sides[side]), self.sizes[side]):
            yield self.block(side, start)

    def block(self, side: str, start: int) -> Block:
        """The block that starts at a row."""
        import torch

        values = _values(side, self.sides[side][start : start + self.sizes[side]])
        rows = torch.from_numpy(values).to(self.device)
        norms = _norms(rows)
        _check_finite(side, start, norms)
        if self.metric == "dot":
            return Block(start, rows, torch.ones_like(norms), norms, rows)
        long = norms >= SHORTEST
        if not long.all():
            rows, norms = rows.where(long[:, None], 0), norms.where(long, 1)
        unit = rows / norms[:, None].to(torch.float32)
        return Block(start, rows, norms, long.to(torch.float64), unit)

    def scores(self) -> Iterator[tuple[Block, Block, torch.Tensor]]:
        """Each block of queries, of the gallery, and float32 (query, row): their scores.

        The scores are overwritten by the next. They are filled up to whole groups with -inf.
        """
        import torch

        buffer = torch.empty(0, dtype=torch.float32, device=self.device)
        for block in self.blocks("gallery"):
            n_rows, missing = len(block.rows), -len(block.rows) % GROUP
            padded = (
                torch.nn.functional.pad(block.unit, (0, 0, 0, missing)) if missing else block.unit
            )
            for query in self.blocks("queries"):
                self._check_range(query, block)
                shape = (len(query.rows), len(padded))
                if buffer.numel() < math.prod(shape):
                    buffer = torch.empty(math.prod(shape), device=self.device)
                scores = buffer[: math.prod(shape)].view(shape)
                torch.mm(query.unit, padded.T, out=scores)
                scores[:, n_rows:] = -torch.inf
                yield query, block, scores

    def _check_range(self, query: Block, block: Block) -> None:
        """Refuse plain products that single precision cannot hold."""
        if self.metric == "cosine":
            return
        if float(query.lengths.max()) * float(block.lengths.max()) > LARGEST:
            raise InputError("the products are too large for single precision; scale the vectors")


def check_torch() -> None:
    """Refuse to go on without torch."""
    try:
        import torch  # noqa: F401
    except ImportError:
        raise InputError("retrieval needs torch; run: pip install 'eegstore[train]'") from None


def _device(name: str) -> torch.device:
    """The device of this name, where torch can use it."""
    import torch

    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r}: {str(error).splitlines()[0]}") from None
    return device


def _values(side: str, rows: Any) -> NDArray[np.float32]:
    """float32, (row, feature), that torch may write to."""
    values = np.asarray(rows)
    if values.ndim < 2 or values.dtype.kind not in "fiub":
        raise InputError(
            f"{side}: takes numbers, (row, feature), not {values.dtype} of shape {values.shape}"
        )
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        values = np.ascontiguousarray(values, np.float32)
    values = values.reshape(len(values), math.prod(values.shape[1:]))
    return values if values.flags.writeable else values.copy()


def _width(side: str, rows: Rows) -> int:
    """Features of a row."""
    width: int = _values(side, rows[0:1]).shape[1]
    return width


def _norms(rows: torch.Tensor) -> torch.Tensor:
    """float64, (row,): lengths; a part at a time, as torch converts what it is given first."""
    import torch

    norms = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    for start in range(0, len(rows), 512):
        part = slice(start, start + 512)
        norms[part] = torch.linalg.vector_norm(rows[part], dim=1, dtype=torch.float64)
    return norms


def _check_finite(side: str, start: int, norms: torch.Tensor) -> None:
    if not norms.isfinite().all():
        row = start + int((~norms.isfinite()).nonzero()[0, 0])
        raise InputError(f"{side}: row {row} is not finite in single precision; leave it out")


def exact(query: Block, block: Block, pairs: torch.Tensor) -> torch.Tensor:
    """float64, (pair,): scores in double precision of pairs (2, pair) of query and row."""
    import torch

    size = max(1, BLOCK_VALUES // 8 // max(query.rows.shape[1], 1))
    parts = []
    for start in range(0, pairs.shape[1], size):
        which, columns = pairs[:, start : start + size]
        products = query.rows[which].to(torch.float64) * block.rows[columns]
        parts.append(products.sum(1) / (query.norms[which] * block.norms[columns]))
    return torch.cat(parts)
