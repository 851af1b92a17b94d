"""The built-in plugins keep every promise of their kind; and the kit as a plugin's tests use it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eegstore
import inputs
from broken_extractors import FitsAlone, Float64, Sound, Twice, local
from broken_plugins import SOUND
from eegstore import registry, testing
from test_testing import failed
from third_party import lay_out, plugin

# Plugins that need no input, and the function that writes it for the others.
DEFAULT = [
    *[("source", "synthetic"), ("stimuli", "digits")],
    *[("extractor", name) for name in ("spectral", "temporal", "quality", "hog")],
    *[("pairing", name) for name in ("label", "event", "balanced")],
    *[("split", name) for name in ("random", "source", "chronological")],
    *[("split", name) for name in ("subject", "session", "block", "concept", "stimulus")],
    *[("exporter", "npy"), ("exporter", "hdf5"), ("executor", "serial"), ("executor", "processes")],
]
WITH_INPUT: dict[tuple[str, str], Callable[[Path], Any]] = {
    ("source", "npy"): inputs.npy,
    ("source", "hdf5"): inputs.hdf5,
    ("source", "mindbigdata"): inputs.mindbigdata,
    ("source", "mne"): inputs.fif,
    ("stimuli", "idx"): inputs.idx,
    ("stimuli", "image-folder"): inputs.images,
    ("extractor", "clip-image"): lambda folder: inputs.model(folder, "image"),
    ("extractor", "clip-text"): lambda folder: inputs.model(folder, "text"),
    ("pairing", "similarity"): lambda folder: inputs.compared(folder, "similarity"),
    ("pairing", "mutual"): lambda folder: inputs.compared(folder, "mutual"),
    ("pairing", "multi-stage"): lambda folder: inputs.compared(folder, "multi-stage"),
    ("split", "published"): inputs.published,
    ("extractor", "ridge"): lambda _: {"extract": {"target": "stimuli/hog"}},
    ("extractor", "cca"): lambda _: {"extract": {"target": "stimuli/hog"}},
    ("extractor", "contrastive"): lambda _: {
        "extract": {"target": "stimuli/hog", "max_epochs": 4, "width": 8}
    },
}


def options_of(kind: str, name: str, folder: Path) -> dict[str, Any]:
    """The options of a plugin in the recipe that reads its input, which is written."""
    section = WITH_INPUT[kind, name](folder)[{"extractor": "extract"}.get(kind, kind)]
    section = section[0] if isinstance(section, list) else section
    return {key: value for key, value in section.items() if key != "plugin"}


def test_every_built_in_plugin_is_checked():
    built_in = [one for one in registry.plugins() if one.distribution == "eegstore"]
    assert {(one.kind, one.name) for one in built_in} == {*DEFAULT, *WITH_INPUT}


# Each of their processes loads torch and a model, or fits many times.
NIGHTLY = [pytest.mark.nightly, pytest.mark.timeout(3600)]
SLOW = ("clip-image", "clip-text", "cca", "contrastive")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(*one, marks=NIGHTLY if one[1] in SLOW else [])
        for one in (*DEFAULT, *WITH_INPUT)
    ],
)
def test_a_built_in_plugin_conforms(tmp_path, kind, name):
    folder = tmp_path / "input"
    folder.mkdir()
    options = {} if (kind, name) in DEFAULT else options_of(kind, name, folder)
    cls = registry.find(kind, name).cls
    plugin = eegstore.configure(cls, options, tmp_path, name)
    assert testing.kind_of(plugin) == kind
    outcomes = testing.run(plugin)
    assert failed(outcomes) == {}
    assert not [one for one in outcomes if one.detail.startswith("not tried")]


@pytest.mark.parametrize("choose", ["cycle", "random"])
def test_pairs_that_take_turns_or_are_drawn_conform(choose):
    cls = registry.find("pairing", "label").cls
    outcomes = testing.run(cls(choose=choose))
    assert failed(outcomes) == {}
    (permuted,) = [one.passed for one in outcomes if str(one.check) == "permuted"]
    assert permuted is (True if choose == "cycle" else None)


SPACE = {"query": "trials/embedding", "gallery": "stimuli/embedding"}
OPTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("pairing", "label", {"choose": "cycle", "k": 2, "quality": "trials/quality"}),
    ("pairing", "similarity", SPACE | {"metric": "euclidean", "k": 3}),
    ("pairing", "similarity", SPACE | {"method": "csls", "k": 2}),
    ("pairing", "similarity", SPACE | {"method": "sinkhorn", "k": 2}),
    ("pairing", "similarity", SPACE | {"method": "assignment", "capacity": 1}),
    ("pairing", "mutual", SPACE | {"n_trials": 3}),
    ("pairing", "multi-stage", SPACE | {"k": 3}),
    ("split", "random", {"n_folds": 3}),
    ("split", "subject", {"leave_one_out": True}),
    ("split", "stimulus", {"n_folds": 2, "test_size": 0.3}),
    ("split", "concept", {"val_size": 0.2, "unpaired": "train"}),
    ("split", "chronological", {"n_folds": 3, "gap": 1}),
]


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        pytest.param(*one, marks=[] if number % 4 == 2 else [pytest.mark.nightly])
        for number, one in enumerate(OPTIONS)
    ],
)
def test_a_built_in_plugin_conforms_with_other_options(tmp_path, kind, name, options):
    plugin = eegstore.configure(registry.find(kind, name).cls, options, tmp_path, name)
    outcomes = testing.run(plugin)
    assert failed(outcomes) == {}
    assert not [one for one in outcomes if one.detail.startswith("not tried")]


def test_conforms_names_all_that_is_broken():
    with pytest.raises(testing.Violation) as raised:
        testing.conforms(Twice())
    lines = str(raised.value).splitlines()
    assert lines[0] == "Twice breaks 2:"
    assert lines[1].startswith("options-checked: the option 'more' took each of [true, 1.5, ")
    assert lines[2].startswith("described-shape: a call on 1 rows gave float64 (1, 4), ")
    testing.conforms(Sound())


def test_a_violation_says_what_came_and_what_was_expected():
    (check,) = [one for one in testing.checks("extractor") if str(one) == "described-shape"]
    with pytest.raises(testing.Violation) as raised:
        check(Float64())
    assert str(raised.value) == "a call on 1 rows gave float64 (1, 4), described as float32 (1, 4)"


def test_what_does_not_apply_is_a_skip():
    (check,) = [one for one in testing.checks("extractor") if str(one) == "fit-repeats"]
    with pytest.raises(testing.NotApplicable, match=r"it is not fitted: it has no fit\(\)"):
        check(Sound())
    assert testing.Violation.__mro__[1] is AssertionError


@pytest.mark.parametrize("kind", testing.KINDS)
def test_checks_are_named_and_say_what_they_are_for(kind):
    checks = testing.checks(kind)
    assert len({str(check) for check in checks}) == len(checks)
    for check in checks:
        assert check.kind == kind
        assert check.name == check.name.lower().replace("_", "-").replace(" ", "-")
        assert check.what.endswith(".")


def test_the_kind_follows_from_the_class():
    for kind, plugins in SOUND.items():
        assert [testing.kind_of(plugin) for plugin in plugins] == [kind] * len(plugins)
    assert testing.kind_of(Sound()) == "extractor"
    assert testing.kind_of(local()) == "extractor"
    with pytest.raises(ValueError, match="the kind of object does not follow from its class"):
        testing.kind_of(object())
    with pytest.raises(ValueError, match="no kind is called 'plot'"):
        testing.checks("plot")


def test_an_extractor_may_read_another_extractors_column(tmp_path):
    """Columns of an installed extractor are computed; what nobody here knows is not tried."""
    code = """
    def describe(self, inputs):
        return ColumnSpec((), (), "float32")
    def __call__(self, block):
        return block["{read}"].reshape(block.n_rows, -1).sum(axis=1).astype("float32")
    """
    head = 'table: ClassVar[str] = "trials"\nreads: ClassVar[tuple[str, ...]] = ("{read}",)\n'
    report = (
        "import theirs, sys; from eegstore import testing\n"
        "if __name__ == '__main__':\n"
        "    for one in testing.run(theirs.Odd()): print(one.check, one.passed, one.detail)\n"
    )
    found = {}
    for read in ("temporal", "mystery"):
        body = (head + textwrap.dedent(code)).replace("{read}", read)
        site = tmp_path / read
        variables = lay_out(site, plugin("extractor", body))
        (site / "report.py").write_text(report)
        done = subprocess.run(
            [sys.executable, site / "report.py"], env=os.environ | variables, capture_output=True,
            text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
        found[read] = {check: (passed, detail) for check, passed, detail in lines}
    assert "False" not in {passed for passed, _ in found["temporal"].values()}
    assert found["temporal"]["column-key"][0] == "True"
    assert found["temporal"]["rows-alone"][0] == "True"
    assert found["mystery"]["rows-alone"][0] == "None"
    assert "reads trials/mystery: no extractor of that name" in found["mystery"]["rows-alone"][1]


TESTS = """
import eegstore, pytest
from eegstore import testing
from their_extractor import Odd

@pytest.mark.parametrize("check", testing.checks("extractor"), ids=str)
def test_it_conforms(check):
    check(Odd())

def test_with_a_store(tiny_store):
    store = eegstore.open_store(tiny_store)
    assert len(store.trials["eeg"]) == 20
    assert store.stimuli["hog"][:].shape[0] == 10

def test_with_the_same_store(tiny_store):
    assert tiny_store.name == "tiny.zarr"
"""


def test_a_plugins_tests_run_the_checks_and_have_a_store(tmp_path):
    """By pytest as an author runs it; the fixture comes from the entry point."""
    body = """
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)
    def describe(self, inputs):
        return ColumnSpec((), (), "float32")
    def __call__(self, block):
        return block["eeg"].max(axis=(1, 2)) * (1 + block.n_rows % 2)
    """
    variables = lay_out(
        tmp_path / "site", plugin("extractor", textwrap.dedent(body)), name="their_extractor"
    )
    facts = tmp_path / "site" / "their_extractor-1.0.dist-info" / "entry_points.txt"
    facts.write_text(facts.read_text() + "[pytest11]\neegstore = eegstore.testing.pytest_plugin\n")
    (tmp_path / "test_theirs.py").write_text(TESTS)
    options = ("-q", "-rsf", "-p", "no:cacheprovider", "-W", "error")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_theirs.py"],
        cwd=tmp_path,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=200,
    )
    shown = done.stdout + done.stderr
    assert "1 failed" in shown, shown
    assert "FAILED test_theirs.py::test_it_conforms[rows-alone]" in shown
    assert "5 skipped" in shown
    assert "it is not fitted: it has no fit()" in shown
    n_checks = len(testing.checks("extractor"))
    assert f"{n_checks + 2 - 6} passed" in shown


def test_importing_the_kit_imports_neither_numpy_nor_pytest():
    """It is imported in every run of pytest where eegstore is installed."""
    heavy = "{'numpy', 'pytest', 'zarr'}"
    code = f"import sys, eegstore.testing; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_promise_that_stands_in_the_way_is_named():
    outcomes = {str(one.check): one for one in testing.run(FitsAlone())}
    assert outcomes["rows-alone"].passed is None
    expected = "not tried: (fit-and-restore) it has fit() and no restore(), expected both"
    assert outcomes["rows-alone"].detail == expected
