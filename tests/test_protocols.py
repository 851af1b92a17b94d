"""Plugins that subclass the protocols, as a type checker likes them best."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eegstore
from eegstore import PluginError, protocols, registry
from eegstore.hookspecs import HOOK_OF_KIND
from third_party import lay_out

HEAD = """
from dataclasses import dataclass, field
from typing import ClassVar, Protocol
import numpy as np
import eegstore
from eegstore import ColumnSpec, Pairs, hookimpl
"""
PEAK = f"""{HEAD}
@dataclass(frozen=True)
class Peak(eegstore.Extractor):
    \"\"\"Largest absolute value.\"\"\"
    name = "peak"
    version = "1"
    table = "trials"
    reads = ("eeg",)
    scale: float = field(default=1.0, metadata={{"gt": 0}})
    def describe(self, inputs):
        return ColumnSpec(("channel",), inputs["eeg"].shape[:1], "float32")
    def __call__(self, block):
        return np.float32(self.scale) * abs(block["eeg"]).max(axis=-1)

@hookimpl
def eegstore_extractors():
    return [Peak]
"""
PROTOCOL_OF = {
    "source": "Source",
    "stimuli": "StimulusProvider",
    "extractor": "Extractor",
    "pairing": "Pairing",
    "split": "Split",
    "exporter": "Exporter",
    "executor": "Executor",
}
MISSING = {
    "source": "scan, read",
    "stimuli": "scan, read",
    "extractor": "table, reads, describe, __call__",
}
Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Lay out the distribution ``theirs``, and look for plugins anew."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)
    monkeypatch.delenv("EEGSTORE_PLUGINS", raising=False)

    def install(code: str) -> None:
        monkeypatch.delitem(sys.modules, "theirs", raising=False)
        lay_out(site, code)
        registry.plugins.cache_clear()

    yield install
    registry.plugins.cache_clear()


def theirs() -> registry.Plugin:
    (plugin,) = [one for one in registry.plugins() if one.distribution == "theirs"]
    return plugin


def test_every_protocol_is_public() -> None:
    kinds = [protocols.Source, protocols.Fingerprinted, protocols.Stateful]
    assert [getattr(eegstore, one.__name__) for one in kinds] == kinds
    for name in PROTOCOL_OF.values():
        assert getattr(eegstore, name) is getattr(protocols, name)
        assert name in eegstore.__all__


def test_a_subclass_of_a_protocol_is_a_plugin_with_its_own_fields_as_options(
    install: Install, tmp_path: Path
) -> None:
    install(PEAK)
    peak = registry.create("extractor", "peak", {"scale": 2}, tmp_path)
    assert [one.name for one in dataclasses.fields(peak)] == ["scale"]
    assert registry.options_of(peak) == {"scale": 2.0}
    assert eegstore.Extractor in type(peak).__mro__
    recipe = {
        "source": {"plugin": "synthetic", "n_trials": 6, "n_channels": 3, "n_times": 16},
        "extract": [{"plugin": "peak", "scale": 2.0}],
    }
    eegstore.build(recipe, tmp_path / "a.zarr", executor="serial")
    trials = eegstore.open_store(tmp_path / "a.zarr").trials
    np.testing.assert_array_equal(trials["peak"][:], 2 * abs(trials["eeg"][:]).max(axis=-1))
    assert (trials["peak"][:] > 0).all()


@pytest.mark.parametrize("kind", HOOK_OF_KIND)
def test_what_is_only_inherited_from_a_protocol_is_missing(install: Install, kind: str) -> None:
    install(f'''{HEAD}
@dataclass(frozen=True)
class Bare(eegstore.{PROTOCOL_OF[kind]}):
    """Defines nothing."""
    name = "bare"
    version = "1"

@hookimpl
def {HOOK_OF_KIND[kind]}():
    return [Bare]
''')
    assert theirs().status == f"Bare lacks {MISSING.get(kind, '__call__')}"
    with pytest.raises(PluginError, match=f"^{kind} 'bare' of theirs is broken: Bare lacks "):
        registry.find(kind, "bare")


@pytest.mark.parametrize("member", ["describe", "__call__"])
def test_a_method_that_a_subclass_forgot_is_named(install: Install, member: str) -> None:
    install(PEAK.replace(f"def {member}(", "def another("))
    assert theirs().status == f"Peak lacks {member}"


def test_a_method_of_a_base_of_ones_own_is_there(install: Install) -> None:
    start, end = PEAK.index("    def describe"), PEAK.index("    def __call__")
    base = f"class Described(eegstore.Extractor, Protocol):\n{PEAK[start:end]}\n"
    code = PEAK[:start] + PEAK[end:]
    install(code)
    assert theirs().status == "Peak lacks describe"
    install(
        code.replace("(eegstore.Extractor)", "(Described)").replace("@datac", f"{base}\n@datac")
    )
    assert theirs().status == "ok"


def test_a_hook_that_returns_the_class_of_another_kind_is_refused(install: Install) -> None:
    install(PEAK.replace("def eegstore_extractors", "def eegstore_sources"))
    assert theirs().status == "Peak lacks scan, read"
    install(PEAK.replace("return [Peak]", "return [eegstore.Extractor]"))
    assert theirs().status == "Extractor.name is None, expected a kebab-case name"


def test_a_protocol_with_optional_members_counts_where_they_are_defined(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Exact(eegstore.Split, eegstore.Fingerprinted):
        name = "exact"
        version = "1"

        def fingerprint(self) -> str:
            return "abc"

        def __call__(self, trials: Any, stimulus: Any, stimuli: Any) -> Any:
            return np.full(trials.n_trials, "train")

    assert isinstance(Exact(), protocols.Fingerprinted)
    assert Exact().fingerprint() == "abc"
    assert not isinstance(Exact(), protocols.Stateful)
