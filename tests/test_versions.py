"""The versions of the plugin API: which load, and what is deprecated goes on working for one."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import eegstore
from eegstore import PluginError, registry, versions
from eegstore.hookspecs import HOOK_OF_KIND
from eegstore.scan import plugin_key, producer
from eegstore.versions import Deprecated
from third_party import lay_out, plugin

ROOT = Path(__file__).parents[1]
BODY = """
table: ClassVar[str] = "trials"
reads: ClassVar[tuple[str, ...]] = ("eeg",)
scale: float = 1.0
def describe(self, inputs):
    return ColumnSpec((), (), "float32")
def __call__(self, block):
    return block["eeg"].max(axis=(1, 2)) * np.float32(self.loaded)
def setup(self):
    object.__setattr__(self, "loaded", 3)
"""
SETUP = Deprecated("extractor", "setup", "prepare", since=2)
FEATURES = Deprecated("extractor", "eegstore_features", "eegstore_extractors", since=2)
CODE = plugin("extractor", BODY)
OLD_HOOK = CODE.replace("def eegstore_extractors", "def eegstore_features")
TOLD = (
    "plugin 'odd' of theirs: setup is deprecated since plugin API 2 and gone with API 3; "
    "use prepare"
)
TOLD_HOOK = (
    "plugin 'odd' of theirs: the hook eegstore_features is deprecated since plugin API 2 and gone "
    "with API 3; use eegstore_extractors"
)
RECIPE = """
[source]
plugin = "synthetic"
n_trials = 8
n_channels = 2
n_times = 16
[[extract]]
plugin = "odd"
"""
# The next eegstore, in which a member and a hook have other names.
NEXT = """
import sys
from eegstore import cli, versions
versions.EEGSTORE_PLUGIN_API = 2
versions.DEPRECATED = (
    versions.Deprecated("extractor", "setup", "prepare", since=2),
    versions.Deprecated("extractor", "eegstore_features", "eegstore_extractors", since=2),
)
cli.main()
"""
Install = Callable[[str], registry.Plugin]


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    """Look for plugins anew in each test, and leave nothing of it behind."""
    registry.plugins.cache_clear()
    yield
    registry.plugins.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install the code of a module; what is found there."""

    def lay(code: str) -> registry.Plugin:
        monkeypatch.delitem(sys.modules, "theirs", raising=False)
        lay_out(tmp_path, code)
        monkeypatch.syspath_prepend(tmp_path)
        registry.plugins.cache_clear()
        (found,) = [one for one in registry.plugins() if one.distribution == "theirs"]
        return found

    return lay


@pytest.fixture
def _next_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin API 2, in which a member and a hook have other names."""
    monkeypatch.setattr(versions, "EEGSTORE_PLUGIN_API", 2)
    monkeypatch.setattr(versions, "DEPRECATED", (SETUP, FEATURES))


def module(**members: Any) -> ModuleType:
    made = ModuleType("theirs")
    vars(made).update(members)
    return made


def test_the_version_is_public():
    assert eegstore.EEGSTORE_PLUGIN_API == 1
    assert "EEGSTORE_PLUGIN_API" in eegstore.__all__


def test_this_api_has_deprecated_nothing():
    assert versions.DEPRECATED == ()
    assert set(vars(versions.hooks())) >= set(HOOK_OF_KIND.values())


@pytest.mark.parametrize(
    ("current", "supported", "said"),
    [(1, [1], "1"), (2, [1, 2], "1 and 2"), (3, [2, 3], "2 and 3")],
)
def test_the_current_version_loads_and_the_one_before(monkeypatch, current, supported, said):
    monkeypatch.setattr(versions, "EEGSTORE_PLUGIN_API", current)
    for declared in range(-1, 6):
        one = module(EEGSTORE_PLUGIN_API=declared)
        if declared in supported:
            assert versions.targeted(one) == declared
        else:
            with pytest.raises(PluginError, match=f"^targets .* API {declared}, .* has {said}$"):
                versions.targeted(one)


@pytest.mark.parametrize("declared", ["1", 1.0, True, None, [1], "x" * 999])
def test_a_version_that_is_no_number_is_refused_in_short(declared):
    with pytest.raises(PluginError, match="targets plugin API") as refused:
        versions.targeted(module(EEGSTORE_PLUGIN_API=declared))
    assert len(str(refused.value)) < 80


def test_what_declares_no_version_targets_the_first(monkeypatch):
    assert versions.targeted(module()) == 1
    monkeypatch.setattr(versions, "EEGSTORE_PLUGIN_API", 3)
    with pytest.raises(PluginError, match="targets plugin API 1, this eegstore has 2 and 3"):
        versions.targeted(module())


@pytest.mark.usefixtures("_next_api")
@pytest.mark.parametrize("declared", ["", "EEGSTORE_PLUGIN_API = 1\n", "EEGSTORE_PLUGIN_API = 2\n"])
def test_a_deprecated_member_works_and_is_told_of_once(install, declared):
    with pytest.warns(DeprecationWarning, match=f"^{re.escape(TOLD)}$") as warned:
        found = install(declared + CODE)
    assert len(warned) == 1
    assert (found.status, found.notes) == ("ok", (TOLD,))
    assert found.api == (2 if "2" in declared else 1)
    assert registry.notes() == [TOLD]
    odd = registry.create("extractor", "odd", {"scale": 2.0}, Path())
    odd.prepare()
    assert (odd.loaded, odd.scale, type(odd).__name__) == (3, 2.0, "Odd")


@pytest.mark.usefixtures("_next_api")
def test_a_deprecated_hook_works_and_is_told_of_once(install):
    with pytest.warns(DeprecationWarning, match=f"^{re.escape(TOLD_HOOK)}$") as warned:
        found = install(OLD_HOOK.replace("setup", "prepare"))
    assert len(warned) == 1
    assert (found.kind, found.name, found.status) == ("extractor", "odd", "ok")


@pytest.mark.usefixtures("_next_api")
def test_a_plugin_that_serves_both_versions_is_told_nothing(install):
    both = CODE.replace(
        "    def setup", "    def prepare(self):\n        self.setup()\n    def setup"
    )
    both += "\n@hookimpl\ndef eegstore_features():\n    return [Odd]\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = install(both)
    assert (found.status, found.notes) == ("ok", ())
    assert found.cls is sys.modules["theirs"].Odd


@pytest.mark.usefixtures("_next_api")
def test_where_warnings_are_errors_only_the_plugin_is_refused(install):
    found = install(CODE)  # warnings are errors in these tests
    assert found.status.startswith("DeprecationWarning: plugin 'odd' of theirs: setup is deprec")
    assert all(one.cls for one in registry.plugins() if one.distribution == "eegstore")


def test_what_is_deprecated_is_gone_with_the_version_after(install):
    """Its row is deleted then."""
    found = install(CODE)
    assert not hasattr(found.cls, "prepare")
    assert install(OLD_HOOK).status.startswith("PluginValidationError: unknown hook 'eegstore_feat")


def test_a_key_holds_the_api_from_the_second_on(install, monkeypatch):
    install(CODE)
    odd = registry.create("extractor", "odd", {}, Path())
    first = plugin_key("extractor", odd, None)
    assert producer("extractor", odd, None)["api"] == 1
    monkeypatch.setattr(versions, "EEGSTORE_PLUGIN_API", 2)
    install(CODE)
    assert plugin_key("extractor", odd, None) == first
    install("EEGSTORE_PLUGIN_API = 2\n" + CODE)
    assert producer("extractor", odd, None)["api"] == 2
    assert plugin_key("extractor", odd, None) != first


def test_the_command_tells_of_deprecated_use_in_a_line_and_builds(tmp_path):
    env = lay_out(tmp_path / "site", OLD_HOOK)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    command = [sys.executable, "-c", NEXT, "build", "recipe.toml", "a.zarr", "--quiet",
               "--executor", "serial"]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": "", **env}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [f"eegstore: {TOLD_HOOK}", f"eegstore: {TOLD}"]
    trials = eegstore.open_store(tmp_path / "a.zarr").trials
    assert trials["odd"][:].tolist() == (3 * trials["eeg"][:].max(axis=(1, 2))).tolist()


def test_the_page_on_versions_names_this_api_and_every_hook():
    page = (ROOT / "docs" / "plugin-api.md").read_text(encoding="utf-8")
    assert f"EEGSTORE_PLUGIN_API = {eegstore.EEGSTORE_PLUGIN_API}" in page
    assert all(f"`{hook}`" in page for hook in HOOK_OF_KIND.values())
    assert f"The current version is {eegstore.EEGSTORE_PLUGIN_API}" in page
    for row in versions.DEPRECATED:
        assert f"`{row.name}`" in page
    assert metadata.version("eegstore") == eegstore.__version__
