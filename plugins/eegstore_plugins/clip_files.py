"""Finds a CLIP or SigLIP model's files and reads what they say, without torch or transformers."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final, Literal

from eegstore import InputError, digest_bytes, digest_files
from eegstore_plugins.clip_hub import snapshot

Side = Literal["image", "text"]

PACKAGES: Final = ("torch", "transformers", "safetensors", "huggingface_hub")
WEIGHTS: Final = ("model.safetensors", "model-*-of-*.safetensors")
INDEX: Final = "model.safetensors.index.json"
MODEL_FILES: Final = ("config.json", INDEX)
SIDE_FILES: Final[dict[Side, tuple[str, ...]]] = {
    "image": ("preprocessor_config.json", "processor_config.json"),
    "text": (
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
        "special_tokens_map.json",
        "added_tokens.json",
        "spiece.model",
    ),
}
FILES: Final = (*WEIGHTS, *MODEL_FILES, *SIDE_FILES["image"], *SIDE_FILES["text"])

MAX_JSON_BYTES: Final = 1 << 24

# model_type: side: the part of config.json, the keys to try, and what transformers takes otherwise.
DIMENSION: Final[dict[str, dict[Side, tuple[str, tuple[str, ...], int]]]] = {
    "clip": {
        "image": ("", ("projection_dim",), 512),
        "text": ("", ("projection_dim",), 512),
    },
    "siglip": {
        "image": ("vision_config", ("hidden_size",), 768),
        "text": ("text_config", ("projection_size", "hidden_size"), 768),
    },
}

TRANSFORM: Final = (
    "do_convert_rgb",
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
)


@dataclass(frozen=True)
class Checkpoint:
    """A model's files on this machine; two are equal where nothing about the files changed.

    Parameters
    ----------
    folder
        Where the files are.
    model
        The hub id, or the folder's name.
    revision
        The commit of a hub model, ``""`` for a folder.
    files
        Name, size and time of change of each file that is used, by name.
    """

    folder: Path
    model: str
    revision: str
    files: tuple[tuple[str, int, int], ...]

    @property
    def names(self) -> frozenset[str]:
        """Names of the files that are used."""
        return frozenset(name for name, _, _ in self.files)

    @property
    def weights(self) -> list[Path]:
        """The safetensors files, by name; one file wins over shards, as in transformers."""
        found = [[n for n, _, _ in self.files if fnmatch(n, pattern)] for pattern in WEIGHTS]
        return [self.folder / name for name in found[0] or found[1]]


def _checkpoint(folder: Path, model: str, revision: str) -> Checkpoint:
    used = [
        path
        for path in sorted(folder.iterdir())
        if any(fnmatch(path.name, pattern) for pattern in FILES) and path.is_file()
    ]
    stats = [(path.name, path.stat()) for path in used]
    files = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    return Checkpoint(folder, model, revision, files)


def _has_weights(folder: Path) -> bool:
    return bool(_checkpoint(folder, "", "").weights)


def locate(model: str, revision: str | None, side: Side) -> Checkpoint:
    """The model's files on this machine, downloaded where ``model`` is a hub id not yet here.

    Raises
    ------
    InputError
        Where a package or the model is missing.
    """
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise InputError(
            f"clip-{side}: package {absent[0]!r} is not installed; run `pip install"
            " 'eegstore[clip]'`"
        )
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise InputError(
                f"model {model!r}: revision is {revision!r}, but this is a folder, which has none;"
                " remove the revision"
            )
        return _checkpoint(folder.resolve(), folder.resolve().name, "")
    if folder.is_absolute() or model.startswith(".") or model.count("/") != 1:
        raise InputError(
            f"model {model!r}: {'a file, expected a' if folder.exists() else 'no such'} folder"
            f" (relative ones start from {str(Path.cwd())!r}), and"
            " no hub id, which is written owner/name; correct it"
        )
    folder = snapshot(model, revision, list(FILES), _has_weights)
    return _checkpoint(folder, model, folder.name)


def read_json(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """One of the model's JSON files.

    Raises
    ------
    InputError
        Where it is not a JSON object.
    """
    try:
        with (checkpoint.folder / name).open("rb") as file:
            value = json.loads(file.read(MAX_JSON_BYTES))
        json.dumps(value, allow_nan=False)  # JSON has neither NaN nor Inf, Python reads both
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"model {checkpoint.model!r}: {name} is not JSON ({error}); restore it"
        ) from None
    if not isinstance(value, dict):
        raise InputError(
            f"model {checkpoint.model!r}: {name} is a JSON {type(value).__name__}, expected an"
            " object; restore it"
        )
    return value


def dimension(checkpoint: Checkpoint, side: Side) -> int:
    """Length of an embedding, as the model's config.json gives it.

    Raises
    ------
    InputError
        Where the model is of another kind than CLIP or SigLIP, or the length is no length.
    """
    config = read_json(checkpoint, "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in DIMENSION:
        raise InputError(
            f"model {checkpoint.model!r}: config.json has model_type {kind!r}, expected"
            f" {' or '.join(DIMENSION)}; name a CLIP or SigLIP model"
        )
    section, keys, default = DIMENSION[kind][side]
    part: Any = config.get(section) if section else config
    given = [part.get(key) for key in keys] if isinstance(part, dict) else []
    length = next((one for one in given if one is not None), default)
    if type(length) is not int or length < 1:
        raise InputError(
            f"model {checkpoint.model!r}: config.json has {keys[0]} {length!r}, expected a positive"
            " integer; restore the file"
        )
    return length


def processor(checkpoint: Checkpoint, side: Side) -> dict[str, Any]:
    """What becomes of an image or a caption before the model, in words for the store."""
    if side == "text":
        return {"padding": "max_length", "truncation": True}
    settings: Any
    if "preprocessor_config.json" in checkpoint.names:
        settings = read_json(checkpoint, "preprocessor_config.json")
    else:
        settings = read_json(checkpoint, "processor_config.json").get("image_processor")
    given = settings if isinstance(settings, dict) else {}
    return {"backend": "pil", **{key: given[key] for key in TRANSFORM if key in given}}


@functools.lru_cache(maxsize=16)
def weights_digest(checkpoint: Checkpoint) -> str:
    """SHA-256 over the safetensors files, by name; of a single one, the digest the Hub shows."""
    hasher = hashlib.sha256()
    for path in checkpoint.weights:
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                hasher.update(chunk)
    return hasher.hexdigest()


def fingerprint(checkpoint: Checkpoint, side: Side) -> str:
    """Digest of all that decides a side's embeddings: weights, configs, vocabulary, commit."""
    names = sorted(checkpoint.names & {*MODEL_FILES, *SIDE_FILES[side]})
    files = digest_files(checkpoint.folder / name for name in names)
    parts = [weights_digest(checkpoint), checkpoint.revision, *names, files]
    return digest_bytes("\n".join(parts).encode())
