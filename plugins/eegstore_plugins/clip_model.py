"""Loads a CLIP or SigLIP model with transformers: safetensors alone, no code from its folder."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator
from typing import Any, Literal

from eegstore import InputError
from eegstore_plugins.clip_files import Checkpoint, Side
from eegstore_plugins.clip_hub import quiet_hub, summary
from eegstore_plugins.clip_pixels import Transform, transform_of

Dtype = Literal["float32", "bfloat16", "float16"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars, log lines and warnings of transformers off the terminal."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    with quiet_hub():
        shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if shown:
                logging.enable_progress_bar()


@contextlib.contextmanager
def _loading(checkpoint: Checkpoint, part: str) -> Iterator[None]:
    try:
        with quiet():
            yield
    except Exception as error:  # anything from KeyError to SafetensorError, as the files have it
        raise InputError(
            f"model {checkpoint.model!r}: transformers cannot load the {part} ({summary(error)});"
            " restore the files, or install the package they need (code in a model's folder is"
            " never run)"
        ) from error


@functools.lru_cache(maxsize=4)
def load_model(checkpoint: Checkpoint, dtype: Dtype, device: str) -> Any:
    """The transformers model, for inference; a worker's extractors share one.

    Raises
    ------
    InputError
        Where the files cannot be loaded, or leave parameters without a value.
    """
    import torch
    from transformers import AutoModel

    with _loading(checkpoint, "weights"):
        model, report = AutoModel.from_pretrained(
            checkpoint.folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
        model = model.eval().requires_grad_(False).to(device)
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"model {checkpoint.model!r}: the weights lack {len(missing)} parameters of the model"
            f" ({missing[0]}, ...), which would be random; restore the safetensors file"
        )
    return model


@functools.lru_cache(maxsize=8)
def load_processor(checkpoint: Checkpoint, side: Side) -> Any:
    """The model's image processor or tokenizer.

    Raises
    ------
    InputError
        Where the files cannot be loaded.
    """
    transformers: Any = importlib.import_module("transformers")
    options = {"trust_remote_code": False, "local_files_only": True}
    if side == "text":
        with _loading(checkpoint, "tokenizer"):
            return transformers.AutoTokenizer.from_pretrained(checkpoint.folder, **options)
    with _loading(checkpoint, "image processor"):
        # The default backend depends on whether torchvision is installed, and so do the pixels.
        processor = transformers.AutoImageProcessor.from_pretrained(
            checkpoint.folder, backend="pil", **options
        )
        if processor.backend != "pil":
            raise ValueError(f"{type(processor).__name__} has no PIL backend")
    return processor


@functools.lru_cache(maxsize=8)
def load_transform(checkpoint: Checkpoint) -> Transform | None:
    """The image processor's work without it; None where only the processor can do it.

    Raises
    ------
    InputError
        Where the files cannot be loaded.
    """
    processor = load_processor(checkpoint, "image")
    with _loading(checkpoint, "image processor"):
        return transform_of(processor)
