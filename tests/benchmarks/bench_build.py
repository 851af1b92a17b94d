"""What a build and an export cost next to plain file input and output of the same bytes.

    python tests/benchmarks/bench_build.py [--scale 4] [--folder DIR] [--keep]

Writes a folder of 51,900 + 12,975 trials × 14 × 256 float32 (times the scale) with ten JPEGs and
a small random CLIP, builds a store from it with spectral, temporal and CLIP columns in a process
of its own, exports the store to npy, and prints ratios against plain reads and writes, synced,
in the same run. Memory is anonymous plus shared, of all processes together.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny_clip import write_tiny_clip

SPLITS = {"train": 51_900, "test": 12_975}
SHAPE = (14, 256)
BLOCK = 1 << 22
RECIPE = """
name = "bench"
[source]
plugin = "npy"
path = "eeg"
sfreq = 128
units = "uV"
[stimuli]
plugin = "image-folder"
path = "images"
caption = "This picture is digit {concept}"
[pairing]
plugin = "label"
[[extract]]
plugin = "spectral"
[[extract]]
plugin = "temporal"
[[extract]]
plugin = "clip-image"
model = "MODEL"
[[extract]]
plugin = "clip-text"
model = "MODEL"
"""


def write_input(folder: Path, scale: int) -> None:
    """EEG quantised to 0.51 µV, labels, ten JPEGs, a small random CLIP, and the recipe."""
    from PIL import Image

    (folder / "eeg").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in SPLITS.items():
        n_trials = count * scale
        data = np.lib.format.open_memmap(
            folder / "eeg" / f"{split}_data.npy", "w+", "f4", (n_trials, *SHAPE)
        )
        for start in range(0, n_trials, 4096):
            block = rng.standard_normal((min(4096, n_trials - start), *SHAPE), dtype="f4")
            data[start : start + len(block)] = np.round(block * (20 / 0.51)) * np.float32(0.51)
        del data
        np.save(folder / "eeg" / f"{split}_labels.npy", np.arange(n_trials) % 10)
    (folder / "images").mkdir()
    for digit in range(10):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{digit}.jpg")
    model = write_tiny_clip(folder / "clip")
    (folder / "recipe.toml").write_text(RECIPE.replace("MODEL", str(model)))


def sizes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def plain_read(files: list[Path]) -> float:
    """Seconds to read files by plain file input."""
    buffer = bytearray(BLOCK)
    start = time.perf_counter()
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    return time.perf_counter() - start


def plain_write(file: Path, n_bytes: int) -> float:
    """Seconds to write and sync as many bytes by plain file output."""
    block = os.urandom(BLOCK)
    start = time.perf_counter()
    with file.open("wb", buffering=0) as stream:
        for offset in range(0, n_bytes, BLOCK):
            stream.write(block[: min(BLOCK, n_bytes - offset)])
        os.fsync(stream.fileno())
    seconds = time.perf_counter() - start
    file.unlink()
    return seconds


def plain_copy(source: Path, target: Path) -> float:
    """Seconds to copy a folder's files by plain reads and writes, each synced."""
    target.mkdir()
    buffer = memoryview(bytearray(BLOCK))
    start = time.perf_counter()
    for file in sorted(source.iterdir()):
        with (
            file.open("rb", buffering=0) as reader,
            (target / file.name).open("wb", buffering=0) as writer,
        ):
            while count := reader.readinto(buffer):
                writer.write(buffer[:count])
            os.fsync(writer.fileno())
    seconds = time.perf_counter() - start
    shutil.rmtree(target)
    return seconds


def anonymous(process: psutil.Process) -> int:
    """RssAnon + RssShmem of a process and its descendants, in bytes."""
    total = 0
    with contextlib.suppress(psutil.Error, OSError):
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error, OSError):
                for line in Path(f"/proc/{one.pid}/status").read_text().splitlines():
                    if line.startswith(("RssAnon", "RssShmem")):
                        total += int(line.split()[1]) * 1024
    return total


def run(*arguments: str) -> tuple[float, int, str]:
    """Seconds, peak memory and output of a command of eegstore."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "eegstore", *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        peak, watched = [0], psutil.Process(process.pid)

        def watch() -> None:
            while process.poll() is None:
                peak[0] = max(peak[0], anonymous(watched))
                time.sleep(0.02)

        watcher = threading.Thread(target=watch)
        watcher.start()
        output, _ = process.communicate()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"eegstore {' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - start, peak[0], output


def measure(folder: Path, scale: int) -> dict[str, Any]:
    """Build and export once; every figure of the run."""
    if not (folder / "recipe.toml").exists():
        write_input(folder, scale)
    store, exported = folder / "out.zarr", folder / "npy"
    for old in (store, exported):
        shutil.rmtree(old, ignore_errors=True)
    files = sorted((folder / "eeg").iterdir())
    plain_read(files)
    seconds, memory, output = run("build", str(folder / "recipe.toml"), str(store), "--json")
    floor = plain_read(files) + plain_write(folder / "plain", sizes(store))
    export_seconds, _, _ = run("export", str(store), str(exported), "--format", "npy", "--quiet")
    copy = plain_copy(exported, folder / "copy")
    stages = json.loads(output)["history"]["stages"]
    return {
        "trials": sum(SPLITS.values()) * scale,
        "input_GB": sizes(folder / "eeg") / 1e9,
        "store_GB": sizes(store) / 1e9,
        "build_s": seconds,
        "floor_s": floor,
        "build_ratio": seconds / floor,
        "memory_GB": memory / 1e9,
        "export_s": export_seconds,
        "copy_s": copy,
        "export_ratio": export_seconds / copy,
        "stages": ", ".join(
            f"{stage['name']} ({stage['of']}) {stage['seconds']:.1f}" for stage in stages
        ),
    }


COLUMNS = {
    "trials": "{trials:,}",
    "build": "{build_s:.1f} s",
    "plain read and write": "{floor_s:.1f} s",
    "ratio": "**{build_ratio:.1f}**",
    "peak memory": "{memory_GB:.2f} GB",
    "export": "{export_s:.1f} s",
    "plain copy": "{copy_s:.1f} s",
    "ratio ": "**{export_ratio:.2f}**",
}


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=int, nargs="*", default=[1], help="times the trials")
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    arguments = parser.parse_args()
    root = arguments.folder or Path(tempfile.mkdtemp(prefix="eegstore-bench-"))
    results = []
    try:
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
        for scale in arguments.scale:
            results.append(measure(root / f"x{scale}", scale))
            cells = [cell.format(**results[-1]) for cell in COLUMNS.values()]
            print(f"| {' | '.join(cells)} |", flush=True)
    finally:
        if not arguments.keep:
            shutil.rmtree(root, ignore_errors=True)
    print("\nSeconds of all workers together, by stage:")
    for result in results:
        print(f"- {result['trials']:,} trials: {result['stages']}")
    if len(results) > 1:
        growth = results[-1]["memory_GB"] / results[0]["memory_GB"]
        print(f"Memory at {arguments.scale[-1]} × the trials: {growth:.2f} × that of the first")


if __name__ == "__main__":
    main()
