"""Twelve broken plugins and fifty sound ones, installed together: all else goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import eegstore
from command import check_refused, run_command
from third_party import extractor, lay_out

SOURCE = '[source]\nplugin = "synthetic"\nn_trials = 8\nn_channels = 3\nn_times = 32\n'
PEAK = "return block['eeg'].max(axis=(1, 2))"


def named(name: str, call: str = PEAK) -> str:
    """The code of a module whose extractor has a name and does this."""
    code = extractor(call)
    assert code.count('"odd"') == 1
    return code.replace('"odd"', f'"{name}"')


@dataclass(frozen=True)
class Broken:
    """A module's code, and the reason why its plugin cannot be used."""

    code: str
    reason: str


UNUSABLE = {
    "unimportable": Broken(
        "import absent_module\n" + named("unimportable"),
        "ModuleNotFoundError: No module named 'absent_module'",
    ),
    "quitting": Broken("import sys; sys.exit(3)\n" + named("quitting"), "SystemExit: 3"),
    "hooked": Broken(
        named("hooked").replace("def eegstore_extractors", "def eegstore_extracts"),
        "PluginValidationError: unknown hook 'eegstore_extracts' in plugin",
    ),
    "asking": Broken(
        named("asking").replace("__call__(self, block)", "__call__(self, block, device)"),
        "Odd.__call__(self, block, device) cannot be called with (block)",
    ),
    "spectral": Broken(
        named("spectral"), "the name is that of a built-in plugin: choose another name"
    ),
    "ancient": Broken(
        "EEGSTORE_PLUGIN_API = 0\n" + named("ancient"),
        "PluginError: targets plugin API 0, this eegstore has 1",
    ),
}


@dataclass(frozen=True)
class Misbehaving:
    """What an extractor does; what a build says, given more; and the check that finds it."""

    call: str
    says: str
    finds: str
    section: str = ""
    flags: tuple[str, ...] = ()


# Memory that is never touched: how fast a machine fills it decides nothing.
ENDLESS = "held = []\nwhile True: held.append(np.empty(1 << 22))"
MISBEHAVING = {
    "shapeless": Misbehaving(
        "return block['eeg'].max(axis=2)",
        "column trials/shapeless, rows 0 to 7, gave float32 (8, 3), expected float32 (8,)",
        "described-shape",
    ),
    "undefined": Misbehaving(
        f"{PEAK} * np.float32('nan')",
        "column trials/undefined has NaN or Inf for row 0, whose input is finite",
        "finite",
    ),
    "meddling": Misbehaving(
        f"block['eeg'][:] *= 2\n{PEAK}",
        "failed: ValueError: output array is read-only",
        "input-untouched",
    ),
    "drawing": Misbehaving(
        f"{PEAK} * np.random.default_rng().random(len(block['eeg']), 'f4')",
        "gave other values when it was called again",
        "deterministic",
        flags=("--check-determinism",),
    ),
    "hanging": Misbehaving(
        "while True: time.sleep(1)",
        "no answer within timeout_s = 2",
        "bounded-time",
        section="timeout_s = 2\n",
    ),
    "greedy": Misbehaving(ENDLESS, "failed: MemoryError: Unable to allocate", "bounded-memory"),
}
Installed = dict[str, str]


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The environment in which commands find the twelve; each leaves a mark when imported."""
    site = tmp_path_factory.mktemp("twelve")
    codes = {name: one.code for name, one in UNUSABLE.items()}
    codes |= {name: named(name, one.call) for name, one in MISBEHAVING.items()}
    assert len(codes) == 12
    for name, code in codes.items():
        mark = f"open({str(site / name)!r} + '.imported', 'w').close()\n"
        found = lay_out(site, mark + code, name)
    return found | {"COLUMNS": "80"}


def imported(found: Installed) -> set[str]:
    """The modules that were imported since this was last asked."""
    marks = list(Path(found["PYTHONPATH"].split(os.pathsep)[0]).glob("*.imported"))
    for mark in marks:
        mark.unlink()
    return {mark.stem for mark in marks}


def lines_of(text: str) -> list[str]:
    return [line.removeprefix("eegstore: ") for line in text.splitlines()]


def test_the_demo_is_built_and_none_of_the_twelve_is_imported(tmp_path, twelve):
    imported(twelve)
    outcome = run_command("build", "demo", cwd=tmp_path, env=twelve)
    assert (outcome.code, outcome.err) == (0, "")
    assert len(eegstore.open_store(tmp_path / "demo.zarr").trials) > 0
    for command in (
        ("verify", "demo.zarr", "--deep"),
        ("info", "demo.zarr"),
        ("export", "demo.zarr", "flat", "--format", "npy"),
        ("build", "demo", "--executor", "processes", "--overwrite"),
    ):
        outcome = run_command(*command, cwd=tmp_path, env=twelve)
        assert (outcome.code, outcome.err) == (0, ""), command
    assert (tmp_path / "flat" / "train_eeg_data.npy").is_file()
    assert imported(twelve) == set()


def test_those_that_cannot_be_used_are_listed_with_the_reason(tmp_path, twelve):
    listed = run_command("plugins", "--json", cwd=tmp_path, env=twelve)
    assert listed.code == 0
    rows = [row for row in json.loads(listed.out) if row["distribution"] != "eegstore"]
    theirs = {row["name"]: row for row in rows if not row["distribution"].startswith("eegstore ")}
    assert set(theirs) == {*UNUSABLE, *MISBEHAVING}
    told = lines_of(listed.err)
    assert len(told) == len(UNUSABLE)
    for name, broken in UNUSABLE.items():
        assert theirs[name]["status"].startswith(broken.reason)
        assert theirs[name]["distribution"] == f"{name} 1.0"
        line = f"plugin {name!r} of {name} is not used: {broken.reason}"
        assert [one for one in told if one.startswith(line)], listed.err
    assert {theirs[name]["status"] for name in MISBEHAVING} == {"ok"}
    assert imported(twelve) == {*UNUSABLE, *MISBEHAVING}


def test_a_sound_plugin_of_a_third_party_is_used_beside_the_twelve(tmp_path, twelve):
    found = lay_out(tmp_path / "site", named("sound"), "sound")
    both = os.pathsep.join([found["PYTHONPATH"], twelve["PYTHONPATH"]])
    (tmp_path / "a.toml").write_text(f'{SOURCE}[[extract]]\nplugin = "sound"\n')
    outcome = run_command("build", "a.toml", cwd=tmp_path, env={"PYTHONPATH": both})
    assert outcome.code == 0
    assert len(lines_of(outcome.err)) == len(UNUSABLE)
    chosen = {"PYTHONPATH": both, "EEGSTORE_PLUGINS": "sound"}
    imported(twelve)
    outcome = run_command("build", "a.toml", "b.zarr", cwd=tmp_path, env=chosen)
    assert (outcome.code, outcome.err) == (0, "")
    assert imported(twelve) == set()
    none = run_command("build", "a.toml", "c.zarr", cwd=tmp_path, env=chosen | {
        "EEGSTORE_PLUGINS": ""})  # fmt: skip
    check_refused(none, 3, "no extractor is called 'sound'")


@pytest.mark.parametrize("name", [name for name in UNUSABLE if name != "spectral"])
def test_a_recipe_that_names_one_that_cannot_be_used_is_stopped_by_the_reason(
    tmp_path, twelve, name
):
    (tmp_path / "a.toml").write_text(f'{SOURCE}[[extract]]\nplugin = "{name}"\n')
    outcome = run_command("build", "a.toml", cwd=tmp_path, env=twelve)
    assert outcome.code == 4
    first = lines_of(outcome.err)[0]
    assert first.startswith(f"extractor {name!r} of {name} is broken: {UNUSABLE[name].reason}")
    assert not (tmp_path / "a.zarr").exists()
    checked = run_command("plugins", "check", name, cwd=tmp_path, env=twelve)
    assert checked.code == 4
    assert "1 failed" in checked.out
    shown = run_command("plugins", "show", name, cwd=tmp_path, env=twelve)
    assert shown.code == 4
    assert "version" not in shown.out.splitlines()[0] or name == "asking"
    assert f"cannot be used: {UNUSABLE[name].reason}"[:60] in shown.out


def test_the_built_in_whose_name_is_taken_goes_on_working(tmp_path, twelve):
    (tmp_path / "a.toml").write_text(f'{SOURCE}[[extract]]\nplugin = "spectral"\n')
    outcome = run_command("build", "a.toml", cwd=tmp_path, env=twelve)
    assert (outcome.code, outcome.err) == (0, "")
    producer = eegstore.open_store(tmp_path / "a.zarr").trials["spectral"].attrs["eegstore"]
    assert producer["producer"]["distribution"] == "eegstore"
    shown = run_command("plugins", "show", "spectral", "--json", cwd=tmp_path, env=twelve)
    assert json.loads(shown.out)["distribution"].startswith("eegstore ")


@pytest.mark.parametrize("name", MISBEHAVING)
def test_a_build_that_names_one_that_misbehaves_names_it(tmp_path, twelve, name):
    case = MISBEHAVING[name]
    (tmp_path / "a.toml").write_text(f'{SOURCE}[[extract]]\nplugin = "{name}"\n{case.section}')
    # What an endless one takes is bounded here as it is where the memory ends.
    limited = ["bash", "-c", 'ulimit -v 3000000; exec "$@"', "bash", sys.executable, "-m",
               "eegstore", "build", "a.toml", *case.flags]  # fmt: skip
    done = subprocess.run(
        limited, cwd=tmp_path, env=os.environ | twelve, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 4, done.stderr
    first = lines_of(done.stderr)[0]
    assert first.startswith(f"extractor {name!r}")
    assert case.says in first
    assert not (tmp_path / "a.zarr" / "zarr.json").exists()


@pytest.mark.nightly
@pytest.mark.parametrize("name", MISBEHAVING)
def test_the_conformance_kit_names_one_that_misbehaves(tmp_path, twelve, name):
    outcome = run_command("plugins", "check", name, "--json", cwd=tmp_path, env=twelve, limit_s=90)
    assert outcome.code == 4, outcome.err
    (checked,) = json.loads(outcome.out)
    assert not checked["ok"]
    failed = {one["name"]: one["detail"] for one in checked["checks"] if one["passed"] is False}
    assert MISBEHAVING[name].finds in failed
    assert all(failed.values())
    count = f"{len(failed)} of {len(checked['checks'])} checks failed"
    assert f"extractor/{name}: {count}: {', '.join(failed)}" in lines_of(outcome.err)


def test_debug_shows_the_traceback_of_a_plugin_that_cannot_be_used(tmp_path, twelve):
    listed = run_command("plugins", "--debug", cwd=tmp_path, env=twelve)
    assert listed.code == 0
    assert listed.err.count("Traceback (most recent call last):") == 4
    assert "unimportable.py" in listed.err
    (tmp_path / "a.toml").write_text(f'{SOURCE}[[extract]]\nplugin = "unimportable"\n')
    built = run_command("build", "a.toml", "--debug", cwd=tmp_path, env=twelve)
    assert built.code == 4
    assert "unimportable.py" in built.err


FIFTY = 50
Code = Callable[[str], str]
AFTERWARDS = """
import sys
from eegstore.cli import main
sys.argv[0] = "eegstore"
try:
    main()
finally:
    print("modules:", *sys.modules, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def fifty(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The environment in which commands find fifty sound plugins, which leave marks."""
    site = tmp_path_factory.mktemp("fifty")
    for number in range(FIFTY):
        name = f"theirs{number}"
        mark = f"open({str(site / name)!r} + '.imported', 'w').close()\n"
        found = lay_out(site, mark + named(name), name)
    return found


def modules_after(*arguments: str, cwd: Path, env: Installed) -> tuple[set[str], float]:
    """What a command imports, and its seconds."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", AFTERWARDS, *arguments],
        cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("modules:")[2].split()), seconds


def test_help_imports_no_plugin_and_takes_no_longer_with_fifty_of_them(tmp_path, fifty):
    heavy = {"zarr", "torch", "numpy", "eegstore_plugins", "eegstore.registry"}
    times: dict[bool, list[float]] = {True: [], False: []}
    for with_fifty in [True, False] * 5:
        modules, seconds = modules_after("--help", cwd=tmp_path, env=fifty if with_fifty else {})
        assert modules.isdisjoint({*heavy, *(f"theirs{number}" for number in range(FIFTY))})
        times[with_fifty].append(seconds)
    print(f"eegstore --help: {min(times[True]):.2f} s, {min(times[False]):.2f} s without them")
    assert min(times[True]) < 2 * min(times[False])
    assert imported(fifty) == set()


def test_a_build_of_built_ins_imports_no_other_plugin(tmp_path, fifty):
    recipe = f'{SOURCE}[stimuli]\nplugin = "digits"\n[pairing]\nplugin = "label"\n'
    recipe += 'unmatched = "keep"\n[split]\nplugin = "random"\n[[extract]]\nplugin = "spectral"\n'
    (tmp_path / "a.toml").write_text(recipe)
    for executor in ("serial", "processes"):
        modules, _ = modules_after(
            "build", "a.toml", f"{executor}.zarr", "--executor", executor, cwd=tmp_path, env=fifty
        )
        assert "eegstore_plugins.spectral" in modules
        assert imported(fifty) == set()
    (tmp_path / "b.toml").write_text(f'{recipe}[[extract]]\nplugin = "theirs7"\n')
    modules_after("build", "b.toml", cwd=tmp_path, env=fifty)
    assert imported(fifty) == {f"theirs{number}" for number in range(FIFTY)}
