"""Refuses a model's folder whose files are missing, damaged, or ask for more than weights."""

from __future__ import annotations

import functools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from eegstore import InputError
from eegstore_plugins.clip_files import INDEX, Checkpoint, Side, read_json

# One of these sets must be there: without its vocabulary transformers makes an empty tokenizer.
NEEDED: Final[dict[Side, tuple[frozenset[str], ...]]] = {
    "image": (frozenset({"preprocessor_config.json"}), frozenset({"processor_config.json"})),
    "text": (
        frozenset({"tokenizer.json"}),
        frozenset({"vocab.json", "merges.txt"}),
        frozenset({"spiece.model"}),
    ),
}
SETTINGS: Final[dict[Side, frozenset[str]]] = {
    "image": frozenset({"config.json", "preprocessor_config.json", "processor_config.json"}),
    "text": frozenset({"config.json", "tokenizer_config.json"}),
}
REFUSED: Final = {
    "auto_map": "asks for code from the model's folder, which is never run; name a model that"
    " transformers has the code of",
    "transformers_weights": "asks for weights of another name; call them model.safetensors and"
    " remove the key",
}
ADAPTER: Final = "adapter_config.json"
LENGTH_BYTES: Final = 8
MAX_HEADER_BYTES: Final = 1 << 24
EXPONENT: Final = {
    "F64": ("<u8", 0x7FF0000000000000),
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}


class Tensor(NamedTuple):
    """A tensor of a safetensors file; its bytes are counted from the end of the header."""

    start: int
    stop: int
    dtype: str
    name: str


def check(checkpoint: Checkpoint, side: Side) -> None:
    """Refuse a model that a side's embeddings cannot be had from, or would not be only its own.

    Raises
    ------
    InputError
        Names the file, and what to do.
    """
    _check_presence(checkpoint, side)
    _check_settings(checkpoint, side)
    _check_shards(checkpoint)
    _check_weights(checkpoint)


def _refusal(checkpoint: Checkpoint, problem: str) -> InputError:
    return InputError(f"model {checkpoint.model!r}: {problem}")


def _check_presence(checkpoint: Checkpoint, side: Side) -> None:
    if "config.json" not in checkpoint.names:
        raise _refusal(
            checkpoint, "config.json is missing; name a folder as save_pretrained writes it"
        )
    if not checkpoint.weights:
        raise _refusal(
            checkpoint,
            "no model.safetensors (pickled weights such as pytorch_model.bin are never loaded);"
            " name a revision that has it, or convert the model with save_pretrained",
        )
    if not any(needed <= checkpoint.names for needed in NEEDED[side]):
        wanted = " or ".join(" with ".join(sorted(needed)) for needed in NEEDED[side])
        part = {"image": "image processor", "text": "tokenizer"}[side]
        raise _refusal(
            checkpoint,
            f"the {part}'s files are missing, expected {wanted}; save the {part} into the folder"
            " with save_pretrained",
        )


def _check_settings(checkpoint: Checkpoint, side: Side) -> None:
    """Refuse what would make the model other than its weights and transformers' own code."""
    if (checkpoint.folder / ADAPTER).exists():
        raise _refusal(
            checkpoint,
            f"has {ADAPTER}, and adapters are not applied; merge it into the weights"
            " (merge_and_unload) and save the model",
        )
    for name in sorted(SETTINGS[side] & checkpoint.names):
        settings = read_json(checkpoint, name)
        parts = [settings, *(part for part in settings.values() if isinstance(part, dict))]
        for key, reason in REFUSED.items():
            if any(part.get(key) for part in parts):
                raise _refusal(checkpoint, f"{name} has {key}: it {reason}")


def _check_shards(checkpoint: Checkpoint) -> None:
    """Refuse an index that names other files than the shards that are there."""
    there = {path.name for path in checkpoint.weights}
    if "model.safetensors" in there:
        return
    if INDEX not in checkpoint.names:
        raise _refusal(checkpoint, f"{INDEX} is missing beside the shards; fetch it too")
    weight_map = read_json(checkpoint, INDEX).get("weight_map")
    named = set(map(str, weight_map.values())) if isinstance(weight_map, dict) else set()
    odd = sorted(named ^ there)
    if odd:
        problem = "is not there" if odd[0] in named else "is not in the index"
        raise _refusal(
            checkpoint,
            f"{INDEX} and the shards model-*-of-*.safetensors differ: {odd[0]!r} {problem};"
            " fetch the model again",
        )


@functools.lru_cache(maxsize=16)
def _check_weights(checkpoint: Checkpoint) -> None:
    """Refuse safetensors files that are not as their headers say, or hold NaN or Inf.

    The format is https://huggingface.co/docs/safetensors/index#format.
    """
    for path in checkpoint.weights:
        problem = _problem(path)
        if problem:
            raise _refusal(checkpoint, f"{path.name} {problem}; fetch it again")


def _problem(path: Path) -> str:
    """What is wrong with a safetensors file; empty where nothing is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = file.read(min(length, MAX_HEADER_BYTES))
    if not 0 < length <= min(size - LENGTH_BYTES, MAX_HEADER_BYTES):
        return (
            f"has {size} bytes, of which the first {LENGTH_BYTES} promise a header of {length}; it"
            " is truncated or no safetensors file"
        )
    try:
        tensors = _tensors(json.loads(header))
    except Exception as error:  # a damaged header fails in any of many ways
        reason = f"{type(error).__name__}: {error}"
        return f"has a header that is no list of tensors ({reason:.80})"
    start = LENGTH_BYTES + length
    expected = start + tensors[-1].stop
    if size != expected:
        came = "truncated" if size < expected else "followed by something else"
        return f"has {size} bytes, {expected} by its header; it is {came}"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        finite = pool.map(functools.partial(_is_finite, path, start), tensors)
        odd = [tensor.name for tensor, sound in zip(tensors, finite, strict=True) if not sound]
    return f"has NaN or Inf among the weights {odd[0]!r:.80}" if odd else ""


def _tensors(header: dict[str, Any]) -> list[Tensor]:
    """The tensors in the order of their bytes, which leave no gap."""
    tensors = []
    for name, entry in header.items():
        if name != "__metadata__":
            start, stop = entry["data_offsets"]
            tensors.append(Tensor(int(start), int(stop), str(entry["dtype"]), name))
    if not tensors:
        raise ValueError("it has none")
    tensors.sort()
    stops = [0, *(tensor.stop for tensor in tensors)]
    if stops[:-1] != [tensor.start for tensor in tensors] or stops != sorted(stops):
        raise ValueError("its tensors leave gaps or overlap")
    return tensors


def _is_finite(path: Path, start: int, tensor: Tensor) -> bool:
    """Whether no value of a tensor has all bits of its exponent set (IEEE 754)."""
    if tensor.dtype not in EXPONENT:
        return True
    kind, mask = EXPONENT[tensor.dtype]
    count = (tensor.stop - tensor.start) // np.dtype(kind).itemsize
    bits = np.fromfile(path, kind, count, offset=start + tensor.start)
    bits &= bits.dtype.type(mask)
    return not (bits == mask).any()
