"""The kept inputs of the fuzzing job, a short run of it, and whether it finds what it should."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from eegstore import DamageError, InputError
from fuzz import readers
from fuzz.readers import READERS, SEEDS, Reader, as_they_are

FUZZ = Path(__file__).with_name("fuzz.py")
N_RUNS = 400

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this machine"
)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, errors="replace", timeout=120
    )


@pytest.mark.promise("P14")
@pytest.mark.parametrize("name", READERS)
def test_every_kept_input_is_refused_or_has_the_values_of_a_naive_parser(
    name: str, tmp_path: Path, figure: Callable[[str, int, int], None]
) -> None:
    accepted = {}
    for seed in sorted((SEEDS / name).iterdir()):
        try:
            accepted[seed.name] = READERS[name].examine(seed.read_bytes(), tmp_path)
        except Exception as finding:
            finding.add_note(f"the input is {seed}")
            raise
    assert set(accepted.values()) == {True, False}
    figure("kept inputs of the fuzzing job", len(accepted), len(accepted))


@needs_atheris
@pytest.mark.promise("P14")
def test_mutations_from_a_fixed_seed_find_nothing(tmp_path: Path) -> None:
    ended = run(FUZZ, "--runs", str(N_RUNS), "--seed", "1", "--findings", tmp_path)
    assert ended.returncode == 0, ended.stdout
    for name, line in zip(READERS, ended.stdout.splitlines(), strict=True):
        words = line.split()
        assert (words[0], words[2], words[-2:]) == (name, "executions", ["0", "findings"])
        assert int(words[1]) >= N_RUNS


BREAKS = {
    "an exception": "raise KeyError('Q')",
    "memory": "bytearray(2 << 30)",
    "a refusal of two lines": "raise InputError('line 1\\nline 2')",
}


@needs_atheris
@pytest.mark.parametrize("what", BREAKS)
def test_a_reader_that_breaks_on_some_bytes_is_found_and_the_bytes_kept(
    what: str, tmp_path: Path
) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(FUZZ.parent)!r})
import fuzz, readers
from eegstore import InputError
def check(content, folder):
    if b"Q" in content:
        {BREAKS[what]}
fuzz.READERS["idx"] = readers.Reader(check, (readers.as_they_are,), (b"Q",))
fuzz.main(["--reader", "idx", "--runs", "100000", "--seed", "1", "--findings", {str(tmp_path)!r}])
"""
    ended = run("-c", script)
    assert ended.returncode != 0, ended.stdout
    (kept,) = (tmp_path / "idx").iterdir()
    assert b"Q" in kept.read_bytes()


def refuse(error: Exception) -> Callable[[bytes, Path], None]:
    def check(content: bytes, folder: Path) -> None:
        raise error

    return check


@pytest.mark.parametrize(
    ("check", "finding"),
    [
        (refuse(KeyError("x")), "x"),
        (refuse(InputError("a line\nand another")), "several lines: a line\nand another"),
        (refuse(InputError("")), "0 letters"),
        (refuse(InputError("x" * 5000)), "5000 letters"),
        (refuse(DamageError("a store is damaged")), "a store is damaged"),
        (lambda content, folder: sum(range(3_000_000)), r"3 bytes took \d"),
    ],
    ids=["exception", "two lines", "no line", "a long line", "another exit code", "slow"],
)
def test_what_breaks_a_promise_is_a_finding(
    check: Callable[[bytes, Path], None],
    finding: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readers, "LIMIT_S", 0.01)
    with pytest.raises((AssertionError, KeyError, DamageError), match=finding):
        Reader(check, (as_they_are,), ()).examine(b"abc", tmp_path)
    assert Reader(refuse(InputError("a line")), (as_they_are,), ()).examine(b"", tmp_path) is False
