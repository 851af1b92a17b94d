"""The plugins that the package itself has, by kind and name."""

from __future__ import annotations

BUILT_IN = [
    *[("source", name) for name in ("hdf5", "mindbigdata", "mne", "npy", "synthetic")],
    *[("stimuli", name) for name in ("digits", "idx", "image-folder")],
    *[("extractor", name) for name in ("cca", "clip-image", "clip-text", "contrastive", "hog")],
    *[("extractor", name) for name in ("quality", "ridge", "spectral", "temporal")],
    *[("pairing", name) for name in ("balanced", "event", "label")],
    *[("pairing", name) for name in ("multi-stage", "mutual", "similarity")],
    *[("split", name) for name in ("block", "chronological", "concept", "published", "random")],
    *[("split", name) for name in ("session", "source", "stimulus", "subject")],
    *[("exporter", name) for name in ("hdf5", "npy")],
    *[("executor", name) for name in ("processes", "serial")],
]
