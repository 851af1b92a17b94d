"""A third party's plugin that is being edited: its source is what its columns go by."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path

import numpy as np
import pytest

import eegstore
from command import run_command
from eegstore.origins import source_digest
from environments import Environment, with_eegstore
from samples import modified
from third_party import extractor, lay_out

THEIRS = Path(__file__).parent / "their_plugin"
RECIPE = """
[source]
plugin = "synthetic"
n_trials = 8
n_channels = 2
n_times = 16

[[extract]]
plugin = "NAME"
"""
EDITABLE = '{"url": "file:///theirs", "dir_info": {"editable": true}}'


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment in which their plugin is installed as editable, and a store built there."""
    environment = with_eegstore(tmp_path_factory.mktemp("editable"))
    shutil.copytree(THEIRS, environment.work / "theirs")
    with (environment.work / "theirs" / "pyproject.toml").open("a") as file:
        # A path alone: by default hatchling wants a distribution more to install this way.
        file.write('\n[tool.hatch.build]\ndev-mode-dirs = ["src"]\n')
    environment.install("--editable", "theirs")
    (environment.work / "recipe.toml").write_text(RECIPE.replace("NAME", "peak"))
    environment.run("eegstore", "build", "recipe.toml", "a.zarr")
    return environment


def test_an_edit_of_an_editable_plugin_makes_its_column_anew_and_nothing_else(environment):
    out = environment.work / "a.zarr"
    before, peak = modified(out), eegstore.open_store(out).trials["peak"][:]
    plan = json.loads(
        environment.run("eegstore", "build", "recipe.toml", "a.zarr", "--plan", "--json").stdout
    )
    assert plan["up_to_date"]
    file = environment.work / "theirs" / "src" / "their_plugin" / "peak.py"
    file.write_text(file.read_text().replace("np.float32(self.scale)", "np.float32(3)"))
    plan = environment.run("eegstore", "build", "recipe.toml", "a.zarr", "--plan").stdout
    assert "replace  trials/peak: the source of their-plugin was edited\n" in plan
    environment.run("eegstore", "build", "recipe.toml", "a.zarr")
    store = eegstore.open_store(out)
    np.testing.assert_array_equal(store.trials["peak"][:], 3 * peak)
    assert store.attributes.history[-1].computed == ["trials/peak"]
    after = modified(out)
    eeg = [path for path in before if path.startswith("trials/eeg/")]
    assert eeg
    assert all(before[path] == after[path] for path in eeg)


def test_the_tree_of_a_column_names_the_source_of_an_editable_plugin(environment):
    tree = json.loads(
        environment.run("eegstore", "info", "a.zarr", "--provenance", "peak", "--json").stdout
    )
    producer = tree["producer"]
    assert (producer["distribution"], producer["distribution_version"]) == ("their-plugin", "2.5")
    assert len(producer["source"]) == 64
    shown = environment.run("eegstore", "info", "a.zarr", "--provenance", "peak").stdout
    assert f"of their-plugin 2.5, API 1, source {producer['source'][:12]}\n" in shown


def installed(site: Path, record: str | None = EDITABLE, module: str = "theirs") -> EntryPoint:
    """The entry point of a laid-out distribution; ``record`` is its direct_url.json."""
    lay_out(site, "", "theirs")
    facts = site / "theirs-1.0.dist-info"
    (facts / "entry_points.txt").write_text(f"[eegstore]\ntheirs = {module}\n")
    if record is not None:
        (facts / "direct_url.json").write_text(record)
    (entry_point,) = PathDistribution(facts).entry_points
    return entry_point


@pytest.mark.parametrize(
    "record",
    [None, "", "[1]", "{", "null", '{"dir_info": {}}', '{"dir_info": {"editable": false}}',
     '{"dir_info": {"editable": "yes"}}', '{"dir_info": 3, "url": "file:///a"}'],
)  # fmt: skip
def test_what_is_not_installed_as_editable_has_no_source_digest(tmp_path, monkeypatch, record):
    monkeypatch.syspath_prepend(tmp_path)
    assert source_digest(installed(tmp_path, record)) == ""


def test_the_digest_of_a_module_is_that_of_its_file_alone(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    entry_point = installed(tmp_path)
    first = source_digest(entry_point)
    assert len(first) == 64
    (tmp_path / "others.py").write_text("x = 1")
    assert source_digest(entry_point) == first
    (tmp_path / "theirs.py").write_text("x = 1")
    assert source_digest(entry_point) != first


def write_package(folder: Path) -> None:
    for name in ("__init__.py", "peak.py", "deep/__init__.py", "deep/maths.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}")


def digest_of(site: Path, module: str) -> str:
    """The digest as a process that has just begun takes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        return source_digest(installed(site, module=module))


def test_every_module_of_a_package_counts_wherever_it_lies(tmp_path):
    digests = {}
    for case in ("plain", "moved", "edited", "added", "renamed", "cached"):
        package = tmp_path / case / f"package_{len(digests)}" / "theirs_package"
        write_package(package)
        if case == "edited":
            (package / "deep" / "maths.py").write_text("x = 2")
        elif case == "added":
            (package / "new.py").write_text("")
        elif case == "renamed":
            (package / "peak.py").rename(package / "trough.py")
        elif case == "cached":
            (package / "__pycache__").mkdir()
            (package / "__pycache__" / "peak.cpython-311.pyc").write_bytes(b"1")
            (package / "notes.txt").write_text("no code")
        digests[case] = digest_of(package.parent, "theirs_package.deep.maths")
    assert digests["plain"] == digests["moved"] == digests["cached"]
    assert len({*digests.values()}) == 4
    assert all(len(digest) == 64 for digest in digests.values())


def test_of_a_namespace_that_many_share_only_the_plugins_own_package_counts(tmp_path):
    write_package(tmp_path / "lab_of_theirs" / "features")
    first = digest_of(tmp_path, "lab_of_theirs.features.peak")
    write_package(tmp_path / "lab_of_theirs" / "anothers")
    assert digest_of(tmp_path, "lab_of_theirs.features.peak") == first
    (tmp_path / "lab_of_theirs" / "features" / "peak.py").write_text("x = 1")
    assert digest_of(tmp_path, "lab_of_theirs.features.peak") != first


CALL = 'return np.abs(block["eeg"]).max(axis=(1, 2)).astype(np.float32)'


def keys(folder: Path, env: dict[str, str]) -> dict[str, str]:
    """Key of each column of a store that is built anew."""
    shutil.rmtree(folder / "a.zarr", ignore_errors=True)
    (folder / "recipe.toml").write_text(RECIPE.replace("NAME", "odd"))
    done = run_command("build", "recipe.toml", "a.zarr", cwd=folder, env=env)
    assert done.code == 0, done.err
    store = eegstore.open_store(folder / "a.zarr")
    return {entry.path: entry.key for entry in store.attributes.columns}


def test_a_version_of_the_distribution_changes_no_key_and_an_edit_does_where_it_is_editable(
    tmp_path,
):
    site = tmp_path / "site"
    env = lay_out(site, extractor(CALL))
    facts = site / "theirs-1.0.dist-info"
    released = keys(tmp_path, env)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 2.0\n")
    assert keys(tmp_path, env) == released
    (site / "theirs.py").write_text(extractor(CALL) + "\n# edited\n")
    assert keys(tmp_path, env) == released
    (facts / "direct_url.json").write_text(EDITABLE)
    edited = keys(tmp_path, env)
    changed = {path for path, key in edited.items() if key != released[path]}
    assert changed == {"trials/odd"}
    (site / "theirs.py").write_text(extractor(CALL) + "\n# edited again\n")
    assert keys(tmp_path, env)["trials/odd"] not in {edited["trials/odd"], released["trials/odd"]}


def test_a_plugin_that_is_edited_while_a_build_runs_is_refused_by_its_workers(tmp_path):
    site = tmp_path / "site"
    describe = (
        "with open(__file__, 'a') as file:\n"
        "    file.write('# edited\\n')\n"
        'return ColumnSpec((), (), "float32")'
    )
    env = lay_out(site, extractor(CALL, describe))
    (site / "theirs-1.0.dist-info" / "direct_url.json").write_text(EDITABLE)
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("NAME", "odd"))
    done = run_command(
        "build", "recipe.toml", "a.zarr", "--executor", "processes", "--workers", "1",
        cwd=tmp_path, env=env,
    )  # fmt: skip
    assert done.code == 3, done
    assert "extractor 'odd': the source of theirs was edited while the build ran" in done.err
    assert len(done.err.splitlines()) == 1
