"""The recipe: a TOML file that says what to build, validated before anything runs."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eegstore.errors import RecipeError

STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
SECTION = ConfigDict(extra="allow", strict=True, frozen=True)
MAX_RECIPE_BYTES = 1 << 20


class Section(BaseModel):
    """A plugin, and its options under their own names."""

    model_config = SECTION

    plugin: str = Field(description="Name of the plugin.")

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the plugin."""
        return dict(self.model_extra or {})


class SourceSection(Section):
    """Where the EEG comes from."""

    allow_skips: bool = Field(
        default=False,
        description="Leave damaged events out and mark trials with NaN or Inf invalid, "
        "in place of rejecting the build.",
    )


class ExtractSection(Section):
    """A column to compute."""

    as_: str | None = Field(
        default=None,
        alias="as",
        pattern=r"^[a-z][a-z0-9_]*$",
        description="Name of the column; the plugin's name with - as _ by default.",
    )

    @property
    def column(self) -> str:
        """Name of the column."""
        return self.as_ or self.plugin.replace("-", "_")


class StoreSection(BaseModel):
    """How the bytes are written."""

    model_config = STRICT

    codec: Literal["raw", "fast", "small", "archive"] = Field(
        default="raw",
        description="raw: mapped for training; fast: lz4; small: zstd; archive: pcodec.",
    )
    random: bool = Field(
        default=False, description="With codec 'fast': one row an inner chunk, for random access."
    )


class Recipe(BaseModel):
    """A whole recipe; only ``[source]`` is required."""

    model_config = STRICT

    name: str = Field(default="", description="Name of the store.")
    source: SourceSection
    stimuli: Section | None = None
    pairing: Section | None = None
    split: Section | None = None
    extract: tuple[ExtractSection, ...] = ()
    store: StoreSection = StoreSection()

    def document(self) -> dict[str, Any]:
        """The recipe as the JSON value that a store keeps."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "there is none"


def explain(error: ValidationError, known: Mapping[tuple[str, ...], Iterable[str]]) -> str:
    """The first problem of a validation, in one line.

    Parameters
    ----------
    error
        What pydantic found.
    known
        The known keys under each location.
    """
    problem = error.errors(include_url=False)[0]
    path = tuple(str(part) for part in problem["loc"])
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {nearest(path[-1], known.get(path[:-1], ()))}"
    if problem["type"] == "missing":
        return f"{key}: missing, and it has no default"
    message = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{key}: got {problem['input']!r:.60}, expected {message}"


def shipped_recipes() -> dict[str, str]:
    """The recipes inside the package: name to TOML text."""
    folder = resources.files("eegstore") / "recipes"
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }


def parse_value(text: str) -> Any:
    """A value of ``--set`` or of an exporter's flag: TOML where it is TOML, else a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _assign(document: dict[str, Any], assignment: str) -> None:
    """Apply one ``a.b=value``; a list's entry goes by its number, from 0."""
    dotted, equals, text = assignment.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"--set {assignment}: expected KEY=VALUE, such as split.seed=1")
    target: Any = document
    for key in keys[:-1]:
        if isinstance(target, list) and key.isdigit() and int(key) < len(target):
            target = target[int(key)]
        elif isinstance(target, dict):
            target = target.setdefault(key, {})
        else:
            raise RecipeError(f"--set {assignment}: the recipe has no {dotted!r}")
    if not isinstance(target, dict):
        raise RecipeError(f"--set {assignment}: {'.'.join(keys[:-1])!r} is not a section")
    target[keys[-1]] = parse_value(text.strip())


def _read_text(recipe: str | Path) -> tuple[str, Path, str]:
    """The text, the folder of relative paths and the display name of a recipe."""
    path = Path(recipe)
    shipped = shipped_recipes()
    if not path.exists() and str(recipe) in shipped:
        return shipped[str(recipe)], Path.cwd(), str(recipe)
    if path.is_dir():
        raise RecipeError(f"{path}: a folder, expected a recipe file (TOML)")
    if not path.is_file():
        raise RecipeError(
            f"{path}: no such recipe file, and no shipped recipe of that name "
            f"({', '.join(shipped)})"
        )
    if path.stat().st_size > MAX_RECIPE_BYTES:
        raise RecipeError(f"{path}: larger than 1 MiB, not a recipe")
    try:
        return path.read_text(encoding="utf-8"), path.resolve().parent, str(path)
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: not UTF-8 text, expected a recipe (TOML)") from None


def load_recipe(recipe: str | Path, assignments: Sequence[str] = ()) -> tuple[Recipe, Path]:
    """Read and validate a recipe.

    Parameters
    ----------
    recipe
        A TOML file, or the name of a shipped recipe.
    assignments
        ``a.b=value`` overrides, as ``--set`` takes them.

    Returns
    -------
    The recipe, and the folder that its relative paths start from.

    Raises
    ------
    RecipeError
        In one line: the file, the key, what it is, what was expected.
    """
    text, folder, shown = _read_text(recipe)
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "nested too deeply"
        raise RecipeError(f"{shown}: not valid TOML: {reason}") from None
    for assignment in assignments:
        _assign(document, assignment)
    return parse_recipe(document, shown), folder


def parse_recipe(document: Mapping[str, Any], shown: str) -> Recipe:
    """Validate a recipe given as a mapping; ``shown`` names it in messages."""
    known = {
        (): [field.alias or name for name, field in Recipe.model_fields.items()],
        ("store",): list(StoreSection.model_fields),
    }
    try:
        return Recipe.model_validate(_tuples(document))
    except ValidationError as error:
        raise RecipeError(f"{shown}: {explain(error, known)}") from None


def _tuples(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the list of ``extract`` as the tuple that strict validation wants."""
    extract = document.get("extract")
    return dict(document) | ({"extract": tuple(extract)} if isinstance(extract, list) else {})
