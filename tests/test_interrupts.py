"""Ctrl-C and SIGTERM end a build soon, in one line, and it resumes; nothing is left running."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import eegstore
from samples import EEG, data_files, recipe
from third_party import extractor, lay_out, plugin

NIGHTLY = [pytest.mark.nightly, pytest.mark.timeout(3600)]
LIMIT_S = 5
AT_ONCE_S = 1.5  # sooner than the grace after the first signal
GONE_S = 5
RECIPE = """
name = "several"
[source]
plugin = "synthetic"
n_trials = 300
n_channels = 16
n_times = 500
seed = 3
[stimuli]
plugin = "digits"
per_label = 60
[pairing]
plugin = "label"
choose = "cycle"
[split]
plugin = "random"
test_size = 0.25
seed = 0
[[extract]]
plugin = "temporal"
[[extract]]
plugin = "hog"
"""


@dataclass
class Command:
    """A command in a session of its own, as a shell with a terminal starts it."""

    process: subprocess.Popen[str]

    def wait_until_it_is_eegstores(self) -> None:
        """Wait until Python itself has started; what a signal does before is Python's affair."""
        status = Path(f"/proc/{self.process.pid}/status")
        while self.process.poll() is None:
            caught = [line for line in status.read_text().splitlines() if "SigCgt" in line]
            if not caught or int(caught[0].split()[1], 16) >> (signal.SIGTERM - 1) & 1:
                return
            time.sleep(0.001)

    def press(self, sent: signal.Signals) -> None:
        """Send SIGINT to every process, as a terminal does, any other signal to the command."""
        if sent == signal.SIGINT:
            os.killpg(self.process.pid, sent)
        else:
            self.process.send_signal(sent)

    def end(self, limit_s: float) -> tuple[int, str]:
        """Its exit code and what it said, once it has ended within a limit and left no process."""
        begin = time.monotonic()
        self.process.wait(timeout=60)
        seconds = time.monotonic() - begin
        deadline = time.monotonic() + GONE_S
        while left := self.left():
            assert time.monotonic() < deadline, left
            time.sleep(0.01)
        _, errors = self.process.communicate()
        assert seconds < limit_s, errors
        assert "Traceback" not in errors
        return self.process.returncode, errors

    def left(self) -> list[str]:
        """The processes of the session that still run."""
        found = []
        for one in psutil.process_iter():
            try:
                if os.getsid(one.pid) == self.process.pid and one.status() != "zombie":
                    found.append(" ".join(one.cmdline()))
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found


@contextmanager
def running(folder: Path, *arguments: str, **environment: str) -> Iterator[Command]:
    """A build of ``recipe.toml`` in a folder."""
    command = [sys.executable, "-m", "eegstore", "build", "recipe.toml", "a.zarr", *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=os.environ | environment, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield Command(process)
        finally:
            process.kill()


@pytest.fixture(autouse=True, scope="module")
def _hears_ctrl_c() -> Iterator[None]:
    """Let commands hear of Ctrl-C where the tests are run in the background, and do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A folder where the recipe was built without interruption, and how long that took."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "recipe.toml").write_text(RECIPE)
    begin = time.monotonic()
    with running(folder, "--workers", "2") as command:
        assert command.end(60) == (0, "")
    return folder, time.monotonic() - begin


def is_built(folder: Path) -> bool:
    """Whether the build was done; Python lets a signal end it even as it leaves."""
    return (folder / "a.zarr" / "zarr.json").is_file() and not (folder / "a.zarr.build").exists()


def interrupt_until_done(
    folder: Path, whole: tuple[Path, float], n_runs: int, seed: str,
    interrupt: Callable[[Command, random.Random], bool],
) -> int:  # fmt: skip
    """Interrupt a build and each of its resumptions, then let it finish; how many it was."""
    shutil.copy(whole[0] / "recipe.toml", folder)
    moments = random.Random(seed)
    n_interrupted = 0
    while n_interrupted < n_runs:
        executor = moments.choice([["--workers", "2"], ["--executor", "serial"]])
        with running(folder, *executor) as command:
            command.wait_until_it_is_eegstores()
            time.sleep(moments.uniform(0, whole[1]))
            if interrupt(command, moments):
                n_interrupted += 1
            else:  # it was faster: begin again
                shutil.rmtree(folder / "a.zarr")
    eegstore.build(folder / "recipe.toml", folder / "a.zarr")
    assert data_files(folder / "a.zarr") == data_files(whole[0] / "a.zarr")
    assert eegstore.verify(folder / "a.zarr", deep=True) == []
    return n_interrupted


@pytest.mark.promise("P11")
@pytest.mark.parametrize("n_runs", [1, pytest.param(50, marks=NIGHTLY)])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_interrupted_stops_in_one_line_and_resumes(
    tmp_path: Path, whole: tuple[Path, float], figure: Callable[[str, int, int], None],
    sent: signal.Signals, n_runs: int,
) -> None:  # fmt: skip
    def interrupt(command: Command, _: random.Random) -> bool:
        command.press(sent)
        code, errors = command.end(LIMIT_S)
        if is_built(tmp_path) and code in (0, -sent):
            return False
        assert (code, errors.count("\n")) == (130, 1), errors
        assert errors.startswith("eegstore: ")
        return True

    n_held = interrupt_until_done(tmp_path, whole, n_runs, sent.name, interrupt)
    figure(f"{sent.name} stopped a build that resumed", n_held, n_runs)


@pytest.mark.promise("P11")
@pytest.mark.parametrize("n_runs", [1, pytest.param(50, marks=NIGHTLY)])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_interrupted_twice_ends_at_once_and_resumes(
    tmp_path: Path, whole: tuple[Path, float], figure: Callable[[str, int, int], None],
    sent: signal.Signals, n_runs: int,
) -> None:  # fmt: skip
    def interrupt(command: Command, moments: random.Random) -> bool:
        command.press(sent)
        time.sleep(moments.uniform(0, 0.3))
        command.press(sent)
        # To a process that gets no time between them the two are one.
        code, errors = command.end(LIMIT_S)
        if is_built(tmp_path) and code in (0, -sent):
            return False
        assert code in (130, -sent), errors
        assert errors.count("\n") == 1, errors
        return True

    n_held = interrupt_until_done(tmp_path, whole, n_runs, f"{sent.name} twice", interrupt)
    figure(f"{sent.name} twice stopped a build that resumed", n_held, n_runs)


@pytest.mark.promise("P11")
@pytest.mark.parametrize("n_runs", [1, pytest.param(50, marks=NIGHTLY)])
def test_no_process_outlives_a_build_that_is_killed(
    tmp_path: Path, whole: tuple[Path, float], figure: Callable[[str, int, int], None], n_runs: int
) -> None:
    def kill(command: Command, _: random.Random) -> bool:
        command.press(signal.SIGKILL)
        command.end(LIMIT_S)
        return not is_built(tmp_path)

    n_held = interrupt_until_done(tmp_path, whole, n_runs, "killed", kill)
    figure("killed builds left no process", n_held, n_runs)


@pytest.mark.promise("P11")
@pytest.mark.parametrize("n_runs", [2, pytest.param(50, marks=NIGHTLY)])
def test_workers_that_are_about_to_start_say_nothing_of_ctrl_c(
    tmp_path: Path, whole: tuple[Path, float], figure: Callable[[str, int, int], None], n_runs: int
) -> None:
    shutil.copy(whole[0] / "recipe.toml", tmp_path)
    moments = random.Random(0)
    for _ in range(n_runs):
        with running(tmp_path, "--workers", "2") as command:
            while not any("spawn_main" in one for one in command.left()):
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.3))
            command.press(signal.SIGINT)
            code, errors = command.end(LIMIT_S)
        assert (code, errors.count("\n")) == (130, 1), errors
    figure("Ctrl-C met workers that start", n_runs, n_runs)


# Code of a plugin that tells that it runs, and then does not end by itself.
STUCK = {
    "sleeps": 'open("reached", "w").close()\ntime.sleep(60)',
    "catches all": """
open("reached", "w").close()
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
""",
    "is in C": 'open("reached", "w").close()\nhashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)',
    "waits for a process": 'subprocess.run(["sh", "-c", "touch reached; exec sleep 60"])',
}
IMPORTED = "import hashlib, subprocess, time\n"


def method(head: str, code: str) -> str:
    """A plugin's method that runs some code."""
    return f"def {head}:\n" + "".join(
        f"    {line}\n" for line in (code or "pass").strip().splitlines()
    )


# Where the code runs: the module of a plugin, the recipe that uses it.
SOURCE = '[source]\nplugin = "synthetic"\nn_trials = 10\n'
PLACES: dict[str, tuple[Callable[[str], str], str]] = {
    "import": (lambda code: code, SOURCE + '[[extract]]\nplugin = "odd"\n'),
    "scan": (
        lambda code: plugin("source", method("scan(self)", code) + method("read(self, a, b)", "")),
        '[source]\nplugin = "odd"\n',
    ),
    "pairing": (
        lambda code: plugin("pairing", method("__call__(self, trials, stimuli, columns)", code)),
        SOURCE + '[stimuli]\nplugin = "digits"\n[pairing]\nplugin = "odd"\n',
    ),
    "serial": (extractor, SOURCE + '[[extract]]\nplugin = "odd"\n'),
    "processes": (extractor, SOURCE + '[[extract]]\nplugin = "odd"\n'),
}


QUICK = {
    ("import", "sleeps"), ("scan", "catches all"), ("pairing", "sleeps"), ("serial", "is in C"),
    ("processes", "waits for a process"),
}  # fmt: skip


@pytest.mark.promise("P11")
@pytest.mark.parametrize(
    ("where", "stuck", "sent"),
    [
        pytest.param(*case, marks=[] if case[:2] in QUICK and case[2] == signal.SIGINT else NIGHTLY)
        for case in itertools.product(PLACES, STUCK, [signal.SIGINT, signal.SIGTERM])
    ],
)
def test_a_plugin_that_does_not_end_is_interrupted(
    tmp_path: Path, where: str, stuck: str, sent: signal.Signals
) -> None:
    module, text = PLACES[where]
    (tmp_path / "recipe.toml").write_text(text)
    found = lay_out(tmp_path / "site", IMPORTED + module(STUCK[stuck]))
    executor = "serial" if where == "serial" else "processes"
    with running(tmp_path, "--executor", executor, **found) as command:
        while command.process.poll() is None and not (tmp_path / "reached").exists():
            time.sleep(0.005)
        time.sleep(0.1)
        command.press(sent)
        code, errors = command.end(LIMIT_S)
    assert (code, errors.count("\n")) == (130, 1), errors


@pytest.mark.promise("P11")
def test_a_second_ctrl_c_ends_at_once_what_does_not_end(tmp_path: Path) -> None:
    module, text = PLACES["scan"]
    (tmp_path / "recipe.toml").write_text(text)
    found = lay_out(tmp_path / "site", IMPORTED + module(STUCK["catches all"]))
    with running(tmp_path, **found) as command:
        while command.process.poll() is None and not (tmp_path / "reached").exists():
            time.sleep(0.005)
        command.press(signal.SIGINT)
        time.sleep(1)
        assert command.process.poll() is None
        command.press(signal.SIGINT)
        code, errors = command.end(AT_ONCE_S)
    assert (code, errors.count("\n")) == (130, 1), errors


@pytest.mark.promise("P11")
def test_ctrl_c_ends_an_export_that_a_c_library_writes(tmp_path: Path) -> None:
    many = recipe(source=EEG | {"n_trials": 3000, "n_channels": 32, "n_times": 512}, extract=[])
    eegstore.build(many, tmp_path / "a.zarr")
    command = ["export", "a.zarr", "a.h5", "--format", "hdf5", "--level", "9"]
    process = subprocess.Popen(
        [sys.executable, "-m", "eegstore", *command],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not list(tmp_path.glob(".a.h5-*/a.h5")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begin < LIMIT_S
    assert process.returncode == 130
    assert errors == "eegstore: interrupted; run the same command again\n"
    assert not list(tmp_path.glob("*.h5*"))
    assert not list(tmp_path.glob(".a.h5*"))


@pytest.mark.promise("P11")
def test_ctrl_c_that_met_a_class_being_made_ends_with_the_documented_code(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text("""
from eegstore import terminal

@terminal.reported
def command():
    exec("raise KeyboardInterrupt")  # dataclasses are made like this

command()
""")
    done = subprocess.run(
        [sys.executable, "-m", "theirs"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 130
    assert done.stderr == "eegstore: interrupted; run the same command again\n"


def test_a_signal_of_a_plugins_own_interrupts_nothing(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text("""
import signal, time
from eegstore import terminal
terminal.GRACE_S = 0.2

@terminal.reported
def command():
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(1)
    time.sleep(2.5)
    terminal.write("done")

command()
""")
    done = subprocess.run(
        [sys.executable, "-m", "theirs"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done", "")


def test_ctrl_c_that_met_a_c_library_is_not_printed_by_it(tmp_path: Path) -> None:
    """Such as one that imports numpy and prints why it could not."""
    (tmp_path / "theirs.py").write_text("""
import ctypes, time
from eegstore import terminal
terminal.GRACE_S = 0.5

@terminal.reported
def command():
    ctypes.pythonapi.PyRun_SimpleString(b"import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    time.sleep(60)

command()
""")
    done = subprocess.run(
        [sys.executable, "-m", "theirs"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "eegstore: interrupted; run the same command again\n"
