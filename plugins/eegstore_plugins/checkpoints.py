"""What a training has come to, in a file from which it goes on after an interruption."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

SIGNATURE = "signature"


@dataclass(frozen=True)
class Checkpoint:
    """One training's file, of safetensors.

    Parameters
    ----------
    path
        The file; None where nothing is kept.
    signature
        Digest of what the training follows from; the file of another is not taken.
    """

    path: Path | None
    signature: str

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the file anew: it is the old one, or the new, whenever the process ends."""
        if self.path is None:
            return
        from safetensors.torch import save

        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        content = save({**plain, SIGNATURE: _bytes(self.signature)})
        unfinished = self.path.with_suffix(".partial")
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.path)

    def load(self) -> dict[str, Tensor] | None:
        """What was saved last, or None where there is nothing of this training."""
        if self.path is None or not self.path.exists():
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            tensors: dict[str, Tensor] = load(self.path.read_bytes())
        except SafetensorError:
            return None
        signature = tensors.pop(SIGNATURE, None)
        same = signature is not None and torch.equal(signature, _bytes(self.signature))
        return tensors if same else None


def _bytes(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)
