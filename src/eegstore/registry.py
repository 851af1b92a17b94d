"""Finds plugins, keeps a broken one from breaking anything else, and validates their options."""

from __future__ import annotations

import dataclasses
import functools
import json
import traceback
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pluggy
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from eegstore import examination, versions
from eegstore.distributions import entry_points, malformed, wanted
from eegstore.errors import (
    EegStoreError,
    HiddenPluginError,
    MissingPluginError,
    PluginError,
    RecipeError,
)
from eegstore.failures import traced
from eegstore.hookspecs import EEGSTORE_PLUGIN_API, HOOK_OF_KIND, PROJECT
from eegstore.origins import source_digest
from eegstore.recipe import explain, nearest
from eegstore.wording import described, text_of

BUILT_IN: Final = "eegstore"
OK: Final = "ok"


@dataclass(frozen=True)
class Plugin:
    """A plugin class as it was found, or the reason why it cannot be used.

    ``api`` is the version of the plugin API that it targets, ``source`` the digest of its source
    where a third party's distribution is installed as editable, and ``notes`` say what it uses that
    is deprecated.
    """

    kind: str
    name: str
    version: str
    distribution: str
    distribution_version: str
    status: str
    cls: type[Any] | None = None
    trace: str = ""
    api: int = EEGSTORE_PLUGIN_API
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Its kind and name, as ``eegstore plugins show`` takes them."""
        return f"{self.kind}/{self.name}" if self.kind else self.name

    @property
    def reason(self) -> str:
        """Why it cannot be used, and how to see more."""
        return f"{self.status}; --debug shows its traceback" if self.trace else self.status

    def row(self) -> dict[str, str]:
        """The facts that ``eegstore plugins --json`` prints."""
        return {
            "kind": self.kind,
            "name": self.name,
            "version": self.version,
            "distribution": f"{self.distribution} {self.distribution_version}".strip(),
            "status": self.status,
        }


def _options_problem(cls: Any) -> str:
    """Why no model can be made of a plugin's options, or an empty string."""
    try:
        options_model(cls).model_json_schema()
    except Exception as error:
        return f"the options of {cls.__name__} cannot be validated: {described(error)}"
    return ""


def _classes(module: ModuleType) -> list[tuple[str, Any, list[versions.Deprecated]]]:
    """The plugin classes of one module, asked for in a plugin manager of its own.

    With each its kind, and the deprecated hook that gave it, if one did.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(versions.hooks())
    manager.register(module)
    _refuse_unknown_hooks(manager, module)
    found = []
    for kind, hook in HOOK_OF_KIND.items():
        for classes in getattr(manager.hook, hook)():
            if isinstance(classes, type):
                name = classes.__name__
                raise PluginError(f"{hook} returned the class {name}, expected a list: [{name}]")
            found += [(kind, cls, list[versions.Deprecated]()) for cls in classes]
    for old in versions.old_hooks():
        new = getattr(manager.hook, old.instead).get_hookimpls()
        for classes in [] if new else getattr(manager.hook, old.name)():
            found += [(old.kind, cls, [old]) for cls in classes]
    if not found:
        raise PluginError("registers nothing: no function marked with eegstore.hookimpl")
    return found


def _refuse_unknown_hooks(manager: pluggy.PluginManager, module: ModuleType) -> None:
    try:
        manager.check_pending()
    except pluggy.PluginValidationError:
        callers = manager.get_hookcallers(module) or []
        name = next(one.name for one in callers if not one.has_spec())
        said = f"unknown hook {name!r} in plugin {module.__name__!r}"
        hint = nearest(name, HOOK_OF_KIND.values())
        raise pluggy.PluginValidationError(module, f"{said}; {hint}") from None


def _load(entry_point: EntryPoint) -> list[Plugin]:
    """The plugins of one entry point, in isolation: nothing that it does stops the others."""
    origin = _origin(entry_point.dist)
    try:
        # Read before it is imported: an edit in between is then taken for a change, never missed.
        source = "" if origin[0] == BUILT_IN else source_digest(entry_point)
        module = entry_point.load()
        api = EEGSTORE_PLUGIN_API if origin[0] == BUILT_IN else versions.targeted(module)
        found = []
        for kind, given, hooks in _classes(module):
            cls, members = versions.renewed(kind, given)
            plugin = _examined(entry_point.name, origin, kind, cls)
            notes = versions.warn(plugin.name, origin[0], [*hooks, *members])
            found.append(dataclasses.replace(plugin, api=api, source=source, notes=notes))
        return found
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        trace = traceback.format_exc()
        reason = traced(error, entry_point.value.partition(":")[0])
        return [Plugin("", entry_point.name, "", *origin, reason, trace=trace)]


def _examined(entry_point: str, origin: tuple[str, str], kind: str, cls: Any) -> Plugin:
    """A plugin as its class is, or with the reason why it cannot be used."""
    # Models of all options take a fifth of a second; those of our own are made in the tests.
    own = origin[0] == BUILT_IN
    problem = examination.problem(kind, cls) or ("" if own else _options_problem(cls))
    name, version = str(getattr(cls, "name", entry_point)), str(getattr(cls, "version", ""))
    return Plugin(kind, name, version, *origin, problem or OK, None if problem else cls)


def _refuse_taken_names(found: list[Plugin]) -> list[Plugin]:
    """A built-in keeps its name; of third parties that claim one name none gets it."""
    claims: dict[tuple[str, str], list[Plugin]] = {}
    for plugin in found:
        claims.setdefault((plugin.kind, plugin.name), []).append(plugin)
    checked = []
    for plugin in found:
        rivals = [one for one in claims[plugin.kind, plugin.name] if one is not plugin]
        if plugin.cls is not None and rivals and plugin.distribution != BUILT_IN:
            owners = sorted({one.distribution for one in [plugin, *rivals]})
            reason = f"the name is taken: claimed by {', '.join(owners)}"
            if BUILT_IN in owners:
                reason = "the name is that of a built-in plugin: choose another name"
            plugin = dataclasses.replace(plugin, status=reason, cls=None)  # noqa: PLW2901
        checked.append(plugin)
    return checked


@functools.cache  # each time it is asked, a distribution reads its file again
def _origin(distribution: Distribution | None) -> tuple[str, str]:
    """Name and version of a distribution."""
    return (distribution.name, distribution.version) if distribution else ("", "")


def _distribution(entry_point: EntryPoint) -> str:
    return _origin(entry_point.dist)[0]


@functools.cache
def built_in() -> tuple[Plugin, ...]:
    """The plugins of eegstore's own distribution; no other is imported."""
    return _sorted(
        plugin
        for entry_point in entry_points(PROJECT)
        if _distribution(entry_point) == BUILT_IN
        for plugin in _load(entry_point)
    )


@functools.cache
def plugins() -> tuple[Plugin, ...]:
    """Every plugin of every installed distribution, the broken ones included.

    Where the environment variable ``EEGSTORE_PLUGINS`` is set, third parties' plugins are
    loaded only if it names their distributions (separated by commas).
    """
    found = list(built_in())
    for entry_point in entry_points(PROJECT):
        if _distribution(entry_point) != BUILT_IN and wanted(_distribution(entry_point)):
            found += _load(entry_point)
    found += [
        Plugin("", name, "", name, version, reason)
        for name, version, reason in malformed() if wanted(name)
    ]  # fmt: skip
    return _sorted(_refuse_taken_names(found))


def _sorted(found: Iterable[Plugin]) -> tuple[Plugin, ...]:
    order = list(HOOK_OF_KIND)
    return tuple(
        sorted(found, key=lambda one: (order.index(one.kind) if one.kind else -1, one.name))
    )


def named(kind: str, name: str) -> list[Plugin]:
    """What a name may mean, usable or not; others' plugins are imported if no built-in has it."""
    own = [one for one in built_in() if (one.kind, one.name) == (kind, name)]
    if any(one.cls is not None for one in own):
        return own
    return [one for one in plugins() if one.name == name and one.kind in (kind, "")]


def find(kind: str, name: str) -> Plugin:
    """The usable plugin of a kind and name.

    Raises
    ------
    PluginError
        Where it is installed but broken; says why.
    HiddenPluginError, MissingPluginError
        Where there is none; names the nearest. The first where it may be in what is not loaded.
    """
    candidates = named(kind, name)
    for candidate in candidates:
        if candidate.cls is not None:
            return candidate
    if candidates:
        broken = candidates[0]
        raise PluginError(f"{kind} {name!r} of {broken.distribution} is broken: {broken.reason}")
    said = f"no {kind} is called {name!r:.80}; {nearest(name, [one.name for one in usable(kind)])}"
    hidden = [f"{one.distribution}, {one.reason}" for one in plugins() if not one.kind]
    if hidden:
        said = f"{said}; it may be of one that is not loaded: {'; '.join(hidden)}"
        raise HiddenPluginError(said, kind, name)
    raise MissingPluginError(said, kind, name)


@functools.cache
def options_model(cls: type[Any]) -> type[BaseModel]:
    """The pydantic model of a plugin's options: strict, with unknown keys refused."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {}
    for option in dataclasses.fields(cls):
        default: Any = ...
        if option.default is not dataclasses.MISSING:
            default = option.default
        elif option.default_factory is not dataclasses.MISSING:
            default = option.default_factory()
        fields[option.name] = (hints[option.name], Field(default=default, **option.metadata))
    config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
    return create_model(cls.__name__, __config__=config, __doc__=cls.__doc__, **fields)


def path_options(cls: type[Any]) -> frozenset[str]:
    """Names of the options that hold paths.

    They are typed ``Path``, or, where a name of another kind is possible too, strings whose
    schema has the format ``path``.
    """

    def mentions_path(hint: Any) -> bool:
        return hint is Path or any(mentions_path(part) for part in typing.get_args(hint))

    hints = typing.get_type_hints(cls)
    return frozenset(
        one.name
        for one in dataclasses.fields(cls)
        if mentions_path(hints[one.name])
        or one.metadata.get("json_schema_extra", {}).get("format") == "path"
    )


def _resolve(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        return folder / value.expanduser()
    if isinstance(value, str):
        found = folder / Path(value).expanduser()
        return str(found) if found.exists() else value
    if isinstance(value, tuple | list):
        return type(value)(_resolve(item, folder) for item in value)
    if isinstance(value, dict):
        return {key: _resolve(item, folder) for key, item in value.items()}
    return value


def create(kind: str, name: str, options: Mapping[str, Any], folder: Path, where: str = "") -> Any:
    """A plugin with its options, validated; relative paths start from ``folder``.

    Raises
    ------
    RecipeError, PluginError
        In one line; ``where`` names the section.
    """
    cls: Any = find(kind, name).cls
    return configure(cls, options, folder, where or f"{kind} {name!r}")


def configure(cls: Any, options: Mapping[str, Any], folder: Path, where: str) -> Any:
    """An instance of a plugin's class with its options, validated as those of a recipe.

    Raises
    ------
    RecipeError, PluginError
        In one line; ``where`` begins it.
    """
    try:
        model = options_model(cls)
        # JSON mode: a TOML list is a tuple and a string a Path, but "3" is no int.
        values = model.model_validate_json(json.dumps(dict(options), default=str))
    except ValidationError as error:
        known: dict[tuple[str | int, ...], list[str]] = {(): list(model.model_fields)}
        raise RecipeError(f"{where}: {explain(error, options, known)}") from None
    _refuse_idle(cls, options, where)
    paths = path_options(cls)
    try:
        given = {
            option: _resolve(getattr(values, option), folder) if option in paths else value
            for option, value in ((key, getattr(values, key)) for key in model.model_fields)
        }
        return cls(**given)
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        raise RecipeError(f"{where}: {text_of(error)}") from None
    except (EegStoreError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(f"{where}: failed: {traced(error, cls.__module__)}") from error


def _refuse_idle(cls: Any, options: Mapping[str, Any], where: str) -> None:
    """Refuse an option without the one that it needs: it would be ignored without a word."""
    fields = {one.name: one for one in dataclasses.fields(cls)}
    for name in options:
        needed = fields[name].metadata.get("json_schema_extra", {}).get("needs")
        if needed and needed not in options:
            examples = fields[needed].metadata.get("examples", ())
            said = f"; say {needed} = {json.dumps(examples[0])}" if examples else ""
            raise RecipeError(f"{where}: {name} does nothing without {needed}{said}")


def installed(kind: str, name: str) -> type[Any] | None:
    """The class of a plugin that is installed and can be used; None where there is none."""
    return next((one.cls for one in named(kind, name) if one.cls is not None), None)


def options_of(plugin: Any) -> dict[str, Any]:
    """A plugin's options as JSON values, as a store records them."""
    values = {one.name: getattr(plugin, one.name) for one in dataclasses.fields(plugin)}
    return typing.cast(dict[str, Any], json.loads(json.dumps(values, default=str)))


def broken() -> list[Plugin]:
    """The plugins that cannot be used, of those that were loaded."""
    loaded = next((of() for of in (plugins, built_in) if of.cache_info().currsize), ())
    return [one for one in loaded if one.cls is None]


def notes() -> list[str]:
    """What the plugins use that is deprecated, if plugins were loaded at all."""
    loaded = plugins() if plugins.cache_info().currsize else ()
    return [note for one in loaded for note in one.notes]


def usable(kind: str) -> list[Plugin]:
    """The plugins of a kind that can be used."""
    return [one for one in plugins() if one.kind == kind and one.cls is not None]
