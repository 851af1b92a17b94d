"""What mypy says, in its strict mode, of plugins that are written against the public names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from importlib import resources
from pathlib import Path
from typing import Final

import pytest

from eegstore.hookspecs import HOOK_OF_KIND
from handbook import examples, guide_class

IMPORTS: Final = """
from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import (
    Block, Column, ColumnSpec, Executor, Exporter, Extractor, Fingerprinted, Pairing, Pairs, Source,
    Split, Stateful, Stimuli, StimulusProvider, Store, Trials, hookimpl,
)
"""
PROTOCOL: Final = {
    "source": "Source",
    "stimuli": "StimulusProvider",
    "extractor": "Extractor",
    "pairing": "Pairing",
    "split": "Split",
    "exporter": "Exporter",
    "executor": "Executor",
}
BODY: Final = {
    "source": """
    path: Path = field(metadata={"description": "A file."})

    def scan(self) -> Trials:
        return Trials(
            n_trials=1, ch_names=["Cz"], sfreq=1.0, times=np.zeros(1), units="V",
            label=np.zeros(1, dtype=np.int64),
        )

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        return np.zeros((stop - start, 1, 1), dtype=np.float32)
""",
    "stimuli": """
    n: int = 1

    def scan(self) -> Stimuli:
        names = np.array(["a"] * self.n)
        return Stimuli(
            image_path=names, label=np.arange(self.n), concept=names, caption=names,
            content_id=names,
        )

    def read(self, start: int, stop: int) -> list[NDArray[np.uint8]]:
        return [np.zeros((2, 2, 3), dtype=np.uint8) for _ in range(start, stop)]
""",
    "extractor": """
    scale: float = field(default=1.0, metadata={"gt": 0})

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        return ColumnSpec(("channel",), inputs["eeg"].shape[:1], "float32")

    def __call__(self, block: Block) -> NDArray[np.float32]:
        peak: NDArray[np.float32] = np.abs(block["eeg"]).max(axis=-1)
        return np.float32(self.scale) * peak
""",
    "pairing": """
    def __call__(
        self, trials: Trials, stimuli: Stimuli, columns: Mapping[str, Column]
    ) -> Pairs:
        return Pairs(trials.label, np.ones(trials.n_trials, dtype=np.float32))
""",
    "split": """
    def __call__(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> NDArray[np.str_]:
        return np.where(stimulus >= 0, "train", "test")
""",
    "exporter": """
    def __call__(self, store: Store, out: Path) -> None:
        np.save(out, store.trials["eeg"][:])
""",
    "executor": """
    def __call__(self, n_workers: int) -> FuturesExecutor:
        return ThreadPoolExecutor(n_workers)
""",
}
VARIABLES: Final = """
    name: ClassVar[str] = "odd"
    version: ClassVar[str] = "1"
"""
EXTRACTOR_VARIABLES: Final = """
    table: ClassVar[Literal["trials", "stimuli"]] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)
"""
CLASS_READS: Final = {
    "subclass": '    reads = ("eeg",)\n',
    "structure": '    reads: ClassVar[tuple[str, ...]] = ("eeg",)\n',
}
FROM_OPTIONS: Final = """
    @property
    def reads(self) -> tuple[str, ...]:
        return ("eeg",)
"""
FOLDS: Final = """
    def __call__(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> Splits:
        return Splits(np.full(trials.n_trials, "train"), np.arange(trials.n_trials) % 5)
"""
WRONG: Final = {  # kind, what is written, what is written in place of it
    "scan": ("source", "def scan(self) -> Trials:", "def scan(self) -> Stimuli:"),
    "read": ("source", "-> NDArray[np.float32]:", "-> NDArray[np.float64]:"),
    "read_of_rows": ("source", "read(self, start: int, stop: int)", "read(self, row: int)"),
    "images": ("stimuli", "-> list[NDArray[np.uint8]]:", "-> NDArray[np.uint8]:"),
    "scan_of_stimuli": ("stimuli", "def scan(self) -> Stimuli:", "def scan(self) -> Trials:"),
    "describe": ("extractor", "-> ColumnSpec:", "-> tuple[int, ...]:"),
    "call": ("extractor", "-> NDArray[np.float32]:", "-> list[float]:"),
    "block": ("extractor", "block: Block", "block: NDArray[np.float32]"),
    "pairs": ("pairing", "-> Pairs:", "-> NDArray[np.int64]:"),
    "names": ("split", "-> NDArray[np.str_]:", "-> list[str]:"),
    "no_stimuli": ("split", "stimuli: Stimuli | None", "stimuli: Stimuli"),
    "out": ("exporter", "out: Path", "out: int"),
    "workers": ("executor", "-> FuturesExecutor:", "-> int:"),
}
EXAMPLES: Final = {**examples(), "guide": guide_class()}
Said = dict[str, list[str]]


def by_subclass(kind: str, body: str, returns: str = "") -> str:
    """A module with a plugin that subclasses the protocol of its kind."""
    variables = '    name = "odd"\n    version = "1"\n'
    if kind == "extractor":
        variables += '    table = "trials"\n    reads = ("eeg",)\n'
    return module(kind, f"class Odd({PROTOCOL[kind]}):", variables + body, returns)


def by_structure(kind: str, body: str, returns: str = "") -> str:
    """A module with a plugin that has the members of the protocol, and no base."""
    variables = VARIABLES + (EXTRACTOR_VARIABLES if kind == "extractor" else "")
    return module(kind, "class Odd:", variables + body, returns)


def module(kind: str, head: str, body: str, returns: str) -> str:
    return f"""{IMPORTS}

@dataclass(frozen=True)
{head}
    \"\"\"Is checked.\"\"\"
{body}

@hookimpl
def {HOOK_OF_KIND[kind]}() -> list[type[{returns or PROTOCOL[kind]}]]:
    return [Odd]
"""


def replaced(kind: str, what: str, by: str) -> str:
    assert BODY[kind].count(what) == 1
    return BODY[kind].replace(what, by)


def without(kind: str, method: str) -> str:
    """The body without a method."""
    found = re.compile(rf"    def {method}\(.*?(?=\n    def |\Z)", re.DOTALL)
    body, n = found.subn("", BODY[kind])
    assert n == 1
    return body


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """What mypy says of each module; one run, because eegstore itself takes longest."""
    folder = tmp_path_factory.mktemp("typing")
    modules = {}
    for kind, body in BODY.items():
        modules[f"subclass_{kind}"] = by_subclass(kind, body)
        modules[f"structure_{kind}"] = by_structure(kind, body)
        modules[f"own_{kind}"] = by_structure(kind, body, returns="Odd")
    for name, (kind, what, by) in WRONG.items():
        body = replaced(kind, what, by)
        modules[f"wrong_subclass_{name}"] = by_subclass(kind, body)
        modules[f"wrong_structure_{name}"] = by_structure(kind, body)
        modules[f"wrong_own_{name}"] = by_structure(kind, body, returns="Odd")
    modules["optional"] = OPTIONAL
    modules["asserted"] = ASSERTED
    for way, write in (("subclass", by_subclass), ("structure", by_structure)):
        code = write("extractor", BODY["extractor"] + FROM_OPTIONS)
        modules[f"from_options_{way}"] = code.replace(CLASS_READS[way], "")
        modules[f"folds_{way}"] = write("split", FOLDS).replace("Split,", "Split, Splits,", 1)
    modules["of_another_kind"] = by_subclass("extractor", BODY["extractor"], returns="Source")
    modules["no_plugin"] = module("source", "class Odd:", "    scale: int = 1\n", "Odd")
    modules["wrong_name"] = by_subclass("split", BODY["split"]).replace('"odd"', "3")
    modules["wrong_table"] = by_subclass("extractor", BODY["extractor"]).replace(
        '"trials"', '"trial"'
    )
    for kind, method in (("source", "read"), ("extractor", "describe"), ("exporter", "__call__")):
        modules[f"lacks_{kind}_{method}"] = by_subclass(kind, without(kind, method))
    for name, code in EXAMPLES.items():
        modules[f"example_{name.replace('-', '_')}"] = code
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code)
    return mypy(folder)


def mypy(folder: Path) -> Said:
    """The lines that mypy prints of each module of a folder."""
    # A cache of its own: what another version of eegstore has left says nothing of this one.
    options = ["--strict", "--cache-dir", ".cache", "--follow-imports", "silent"]
    (folder / "mypy.ini").write_text("[mypy]\nerror_summary = false\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *sorted(one.name for one in folder.glob("*.py"))],
        cwd=folder, capture_output=True, text=True, timeout=280,
        env={**os.environ, "MYPY_FORCE_COLOR": "0"},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert done.stderr == ""
    found: Said = defaultdict(list)
    for line in done.stdout.splitlines():
        file, _, rest = line.partition(":")
        found[file.removesuffix(".py")].append(rest.partition(": ")[2])
    return found


OPTIONAL: Final = f"""{IMPORTS}

@dataclass(frozen=True)
class Kept(Source, Fingerprinted, Stateful):
    name = "kept"
    version = "1"
{BODY["source"]}
    def fingerprint(self) -> str:
        return "abc"

    def state(self) -> dict[str, NDArray[np.int64]]:
        return {{"rows": np.zeros(1, dtype=np.int64)}}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        object.__setattr__(self, "_rows", state["rows"])


@dataclass(frozen=True)
class Odd(Source, Fingerprinted):
    name = "odd"
    version = "1"
{BODY["source"]}
    def fingerprint(self) -> int:  # wrong
        return 3


@hookimpl
def eegstore_sources() -> list[type[Source]]:
    return [Kept]
"""
ASSERTED: Final = f"""{IMPORTS}

@dataclass(frozen=True)
class Good:
{VARIABLES}{EXTRACTOR_VARIABLES}{BODY["extractor"]}

@dataclass(frozen=True)
class Bad:
{VARIABLES}{EXTRACTOR_VARIABLES}{replaced(*WRONG["call"])}

_good: type[Extractor] = Good
_bad: type[Extractor] = Bad  # wrong
"""


def test_the_package_says_that_it_is_typed() -> None:
    for package in ("eegstore", "eegstore_plugins"):
        assert resources.files(package).joinpath("py.typed").is_file()


@pytest.mark.parametrize("kind", BODY)
@pytest.mark.parametrize("way", ["subclass", "structure", "own"])
def test_a_plugin_of_each_kind_is_accepted(said: Said, way: str, kind: str) -> None:
    assert said[f"{way}_{kind}"] == []


@pytest.mark.parametrize("way", ["subclass", "structure"])
def test_what_is_read_may_follow_from_options_and_a_split_may_make_folds(
    said: Said, way: str
) -> None:
    assert said[f"from_options_{way}"] == []
    assert said[f"folds_{way}"] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_documents_are_accepted(said: Said, name: str) -> None:
    assert said[f"example_{name.replace('-', '_')}"] == []


@pytest.mark.parametrize("name", WRONG)
def test_a_subclass_is_told_at_its_method_what_the_protocol_wants(said: Said, name: str) -> None:
    (overridden,) = [line for line in said[f"wrong_subclass_{name}"] if line.endswith("[override]")]
    assert f'supertype "eegstore.protocols.{PROTOCOL[WRONG[name][0]]}"' in overridden


@pytest.mark.parametrize("name", WRONG)
def test_a_class_without_base_is_refused_by_what_its_hook_says_that_it_returns(
    said: Said, name: str
) -> None:
    kind = WRONG[name][0]
    (wrong,) = [line for line in said[f"wrong_structure_{name}"] if line.startswith("error: List")]
    assert wrong == (
        'error: List item 0 has incompatible type "type[Odd]"; '
        f'expected "type[{PROTOCOL[kind]}]"  [list-item]'
    )


@pytest.mark.parametrize("name", WRONG)
def test_a_hook_that_names_its_own_class_is_refused_too(said: Said, name: str) -> None:
    (wrong,) = [line for line in said[f"wrong_own_{name}"] if line.endswith("[type-var]")]
    assert '"Callable[[], list[type[Odd]]]"' in wrong


def test_a_hook_that_returns_another_kind_of_class_is_refused(said: Said) -> None:
    (wrong,) = said["of_another_kind"]
    assert wrong == (
        'error: List item 0 has incompatible type "type[Odd]"; expected "type[Source]"  [list-item]'
    )
    (wrong,) = said["no_plugin"]
    assert wrong.endswith("[type-var]")


@pytest.mark.parametrize("name", ["source_read", "extractor_describe", "exporter___call__"])
def test_a_method_that_is_only_inherited_is_none(said: Said, name: str) -> None:
    kind = name.partition("_")[0]
    assert said[f"lacks_{name}"] == [
        f'error: Only concrete class can be given where "type[{PROTOCOL[kind]}]" is expected  '
        "[type-abstract]"
    ]


def test_a_class_variable_of_another_type_is_refused(said: Said) -> None:
    (name,) = said["wrong_name"]
    assert 'expression has type "int", base class "Plugin" defined the type as "str"' in name
    (table,) = said["wrong_table"]
    assert "base class \"Extractor\" defined the type as \"Literal['trials', 'stimuli']\"" in table


def test_optional_members_are_checked_by_their_own_protocols(said: Said) -> None:
    assert said["optional"] == [
        'error: Return type "int" of "fingerprint" incompatible with return type "str" in '
        'supertype "eegstore.protocols.Fingerprinted"  [override]'
    ]


def test_an_assertion_says_that_a_class_is_of_a_kind(said: Said) -> None:
    (wrong,) = [line for line in said["asserted"] if line.endswith("[assignment]")]
    assert 'expression has type "type[Bad]", variable has type "type[Extractor]"' in wrong
