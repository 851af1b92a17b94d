"""What ``top_k`` and ``ranks`` cost next to the bare product of the same blocks, and to faiss.

    python tests/benchmarks/bench_retrieval.py [--quick]

The 10 best of a gallery of 65,000 vectors of 512 numbers, for 8,192 queries (``--quick``: 4,096).
The bare product is ``torch.mm`` of blocks of the same shape into one buffer, of vectors that are
normalised already. The sides take turns, and the ratios are medians of those of each round.
faiss is left out where it is not installed (``pip install faiss-cpu``).

Then one query alone, as ``eegstore search`` asks it, of a gallery that is held in memory: next to
the bare product of one vector, and to faiss' exact search of one. And ``standing``, by which
``eegstore evaluate`` ranks the whole gallery and permutes, next to the bare product in double
precision.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from rounds import Row, in_turn, seconds

from eegstore.products import BLOCK_ROWS
from eegstore.resampling import shuffles
from eegstore.retrieval import ranks, top_k
from eegstore.search import Gallery
from eegstore.standings import standing

N_GALLERY, WIDTH, K = 65_000, 512, 10


def vectors(n_queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Queries and a gallery; a query is like the row of its number, among much noise."""
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(N_GALLERY, WIDTH)).astype(np.float32)
    noise = rng.normal(size=(n_queries, WIDTH)).astype(np.float32)
    return 0.3 * gallery[:n_queries] + noise, gallery


def multiply(queries: torch.Tensor, gallery: torch.Tensor) -> None:
    """The bare product, of the blocks that ``top_k`` takes."""
    n_rows, n_columns = BLOCK_ROWS["cpu"]
    buffer = torch.empty(n_rows * n_columns)
    for block in gallery.split(n_columns):
        for part in queries.split(n_rows):
            shape = (len(part), len(block))
            torch.mm(part, block.T, out=buffer[: shape[0] * shape[1]].view(shape))


def searcher(gallery: np.ndarray) -> Callable[[np.ndarray], object] | None:
    """A search by faiss in as many threads, or none."""
    try:
        import faiss
    except ImportError:
        print("faiss is not installed; it is left out")
        return None
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(WIDTH)
    index.add(gallery)
    return lambda queries: index.search(queries, K)


def ratio(times: dict[str, list[float]], of: str, to: str) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(times[of], times[to], strict=True))


def rows(quick: bool) -> list[Row]:
    """What is compared, the measured ratio, and its limit."""
    n_queries, n_rounds = (4_096, 5) if quick else (8_192, 7)
    queries, gallery = vectors(n_queries)
    unit: list[Any] = [
        torch.nn.functional.normalize(torch.from_numpy(v)) for v in (queries, gallery)
    ]
    targets = np.arange(n_queries)
    ways: dict[str, Callable[[], object]] = {
        "product": lambda: multiply(*unit),
        "top_k": lambda: top_k(queries, gallery, K),
        "ranks": lambda: ranks(queries, gallery, targets),
    }
    if search := searcher(unit[1].numpy()):
        ways["faiss"] = lambda: search(unit[0].numpy())
    taken_by_each = in_turn([partial(seconds, way) for way in ways.values()], n_rounds)
    times = dict(zip(ways, taken_by_each, strict=True))
    for name, taken in times.items():
        print(f"{name}: {' '.join(f'{value:.2f}' for value in taken)} s")
    found = [
        Row("top_k to the bare product of its blocks", ratio(times, "top_k", "product"), "<= 1.15"),
        Row("ranks to the bare product of its blocks", ratio(times, "ranks", "product"), "<= 1.5"),
    ]
    if search:
        most = ratio(times, "faiss", "product")
        found.append(
            Row("faiss IndexFlatIP to top_k", ratio(times, "faiss", "top_k"), ">= 3", most)
        )
    return found


def single() -> list[Row]:
    """One query of a gallery in memory: milliseconds, and ratios of the rounds."""
    queries, vectors_ = vectors(64)
    unit = vectors_ / np.linalg.norm(vectors_, axis=1, keepdims=True)
    gallery = Gallery.__new__(Gallery)
    gallery._unit, gallery.items = unit, np.arange(N_GALLERY)
    gallery._concepts = gallery._paths = np.full(N_GALLERY, "")
    asked = [query / np.linalg.norm(query) for query in queries]
    ways: dict[str, Callable[[np.ndarray], object]] = {
        "product of one": lambda query: unit @ query,
        "search": lambda query: gallery.nearest(query, K),
    }
    if search := searcher(unit):
        ways["faiss of one"] = lambda query: search(query[None])
    times: dict[str, list[float]] = {name: [] for name in ways}
    for query in asked:
        for name, way in ways.items():
            times[name].append(seconds(lambda way=way, query=query: way(query)))
    for name, taken in times.items():
        print(f"{name}: median {1000 * statistics.median(taken):.1f} ms")
    return [Row("search to the bare product of one", ratio(times, "search", "product of one"), "")]


def ranked() -> list[Row]:
    """The pass of ``evaluate``, with 1,000 permutations, to the product in double precision."""
    n, width = 8_192, WIDTH
    rng = np.random.default_rng(1)
    queries, gallery = (rng.normal(size=(n, width)).astype(np.float32) for _ in range(2))
    rows = np.arange(n)
    asked: Any = SimpleNamespace(
        queries=queries, gallery=gallery, right=rows[:, None], item_class=rows, group=rows,
        group_class=rows,
    )  # fmt: skip
    shuffled = shuffles(n, 1000, rng)
    exact = [torch.from_numpy(one).double() for one in (queries, gallery)]
    ways: dict[str, Callable[[], object]] = {
        "product in double": lambda: [part @ exact[1].T for part in exact[0].split(256)],
        "standing": lambda: standing(asked, shuffled, (2, 10, 200)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for name, way in ways.items():
            times[name].append(seconds(way))
    for name, taken in times.items():
        print(f"{name}, {n:,} x {n:,}: {' '.join(f'{value:.2f}' for value in taken)} s")
    many = ratio(times, "standing", "product in double")
    return [Row("standing with 1,000 permutations to the product in double", many, "")]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    print(f"{torch.get_num_threads()} threads")
    for name, measured, limit, most in rows(parser.parse_args().quick):
        print(f"{name}: {measured:.3f} ({limit}; bound {most:.3f})")
    for name, measured, *_ in [*single(), *ranked()]:
        print(f"{name}: {measured:.2f}")


if __name__ == "__main__":
    main()
