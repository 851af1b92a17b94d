"""Embeddings of images and captions by CLIP (Radford et al. 2021) or SigLIP (Zhai et al. 2023)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, InputError, hookimpl
from eegstore_plugins import clip_checks, clip_files, clip_model
from eegstore_plugins.clip_files import Checkpoint, Side
from eegstore_plugins.clip_model import Device, Dtype

# What a processor makes of a batch: the model's argument names and their tensors.
Inputs = Mapping[str, Any]

FEATURES: Final[dict[Side, str]] = {"image": "get_image_features", "text": "get_text_features"}


def _image_inputs(model: Any, processor: Any, images: Sequence[NDArray[np.uint8]]) -> Inputs:
    # Stated, because an image of 1, 3 or 4 rows would be taken for one with channels first.
    made: Inputs = processor(images=images, input_data_format="channels_last", return_tensors="pt")
    return {name: values.to(model.dtype) for name, values in made.items()}


def _text_inputs(model: Any, tokenizer: Any, captions: Sequence[str]) -> Inputs:
    # One length for all, so that a row does not depend on its neighbours; SigLIP demands it.
    made: Inputs = tokenizer(
        captions,
        padding="max_length",
        truncation=True,
        max_length=model.config.text_config.max_position_embeddings,
        return_token_type_ids=False,
        return_tensors="pt",
    )
    return made


INPUTS: Final[dict[Side, Callable[[Any, Any, Sequence[Any]], Inputs]]] = {
    "image": _image_inputs,
    "text": _text_inputs,
}


def _prefetched(
    prepare: Callable[[Sequence[Any]], Inputs], batches: Sequence[Sequence[Any]]
) -> Iterator[Inputs]:
    """Prepare each batch in a thread while the caller computes with the one before it."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead: Future[Inputs] = pool.submit(prepare, batches[0])
        for batch in batches[1:]:
            current, ahead = ahead, pool.submit(prepare, batch)
            yield current.result()
        yield ahead.result()


def _features(model: Any, side: Side, inputs: Inputs) -> NDArray[np.float32]:
    """float32, (row, feature): one batch through the model, in the model's own scale."""
    import torch

    # TF32 convolutions and timed choices of algorithm would differ between GPUs and runs.
    exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), exact:
        on_device = {name: values.to(model.device) for name, values in inputs.items()}
        output = getattr(model, FEATURES[side])(**on_device)
        values = output if isinstance(output, torch.Tensor) else output.pooler_output
        embedded: NDArray[np.float32] = values.float().cpu().numpy()
    return embedded


@dataclass(frozen=True)
class ClipExtractor:
    """What the extractors of images and of captions share.

    The model comes from a folder or the Hugging Face Hub. Only safetensors weights are read and
    no code of the model's folder runs. A hub model that is in this machine's cache is used as it
    is; with ``revision`` a recipe names the one commit that it means.
    """

    model: str = field(
        metadata={
            "description": "Hub id (owner/name) or folder of a CLIP or SigLIP model.",
            "min_length": 1,
            "json_schema_extra": {"format": "path"},
        }
    )
    revision: str | None = field(
        default=None,
        metadata={"description": "Commit, tag or branch of a hub model.", "min_length": 1},
    )
    dtype: Dtype = field(
        default="float32",
        metadata={"description": "Precision of weights and computation; embeddings are float32."},
    )
    batch_size: int = field(
        default=64, metadata={"description": "Rows that pass through the model at once.", "gt": 0}
    )
    device: Device = field(
        default="auto",
        metadata={"description": "Where the model runs; auto takes a CUDA device if there is one."},
    )

    version: ClassVar[str] = "1"
    table: ClassVar[Literal["trials", "stimuli"]] = "stimuli"
    side: ClassVar[Side]

    @functools.cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's files, looked up and checked once."""
        found = clip_files.locate(self.model, self.revision, self.side)
        clip_checks.check(found, self.side)
        return found

    def fingerprint(self) -> str:
        """Digest of weights, configs, vocabulary and commit."""
        return clip_files.fingerprint(self.checkpoint, self.side)

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        dimension = clip_files.dimension(self.checkpoint, self.side)
        return ColumnSpec(
            dims=("feature",),
            shape=(dimension,),
            dtype="float32",
            units="1",
            attrs={
                "model": self.checkpoint.model,
                "revision": self.checkpoint.revision,
                "weights_sha256": clip_files.weights_digest(self.checkpoint),
                "processor": clip_files.processor(self.checkpoint, self.side),
                "compute_dtype": self.dtype,
                "dimension": dimension,
                "normalised": False,
            },
        )

    def prepare(self) -> None:
        self._load()

    def _load(self) -> tuple[Any, Any]:
        clip_model.fix_threads()
        device = clip_model.choose_device(self.device)
        model = clip_model.load_model(self.checkpoint, self.dtype, device)
        return model, clip_model.load_processor(self.checkpoint, self.side)

    def _embed(self, items: Sequence[Any]) -> NDArray[np.float32]:
        """float32, (row, feature): the embedding of each image or caption."""
        model, processor = self._load()
        prepare = functools.partial(INPUTS[self.side], model, processor)
        size = self.batch_size
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        with clip_model.quiet():
            ready = _prefetched(prepare, batches)
            return np.concatenate([_features(model, self.side, inputs) for inputs in ready])


@dataclass(frozen=True)
class ClipImage(ClipExtractor):
    """Embed each image: float32, (feature,), projected but not normalised.

    Images pass the transform of evaluation that the model's own files describe (resize, centre
    crop, normalise), done by Pillow; there is no random crop.
    """

    name: ClassVar[str] = "clip-image"
    reads: ClassVar[tuple[str, ...]] = ("image",)
    side: ClassVar[Side] = "image"

    def __call__(self, block: Block) -> NDArray[np.float32]:
        return self._embed(block["image"])


@dataclass(frozen=True)
class ClipText(ClipExtractor):
    """Embed each caption: float32, (feature,), projected but not normalised.

    Captions are padded and cut to the longest input that the model takes (CLIP 77 tokens, SigLIP
    64). Equal captions are computed once.
    """

    name: ClassVar[str] = "clip-text"
    reads: ClassVar[tuple[str, ...]] = ("caption",)
    side: ClassVar[Side] = "text"

    def __call__(self, block: Block) -> NDArray[np.float32]:
        captions = [str(caption) for caption in block["caption"]]
        blank = sum(not caption.strip() for caption in captions)
        if blank:
            raise InputError(
                f"clip-text: {blank} of {len(captions)} captions in rows {block.start} to"
                f" {block.stop - 1} of the stimuli are empty; set caption in [stimuli]"
            )
        row_of = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
        return self._embed(list(row_of))[[row_of[caption] for caption in captions]]


@hookimpl
def eegstore_extractors() -> list[type[ClipExtractor]]:
    """The extractors of this module."""
    return [ClipImage, ClipText]
