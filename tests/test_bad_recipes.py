"""Recipes that are wrong, through the command line: refused by file, key, value and expectation."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import eegstore
from command import LIMIT_S, check_refused, run_command

SOURCE = '[source]\nplugin = "synthetic"\nn_trials = 8\nn_channels = 2\nn_times = 64\n'
Content = bytes | str | Callable[[Path], None]


def text(content: str) -> Content:
    """The sound recipe with something more."""
    return SOURCE + content


def section(head: str, plugin: str, option: str = "") -> Content:
    """The sound recipe with another section."""
    return text(f'{head}\nplugin = "{plugin}"\n{option}\n')


def put(path: Path, content: Content) -> None:
    if callable(content):
        content(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def option(line: str) -> Content:
    """The sound recipe with another value of a key."""
    key = line.partition(" ")[0]
    kept = "".join(f"{one}\n" for one in SOURCE.splitlines() if not one.startswith(key))
    return f"{kept}{line}\n"


# A recipe file, and the parts of the message; all exit with 3.
RECIPES: dict[str, tuple[Content, tuple[str, ...]]] = {
    "unknown key": (text('[store]\ncodek = "raw"\n'), ("store.codek", "did you mean 'codec'?")),
    "random rows of raw chunks": (
        text("[store]\nrandom = true\n"),
        ("store.random: got True, expected a codec that compresses; of 'raw' each row is read",),
    ),
    "unknown section": (text("[sorce]\n"), ("sorce: unknown key; did you mean 'source'?",)),
    "unknown option": (
        option("n_trails = 8"),
        ("[source]: n_trails: unknown key; did you mean 'n_trials'?",),
    ),
    "unknown option of an extractor": (
        section("[[extract]]", "hog", "sice = 32"),
        ("[[extract]] 1 (hog): sice: unknown key; did you mean 'size'?",),
    ),
    "wrong type": (
        option('n_trials = "8"'), ("[source]: n_trials: got '8', expected a valid integer",),
    ),
    "a fraction for a number": (option("n_trials = 8.5"), ("got 8.5, expected a valid integer",)),
    "true for a number": (option("n_trials = true"), ("got True, expected a valid integer",)),
    "a table for a list": (
        section("[extract]", "hog"), ("extract: got ", "expected a list of tables: [[extract]]"),
    ),
    "duplicate key": (text("n_times = 64\n"), ("not valid TOML", "line 6")),
    "duplicate section": (text(SOURCE), ("not valid TOML", "twice", "line 6")),
    "missing section": ('name = "x"\n', ("recipe.toml: source: missing",)),
    "missing plugin": ("[source]\nn_trials = 8\n", ("source.plugin: missing",)),
    "missing option": (section("[stimuli]", "image-folder"), ("[stimuli]: path: missing",)),
    "empty": ("", ("recipe.toml: source: missing, and it has no default",)),
    "unknown source": (
        '[source]\nplugin = "synthetik"\n',
        ("no source is called 'synthetik'; did you mean 'synthetic'?",),
    ),
    "unknown extractor": (
        section("[[extract]]", "spektral"), ("no extractor is called 'spektral'; did you mean",),
    ),
    "unknown split": (section("[split]", "rondom"), ("no split is called", "mean 'random'")),
    "unknown pairing": (
        section('[stimuli]\nplugin = "digits"\n[pairing]', "lable"), ("did you mean 'label'?",),
    ),
    "n_times = 0": (option("n_times = 0"), ("n_times: got 0, expected greater than or",)),
    "a negative rate": (option("sfreq = -128"), ("sfreq: got -128, expected greater than 0",)),
    "a share of 2": (
        section("[split]", "random", "test_size = 2"), ("test_size: got 2, expected less",),
    ),
    "more than any machine has": (option("n_channels = 1_000_000_000_000"), ("n_channels: got 1",)),
    "a number of 5,000 digits": (option(f"seed = {'9' * 5000}"), ("not valid TOML: Exceeds",)),
    "an endless rate": (option("sfreq = inf"), ("source.sfreq: got inf, expected",)),
    "no time at all": (option("timeout_s = 0"), ("source.timeout_s: got 0, expected greater",)),
    "one column twice": (
        text('[[extract]]\nplugin = "temporal"\n' * 2),
        ("[[extract]] 2 (temporal): trials has a column 'temporal' already", 'as = "…"'),
    ),
    "a column of a taken name": (
        section("[[extract]]", "temporal", 'as = "label"'), ("trials has a column 'label'",),
    ),
    "a column that is a path": (
        section("[[extract]]", "temporal", 'as = "../eeg"'), ("[[extract]] 1: as: got '../eeg'",),
    ),
    "a column of 300 letters": (
        section("[[extract]]", "temporal", f'as = "{"a" * 300}"'),
        ("[[extract]] 1: as: got 'aaaa",),
    ),
    "file not found": (
        '[source]\nplugin = "npy"\npath = "absent"\nsfreq = 128\n', ("absent: no folder, exp",),
    ),
    "images not found": (
        section("[stimuli]", "image-folder", 'path = "absent"'), ("absent': no such fold",),
    ),
    "a name of 300 letters": (
        f'[source]\nplugin = "hdf5"\npath = "{"a" * 300}"\n', ("source 'hdf5': ", "too long"),
    ),
    "a path with a zero byte": (
        '[source]\nplugin = "hdf5"\npath = "a\\u0000b"\n', (r"a\x00b: no such file, expected an",),
    ),
    "not TOML": ("source: synthetic\n", ("recipe.toml: not valid TOML", "line 1")),
    "JSON": ('{"source": {"plugin": "synthetic"}}', ("recipe.toml: not valid TOML", "line 1")),
    "binary": (os.urandom(64) + b"\xff", ("recipe.toml: not UTF-8 text, expected",)),
    "Latin-1": ('name = "fünf"\n'.encode("latin-1"), ("recipe.toml: not UTF-8 text",)),
    "UTF-16": (SOURCE.encode("utf-16"), ("recipe.toml: not UTF-8 text",)),
    "zero bytes": (b"\0" * 64, ("recipe.toml: not valid TOML: Invalid statement (at line 1",)),
    "10 MB of brackets": ("a = " + "[" * 10_000_000, ("recipe.toml: larger than 1 MiB",)),
    "1 MB of brackets": ("a = " + "[" * 1_000_000, ("recipe.toml: not valid TOML: nested too",)),
    "1 MB of dots": ("a" + ".a" * 500_000 + " = 1", ("recipe.toml: not valid TOML: nested too",)),
    "a folder": (Path.mkdir, ("recipe.toml: a folder, expected a recipe file (TOML)",)),
    "a pipe": (os.mkfifo, ("recipe.toml: ", "recipe")),
    "an endless device": (lambda path: path.symlink_to("/dev/zero"), ("recipe.toml: ",)),
    "a link in a loop": (lambda path: path.symlink_to(path), ("recipe.toml: ",)),
    "missing": (lambda path: None, ("recipe.toml: no such recipe file", "demo")),
    "control characters": (
        text('"a\\u001b[31m\\nb" = 1\n'), (r"[source]: 'a\x1b[31m\nb': unknown key",),
    ),
}  # fmt: skip


@pytest.mark.promise("P14")
@pytest.mark.parametrize("case", RECIPES)
def test_a_wrong_recipe_is_refused(tmp_path, case):
    content, parts = RECIPES[case]
    put(tmp_path / "recipe.toml", content)
    before = sorted(tmp_path.iterdir())
    outcome = run_command("build", "recipe.toml", "out.zarr", cwd=tmp_path, limit_s=LIMIT_S)
    check_refused(outcome, 3, *parts)
    assert len(outcome.err) < 1000
    assert outcome.err.count("\n") == 1
    # But for the file of the lock nothing is there that was not.
    assert sorted({*tmp_path.iterdir()} - {tmp_path / "out.zarr.lock"}) == before


ARGUMENTS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "a negative worker count": (("--workers", "-1"), 3, "--workers -1: expected a positive number"),
    "no worker": (("--workers", "0"), 3, "--workers 0: expected a positive number"),
    "an unknown executor": (("--executor", "cereal"), 2, "did you mean 'serial'?"),
    "an assignment of nothing": (("--set", "seed"), 3, "--set seed: expected KEY=VALUE"),
    "an assignment to a value": (("--set", "source.n_times.a=1"), 3, "n_times' is not a section"),
    "an unknown option": (("--set", "source.sead=1"), 3, "sead: unknown key; did you mean 'seed'?"),
    "an option out of range": (("--set", "source.seed=-1"), 3, "seed: got -1, expected greater"),
    "a value of brackets": (("--set", "source.seed=" + "[" * 100_000), 3, "seed: got '[[["),
}  # fmt: skip


@pytest.mark.promise("P14")
@pytest.mark.parametrize("case", ARGUMENTS)
def test_a_wrong_argument_is_refused(tmp_path, case):
    arguments, code, part = ARGUMENTS[case]
    (tmp_path / "recipe.toml").write_text(SOURCE)
    outcome = run_command("build", "recipe.toml", "out.zarr", *arguments, cwd=tmp_path)
    check_refused(outcome, code, part)
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.promise("P14")
@pytest.mark.parametrize("name", ["../out", "/out", "a/b", r"a\u0000b", r"a\nb", "a" * 300])
def test_a_recipes_name_leads_to_no_other_folder(tmp_path, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "recipe.toml").write_text(f'name = "{name}"\n{SOURCE}')
    outcome = run_command("build", "recipe.toml", cwd=inner)
    check_refused(outcome, 3, "name")
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbf" + SOURCE.encode(), SOURCE.replace("\n", "\r\n")]
)
def test_a_byte_order_mark_and_line_ends_of_windows_are_no_part_of_a_recipe(tmp_path, content):
    put(tmp_path / "recipe.toml", content)
    outcome = run_command("build", "recipe.toml", "out.zarr", cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert eegstore.open_store(tmp_path / "out.zarr").recipe["source"]["n_trials"] == 8
