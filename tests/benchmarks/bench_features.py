"""What the features of channels cost next to a Fourier transform, and next to mne-features.

    python tests/benchmarks/bench_features.py [--quick]

All on one core, in turn, in seconds of the processor; each figure is the median of paired ratios.
``spectral`` and ``temporal`` get blocks as a build gives them. The transform is scipy's in float32,
over the same blocks. mne-features computes those of the features whose values it shares (compared
here first), from float64, by its functions themselves and by its ``extract_features``.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

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
SHARED_SPECTRAL = Spectral(window="boxcar")
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
    "pow_freq_bands",
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
    times = np.arange(eeg.shape[-1]) / SFREQ
    return [
        [extract(Block({"eeg": part}, 0, len(part), sfreq=SFREQ, times=times))
         for extract in (spectral, Temporal())]
        for part in blocks(eeg)
    ]  # fmt: skip


def transform(eeg: Any) -> None:
    """scipy's float32 transform, block by block."""
    for part in blocks(eeg):
        scipy.fft.rfft(part, workers=1)


def band_powers(trial: Any, normalize: bool) -> Any:
    """Powers of all bands, (channel, band), relative to those of all of them together if so."""
    whole = np.array([[EDGES.min(), EDGES.max()]])
    edges = [band.reshape(1, 2) for band in EDGES]
    powers = [
        mne_features.compute_pow_freq_bands(SFREQ, trial, one, normalize=False, psd_method="fft")
        for one in [*edges, whole][: len(edges) + normalize]
    ]
    return np.stack(powers[: len(edges)], -1) / (powers[-1][:, np.newaxis] if normalize else 1)


def by_functions(eeg: Any) -> Any:
    """The shared features, float64 (trial, channel, feature), trial by trial."""
    return np.array(
        [
            np.concatenate(
                [band_powers(trial, False), band_powers(trial, True)]
                + [compute(trial)[:, np.newaxis] for compute in OF_TEMPORAL.values()],
                axis=-1,
            )
            for trial in eeg.astype(np.float64)
        ]
    )


def by_extractor(eeg: Any) -> Any:
    """The shared features but for relative powers, by mne-features' own loop."""
    edges = {band: list(one) for band, one in BANDS_HZ.items()}
    params = {"freq_bands": edges, "psd_method": "fft", "normalize": False}
    params = {f"pow_freq_bands__{name}": value for name, value in params.items()}
    return extract_features(eeg.astype(np.float64), SFREQ, NAMES, params)


def check(eeg: Any) -> None:
    """Compare the shared features' values."""
    ((of_spectral, of_temporal),) = features(eeg, SHARED_SPECTRAL)
    at = [list(FEATURES).index(name) for name in OF_TEMPORAL]
    ours = np.concatenate([of_spectral[..., :10], of_temporal[..., at]], axis=-1)
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
        check(few)
        for name, theirs in {"functions": by_functions, "extract_features": by_extractor}.items():
            ratio = paired(
                lambda theirs=theirs: theirs(few), lambda: features(many, SHARED_SPECTRAL), rounds
            )
            found.append((f"mne-features ({name}) to spectral + temporal", 20 * ratio, ">= 150"))
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer trials and rounds")
    for what, ratio, limit in rows(parser.parse_args().quick):
        print(f"{what}: {ratio:.2f} (limit {limit})")


if __name__ == "__main__":
    main()
