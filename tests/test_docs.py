"""The documents: every example runs, every signature is the code's, every command exists."""

from __future__ import annotations

import csv
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import typer

import eegstore
from command import Outcome, run_command
from eegstore import answers, cli, hookspecs, protocols, registry, tables
from handbook import (
    HOOKS,
    blocks,
    commands,
    documented_functions,
    documents,
    examples,
    lone_options,
    protocol_functions,
    sections,
    signature,
)
from third_party import lay_out

PROTOCOLS: Final = [
    one
    for one in vars(protocols).values()
    if inspect.isclass(one) and one.__module__ == protocols.__name__
]
N_TIMES: Final = 20
LIMIT: Final = 100.0


def test_every_hook_has_a_section_with_its_exact_signature() -> None:
    shown = sections(HOOKS.read_text())
    for name in hookspecs.HOOK_OF_KIND.values():
        documented = documented_functions(shown[name])
        assert documented[name] == signature(getattr(hookspecs, name), name)
    hooks = [name for name in shown if name.startswith("eegstore_")]
    assert sorted(hooks) == sorted(hookspecs.HOOK_OF_KIND.values())


def test_every_member_of_every_protocol_is_documented_with_its_exact_signature() -> None:
    documented = documented_functions(HOOKS.read_text())
    expected: dict[str, str] = {}
    for one in PROTOCOLS:
        expected |= protocol_functions(one)
    expected |= {
        name: signature(getattr(hookspecs, name), name) for name in hookspecs.HOOK_OF_KIND.values()
    }
    assert documented == expected
    assert len(PROTOCOLS) == 11


def test_every_protocol_is_public() -> None:
    for one in PROTOCOLS:
        if one is not protocols.Plugin:
            assert getattr(eegstore, one.__name__) is one
            assert one.__name__ in eegstore.__all__


@pytest.mark.parametrize("kind", hookspecs.HOOK_OF_KIND)
def test_what_a_protocol_says_is_optional_is_in_the_section_of_its_hook(kind: str) -> None:
    hook = hookspecs.HOOK_OF_KIND[kind]
    section = sections(HOOKS.read_text())[hook]
    (protocol,) = [one for one in PROTOCOLS if f"``{hook}``" in (one.__doc__ or "")]
    text = (protocol.__doc__ or "").partition("May define")[2]
    optional = [name for name in re.findall(r"``(\w+)(?:\(\))?``", text) if name.islower()]
    assert (len(optional) > 0) == (kind in ("extractor", "pairing"))
    for name in optional:
        assert re.search(rf"^\| `{name}\b[^|]*\| optional \|", section, re.MULTILINE), name


@pytest.mark.parametrize(
    "cls",
    [tables.Trials, tables.Stimuli, tables.ColumnSpec, tables.Block, answers.Pairs, answers.Splits],
)
def test_every_field_of_what_is_handed_over_is_in_a_table(cls: type[Any]) -> None:
    table = HOOKS.read_text().partition(f"| `{cls.__name__}` |")[2].partition("\n\n")[0]
    names = [one.name for one in fields(cls)] if cls is not tables.Block else BLOCK
    for name in names:
        assert re.search(rf"^\| [^|]*`{re.escape(name)}`", table, re.MULTILINE), name


BLOCK: Final = [
    'block["eeg"]', 'block["image"]', 'block["caption"]', "n_rows",
    *(name for name in inspect.signature(tables.Block).parameters if name != "columns"),
]  # fmt: skip


@dataclass(frozen=True)
class Built:
    """A folder with the store that the examples have built, and the commands that did."""

    folder: Path
    env: dict[str, str]
    build: Outcome
    export: Outcome
    eeg: np.ndarray[Any, np.dtype[np.float32]]
    label: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def store(self) -> eegstore.Store:
        return eegstore.open_store(self.folder / "out.zarr")


def install_examples(site: Path) -> dict[str, str]:
    """Each example of the reference as a distribution of its own."""
    env = {}
    for name, code in examples().items():
        env = lay_out(site, code, "example_" + name.replace("-", "_"))
    return env


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The recipe's fragments, put together, built and exported by the commands that are shown."""
    folder = tmp_path_factory.mktemp("docs")
    env, text = install_examples(folder / "site"), HOOKS.read_text()
    rng = np.random.default_rng(5)
    eeg = rng.normal(0, 2, (12, 2, N_TIMES)).astype(np.float32)
    eeg[[3, 8], 1] *= 30
    label = np.arange(12) % 3
    lines = [
        ",".join([str(one), *map(repr, eeg[row].ravel().tolist())]) for row, one in enumerate(label)
    ]
    (folder / "eeg.csv").write_text("\n".join(lines) + "\n")
    # The provider's pixels are read where an extractor asks for them.
    recipe = [*blocks(text, "toml"), '[[extract]]\nplugin = "hog"\nsize = 32\n']
    (folder / "recipe.toml").write_text("\n".join(recipe))
    shown = [words for words in commands(text) if words[0] in ("build", "export")]
    build, export = (
        next(words for words in shown if words[0] == one) for one in ("build", "export")
    )
    return Built(
        folder, env, run_command(*build, cwd=folder, env=env, limit_s=120),
        run_command(*export, cwd=folder, env=env), eeg, label,
    )  # fmt: skip


def test_every_kind_has_an_example_that_is_a_usable_plugin(built: Built) -> None:
    listed = json.loads(run_command("plugins", "--json", cwd=built.folder, env=built.env).out)
    theirs = [row for row in listed if row["distribution"].startswith("example_")]
    assert {row["name"] for row in theirs} == set(examples())
    assert {row["kind"] for row in theirs} == set(hookspecs.HOOK_OF_KIND)
    assert {row["status"] for row in theirs} == {"ok"}


def test_the_command_of_the_executor_builds_the_recipe_of_the_examples(built: Built) -> None:
    assert (built.build.code, built.build.err) == (0, "")
    history = built.store.attributes.history[-1]
    assert (history.executor, history.n_workers) == ("polite", 2)
    command = ("build", "recipe.toml", "serial.zarr", "--executor", "serial")
    assert run_command(*command, cwd=built.folder, env=built.env).code == 0
    assert eegstore.open_store(built.folder / "serial.zarr").digest == built.store.digest


def test_the_source_of_the_example_reads_its_text(built: Built) -> None:
    trials = built.store.trials
    np.testing.assert_array_equal(trials["eeg"][:], built.eeg)
    np.testing.assert_array_equal(trials["label"][:], built.label)
    spec = trials["eeg"].spec
    assert (spec.coords["channel"], spec.units, spec.attrs["sfreq"]) == (["Oz", "Cz"], "uV", 100)
    np.testing.assert_allclose(spec.coords["time"], np.arange(N_TIMES) / 100)


def test_the_source_of_the_example_refuses_damaged_text_by_its_line(built: Built) -> None:
    whole = (built.folder / "eeg.csv").read_text()
    recipe = (built.folder / "recipe.toml").read_text()
    (built.folder / "cut.toml").write_text(recipe.replace("eeg.csv", "cut.csv"))
    for text, said in {
        whole.replace(",", ";", 1): "line 1: could not convert string to float: b'0;",
        whole[: whole.rindex(",")]: "line 12: 40 numbers, expected a label and 40 samples",
        "": "cut.csv: is empty, expected a line a trial",
    }.items():
        (built.folder / "cut.csv").write_text(text)
        refused = run_command("build", "cut.toml", "cut.zarr", cwd=built.folder, env=built.env)
        assert refused.code == 3
        assert said in refused.err
        assert len(refused.err.splitlines()) == 1


def test_the_provider_of_the_example_gives_images(built: Built) -> None:
    stimuli = built.store.stimuli
    assert stimuli["label"][:].tolist() == [0, 1, 2]
    assert stimuli["caption"][1] == "A grating at 60 degrees"
    assert len(set(stimuli["content_id"][:].tolist())) == 3
    first, second, _ = stimuli["hog"][:]
    assert abs(first - second).max() > 0.1


def lengths(built: Built) -> Any:
    """float64, (trial, channel): the line lengths, sample by sample."""
    steps = abs(np.diff(built.eeg.astype(np.float64), axis=-1))
    return steps[:, :, 1:].sum(axis=-1)  # tmin is the time of the second sample


def test_the_extractor_of_the_example_gives_its_column(built: Built) -> None:
    column = built.store.trials["line_length"]
    np.testing.assert_allclose(column[:], lengths(built), rtol=1e-5)
    assert (column.spec.dims, column.spec.units) == (("channel",), "uV")
    assert column.spec.coords["channel"] == ["Oz", "Cz"]
    assert column.attrs["eegstore"]["producer"]["options"] == {"tmin": 0.01}


def test_the_fitted_extractor_of_the_example_knows_the_train_rows_alone(built: Built) -> None:
    column, train = built.store.trials["standardised"], lengths(built)[built.label != 2]
    expected = (lengths(built) - train.mean(axis=0)) / train.std(axis=0)
    np.testing.assert_allclose(column[:], expected, rtol=1e-4, atol=1e-5)
    assert abs(lengths(built).mean(axis=0) - train.mean(axis=0)).min() > 0.05
    assert column.spec.units == "1"


def test_the_pairing_of_the_example_leaves_noisy_trials_unpaired(built: Built) -> None:
    noisy = lengths(built).max(axis=-1) > LIMIT
    assert noisy.nonzero()[0].tolist() == [3, 8]
    expected = np.where(noisy, -1, built.label)
    np.testing.assert_array_equal(built.store.trials["stimulus"][:], expected)
    np.testing.assert_array_equal(built.store.trials["score"][:], np.where(noisy, np.nan, 1))


def test_the_split_of_the_example_holds_out_a_label(built: Built) -> None:
    expected = np.where(built.label == 2, "test", "train")
    np.testing.assert_array_equal(built.store.trials["split"][:], expected)


def test_the_exporter_of_the_example_writes_its_table(built: Built) -> None:
    assert (built.export.code, built.export.err) == (0, "")
    with (built.folder / "trials.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    paths, splits = ["grating-0", "grating-60", "grating-120"], ["train", "train", "test"]
    assert rows == [
        [str(trial), splits[trial % 3], str(trial % 3), paths[trial % 3]]
        for trial in range(12)
        if trial not in (3, 8)
    ]


CONFORMS: Final = """
import json, sys
from pathlib import Path
from eegstore import registry, testing

def main():
    options = json.loads(sys.argv[1])
    failed = []
    for plugin in registry.plugins():
        if plugin.distribution.startswith("example_"):
            made = registry.create(plugin.kind, plugin.name, options.get(plugin.name, {}), Path())
            for one in testing.run(made, plugin.kind):
                failed += [f"{plugin.name}: {one.check}: {one.detail}"] * (one.passed is False)
    print(json.dumps(failed))

if __name__ == "__main__":
    main()
"""


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_the_examples_conform(built: Built) -> None:
    recipe = tomllib.loads((built.folder / "recipe.toml").read_text())
    used = [*recipe.pop("extract"), *recipe.values()]
    options = {section.pop("plugin"): section for section in used}
    (built.folder / "conforms.py").write_text(CONFORMS)
    done = subprocess.run(
        [sys.executable, "conforms.py", json.dumps(options)], cwd=built.folder,
        env={**os.environ, **built.env}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def command_line(format_name: str = "") -> Any:
    """The command line, with the options of a format; typer may bring a click of its own."""
    cli.add_export_command(format_name)
    return typer.main.get_command(cli.app)


def subcommands(command: Any) -> dict[str, Any]:
    return dict(getattr(command, "commands", {}))


def options(command: Any) -> set[str]:
    return {flag for one in command.params for flag in [*one.opts, *one.secondary_opts]}


def problem(words: list[str]) -> str:
    """What is wrong with a command that a document shows, or an empty string."""
    exported = words[:1] == ["export"] and "--format" in words[:-1]
    command = command_line(words[words.index("--format") + 1] if exported else "")
    rest = list(words)
    while subcommands(command) and rest and not rest[0].startswith("-"):
        if rest[0] not in subcommands(command):
            return f"no command {rest[0]!r}"
        command = subcommands(command)[rest.pop(0)]
    known = options(command) | {"--help", "-h"}
    unknown = [word for word in rest if word.startswith("-") and word.split("=")[0] not in known]
    return f"{command.name} has no option {unknown[0]}" if unknown else ""


def shown_commands() -> Iterator[tuple[str, list[str]]]:
    for document in documents():
        for words in commands(document.read_text()):
            # Brackets are those of a synopsis.
            yield document.name, [word.strip("[]…") for word in words if word.strip("[]…")]


@pytest.fixture
def with_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples are installed in this process: their formats bring options."""
    install_examples(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("EEGSTORE_PLUGINS", raising=False)
    registry.plugins.cache_clear()
    yield
    registry.plugins.cache_clear()


@pytest.mark.usefixtures("with_examples")
def test_every_command_that_a_document_shows_exists() -> None:
    shown = list(shown_commands())
    assert len(shown) > 20
    assert {name for name, _ in shown} >= {"README.md", "SECURITY.md", "hooks.md", "plugins.md"}
    wrong = [f"{name}: eegstore {' '.join(words)}: {problem(words)}" for name, words in shown]
    assert [one for one in wrong if not one.endswith(": ")] == []


def test_every_option_that_a_document_names_exists() -> None:
    known = set[str]()
    waiting = [command_line()]
    while waiting:
        command = waiting.pop()
        known |= options(command)
        waiting += subcommands(command).values()
    assert {"--workers", "--deep", "--format"} <= known
    for document in documents():
        for option in lone_options(document.read_text()):
            assert option.split("=")[0] in known, f"{document.name}: {option}"


def test_a_wrong_command_and_a_wrong_option_would_be_found() -> None:
    assert problem(["bulid", "demo"]) == "no command 'bulid'"
    assert problem(["build", "demo", "--worker", "2"]) == "build has no option --worker"
    assert problem(["build", "demo", "--workers", "2"]) == ""
    assert problem(["export", "a", "b", "--format", "npy", "--image-size", "8"]) == ""
    assert problem(["export", "a", "b", "--format", "hdf5", "--image-size", "8"]) != ""
