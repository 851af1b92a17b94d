"""The recipe: a TOML file that says what to build, validated before anything runs."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from eegstore.errors import RecipeError

STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
SECTION = ConfigDict(extra="allow", strict=True, frozen=True)
MAX_RECIPE_BYTES = 1 << 20
MAX_LEVELS: Final = 32
MAX_SHOWN: Final = 160
KEY_PART: Final = r"""(?:[\w-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*\.[ \t]*"""
# tomllib takes hours and gigabytes for a key of some 100,000 parts.
TOO_MANY_PARTS: Final = re.compile(rf"(?<![\w\\-])(?:{KEY_PART}){{{MAX_LEVELS}}}")
SURROGATES: Final = re.compile("[\ud800-\udfff]")
TOML_WORDS: Final = {
    "model_type": "a table of keys",
    "dict_type": "a table of keys",
    "tuple_type": "a list",
    "path_type": "a path",
    "string_pattern_mismatch": "a string that matches {pattern}",
    "string_too_short": "a length of at least {min_length}",
    "too_short": "a length of at least {min_length}",
    "too_long": "a length of at most {max_length}",
}
# What TOML has without quotes.
UNQUOTED: Final = {"int_type": (int,), "float_type": (int, float), "bool_type": (bool,)}


class Section(BaseModel):
    """A plugin, and its options under their own names."""

    model_config = SECTION

    plugin: str = Field(description="Name of the plugin.")
    timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="Longest that one call of the plugin may take; unlimited by default.",
        json_schema_extra={"unit": "s"},
    )

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
        pattern=r"^[a-z][a-z0-9_]{0,63}$",
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
        default=False,
        description="With a codec that compresses: one row an inner chunk, for random access.",
    )

    dtype: Literal["float32", "int16"] = Field(
        default="float32",
        description="Of eeg. int16: a signal as it was digitised, in half the bytes, its values "
        "the same; any other is refused.",
    )

    @field_validator("random")
    @classmethod
    def _compresses(cls, random: bool, info: ValidationInfo) -> bool:
        if random and info.data.get("codec") == "raw":
            raise ValueError("a codec that compresses; of 'raw' each row is read by itself already")
        return random


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


def _one_line(text: str) -> str:
    """What a user wrote, without its middle if it is long, escaped if it is not printable."""
    shown = text if text.isprintable() else repr(text)
    half = MAX_SHOWN // 2
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:half]} … {shown[-half:]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "there is none"


def key_of(place: Sequence[str | int]) -> str:
    """The keys to a value as a person is told them: what is in a list is counted from 1."""
    section = ""
    if len(place) > 1 and place[0] == "extract" and isinstance(place[1], int):
        section, place = f"[[extract]] {place[1] + 1}", place[2:]
    parts = [f" (value {n + 1})" if isinstance(n, int) else f".{_one_line(n)}" for n in place]
    return ": ".join(filter(None, [section, "".join(parts).strip(". ")]))


def _place(problem: Mapping[str, Any], given: Any) -> tuple[str | int, ...]:
    """The keys to a problem, without the names that pydantic gives to the branches of a union."""
    keys = list[str | int]()
    for part in problem["loc"]:
        inside = range(len(given)) if isinstance(given, list | tuple) else given
        if isinstance(inside, Mapping | range) and part in inside:
            keys.append(part)
            given = given[part]
    return (*keys, problem["loc"][-1]) if problem["type"] == "missing" else tuple(keys)


def _expected(problem: Mapping[str, Any], key: str) -> str:
    """What a value should have been, in the words of TOML."""
    kind = problem["type"]
    if kind == "tuple_type" and isinstance(problem["input"], Mapping):
        return f"a list of tables: [[{key}]]"
    if kind in TOML_WORDS:
        return TOML_WORDS[kind].format(**problem.get("ctx", {}))
    message: str = problem["msg"]
    return message.removeprefix("Input should be ").removeprefix("Value error, ")


def explain(
    error: ValidationError,
    given: Mapping[str, Any],
    known: Mapping[tuple[str | int, ...], Iterable[str]],
) -> str:
    """The first problem of a validation, in one line.

    Parameters
    ----------
    error
        What pydantic found.
    given
        What was validated.
    known
        The known keys under each location.
    """
    problems = [(_place(one, given), one) for one in error.errors(include_url=False)]
    # Each branch of a union has problems of its own; the innermost says the most.
    # An unknown key explains a missing one better than the other way round.
    unknown = [one for one in problems if one[1]["type"] == "extra_forbidden"]
    first = (unknown or problems)[0][0]
    within = [one for one in problems if one[0][: len(first)] == first]
    place, problem = max(within, key=lambda one: len(one[0]))
    key = key_of(place)
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {nearest(str(place[-1]), known.get(place[:-1], ()))}"
    if problem["type"] == "missing":
        return f"{key}: missing, and it has no default"
    expected = dict.fromkeys(_expected(one, key) for at, one in problems if at == place)
    hint = _unquoted(problem["input"], (one["type"] for at, one in problems if at == place))
    return f"{key}: got {problem['input']!r:.60}, expected {' or '.join(expected)}{hint}"


def _unquoted(value: Any, problems: Iterable[str]) -> str:
    """What to do about a number, or true or false, that is written as a string."""
    wanted = {cls for kind in problems for cls in UNQUOTED.get(kind, ())}
    quoted = isinstance(value, str) and type(parse_value(value)) in wanted
    return "; remove the quotes" if quoted else ""


def shipped_recipes() -> dict[str, str]:
    """The recipes inside the package: name to TOML text."""
    folder = resources.files("eegstore") / "recipes"
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }


def _parse_toml(text: str) -> dict[str, Any]:
    """A TOML document; whatever is wrong with it is a ValueError of one line."""
    if TOO_MANY_PARTS.search(text):
        raise ValueError("nested too deeply")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_value(text: str) -> Any:
    """A value of ``--set`` or of an exporter's flag: TOML where it is TOML, else a string."""
    try:
        document = _parse_toml(f"value = {text}")
    except ValueError:
        return text
    return document["value"] if len(document) == 1 else text


def _assign(document: dict[str, Any], assignment: str) -> None:
    """Apply one ``a.b=value``; a list's entry goes by its number, from 0."""
    dotted, equals, text = assignment.partition("=")
    keys = dotted.strip().split(".")
    where = f"--set {_one_line(assignment)}"
    if not equals or not all(keys):
        raise RecipeError(f"{where}: expected KEY=VALUE, such as split.seed=1")
    target: Any = document
    for key in keys[:-1]:
        if isinstance(target, list) and key.isdecimal() and int(key) < len(target):
            target = target[int(key)]
        elif isinstance(target, dict):
            target = target.setdefault(key, {})
        else:
            raise RecipeError(f"{where}: the recipe has no {dotted!r:.{MAX_SHOWN}}")
    if not isinstance(target, dict):
        raise RecipeError(f"{where}: {'.'.join(keys[:-1])!r:.{MAX_SHOWN}} is not a section")
    target[keys[-1]] = parse_value(text.strip())


def _read_text(recipe: str | Path) -> tuple[str, Path, str]:
    """The text, the folder of relative paths and the display name of a recipe."""
    path = Path(recipe)
    shipped = shipped_recipes()
    if str(recipe) in shipped and not path.is_file():
        return shipped[str(recipe)], Path.cwd(), str(recipe)
    try:
        if path.is_dir():
            raise RecipeError(f"{path}: a folder, expected a recipe file (TOML)")
        if not path.is_file():
            raise RecipeError(
                f"{path}: no such recipe file, and no shipped recipe of that name "
                f"({', '.join(shipped)})"
            )
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise RecipeError(f"{path}: larger than 1 MiB, not a recipe")
        # Some editors begin a file with a byte order mark.
        return path.read_bytes().decode("utf-8-sig"), path.resolve().parent, str(path)
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: not UTF-8 text, expected a recipe (TOML)") from None
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}, expected a recipe file (TOML)") from None


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
        document = _parse_toml(text)
    except ValueError as error:
        raise RecipeError(f"{shown}: not valid TOML: {_one_line(str(error))}") from None
    for assignment in assignments:
        _assign(document, assignment)
    return parse_recipe(document, shown), folder


def parse_recipe(document: Mapping[str, Any], shown: str) -> Recipe:
    """Validate a recipe given as a mapping; ``shown`` names it in messages."""
    if _deeper(document, MAX_LEVELS):
        raise RecipeError(f"{shown}: nested too deeply, expected at most {MAX_LEVELS} levels")
    known: dict[tuple[str | int, ...], list[str]] = {
        (): [field.alias or name for name, field in Recipe.model_fields.items()],
        ("store",): list(StoreSection.model_fields),
    }
    try:
        recipe = Recipe.model_validate(_tuples(document))
    except ValidationError as error:
        raise RecipeError(f"{shown}: {explain(error, document, known)}") from None
    for place, value in _values(document):
        if not _has_json(value):
            raise RecipeError(
                f"{shown}: {key_of(place)}: got {value!r:.60}, expected what JSON has too (a "
                "store keeps its recipe as JSON): a finite number, UTF-8 text, true or false"
            )
    return recipe


def _tuples(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the list of ``extract`` as the tuple that strict validation wants."""
    extract = document.get("extract")
    return dict(document) | ({"extract": tuple(extract)} if isinstance(extract, list) else {})


def _values(
    value: Any, place: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Each key, and each value that is neither a table nor a list; with the keys to it."""
    if not isinstance(value, Mapping | list | tuple):
        yield place, value
        return
    for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
        inside = (*place, key)
        yield inside, key
        yield from _values(part, inside)


def _has_json(value: Any) -> bool:
    """Whether JSON can say what a recipe does; the arguments of a command need not be UTF-8."""
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, str):
        return SURROGATES.search(value) is None
    return not isinstance(value, date | time)


def _deeper(value: Any, levels: int) -> bool:
    """Whether a value has tables and lists inside each other on more levels than that."""
    if not isinstance(value, Mapping | list | tuple):
        return False
    parts = value.values() if isinstance(value, Mapping) else value
    return levels == 0 or any(_deeper(part, levels - 1) for part in parts)
