"""``eegstore plugins show``, ``new`` and ``check``: what they print, and what they refuse."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import Outcome, check_refused, run_command
from eegstore import UsageError, catalogue, registry
from eegstore.recipe import parse_recipe
from eegstore.scaffolding import SUMMARIES, scaffold
from third_party import extractor, lay_out, plugin

WIDE = {"COLUMNS": "80"}
SECTIONS = ("source", "stimuli", "pairing", "split", "extract")
BUILT_IN = [one.path for one in registry.built_in()]


def run(*arguments: str | Path, cwd: Path, code: int = 0, **env: str) -> Outcome:
    outcome = run_command("plugins", *arguments, cwd=cwd, env=WIDE | env)
    assert outcome.code == code, outcome.err
    return outcome


@pytest.mark.parametrize("path", BUILT_IN)
def test_the_example_of_every_built_in_is_accepted(path):
    entry = catalogue.entry(catalogue.look_up(path))
    kind, name = entry.plugin.kind, entry.plugin.name
    if kind in ("exporter", "executor"):
        assert shlex.split(entry.example)[-2:] == [f"--{_flag(kind)}", name]
        return
    document = tomllib.loads(entry.example)
    (section,) = document
    assert section in SECTIONS
    recipe = parse_recipe({"source": {"plugin": "synthetic"}} | document, "the example")
    given = getattr(recipe, section)
    given = given[0] if section == "extract" else given
    assert given.plugin == name
    made = registry.create(kind, name, given.options, Path("/"))
    assert made.name == name
    assert set(given.options) == {one.name for one in entry.options if one.required}


def _flag(kind: str) -> str:
    return {"exporter": "format", "executor": "executor"}[kind]


@pytest.mark.parametrize("path", BUILT_IN)
def test_every_built_in_is_documented(path):
    entry = catalogue.entry(catalogue.look_up(path))
    assert entry.does.count(".") >= 1
    assert all(one.description and one.type for one in entry.options)
    document = entry.document()
    assert json.loads(json.dumps(document)) == document
    assert [one["name"] for one in document["options"]] == list(
        registry.options_model(entry.plugin.cls).model_fields
    )


ODD = """
kind: str = "x"
sfreq: float = field(default=250.0, metadata={
    "description": "Sampling rate.", "gt": 0, "le": 1e4, "json_schema_extra": {"unit": "Hz"}})
n: int | None = field(default=None, metadata={"ge": 2, "description": "How many."})
span: tuple[float, float] = (0.0, 0.5)
names: tuple[str, ...] = ()
table: ClassVar[str] = "trials"
reads: ClassVar[tuple[str, ...]] = ("eeg",)
def describe(self, inputs):
    return ColumnSpec(("channel", "lag"), (*inputs["eeg"].shape[:1], 3), "float32", units="uV")
def __call__(self, block): ...
"""


@pytest.fixture
def odd(tmp_path: Path) -> Callable[..., dict[str, str]]:
    return lambda kind="extractor", body=ODD: lay_out(tmp_path / "site", plugin(kind, body))


def test_show_tells_what_a_plugin_is(tmp_path, odd):
    shown = run("show", "odd", cwd=tmp_path, **odd()).out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert shown.startswith("extractor/odd  version 1, of theirs 1.0\n")
    assert "Breaks a promise." in shown
    words = " ".join(shown.split())
    assert "reads trials/eeg" in words
    assert "writes trials/odd: float32, 64 × 3 (channel, lag) in uV" in words
    assert "sfreq number 250.0 Hz Sampling rate. (>0, ≤10000.0)" in words
    assert "n integer (none) How many. (≥2)" in words
    assert "span [number, number] [0.0, 0.5]" in words
    assert "names list of string []" in words
    assert shown.endswith('[[extract]]\nplugin = "odd"\n')


def test_show_json_has_the_same_facts(tmp_path, odd):
    facts = json.loads(run("show", "extractor/odd", "--json", cwd=tmp_path, **odd()).out)
    assert (facts["kind"], facts["name"], facts["status"]) == ("extractor", "odd", "ok")
    assert (facts["distribution"], facts["table"], facts["reads"]) == (
        "theirs 1.0", "trials", ["eeg"],
    )  # fmt: skip
    assert facts["writes"]["shape"] == [64, 3]
    sfreq = next(one for one in facts["options"] if one["name"] == "sfreq")
    assert sfreq == {
        "name": "sfreq", "type": "number", "default": 250.0, "required": False, "unit": "Hz",
        "bounds": "> 0, ≤ 10000.0", "description": "Sampling rate.",
    }  # fmt: skip
    assert tomllib.loads(facts["example"]) == {"extract": [{"plugin": "odd"}]}


def test_what_describe_cannot_tell_is_left_out(tmp_path, odd):
    body = ODD.replace("def describe(self, inputs):", "def describe(self, inputs):\n    1 / 0")
    words = run("show", "odd", cwd=tmp_path, **odd(body=body)).out.split()
    assert "its shape follows from the options" in " ".join(words)
    loads = ODD + "def prepare(self): ...\n"
    loads = loads.replace("inputs):", "inputs):\n    open('described', 'w')")
    run("show", "odd", cwd=tmp_path, **odd(body=loads))
    assert not (tmp_path / "described").exists()


REQUIRED = """
path: Path
rate: float = field(metadata={"gt": 3})
count: int = field(metadata={"ge": 7})
mode: Literal["b", "a"]
deep: bool
names: tuple[str, ...] = field(metadata={"min_length": 2})
by: dict[str, int]
model: str = field(metadata={"examples": ["owner/name"]})
def scan(self): ...
def read(self, start, stop): ...
"""


def test_the_example_has_the_options_that_are_needed(tmp_path, odd):
    imports = "from typing import Literal\nfrom pathlib import Path\n"
    found = lay_out(tmp_path / "site", imports + plugin("source", REQUIRED))
    facts = json.loads(run("show", "odd", "--json", cwd=tmp_path, **found).out)
    example = tomllib.loads(facts["example"])["source"]
    assert example == {
        "plugin": "odd", "path": "path/to/data", "rate": 4.0, "count": 7, "mode": "b",
        "deep": True, "names": ["names", "names"], "by": {}, "model": "owner/name",
    }  # fmt: skip


def test_a_name_of_several_kinds_is_asked_about_and_an_unknown_one_is_answered(tmp_path):
    with pytest.raises(UsageError, match=r"say which of exporter/npy, source/npy$"):
        catalogue.look_up("npy")
    assert catalogue.look_up("exporter/npy").kind == "exporter"
    with pytest.raises(UsageError, match=r"^no plugin is called 'spektral'; did you mean 'spect"):
        catalogue.look_up("spektral")
    with pytest.raises(UsageError, match=r"^no split is called 'rndom'; did you mean 'random'"):
        catalogue.look_up("split/rndom")
    with pytest.raises(UsageError, match="no kind is called 'splits'; did you mean 'split'"):
        catalogue.look_up("splits/random")
    for command in ("show", "check"):
        outcome = run_command("plugins", command, "spektral", cwd=tmp_path)
        check_refused(outcome, 2, "did you mean 'spectral'?")


def test_the_bare_command_lists_as_ever(tmp_path):
    listed = run(cwd=tmp_path).out.splitlines()
    assert listed[0].split() == ["kind", "name", "version", "distribution", "status"]
    assert len(listed) == 1 + len(BUILT_IN)
    rows = json.loads(run("--json", cwd=tmp_path).out)
    assert [f"{row['kind']}/{row['name']}" for row in rows] == BUILT_IN


def test_show_of_a_broken_plugin_tells_the_reason_and_exits_with_4(tmp_path):
    found = lay_out(tmp_path / "site", "import absent_module\n")
    reason = "ModuleNotFoundError: No module named 'absent_module' (theirs.py:1)"
    words = " ".join(run("show", "theirs", cwd=tmp_path, code=4, **found).out.split())
    traceback = "--debug shows its traceback"
    assert words == f"theirs of theirs 1.0 cannot be used: {reason}; {traceback}"
    facts = json.loads(run("show", "theirs", "--json", cwd=tmp_path, code=4, **found).out)
    assert (facts["distribution"], facts["status"]) == ("theirs 1.0", reason)
    lacking = plugin("extractor", ODD.replace("def __call__", "def call"))
    found = lay_out(tmp_path / "site", lacking)
    shown = run("show", "odd", cwd=tmp_path, code=4, **found).out
    assert shown.splitlines()[0].rstrip() == "extractor/odd  version 1, of theirs 1.0"
    assert "cannot be used: Odd lacks __call__\n" in shown


def test_a_bound_is_not_broken_into_two_lines(tmp_path, odd):
    for pad in (0, 4, 8, 12):
        body = ODD.replace("Sampling rate.", f"Sampling {'x' * pad} rate.")
        shown = run("show", "odd", cwd=tmp_path, **odd(body=body)).out
        assert "(>0," in shown
        assert "≤10000.0)" in shown


def test_new_says_which_kind_was_meant(tmp_path):
    outcome = run_command("plugins", "new", "mine", "--kind", "extracter", cwd=tmp_path)
    check_refused(outcome, 2, "--kind extracter: ", "did you mean 'extractor'?")
    shown = " ".join(run("new", "--help", cwd=tmp_path, COLUMNS="200").out.split())
    assert f"{', '.join(list(SUMMARIES)[:-1])} or {list(SUMMARIES)[-1]}." in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", SUMMARIES)
def test_new_prints_the_files_and_three_commands(tmp_path, kind):
    shown = run("new", f"my-{kind}", "--kind", kind, cwd=tmp_path).out
    folder, lines = tmp_path / f"my-{kind}", shown.splitlines()
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert files == {line.strip() for line in lines[2 : lines.index("Next:") - 1]}
    module = f"my_{kind}"
    assert files >= {
        "pyproject.toml", "README.md", f"src/{module}/__init__.py", f"tests/test_{module}.py",
        ".github/workflows/test.yml", "example.toml",
    }  # fmt: skip
    assert not [file for file in files if "LICENSE" in file]
    commands = lines[lines.index("Next:") + 1 :]
    assert commands[:2] == [
        f"  python -m pip install -e './my-{kind}[test]'",
        f"  python -m pytest my-{kind}",
    ]
    assert len(commands) == 3
    assert commands[2].startswith(f"  eegstore build my-{kind}/example.toml")
    assert all(len(line) <= 80 or "&&" in line for line in lines)


def test_new_writes_nothing_where_something_is(tmp_path):
    (tmp_path / "mine").mkdir()
    scaffold("mine", "split", tmp_path / "mine")
    before = (tmp_path / "mine" / "README.md").read_text()
    outcome = run_command("plugins", "new", "mine", "--kind", "extractor", cwd=tmp_path)
    check_refused(outcome, 3, "mine: exists and is not empty; choose another with --out FOLDER")
    assert (tmp_path / "mine" / "README.md").read_text() == before
    run("new", "mine", "--kind", "extractor", "--out", "deep/er", cwd=tmp_path)
    assert (tmp_path / "deep" / "er" / "src" / "mine" / "__init__.py").is_file()
    (tmp_path / "file").write_text("")
    outcome = run_command("plugins", "new", "file", "--kind", "split", cwd=tmp_path)
    check_refused(outcome, 3, "file: exists and is not empty")


REFUSED = {
    "My-Extractor": "is no plugin's name, expected kebab-case, as my-extractor",
    "my_extractor": "expected kebab-case",
    "a" * 41: "has 41 characters, expected at most 40",
    "../mine": "expected kebab-case",
    "spectral": "extractor 'spectral' is built in; choose another name",
    "lambda": "'lambda' is a word of Python; choose another name, as my-lambda",
    "json": "a module 'json' is installed already",
    "numpy": "a module 'numpy' is installed already",
    "eegstore": "a module 'eegstore' is installed already",
}


@pytest.mark.parametrize("name", REFUSED)
def test_new_refuses_a_name_that_would_not_work(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        scaffold(name, "extractor", tmp_path / "x")
    assert REFUSED[name] in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_new_has_no_class_of_a_name_that_it_imports(tmp_path):
    for name in ("block", "column-spec", "path"):
        scaffold(name, "extractor", tmp_path / name)
        code = (tmp_path / name / "src" / name.replace("-", "_") / "__init__.py").read_text()
        assert "Extractor:\n" in code
    with pytest.raises(
        UsageError, match=r"--kind extracter: not a kind .*; did you mean 'extractor'"
    ):
        scaffold("mine", "extracter", tmp_path / "mine")


def outcomes(outcome: Outcome) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(outcome.out)
    return found


def test_check_prints_a_table_of_what_was_tried(tmp_path):
    outcome = run("check", "split/random", cwd=tmp_path)
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("split/random  ")
    assert "failed" not in lines[0]
    assert lines[2].split() == ["check", "what", "was", "tried"]
    assert [line.split()[:2] for line in lines if line.startswith("deterministic")] == [
        ["deterministic", "ok"]
    ]


def test_check_tells_what_failed_and_exits_with_4(tmp_path):
    found = lay_out(tmp_path / "site", extractor("return block['eeg'].mean()"))
    outcome = run("check", "odd", cwd=tmp_path, code=4, **found)
    table = [line.split() for line in outcome.out.splitlines() if line and line[0] != " "][2:]
    words = [{"ok", "FAILED", "-"}.intersection(line[1:2]) for line in table]
    n_failed = words.count({"FAILED"})
    assert 0 < n_failed < len(words)
    assert words[-n_failed:] == [{"FAILED"}] * n_failed
    names = ", ".join(line[0] for line in table[-n_failed:])
    said = f"eegstore: extractor/odd: {n_failed} of {len(words)} checks failed: {names}\n"
    assert outcome.err == said
    (checked,) = outcomes(run("check", "odd", "--json", cwd=tmp_path, code=4, **found))
    assert (checked["kind"], checked["name"], checked["ok"]) == ("extractor", "odd", False)
    failed = [one for one in checked["checks"] if one["passed"] is False]
    assert failed
    assert all(one["detail"] and one["what"] for one in failed)


def test_check_takes_options_by_set(tmp_path):
    (checked,) = outcomes(run("check", "split/random", "--set", "test_size=0.5", "--json",
                              cwd=tmp_path))  # fmt: skip
    assert checked["ok"]
    for given, code, part in (
        ("test_size=2", 3, "test_size: got 2, expected less than 1"),
        ("tst_size=0.5", 3, "tst_size: unknown key; did you mean 'test_size'?"),
        ("test_size", 2, "--set test_size: expected OPTION=VALUE, such as seed=1"),
    ):
        command = ("plugins", "check", "split/random", "--set", given)
        check_refused(run_command(*command, cwd=tmp_path), code, part)


def test_check_tries_a_project_that_is_not_installed(tmp_path):
    folder = scaffold("my-split", "split", tmp_path / "project").folder
    for where in ("./project", "project", str(folder)):
        (checked,) = outcomes(run("check", where, "--json", cwd=tmp_path))
        assert (checked["name"], checked["ok"]) == ("my-split", True)
        assert checked["distribution"] == "my-split 0.1.0"
    code = folder / "src" / "my_split" / "__init__.py"
    code.write_text(code.read_text().replace('"train", "test")', 'stimulus, "test")'))
    assert run("check", "project", cwd=tmp_path, code=4, EEGSTORE_PLUGINS="").err
    code.write_text("import absent_module\n")
    broken = run("check", "project", cwd=tmp_path, code=4)
    assert "ModuleNotFoundError: No module named 'absent_module'" in " ".join(broken.out.split())


def test_check_of_a_source_reads_what_set_names(tmp_path):
    scaffold("my-source", "source", tmp_path / "my-source")
    command = ("plugins", "check", "./my-source")
    check_refused(run_command(*command, cwd=tmp_path), 3, "(options are given by --set): path: mis")
    where = "path=my-source/example"
    (checked,) = outcomes(run("check", "./my-source", "--set", where, "--json", cwd=tmp_path))
    assert checked["ok"]


def test_check_says_what_is_no_project(tmp_path):
    cases = {
        "[project": "not valid TOML",
        '[project]\nname = "x"\n': "has no plugins, expected [project.entry-points.eegstore]",
    }
    for text, part in cases.items():
        (tmp_path / "pyproject.toml").write_text(text)
        check_refused(run_command("plugins", "check", ".", cwd=tmp_path), 3, part)
    outcome = run_command("plugins", "check", "./absent", cwd=tmp_path)
    check_refused(outcome, 3, "absent: no such folder, expected that of a plugin's project")
