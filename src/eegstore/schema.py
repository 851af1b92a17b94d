"""The JSON Schema of a recipe: its sections, and the options of every plugin that is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from eegstore.recipe import Recipe
from eegstore.registry import Plugin, options_model, usable


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
