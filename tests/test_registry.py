"""Plugins: what is found, what a broken one may break, and how options are validated."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import eegstore
from built_in import BUILT_IN
from eegstore import PluginError, RecipeError, registry
from eegstore.errors import HiddenPluginError
from eegstore.hookspecs import HOOK_OF_KIND
from eegstore.schema import recipe_schema

PEAK = """
from dataclasses import dataclass, field
from typing import ClassVar
from eegstore import ColumnSpec, hookimpl

@dataclass(frozen=True)
class Peak:
    \"\"\"Largest absolute value.\"\"\"
    name: ClassVar[str] = "peak"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)
    scale: float = field(default=1.0, metadata={"description": "Factor.", "gt": 0})
    def describe(self, inputs):
        return ColumnSpec(("channel",), inputs["eeg"].shape[:1], "float32")
    def __call__(self, block):
        return self.scale * abs(block["eeg"]).max(axis=-1)

@hookimpl
def eegstore_extractors():
    return [Peak]
"""
Install = Callable[..., None]


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look for plugins anew in each test, and leave nothing of it behind."""
    monkeypatch.delenv("EEGSTORE_PLUGINS", raising=False)
    registry.plugins.cache_clear()
    yield
    registry.plugins.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python imports from, and finds installed distributions in."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def install(site: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lay out a distribution of one module as pip would."""

    def lay_out(distribution: str, code: str, entry_point: str | None = None) -> None:
        module = distribution.replace("-", "_")
        monkeypatch.delitem(sys.modules, module, raising=False)
        (site / f"{module}.py").write_text(code)
        facts = site / f"{module}-2.5.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.5\n"
        )
        (facts / "entry_points.txt").write_text(f"[eegstore]\n{entry_point or module} = {module}\n")
        registry.plugins.cache_clear()

    return lay_out


def built_in() -> list[tuple[str, str]]:
    return [
        (one.kind, one.name)
        for one in registry.plugins()
        if one.distribution == "eegstore" and one.cls is not None and one.status == "ok"
    ]


def test_every_built_in_plugin_is_found_and_usable():
    assert built_in() == BUILT_IN
    assert {kind for kind, _ in BUILT_IN} == set(HOOK_OF_KIND)


def test_only_a_name_that_no_built_in_has_imports_others(install):
    install("their_plugin", PEAK)
    assert registry.find("extractor", "spectral").distribution == "eegstore"
    assert registry.named("exporter", "npy")[0].distribution == "eegstore"
    assert registry.create("split", "random", {}, Path()).name == "random"
    assert "their_plugin" not in sys.modules
    assert registry.broken() == []
    assert registry.find("extractor", "peak").distribution == "their_plugin"
    assert "their_plugin" in sys.modules


def test_a_third_partys_plugin_is_found_with_its_distribution(install):
    install("their-plugin", PEAK)
    peak = registry.find("extractor", "peak")
    assert peak.row() == {
        "kind": "extractor",
        "name": "peak",
        "version": "1",
        "distribution": "their-plugin 2.5",
        "status": "ok",
    }
    assert registry.create("extractor", "peak", {"scale": 2}, Path()).scale == 2.0
    assert built_in() == BUILT_IN


def test_the_variable_eegstore_plugins_chooses_among_third_parties(install, monkeypatch):
    install("their-plugin", PEAK)
    install("another", PEAK.replace("peak", "trough"))
    for chosen, expected in {"": set(), "another": {"trough"}, "x, Their_Plugin": {"peak"}}.items():
        monkeypatch.setenv("EEGSTORE_PLUGINS", chosen)
        registry.plugins.cache_clear()
        theirs = {one.name for one in registry.plugins() if one.distribution != "eegstore"}
        assert theirs == expected
        assert built_in() == BUILT_IN


BROKEN = {
    "import error": (
        "import a_module_that_is_not_there",
        r"ModuleNotFoundError: No module named 'a_module_that_is_not_there' \(broken.py:1\); --deb",
    ),
    "syntax error": ("def broken(:", r"SyntaxError: .* \(broken.py, line 1\); --debug"),
    "exit at import": ("import sys; sys.exit(3)", r"SystemExit: 3 \(broken.py:1\); --debug shows"),
    "error of many lines": (
        "raise ValueError('one\\n\\n  two')",
        r"ValueError: one two \(broken.py:1\); --debug",
    ),
    "endless error": ("raise ValueError('word ' * 1000)", "ValueError: word word"),
    "unknown hook": (
        PEAK.replace("def eegstore_extractors", "def eegstore_extractor"),
        "PluginValidationError: unknown hook 'eegstore_extractor' in plugin 'broken'; did you mean "
        r"'eegstore_extractors'\?",
    ),
    "wrong signature": (
        PEAK.replace("def eegstore_extractors()", "def eegstore_extractors(recipe)"),
        "PluginValidationError: .* Argument\\(s\\) {'recipe'} are declared",
    ),
    "hook that raises": (
        PEAK.replace("return [Peak]", "return [1 / 0]"),
        r"ZeroDivisionError: division by zero \(eegstore_extractors, broken.py:21\); --debug",
    ),
    "hook that returns no list": (PEAK.replace("return [Peak]", "return 3"), "TypeError: "),
    "nothing registered": (
        PEAK.replace("@hookimpl", ""),
        "PluginError: registers nothing: no function marked with eegstore.hookimpl",
    ),
    "another interface": (
        "EEGSTORE_PLUGIN_API = 2" + PEAK,
        "PluginError: targets plugin API 2, this eegstore has 1",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_plugin_that_cannot_be_loaded_costs_one_line_and_nothing_else(install, case):
    code, reason = BROKEN[case]
    install("broken", code)
    (row,) = [one for one in registry.plugins() if one.distribution != "eegstore"]
    assert (row.kind, row.name, row.distribution, row.cls) == ("", "broken", "broken", None)
    assert len(row.status.splitlines()) == 1
    assert len(row.status) <= 200
    assert "Traceback" in row.trace
    assert built_in() == BUILT_IN
    with pytest.raises(PluginError, match=f"extractor 'broken' of broken is broken: {reason}"):
        registry.find("extractor", "broken")
    loaded = "it may be of one that is not loaded: broken, "
    with pytest.raises(HiddenPluginError, match=f"'peak'; .*; {loaded}{reason}"):
        registry.find("extractor", "peak")


MISFITS = {
    "no dataclass": (("@dataclass(frozen=True)", ""), "Peak is not a frozen dataclass"),
    "not frozen": (("@dataclass(frozen=True)", "@dataclass"), "Peak is not a frozen dataclass"),
    "no describe": (("def describe", "def describes"), "Peak lacks describe"),
    "no call": (("def __call__", "def call"), "Peak lacks __call__"),
    "no table": (("    table: ClassVar", "    tables: ClassVar"), "Peak lacks table"),
    "no version": (
        ("    version: ClassVar", "    number: ClassVar"),
        "Peak.version is missing, exp",
    ),
    "a number as version": (('[str] = "1"', "[int] = 1"), "Peak.version is missing, expected a st"),
    "no call with a block": (
        ("__call__(self, block)", "__call__(self)"),
        r"Peak.__call__\(self\) cannot be called with \(block\)$",
    ),
    "a call that needs more": (
        ("describe(self, inputs)", "describe(self, inputs: dict, *, sfreq: float)"),
        r"Peak.describe\(self, inputs, \*, sfreq\) cannot be called with \(inputs\)$",
    ),
    "a call that is none": (
        ("    def describe(self, inputs):", "    describe = 3\n    def describes(self, inputs):"),
        r"Peak.describe, of type int, cannot be called with \(inputs\)$",
    ),
    "prepare that takes something": (
        ("    def describe", "    def prepare(self, device): ...\n    def describe"),
        r"Peak.prepare\(self, device\) cannot be called with \(\)$",
    ),
    "fit alone": (
        ("    def describe", "    def fit(self, blocks): ...\n    def describe"),
        "Peak has fit but lacks restore; it needs both, or neither$",
    ),
    "restore alone": (
        ("    def describe", "    def restore(self, state): ...\n    def describe"),
        "Peak has restore but lacks fit; it needs both, or neither$",
    ),
    "option that no recipe can give": (
        ("scale: float", "scale: 'type(len)'"),
        "the options of Peak cannot be validated: PydanticInvalidForJsonSchema: ",
    ),
    "option of no type": (
        ("scale: float", "scale: 'floot'"),
        "the options of Peak cannot be valida",
    ),
    "option of a bad bound": (('"gt": 0', '"gt": "a"'), "the options of Peak cannot be validated"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_class_that_is_no_plugin_is_refused_by_what_it_lacks(install, case):
    (old, new), reason = MISFITS[case]
    assert PEAK.count(old) == 1
    install("theirs", PEAK.replace(old, new))
    with pytest.raises(PluginError, match=f"extractor 'peak' of theirs is broken: {reason}"):
        registry.find("extractor", "peak")
    (row,) = [one for one in registry.plugins() if one.distribution != "eegstore"]
    assert (row.kind, row.name, row.cls) == ("extractor", "peak", None)
    assert len(row.status.splitlines()) == 1
    assert built_in() == BUILT_IN
    recipe_schema()


SOUND_CALLS = {
    "other names": ("__call__(self, block)", "__call__(self, rows)"),
    "defaults": ("__call__(self, block)", "__call__(self, block, scale=2, **more)"),
    "any arguments": ("__call__(self, block)", "__call__(self, *block)"),
    "a static method": (
        "    def describe(self, inputs)",
        "    @staticmethod\n    def describe(inputs)",
    ),
    "a class method": ("    def describe(self,", "    @classmethod\n    def describe(cls,"),
    "fit and restore": (
        "    def describe",
        "    def fit(self, blocks): ...\n    def restore(self, state): ...\n    def describe",
    ),
}


@pytest.mark.parametrize("case", SOUND_CALLS)
def test_a_class_whose_calls_the_host_can_make_is_a_plugin(install, case):
    old, new = SOUND_CALLS[case]
    assert PEAK.count(old) == 1
    install("theirs", PEAK.replace(old, new))
    assert registry.find("extractor", "peak").status == "ok"


ARGUMENTS = {
    "source": (
        "def scan(self, path): ...\n    def read(self, start, stop): ...",
        "scan(self, path)",
    ),
    "stimuli": ("def scan(self): ...\n    def read(self, rows): ...", "read(self, rows)"),
    "pairing": ("def __call__(self, trials, stimuli): ...", "__call__(self, trials, stimuli)"),
    "split": ("def __call__(self, trials): ...", "__call__(self, trials)"),
    "exporter": ("def __call__(self, store): ...", "__call__(self, store)"),
    "executor": ("def __call__(self): ...", "__call__(self)"),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_a_call_of_any_kind_is_examined(install, kind):
    body, shown = ARGUMENTS[kind]
    head = PEAK[: PEAK.index("    table")].replace("class Peak", "class Odd")
    hook = f"\n@hookimpl\ndef {HOOK_OF_KIND[kind]}():\n    return [Odd]\n"
    install("theirs", f"{head}    {body}\n{hook}")
    (row,) = [one for one in registry.plugins() if one.distribution != "eegstore"]
    assert row.status.startswith(f"Odd.{shown} cannot be called with (")
    assert registry.built_in()[0].status == "ok"


@pytest.mark.parametrize("name", ["Peak", "peak_height", "peak--height", "", "-peak", "péak"])
def test_a_plugins_name_is_kebab_case(install, name):
    install("theirs", PEAK.replace('"peak"', repr(name)))
    (row,) = [one for one in registry.plugins() if one.distribution != "eegstore"]
    assert row.status == f"Peak.name is {name!r}, expected a kebab-case name"
    assert row.cls is None


def test_something_that_is_no_class_is_refused(install):
    install("theirs", PEAK.replace("return [Peak]", "return [Peak()]"))
    (row,) = [one for one in registry.plugins() if one.distribution != "eegstore"]
    assert row.status.startswith("eegstore_extractors returned Peak(scale=1.0)")
    assert row.cls is None


def test_a_broken_class_leaves_the_others_of_its_module(install):
    code = PEAK.replace("return [Peak]", "return [object, Peak]")
    install("theirs", code)
    assert registry.find("extractor", "peak").status == "ok"
    statuses = [one.status for one in registry.plugins() if one.distribution == "theirs"]
    assert sorted(statuses) == ["object.name is None, expected a kebab-case name", "ok"]


def test_a_built_in_keeps_a_name_that_a_third_party_claims(install):
    install("pirate", PEAK.replace('"peak"', '"spectral"'))
    spectral = registry.find("extractor", "spectral")
    assert (spectral.distribution, spectral.status) == ("eegstore", "ok")
    (row,) = [one for one in registry.plugins() if one.distribution == "pirate"]
    assert row.status == "the name is that of a built-in plugin: choose another name"
    assert row.cls is None
    assert built_in() == BUILT_IN


def test_a_name_is_unique_within_its_kind_only(install):
    install("theirs", PEAK.replace('"peak"', '"npy"'))
    assert registry.find("extractor", "npy").distribution == "theirs"
    assert registry.find("source", "npy").distribution == "eegstore"
    assert registry.find("exporter", "npy").distribution == "eegstore"


def test_two_third_parties_that_claim_one_name_are_both_refused_and_named(install):
    install("first", PEAK)
    install("second", PEAK)
    rows = [one for one in registry.plugins() if one.name == "peak"]
    assert {one.distribution for one in rows} == {"first", "second"}
    assert {one.status for one in rows} == {"the name is taken: claimed by first, second"}
    assert {one.cls for one in rows} == {None}
    with pytest.raises(PluginError, match="is broken: the name is taken: claimed by first, second"):
        registry.find("extractor", "peak")
    assert built_in() == BUILT_IN


def test_an_unknown_plugin_is_refused_with_the_nearest_of_its_kind():
    with pytest.raises(RecipeError) as caught:
        registry.find("source", "mindbigdate")
    assert str(caught.value) == "no source is called 'mindbigdate'; did you mean 'mindbigdata'?"
    with pytest.raises(
        RecipeError, match=r"no stimuli is called 'zzz'; known: digits, idx, image-folder$"
    ):
        registry.find("stimuli", "zzz")
    with pytest.raises(RecipeError, match="no source is called 'hog'; known: hdf5, mindbigdata"):
        registry.find("source", "hog")


def test_exit_codes_tell_a_broken_plugin_from_an_unknown_one():
    assert PluginError.exit_code == 4
    assert RecipeError.exit_code == 3
    assert HiddenPluginError.exit_code == 4


def run_eegstore(*arguments: str, site: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from eegstore.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=site)


def test_the_command_line_works_beside_broken_plugins_and_names_the_one_that_a_recipe_needs(
    install, site
):
    install("quitter", "raise SystemExit(3)")
    install("theirs", PEAK.replace("def __call__", "def call"))
    listed = run_eegstore("plugins", "--json", site=site)
    assert listed.returncode == 0
    rows = json.loads(listed.stdout)
    assert [(row["kind"], row["name"]) for row in rows if row["status"] == "ok"] == BUILT_IN
    assert [row["status"] for row in rows if row["status"] != "ok"] == [
        "SystemExit: 3 (quitter.py:1)",
        "Peak lacks __call__",
    ]
    source = '[source]\nplugin = "synthetic"\nn_trials = 2\n'
    (site / "good.toml").write_text(source)
    (site / "bad.toml").write_text(source + '[[extract]]\nplugin = "peak"\n')
    assert run_eegstore("build", "good.toml", "good.zarr", site=site).returncode == 0
    refused = run_eegstore("build", "bad.toml", "bad.zarr", site=site)
    assert refused.returncode == 4
    assert refused.stderr == (
        "eegstore: extractor 'peak' of theirs is broken: Peak lacks __call__\n"
        "eegstore: plugin 'quitter' of quitter is not used: SystemExit: 3 (quitter.py:1); "
        "--debug shows its traceback\n"
        "eegstore: plugin 'peak' of theirs is not used: Peak lacks __call__\n"
    )
    assert not (site / "bad.zarr").exists()


def test_workers_make_plugins_by_name_and_nothing_pickles_one(install, tmp_path):
    unpicklable = "    def __reduce__(self):\n        raise RuntimeError('pickled')\n"
    install("theirs", PEAK.replace("    def describe", unpicklable + "    def describe"))
    recipe = {
        "source": {"plugin": "synthetic", "n_trials": 6, "n_channels": 3, "n_times": 16},
        "extract": [{"plugin": "peak", "scale": 2.0}],
    }
    store = tmp_path / "a.zarr"
    eegstore.build(recipe, store, executor="processes", n_workers=1)
    trials = eegstore.open_store(store).trials
    np.testing.assert_array_equal(trials["peak"][:], 2 * abs(trials["eeg"][:]).max(axis=-1))


OPTIONS = """
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal
from enum import StrEnum
from eegstore import hookimpl

class Mode(StrEnum):
    fast = "fast"
    exact = "exact"

@dataclass(frozen=True)
class Choosy:
    \"\"\"Has an option of every type.\"\"\"
    name: ClassVar[str] = "choosy"
    version: ClassVar[str] = "1"
    path: Path = field(metadata={"description": "A file."})
    count: int = field(default=1, metadata={"ge": 1, "le": 9})
    rate: float = field(default=1.0, metadata={"gt": 0, "json_schema_extra": {"unit": "Hz"}})
    deep: bool = False
    code: str = field(default="ab", metadata={"pattern": "^[a-z]+$", "min_length": 2})
    pad: Literal["nan", "zero"] = "nan"
    mode: Mode = Mode.fast
    names: tuple[str, ...] = ()
    span: tuple[float, float] | None = None
    picks: str | tuple[str, ...] = "eeg"
    event_id: dict[str, int] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    either: Path | tuple[Path, ...] | None = None
    by_split: dict[str, Path] = field(default_factory=dict)
    model: str = field(default="", metadata={"json_schema_extra": {"format": "path"}})
    def __post_init__(self):
        if self.count == 5:
            raise ValueError("count is 5, expected another")
    def scan(self): ...
    def read(self, start, stop): ...

@hookimpl
def eegstore_sources():
    return [Choosy]
"""


@pytest.fixture
def choosy(install: Install, tmp_path: Path) -> Callable[..., Any]:
    """Create the plugin of every type of option, from options as TOML gives them."""
    install("choosy", OPTIONS)
    return lambda **options: registry.create(
        "source", "choosy", {"path": "x"} | options, tmp_path, "[source]"
    )


def test_options_arrive_in_their_types_with_their_defaults(choosy):
    plugin = choosy(
        count=3, rate=2, names=["a", "b"], span=[0, 0.5], picks=["Cz"], event_id={"face": 1},
        mode="exact", pad="zero", deep=True,
    )  # fmt: skip
    assert dataclasses.is_dataclass(plugin)
    assert type(plugin).__name__ == "Choosy"
    assert (plugin.count, plugin.deep, plugin.pad, plugin.code) == (3, True, "zero", "ab")
    assert type(plugin.rate) is float
    assert plugin.rate == 2.0
    assert plugin.names == ("a", "b")
    assert plugin.span == (0.0, 0.5)
    assert plugin.picks == ("Cz",)
    assert plugin.event_id == {"face": 1}
    assert type(plugin.mode).__name__ == "Mode"
    assert plugin.mode == "exact"
    assert choosy().event_id == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": "3"}, "count: got '3', expected a valid integer; remove the quotes"),
        ({"count": "three"}, "count: got 'three', expected a valid integer"),
        ({"count": "true"}, "count: got 'true', expected a valid integer"),
        ({"count": True}, "count: got True, expected a valid integer"),
        ({"count": 3.0}, "count: got 3.0, expected a valid integer"),
        ({"count": 0}, "count: got 0, expected greater than or equal to 1"),
        ({"count": 10}, "count: got 10, expected less than or equal to 9"),
        ({"rate": 0}, "rate: got 0, expected greater than 0"),
        ({"rate": "1"}, "rate: got '1', expected a valid number; remove the quotes"),
        ({"rate": False}, "rate: got False, expected a valid number"),
        ({"deep": 1}, "deep: got 1, expected a valid boolean"),
        ({"deep": "true"}, "deep: got 'true', expected a valid boolean; remove the quotes"),
        ({"code": 3}, "code: got 3, expected a valid string"),
        ({"code": "A1"}, "code: got 'A1', expected a string that matches ^[a-z]+$"),
        ({"code": "a"}, "code: got 'a', expected a length of at least 2"),
        ({"pad": "edge"}, "pad: got 'edge', expected 'nan' or 'zero'"),
        ({"mode": "slow"}, "mode: got 'slow', expected 'fast' or 'exact'"),
        ({"names": "Cz"}, "names: got 'Cz', expected a list"),
        ({"names": ["Cz", 3]}, "names (value 2): got 3, expected a valid string"),
        ({"span": [0]}, "span (value 2): missing, and it has no default"),
        ({"span": [0, 1, 2]}, "span: got [0, 1, 2], expected a length of at most 2"),
        ({"picks": 3}, "picks: got 3, expected a valid string or a list"),
        ({"event_id": {"face": "1"}}, "event_id.face: got '1', expected a valid integer; remove"),
        ({"event_id": [1]}, "event_id: got [1], expected a table of keys"),
        ({"path": 3}, "path: got 3, expected a valid string"),
        ({"either": ["a", 3]}, "either (value 2): got 3, expected a valid string"),
        ({"cuont": 3}, "cuont: unknown key; did you mean 'count'?"),
        ({"zzzzzz": 3}, "zzzzzz: unknown key; known: by_split, code, count, deep, either, "),
        ({"a\nb": 3}, r"'a\nb': unknown key; "),
        ({"count": 5}, "count is 5, expected another"),
        ({"path": "~no-such-user/x"}, "Could not determine home directory."),
    ],
)
def test_options_are_refused_by_section_key_value_and_expectation(choosy, options, message):
    with pytest.raises(RecipeError) as caught:
        choosy(**options)
    assert str(caught.value).startswith(f"[source]: {message}")
    assert ("; remove" in message) == ("remove the quotes" in str(caught.value))
    assert "\n" not in str(caught.value)


def test_an_option_without_default_is_needed(choosy, tmp_path):
    with pytest.raises(RecipeError, match=r"^source 'choosy': path: missing, and it has no def"):
        registry.create("source", "choosy", {}, tmp_path)


def test_paths_start_at_the_recipes_folder(choosy, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert choosy(path="data/x").path == tmp_path / "data" / "x"
    assert choosy(path="/data/x").path == Path("/data/x")
    assert choosy(path="~/x").path == Path("/home/someone/x")
    assert choosy(files=["a", "b"]).files == (tmp_path / "a", tmp_path / "b")
    assert choosy(either="a").either == tmp_path / "a"
    assert choosy(either=["a"]).either == (tmp_path / "a",)
    assert choosy().either is None
    assert choosy(by_split={"train": "t"}).by_split == {"train": tmp_path / "t"}
    assert choosy(code="xy", names=["n"]).code == "xy"


def test_a_string_that_may_be_a_path_is_one_where_something_is_there(choosy, tmp_path, monkeypatch):
    (tmp_path / "clip").mkdir()
    assert choosy(model="clip").model == str(tmp_path / "clip")
    assert choosy(model="openai/clip-vit-base-patch32").model == "openai/clip-vit-base-patch32"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert choosy(model="~/clip").model == str(tmp_path / "clip")
    with pytest.raises(RecipeError, match=r"^\[source\]: .*File name too long"):
        choosy(model="x" * 5000)


def test_path_options_are_found_in_every_type_that_mentions_them(choosy):
    assert registry.path_options(type(choosy())) == {
        "path", "files", "either", "by_split", "model",
    }  # fmt: skip


def test_options_of_a_plugin_are_json_values_that_make_it_again(choosy, tmp_path):
    plugin = choosy(path="/data/x", span=[0, 1], names=["a"], mode="exact")
    options = registry.options_of(plugin)
    assert options["path"] == "/data/x"
    assert (options["span"], options["names"], options["mode"]) == ([0.0, 1.0], ["a"], "exact")
    assert json.loads(json.dumps(options)) == options
    again = {key: value for key, value in options.items() if value is not None}
    assert registry.create("source", "choosy", again, tmp_path) == plugin


def test_the_schema_of_a_recipe_has_the_options_of_every_usable_plugin(choosy):
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    (section,) = [
        one for one in schema["properties"]["source"]["anyOf"] if one["title"] == "choosy"
    ]
    assert section["required"] == ["plugin", "path"]
    properties = section["properties"]
    assert properties["plugin"]["description"] == "Has an option of every type."
    assert (properties["count"]["minimum"], properties["count"]["maximum"]) == (1, 9)
    assert properties["rate"]["unit"] == "Hz"
    assert properties["model"]["format"] == "path"
    assert "allow_skips" in properties

    def valid(**options: Any) -> bool:
        return validator.is_valid({"source": {"plugin": "choosy", "path": "x"} | options})

    assert valid(mode="exact", span=[0, 1], picks=["Cz"], count=9)
    # mode refers to a definition: it is found from the schema's root.
    for wrong in ({"mode": "slow"}, {"span": [0]}, {"count": 10}, {"count": "1"}, {"zzz": 1}):
        assert not valid(**wrong)


def test_two_plugins_may_define_one_name_for_an_options_type(choosy, install):
    other = OPTIONS.replace('"choosy"', '"picky"').replace("exact", "rough")
    install("picky", other)
    validator = jsonschema.Draft202012Validator(recipe_schema())
    for plugin, mode in (("choosy", "exact"), ("picky", "rough")):
        for value in ("exact", "rough"):
            document = {"source": {"plugin": plugin, "path": "x", "mode": value}}
            assert validator.is_valid(document) == (value == mode)
