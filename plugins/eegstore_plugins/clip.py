"""Embeddings of images and captions by CLIP (Radford et al. 2021) or SigLIP (Zhai et al. 2023)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, InputError, hookimpl
from eegstore_plugins import clip_checks, clip_files, clip_model, clip_passes
from eegstore_plugins.clip_files import Checkpoint, Side
from eegstore_plugins.clip_inputs import in_order, preparation
from eegstore_plugins.clip_model import Dtype
from eegstore_plugins.devices import Device, choose_device, fix_threads


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
    imports: ClassVar[tuple[str, ...]] = ("torch", "transformers.models.clip.modeling_clip")
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
        fix_threads()
        device = choose_device(self.device)
        model = clip_model.load_model(self.checkpoint, self.dtype, device)
        processor = clip_model.load_processor(self.checkpoint, self.side)
        transform = clip_model.load_transform(self.checkpoint) if self.side == "image" else None
        return model, preparation(self.side, model, processor, transform)

    def _embed(self, items: Sequence[Any]) -> NDArray[np.float32]:
        """float32, (row, feature): the embedding of each image or caption."""
        import torch

        model, inputs = self._load()
        size = self.batch_size
        forward = clip_passes.passes(model, self.side, size)
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        staged = in_order(inputs.stage, batches, ahead=model.device.type != "cpu")
        # TF32 convolutions and timed choices of algorithm would differ between GPUs and runs.
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        with clip_model.quiet(), torch.inference_mode(), exact:
            # They stay on the device to the end: a copy of each would wait for it.
            rows = [forward(inputs.arrive(one)) for one in staged]
            embedded: NDArray[np.float32] = torch.cat(rows).cpu().numpy()
        return embedded


@dataclass(frozen=True)
class ClipImage(ClipExtractor):
    """Embed each image: float32, (feature,), projected but not normalised.

    Images pass the transform of evaluation that the model's own files describe (resize, centre
    crop, normalise), to the bit as transformers does it with Pillow; there is no random crop.
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
def eegstore_extractors() -> list[type[ClipImage] | type[ClipText]]:
    """The extractors of this module."""
    return [ClipImage, ClipText]
