"""Scans the recipe's input: everything but signals and pixels, and the keys that follow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import registry
from eegstore.calls import check_array, declared, given, guarded
from eegstore.counts import Counts, counts_of
from eegstore.disk import digest_bytes, digest_file, digest_json, noted
from eegstore.errors import InputError, PluginError, RecipeError
from eegstore.inputs import InputFile, input_files, option_paths
from eegstore.protocols import Fingerprinted
from eegstore.recipe import Recipe, Section, SourceSection
from eegstore.tables import COLUMN_NAME, ColumnSpec, Stimuli, Table, Trials
from eegstore.versions import FIRST_API

SAMPLED_PLACES: Final = 8
SAMPLED_ROWS: Final = 8
SAMPLED_BYTES: Final = 1 << 20
MAX_LISTED: Final = 1000
MADE_FROM: Final = re.compile(rf"stimulus_key|label|(trials|stimuli)/{COLUMN_NAME.pattern}")
STIMULI_COLUMNS: Final = ("image_path", "label", "concept", "caption", "content_id")


@dataclass(frozen=True)
class Content:
    """What a plugin's options name but do not hold.

    Parameters
    ----------
    facts
        The plugin's fingerprint, or the digest of each path; part of its key.
    files
        Name and SHA-256 of each file that was digested for it, without the folder that it lies
        in. A plugin that digests by other means than ``eegstore.digest_files`` has none here.
    """

    facts: str | list[str]
    files: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> str:
        """The facts as one word; empty where there are none."""
        if isinstance(self.facts, str):
            return self.facts
        return digest_json(self.facts) if self.facts else ""

    @property
    def listed(self) -> list[dict[str, str]]:
        """The files as a store records them; so many that a list is of no use are left out."""
        short = self.files if len(self.files) <= MAX_LISTED else ()
        return [{"name": name, "sha256": digest} for name, digest in short]


@dataclass(frozen=True)
class Scan:
    """What the recipe's plugins found, and the keys that follow."""

    recipe: Recipe
    folder: Path
    source: Any
    trials: Trials
    source_key: str
    files: Mapping[Table, tuple[InputFile, ...]]
    provider: Any = None
    stimuli: Stimuli | None = None
    provider_key: str = ""
    source_content: Content = Content("")
    provider_content: Content = Content("")

    @property
    def n_rows(self) -> dict[Table, int]:
        """Rows of each table."""
        return {
            "trials": self.trials.n_trials,
            "stimuli": self.stimuli.n_stimuli if self.stimuli else 0,
        }


def producer(
    kind: str, plugin: Any, section: Section | None, content: Content | None = None
) -> dict[str, Any]:
    """Who computes a column, as its attributes record it; paths as the recipe gives them.

    ``source`` is there for a distribution that is installed as editable, and ``content`` for a
    plugin whose options name files or the like.
    """
    found = registry.find(kind, plugin.name)
    given = section.options if section else {}
    facts = {
        "kind": kind,
        "name": found.name,
        "version": found.version,
        "distribution": found.distribution,
        "distribution_version": found.distribution_version,
        "api": found.api,
        "options": registry.options_of(plugin) | given,
    }
    facts |= {"source": found.source} if found.source else {}
    return facts | ({"content": content.digest} if content and content.digest else {})


def plugin_key(
    kind: str,
    plugin: Any,
    section: Section | None,
    content: Content | None = None,
    *,
    without: Iterable[str] = (),
) -> str:
    """Digest of a plugin, its options and the content that they name.

    Two installations with one key give the same values. So a distribution's version is not in it,
    nor is its folder: what counts is the plugin's own ``version``, which its author raises when the
    values change. While a third party's plugin is being edited no version vouches for it, and the
    digest of its source counts too; of eegstore's own the version alone, which its tests hold, or
    each edit of any of its files would make every column of a developer's stores anew. The API
    that a plugin targets counts from the second on: stores of the first have keys without it.
    """
    facts = producer(kind, plugin, section)
    content = content or content_of(kind, plugin, section)
    left_out = {*without, *registry.path_options(type(plugin))}
    options = {key: value for key, value in facts["options"].items() if key not in left_out}
    beyond = {"source": facts["source"]} if "source" in facts else {}
    if facts["api"] != FIRST_API and facts["distribution"] != registry.BUILT_IN:
        beyond["api"] = facts["api"]
    return digest_json([facts["kind"], facts["name"], facts["version"], facts["distribution"],
                        options, content.facts, *([beyond] if beyond else [])])  # fmt: skip


def content_of(kind: str, plugin: Any, section: Section | None) -> Content:
    """What a plugin's options name: files and folders, or whatever it knows how to digest."""
    paths = [
        path
        for name in sorted(registry.path_options(type(plugin)))
        for path in option_paths(plugin, name)
    ]

    def digested() -> Content:
        # Within the call that guards it: that may be in a thread of its own.
        with noted() as files:
            facts = (
                plugin.fingerprint() if isinstance(plugin, Fingerprinted)
                else [digest_path(path) for path in paths]
            )  # fmt: skip
        return Content(facts, tuple(sorted((_place(file, paths), one) for file, one in files)))

    if not isinstance(plugin, Fingerprinted):
        return digested()
    content: Content = guarded(
        kind, plugin, digested, limit_s=section.timeout_s if section else None
    )
    given(kind, plugin, "fingerprint()", content.facts, str)
    return content


def _place(file: Path, paths: Iterable[Path]) -> str:
    """A file's name in the folder that an option names, else its name alone; as text."""
    folder = next((path for path in paths if path in file.parents), file.parent)
    name = file.relative_to(folder).as_posix()
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def digest_path(path: Path) -> str:
    """Digest of a file, or of all files of a folder with their names."""
    if path.is_file():
        return digest_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return digest_json([[file.relative_to(path).as_posix(), digest_file(file)] for file in files])


def digest_array(values: NDArray[Any]) -> str:
    """Digest of a narrow column's values and of their type."""
    if values.dtype.kind == "U":
        return digest_json(values.tolist())
    return digest_bytes(values.dtype.str.encode(), np.ascontiguousarray(values).tobytes())


def digest_rows(table: Trials | Stimuli, names: Iterable[str]) -> str:
    """Digest of the rows and of their order."""
    arrays = {name: getattr(table, name) for name in names} | dict(table.columns)
    return digest_json(
        {name: None if values is None else digest_array(values) for name, values in arrays.items()}
    )


def source_options(section: SourceSection) -> dict[str, Any]:
    """A source's options; ``allow_skips`` is among them where the source has such a field."""
    cls: Any = registry.find("source", section.plugin).cls
    skips = {"allow_skips": section.allow_skips} if hasattr(cls, "allow_skips") else {}
    return section.options | skips


def source_plugin(recipe: Recipe, folder: Path) -> Any:
    """The recipe's source."""
    options = source_options(recipe.source)
    return registry.create("source", recipe.source.plugin, options, folder, "[source]")


def provider_plugin(recipe: Recipe, folder: Path) -> Any:
    """The recipe's provider of stimuli; None where there are none."""
    section = recipe.stimuli
    if section is None:
        return None
    return registry.create("stimuli", section.plugin, section.options, folder, "[stimuli]")


def scan(recipe: Recipe, folder: Path) -> Scan:
    """Create the recipe's source and provider, and let them scan their input."""
    section = recipe.source
    source = source_plugin(recipe, folder)
    files: dict[Table, tuple[InputFile, ...]] = {"trials": input_files(source), "stimuli": ()}
    trials = guarded("source", source, source.scan, limit_s=section.timeout_s)
    given("source", source, "scan()", trials, Trials)
    facts = [list(trials.ch_names), list(trials.ch_types), trials.sfreq, trials.units]
    rows = digest_rows(trials, ("label", "stimulus_key", "split", "times"))
    # Which events allow_skips left out shows in the rows; the option itself changes nothing.
    content = content_of("source", source, section)
    own_key = plugin_key("source", source, section, content, without=["allow_skips"])
    key = digest_json([own_key, facts, rows])
    found = Scan(recipe, folder, source, trials, key, files, source_content=content)
    if recipe.stimuli is None:
        if recipe.pairing is not None:
            raise RecipeError("[pairing]: there is nothing to pair with; add [stimuli]")
        return found
    provider = provider_plugin(recipe, folder)
    files["stimuli"] = input_files(provider)
    stimuli = guarded("stimuli", provider, provider.scan, limit_s=recipe.stimuli.timeout_s)
    given("stimuli", provider, "scan()", stimuli, Stimuli)
    # The caption has a column of its own: another template leaves the images as they are.
    content = content_of("stimuli", provider, recipe.stimuli)
    own_key = plugin_key("stimuli", provider, recipe.stimuli, content, without=["caption"])
    key = digest_json([own_key, digest_array(stimuli.content_id)])
    return replace(
        found, provider=provider, stimuli=stimuli, provider_key=key, provider_content=content
    )


def scanned_columns(found: Scan) -> dict[tuple[Table, str], NDArray[Any]]:
    """The narrow columns that scanning gives, which extractors may read."""
    columns: dict[tuple[Table, str], NDArray[Any]] = {("trials", "label"): found.trials.label}
    if found.trials.stimulus_key is not None:
        columns["trials", "stimulus_key"] = found.trials.stimulus_key
    columns |= {("trials", name): values for name, values in found.trials.columns.items()}
    if found.stimuli is not None:
        columns |= {("stimuli", name): getattr(found.stimuli, name) for name in STIMULI_COLUMNS}
        columns |= {("stimuli", name): values for name, values in found.stimuli.columns.items()}
    return columns


def eeg_spec(trials: Trials) -> ColumnSpec:
    """What one row of ``trials/eeg`` is."""
    return ColumnSpec(
        dims=("channel", "time"),
        shape=(trials.n_channels, trials.n_times),
        dtype="float32",
        coords={"channel": list(trials.ch_names), "time": trials.times.tolist()},
        units=trials.units,
        attrs={"sfreq": trials.sfreq, "ch_types": list(trials.ch_types)},
    )


def eeg_counts(found: Scan) -> Counts:
    """The counts of the EEG, from trials here and there in it.

    Raises
    ------
    InputError
        Where it is not in whole steps; names the first of those trials that shows it.
    """
    sample = _sampled(found)
    counts = counts_of(np.stack(list(sample.values())))
    if counts is not None:
        return counts
    signals = np.stack(list(sample.values()))
    first = next(n for n in range(len(sample)) if counts_of(signals[: n + 1]) is None)
    raise no_counts(found.source.name, list(sample)[first])


def no_counts(source: str, trial: int) -> InputError:
    """The error that names a trial which is not in whole steps."""
    return InputError(
        f"[source] {source}: trial {trial} (counted from 0) is not in whole steps of 16 bits, as "
        "[store] dtype = 'int16' wants it (was the signal filtered, referenced again or scaled?); "
        "leave dtype out"
    )


def _sampled(found: Scan) -> dict[int, NDArray[np.float32]]:
    """Number and signal of some trials, from all over the recording."""
    section, source, spec = found.recipe.source, found.source, eeg_spec(found.trials)
    n_trials = found.trials.n_trials
    n_rows = min(n_trials, SAMPLED_ROWS, max(1, SAMPLED_BYTES // spec.row_bytes))
    sample: dict[int, NDArray[np.float32]] = {}
    for start in np.linspace(0, n_trials - n_rows, SAMPLED_PLACES, dtype=np.int64).tolist():
        if start in sample:
            continue
        rows = guarded(
            "source", source, source.read, start, start + n_rows, limit_s=section.timeout_s
        )
        check_array("source", source, f"read({start}, {start + n_rows})", rows,
                    (n_rows, *spec.shape))  # fmt: skip
        sample |= {start + row: signal.copy() for row, signal in enumerate(rows)}
    return dict(sorted(sample.items()))


def pairing_plugin(found: Scan) -> Any:
    """The recipe's pairing; by key where the source knows what was shown, else by label."""
    section = found.recipe.pairing
    if section is not None:
        return registry.create(
            "pairing", section.plugin, section.options, found.folder, "[pairing]"
        )
    usual = "label" if found.trials.stimulus_key is None else "event"
    return registry.create("pairing", usual, {}, found.folder)


def pairing_reads(found: Scan) -> tuple[str, ...]:
    """Paths of the wide columns that the recipe's pairing reads."""
    if found.stimuli is None:
        return ()
    return declared("pairing", pairing_plugin(found), "reads")


def made_from(plugin: Any) -> list[str] | None:
    """What a pairing says decides its pairs, as a store records it; None where it does not say.

    Raises
    ------
    PluginError
        Where it is no list of columns: what checks a store for circles goes by it.
    """
    names = declared("pairing", plugin, "made_from")
    if not names and not hasattr(plugin, "made_from"):
        return None
    for name in names:
        if not MADE_FROM.fullmatch(name):
            raise PluginError(
                f"pairing {plugin.name!r}: made_from has {name!r:.80}, expected 'stimulus_key', "
                "'label', 'trials/NAME' or 'stimuli/NAME'"
            )
    return list(names)


def split_plugin(found: Scan) -> Any:
    """The recipe's split; the source's own where it has one; None where all rows are train."""
    section = found.recipe.split
    if section is not None:
        return registry.create("split", section.plugin, section.options, found.folder, "[split]")
    if found.trials.split is None:
        return None
    return registry.create("split", "source", {}, found.folder)
