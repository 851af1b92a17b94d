"""Workers that die or hang: replaced and their task done again, or named; none is left behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import eegstore
from command import Outcome, check_refused, run_command
from samples import EEG, IDX, data_files, recipe, write_idx
from third_party import extractor, lay_out, plugin

pytestmark = pytest.mark.promise("P10")

SOURCE = '[source]\nplugin = "synthetic"\nn_trials = 64\nn_channels = 8\nn_times = 128\n'
WHOLE = f"""
{SOURCE}
{IDX}
[pairing]
plugin = "label"
[[extract]]
plugin = "temporal"
[[extract]]
plugin = "hog"
"""
ODD = '[[extract]]\nplugin = "odd"\n'
PEAK = "return block['eeg'].max(axis=(1, 2))"
COUNTED = "open('tries', 'a').write('x')\n"
HANG = "open('begun', 'w')\ntime.sleep(600)"
MARK = "EEGSTORE_TEST_RUN"
LIMIT_S = 60
Build = Callable[..., Outcome]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Build by the command, beside a third party's module; at the end no process is left."""
    write_idx(tmp_path)

    def run(recipe: str, code: str = "", executor: str = "processes", **env: str) -> Outcome:
        found = lay_out(tmp_path / "site", code or extractor(PEAK))
        (tmp_path / "recipe.toml").write_text(recipe)
        return run_command(
            "build", "recipe.toml", "out.zarr", "--executor", executor, "--workers", "2",
            cwd=tmp_path, env={**found, MARK: str(tmp_path), **env}, limit_s=LIMIT_S,
        )  # fmt: skip

    yield run
    nobody_left(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The data files of a build in which nothing died."""
    folder = tmp_path_factory.mktemp("whole")
    write_idx(folder)
    (folder / "recipe.toml").write_text(WHOLE)
    eegstore.build(folder / "recipe.toml", folder / "out.zarr")
    return data_files(folder / "out.zarr")


def processes_of(folder: Path) -> list[psutil.Process]:
    """The command that was started for a folder, and all that come from it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ended = process.status() == psutil.STATUS_ZOMBIE
            if not ended and process.environ().get(MARK) == str(folder):
                found.append(process)
    return found


def workers_of(command: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that do a command's tasks."""
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(command.pid).children()
        return [one for one in children if "spawn_main" in " ".join(one.cmdline())]
    return []


def start(folder: Path) -> tuple[subprocess.Popen[bytes], float]:
    """The build of a folder's recipe, and when its first worker began."""
    process = subprocess.Popen(
        [sys.executable, "-m", "eegstore", "build", "recipe.toml", "out.zarr", "--quiet",
         "--executor", "processes", "--workers", "2"],
        cwd=folder,
        env=os.environ | {MARK: str(folder), "PYTHONPATH": str(folder / "site")},
    )  # fmt: skip
    while not workers_of(process):
        assert process.poll() is None
        time.sleep(0.01)
    return process, time.monotonic()


def nobody_left(folder: Path) -> None:
    """Every process of the command has ended, or does so in a moment."""
    end = time.monotonic() + 10
    while left := processes_of(folder):
        assert time.monotonic() < end, left
        time.sleep(0.05)


# Python imports it first of all in each process; the first worker to come there dies.
KILLER = """
import functools, importlib, os, signal, sys

def deadly(call, when):
    @functools.wraps(call)
    def run(*args, **kwargs):
        result = call(*args, **kwargs) if when == "after" else None
        try:
            os.close(os.open("died", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return result if when == "after" else call(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    return run

if any("spawn_main" in one for one in sys.orig_argv):
    when, module, path = os.environ["DIE"].split()
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    setattr(owner, name, deadly(getattr(owner, name), when))
"""
STAGES = {
    "reading the eeg": "before eegstore_plugins.synthetic Synthetic.read",
    "an extractor": "before eegstore_plugins.temporal Temporal.__call__",
    "reading images": "before eegstore_plugins.idx Idx.read",
    "hog": "after eegstore_plugins.hog Hog.__call__",
    "writing": "after eegstore.shards ShardWriter.append",
    "ending a shard": "before eegstore.shards ShardWriter.finish",
    "publishing": "before eegstore.extract _publish",
    "a shard in place": "after eegstore.extract move_into_place",
    "a receipt in place": "after eegstore.extract write_receipt",
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_killed_in_any_stage_is_replaced_and_the_bytes_are_the_same(
    tmp_path, build, whole, figure, stage
):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(KILLER)
    outcome = build(WHOLE, DIE=STAGES[stage])
    assert (tmp_path / "died").exists()
    assert (outcome.code, outcome.err) == (0, "")
    assert data_files(tmp_path / "out.zarr") == whole
    assert eegstore.verify(tmp_path / "out.zarr", deep=True) == []
    assert not (tmp_path / "out.zarr.build").exists()
    figure("stages in which a worker was killed", 1, 1)


@pytest.mark.parametrize(
    "n_kills", [2, pytest.param(100, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])]
)
def test_workers_killed_at_any_moment_are_replaced_and_the_bytes_are_the_same(
    tmp_path, build, whole, figure, n_kills
):
    lay_out(tmp_path / "site", extractor(PEAK))
    (tmp_path / "recipe.toml").write_text(WHOLE)
    moments = random.Random(n_kills)
    process, begin = start(tmp_path)
    assert process.wait(LIMIT_S) == 0
    duration = time.monotonic() - begin
    n_killed = 0
    while n_killed < n_kills:
        shutil.rmtree(tmp_path / "out.zarr")
        process, _ = start(tmp_path)
        time.sleep(moments.uniform(0, 0.8 * duration))
        workers = workers_of(process)
        for worker in moments.sample(workers, k=min(len(workers), moments.choice([1, 1, 2]))):
            worker.kill()
        n_killed += bool(workers)
        assert process.wait(LIMIT_S) == 0
        assert data_files(tmp_path / "out.zarr") == whole
    figure("kills of a worker at a random moment", n_killed, n_kills)


def nightly(value: str) -> object:
    return pytest.param(value, marks=pytest.mark.nightly)


@pytest.mark.parametrize(
    "end",
    ["os._exit(0)", "ctypes.string_at(0)", nightly("os.abort()"), nightly("os._exit(1)"),
     nightly("os.kill(os.getpid(), signal.SIGKILL)")],
)  # fmt: skip
def test_an_extractor_that_always_ends_its_process_is_tried_thrice_and_named(
    tmp_path, build, figure, end
):
    code = extractor(f"{COUNTED}if 'SOUND' not in os.environ: {end}\n{PEAK}")
    begin = time.monotonic()
    outcome = build(WHOLE + ODD, code)
    assert time.monotonic() - begin < LIMIT_S
    check_refused(outcome, 4, "task trials-000000: its worker died 3 times in extractor 'odd'")
    assert (tmp_path / "tries").read_text() == "xxx"
    hog = tmp_path / "out.zarr" / "stimuli" / "hog" / "c" / "0" / "0"
    written = hog.stat().st_mtime_ns
    # Mended, the same command goes on where it was.
    assert build(WHOLE + ODD, code, SOUND="1").code == 0
    assert hog.stat().st_mtime_ns == written
    assert eegstore.verify(tmp_path / "out.zarr", deep=True) == []
    figure("plugins that always end their process, named", 1, 1)


def test_an_extractor_that_ends_its_process_once_is_tried_again(tmp_path, build):
    code = extractor(f"{COUNTED}if open('tries').read() == 'x': os._exit(1)\n{PEAK}")
    assert build(SOURCE + ODD, code).code == 0
    assert (tmp_path / "tries").read_text() == "xx"
    store = eegstore.open_store(tmp_path / "out.zarr")
    assert (store.trials["odd"][:] == store.trials["eeg"][:].max(axis=(1, 2))).all()


def test_a_worker_ends_without_being_taken_down_but_calls_what_is_registered(tmp_path, build):
    code = extractor(
        "import atexit\n"
        "atexit.register(open, f'ended-{os.getpid()}', 'w')\n"
        "sys.modules['kept'] = type('Kept', (), {'__del__': lambda _: open('taken', 'w')})()\n"
        f"{PEAK}"
    )
    assert build(SOURCE + ODD, code).code == 0
    assert list(tmp_path.glob("ended-*"))
    assert not (tmp_path / "taken").exists()


def test_a_model_that_kills_each_worker_that_loads_it_is_named(build):
    code = extractor(PEAK).replace("@hookimpl", "Odd.prepare = lambda self: os._exit(9)\n@hookimpl")
    check_refused(build(SOURCE + ODD, code), 4, "died 3 times in extractor 'odd'")


ENDLESS = "held = []\nwhile True: held.append({})"


def test_an_extractor_that_finds_no_memory_is_named(build):
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
    outcome = build(SOURCE + ODD, extractor(limit + ENDLESS.format("np.empty(1 << 22)")))
    check_refused(outcome, 4, "extractor 'odd' failed: MemoryError: Unable to allocate 32.0 MiB")


@pytest.fixture
def small_memory(tmp_path: Path) -> Iterator[Path]:
    """A control group of 400 MB, the kernel's limit for all that a command may hold."""
    root = Path("/sys/fs/cgroup")
    legacy = (root / "memory").is_dir()
    group = (root / "memory" if legacy else root) / f"eegstore-{os.getpid()}"
    limits = {"memory.limit_in_bytes" if legacy else "memory.max": 400 << 20}
    if not legacy:
        limits["memory.swap.max"] = 0
    try:
        group.mkdir()
        for name, value in limits.items():
            (group / name).write_text(str(value))
    except OSError as error:
        pytest.skip(f"no control group of its own: {error}")
    yield group
    nobody_left(tmp_path)
    group.rmdir()


@pytest.mark.nightly
def test_an_extractor_that_the_kernel_ends_for_its_memory_is_named(tmp_path, build, small_memory):
    """The worker alone is ended, each time anew; the command and the machine go on."""
    code = extractor(COUNTED + ENDLESS.format("np.ones(1 << 22)"))
    found = lay_out(tmp_path / "site", code)
    (tmp_path / "recipe.toml").write_text(SOURCE + ODD)
    inside = 'echo $$ > "$0"/cgroup.procs && exec "$@"'
    done = subprocess.run(
        ["bash", "-c", inside, small_memory, sys.executable, "-m", "eegstore", "build",
         "recipe.toml", "out.zarr", "--executor", "processes", "--workers", "2"],
        cwd=tmp_path, env=os.environ | found | {MARK: str(tmp_path)}, capture_output=True,
        text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "died 3 times in extractor 'odd' (out of memory" in done.stderr
    assert (tmp_path / "tries").read_text() == "xxx"


def test_workers_end_with_the_command_that_started_them(tmp_path, build):
    lay_out(tmp_path / "site", extractor(HANG))
    (tmp_path / "recipe.toml").write_text(SOURCE + ODD)
    process, _ = start(tmp_path)
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    assert len(processes_of(tmp_path)) > 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    nobody_left(tmp_path)


TRIALS = (
    'return Trials(n_trials=64, ch_names=["a"], sfreq=1, times=[0.0], units="V", '
    "label=np.zeros(64, dtype=int))"
)
STIMULI = (
    "names = np.array([str(i) for i in range(10)])\n"
    "return Stimuli(image_path=names, label=np.arange(10), concept=names, caption=names, "
    "content_id=names)"
)
TIMED = "timeout_s = 1\n"
OWN_SOURCE = f'[source]\nplugin = "odd"\n{TIMED}'
OWN_STIMULI = WHOLE.replace('"idx"\nimages = "images"\nlabels = "labels"\n', f'"odd"\n{TIMED}')


def method(head: str, body: str = HANG) -> str:
    """A method of a plugin's class; by default it never returns."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"def {head}:\n{lines}"


READER = "read(self, start, stop)"
CALL = "__call__(self, *_)"
# What hangs: the plugin's code, the recipe, and whether it runs in workers.
HANGS = {
    "an extractor": (extractor(HANG), SOURCE + ODD + TIMED, True),
    "a loop": (extractor("open('begun', 'w')\nwhile True: pass"), SOURCE + ODD + TIMED, True),
    "describe": (extractor(PEAK, describe=HANG), SOURCE + ODD + TIMED, False),
    "a scan": (
        plugin("source", method("scan(self)") + method(READER)), OWN_SOURCE, False,
    ),
    "a fingerprint": (
        plugin("source", method("scan(self)", TRIALS) + method(READER)
               + method("fingerprint(self)")), OWN_SOURCE, False,
    ),
    "a state": (
        plugin("source", method("scan(self)", TRIALS) + method(READER) + method("state(self)")
               + method("restore(self, state)", "pass")), OWN_SOURCE, False,
    ),
    "a read": (plugin("source", method("scan(self)", TRIALS) + method(READER)), OWN_SOURCE, True),
    "a provider's scan": (
        plugin("stimuli", method("scan(self)") + method(READER)), OWN_STIMULI, False,
    ),
    "a provider's read": (
        plugin("stimuli", method("scan(self)", STIMULI) + method(READER)), OWN_STIMULI, True,
    ),
    "a pairing": (
        plugin("pairing", method(CALL)), WHOLE.replace('"label"\n', f'"odd"\n{TIMED}'), False,
    ),
    "a split": (
        plugin("split", method(CALL)), f'{SOURCE}[split]\nplugin = "odd"\n{TIMED}', False,
    ),
}  # fmt: skip
PLACES = [(what, "serial") for what in HANGS]
PLACES += [(what, "processes") for what, (_, _, in_workers) in HANGS.items() if in_workers]


@pytest.mark.parametrize(("what", "executor"), PLACES)
def test_a_plugin_that_hangs_is_named_when_its_time_is_over(
    tmp_path, build, figure, what, executor
):
    code, recipe, _ = HANGS[what]
    outcome = build(recipe, code, executor)
    ended = time.time()
    check_refused(outcome, 4, "'odd': no answer within timeout_s = 1")
    assert ended - (tmp_path / "begun").stat().st_mtime < 1 + 10
    with pytest.raises(eegstore.EegStoreError):
        eegstore.open_store(tmp_path / "out.zarr")
    figure("hanging plugins named in time", 1, 1)


def test_recipes_of_this_file_are_toml():
    """A slip in them would make every refusal above pass for another reason."""
    for _, made, _ in HANGS.values():
        assert "timeout_s" in str(tomllib.loads(made))


def test_no_worker_goes_on_once_a_listener_has_ended_the_build(tmp_path):
    def stop(stage: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    many = recipe(source=EEG | {"n_trials": 4000}, extract=[{"plugin": "temporal"}])
    with pytest.raises(eegstore.InterruptedBuildError) as kept:
        eegstore.build(many, tmp_path / "s.zarr", executor="processes", n_workers=2, listener=stop)
    assert kept.value.__context__ is not None  # whose frames a debugger would keep alive
    end = time.monotonic() + 5
    while multiprocessing.active_children() and time.monotonic() < end:
        time.sleep(0.01)
    assert multiprocessing.active_children() == []


def test_a_plugin_that_ends_the_process_that_builds_is_named(tmp_path, build):
    outcome = build(SOURCE + ODD, extractor("os._exit(0)"), "serial")
    check_refused(outcome, 4, "extractor 'odd' failed: SystemExit: os._exit(0)")
    ends = plugin("source", method("scan(self)", "os._exit(0)") + method(READER))
    outcome = build(OWN_SOURCE, ends)
    check_refused(outcome, 4, "source 'odd' failed: SystemExit: os._exit(0)")
    assert build(SOURCE + ODD, extractor(PEAK), "serial").code == 0


def test_a_process_that_a_plugin_forks_ends_as_ever(build):
    body = (
        f"pid = os.fork()\nif not pid: os._exit(7)\nassert os.waitpid(pid, 0)[1] == 7 << 8\n{PEAK}"
    )
    assert build(SOURCE + ODD, extractor(body), "serial").code == 0
