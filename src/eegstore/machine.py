"""What the machine offers to this process."""

from __future__ import annotations

import os


def n_cpus() -> int:
    """Processors that this process may use, where the platform tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
