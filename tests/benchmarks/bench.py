"""All benchmarks, in one table: what was measured, the limit, and whether it held.

The bound is what the machine gives whoever programs it, measured in the same run: the bare copy of
the same trials, the bare decoding of the same chunks, the bare product. A row falls short where it
misses a limit that the bound does not; where the bound misses it too, the row is ``beyond``.

    python tests/benchmarks/bench.py [--quick] [--markdown] [--only read train]

``--quick`` takes about two minutes, with fewer trials and rounds; the whole needs 26 GB of disk,
and memory to cache it, for the files of all peers. Each part runs in a process of its own, in turn.
Ends with exit code 1 where a row falls short or a part fails.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import importlib.util
import math
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rounds import Row

PARTS = ("read", "train", "features", "clip", "learned", "retrieval", "write", "scale")
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # how torch's threads wait for one another
NOT_QUICK = ("scale",)
FOLDER_VARIABLE = "EEGSTORE_BENCH_FOLDER"
LIBRARIES = (
    "eegstore", "numpy", "torch", "zarr", "numcodecs", "h5py", "tensorstore", "zarrs", "pylance",
    "pyarrow", "datasets", "litdata", "mosaicml-streaming", "webdataset", "torcheeg", "lmdb", "mne",
    "mne-features", "scipy", "scikit-learn", "numba", "transformers", "faiss-cpu",
)  # fmt: skip


@dataclass
class Part:
    """What a part measured, what it has to say, how long it took."""

    name: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    failed: bool = False


def measure(name: str, quick: bool) -> Part:
    """Run a part; called in a process of its own."""
    warnings.simplefilter("ignore")  # those of the peers are theirs
    module = importlib.import_module(f"bench_{name}")
    rows = [Row(*row) for row in module.rows(quick)]
    return Part(name, rows, list(getattr(module, "NOTES", [])))


def run(name: str, quick: bool) -> Part:
    """A part, or why there is none."""
    if importlib.util.find_spec(f"bench_{name}") is None:
        return Part(name, notes=[f"bench_{name}.py is not there"])
    start = time.monotonic()
    try:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            part = pool.submit(measure, name, quick).result()
    except (Exception, SystemExit) as error:
        why = str(error).splitlines() or [""]
        part = Part(name, notes=[f"{name} failed: {type(error).__name__}: {why[0]}"], failed=True)
    part.seconds = time.monotonic() - start
    return part


def held(ratio: float, limit: str) -> bool:
    """Whether a figure keeps a limit such as ``>= 1.4``."""
    sign, value = limit.split()
    if math.isnan(ratio):
        return False
    return ratio >= float(value) if sign == ">=" else ratio <= float(value)


def verdict(row: Row) -> str:
    """``beyond``: what the machine itself gives falls short of the limit."""
    if held(row.ratio, row.limit):
        return "held"
    return "short" if math.isnan(row.most) or held(row.most, row.limit) else "beyond"


def figure(value: float) -> str:
    """Three digits."""
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table_of(parts: list[Part]) -> Table:
    """The rows for a terminal of 80 columns."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, width=80)
    table.add_column("measured")
    for name in ("ratio", "limit", "bound", ""):
        is_number = name in ("ratio", "bound")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for row in (row for part in parts for row in part.rows):
        said = verdict(row)
        said = f"[bold red]{said}[/]" if said == "short" else said
        table.add_row(row.what, figure(row.ratio), row.limit, figure(row.most), said)
    return table


def markdown_of(parts: list[Part]) -> str:
    """The rows for the README."""
    lines = ["| measured | ratio | limit | bound | |", "|---|---|---|---|---|"]
    for row in (row for part in parts for row in part.rows):
        said = verdict(row)
        said = f"**{said}**" if said == "short" else said
        cells = [row.what, figure(row.ratio), row.limit, figure(row.most), said]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    """Processor, cores this process may use, memory, threads of torch, system."""
    model = platform.processor() or platform.machine()
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cpus = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    set_to = [f"{name}={os.environ[name]}" for name in WAITING if name in os.environ]
    threads = " ".join([os.environ.get("OMP_NUM_THREADS", str(n_cpus)), "threads", *set_to])
    return (
        f"{model}, {n_cpus} cores, {memory:.0f} GiB, torch in {threads}; "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def company() -> list[str]:
    """What to say where others use the machine: threads that wait for one another suffer most."""
    load, n_cpus = os.getloadavg()[0], os.cpu_count() or 1
    if load < 0.5 * n_cpus:
        return []
    return [f"{load:.1f} processes ran before this on {n_cpus} cores: these figures tell little"]


def versions() -> str:
    """Of every library that is measured, and which are not installed."""
    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return ", ".join(found) + (f"; not installed: {', '.join(missing)}" if missing else "")


def _lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text().splitlines() if path.exists() else []


def measure_all(names: list[str], quick: bool) -> list[Part]:
    """All parts, in one folder that is removed in the end unless it was given."""
    given = os.environ.get(FOLDER_VARIABLE)
    folder = given or tempfile.mkdtemp(prefix="eegstore-bench-")
    os.environ[FOLDER_VARIABLE] = folder
    parts = []
    try:
        for name in names:
            print(f"{name} …", end=" ", file=sys.stderr, flush=True)
            parts.append(run(name, quick))
            print(f"{parts[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    finally:
        if not given:
            shutil.rmtree(folder, ignore_errors=True)
    return parts


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about two minutes in all")
    parser.add_argument("--markdown", action="store_true", help="for the README")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts")
    arguments = parser.parse_args()
    header = f"{machine()}\n{versions()}\n{datetime.date.today()}"
    busy = company()
    names = [name for name in arguments.only if not (arguments.quick and name in NOT_QUICK)]
    parts = measure_all(names, arguments.quick)
    notes = busy + [note for part in parts for note in part.notes]
    if arguments.markdown:
        print(markdown_of(parts), header, *notes, sep="\n\n")
    else:
        console = Console(width=80, highlight=False)
        console.print(table_of(parts))
        console.print(f"\n{header}", *notes, sep="\n", markup=False)
    said = [verdict(row) for part in parts for row in part.rows]
    failed = [part.name for part in parts if part.failed]
    n_short, n_beyond = said.count("short"), said.count("beyond")
    print(f"\n{n_short} rows short, {n_beyond} beyond this machine, {len(failed)} parts failed")
    return 1 if n_short or failed else 0


if __name__ == "__main__":
    sys.exit(main())
