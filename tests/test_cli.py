"""The command line as a user meets it: outputs, exit codes, one line an error."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import eegstore
from built_in import BUILT_IN
from eegstore import terminal
from eegstore.recipe import shipped_recipes
from third_party import lay_out

RECIPE = """
name = "tiny"
[source]
plugin = "synthetic"
n_trials = 60
n_channels = 4
n_times = 128
[stimuli]
plugin = "digits"
[split]
plugin = "random"
test_size = 0.25
[[extract]]
plugin = "spectral"
"""


def run(*arguments: str | Path, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command at 80 columns and check its exit code."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "eegstore", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and the store that the command built from it."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.toml").write_text(RECIPE)
    run("build", "tiny.toml", "tiny.zarr", "--quiet", cwd=folder)
    return folder


def test_build_prints_a_summary_on_stdout_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    done = run("build", "tiny.toml", cwd=tmp_path)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "tiny.zarr  60 trials, 10 stimuli"
    assert "synthetic EEG" in lines[1]
    assert all(len(line) <= 80 for line in lines)
    stages = {line.split("  ")[0] for line in lines}
    assert {"scan", "read eeg", "spectral", "write", "pair", "split", "commit"} <= stages
    digest = eegstore.open_store(tmp_path / "tiny.zarr").digest
    assert lines[-1] == f"digest {digest[:12]}"
    again = run("build", "tiny.toml", cwd=tmp_path)
    assert "Up to date: nothing to do." in again.stdout


def test_build_json_is_the_report(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    report = json.loads(run("build", "tiny.toml", "--json", cwd=tmp_path).stdout)
    assert report["n_trials"] == 60
    assert report["history"]["computed"] == ["trials/eeg", "trials/spectral"]
    assert report["history"]["counts"]["unpaired"] == 0
    assert report["digest"] == eegstore.open_store(tmp_path / "tiny.zarr").digest
    assert json.loads(run("build", "tiny.toml", "--json", cwd=tmp_path).stdout)["up_to_date"]


def test_plan_shows_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    done = run("build", "tiny.toml", "--plan", cwd=tmp_path)
    assert "60 × 4 × 128" in done.stdout
    assert "1 task" in done.stdout
    assert "Nothing was done." in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]
    run("build", "tiny.toml", "--quiet", cwd=tmp_path)
    plan = json.loads(
        run("build", "tiny.toml", "--plan", "--json", "--set", 'extract.0.window="boxcar"',
            cwd=tmp_path).stdout
    )  # fmt: skip
    reused = {column["path"]: column["reused"] for column in plan["columns"]}
    assert reused == {"trials/eeg": True, "trials/spectral": False}
    assert plan["tasks"] == 1


def test_set_overrides_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    run("build", "tiny.toml", "--set", "source.n_trials=20", "--set", "name=other", "--quiet",
        cwd=tmp_path)  # fmt: skip
    assert eegstore.open_store(tmp_path / "other.zarr").trials.n_rows == 20


def test_info_shows_columns_splits_and_digest(folder: Path) -> None:
    shown = run("info", "tiny.zarr", cwd=folder).stdout
    assert "synthetic EEG" in shown
    assert "trials/spectral" in shown
    assert "splits test 15, train 45" in shown
    facts = json.loads(run("info", "tiny.zarr", "--json", cwd=folder).stdout)
    store = eegstore.open_store(folder / "tiny.zarr")
    assert facts["trials"] == 60
    assert facts["stimuli"] == 10
    assert facts["splits"] == {"test": 15, "train": 45}
    assert facts["digest"] == store.digest
    assert {column["name"] for column in facts["columns"]} >= {"eeg", "spectral", "label"}


def test_export_takes_the_options_of_the_format(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "npy"
    done = run("export", "--no-normalize", "--images", "--image-size", "16", folder / "tiny.zarr",
               out, "--format", "npy", cwd=tmp_path)  # fmt: skip
    assert "train_images.npy" in done.stdout
    assert np.load(out / "train_images.npy").shape == (45, 16, 16, 3)
    assert json.loads((out / "train_metadata.json").read_text())["normalized"] is False
    shown = run("export", "--format", "npy", "--help", cwd=tmp_path).stdout
    assert "--image-size" in shown
    assert "--image-size" not in run("export", "--help", cwd=tmp_path).stdout
    run("export", folder / "tiny.zarr", tmp_path / "h5", "--format=hdf5", "--imges", cwd=tmp_path,
        code=2)  # fmt: skip


def test_plugins_lists_every_built_in_as_ok(tmp_path: Path) -> None:
    rows = json.loads(run("plugins", "--json", cwd=tmp_path).stdout)
    assert set(rows[0]) == {"kind", "name", "version", "distribution", "status"}
    built_in = {
        (row["kind"], row["name"])
        for row in rows
        if row["distribution"].startswith("eegstore ") and row["status"] == "ok"
    }
    assert built_in == set(BUILT_IN)


def test_a_broken_plugin_is_one_line_and_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = lay_out(tmp_path / "site", "import no_such_module", "ghost")
    monkeypatch.setenv("PYTHONPATH", found["PYTHONPATH"])
    (tmp_path / "tiny.toml").write_text(RECIPE)
    assert run("build", "tiny.toml", cwd=tmp_path).stderr == ""
    done = run("plugins", cwd=tmp_path)
    assert done.stderr == (
        "eegstore: plugin 'ghost' of ghost is not used: "
        "ModuleNotFoundError: No module named 'no_such_module' (ghost.py:1); "
        "--debug shows its traceback\n"
    )
    rows = json.loads(run("plugins", "--json", cwd=tmp_path).stdout)
    assert [row["status"] for row in rows if row["name"] == "ghost"] != ["ok"]
    done = run("build", "tiny.toml", "x.zarr", "--set", "source.plugin=ghost", cwd=tmp_path, code=4)
    assert "'ghost'" in done.stderr.splitlines()[0]


def test_recipes_lists_the_shipped_ones_and_prints_one(tmp_path: Path) -> None:
    shown = run("recipes", cwd=tmp_path).stdout
    assert all(name in shown for name in ("demo", "mindbigdata", "npy-folder", "mne-epochs"))
    assert run("recipes", "demo", cwd=tmp_path).stdout == shipped_recipes()["demo"]
    assert "did you mean 'demo'" in run("recipes", "dmo", cwd=tmp_path, code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["build", "absent.toml"], 3, "absent.toml: no such recipe file"),
        (["build", "tiny.toml", "--set", "source.n_trial=5"], 3, "did you mean 'n_trials'"),
        (["build", "tiny.toml", "--set", "source.plugin=sinthetic"], 3, "did you mean 'synthetic'"),
        (["build", "tiny.toml", "--set", "source.n_trials=many"], 3, "source"),
        (["build", "tiny.toml", "--set", "nonsense"], 3, "KEY=VALUE"),
        (["build", "tiny.toml", "--workers", "-1"], 3, "--workers -1: expected a positive"),
        (["build", "tiny.toml", "--executor", "cereal"], 2, "did you mean 'serial'"),
        (["build", "tiny.toml", "tiny.toml"], 3, "not an eegstore store; nothing was touched"),
        (["info", "absent.zarr"], 3, "absent.zarr: not an eegstore store"),
        (["info", "."], 3, "not an eegstore store"),
        (["verify", "absent.zarr"], 3, "not an eegstore store"),
        (["export", "absent.zarr", "out", "--format", "npy"], 3, "not an eegstore store"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_line(
    folder: Path, arguments: list[str], code: int, said: str
) -> None:
    before = sorted(folder.iterdir())
    done = run(*arguments, cwd=folder, code=code)
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    left = {path.name for path in set(folder.iterdir()) - set(before)}
    assert not {name for name in left if not name.endswith(".lock")}


def test_debug_shows_the_traceback(folder: Path) -> None:
    assert "Traceback" in run("info", "absent.zarr", "--debug", cwd=folder, code=3).stderr


def test_verify_names_damage_and_exits_with_5(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    run("build", "tiny.toml", "--quiet", cwd=tmp_path)
    assert "every byte is as committed" in run("verify", "tiny.zarr", "--deep", cwd=tmp_path).stdout
    shard = tmp_path / "tiny.zarr" / "trials" / "eeg" / "c" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    done = run("verify", "tiny.zarr", "--deep", cwd=tmp_path, code=5)
    assert "trials/eeg/c/0/0/0" in done.stdout
    report = json.loads(run("verify", "tiny.zarr", "--deep", "--json", cwd=tmp_path, code=5).stdout)
    assert report["ok"] is False
    assert report["damage"][0]["file"] == "trials/eeg/c/0/0/0"


def test_a_closed_pipe_is_quiet(folder: Path) -> None:
    command = f"{sys.executable} -m eegstore info tiny.zarr --json | head -1"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_control_characters_in_names_do_not_reach_the_terminal() -> None:
    assert terminal.printable("a\x1b[2Jb\r") == "a\\x1b[2Jb\\r"


@pytest.mark.parametrize("code", ["import eegstore", "from eegstore.cli import main"])
def test_start_up_imports_nothing_heavy(code: str) -> None:
    heavy = ("numpy", "zarr", "torch", "scipy", "pydantic", "mne", "transformers", "h5py",
             "eegstore_plugins")  # fmt: skip
    check = f"{code}; import sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "name", ["audit.audit", "evaluate.evaluate", "report.report", "search.Gallery"]
)
def test_a_module_of_the_documents_is_reached_by_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, member = name.partition(".")
    monkeypatch.delattr(eegstore, module, raising=False)  # as before anything imported it
    assert getattr(getattr(eegstore, module), member).__module__.startswith(f"eegstore.{module}")


def children_seconds() -> float:
    """Of processors, that the processes started here have taken; others do not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_lists_the_commands_and_starts_fast(tmp_path: Path) -> None:
    ours, bare = [], []
    for _ in range(5):
        begin = children_seconds()
        shown = run("--help", cwd=tmp_path).stdout
        ours.append(children_seconds() - begin)
        subprocess.run([sys.executable, "-c", "import typer, rich.panel"], check=True)
        bare.append(children_seconds() - begin - ours[-1])
    for command in ("build", "info", "export", "verify", "plugins", "schema", "recipes"):
        assert f"│ {command} " in shown
    # A limit of the same run: what typer itself costs.
    assert min(ours) < 3 * min(bare)


def test_a_folder_of_a_recipes_name_does_not_hide_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    assert "400 trials" in run("build", "demo", "--plan", cwd=tmp_path).stdout


@pytest.mark.parametrize("out", ["/", "/proc/x.zarr", "/dev/null/x.zarr", "n" * 260])
def test_a_place_that_cannot_be_written_to_is_one_line(folder: Path, out: str) -> None:
    done = run("build", "tiny.toml", out, cwd=folder, code=3)
    assert done.stderr.count("\n") == 1
    assert "eegstore: " in done.stderr
    exported = run("export", "tiny.zarr", out, "--format", "npy", cwd=folder, code=3)
    assert exported.stderr.count("\n") == 1


def test_an_export_beyond_the_limit_of_a_files_size_fails(folder: Path, tmp_path: Path) -> None:
    command = (
        f"ulimit -f 40; {sys.executable} -m eegstore export tiny.zarr {tmp_path}/out --format npy"
    )
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 3
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_names_in_data_are_never_read_as_markup(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    run("build", "tiny.toml", "[red]a[/b].zarr", "--quiet", cwd=tmp_path)
    shown = run("verify", "[red]a[/b].zarr", cwd=tmp_path).stdout
    assert shown.startswith("[red]a[/b].zarr: ")
