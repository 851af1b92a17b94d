"""What there is to know of a plugin: what it does, its options, what it reads and writes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eegstore import registry
from eegstore.calls import declared, given, guarded
from eegstore.errors import EegStoreError, UsageError
from eegstore.hookspecs import HOOK_OF_KIND
from eegstore.plan import NO_AXES
from eegstore.readable import IMAGE
from eegstore.recipe import nearest
from eegstore.registry import Plugin
from eegstore.tables import ColumnSpec

SECTIONS: Final = {
    "source": "[source]",
    "stimuli": "[stimuli]",
    "pairing": "[pairing]",
    "split": "[split]",
    "extractor": "[[extract]]",
}
COMMANDS: Final = {
    "exporter": "eegstore export STORE OUT --format {}",
    "executor": "eegstore build RECIPE --executor {}",
}
BOUNDS: Final = {
    "exclusiveMinimum": "> {}",
    "minimum": "≥ {}",
    "exclusiveMaximum": "< {}",
    "maximum": "≤ {}",
    "multipleOf": "a multiple of {}",
    "minLength": "length ≥ {}",
    "maxLength": "length ≤ {}",
    "pattern": "as {}",
}
N_CHANNELS: Final = 64
N_TIMES: Final = 256
SFREQ_HZ: Final = 256.0
LIMIT_S: Final = 5.0
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """An option of a plugin, in the words of TOML.

    ``default`` is a JSON value; None where there is none, or where leaving the option out says it.
    """

    name: str
    type: str
    default: Any
    required: bool
    unit: str
    bounds: str
    description: str


@dataclass(frozen=True)
class Entry:
    """A plugin as the catalogue has it.

    ``writes`` is what one row of an extractor's column is for ``EXAMPLE_INPUTS``, where that can
    be known without its model; ``example`` is a section of a recipe, or a command.
    """

    plugin: Plugin
    does: str
    options: tuple[Option, ...]
    table: str
    reads: tuple[str, ...]
    fitted: bool
    fit_reads: tuple[str, ...]
    writes: ColumnSpec | None
    example: str

    def document(self) -> dict[str, Any]:
        """What ``eegstore plugins show --json`` prints."""
        spec = self.writes
        return {
            **self.plugin.row(),
            "does": self.does,
            "options": [vars(one) for one in self.options],
            "table": self.table or None,
            "reads": list(self.reads),
            "fitted": self.fitted,
            "fit_reads": list(self.fit_reads),
            "writes": spec
            and {"dims": list(spec.dims), "shape": list(spec.shape), "dtype": spec.dtype,
                 "units": spec.units, "of": EXAMPLE_INPUTS_ARE},
            "example": self.example,
        }  # fmt: skip


EXAMPLE_INPUTS: Final[Mapping[str, ColumnSpec]] = {
    "eeg": ColumnSpec(
        dims=("channel", "time"),
        shape=(N_CHANNELS, N_TIMES),
        dtype="float32",
        coords={
            "channel": [f"E{number + 1}" for number in range(N_CHANNELS)],
            "time": [sample / SFREQ_HZ for sample in range(N_TIMES)],
        },
        units="uV",
        attrs={"sfreq": SFREQ_HZ, "ch_types": ["eeg"] * N_CHANNELS},
    ),
    "image": IMAGE,
    "caption": NO_AXES,
}
EXAMPLE_INPUTS_ARE: Final = f"an EEG of {N_CHANNELS} channels and {N_TIMES} samples in uV"


def look_up(name: str) -> Plugin:
    """The plugin of a name, or of ``KIND/NAME``; a usable one before a broken one.

    Raises
    ------
    UsageError
        Where there is none, or where plugins of several kinds have the name; lists them.
    """
    kind, slash, bare = name.rpartition("/")
    if slash and kind not in HOOK_OF_KIND:
        raise UsageError(f"{name}: no kind is called {kind!r:.80}; {nearest(kind, HOOK_OF_KIND)}")
    found = [one for one in registry.plugins() if one.name == bare and one.kind in (kind, "")]
    if not slash:
        found = [one for one in registry.plugins() if one.name == bare]
    kinds = sorted({one.kind for one in found})
    if not found:
        known = {one.name for one in registry.plugins() if not slash or one.kind == kind}
        raise UsageError(f"no {kind or 'plugin'} is called {bare!r:.80}; {nearest(bare, known)}")
    if len(kinds) > 1:
        choices = ", ".join(f"{one}/{bare}" for one in kinds if one)
        raise UsageError(f"{bare!r} is the name of several plugins: say which of {choices}")
    return next((one for one in found if one.cls is not None), found[0])


def entry(plugin: Plugin) -> Entry:
    """What there is to know of a plugin; of a broken one little more than the reason."""
    cls: Any = plugin.cls
    if cls is None:
        return Entry(plugin, "", (), "", (), False, (), None, "")
    return Entry(
        plugin,
        does=_docstring(cls),
        options=tuple(_options(cls)),
        table=getattr(cls, "table", "") if plugin.kind == "extractor" else "",
        reads=_names(plugin, "reads"),
        fitted=hasattr(cls, "fit"),
        fit_reads=_names(plugin, "fit_reads"),
        writes=_written(plugin) if plugin.kind == "extractor" else None,
        example=example(plugin),
    )


def _docstring(cls: type[Any]) -> str:
    """What a class says of itself; dataclasses without a docstring are given their signature."""
    text = inspect.cleandoc(cls.__doc__ or "")
    return "" if text.startswith(f"{cls.__name__}(") else _unwrapped(text)


def _unwrapped(text: str) -> str:
    """The text with each paragraph on one line, for any width; tables and lists stay."""
    lines: list[str] = []
    for line in text.splitlines():
        begins = not line.strip() or line.lstrip().startswith("- ") or set(line) == {"-"}
        before = lines[-1] if lines else ""
        item = before.lstrip().startswith("- ")
        alike = item or _indent(before) == _indent(line)
        if begins or not before.strip() or set(before) == {"-"} or not alike:
            lines.append(line)
        else:
            lines[-1] = f"{before} {line.strip()}"
    return "\n".join(lines)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _needs_options(cls: Any) -> bool:
    return bool(registry.options_model(cls).model_json_schema().get("required"))


def _names(plugin: Plugin, member: str) -> tuple[str, ...]:
    """The columns that a plugin lists; where they follow from options, those of the defaults."""
    cls: Any = plugin.cls
    names = getattr(cls, member, ())
    if isinstance(names, tuple):
        return names
    if _needs_options(cls):
        return ()
    try:
        made = registry.create(plugin.kind, plugin.name, {}, Path.cwd())
        return declared(plugin.kind, made, member)
    except EegStoreError:
        return ()


def _written(plugin: Plugin) -> ColumnSpec | None:
    """What one row of an extractor's column is; None where that takes more than its options."""
    cls: Any = plugin.cls
    reads = {*_names(plugin, "reads"), *_names(plugin, "fit_reads")}
    # What has a model to load may load it, or fetch it, to describe what it gives.
    if _needs_options(cls) or hasattr(cls, "prepare") or not reads <= set(EXAMPLE_INPUTS):
        return None
    try:
        made = registry.create("extractor", plugin.name, {}, Path.cwd())
        inputs = {read: EXAMPLE_INPUTS[read] for read in reads}
        spec = guarded("extractor", made, made.describe, inputs, limit_s=LIMIT_S)
        return given("extractor", made, "describe()", spec, ColumnSpec)
    except EegStoreError:
        return None


def _options(cls: Any) -> Iterator[Option]:
    schema = registry.options_model(cls).model_json_schema()
    definitions, required = schema.get("$defs", {}), schema.get("required", ())
    for name, option in schema.get("properties", {}).items():
        yield Option(
            name,
            type=_type(option, definitions),
            default=option.get("default"),
            required=name in required,
            unit=option.get("unit", ""),
            bounds=", ".join(_bounds(option, definitions)),
            description=option.get("description", ""),
        )


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """The schema that a reference stands for."""
    reference = schema.get("$ref", "")
    return definitions[reference.rpartition("/")[2]] if reference else schema


def _branches(schema: Schema, definitions: Schema) -> list[Schema]:
    """The ways to write a value; TOML has no null: the option is left out for it."""
    schema = _resolved(schema, definitions)
    branches = [_resolved(one, definitions) for one in schema.get("anyOf", [schema])]
    there = [one for one in branches if one.get("type") != "null"]
    return sorted(there, key=lambda one: one.get("type") == "array")


def _type(schema: Schema, definitions: Schema) -> str:
    """What a value may be, in the words of TOML."""
    words = [_word(one, definitions) for one in _branches(schema, definitions)]
    return " or ".join(dict.fromkeys(words))


def _word(schema: Schema, definitions: Schema) -> str:
    if "enum" in schema or "const" in schema:
        return " or ".join(json.dumps(one) for one in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type", "any value"))
    if kind == "array" and "prefixItems" in schema:
        return f"[{', '.join(_type(one, definitions) for one in schema['prefixItems'])}]"
    if kind == "array":
        return f"list of {_type(schema.get('items', {}), definitions)}"
    if kind == "object":
        return f"table of {_type(schema.get('additionalProperties', {}), definitions)}"
    return "path" if kind == "string" and schema.get("format") == "path" else kind


def _bounds(option: Schema, definitions: Schema) -> Iterator[str]:
    branches = _branches(option, definitions)
    for schema in branches if option in branches else [option, *branches]:
        for key, words in BOUNDS.items():
            if key in schema:
                yield words.format(schema[key])


def example(plugin: Plugin) -> str:
    """The section of a recipe that names a plugin with the options it needs, or the command."""
    if plugin.kind not in SECTIONS:
        return COMMANDS[plugin.kind].format(plugin.name)
    cls: Any = plugin.cls
    schema = registry.options_model(cls).model_json_schema()
    lines = [SECTIONS[plugin.kind], f'plugin = "{plugin.name}"']
    for name in schema.get("required", ()):
        value = _value(name, schema["properties"][name], schema.get("$defs", {}))
        lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _value(name: str, option: Schema, definitions: Schema) -> Any:
    """A value that an option may have: the author's example, or the simplest of its type."""
    schema = _branches(option, definitions)[0]
    given = option.get("examples") or schema.get("examples") or schema.get("enum")
    if given or "const" in schema:
        return given[0] if given else schema["const"]
    kind = schema.get("type")
    if kind in ("integer", "number"):
        least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        return int(least) if kind == "integer" else float(least)
    if kind == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})] * schema.get("minItems", 1)
        return [_value(name, item, definitions) for item in items]
    if kind in ("boolean", "object"):
        return True if kind == "boolean" else {}
    if schema.get("format") == "path":
        return "path/to/data" if name == "path" else f"path/to/{name}"
    return name
