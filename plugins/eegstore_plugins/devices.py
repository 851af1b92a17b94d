"""Where torch computes, and in how many threads."""

from __future__ import annotations

import os
from typing import Final, Literal

from eegstore import InputError

Device = Literal["auto", "cpu", "cuda"]

VALUES_A_THREAD: Final = 1 << 20


def fix_threads(n_values: int | None = None) -> None:
    """Let torch use one thread a CPU: their number decides the order of sums, workers may not.

    With ``n_values``, the size of what is computed at once, a small one has one thread alone:
    several would wait for one another most of the time.
    """
    import torch

    is_small = n_values is not None and n_values < VALUES_A_THREAD
    torch.set_num_threads(1 if is_small else os.cpu_count() or 1)


def choose_device(device: Device) -> str:
    """The device that an option names on this machine.

    Raises
    ------
    InputError
        Where it names a device that is not there.
    """
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError("device is 'cuda', but torch sees no CUDA device; set device = \"auto\"")
    return "cuda" if available and device != "cpu" else "cpu"
