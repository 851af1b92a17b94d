"""Recipes: each bad one is refused in one line, and ``--set`` says what it changes."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eegstore import RecipeError, registry
from eegstore.recipe import load_recipe, nearest, parse_recipe, parse_value, shipped_recipes

SOURCE = '[source]\nplugin = "synthetic"\n'
EXTRACT = '[[extract]]\nplugin = "spectral"\n[[extract]]\nplugin = "hog"\n'


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(message: str, path: Path | str, *assignments: str) -> None:
    """The recipe is refused, and what is said is one line."""
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path, assignments)
    assert "\n" not in str(caught.value)


def set_(folder: Path, *assignments: str, text: str = SOURCE + EXTRACT):
    return load_recipe(write(folder, text), assignments)[0]


def test_a_recipe_keeps_the_options_of_each_section_under_their_own_names(tmp_path):
    text = (
        f'name = "mine"\n{SOURCE}seed = 4\nallow_skips = true\n{EXTRACT}as = "edges"\nsize = 32\n'
    )
    recipe, folder = load_recipe(write(tmp_path, text))
    assert folder == tmp_path
    assert recipe.name == "mine"
    assert (recipe.source.plugin, recipe.source.options) == ("synthetic", {"seed": 4})
    assert recipe.source.allow_skips is True
    assert [one.column for one in recipe.extract] == ["spectral", "edges"]
    assert [one.options for one in recipe.extract] == [{}, {"size": 32}]
    assert (recipe.stimuli, recipe.pairing, recipe.split) == (None, None, None)
    assert recipe.store.codec == "raw"


def test_a_column_is_named_after_its_plugin_with_underscores(tmp_path):
    recipe = set_(tmp_path, text=SOURCE + '[[extract]]\nplugin = "clip-image"\n')
    assert recipe.extract[0].column == "clip_image"


def test_a_recipes_document_is_a_recipe_again(tmp_path):
    recipe = set_(tmp_path, 'extract.1.as="edges"', "source.seed=3", "store.codec=small")
    assert recipe.document() == {
        "source": {"plugin": "synthetic", "seed": 3},
        "extract": [{"plugin": "spectral"}, {"plugin": "hog", "as": "edges"}],
        "store": {"codec": "small"},
    }
    assert parse_recipe(recipe.document(), "stored") == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('nmae = "x"\n' + SOURCE, "nmae: unknown key; did you mean 'name'?"),
        ("zzz = 1\n" + SOURCE, "zzz: unknown key; known: extract, name, pairing, source, split,"),
        (SOURCE + '[store]\ncodek = "raw"\n', "store.codek: unknown key; did you mean 'codec'?"),
        ('"a\\nb\\u001b[31m" = 1\n' + SOURCE, r"'a\nb\x1b[31m': unknown key"),
        ("name = 3\n" + SOURCE, "name: got 3, expected a valid string"),
        ("name = 2020-01-01\n" + SOURCE, "name: got datetime.date(2020, 1, 1), expected"),
        ('source = "synthetic"\n', "source: got 'synthetic', expected a table of keys"),
        ('[[source]]\nplugin = "x"\n', "source: got [{'plugin': 'x'}], expected a table of keys"),
        ("[source]\nplugin = 3\n", "source.plugin: got 3, expected a valid string"),
        (SOURCE + 'allow_skips = "true"\n', "source.allow_skips: got 'true', expected a valid bo"),
        (SOURCE + "[store]\nrandom = 1\n", "store.random: got 1, expected a valid boolean"),
        (
            SOURCE + '[store]\ncodec = "zip"\n',
            "store.codec: got 'zip', expected 'raw', 'fast', 'small' or 'archive'",
        ),
        (
            SOURCE + '[extract]\nplugin = "hog"\n',
            "extract: got {'plugin': 'hog'}, expected a list of tables: [[extract]]",
        ),
        ("extract = [1]\n" + SOURCE, "[[extract]] 1: got 1, expected a table of keys"),
        (
            SOURCE + EXTRACT + "[[extract]]\n",
            "[[extract]] 3: plugin: missing, and it has no default",
        ),
        (
            SOURCE + EXTRACT + 'as = "Edges"\n',
            "[[extract]] 2: as: got 'Edges', expected a string that matches ^[a-z][a-z0-9_]{0,63}$",
        ),
        (SOURCE + "sfreq = inf\n", "source.sfreq: got inf, expected what JSON has too"),
        (SOURCE + "day = 2020-01-01\n", "source.day: got datetime.date(2020, 1, 1), expected"),
        (
            SOURCE + "[[extract]]\nplugin = 'hog'\na = [1, {b = -nan}]\n",
            "[[extract]] 1: a (value 2).b: got nan, expected what JSON has too (a",
        ),
        ('name = "x"\n', "source: missing, and it has no default"),
        ("", "source: missing, and it has no default"),
        ("[source]\n", "source.plugin: missing, and it has no default"),
    ],
)
def test_a_recipe_is_refused_by_file_key_value_and_expectation(tmp_path, text, message):
    path = write(tmp_path, text)
    refused(re.escape(f"{path}: {message}"), path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SOURCE + 'plugin = "npy"\n', r"Cannot overwrite a value \(at line 3, "),
        (SOURCE + SOURCE, r"Cannot declare .*source.* twice \(at line 3, "),
        ('{"source": {"plugin": "synthetic"}}', r"Invalid statement \(at line 1, column 1\)"),
        ("source:\n  plugin: synthetic\n", r"\(at line 1, "),
        ('name = "\x01"\n', r"Illegal character '\\x01' \(at line 1, column \d+\)"),
        ('name = "x"\r' + SOURCE, r"Expected newline .* \(at line 1, column 11\)"),
        (SOURCE + "seed = " + "9" * 5000, r"Exceeds the limit \(4300 digits\)"),
    ],
)
def test_what_is_no_toml_is_refused_by_line(tmp_path, text, reason):
    path = write(tmp_path, text)
    refused(f"^{re.escape(str(path))}: not valid TOML: .*{reason}", path)


MIB = 1 << 20
NESTED = "nested too deeply"
HOSTILE = {
    "10 MB of brackets": ("a = " + "[" * 10 * MIB, "larger than 1 MiB, not a recipe"),
    "1 MB of brackets": ("a = " + "[" * (MIB - 4), f"not valid TOML: {NESTED}"),
    "bare brackets": ("[" * MIB, "not valid TOML: "),
    "braces": ("a = " + "{a=" * (MIB // 4), f"not valid TOML: {NESTED}"),
    "bare key": ("a" + ".a" * (MIB // 2 - 8) + " = 1", f"not valid TOML: {NESTED}"),
    "quoted key": ('"a b\\"".' * (MIB // 16), f"not valid TOML: {NESTED}"),
    "literal key": ("'a b' . " * (MIB // 8), f"not valid TOML: {NESTED}"),
    "header": ("[a" + '. "b"\t' * (MIB // 8) + "]\n", f"not valid TOML: {NESTED}"),
    "one word": ("a" * MIB, "not valid TOML: "),
    "escapes": ('\\"' * (MIB // 2), "not valid TOML: "),
    "backslashes": ('"\\' * (MIB // 2), "not valid TOML: "),
    "quotes": ("\"'" * (MIB // 2), "not valid TOML: "),
    "100 lists": ("a = " + "[" * 100 + "]" * 100, f"{NESTED}, expected at most 32 levels"),
    "33 levels": ("[source.a]\n" + "b." * 30 + "c = {d = 1}", f"{NESTED}, expected at most 32"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_recipe_is_refused_at_once(tmp_path, case):
    text, reason = HOSTILE[case]
    path = write(tmp_path, text)
    start = time.monotonic()
    refused(f"^{re.escape(f'{path}: {reason}')}", path)
    assert time.monotonic() - start < 2


def test_a_caption_full_of_dots_is_no_deep_key(tmp_path):
    caption = ". . . " * 40 + "a.b/" * 20
    recipe = set_(tmp_path, text=f'{SOURCE}[stimuli]\nplugin = "digits"\ncaption = "{caption}"\n')
    assert recipe.stimuli is not None
    assert recipe.stimuli.options == {"caption": caption}


def test_a_mapping_that_holds_itself_is_refused():
    document: dict[str, object] = {"source": {"plugin": "synthetic"}}
    document["name"] = document
    with pytest.raises(RecipeError, match="recipe: nested too deeply, expected at most 32 levels"):
        parse_recipe(document, "recipe")


def test_a_recipe_in_another_encoding_is_refused(tmp_path):
    path = write(tmp_path, 'name = "Büro"\n'.encode("latin-1"))
    refused(f"^{re.escape(str(path))}: not UTF-8 text, expected a recipe", path)
    refused("not UTF-8 text", write(tmp_path, SOURCE.encode("utf-16")))


def test_a_byte_order_mark_and_other_line_ends_are_no_part_of_a_recipe(tmp_path):
    text = f'name = """a\nb"""\n{SOURCE}'.replace("\n", "\r\n")
    recipe, _ = load_recipe(write(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert recipe.source.plugin == "synthetic"
    assert recipe.name == "a\nb"


def test_a_folder_is_no_recipe(tmp_path):
    refused(f"^{re.escape(str(tmp_path))}: a folder, expected a recipe file", tmp_path)


def test_a_missing_recipe_is_told_of_those_that_ship(tmp_path):
    path = tmp_path / "absent.toml"
    refused(f"^{re.escape(str(path))}: no such recipe file, .*demo, mindbigdata, ", path)
    refused("^demmo: no such recipe file, and no shipped recipe of that name", "demmo")
    refused("no such recipe file", "/dev/null")
    refused("File name too long, expected a recipe file", "x" * 5000)


def test_relative_paths_start_at_the_recipes_folder(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep", SOURCE)
    monkeypatch.chdir(tmp_path)
    assert load_recipe("deep/recipe.toml")[1] == (tmp_path / "deep").resolve()
    monkeypatch.chdir(tmp_path / "deep")
    assert load_recipe(Path("recipe.toml"))[1] == (tmp_path / "deep").resolve()


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_name_known_plugins_and_options(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe, folder = load_recipe(name)
    assert folder == tmp_path
    assert recipe.name == name
    sections = [("source", recipe.source), ("stimuli", recipe.stimuli)]
    sections += [("pairing", recipe.pairing), ("split", recipe.split)]
    sections += [("extractor", one) for one in recipe.extract]
    for kind, section in sections:
        if section is not None:
            plugin = registry.create(kind, section.plugin, section.options, folder)
            assert plugin.name == section.plugin


def test_the_demo_is_among_the_shipped_recipes():
    assert sorted(shipped_recipes()) == ["demo", "mindbigdata", "mne-epochs", "npy-folder"]


def test_a_file_in_the_folder_comes_before_a_shipped_recipe_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "demo").write_text('name = "own"\n' + SOURCE)
    monkeypatch.chdir(tmp_path)
    recipe, folder = load_recipe("demo")
    assert recipe.name == "own"
    assert folder == tmp_path.resolve()


def test_set_replaces_adds_and_reaches_into_lists(tmp_path):
    recipe = set_(
        tmp_path,
        "name=other",
        "source.seed=7",
        "source.event_id.face=3",
        "extract.1.as=edges",
        "split.plugin=random",
        "split.test_size=0.25",
    )
    assert recipe.name == "other"
    assert recipe.source.options == {"seed": 7, "event_id": {"face": 3}}
    assert [one.column for one in recipe.extract] == ["spectral", "edges"]
    assert recipe.split is not None
    assert recipe.split.options == {"test_size": 0.25}


def test_the_last_set_of_a_key_holds(tmp_path):
    assert set_(tmp_path, "source.seed=1", "source.seed=2").source.options == {"seed": 2}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-0.5", -0.5),
        ("true", True),
        ('"3"', "3"),
        ("'true'", "true"),
        ("[1, 2]", [1, 2]),
        ('["Cz", "Pz"]', ["Cz", "Pz"]),
        ("{face = 1}", {"face": 1}),
        ("", ""),
        ("MU.txt", "MU.txt"),
        ("a photo of a {concept}", "a photo of a {concept}"),
        ("../data/a=b", "../data/a=b"),
        ("True", "True"),
        ("1\nb = 2", "1\nb = 2"),
        ("[" * 5000, "[" * 5000),
        ("9" * 5000, "9" * 5000),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_value_is_toml_where_it_is_toml_and_else_a_string(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@given(st.text())
def test_any_text_is_a_value(text):
    parse_value(text)


def test_set_takes_all_after_the_first_equals_sign(tmp_path):
    options = set_(tmp_path, "source.path=a=b", "source.note= two words ").source.options
    assert options == {"path": "a=b", "note": "two words"}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("source.seed", "expected KEY=VALUE, such as split.seed=1"),
        ("=3", "expected KEY=VALUE"),
        (".seed=3", "expected KEY=VALUE"),
        ("source..seed=3", "expected KEY=VALUE"),
        ("source.plugin.x=1", "'source.plugin' is not a section"),
        ("source.plugin.x.y=1", "the recipe has no 'source.plugin.x.y'"),
        ("extract.2.as=x", "the recipe has no 'extract.2.as'"),
        ("extract.-1.as=x", "the recipe has no 'extract.-1.as'"),
        ("extract.first.as=x", "the recipe has no 'extract.first.as'"),
        ("extract.².as=x", "the recipe has no 'extract.².as'"),
        ("extract.0=x", "'extract' is not a section"),
    ],
)
def test_set_refuses_what_it_cannot_place(tmp_path, assignment, message):
    path = write(tmp_path, SOURCE + EXTRACT)
    refused(re.escape(f"--set {assignment}: {message}"), path, assignment)


def test_an_assignment_is_shown_on_one_line_and_not_whole(tmp_path):
    path = write(tmp_path, SOURCE)
    refused(r"^--set 'a\\nb': expected KEY=VALUE", path, "a\nb")
    refused("^--set " + "x" * 80 + " … x+: expected KEY=VALUE", path, "x" * 5000)


def test_of_a_long_key_both_ends_are_shown(tmp_path):
    key = "a" * 5000 + "z"
    path = write(tmp_path, f"{key} = 1\n{SOURCE}")
    refused(f"^{re.escape(str(path))}: a{{80}} … a{{79}}z: unknown key; known: extract, ", path)
    path = write(tmp_path, f"[{key}]\n[{key}]\n")
    refused(r"not valid TOML: Cannot declare \('a+ … a+z',\) twice \(at line 2, ", path)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("name=3", "name: got 3, expected a valid string"),
        ("nam=x", "nam: unknown key; did you mean 'name'?"),
        ("extract=1", "extract: got 1, expected a list"),
        ("split.seed=1", "split.plugin: missing, and it has no default"),
        ("name=\udcff", r"name: got '\udcff', expected what JSON has too"),
        ("source.a.b\udcff=3", r"source.a.'b\udcff': got 'b\udcff', expected what JSON has too"),
        ("source.seed=nan", "source.seed: got nan, expected what JSON has too"),
        ("source" + ".a" * 5000 + "=1", f"{NESTED}, expected at most 32 levels"),
    ],
    ids=lambda value: value[:20],
)
def test_what_set_makes_is_validated_as_the_file_is(tmp_path, assignment, message):
    path = write(tmp_path, SOURCE + EXTRACT)
    refused(re.escape(f"{path}: {message}"), path, assignment)


def test_nearest_names_one_word_or_all():
    assert nearest("sourec", ["source", "split"]) == "did you mean 'source'?"
    assert nearest("xyz", ["source", "split"]) == "known: source, split"
    assert nearest("xyz", []) == "there is none"
