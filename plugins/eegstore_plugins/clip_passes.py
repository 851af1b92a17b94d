"""A model's forward passes; on a GPU those of whole batches are recorded once, and then replayed.

A recorded pass is a CUDA graph (CUDA C++ Programming Guide, CUDA Graphs). Step by step, a pass is
hundreds of launches, for each of which Python's lock is asked for. While other threads read images
that can take longer than the pass itself. The embeddings are the same to the bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from eegstore_plugins.clip_files import Side
from eegstore_plugins.clip_inputs import Inputs

FEATURES: Final[dict[Side, str]] = {"image": "get_image_features", "text": "get_text_features"}
PIXELS: Final = "pixel_values"

Forward = Callable[[Inputs], Any]


def embeddings(model: Any, side: Side, inputs: Inputs) -> Any:
    """Tensor of float32, (row, feature): a batch through the model, in the model's own scale."""
    output = getattr(model, FEATURES[side])(**inputs)
    return getattr(output, "pooler_output", output).float()


@functools.lru_cache(maxsize=4)
def passes(model: Any, side: Side, batch_size: int) -> Forward:
    """What makes :func:`embeddings` of a batch; kept, because of what it has recorded."""
    forward = functools.partial(embeddings, model, side)
    is_recorded = side == "image" and model.device.type == "cuda"
    return Replayed(forward, batch_size) if is_recorded else forward


class Replayed:
    """Passes of which those over batches of one size are replayed from the second on.

    A model that waits for the GPU in mid-pass cannot be recorded, and one that leaves no memory for
    it neither: its passes stay as they are.
    """

    def __init__(self, forward: Forward, batch_size: int) -> None:
        self._forward, self._batch_size = forward, batch_size
        self._recording: Recording | None = None

    def __call__(self, inputs: Inputs) -> Any:
        if set(inputs) != {PIXELS} or len(inputs[PIXELS]) != self._batch_size:
            return self._forward(inputs)
        if self._recording is not None:
            return self._recording.replayed(inputs[PIXELS])
        made = self._forward(inputs)
        try:
            self._recording = Recording(self._forward, inputs[PIXELS])
        except RuntimeError:
            self._batch_size = 0
        return made


class Recording:
    """A pass as one launch, over values of one shape and type: (row, channel, y, x)."""

    def __init__(self, forward: Forward, values: Any) -> None:
        import torch

        self._values = values.clone()
        self._graph: Any = torch.cuda.CUDAGraph()
        # By default no other thread might ask the GPU for memory meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._made = forward({PIXELS: self._values})

    def replayed(self, values: Any) -> Any:
        """Tensor of float32, (row, feature)."""
        self._values.copy_(values)
        self._graph.replay()
        return self._made.clone()
