"""Predicts the embedding of the stimulus from the EEG by a network that is trained with InfoNCE."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, InputError, PluginError, RecipeError, hookimpl, options_of
from eegstore_plugins import inputs_of_trials
from eegstore_plugins.devices import Device, choose_device
from eegstore_plugins.parts import PartOfRow
from eegstore_plugins.targets import TargetExtractor

if TYPE_CHECKING:
    from eegstore_plugins.encoder import Encoder
    from eegstore_plugins.training import Schedule

SECONDS: Mapping[str, Any] = {"json_schema_extra": {"unit": "s"}}


class Learnt(NamedTuple):
    """The encoders, and which of them a trial's result comes from."""

    encoders: list[Encoder]
    part_of_row: PartOfRow


@dataclass(frozen=True)
class Contrastive(TargetExtractor):
    """Each trial's embedding by a network trained to find its stimulus: float32, (embedding,).

    It has the target's width, and length 1: to be compared with the target by the cosine. A
    compact network of convolutions and attention is trained with InfoNCE (van den Oord et al.
    2018) in both directions, with a learnt temperature (Radford et al. 2021); trials of one
    stimulus in a batch are each other's positives. A tenth of the train stimuli is held out: the
    loss on these chooses the pass over the rest whose weights are kept, and ends the training. A
    train trial's embedding comes from a network that has not seen its part: its fold, or a third
    of the stimuli. Each of these is trained from the beginning, so that with three parts all take
    as long as three trainings on all trials. On a CPU of one kind the result is the same bytes,
    interrupted or not.
    """

    name: ClassVar[str] = "contrastive"
    # No option: what fit has found, from restore on.
    _learnt: ClassVar[Learnt | None] = None

    n_folds: int = field(
        default=3,
        metadata={
            "description": "Parts of the train trials for out-of-fold results, where the split "
            "gives no folds; all trials of a stimulus are in one. Each costs a training.",
            "ge": 2,
            "le": 100,
        },
    )
    tmin: float | None = field(
        default=None,
        metadata={
            "description": "First time of the EEG that is used, from stimulus onset; by default "
            "the first.",
            **SECONDS,
        },
    )
    tmax: float | None = field(
        default=None,
        metadata={
            "description": "End of the EEG that is used, from stimulus onset; by default all.",
            **SECONDS,
        },
    )
    width: int = field(
        default=64,
        metadata={
            "description": "Spatial filters, and features at each span of time.",
            "multiple_of": 4,
            "gt": 0,
            "le": 4096,
        },
    )
    dropout: float = field(
        default=0.25,
        metadata={
            "description": "Share of the features that training leaves out at random.",
            "ge": 0,
            "lt": 1,
            "json_schema_extra": {"unit": "1"},
        },
    )
    batch_size: int = field(
        default=256,
        metadata={"description": "Trials of a step, among which stimuli are found.", "ge": 2},
    )
    learning_rate: float = field(
        default=1e-3, metadata={"description": "Of AdamW.", "gt": 0, "le": 1}
    )
    max_epochs: int = field(
        default=50, metadata={"description": "Most passes over the train trials.", "ge": 1}
    )
    patience: int = field(
        default=5,
        metadata={"description": "Passes without a better loss after which it ends.", "ge": 1},
    )
    checkpoint_epochs: int = field(
        default=2,
        metadata={"description": "Passes after which an interrupted build goes on.", "ge": 1},
    )
    memory_mb: int = field(
        default=4096,
        metadata={
            "description": "Most memory for the EEG of the train trials; with more, each batch is "
            "read from the store.",
            "ge": 0,
            "json_schema_extra": {"unit": "MiB"},
        },
    )
    device: Device = field(
        default="auto",
        metadata={"description": "Where it is trained and runs; auto takes a CUDA device if there "
                  "is one, and trains there in bfloat16."},
    )  # fmt: skip
    seed: int = field(default=0, metadata={"description": "Seed of the training.", "ge": 0})

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        # Told before anything is read; found without its import, which takes seconds.
        if importlib.util.find_spec("torch") is None:
            raise InputError(
                f"extractor {self.name!r}: needs torch; run: pip install 'eegstore[train]'"
            )
        spec = inputs[self.input]
        if len(spec.shape) != 2:
            raise RecipeError(
                f"extractor {self.name!r}: input {self.input} has the axes {spec.dims}, expected "
                "two, such as channel and time; ridge takes any"
            )
        if self.input == inputs_of_trials.EEG:
            inputs_of_trials.checked_window(self.name, spec, self.tmin, self.tmax)
        return self.described(inputs, {"normalised": True})

    def prepare(self) -> None:
        """Import torch, which takes seconds, before the first block."""
        import torch  # noqa: F401

    def fit(self, blocks: Iterable[Block]) -> Mapping[str, NDArray[Any]]:
        """Train a network without each part of the paired train trials, and one on all.

        Raises
        ------
        InputError
            Where there are fewer than two parts that count, or the device is not there.
        """
        from eegstore_plugins import networks
        from eegstore_plugins.training_rows import collected

        device = choose_device(self.device)
        rows, parts = collected(self, self._samples, blocks, self.memory_mb << 20, device)
        numbers = np.unique(rows.part.numpy()).tolist()
        plan = networks.Plan(
            networks.Shape(self.width, self.dropout), self._schedule(), numbers,
            getattr(blocks, "folder", None), repr(sorted(options_of(self).items())),
        )  # fmt: skip
        return {**networks.trained(rows, plan), **parts.state(numbers)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take the networks that ``fit`` trained."""
        from eegstore_plugins import networks

        shape = networks.Shape(self.width, self.dropout)
        encoders = networks.restored(state, shape, choose_device(self.device))
        object.__setattr__(self, "_learnt", Learnt(encoders, PartOfRow.of_state(state)))

    def __call__(self, block: Block) -> NDArray[np.float32]:
        from eegstore_plugins import networks

        if self._learnt is None:
            raise PluginError(f"extractor {self.name!r}: called before restore()")
        encoders, part_of_row = self._learnt
        return networks.embedded(encoders, self._samples(block), part_of_row.model(block))

    def _samples(self, block: Block) -> NDArray[np.float32]:
        return inputs_of_trials.samples(block, self.input, self.tmin, self.tmax)

    def _schedule(self) -> Schedule:
        from eegstore_plugins.training import Schedule

        return Schedule(
            self.batch_size, self.max_epochs, self.patience, self.learning_rate,
            self.checkpoint_epochs, self.seed,
        )  # fmt: skip


@hookimpl
def eegstore_extractors() -> list[type[Contrastive]]:
    """The extractor of this module."""
    return [Contrastive]
