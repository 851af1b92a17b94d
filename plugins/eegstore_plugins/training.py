"""Trains an encoder against the embeddings of the stimuli, until it stops getting better."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from eegstore import InputError
from eegstore_plugins.checkpoints import Checkpoint
from eegstore_plugins.encoder import Encoder
from eegstore_plugins.training_rows import TrainRows

VALIDATION: Final = 0.1
MOST_SCALE: Final = math.log(100)  # Radford et al. 2021
WEIGHT_DECAY: Final = 0.01


@dataclass(frozen=True)
class Schedule:
    """How long, in what steps, and from which seed."""

    batch_size: int
    max_epochs: int
    patience: int
    learning_rate: float
    checkpoint_epochs: int
    seed: int


def info_nce(found: Tensor, targets: Tensor, content: Tensor, weight: Tensor) -> Tensor:
    """The contrastive loss of a batch, in both directions (van den Oord et al. 2018).

    Parameters
    ----------
    found
        float32, (row, embedding): what was found for each trial, times the inverse temperature.
    targets
        float32, (row, embedding): those of the stimuli.
    content
        int64, (row,): which stimulus each trial shows; all trials of one are positives of it.
    weight
        float32, (row,): how much each counts.
    """
    scores = found @ targets.T
    same = content[:, None] == content
    share = same / same.sum(dim=1, keepdim=True)
    of_stimuli = -(share * scores.log_softmax(dim=1)).sum(dim=1)
    of_trials = -(share * scores.log_softmax(dim=0).T).sum(dim=1)
    losses = weight * (of_stimuli + of_trials) / 2
    return losses.sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


@dataclass
class Progress:
    """How far a training has come: its next epoch, the best one, and that one's loss."""

    epoch: int = 0
    best_epoch: int = -1
    best_loss: float = math.inf
    is_finished: bool = False

    def tensor(self) -> Tensor:
        """As a checkpoint holds it."""
        facts = [self.epoch, self.best_epoch, self.best_loss, self.is_finished]
        return torch.tensor(facts, dtype=torch.float64)

    @classmethod
    def of(cls, tensor: Tensor) -> Progress:
        """From ``tensor``."""
        epoch, best_epoch, best_loss, is_finished = tensor.tolist()
        return cls(int(epoch), int(best_epoch), best_loss, bool(is_finished))


class Training:
    """The training of one encoder on some rows, of which it validates itself by some stimuli.

    A tenth of the stimuli, with all their trials, take no part in it: the loss on these says
    which epoch was the best, and when to stop. Where they would be fewer than two it goes on to
    the last epoch. What an epoch does follows from the seed, the number of the training and its
    own: it is the same after a checkpoint.
    """

    def __init__(
        self, encoder: Encoder, rows: TrainRows, chosen: Tensor, schedule: Schedule, number: int,
        checkpoint: Checkpoint,
    ) -> None:  # fmt: skip
        self.encoder, self.rows, self.schedule = encoder, rows, schedule
        self._number, self._checkpoint = number, checkpoint
        self._device = rows.targets.device
        self._fit, self._held_out = self._divided(chosen)
        self._optimiser = torch.optim.AdamW(
            encoder.parameters(), lr=schedule.learning_rate, weight_decay=WEIGHT_DECAY
        )
        self._progress, self._best = Progress(), _copied(encoder.state_dict())

    def run(self) -> dict[str, Tensor]:
        """Train to the end, from where a checkpoint was left; the best weights, by their names."""
        self._resume()
        progress, schedule = self._progress, self.schedule
        while not progress.is_finished:
            self.epoch(progress.epoch)
            self._judge(self.validation_loss())
            progress.epoch += 1
            waited = progress.epoch - progress.best_epoch > schedule.patience
            progress.is_finished = waited or progress.epoch >= schedule.max_epochs
            if progress.is_finished or progress.epoch % schedule.checkpoint_epochs == 0:
                self._save()
        return self._best

    def epoch(self, epoch: int) -> None:
        """Go once through the rows in an order of the epoch's own."""
        seed = seed_of(self.schedule.seed, self._number, epoch + 1)
        order = torch.randperm(len(self._fit), generator=torch.Generator().manual_seed(seed))
        n_batches = max(1, round(len(order) / self.schedule.batch_size))
        self.encoder.train()
        with seeded(seed, self._device):
            for some in self._fit[order].tensor_split(n_batches):
                self.step(some)

    def step(self, some: Tensor) -> None:
        """Learn from a batch of rows."""
        rows, encoder = self.rows, self.encoder
        some_there = some.to(self._device)
        content = rows.content[some_there]
        with torch.autocast(self._device.type, torch.bfloat16, self._device.type == "cuda"):
            found = encoder(rows.batch(some))
        scaled = found * encoder.log_scale.clamp(max=MOST_SCALE).exp()
        loss = info_nce(scaled, rows.targets[content], content, rows.weight[some_there])
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()

    @torch.no_grad()
    def validation_loss(self) -> float | None:
        """Mean loss of finding each trial's stimulus among those held out; None without such."""
        if not len(self._held_out):
            return None
        self.encoder.eval()
        rows = self.rows
        of_rows = rows.content[self._held_out.to(self._device)]
        content, own = torch.unique(of_rows, return_inverse=True)
        found = torch.cat([self.encoder(rows.batch(some)) for some in rows.chunks(self._held_out)])
        scale = self.encoder.log_scale.clamp(max=MOST_SCALE).exp()
        scores = (scale * found @ rows.targets[content].T).log_softmax(dim=1)
        return -float(scores.gather(1, own[:, None]).double().mean())

    def _divided(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The rows that are trained on, and those that are held out."""
        of_rows = self.rows.content.cpu()[chosen]
        content = torch.unique(of_rows)
        n_held_out = round(VALIDATION * len(content))
        if n_held_out < 2:
            return chosen, chosen[:0]
        seed = seed_of(self.schedule.seed, self._number, 0)
        order = torch.randperm(len(content), generator=torch.Generator().manual_seed(seed))
        held_out = torch.isin(of_rows, content[order[:n_held_out]])
        return chosen[~held_out], chosen[held_out]

    def _judge(self, loss: float | None) -> None:
        """Keep the weights where they are the best so far, or where nothing tells."""
        progress = self._progress
        if loss is not None and not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} after pass {progress.epoch + 1} over the train trials; look "
                "for NaN in what the extractor reads, or set a smaller learning_rate"
            )
        if loss is None or loss < progress.best_loss:
            progress.best_epoch = progress.epoch
            progress.best_loss = math.inf if loss is None else loss
            self._best = _copied(self.encoder.state_dict())

    def _save(self) -> None:
        optimiser = self._optimiser.state_dict()["state"]
        self._checkpoint.save(
            {
                "progress": self._progress.tensor(),
                **_named("best", self._best),
                **_named("encoder", self.encoder.state_dict()),
                **{
                    f"optimiser/{number}/{name}": tensor
                    for number, facts in optimiser.items()
                    for name, tensor in facts.items()
                },
            }
        )

    def _resume(self) -> None:
        """Take what a checkpoint holds, where there is one of this training."""
        tensors = self._checkpoint.load()
        if tensors is None:
            return
        self._progress = Progress.of(tensors["progress"])
        self._best = {name: one.to(self._device) for name, one in _under("best", tensors).items()}
        self.encoder.load_state_dict(_under("encoder", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under("optimiser", tensors).items():
            number, _, fact = name.partition("/")
            state.setdefault(int(number), {})[fact] = tensor
        self._optimiser.load_state_dict(self._optimiser.state_dict() | {"state": state})


def seed_of(*numbers: int) -> int:
    """One seed from several."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw torch's numbers from a seed, and leave those of others as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _named(owner: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{owner}/{name}": tensor for name, tensor in tensors.items()}


def _under(owner: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{owner}/"): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{owner}/")
    }
