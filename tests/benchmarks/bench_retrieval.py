"""What ``top_k`` and ``ranks`` cost next to the bare product of the same blocks, and to faiss.

    python tests/benchmarks/bench_retrieval.py [--quick]

The 10 best of a gallery of 65,000 vectors of 512 numbers, for 16,384 queries (``--quick``: 4,096).
The bare product is ``torch.mm`` of blocks of the same shape into one buffer, of vectors that are
normalised already. The sides take turns, and the ratios are medians of those of each round.
faiss is left out where it is not installed (``pip install faiss-cpu``).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rounds import Row

from eegstore.products import BLOCK_ROWS
from eegstore.retrieval import ranks, top_k

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


def searcher(queries: np.ndarray, gallery: np.ndarray) -> Callable[[], object] | None:
    """A search by faiss in as many threads, or none."""
    try:
        import faiss
    except ImportError:
        print("faiss is not installed; it is left out")
        return None
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(WIDTH)
    index.add(gallery)
    return lambda: index.search(queries, K)


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratio(times: dict[str, list[float]], of: str, to: str) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(times[of], times[to], strict=True))


def rows(quick: bool) -> list[Row]:
    """What is compared, the measured ratio, and its limit."""
    n_queries, n_rounds = (4_096, 5) if quick else (16_384, 3)
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
    if search := searcher(*(values.numpy() for values in unit)):
        ways["faiss"] = search
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n_rounds):
        for name, way in ways.items():
            times[name].append(seconds(way))
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


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    print(f"{torch.get_num_threads()} threads")
    for name, measured, limit, most in rows(parser.parse_args().quick):
        print(f"{name}: {measured:.3f} ({limit}; bound {most:.3f})")


if __name__ == "__main__":
    main()
