"""What a batch of images or captions becomes before the model, in two steps.

``stage`` runs on the CPU (in a thread, while a GPU computes with the batch before), ``arrive`` on
the model's device. The pixels are the same to the bit on every way.
"""

from __future__ import annotations

import contextlib
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from eegstore_plugins import clip_resize
from eegstore_plugins.clip_files import Side
from eegstore_plugins.clip_pixels import CHANNELS, LEVELS, Shape, Transform, n_threads

# The model's argument names and their tensors.
Inputs = Mapping[str, Any]
Images = Sequence[NDArray[np.uint8]]
Staged = TypeVar("Staged")

# Of fewer images of one shape, each would cost the device more in launches than Pillow costs.
MIN_ALIKE: Final = 8
# Threads that copy a batch: more would wait for Python's lock rather than for memory.
COPIERS: Final = 4


class Part(NamedTuple):
    """Images of one shape: their rows in the batch, and a tensor of uint8, (image, y, x, 3)."""

    rows: list[int]
    pixels: Any
    is_resized: bool


@dataclass(frozen=True)
class ToTensors:
    """Captions, or images that only transformers' processor can prepare."""

    model: Any
    made: Callable[[Sequence[Any]], Inputs]

    def stage(self, items: Sequence[Any]) -> Inputs:
        """Tensors on the CPU."""
        return self.made(items)

    def arrive(self, staged: Inputs) -> Inputs:
        """The tensors on the model's device."""
        return {name: values.to(self.model.device) for name, values in staged.items()}


@dataclass(frozen=True)
class ToValues:
    """Images for a model on the CPU."""

    model: Any
    transform: Transform

    def stage(self, images: Images) -> Any:
        """Tensor of the model's dtype, (image, channel, y, x)."""
        import torch

        return torch.from_numpy(self.transform.values(images)).to(self.model.dtype)

    def arrive(self, staged: Any) -> Inputs:
        """The model's argument."""
        return {"pixel_values": staged}


@dataclass(frozen=True)
class ToDevice:
    """Images for a model on a GPU: bytes go there, resize and normalisation happen there."""

    model: Any
    transform: Transform

    def stage(self, images: Images) -> list[Part]:
        """The images' pixels in memory that a GPU copies from without waiting."""
        alike: dict[Shape, list[int]] = defaultdict(list)
        for row, image in enumerate(images):
            alike[image.shape[0], image.shape[1]].append(row)
        as_they_are, others = [], list[int]()
        for shape, rows in alike.items():
            if len(rows) >= MIN_ALIKE and clip_resize.axes(self.transform, shape) is not None:
                as_they_are.append(rows)
            else:
                others += rows
        parts = [self._part(rows, [images[row] for row in rows]) for rows in as_they_are]
        if others:
            with ThreadPoolExecutor(n_threads()) as pool:
                resized = pool.map(self.transform.pixels, [images[row] for row in others])
                parts.append(self._part(others, list(resized), is_resized=True))
        return parts

    def _part(self, rows: list[int], images: Images, *, is_resized: bool = False) -> Part:
        import torch

        shape, is_pinned = (len(rows), *images[0].shape), bool(self.model.device.type == "cuda")
        made = torch.empty(shape, dtype=torch.uint8, pin_memory=is_pinned)
        array, step = made.numpy(), -(-len(rows) // COPIERS)

        def copy(start: int) -> None:
            np.stack(images[start : start + step], out=array[start : start + step])

        with ThreadPoolExecutor(COPIERS) as pool:
            list(pool.map(copy, range(0, len(rows), step)))
        return Part(rows, made, is_resized)

    def arrive(self, staged: list[Part]) -> Inputs:
        """The model's argument, each image in its row."""
        import torch

        device, dtype = self.model.device, self.model.dtype
        made = torch.empty(
            (sum(len(part.rows) for part in staged), CHANNELS, *self.transform.crop),
            dtype=dtype,
            device=device,
        )
        table, offset = _table_on(self.transform, device, dtype)
        for part in staged:
            rows = torch.tensor(part.rows).to(device, non_blocking=True)
            made[rows] = table[self._levels(part) + offset]
        return {"pixel_values": made}

    def _levels(self, part: Part) -> Any:
        """Tensor of int32, (image, channel, y, x): a part's levels, resized on the device."""
        device = self.model.device
        pixels = part.pixels.to(device, non_blocking=True)
        if part.is_resized:
            return pixels.permute(0, 3, 1, 2).int()
        shape = tuple(part.pixels.shape[1:3])
        with _fast_products():
            return clip_resize.resized(pixels, *_axes_on(self.transform, shape, device))


@contextlib.contextmanager
def _fast_products() -> Iterator[None]:
    """Let products of float32 be of TF32, which holds what a resize multiplies."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


# Kept, because a copy from memory that is not pinned would wait for the batch before.
@functools.lru_cache(maxsize=8)
def _table_on(transform: Transform, device: Any, dtype: Any) -> tuple[Any, Any]:
    """The transform's table, flat, and where each channel starts in it, as tensors."""
    import torch

    table = torch.from_numpy(transform.table).to(device, dtype).flatten()
    offset = torch.arange(CHANNELS, dtype=torch.int32, device=device).view(-1, 1, 1) * LEVELS
    return table, offset


@functools.lru_cache(maxsize=32)
def _axes_on(transform: Transform, shape: Shape, device: Any) -> list[Any]:
    import torch

    return [torch.from_numpy(one).to(device) for one in clip_resize.axes(transform, shape) or ()]


def _by_processor(model: Any, processor: Any) -> Callable[[Images], Inputs]:
    def made(images: Images) -> Inputs:
        # Stated, because an image of 1, 3 or 4 rows would be taken for one with channels first.
        given: Inputs = processor(
            images=images, input_data_format="channels_last", return_tensors="pt"
        )
        return {name: values.to(model.dtype) for name, values in given.items()}

    return made


def _by_tokenizer(model: Any, tokenizer: Any) -> Callable[[Sequence[str]], Inputs]:
    def made(captions: Sequence[str]) -> Inputs:
        # One length for all, so that a row does not depend on its neighbours; SigLIP demands it.
        given: Inputs = tokenizer(
            captions,
            padding="max_length",
            truncation=True,
            max_length=model.config.text_config.max_position_embeddings,
            return_token_type_ids=False,
            return_tensors="pt",
        )
        return given

    return made


def preparation(
    side: Side, model: Any, processor: Any, transform: Transform | None
) -> ToTensors | ToValues | ToDevice:
    """How batches come to a model: by a transform where there is one, else by the processor."""
    if side == "text":
        return ToTensors(model, _by_tokenizer(model, processor))
    if transform is None:
        return ToTensors(model, _by_processor(model, processor))
    return (ToValues if model.device.type == "cpu" else ToDevice)(model, transform)


def in_order(
    stage: Callable[[Sequence[Any]], Staged], batches: Sequence[Sequence[Any]], *, ahead: bool
) -> Iterator[Staged]:
    """Each batch staged; ``ahead``: in a thread, while the caller computes with the one before.

    On the CPU this gains nothing: both would share the same processors.
    """
    if not ahead:
        yield from map(stage, batches)
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming: Future[Staged] = pool.submit(stage, batches[0])
        for batch in batches[1:]:
            current, coming = coming, pool.submit(stage, batch)
            yield current.result()
        yield coming.result()
