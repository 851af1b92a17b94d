"""The JSON Schemas in ``schemas/``: they are those of the code, and tell good from bad."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import eegstore
from eegstore.recipe import shipped_recipes
from samples import recipe

SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"
NAMES = ("recipe", "store")


def read(name: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))


def problem(name: str, document: Any) -> str:
    """Where a document breaks a schema, and why; an empty string where it does not."""
    validator = jsonschema.Draft202012Validator(read(name))
    error = jsonschema.exceptions.best_match(validator.iter_errors(document))
    return "" if error is None else f"{error.json_path}: {error.message}"


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_in_the_repository_is_the_one_that_the_command_prints(name):
    # Without third parties' plugins, which the schema of a recipe would hold too.
    done = subprocess.run(
        [sys.executable, "-m", "eegstore", "schema", name],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"EEGSTORE_PLUGINS": "", "PYTHONIOENCODING": "utf-8"},
        timeout=60,
        check=True,
    )
    file = SCHEMAS / f"{name}.schema.json"
    assert done.stdout == file.read_text(encoding="utf-8"), (
        f"schemas/{file.name} has drifted from the code; write it anew: "
        f"EEGSTORE_PLUGINS= eegstore schema {name} > schemas/{file.name}"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_and_says_which_draft_it_follows(name):
    schema = read(name)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def _undescribed(schema: Any, place: str = "") -> list[str]:
    """Properties without a description, at any depth."""
    found = []
    if isinstance(schema, dict):
        for key, value in schema.get("properties", {}).items():
            if "description" not in value and "$ref" not in value and "const" not in value:
                found.append(f"{place}/{key}")
    inner = schema.items() if isinstance(schema, dict) else enumerate(schema)
    for key, value in inner:
        if isinstance(value, dict | list):
            found += _undescribed(value, f"{place}/{key}")
    return found


def test_every_key_of_a_recipe_is_described():
    assert _undescribed(read("recipe")) == []


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid(name):
    assert problem("recipe", tomllib.loads(shipped_recipes()[name])) == ""


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"source": None}, "$: 'source' is a required property"),
        ({"soruce": {}}, "$: Additional properties are not allowed ('soruce' was unexpected)"),
        ({"name": 3}, "$.name: 3 is not of type 'string'"),
        ({"store": {"codec": "zip"}}, "$.store.codec: 'zip' is not one of ['raw', 'fast', "),
        ({"source": {"plugin": "synthetic", "n_trials": "3"}}, "$.source.n_trials: '3' is not of"),
        ({"source": {"plugin": "synthetic", "n_trials": 0}}, "$.source.n_trials: 0 is less than"),
        ({"source": {"plugin": "synthetic", "n_trial": 3}}, "$.source: "),
        ({"source": {"plugin": "synthetik"}}, "$.source: "),
        ({"source": {"plugin": "mne", "path": "x", "baseline": [0]}}, "$.source.baseline: [0] is"),
        ({"extract": [{"plugin": "hog"}, {"plugin": "digits"}]}, "$.extract[1]: "),
        ({"extract": [{"plugin": "hog", "as": "Edges"}]}, "$.extract[0]"),
    ],
)
def test_a_broken_recipe_is_not_valid(changes, where):
    assert problem("recipe", recipe()) == ""
    assert problem("recipe", recipe(**changes)).startswith(where)


@pytest.fixture(scope="module")
def attributes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The root's attribute of a store that was built twice, its JSON read as any reader would."""
    store = tmp_path_factory.mktemp("schemas") / "a.zarr"
    small = {"source": {"plugin": "synthetic", "n_trials": 20, "n_channels": 2, "n_times": 16}}
    eegstore.build(recipe(**small, extract=None), store)
    eegstore.build(recipe(**small, extract=[{"plugin": "temporal"}]), store)
    return json.loads((store / "zarr.json").read_bytes())["attributes"]


def test_a_stores_attribute_is_valid(attributes):
    assert list(attributes) == ["eegstore"]
    assert problem("store", attributes["eegstore"]) == ""
    assert len(attributes["eegstore"]["history"]) == 2
    paths = [f"{one['table']}/{one['name']}" for one in attributes["eegstore"]["columns"]]
    assert {"trials/eeg", "trials/temporal", "stimuli/image_path"} <= set(paths)


def test_a_store_keeps_a_recipe_that_is_valid(attributes):
    assert problem("recipe", attributes["eegstore"]["recipe"]) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", "1"), ("digest", None), ("columns", {}), ("history", [{}]), ("seal", 3)],
)
def test_a_stores_attribute_with_a_wrong_value_is_not_valid(attributes, key, value):
    broken = attributes["eegstore"] | {key: value}
    assert problem("store", broken).startswith(f"$.{key}")
    without = {one: facts for one, facts in attributes["eegstore"].items() if one != key}
    assert problem("store", without) == f"$: '{key}' is a required property"
