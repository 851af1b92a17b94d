"""What the features of channels cost next to a Fourier transform, and next to mne-features.

    python tests/benchmarks/bench_features.py [--quick]

All on one core, in turn, in seconds of the processor; each figure is the median of paired ratios.
``spectral`` and ``temporal`` get blocks as a build gives them. The transform is scipy's in float32,
over the same blocks. mne-features computes those of the features whose values it shares (compared
here first; 19 of the 28), from float64, by its functions themselves and by ``extract_features``
(all but the relative powers).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import mne_features.univariate as mne_features
import numpy as np
import scipy.fft
import threadpoolctl
from mne_features.feature_extraction import extract_features

from eegstore import Block
from eegstore_plugins.spectral import BANDS_HZ, Spectral
from eegstore_plugins.sums import loops
from eegstore_plugins.temporal import FEATURES, Temporal

SFREQ = 128.0
SHAPES = ((14, 256), (63, 250))
BLOCK_BYTES = 1 << 20
# At 255 samples no bin of the transform is at an edge, of which mne-features holds the upper one.
SHARED = (14, 255)
EDGES = np.array([*BANDS_HZ.values()])
# Its entropy and edge are over all frequencies.
SHARED_SPECTRAL = Spectral(bands_hz={**BANDS_HZ, "whole": (0.1, SFREQ / 2)}, window="boxcar")
OF_SPECTRAL = [*range(5), *range(6, 11), 12, 14]
LAST_HZ = 63.7
BY_FFT = {"psd_method": "fft"}
OF_TEMPORAL = {
    "mean": mne_features.compute_mean,
    "rms": mne_features.compute_rms,
    "ptp": mne_features.compute_ptp_amp,
    "skewness": mne_features.compute_skewness,
    "kurtosis": mne_features.compute_kurtosis,
    "line_length": mne_features.compute_line_length,
    "zero_crossings": lambda trial: mne_features.compute_zero_crossings(
        trial - trial.mean(axis=-1, keepdims=True)
    ),
}
NAMES = [
    "mean", "rms", "ptp_amp", "skewness", "kurtosis", "line_length", "zero_crossings",
    "pow_freq_bands", "spect_entropy", "spect_edge_freq",
]  # fmt: skip


def signals(n_trials: int, shape: tuple[int, int]) -> Any:
    """Random walks in noise beside an offset, float32 (trial, channel, time)."""
    rng = np.random.default_rng(0)
    walks = rng.standard_normal((n_trials, *shape), dtype=np.float32).cumsum(axis=-1)
    return walks + rng.standard_normal(walks.shape, dtype=np.float32) + np.float32(4300)


def blocks(eeg: Any) -> Iterator[Any]:
    """The trials in blocks of about a megabyte."""
    step = max(1, round(BLOCK_BYTES / eeg[0].nbytes))
    for start in range(0, len(eeg), step):
        yield eeg[start : start + step]


def features(eeg: Any, spectral: Spectral) -> list[Any]:
    """Spectral and temporal features, block by block."""
    times, temporal = np.arange(eeg.shape[-1]) / SFREQ, Temporal()
    found = []
    for part in blocks(eeg):
        block = Block({"eeg": part}, 0, len(part), sfreq=SFREQ, times=times)  # one, as in a build
        found.append([spectral(block), temporal(block)])
    return found


def transform(eeg: Any) -> None:
    """scipy's float32 transform, block by block."""
    for part in blocks(eeg):
        scipy.fft.rfft(part, workers=1)


def spectral_by_functions(trial: Any) -> list[Any]:
    """Powers of the bands, relative powers, entropy and edge, each (channel, feature)."""
    powers = [
        mne_features.compute_pow_freq_bands(SFREQ, trial, EDGES, normalize=normalize, **BY_FFT)
        for normalize in (False, True)
    ]
    entropy = mne_features.compute_spect_entropy(SFREQ, trial, **BY_FFT) / np.log2(127)
    edge = mne_features.compute_spect_edge_freq(
        SFREQ, trial, ref_freq=LAST_HZ, edge=[0.95], **BY_FFT
    )
    return [values.reshape(len(trial), -1) for values in (*powers, entropy, edge)]


def by_functions(eeg: Any) -> Any:
    """The shared features, float64 (trial, channel, feature), trial by trial."""
    return np.array(
        [
            np.concatenate(
                spectral_by_functions(trial)
                + [compute(trial)[:, np.newaxis] for compute in OF_TEMPORAL.values()],
                axis=-1,
            )
            for trial in eeg.astype(np.float64)
        ]
    )


def by_extractor(eeg: Any) -> Any:
    """The shared features but for relative powers, by mne-features' own loop."""
    options = {"freq_bands": EDGES, "normalize": False, **BY_FFT}
    params: dict[str, Any] = {f"pow_freq_bands__{name}": value for name, value in options.items()}
    params |= {"spect_entropy__psd_method": "fft", "spect_edge_freq__psd_method": "fft"}
    params |= {"spect_edge_freq__ref_freq": LAST_HZ, "spect_edge_freq__edge": [0.95]}
    return extract_features(eeg.astype(np.float64), SFREQ, NAMES, params)


def check(eeg: Any) -> None:
    """Compare the shared features' values."""
    ((of_spectral, of_temporal),) = features(eeg, SHARED_SPECTRAL)
    at = [list(FEATURES).index(name) for name in OF_TEMPORAL]
    ours = np.concatenate([of_spectral[..., OF_SPECTRAL], of_temporal[..., at]], axis=-1)
    np.testing.assert_allclose(ours, by_functions(eeg), rtol=1e-5, atol=1e-6)


def seconds(call: Callable[[], object]) -> float:
    """Seconds of the processor that a call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


def paired(ours: Callable[[], object], others: Callable[[], object], rounds: int) -> float:
    """The median of the ratios of ours to others, measured in turn."""
    return median(seconds(ours) / seconds(others) for _ in range(rounds))


def rows(quick: bool) -> list[tuple[str, float, str]]:
    """What is compared, the ratio measured, and its limit."""
    rounds, n_trials, n_few = (3, 512, 20) if quick else (15, 2048, 100)
    found = []
    with threadpoolctl.threadpool_limits(1):
        loops.n_samples = 1 << 40  # compiled, as in a build of some size
        how = "numba" if loops.for_samples(0) else "numpy alone"
        for shape in SHAPES:
            eeg = signals(n_trials * 14 // shape[0], shape)
            ours, whole = lambda eeg=eeg: features(eeg, Spectral()), lambda eeg=eeg: transform(eeg)
            ours()
            what = f"spectral + temporal ({how}) to a float32 transform, {shape[0]} × {shape[1]}"
            found.append((what, paired(ours, whole, rounds), "<= 4"))
        few, many = signals(n_few, SHARED), signals(n_few * 20, SHARED)
        check(few[:20])
        for name, theirs, limit in (
            ("extract_features", by_extractor, ">= 150"),
            ("its functions alone", by_functions, ">= 50"),
        ):
            ratio = paired(
                lambda theirs=theirs: theirs(few), lambda: features(many, SHARED_SPECTRAL), rounds
            )
            found.append((f"mne-features ({name}) to spectral + temporal", 20 * ratio, limit))
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer trials and rounds")
    for what, ratio, limit in rows(parser.parse_args().quick):
        print(f"{what}: {ratio:.2f} (limit {limit})")


if __name__ == "__main__":
    main()
