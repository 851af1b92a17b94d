"""Plugins that break a promise, through the command line: named in one line, nothing half done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import eegstore
from command import check_build_refused, check_refused, run_command
from samples import IDX, write_idx
from third_party import ONE_VALUE, extractor, lay_out, plugin
from tiny_clip import write_tiny_clip

# 64 trials in two blocks.
SOURCE = '[source]\nplugin = "synthetic"\nn_trials = 64\nn_channels = 32\nn_times = 256\n'
ODD = f'{SOURCE}[[extract]]\nplugin = "odd"\n'
PEAK = "return block['eeg'].max(axis=(1, 2))"
Install = Callable[[str], dict[str, str]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a third party's module for the commands of a test; images are there to be read."""
    write_idx(tmp_path)

    def lay(code: str) -> dict[str, str]:
        found = lay_out(tmp_path / "site", code)
        for name, value in found.items():
            monkeypatch.setenv(name, value)
        return found

    return lay


def error(body: str, raised: str) -> str:
    """An extractor that raises an error of a class of its own."""
    return extractor(f"class Own(Exception):\n    {body}\nraise {raised}")


def describes(spec: str) -> str:
    """An extractor whose describe() gives this."""
    return extractor(PEAK, describe=f"return {spec}")


SOUND = extractor(PEAK)
FAILED = "extractor 'odd' failed: "
GAVE = "extractor 'odd': column trials/odd, rows 0 to 31, gave "
DESCRIBED = "extractor 'odd': describe() gave "
BROKEN = "extractor 'odd' of theirs is broken: "
HIDDEN = "it may be of one that is not loaded: theirs, "
HERE = "(__call__ of trials 0 to 31, theirs.py:"
# The module's code, and the parts of the message; all exit with 4, and name the plugin.
EXTRACTORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "import error": (
        "import absent_module\n" + SOUND,
        (f"{HIDDEN}ModuleNotFoundError: No module named 'absent_module' (theirs.py:1)",),
    ),
    "an exit while it is imported": (
        "raise SystemExit(0)\n" + SOUND, (f"{HIDDEN}SystemExit: 0 (theirs.py:1); --debug",),
    ),
    "an error of no Exception": (
        "class Panic(BaseException): pass\nraise Panic('lost')\n" + SOUND,
        (f"{HIDDEN}Panic: lost (theirs.py:2); --debug shows its traceback",),
    ),
    "unknown hook": (
        SOUND.replace("def eegstore_extractors", "def eegstore_extracts"),
        (f"{HIDDEN}PluginValidationError: unknown hook 'eegstore_extracts' in plugin 'theirs'; did "
         "you mean 'eegstore_extractors'?",),
    ),
    "wrong signature of the hook": (
        SOUND.replace("def eegstore_extractors()", "def eegstore_extractors(recipe)"),
        (f"{HIDDEN}PluginValidationError: ",),
    ),
    "wrong signature": (
        SOUND.replace("__call__(self, block)", "__call__(self)"),
        (f"{BROKEN}Odd.__call__(self) cannot be called with (block)",),
    ),
    "wrong shape": (
        extractor("return block['eeg'].max(axis=1)"),
        (f"{GAVE}float32 (32, 256), expected float32 (32,)",),
    ),
    "wrong dtype": (
        extractor(f"{PEAK}.astype('float64')"),
        (f"{GAVE}float64 (32,), expected float32 (32,); return it .astype('float32')",),
    ),
    "wrong row count": (
        extractor(f"{PEAK}[1:]"),
        (f"{GAVE}float32 (31,), expected float32 (32,)",),
    ),
    "another dimension on the second block": (
        extractor("n = len(block['eeg'])\nreturn np.zeros((n, 1) if block.start else n, 'f4')"),
        ("rows 32 to 63, gave float32 (32, 1), expected float32 (32,)",),
    ),
    "nothing": (extractor("pass"), (f"{GAVE}NoneType (), expected float32 (32,)",)),
    "a list": (extractor(f"{PEAK}.tolist()"), (f"{GAVE}list (), expected float32 (32,)",)),
    "NaN": (
        extractor(PEAK.replace("return", "peak =") + "\npeak[3] = np.nan\nreturn peak"),
        ("column trials/odd has NaN or Inf for row 3, whose input is finite", "log of 0"),
    ),
    "writes to its input": (
        extractor("block['eeg'][0] = 0"),
        (f"{FAILED}ValueError: assignment destination is read-only {HERE}", "); what a plugin is "
         "given is read-only: copy it first; --debug"),
    ),
    "writes to itself": (
        extractor("self.count = 1"),
        (f"{FAILED}FrozenInstanceError: cannot assign to field 'count' {HERE}", "); a plugin is "
         "frozen: keep what is no option by object.__setattr__(self, 'name', value); --debug"),
    ),
    "asks for what it does not read": (
        extractor("return block['label']"),
        (f"{FAILED}KeyError: 'label' {HERE}", "); 'label' is not in reads; --debug"),
    ),
    "describes what it does not read": (
        extractor(PEAK, describe="return inputs['label']"),
        (f"{FAILED}KeyError: 'label' (describe, theirs.py:", "); 'label' is not in reads; --debug"),
    ),
    "a key of its own": (
        extractor("return {}['eeg']"),
        (f"{FAILED}KeyError: 'eeg' {HERE}", "); --debug"),
    ),
    "an error on the second block": (
        extractor(f"if block.start: raise ValueError('no')\n{PEAK}"),
        (f"{FAILED}ValueError: no (__call__ of trials 32 to 63, theirs.py:",),
    ),
    "an error of a library": (
        extractor("return np.zeros(3).reshape(2)"),
        (f"{FAILED}ValueError: cannot reshape array of size 3 into shape (2,) {HERE}",),
    ),
    "writes to the lengths": (
        extractor("block.n_valid[:] = 0"),
        (FAILED, "ValueError: assignment destination is read-only"),
    ),
    "an exit": (
        extractor("sys.exit(0)"),
        (f"{FAILED}SystemExit: 0 {HERE}", "); --debug shows its traceback"),
    ),
    "an error of no class of errors": (
        extractor("class Panic(BaseException): pass\nraise Panic('lost')"),
        (f"{FAILED}Panic: lost",),
    ),
    "an error of many lines": (
        extractor(r"raise ValueError('one\n\n\ttwo \x1b[31m\x9b')"),
        (rf"{FAILED}ValueError: one two \x1b[31m\x9b {HERE}",),
    ),
    "an error of 1 MB": (extractor("raise ValueError('x' * 1_000_000)"), (FAILED, "xxx …")),
    "an error without a text": (extractor("raise ValueError"), (f"{FAILED}ValueError {HERE}",)),
    "an error whose text fails": (
        error("def __str__(self): raise RuntimeError", "Own"),
        (f"{FAILED}Own: (its text cannot be had)",),
    ),
    "an error that cannot be sent": (
        error("hold = property(lambda self: self)", "type('Local', (Own,), {})(lambda: 1)"),
        (f"{FAILED}Local: <function ",),
    ),
    "an error that cannot be received": (
        error("def __init__(self, place, reason): super().__init__(place)", "Own('row 3', 'x')"),
        (f"{FAILED}Own: row 3 {HERE}",),
    ),
    "no description": (describes("None"), (f"{DESCRIBED}NoneType, expected a ColumnSpec",)),
    "a negative length": (
        describes("ColumnSpec(('lag',), (-3,), 'float32')"),
        (f"{DESCRIBED}float32 (-3,), expected numbers and lengths of at least 1",),
    ),
    "an absurd length": (
        describes("ColumnSpec(('lag',), (2**62,), 'float32')"),
        (f"{DESCRIBED}float32 (4611686018427387904,), expected rows of at most 1 GiB",),
    ),
    "two absurd lengths": (
        describes("ColumnSpec(('lag', 'more'), (2**62, 2**62), 'float32')"),
        ("expected rows of at most 1 GiB",),
    ),
    "values of objects": (
        describes("ColumnSpec((), (), 'object')"),
        (FAILED, "ColumnSpec.dtype is object, expected bool, int or float"),
    ),
    "coordinates of another length": (
        describes("ColumnSpec(('lag',), (3,), 'float32', coords={'lag': [1, 2]})"),
        (FAILED, "ColumnSpec.coords['lag']: 2 values for 3"),
    ),
    "coordinates of objects": (
        describes("ColumnSpec(('lag',), (2,), 'float32', coords={'lag': [object(), None]})"),
        (FAILED, "ColumnSpec.coords['lag']: expected names or finite numbers"),
    ),
    "an axis that is a path": (
        describes("ColumnSpec(('../lag',), (2,), 'float32')"),
        (FAILED, "ColumnSpec has the axis '../lag', expected a name"),
    ),
    "an attribute of no JSON": (
        describes("ColumnSpec((), (), 'float32', attrs={'fit': float('nan')})"),
        (FAILED, "not JSON compliant"),
    ),
}  # fmt: skip


@pytest.mark.promise("P14")
@pytest.mark.parametrize("case", EXTRACTORS)
def test_an_extractor_that_breaks_a_promise_is_named(tmp_path, install, case):
    code, parts = EXTRACTORS[case]
    install(code)
    outcome = check_build_refused(ODD, tmp_path, 4, *parts)
    assert "odd" in outcome.err
    assert len(outcome.err) < 1000
    assert all(line.isprintable() for line in outcome.err.splitlines())


ACROSS = [
    "an exit",
    "an error of no class of errors",
    "an error whose text fails",
    "an error that cannot be sent",
    "an error that cannot be received",
]


@pytest.mark.promise("P14")
@pytest.mark.parametrize("case", ACROSS)
def test_an_error_comes_from_a_worker_as_from_the_command_itself(tmp_path, install, case):
    code, parts = EXTRACTORS[case]
    install(code)
    (tmp_path / "recipe.toml").write_text(ODD)
    outcome = run_command(
        "build", "recipe.toml", "out.zarr", "--executor", "processes", cwd=tmp_path
    )
    check_refused(outcome, 4, *parts)


def test_a_plugin_that_raises_keyboard_interrupt_in_a_worker_has_failed(tmp_path, install):
    """In the command itself it cannot be told from Ctrl-C: that exit is 130, and resumable."""
    install(extractor("raise KeyboardInterrupt"))
    (tmp_path / "recipe.toml").write_text(ODD)
    command = ("build", "recipe.toml", "out.zarr", "--executor")
    check_refused(run_command(*command, "processes", cwd=tmp_path), 4, f"{FAILED}KeyboardInterrupt")
    check_refused(run_command(*command, "serial", cwd=tmp_path), 130, "interrupted; run the same")


@pytest.mark.promise("P14")
@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_the_traceback_of_a_plugin_is_in_the_log_beside_the_store(tmp_path, install, executor):
    install(extractor("def deeper(): raise ValueError('bad ü \\udcff')\ndeeper()"))
    (tmp_path / "recipe.toml").write_text(ODD)
    command = ("build", "recipe.toml", "out.zarr", "--executor", executor)
    check_refused(run_command(*command, cwd=tmp_path), 4, rf"{FAILED}ValueError: bad ü \udcff")
    log = (tmp_path / "out.zarr.build" / "log.txt").read_text(encoding="utf-8")
    assert log.count("theirs.py") >= 2
    assert ", in deeper\n    def deeper(): raise ValueError('bad ü \\udcff')" in log
    debugged = run_command(*command, "--debug", cwd=tmp_path)
    assert debugged.code == 4
    assert ", in deeper\n" in debugged.err


def method(head: str, *lines: str) -> str:
    return f"def {head}:\n" + "".join(f"    {line}\n" for line in lines)


def source(scan: str = "", read: str = "", more: str = "") -> tuple[str, str]:
    """A source's code, sound but for what is given, and the recipe that reads it."""
    sound = (
        "return Trials(n_trials=64, ch_names=['a', 'b'], sfreq=1, times=np.arange(8), units='V', "
        "label=np.zeros(64, dtype=int))"
    )
    body = method("scan(self)", scan or sound)
    body += method("read(self, start, stop)", read or "return np.ones((stop - start, 2, 8), 'f4')")
    return plugin("source", body + more), '[source]\nplugin = "odd"\n'


def images(scan: str = "", read: str = "") -> tuple[str, str]:
    """A provider's code, sound but for what is given, and the recipe that reads it."""
    sound = (
        "n = np.array(list('0123456789')); return Stimuli(image_path=n, label=np.arange(10), "
        "concept=n, caption=n, content_id=n)"
    )
    body = method("scan(self)", scan or sound)
    body += method("read(self, start, stop)", read or "pass")
    recipe = f'{SOURCE}[stimuli]\nplugin = "odd"\n[[extract]]\nplugin = "hog"\n'
    return plugin("stimuli", body), recipe


def call(kind: str, *lines: str) -> tuple[str, str]:
    """The code of a pairing or a split, and the recipe that uses it."""
    return (
        plugin(kind, method("__call__(self, trials, given, stimuli)", *lines)),
        f'{SOURCE}{IDX}[{kind}]\nplugin = "odd"\n',
    )


PAIRED = "np.zeros(64, dtype=int)"
OTHERS: dict[str, tuple[tuple[str, str], str]] = {
    "scan raises": (
        source("raise ValueError('bad')"),
        "source 'odd' failed: ValueError: bad (scan, theirs.py:15); --debug",
    ),
    "read raises": (
        source(read="raise ValueError('bad')"),
        "source 'odd' failed: ValueError: bad (read of trials 0 to 63, theirs.py:17); --debug",
    ),
    "scan gives nothing": (source("pass"), "source 'odd': scan() gave NoneType, expected a Trials"),
    "notes that are no text": (
        source("return Trials(n_trials=1, ch_names=['a'], sfreq=1, times=[0], units='V', "
               "label=[0], hints=[None])"),
        "source 'odd' failed: ValueError: Trials.hints: got NoneType, expected str",
    ),
    "read gives nothing": (
        source(read="pass"), "read(0, 64) gave NoneType (), expected float32 (64, 2, 8)",
    ),
    "read gives too few": (
        source(read="return np.ones((stop - start - 1, 2, 8), 'f4')"), "gave float32 (63, 2, 8)",
    ),
    "fingerprint of no text": (
        source(more=method("fingerprint(self)", "return None")),
        "source 'odd': fingerprint() gave NoneType, expected a str",
    ),
    "a state of objects": (
        source(more=method("state(self)", "return {'a': np.array([object()])}")
               + method("restore(self, state)", "pass")),
        "source 'odd': state() gave objects as 'a'",
    ),
    "a state that cannot be taken": (
        source(more=method("state(self)", "return {'a': np.arange(3)}")
               + method("restore(self, state)", "raise KeyError('b')")),
        "source 'odd' failed: KeyError: 'b' (restore, theirs.py:21); --debug",
    ),
    "options that end the process": (
        source(more=method("__post_init__(self)", "sys.exit(0)")),
        "[source]: failed: SystemExit: 0 (__post_init__, theirs.py:19)",
    ),
    "a provider's scan": (images("return 3"), "stimuli 'odd': scan() gave int, expected a Stimuli"),
    "no images": (images(read="pass"), "stimuli 'odd': read(0, 10) gave NoneType, expected a list"),
    "too few images": (images(read="return []"), "read(0, 10) gave 0 images"),
    "images of no pixel": (
        images(read="return [np.zeros((0, 8, 3), 'u1')] * 10"), "10 of them wrong, expected 10",
    ),
    "images with alpha": (
        images(read="return [np.zeros((8, 8, 4), 'u1')] * 10"), "each uint8 (y, x, 3)",
    ),
    "no pairs": (call("pairing", "pass"), "'odd': its call gave NoneType, expected a Pairs"),
    "pairs of fractions": (
        call("pairing", "return Pairs(np.zeros(64), np.zeros(64))"), "gave float64 (64,), expected",
    ),
    "pairs of no stimulus": (
        call("pairing", "return Pairs(np.full(64, 99), np.zeros(64))"), "trial 0 got stimulus 99",
    ),
    "scores for some": (
        call("pairing", f"return Pairs({PAIRED}, np.zeros(3))"), "gave scores float64 (3,), expect",
    ),
    "no splits": (call("split", "pass"), "split 'odd': gave (), expected a name for each of 64"),
    "a split that writes to the pairs": (
        call("split", "given[:] = 0", "return ['train'] * 64"), "destination is read-only",
    ),
}  # fmt: skip


@pytest.mark.promise("P14")
@pytest.mark.parametrize("case", OTHERS)
def test_any_plugin_that_breaks_a_promise_is_named(tmp_path, install, case):
    (code, recipe), part = OTHERS[case]
    install(code)
    check_build_refused(recipe, tmp_path, 4, part)


def test_the_plugins_of_these_tests_are_sound_but_for_what_each_breaks(tmp_path, install):
    """A slip in what they share would make every refusal above pass for another reason."""
    black = "return [np.zeros((8, 8, 3), 'u1')] * (stop - start)"
    cases = [(SOUND, ODD), source(), images(read=black)]
    cases += [call("pairing", f"return Pairs({PAIRED}, np.zeros(64))")]
    cases += [call("split", "return ['train'] * 64")]
    for number, (code, recipe) in enumerate(cases):
        install(code)
        (tmp_path / "recipe.toml").write_text(recipe)
        outcome = run_command("build", "recipe.toml", f"{number}.zarr", cwd=tmp_path)
        assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.promise("P14")
def test_a_taken_name_stays_the_built_ins(tmp_path, install):
    install(SOUND.replace('"odd"', '"spectral"'))
    (tmp_path / "recipe.toml").write_text(f'{SOURCE}[[extract]]\nplugin = "spectral"\n')
    outcome = run_command("build", "recipe.toml", "out.zarr", cwd=tmp_path)
    assert outcome.code == 0
    assert outcome.err == ""
    assert eegstore.open_store(tmp_path / "out.zarr").trials["spectral"].spec.dims[0] == "channel"
    listed = run_command("plugins", "--quiet", cwd=tmp_path)
    taken = "the name is that of a built-in plugin: choose another name"
    assert (listed.code, listed.out) == (0, "")
    assert listed.err == f"eegstore: plugin 'spectral' of theirs is not used: {taken}\n"


def test_what_an_extractor_does_to_the_images_reaches_no_other(tmp_path, install):
    install(extractor("block['image'][0][:] = 0", reads="image"))
    recipe = f'{SOURCE}{IDX}[[extract]]\nplugin = "odd"\n[[extract]]\nplugin = "hog"\n'
    check_build_refused(recipe, tmp_path, 4, FAILED, "assignment destination is read-only")
    install(extractor("block['image'].clear()\nreturn np.zeros(block.n_rows, 'f4')", reads="image"))
    outcome = run_command("build", "recipe.toml", "out.zarr", cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")


def test_an_array_that_is_filled_anew_spoils_no_block_before(tmp_path, install):
    filled = "for i, image in enumerate(block['image']): HELD[i] = image.mean()\n"
    code = extractor(f"{filled}return HELD[:block.n_rows]", reads="image")
    install(code.replace("@dataclass", "HELD = np.zeros(256, 'f4')\n@dataclass"))
    write_idx(tmp_path, 400)
    (tmp_path / "recipe.toml").write_text(f'{SOURCE}{IDX}[[extract]]\nplugin = "odd"\n')
    assert run_command("build", "recipe.toml", "out.zarr", cwd=tmp_path).code == 0
    store = eegstore.open_store(tmp_path / "out.zarr")
    means = [store.image(row).mean() for row in range(0, 400, 39)]
    assert store.stimuli["odd"][0:400:39] == pytest.approx(means)


def test_a_source_that_fills_one_array_anew_is_named(tmp_path, install):
    held = "held = sys.__dict__.setdefault('held', np.ones((40_000, 2, 8), 'f4'))"
    code, recipe = source(read=f"{held}; return held[:stop - start]")
    install(code.replace("64", "80_000"))
    check_build_refused(recipe, tmp_path, 4, "gave the array of the rows before again")


PRINTS = "print('said'); os.write(1, b'said\\n'); ctypes.CDLL(None).puts(b'said')"


@pytest.mark.promise("P14")
@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_what_plugins_print_is_no_part_of_the_result(tmp_path, install, executor):
    code = extractor(f"{PRINTS}\n{PEAK}", describe=f"{PRINTS}\n{ONE_VALUE}") + f"\n{PRINTS}\n"
    install(code)
    (tmp_path / "recipe.toml").write_text(ODD)
    command = ("build", "recipe.toml", "out.zarr", "--json", "--executor", executor)
    outcome = run_command(*command, cwd=tmp_path)
    assert outcome.code == 0
    assert json.loads(outcome.out)["n_trials"] == 64
    assert outcome.err.count("said") > 3
    listed = run_command("plugins", "--json", cwd=tmp_path)
    assert "odd" in [row["name"] for row in json.loads(listed.out)]
    export = ("export", "out.zarr", "npy", "--format", "npy")
    shown = run_command(*export, "--help", cwd=tmp_path)
    assert "said" not in shown.out
    assert "--[no-]" in shown.out or "Options of the format npy" in shown.out


DRAWS = {
    "numbers": "return np.random.default_rng().random(len(block['eeg']), 'f4')",
    "its own count": f"self.__dict__['n'] = n = self.__dict__.get('n', 0) + 1\n{PEAK} * n",
    "an array filled anew": (
        "held = self.__dict__.setdefault('held', np.zeros(32, 'f4'))\nheld += 1\nreturn held"
    ),
}


@pytest.mark.promise("P14")
@pytest.mark.parametrize("case", DRAWS)
def test_a_plugin_that_is_not_deterministic_is_named_when_that_is_asked(tmp_path, install, case):
    install(extractor(DRAWS[case]))
    (tmp_path / "recipe.toml").write_text(ODD)
    command = ("build", "recipe.toml", "out.zarr", "--check-determinism")
    outcome = run_command(*command, cwd=tmp_path)
    check_refused(outcome, 4, "extractor 'odd': gave other values when it was called again")


def test_the_built_in_plugins_are_deterministic(tmp_path):
    extract = "".join(
        f'[[extract]]\nplugin = "{name}"\n' for name in ("spectral", "temporal", "hog")
    )
    write_idx(tmp_path)
    (tmp_path / "recipe.toml").write_text(SOURCE + IDX + extract)
    command = ("build", "recipe.toml", "out.zarr", "--check-determinism")
    assert run_command(*command, cwd=tmp_path).err == ""
    assert len(eegstore.open_store(tmp_path / "out.zarr").trials["temporal"]) == 64


@pytest.mark.nightly
def test_the_models_of_clip_are_deterministic(tmp_path):
    model = write_tiny_clip(tmp_path / "clip")
    extract = "".join(
        f'[[extract]]\nplugin = "clip-{of}"\nmodel = "{os.fspath(model)}"\n'
        for of in ("image", "text")
    )
    caption = 'caption = "This picture is digit {concept}"\n'
    write_idx(tmp_path)
    (tmp_path / "recipe.toml").write_text(SOURCE + IDX + caption + extract)
    command = ("build", "recipe.toml", "out.zarr", "--check-determinism")
    outcome = run_command(*command, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
