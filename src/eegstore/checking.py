"""Checks plugins with the conformance kit: installed ones, or a project's that are not."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eegstore import registry
from eegstore.errors import InputError, UsageError
from eegstore.hookspecs import PROJECT
from eegstore.recipe import parse_value
from eegstore.registry import OK, Plugin

LOADS: Final = "It can be imported, and the host can use its class."
MANIFEST: Final = "pyproject.toml"


@dataclass(frozen=True)
class Tried:
    """A check, and what came of it: ``passed`` is None where it does not apply."""

    name: str
    what: str
    passed: bool | None
    detail: str = ""


@dataclass(frozen=True)
class Checked:
    """A plugin, and all that was tried with it."""

    plugin: Plugin
    tried: tuple[Tried, ...]

    @property
    def n_failed(self) -> int:
        """How many checks failed."""
        return sum(one.passed is False for one in self.tried)

    def document(self) -> dict[str, Any]:
        """What ``eegstore plugins check --json`` prints of it."""
        checks = [vars(one) for one in self.tried]
        return {**self.plugin.row(), "ok": not self.n_failed, "checks": checks}


def check(plugins: Sequence[Plugin], assignments: Sequence[str]) -> list[Checked]:
    """Try everything that is expected of some plugins.

    Parameters
    ----------
    plugins
        The plugins; of a broken one the reason is all that can be told.
    assignments
        ``option=value``, as ``--set`` takes them; each plugin is given those that it has.

    Raises
    ------
    RecipeError
        Where an option is unknown, wrong, or lacks.
    """
    options = dict(map(_assigned, assignments))
    return [_checked(one, _own(one, options, plugins)) for one in plugins]


def _assigned(assignment: str) -> tuple[str, Any]:
    option, equals, text = assignment.partition("=")
    if not equals or not option.strip():
        raise UsageError(f"--set {assignment}: expected OPTION=VALUE, such as seed=1")
    return option.strip(), parse_value(text.strip())


def _own(plugin: Plugin, options: Mapping[str, Any], plugins: Sequence[Plugin]) -> dict[str, Any]:
    """The options that a plugin is given: its own, and what none of them has, which it refuses."""
    usable: list[tuple[Plugin, Any]] = [(one, one.cls) for one in plugins if one.cls]
    fields = {id(one): registry.options_model(cls).model_fields for one, cls in usable}
    known = {name for names in fields.values() for name in names}
    mine = fields.get(id(plugin), {})
    return {name: value for name, value in options.items() if name in mine or name not in known}


def _checked(plugin: Plugin, options: Mapping[str, Any]) -> Checked:
    if plugin.cls is None:
        return Checked(plugin, (Tried("loads", LOADS, False, plugin.status),))
    from eegstore import testing

    where = f"{plugin.kind} {plugin.name!r} (options are given by --set)"
    made = registry.create(plugin.kind, plugin.name, options, Path.cwd(), where)
    outcomes = [
        Tried(str(one.check), one.check.what, one.passed, one.detail)
        for one in testing.run(made, plugin.kind)
    ]
    return Checked(plugin, (Tried("loads", LOADS, plugin.status == OK), *outcomes))


def is_project(name: str) -> bool:
    """Whether a name is that of a folder, and none that a plugin could have."""
    return Path(name, MANIFEST).is_file() or name.startswith((".", os.sep)) or name.count("/") > 1


@contextlib.contextmanager
def project(folder: Path) -> Iterator[list[Plugin]]:
    """The plugins of a project's folder, found as if it were installed.

    Raises
    ------
    InputError
        Where it is no project that has plugins.
    """
    facts, modules = _manifest(folder)
    name, version = str(facts.get("name", folder.name)), str(facts.get("version", "0"))
    source = folder / "src" if (folder / "src").is_dir() else folder
    with tempfile.TemporaryDirectory(prefix="eegstore-") as site:
        _lay_out(Path(site), name, version, modules)
        with _path([site, str(source.resolve())]), _chosen(name):
            yield [one for one in registry.plugins() if one.distribution == name]
    registry.plugins.cache_clear()


def _manifest(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The table ``[project]`` of a folder, and its entry points: name to module."""
    file = folder / MANIFEST
    if not folder.exists():
        raise InputError(f"{folder}: no such folder, expected that of a plugin's project")
    try:
        facts = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}, expected a plugin's project") from None
    except ValueError as error:
        raise InputError(f"{file}: not valid TOML: {error}") from None
    modules = facts.get("entry-points", {}).get(PROJECT, {})
    if not modules:
        raise InputError(f"{file}: has no plugins, expected [project.entry-points.{PROJECT}]")
    return facts, modules


def _lay_out(site: Path, name: str, version: str, modules: Mapping[str, str]) -> None:
    """What an installer notes of a distribution; the code stays where it is."""
    notes = site / f"{name.replace('-', '_')}-{version}.dist-info"
    notes.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (notes / "METADATA").write_text(metadata, encoding="utf-8")
    lines = [f"[{PROJECT}]", *(f"{key} = {module}" for key, module in modules.items())]
    (notes / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _path(folders: list[str]) -> Iterator[None]:
    """Import from these folders first, in processes that are started meanwhile too."""
    before, variable = sys.path[:], os.environ.get("PYTHONPATH")
    sys.path[:0] = folders
    os.environ["PYTHONPATH"] = os.pathsep.join([*folders, *([variable] if variable else [])])
    importlib.invalidate_caches()
    registry.plugins.cache_clear()
    try:
        yield
    finally:
        sys.path[:] = before
        _set("PYTHONPATH", variable)


@contextlib.contextmanager
def _chosen(distribution: str) -> Iterator[None]:
    """Let a distribution in, whatever ``EEGSTORE_PLUGINS`` says of others."""
    chosen = os.environ.get("EEGSTORE_PLUGINS")
    if chosen is not None:
        os.environ["EEGSTORE_PLUGINS"] = f"{chosen},{distribution}"
    try:
        yield
    finally:
        _set("EEGSTORE_PLUGINS", chosen)


def _set(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value
