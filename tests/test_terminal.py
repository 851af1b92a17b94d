"""What a terminal, a pipe, or nothing at all gets to read from each command."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from crc32c import crc32c
from numcodecs.vlen import VLenUTF8
from PIL import Image

import eegstore
from command import run_command
from eegstore.attributes import NO_SEAL, ColumnEntry, sealed, store_digest
from eegstore.disk import digest_bytes
from eegstore.root import committed_documents
from eegstore.terminal import progress
from third_party import extractor, lay_out, plugin

pytestmark = pytest.mark.promise("P14")

RECIPE = """
name = "tiny"
[source]
plugin = "synthetic"
n_trials = 8
n_channels = 2
n_times = 64
[[extract]]
plugin = "temporal"
"""
COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "help of a command": ["build", "--help"],
    "help of a format": ["export", "s.zarr", "out", "--format", "npy", "--help"],
    "build": ["build", "recipe.toml", "s.zarr"],
    "build of new": ["build", "recipe.toml", "new.zarr", "--executor", "processes"],
    "build --json": ["build", "recipe.toml", "s.zarr", "--json"],
    "plan": ["build", "recipe.toml", "s.zarr", "--plan"],
    "info": ["info", "s.zarr"],
    "info --json": ["info", "s.zarr", "--json"],
    "verify": ["verify", "s.zarr", "--deep"],
    "verify --json": ["verify", "s.zarr", "--json"],
    "plugins": ["plugins"],
    "plugins --json": ["plugins", "--json"],
    "plugin": ["plugins", "show", "temporal"],
    "plugin --json": ["plugins", "show", "temporal", "--json"],
    "recipes": ["recipes"],
    "recipe": ["recipes", "demo"],
    "schema": ["schema"],
    "schema of a store": ["schema", "store"],
}
# Commands print in few ways: the gate tries one of each, the night all.
ALWAYS = {"help of a command", "build", "info --json", "schema"}
EACH = [
    pytest.param(name, marks=() if name in ALWAYS else pytest.mark.nightly) for name in COMMANDS
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and the store that it gives."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "recipe.toml").write_text(RECIPE)
    eegstore.build(folder / "recipe.toml", folder / "s.zarr")
    return folder


def shell(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which the command is ``"$@"``; a failure in a pipe counts."""
    command = ["bash", "-o", "pipefail", "-c", script, "bash", sys.executable, "-m", "eegstore"]
    return subprocess.run(
        [*command, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("name", EACH)
def test_a_reader_that_has_gone_is_no_error(folder, name):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "eegstore", *COMMANDS[name]],
        cwd=folder, stdout=writer, stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    os.close(writer)
    assert done.stderr == b""
    # Typer's own help ends with 1 then.
    assert done.returncode == ("help" in name)


@pytest.mark.parametrize("name", ["info", "info --json", "schema", "verify"])
def test_the_first_line_is_enough(folder, name):
    done = shell('"$@" | head -1', *COMMANDS[name], cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_a_reader_that_has_gone_hides_no_damage(folder, tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    eegstore.build(tmp_path / "recipe.toml", tmp_path / "s.zarr")
    (tmp_path / "s.zarr" / "trials" / "eeg" / "c" / "0" / "0" / "0").unlink()
    done = shell('"$@" | true', "verify", "s.zarr", cwd=tmp_path)
    assert done.returncode == 5


@pytest.mark.parametrize("name", EACH)
def test_without_stdout_a_command_does_the_same(folder, name):
    done = shell('"$@" >&-', *COMMANDS[name], cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_without_any_stream_no_file_gets_what_is_printed(tmp_path, closed):
    """The first file that is opened would get the number of a stream that is closed."""
    prints = "os.write(1, b'said'); os.write(2, b'said'); print('said')\n"
    found = lay_out(tmp_path / "site", extractor(f"{prints}return block['eeg'].max(axis=(1, 2))"))
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("temporal", "odd"))
    site = f'PYTHONPATH={found["PYTHONPATH"]} "$@"'
    for out, *rest in (["a.zarr"], ["b.zarr", "--executor", "processes"]):
        done = shell(f"{site} {closed}", "build", "recipe.toml", out, *rest, cwd=tmp_path)
        assert done.returncode == 0
        assert eegstore.verify(tmp_path / out, deep=True) == []
        assert not [path for path in tmp_path.rglob("*.lock") if b"said" in path.read_bytes()]
    done = shell(f"{site} {closed}", "build", "absent.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")


def test_a_full_disk_for_stdout_is_told(folder):
    done = shell('"$@" > /dev/full', "info", "s.zarr", cwd=folder)
    assert done.returncode == 1
    assert done.stderr == "eegstore: stdout: No space left on device\n"


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"PYTHONIOENCODING": "ascii"}, id="ascii"),
        pytest.param(
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            id="C",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_letters_that_the_terminal_lacks_are_escaped(folder, name, variables):
    done = run_command(*COMMANDS[name], cwd=folder, env=variables)
    assert (done.code, done.err) == (0, "")
    assert done.out.isascii()
    if "json" in name or "schema" in name:
        json.loads(done.out)


HOSTILE = "\x1b[2J\x9b31m\x07ü\u202e"
SHOWN = r"\x1b[2J\x9b31m\x07ü\u202e"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which every name would drive a terminal, and its recipe."""
    folder = tmp_path_factory.mktemp("hostile")
    images = folder / f"images{HOSTILE}"
    for number in range(2):
        concept = images / f"c{number}{HOSTILE}"
        concept.mkdir(parents=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(concept / f"{HOSTILE}.png")
    body = f"""
def scan(self):
    name = {HOSTILE!r}
    return Trials(n_trials=2, ch_names=["a" + name, "b" + name], sfreq=1, times=[0, 1, 2, 3],
        units="V" + name, label=[0, 1], notice="notice" + name, hints=["hint" + name],
        columns={{"key": ["x" + name, "y" + name]}}, split=["train", "test"])
def read(self, start, stop):
    return np.random.default_rng(0).random((stop - start, 2, 4), dtype="f4")
"""
    (folder / "site").mkdir()
    lay_out(folder / "site", plugin("source", body))
    for reads in ("caption", "image"):
        vector = 'return ColumnSpec(("feature",), (3,), "float32")'
        call = f"return np.random.default_rng(0).random((len(block['{reads}']), 3), dtype='f4')"
        code = extractor(call, vector, reads).replace('"odd"', f'"of-{reads}"')
        lay_out(folder / "site", code, f"theirs_{reads}")
    quoted = json.dumps(HOSTILE)[1:-1]
    (folder / "recipe.toml").write_text(
        f'name = "name{quoted}"\n[source]\nplugin = "odd"\n[stimuli]\nplugin = "image-folder"\n'
        f'path = "images{quoted}"\n[pairing]\nplugin = "label"\n[split]\nplugin = "source"\n'
        '[[extract]]\nplugin = "of-caption"\n[[extract]]\nplugin = "of-image"\n',
        encoding="utf-8",
    )
    return folder


def craft(store: Path) -> None:
    """Names of a column and of splits that no build would give, in a store that is whole."""
    root = json.loads((store / "zarr.json").read_bytes())
    attributes, held = root["attributes"]["eegstore"], root["consolidated_metadata"]["metadata"]
    entries = {f"{one['table']}/{one['name']}": one for one in attributes["columns"]}
    for folder in ("stimuli/", "digests/stimuli_"):
        old, new = f"{folder}of_caption", f"{folder}of_caption{HOSTILE}"
        (store / old).rename(store / new)
        held[new] = held.pop(old)
    entries["stimuli/of_caption"]["name"] += HOSTILE
    names = np.array([f"train{HOSTILE}", f"test{HOSTILE}"], dtype=object)
    content = bytes(VLenUTF8().encode(names))
    content += crc32c(content).to_bytes(4, "little")
    (store / "trials/split/c/0").write_bytes(content)
    entries["trials/split"]["digest"] = digest_bytes(content)
    attributes["digest"] = store_digest([ColumnEntry(**one) for one in attributes["columns"]])
    attributes["seal"] = NO_SEAL
    blank = json.dumps(root, indent=2, ensure_ascii=False).encode()
    (store / "zarr.json").write_bytes(sealed(blank, committed_documents(blank)))


def test_names_in_data_drive_no_terminal(hostile):
    env = {"PYTHONPATH": str(hostile / "site")}
    out, crafted = f"s{HOSTILE}.zarr", "crafted.zarr"
    assert run_command("build", "recipe.toml", crafted, cwd=hostile, env=env).code == 0
    craft(hostile / crafted)
    search = ["search", crafted, "--gallery", "of_image", "--text", "a"]
    for command in (
        ["build", "recipe.toml", out, "--plan"],
        ["build", "recipe.toml", out],
        ["build", "recipe.toml", out, "--json"],
        ["audit", crafted],
        ["info", crafted],
        search,
        ["info", out],
        ["info", out, "--json"],
        ["verify", out, "--deep"],
        ["export", out, f"npy{HOSTILE}", "--format", "npy"],
    ):
        done = run_command(*command, cwd=hostile, env=env)
        assert (done.code, done.err) == (0, "")
        assert HOSTILE[-1] not in done.out
        assert all(line.isprintable() for line in done.out.splitlines()), command
        if "--json" in command:
            name = json.loads(done.out)["store" if "build" in command else "name"]
            assert name in (out, f"name{HOSTILE}")
        else:
            assert SHOWN in done.out


def test_names_in_errors_drive_no_terminal(hostile):
    env = {"PYTHONPATH": str(hostile / "site")}
    for command in (
        ["build", f"{HOSTILE}\n.toml"],
        ["info", f"{HOSTILE}\n.zarr"],
        ["build", "recipe.toml", "new.zarr", "--set", f"stimuli.path={HOSTILE}\n."],
    ):
        done = run_command(*command, cwd=hostile, env=env)
        assert done.code == 3
        assert done.err.count("\n") == 1
        assert done.err[:-1].isprintable()
        assert r"\x1b[2J\x9b31m\x07ü\u202e\n" in done.err


def test_an_error_that_lists_what_a_store_has_drives_no_terminal(hostile):
    env, out = {"PYTHONPATH": str(hostile / "site")}, "listed.zarr"
    assert run_command("build", "recipe.toml", out, cwd=hostile, env=env).code == 0
    craft(hostile / out)
    search = ["search", out, "--trial", "0", "--query", "eeg"]
    for arguments, told in (
        (["--gallery", "of_image", "--split", "none"], f"name one that there is: test{SHOWN}, "),
        (["--gallery", f"of_caption{HOSTILE[:-1]}"], f"did you mean 'stimuli/of_caption{SHOWN}'"),
    ):
        done = run_command(*search, *arguments, cwd=hostile, env=env)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert done.err[:-1].isprintable()
        assert told in done.err


def test_a_damaged_file_of_a_hostile_name_drives_no_terminal(hostile):
    out = hostile / "damaged\x1b[2J.zarr"
    (hostile / "plain.toml").write_text(RECIPE)
    eegstore.build(hostile / "plain.toml", out)
    (out / "trials" / "\x1b[31mextra\n").write_bytes(b"x")
    (out / "trials" / "label" / "c" / "0").unlink()
    for arguments in (["--deep"], ["--deep", "--json"]):
        done = run_command("verify", out.name, *arguments, cwd=hostile)
        assert done.code == 5
        assert all(line.isprintable() for line in (done.out + done.err).splitlines())
        assert "[31mextra" in done.out


def terminal(*arguments: str, cwd: Path, **variables: str) -> tuple[int, str, str]:
    """Run a command with a terminal of 80 columns for stderr and stdout: code, stdout, stderr."""
    pairs = [pty.openpty() for _ in range(2)]
    for _, inner in pairs:
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "eegstore", *arguments], cwd=cwd, stdin=subprocess.DEVNULL,
        stdout=pairs[0][1], stderr=pairs[1][1],
        env=environment | {"TERM": "xterm-256color"} | variables,
    )  # fmt: skip
    texts = []
    for outer, inner in pairs:
        os.close(inner)
        texts.append(_read_all(outer))
        os.close(outer)
    return process.wait(60), *texts


def _read_all(outer: int) -> str:
    """What comes from a terminal until nobody writes to it."""
    content = b""
    while True:
        try:
            part = os.read(outer, 1 << 16)
        except OSError:  # EIO: the other end is closed
            break
        if not part:
            break
        content += part
    return content.decode()


ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def widths(text: str) -> list[int]:
    """Columns of each line, as a terminal shows it."""
    return [len(ESCAPE.sub("", line)) for line in re.split(r"[\r\n]+", text)]


def test_a_terminal_gets_a_bar_on_stderr_and_nothing_wider_than_it_is(folder, tmp_path):
    call = "time.sleep(0.5)\nreturn block['eeg'].max(axis=(1, 2))"
    found = lay_out(tmp_path / "site", extractor(call))
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("temporal", "odd"))
    code, out, err = terminal("build", "recipe.toml", "s.zarr", cwd=tmp_path, **found)
    assert code == 0
    assert "extract" in err
    assert "━" in err
    assert "━" not in out
    assert "8 trials" in out
    assert max(widths(out) + widths(err)) <= 80
    code, out, err = terminal("verify", "s.zarr", "--deep", cwd=tmp_path)
    assert (code, "━" in err, "━" in out) == (0, True, False)
    # The bar is gone at the end.
    assert ESCAPE.sub("", err.rpartition("\n")[2]).strip() == ""


@pytest.mark.parametrize("flag", ["--quiet", "--json"])
def test_who_wants_no_bar_gets_none(folder, tmp_path, flag):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    code, _, err = terminal("build", "recipe.toml", "s.zarr", flag, cwd=tmp_path)
    assert (code, err) == (0, "")


def test_without_a_terminal_there_is_no_bar_and_no_colour(folder, tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    done = run_command("build", "recipe.toml", "s.zarr", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    assert "━" not in done.out


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"recipe", "build of new"}))
def test_nothing_is_wider_than_the_terminal(folder, name):
    code, out, err = terminal(*COMMANDS[name], cwd=folder)
    assert code == 0
    if "json" not in name and "schema" not in name:
        assert max(widths(out) + widths(err)) <= 80


def test_no_color_is_heard(folder):
    _, coloured, _ = terminal("info", "s.zarr", cwd=folder)
    _, plain, _ = terminal("info", "s.zarr", cwd=folder, NO_COLOR="1")
    assert "\x1b[33m" in coloured
    colours = re.findall(r"\x1b\[([0-9;]*)m", plain)
    assert not [one for one in colours if re.search(r"(^|;)(3|4|9|10)[0-7]", one)]
    assert ESCAPE.sub("", plain) == ESCAPE.sub("", coloured)


def test_a_stage_of_a_hostile_name_drives_no_terminal(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self):
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress(quiet=False) as tell:
        tell("trials/\x1b]0;owned\x07[red]x[/red]", 1, 2)
    assert "owned" in screen.getvalue()
    assert "\x1b]0;" not in screen.getvalue()
    assert r"trials/\x1b]0;owned\x07[red]x[/red]" in screen.getvalue()
