"""One encoder without each part of the train trials, and one of all: trained, kept and used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eegstore import digest_bytes
from eegstore_plugins.checkpoints import Checkpoint
from eegstore_plugins.devices import fix_threads
from eegstore_plugins.encoder import Encoder
from eegstore_plugins.training import Schedule, Training, seed_of, seeded
from eegstore_plugins.training_rows import TrainRows

Arrays = Mapping[str, NDArray[Any]]
WEIGHTS: Final = "encoder."
# Rows that are computed at once, always: of other numbers libraries sum in another order.
ROWS: Final = 8


@dataclass(frozen=True)
class Shape:
    """What an encoder is made of beside the trials' own lengths; see ``Encoder``."""

    width: int
    dropout: float


@dataclass(frozen=True)
class Plan:
    """Trainings to be done.

    Parameters
    ----------
    shape, schedule
        Of each.
    parts
        A network is trained without each of these, and one on all.
    folder
        Where checkpoints are kept, or None.
    options
        All options, as a text: the checkpoints of others are not taken.
    """

    shape: Shape
    schedule: Schedule
    parts: Sequence[int]
    folder: Path | None
    options: str


def trained(rows: TrainRows, plan: Plan) -> dict[str, NDArray[Any]]:
    """Train all networks; their weights, one array a name with the network as its first axis."""
    _, n_channels, n_times = rows.batch(torch.arange(1)).shape
    fix_threads(plan.schedule.batch_size * n_channels * n_times)
    found = []
    for number, part in enumerate([*plan.parts, None]):
        chosen = torch.arange(len(rows.part))
        if part is not None:
            chosen = chosen[rows.part != part]
        encoder = _new(rows, chosen, n_times, plan, number)
        checkpoint = Checkpoint(
            plan.folder and plan.folder / f"training-{number}.safetensors",
            _signature(rows, chosen, encoder, plan),
        )
        found.append(Training(encoder, rows, chosen, plan.schedule, number, checkpoint).run())
    stacked = {
        WEIGHTS + name: np.stack([one[name].cpu().numpy() for one in found]) for name in found[0]
    }
    return {**stacked, "n_times": np.array(n_times), "sfreq": np.array(rows.sfreq)}


def _new(rows: TrainRows, chosen: Tensor, n_times: int, plan: Plan, number: int) -> Encoder:
    """An encoder before its training, which standardises by the trials that it will be given."""
    mean, scale = rows.moments(chosen)
    device, shape = rows.targets.device, plan.shape
    with seeded(seed_of(plan.schedule.seed, number), device):
        encoder = Encoder(
            len(mean), n_times, rows.sfreq, rows.targets.shape[1], shape.width, shape.dropout
        )
    encoder.load_state_dict({"mean": mean, "scale": scale}, strict=False)
    return encoder.to(device)


def _signature(rows: TrainRows, chosen: Tensor, encoder: Encoder, plan: Plan) -> str:
    """Digest of what a training follows from; of the EEG, means and deviations stand for all."""
    tensors = [chosen, rows.content, rows.weight, rows.targets, encoder.mean, encoder.scale]
    facts = b"".join(one.detach().cpu().numpy().tobytes() for one in tensors)
    return digest_bytes(plan.options.encode() + facts)


def restored(state: Arrays, shape: Shape, device: str) -> list[Encoder]:
    """The encoders of a state, ready to be called."""
    weights = {
        name.removeprefix(WEIGHTS): values
        for name, values in state.items()
        if name.startswith(WEIGHTS)
    }
    n_models, n_channels = weights["mean"].shape[:2]
    embedding = weights["head.bias"].shape[1]
    sizes = n_channels, int(state["n_times"]), float(state["sfreq"]), embedding
    encoders = []
    for number in range(n_models):
        encoder = Encoder(*sizes, shape.width, shape.dropout)
        tensors = {name: torch.tensor(values[number]) for name, values in weights.items()}
        encoder.load_state_dict(tensors)
        encoders.append(encoder.eval().requires_grad_(False).to(device))
    return encoders


def embedded(
    encoders: Sequence[Encoder], eeg: NDArray[np.float32], model: NDArray[np.int64]
) -> NDArray[np.float32]:
    """float32, (row, embedding), by the encoder of each row's number."""
    device = encoders[0].mean.device
    exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    found = np.empty((len(eeg), encoders[0].head.out_features), np.float32)
    fix_threads(ROWS * eeg[:1].size)
    with torch.inference_mode(), exact:
        for number in np.unique(model).tolist():
            rows = np.flatnonzero(model == number)
            for start in range(0, len(rows), ROWS):
                some = rows[start : start + ROWS]
                given = torch.from_numpy(eeg[np.resize(some, ROWS)]).to(device)
                found[some] = encoders[number](given)[: len(some)].cpu().numpy()
    return found
