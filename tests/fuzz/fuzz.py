"""Give the readers mutated bytes, guided by the code that they reach (atheris, libFuzzer).

    python tests/fuzz/fuzz.py --seconds 600

Each reader starts from its seeds and stops at a finding: an exception that is no refusal, a refusal
of several lines, values other than a naive parser's, more than 1 GiB, or more than 3 s. The bytes
are written among the seeds, which the tests replay: mend the reader, and keep the file.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path

try:
    import atheris
except ModuleNotFoundError:
    print("fuzzing skipped: atheris has no wheel for this machine")
    sys.exit()

INSTRUMENTED = ["eegstore", "eegstore_plugins", "tomllib"]
with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=INSTRUMENTED):
    from readers import READERS, SEEDS, registry

    os.environ["EEGSTORE_PLUGINS"] = ""
    registry.plugins()

ROOM_BYTES = 1 << 30
MEMORY = Path("/dev/shm")  # a disk takes longer to write an input than a reader to read it
OPTIONS = ("-timeout=20", "-max_len=4096", "-verbosity=0", "-print_final_stats=1")
EXECUTIONS = re.compile(r"^stat::number_of_executed_units: +(\d+)$", re.MULTILINE)
NOISE = re.compile(r'INFO: .*|WARNING: .*|stat::.*|#+ .*dictionary.*|".*" # Uses: .*')


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0, help="in all; 0 is without end")
    parser.add_argument("--runs", type=int, default=-1, help="inputs a reader; -1 is without end")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations; 0 is always another")
    parser.add_argument("--findings", type=Path, default=SEEDS, help="folder; the seeds by default")
    parser.add_argument("--reader", choices=READERS, help="this one alone, with libFuzzer's output")
    given = parser.parse_args(arguments)
    if given.reader:
        fuzz(given.reader, given.seconds, given.runs, given.seed, given.findings)
    common = ["--runs", str(given.runs), "--seed", str(given.seed), "--findings", given.findings]
    share = given.seconds / len(READERS)
    found = [outcome(name, [*common, "--seconds", str(share)]) for name in READERS]
    return 1 if any(found) else 0


def outcome(name: str, options: Sequence[str | Path]) -> bool:
    """Fuzz a reader in a process of its own, and print a line; whether there was a finding."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as work:
        command = [sys.executable, __file__, "--reader", name, *options]
        environment = os.environ | {"TMPDIR": work}
        ended = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
    log = ended.stdout.decode("utf-8", "replace")
    executions = sum(map(int, EXECUTIONS.findall(log)))
    seconds, found = time.monotonic() - start, ended.returncode != 0
    print(f"{name:12}{executions:12,} executions{seconds:7.0f} s{found:5} findings", flush=True)
    if found:
        print(*(line[:200] for line in log.splitlines() if not NOISE.fullmatch(line)), sep="\n")
    return found


def fuzz(name: str, seconds: float, runs: int, seed: int, findings: Path) -> None:
    """Let libFuzzer give bytes to a reader, until it ends the process."""
    corpus, folder = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    words = folder.with_suffix(".words")
    words.write_text("".join(f'"{escaped(word)}"\n' for word in READERS[name].words))
    own = findings / name
    own.mkdir(parents=True, exist_ok=True)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM_BYTES, used + ROOM_BYTES))

    def examine(content: bytes) -> None:
        READERS[name].examine(content, folder)

    limits = (f"-max_total_time={math.ceil(seconds)}", f"-runs={runs}", f"-seed={seed}")
    # Slow inputs get fewer mutations; their times differ, so that no run could be repeated.
    limits += ("-entropic_scale_per_exec_time=1",) if seed == 0 else ()
    places = (f"-dict={words}", f"-artifact_prefix={own}/", str(corpus), str(SEEDS / name))
    atheris.Setup([name, *OPTIONS, *limits, *places], examine)
    atheris.Fuzz()


def escaped(word: bytes) -> str:
    """A word as libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
