"""Pillow's bicubic resize as two matrix products, exact to the bit, on whatever device torch has.

Pillow resizes 8-bit images by Resample.c: along x, then along y, with coefficients of 22 bits, the
sums rounded to a level after each. Here a coefficient is split into two halves of at most 2**11,
which TF32 holds exactly, as it does levels. Their products sum to less than 2**24, which float32
holds exactly in any order of the sum.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore_plugins.clip_pixels import CHANNELS, LEVELS, Shape, Transform, overlap

BICUBIC: Final = 3
SUPPORT: Final = 2.0
A: Final = -0.5
PRECISION_BITS: Final = 22
HALF_BITS: Final = 12
EXACT: Final = 1 << 24
EXACT_TF32: Final = 1 << 11
# Of larger images most bytes would travel for nothing, and the matrices grow with the side.
MAX_SIDE: Final = 1024
LEVELS_COMPARED: Final = 512


def _bicubic(x: float) -> float:
    """The filter, in the order of Pillow's operations (Keys 1981, with a = -0.5)."""
    x = abs(x)
    if x < 1:
        return ((A + 2.0) * x - (A + 3.0)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * A if x < SUPPORT else 0.0


def coefficients(length: int, resized: int, rows: slice) -> NDArray[np.int32]:
    """int32, (row, length): what some outputs take of each input, in units of 2**-22."""
    chosen = range(resized)[rows]
    made = np.zeros((len(chosen), length), dtype=np.int32)
    scale = length / resized
    stretch = max(scale, 1.0)
    reach, per_step = SUPPORT * stretch, 1.0 / stretch
    for row, place in enumerate(chosen):
        centre = (place + 0.5) * scale
        start = max(int(centre - reach + 0.5), 0)
        stop = min(int(centre + reach + 0.5), length)
        weights = [_bicubic((x - centre + 0.5) * per_step) for x in range(start, stop)]
        total = functools.reduce(float.__add__, weights, 0.0)  # sum() compensates, C does not
        made[row, start:stop] = [_nearest(one / total * (1 << PRECISION_BITS)) for one in weights]
    return made


def _nearest(value: float) -> int:
    return math.trunc(value - 0.5 if value < 0 else value + 0.5)


@functools.lru_cache(maxsize=64)
def halves(length: int, resized: int, wanted: int) -> NDArray[np.float32] | None:
    """float32, (half, wanted, length): an axis' resize and centre crop; None where not exact."""
    made = np.zeros((wanted, length), dtype=np.int32)
    read, write = overlap(resized, wanted)
    made[write] = coefficients(length, resized, read)
    lower = ((made + (1 << HALF_BITS - 1)) & ((1 << HALF_BITS) - 1)) - (1 << HALF_BITS - 1)
    split = np.stack([(made - lower) >> HALF_BITS, lower]).astype(np.float32)
    sizes = np.abs(split)
    largest = sizes.sum(axis=-1, dtype=np.float64).max() * (LEVELS - 1)
    return split if sizes.max() <= EXACT_TF32 and largest < EXACT else None


@functools.lru_cache(maxsize=64)
def axes(transform: Transform, shape: Shape) -> list[NDArray[np.float32]] | None:
    """The halves for y and x of images of a shape; None where Pillow itself must resize them."""
    if transform.resample != BICUBIC or max(shape) > MAX_SIDE:
        return None
    wanted = zip(shape, transform.size(*shape), transform.crop, strict=True)
    made = [one for one in (halves(*lengths) for lengths in wanted) if one is not None]
    return made if len(made) == len(shape) and _is_pillows(transform, shape, made) else None


def _is_pillows(transform: Transform, shape: Shape, along: list[NDArray[np.float32]]) -> bool:
    """Whether noise of the two extreme levels comes out as from Pillow, bit by bit.

    Pillow 13 resizes tall images along y first, and a compiler may round a coefficient otherwise.
    Of ten levels one or more come out otherwise then: few levels, of a small crop, may all agree.
    """
    import torch

    rng = np.random.default_rng(0)
    n_levels = CHANNELS * math.prod(map(min, transform.size(*shape), transform.crop))
    for _ in range(-(-LEVELS_COMPARED // n_levels)):
        noise = rng.integers(0, 2, (*shape, CHANNELS), dtype=np.uint8) * 255
        made = resized(torch.from_numpy(noise)[None], *map(torch.from_numpy, along))
        if not np.array_equal(made[0].permute(1, 2, 0).numpy(), transform.pixels(noise)):
            return False
    return True


def resized(pixels: Any, along_y: Any, along_x: Any) -> Any:
    """Resize and crop a batch of images of one shape.

    Parameters
    ----------
    pixels
        Tensor of uint8, (image, y, x, 3).
    along_y, along_x
        Tensors of :func:`halves` on the same device.

    Returns
    -------
    Tensor of int32, (image, 3, y, x), levels from 0 to 255.
    """
    import torch

    # Contiguous, because a product would copy them first.
    levels = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    upper, lower = (levels @ half.T for half in along_x)
    levels = _rounded(upper, lower).float()
    upper, lower = (half @ levels for half in along_y)
    return _rounded(upper, lower)


def _rounded(upper: Any, lower: Any) -> Any:
    """Tensor of int32: the sums as levels, rounded and clipped as Pillow does it."""
    # In place where it can be: on a device each step costs a pass over all sums.
    sums = lower.int().add_(upper.int(), alpha=1 << HALF_BITS).add_(1 << PRECISION_BITS - 1)
    return sums.bitwise_right_shift_(PRECISION_BITS).clamp_(0, LEVELS - 1)
