"""Finds plugins, keeps a broken one from breaking anything else, and validates their options."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import os
import re
import traceback
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pluggy
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema

from eegstore import hookspecs
from eegstore.errors import EegStoreError, PluginError, RecipeError
from eegstore.hookspecs import EEGSTORE_PLUGIN_API, HOOK_OF_KIND, PROJECT
from eegstore.recipe import Recipe, explain, nearest
from eegstore.wording import described, text_of

BUILT_IN: Final = "eegstore"
PLUGIN_NAME = re.compile(r"(?=.{1,64}$)[a-z][a-z0-9]*(-[a-z0-9]+)*")
OK: Final = "ok"
MEMBERS: Final = {
    "source": ("scan", "read"),
    "stimuli": ("scan", "read"),
    "extractor": ("table", "reads", "describe", "__call__"),
}


@dataclass(frozen=True)
class Plugin:
    """A plugin class as it was found, or the reason why it cannot be used."""

    kind: str
    name: str
    version: str
    distribution: str
    distribution_version: str
    status: str
    cls: type[Any] | None = None
    trace: str = ""

    def row(self) -> dict[str, str]:
        """The facts that ``eegstore plugins --json`` prints."""
        return {
            "kind": self.kind,
            "name": self.name,
            "version": self.version,
            "distribution": f"{self.distribution} {self.distribution_version}".strip(),
            "status": self.status,
        }


def _problem(kind: str, cls: Any) -> str:
    """Why a class is no plugin of a kind, or an empty string."""
    if not isinstance(cls, type):
        return f"{HOOK_OF_KIND[kind]} returned {cls!r:.40}, expected a class"
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not PLUGIN_NAME.fullmatch(name):
        return f"{cls.__name__}.name is {name!r}, expected a kebab-case name"
    if not isinstance(getattr(cls, "version", None), str):
        return f"{cls.__name__}.version is missing, expected a string"
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return f"{cls.__name__} is not a frozen dataclass"
    # hasattr would find the __call__ of type itself in any class.
    members = {member for base in cls.__mro__ for member in vars(base)}
    missing = [member for member in MEMBERS.get(kind, ("__call__",)) if member not in members]
    if missing:
        return f"{cls.__name__} lacks {', '.join(missing)}"
    return _reads_problem(kind, cls) or _options_problem(cls)


def _reads_problem(kind: str, cls: Any) -> str:
    """Why a plugin cannot be given what it reads, or an empty string."""
    if kind == "extractor" and cls.table not in ("trials", "stimuli"):
        return f"{cls.__name__}.table is {cls.table!r}, expected 'trials' or 'stimuli'"
    reads = getattr(cls, "reads", ())
    none = kind == "extractor" and not reads
    if none or not isinstance(reads, tuple) or any(not isinstance(one, str) for one in reads):
        return f"{cls.__name__}.reads is {reads!r:.40}, expected a tuple of column names"
    return ""


def _options_problem(cls: Any) -> str:
    """Why no model can be made of a plugin's options, or an empty string."""
    try:
        options_model(cls)
    except Exception as error:
        return f"the options of {cls.__name__} cannot be validated: {described(error)}"
    return ""


def _classes(module: ModuleType) -> list[tuple[str, Any]]:
    """The plugin classes of one module, asked for in a plugin manager of its own."""
    declared = getattr(module, "EEGSTORE_PLUGIN_API", EEGSTORE_PLUGIN_API)
    if declared != EEGSTORE_PLUGIN_API:
        raise PluginError(f"targets plugin API {declared}, this eegstore has {EEGSTORE_PLUGIN_API}")
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    manager.check_pending()
    found = []
    for kind, hook in HOOK_OF_KIND.items():
        for classes in getattr(manager.hook, hook)():
            found += [(kind, cls) for cls in classes]
    if not found:
        raise PluginError("registers nothing: no function marked with eegstore.hookimpl")
    return found


def _load(entry_point: importlib.metadata.EntryPoint) -> list[Plugin]:
    """The plugins of one entry point, in isolation: nothing that it does stops the others."""
    distribution = entry_point.dist
    origin = (distribution.name, distribution.version) if distribution else ("", "")
    try:
        return [
            _examined(entry_point.name, origin, kind, cls)
            for kind, cls in _classes(entry_point.load())
        ]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        trace = traceback.format_exc()
        return [Plugin("", entry_point.name, "", *origin, described(error), trace=trace)]


def _examined(entry_point: str, origin: tuple[str, str], kind: str, cls: Any) -> Plugin:
    """A plugin as its class is, or with the reason why it cannot be used."""
    problem = _problem(kind, cls)
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
            owners = ", ".join(sorted({one.distribution for one in [plugin, *rivals]}))
            reason = f"the name is taken: claimed by {owners}"
            plugin = dataclasses.replace(plugin, status=reason, cls=None)  # noqa: PLW2901
        checked.append(plugin)
    return checked


def _wanted(entry_point: importlib.metadata.EntryPoint) -> bool:
    """Whether the variable ``EEGSTORE_PLUGINS`` lets its distribution in; ours always is.

    Names are compared as installers do (https://peps.python.org/pep-0503/#normalized-names).
    """
    chosen = os.environ.get("EEGSTORE_PLUGINS")
    distribution = entry_point.dist.name if entry_point.dist else ""
    names = {_normalised(name) for name in (chosen or "").split(",")}
    return chosen is None or distribution == BUILT_IN or _normalised(distribution) in names


def _normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


@functools.cache
def plugins() -> tuple[Plugin, ...]:
    """Every plugin of every installed distribution, the broken ones included.

    Where the environment variable ``EEGSTORE_PLUGINS`` is set, third parties' plugins are
    loaded only if it names their distributions (separated by commas).
    """
    found: list[Plugin] = []
    for entry_point in sorted(importlib.metadata.entry_points(group=PROJECT)):
        if _wanted(entry_point):
            found += _load(entry_point)
    order = list(HOOK_OF_KIND)
    checked = _refuse_taken_names(found)
    return tuple(
        sorted(checked, key=lambda one: (order.index(one.kind) if one.kind else -1, one.name))
    )


def find(kind: str, name: str) -> Plugin:
    """The usable plugin of a kind and name.

    Raises
    ------
    PluginError
        Where it is installed but broken; says why.
    RecipeError
        Where there is none; names the nearest, and what could not be loaded.
    """
    candidates = [one for one in plugins() if one.name == name and one.kind in (kind, "")]
    for candidate in candidates:
        if candidate.cls is not None:
            return candidate
    if candidates:
        broken = candidates[0]
        raise PluginError(f"{kind} {name!r} of {broken.distribution} is broken: {broken.status}")
    hints = [nearest(name, [one.name for one in usable(kind)])]
    hints += [f"not loaded: {one.distribution}, {one.status}" for one in plugins() if not one.kind]
    raise RecipeError(f"no {kind} is called {name!r:.80}; {'; '.join(hints)}")


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


def configure(cls: type[Any], options: Mapping[str, Any], folder: Path, where: str) -> Any:
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
        known: dict[tuple[str, ...], list[str]] = {(): list(model.model_fields)}
        raise RecipeError(f"{where}: {explain(error, options, known)}") from None
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
        raise PluginError(f"{where}: failed: {described(error)}") from error


def installed(kind: str, name: str) -> type[Any] | None:
    """The class of a plugin that is installed and can be used; None where there is none."""
    return next((one.cls for one in usable(kind) if one.name == name), None)


def options_of(plugin: Any) -> dict[str, Any]:
    """A plugin's options as JSON values, as a store records them."""
    values = {one.name: getattr(plugin, one.name) for one in dataclasses.fields(plugin)}
    return typing.cast(dict[str, Any], json.loads(json.dumps(values, default=str)))


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe: its sections, and the options of every usable plugin."""
    schema = Recipe.model_json_schema(by_alias=True)
    definitions, properties = schema["$defs"], schema["properties"]
    sections = {"source": "source", "stimuli": "stimuli", "pairing": "pairing", "split": "split",
                "extract": "extractor"}  # fmt: skip
    own: dict[str, Any] = {}
    for section, kind in sections.items():
        base = {"source": "SourceSection", "extract": "ExtractSection"}.get(section, "Section")
        choices = [_section_schema(one, definitions[base], own) for one in usable(kind)]
        description = f"A plugin of the kind {kind}, and its options."
        properties[section] = {"anyOf": choices, "description": description}
    properties["extract"] = {
        "type": "array",
        "items": properties["extract"],
        "description": "Columns to compute; each may read those of others.",
    }
    for base in ("SourceSection", "ExtractSection", "Section"):
        del definitions[base]
    definitions |= own
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def broken() -> list[Plugin]:
    """The plugins that cannot be used, if plugins were loaded at all."""
    loaded = plugins() if plugins.cache_info().currsize else ()
    return [one for one in loaded if one.cls is None]


def usable(kind: str) -> list[Plugin]:
    """The plugins of a kind that can be used."""
    return [one for one in plugins() if one.kind == kind and one.cls is not None]


def _section_schema(
    plugin: Plugin, base: Mapping[str, Any], definitions: dict[str, Any]
) -> dict[str, Any]:
    """JSON Schema of a section that names a plugin; what it refers to goes to ``definitions``."""
    cls: Any = plugin.cls
    # References start at the schema's root, where two plugins may define one name.
    prefix = f"{plugin.kind}.{plugin.name}."
    options = options_model(cls).model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
    definitions |= {prefix + key: value for key, value in options.get("$defs", {}).items()}
    name = {"const": plugin.name, "description": (cls.__doc__ or "").strip().split("\n")[0]}
    own = {key: value for key, value in base["properties"].items() if key != "plugin"}
    return {
        "type": "object",
        "title": plugin.name,
        "properties": {"plugin": name, **own, **options.get("properties", {})},
        "required": ["plugin", *options.get("required", [])],
        "additionalProperties": False,
    }
