"""What a column follows from: told to the digests of the files, whatever is still installed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import eegstore
from command import check_refused, run_command
from eegstore import UsageError, registry
from eegstore.builder import build
from eegstore.disk import digest_json
from eegstore.provenance import difference, provenance
from eegstore.scan import MAX_LISTED, Content
from every_kind import IMAGES, write_input
from every_kind import build as build_every_kind
from samples import data_files, recipe, write_idx, write_npy
from test_golden import unpack
from third_party import extractor, lay_out, plugin

CALL = 'return np.abs(block["eeg"]).max(axis=(1, 2)).astype(np.float32)'
THEIRS = '[source]\nplugin = "synthetic"\nn_trials = 8\nn_channels = 2\nn_times = 16\n'
ODD = '[[extract]]\nplugin = "odd"\n'


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with input of every kind, and the store that is built from it."""
    folder = tmp_path_factory.mktemp("provenance")
    write_input(folder)
    build_every_kind(folder, "raw", executor="serial")
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> eegstore.Store:
    return eegstore.open_store(folder / "raw.zarr")


def entry(store: eegstore.Store, path: str) -> Any:
    return next(one for one in store.attributes.columns if one.path == path)


def test_the_tree_of_a_feature_ends_at_the_digest_of_the_recording(folder, store):
    tree = provenance(store, "spectral")
    assert tree["column"] == "trials/spectral"
    assert tree["key"] == entry(store, "trials/spectral").key
    assert tree["shape"] == [19, 3, 14]
    assert tree["producer"]["name"] == "spectral"
    assert tree["producer"]["distribution_version"] == eegstore.__version__
    assert tree["producer"]["api"] == eegstore.EEGSTORE_PLUGIN_API
    assert "source" not in tree["producer"], "eegstore's own plugins go by their version"
    assert "files" not in tree
    (eeg,) = tree["inputs"]
    assert (eeg["column"], eeg["inputs"]) == ("trials/eeg", [])
    assert eeg["producer"]["options"]["path"] == "eeg.h5"
    assert eeg["files"] == [{"name": "eeg.h5", "sha256": sha256(folder / "eeg.h5")}]


def test_the_tree_of_an_embedding_ends_at_the_digests_of_the_images(folder, store):
    tree = provenance(store, "stimuli/gradients")
    (images,) = tree["inputs"]
    assert (images["column"], images["kind"]) == ("stimuli/image", "images")
    assert images["producer"]["name"] == "image-folder"
    assert images["files"] == [
        {"name": name, "sha256": sha256(folder / "images" / name)} for name in sorted(IMAGES)
    ]


def test_the_tree_of_a_split_passes_through_the_pairing_to_both_inputs(store):
    tree = provenance(store, "split")
    assert (tree["kind"], tree["producer"]["kind"]) == ("narrow", "split")
    (stimulus,) = tree["inputs"]
    assert stimulus["producer"]["kind"] == "pairing"
    valid, content = stimulus["inputs"]
    assert (valid["column"], content["column"]) == ("trials/valid", "stimuli/content_id")
    assert [one["name"] for one in valid["inputs"][0]["files"]] == ["eeg.h5"]
    assert len(content["files"]) == len(IMAGES)


def test_what_a_source_gave_and_a_coordinate_have_trees_too(store):
    assert provenance(store, "onset")["files"] == provenance(store, "eeg")["files"]
    axis = provenance(store, "spectral_feature")
    assert axis["kind"] == "coordinate"
    assert [one["column"] for one in axis["inputs"]] == ["trials/spectral"]


def test_each_digest_of_a_file_is_that_of_its_bytes_whichever_plugin_read_it(tmp_path):
    write_npy(tmp_path / "npy", train_data=np.ones((3, 2, 8), np.float32),
              train_labels=np.arange(3))  # fmt: skip
    write_idx(tmp_path)
    sections = {
        "source": {"plugin": "npy", "path": str(tmp_path / "npy"), "sfreq": 100.0},
        "stimuli": {"plugin": "idx", "images": str(tmp_path / "images"),
                    "labels": str(tmp_path / "labels")},
    }  # fmt: skip
    build(recipe(**sections, extract=[], split=None), tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")
    assert provenance(store, "eeg")["files"] == [
        {"name": f"train_{what}.npy", "sha256": sha256(tmp_path / "npy" / f"train_{what}.npy")}
        for what in ("data", "labels")
    ]
    assert provenance(store, "stimuli/label")["files"] == [
        {"name": name, "sha256": sha256(tmp_path / name)} for name in ("images", "labels")
    ]


SOURCE = """
path: Path = Path()
def scan(self):
    facts = {"ch_names": ["Cz"], "sfreq": 8.0, "times": np.arange(8) / 8, "units": "V"}
    return Trials(n_trials=2, label=np.arange(2), **facts)
def read(self, start, stop):
    return np.ones((stop - start, 1, 8), np.float32)
"""


@pytest.mark.parametrize("timeout", ["", "timeout_s = 30\n"], ids=["at once", "in a thread"])
def test_the_files_of_a_folder_go_by_their_names_in_it_whatever_bytes_those_are(tmp_path, timeout):
    code = "from pathlib import Path\n" + plugin("source", SOURCE)
    env = lay_out(tmp_path / "site", code)
    files = {b"a.bin": "a.bin", b"deep/b.bin": "deep/b.bin", b"deep/\xff.bin": "deep/\\xff.bin"}
    for name in files:
        file = tmp_path / "data" / os.fsdecode(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name)
    (tmp_path / "recipe.toml").write_text(f'[source]\nplugin = "odd"\npath = "data"\n{timeout}')
    done = run_command("build", "recipe.toml", "a.zarr", cwd=tmp_path, env=env)
    assert done.code == 0, done.err
    store = eegstore.open_store(tmp_path / "a.zarr")
    expected = {shown: hashlib.sha256(name).hexdigest() for name, shown in files.items()}
    told = provenance(store, "eeg")["files"]
    assert {one["name"]: one["sha256"] for one in told} == expected
    zarr.open_group(tmp_path / "a.zarr", mode="r")["trials/eeg"]


def test_of_too_many_files_the_digest_of_all_is_recorded_alone():
    files = tuple((f"{number}.bin", "0" * 64) for number in range(MAX_LISTED + 1))
    assert Content(["a"], files).listed == []
    assert len(Content(["a"], files[1:]).listed) == MAX_LISTED
    assert Content(["a"], files).digest == digest_json(["a"])
    assert Content("fingerprint").digest == "fingerprint"
    assert Content([]).digest == ""


def test_what_names_no_file_has_none(tmp_path):
    build(recipe(extract=[]), tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")
    assert provenance(store, "eeg")["files"] == []
    assert provenance(store, "stimuli/label")["files"] == []


def test_moved_input_keeps_every_byte_but_the_history(folder, tmp_path, store):
    moved = tmp_path / "elsewhere" / "deep"
    moved.mkdir(parents=True)
    for name in ("eeg.h5", "images"):
        source = folder / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, moved / name)
    other = eegstore.open_store(build_every_kind(moved, "raw", executor="serial"))
    assert other.digest == store.digest
    assert data_files(other.folder) == data_files(store.folder)
    for name in store.document_files():
        before, after = ((one.folder / name).read_bytes() for one in (store, other))
        assert before == after, name
        assert str(folder).encode() not in before


def test_a_name_of_both_tables_and_an_unknown_one_are_refused_with_what_to_say(store):
    with pytest.raises(UsageError, match="both tables; say trials/label or stimuli/label"):
        provenance(store, "label")
    with pytest.raises(UsageError, match=r"raw.zarr: no column is called 'spektral'; did you"):
        provenance(store, "spektral")
    with pytest.raises(UsageError, match=r"'stimuli/gradient'; did you mean 'stimuli/gradients'\?"):
        provenance(store, "stimuli/gradient")


def test_the_command_prints_the_tree_in_eighty_columns_and_as_json(folder, store):
    shown = run_command("info", "raw.zarr", "--provenance", "split", cwd=folder,
                        env={"COLUMNS": "80"})  # fmt: skip
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[0] == "trials/split  19 string"
    assert all(len(line) <= 80 for line in lines)
    digest = sha256(folder / "eeg.h5")[:12]
    assert any(line.endswith(f"{digest}  eeg.h5") for line in lines)
    assert sum("eeg.h5" in line and "path" not in line for line in lines) == 1
    told = run_command("info", "raw.zarr", "--provenance", "split", "--json", cwd=folder)
    assert json.loads(told.out) == provenance(store, "split")
    refused = run_command("info", "raw.zarr", "--provenance", "labels", cwd=folder)
    check_refused(refused, 2, "no column is called 'labels'; did you mean 'label'?")


@pytest.mark.parametrize("name", ["format-1/raw", "format-2/raw"])
def test_a_store_of_an_older_eegstore_says_what_it_recorded(tmp_path, name):
    unpack(name, tmp_path)
    shown = run_command("info", "raw.zarr", "--provenance", "spectral", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert "the files that were read: not recorded" in " ".join(shown.out.split())
    store = eegstore.open_store(tmp_path / "raw.zarr")
    for entry in store.attributes.columns:
        tree = provenance(store, entry.path)
        assert tree["key"] == entry.key
        assert "api" not in tree["producer"]


def test_a_build_says_which_package_made_what_is_missing(tmp_path):
    site = tmp_path / "site"
    env = lay_out(site, extractor(CALL))
    (tmp_path / "recipe.toml").write_text(THEIRS + ODD)
    assert run_command("build", "recipe.toml", "a.zarr", cwd=tmp_path, env=env).code == 0
    for plan in ((), ("--plan",)):
        outcome = run_command("build", "recipe.toml", "a.zarr", *plan, cwd=tmp_path)
        remedy = "; the store's was made by theirs 1.0; run: pip install theirs==1.0\n"
        check_refused(outcome, 3, "no extractor is called 'odd'; ", remedy)
    outcome = run_command("build", "recipe.toml", "b.zarr", cwd=tmp_path)
    check_refused(outcome, 3, "no extractor is called 'odd'; ")
    assert "pip install" not in outcome.err
    outcome = run_command("build", "recipe.toml", "a.zarr", cwd=tmp_path,
                          env=env | {"EEGSTORE_PLUGINS": ""})  # fmt: skip
    check_refused(outcome, 3, "made by theirs 1.0, which EEGSTORE_PLUGINS leaves out\n")
    told = run_command("info", "a.zarr", "--provenance", "odd", "--json", cwd=tmp_path)
    assert json.loads(told.out)["producer"]["distribution"] == "theirs"


def test_a_build_says_what_an_installed_package_has_in_place_of_a_plugin(tmp_path):
    site = tmp_path / "site"
    env = lay_out(site, extractor(CALL))
    (tmp_path / "recipe.toml").write_text(THEIRS + ODD)
    assert run_command("build", "recipe.toml", "a.zarr", cwd=tmp_path, env=env).code == 0
    lay_out(site, extractor(CALL).replace('"odd"', '"strange"'))
    outcome = run_command("build", "recipe.toml", "a.zarr", cwd=tmp_path, env=env)
    instead = (
        "which is installed, has 'strange': the plugin may have another name now, to be changed"
    )
    check_refused(
        outcome, 3, f"the store's was made by theirs 1.0; theirs 1.0, {instead} in the re"
    )
    lay_out(site, plugin("split", "def __call__(self, trials, stimulus, stimuli): ..."))
    outcome = run_command("build", "recipe.toml", "a.zarr", cwd=tmp_path, env=env)
    check_refused(outcome, 3, "theirs 1.0, which is installed, has no extractor: the plugin may")
    lay_out(site, "import absent_module\n" + extractor(CALL))
    outcome = run_command("build", "recipe.toml", "a.zarr", cwd=tmp_path, env=env)
    check_refused(outcome, 4, "theirs, ModuleNotFoundError: No module named 'absent_module'",
                  "made by theirs 1.0, which could not be loaded\n")  # fmt: skip


def test_an_image_says_which_package_has_the_provider(tmp_path):
    body = """
def scan(self):
    return Stimuli(image_path=["a"], label=np.zeros(1, dtype=int), concept=["a"], caption=["a"],
                   content_id=["a"])
def read(self, start, stop):
    return [np.full((2, 2, 3), 7, dtype=np.uint8)]
"""
    env = lay_out(tmp_path / "site", plugin("stimuli", body))
    (tmp_path / "recipe.toml").write_text(
        THEIRS + '[stimuli]\nplugin = "odd"\n[pairing]\nplugin = "label"\nunmatched = "keep"\n'
    )
    assert run_command("build", "recipe.toml", "a.zarr", cwd=tmp_path, env=env).code == 0
    remedy = (
        r"no stimuli is called 'odd'; .*; the store's was made by theirs 1.0; run: pip install "
    )
    with pytest.raises(eegstore.RecipeError, match=remedy + "theirs==1.0$"):
        eegstore.open_store(tmp_path / "a.zarr").image(0)


def test_a_build_says_which_package_made_what_an_unfinished_build_has_done(tmp_path):
    code = f'if block.start:\n    raise ValueError("no")\n{CALL}'
    env = lay_out(tmp_path / "site", extractor(code))
    # Two shards, the second of which the plugin fails at.
    (tmp_path / "recipe.toml").write_text(
        THEIRS.replace("n_trials = 8", "n_trials = 600").replace("= 16", "= 20000") + ODD
    )
    failed = run_command("build", "recipe.toml", "a.zarr", "--executor", "serial", cwd=tmp_path,
                         env=env)  # fmt: skip
    assert failed.code == 4, failed
    outcome = run_command("build", "recipe.toml", "a.zarr", cwd=tmp_path)
    check_refused(outcome, 3, "the store's was made by theirs 1.0; run: pip install theirs==1.0\n")


@pytest.mark.parametrize(
    ("distribution", "version"),
    [("theirs; rm -rf /", "1.0"), ("--index-url=http://evil", "1.0"), ("theirs", "1.0 && x"),
     ("theirs", ""), ("", "1.0"), ("theirs\n", "1.0"), (None, None)],
)  # fmt: skip
def test_no_command_is_made_of_what_cannot_be_a_packages_name(
    tmp_path, monkeypatch, distribution, version
):
    from eegstore import provenance as module

    producer = {"kind": "extractor", "name": "odd", "distribution": distribution,
                "distribution_version": version}  # fmt: skip
    monkeypatch.setattr(module, "_producers", lambda path: iter([producer]))
    with pytest.raises(eegstore.RecipeError) as refused, module.maker_named(tmp_path):
        registry.find("extractor", "odd")
    assert "pip install" not in str(refused.value)


def facts(**changes: Any) -> dict[str, Any]:
    """What attributes record of a column, with changes of its producer and of its inputs."""
    inputs = changes.pop("inputs", {"eeg": "a"})
    producer = {"name": "odd", "version": "1", "distribution": "theirs", "api": 1, "options": {}}
    return {"producer": producer | changes, "inputs": inputs}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"version": "2"}, "version 1 → 2"),
        ({"options": {"scale": 1.0}}, {"options": {"scale": 2.5}}, "scale 1.0 → 2.5"),
        ({"source": "a"}, {"source": "b"}, "the source of theirs was edited"),
        ({}, {"source": "b"}, "theirs is installed as editable"),
        ({"source": "a"}, {}, "theirs was installed as editable"),
        ({}, {"api": 2}, "plugin API 1 → 2"),
        ({"content": "a"}, {"content": "b"}, "the content that odd reads has changed"),
        ({}, {"inputs": {"eeg": "b"}}, "it reads eeg, made anew"),
        ({}, {"version": "2", "inputs": {"eeg": "b"}}, "version 1 → 2, it reads eeg, made anew"),
        ({}, {}, "the rows, [store] or the format are others"),
    ],
)
def test_why_a_column_is_made_anew_is_what_differs(before, after, expected):
    assert difference(facts(**before), facts(**after)) == expected


def test_a_plan_says_why_a_column_is_replaced(tmp_path):
    build(recipe(stimuli=None, pairing=None, extract=[{"plugin": "spectral"}]), tmp_path / "a.zarr")
    changed = recipe(stimuli=None, pairing=None,
                     extract=[{"plugin": "spectral", "window": "boxcar"}])  # fmt: skip
    from eegstore import builder, render

    planned = builder.plan(changed, tmp_path / "a.zarr")
    why = {one["path"]: one["why"] for one in render.plan_document(planned)["columns"]}
    assert why == {"trials/eeg": "", "trials/spectral": "window 'hann' → 'boxcar'"}


FIT = """
table: ClassVar[str] = "trials"
reads: ClassVar[tuple[str, ...]] = ("eeg",)
def describe(self, inputs):
    return ColumnSpec((), (), "float32")
def fit(self, blocks):
    return {"most": np.max([block["eeg"].max() for block in blocks])}
def restore(self, state):
    object.__setattr__(self, "most", state["most"])
def __call__(self, block):
    return (block["eeg"].max(axis=(1, 2)) / self.most).astype(np.float32)
"""


def test_the_tree_of_a_fitted_column_names_the_split_and_its_state(tmp_path):
    env = lay_out(tmp_path / "site", plugin("extractor", FIT))
    split = '[split]\nplugin = "random"\ntest_size = 0.25\n'
    (tmp_path / "recipe.toml").write_text(THEIRS + split + ODD)
    done = run_command("build", "recipe.toml", "a.zarr", cwd=tmp_path, env=env)
    assert done.code == 0, done.err
    store = eegstore.open_store(tmp_path / "a.zarr")
    tree = provenance(store, "odd")
    assert tree["fitted"] == {"split": "train", "state": entry(store, "trials/odd_state").digest}
    assert [one["column"] for one in tree["inputs"]] == ["trials/eeg", "trials/split"]
    (fitted,) = provenance(store, "odd_state")["inputs"]
    assert fitted["column"] == "trials/odd"
    shown = run_command("info", "a.zarr", "--provenance", "odd", cwd=tmp_path)
    assert f"fitted on train, state {tree['fitted']['state'][:12]}\n" in shown.out
