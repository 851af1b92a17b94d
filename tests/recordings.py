"""Small recordings of formats that MNE-Python reads: three channels, an event at 1 s and at 3 s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

SFREQ = 100.0
CH_NAMES = ("Fz", "Cz", "Pz")
EVENTS = ((1.0, "face"), (3.0, "house"))


def signal() -> np.ndarray[Any, Any]:
    """float32, (channel, time), in uV."""
    return np.random.default_rng(0).normal(size=(3, 500)).astype(np.float32)


def write_eeglab(path: Path, data: str | None = None, nested: bool = True, **extra: Any) -> None:
    """An EEGLAB set, its signal inside, or in the file that ``data`` names."""
    eeg = {
        "nbchan": 3, "trials": 1, "pnts": 500, "srate": SFREQ, "xmin": 0.0, "xmax": 4.99,
        "data": signal() if data is None else data,
        "chanlocs": np.array([(name,) for name in CH_NAMES], dtype=[("labels", "O")]),
        "event": np.array(
            [(name, onset * SFREQ + 1) for onset, name in EVENTS],
            dtype=[("type", "O"), ("latency", "f8")],
        ),
        **extra,
    }  # fmt: skip
    scipy.io.savemat(path, {"EEG": eeg} if nested else eeg, appendmat=False)
    if data is not None:
        signal().T.tofile(path.parent / data)


def write_brainvision(path: Path, comment: str = "") -> None:
    """A BrainVision header with its signal and its markers beside it."""
    channels = "".join(f"Ch{n}={name},,1,uV\n" for n, name in enumerate(CH_NAMES, 1))
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\n"
        "DataOrientation=MULTIPLEXED\nNumberOfChannels=3\nSamplingInterval=10000\n"
        f"[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n{channels}{comment}"
    )
    signal().T.tofile(path.with_suffix(".eeg"))
    markers = "".join(
        f"Mk{n}=Stimulus,{name},{int(onset * SFREQ) + 1},1,0\n"
        for n, (onset, name) in enumerate(EVENTS, 1)
    )
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\n[Marker Infos]\n{markers}"
    )
