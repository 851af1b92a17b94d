"""Extractors that break one promise each; they are sound but for that."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Sound:
    """Largest absolute value of each channel: float32, (trial, channel)."""

    name: ClassVar[str] = "odd"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)

    scale: float = field(default=1.0, metadata={"description": "Factor.", "gt": 0})

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        eeg = inputs["eeg"]
        coords = {"channel": eeg.coords["channel"]}
        return ColumnSpec(("channel",), eeg.shape[:1], "float32", coords=coords, units=eeg.units)

    def __call__(self, block: Block) -> Any:
        return self.scale * np.abs(block["eeg"]).max(axis=-1)


class Raises(Sound):
    def __call__(self, block: Block) -> Any:
        raise RuntimeError("nothing works")


class Exits(Sound):
    def __call__(self, block: Block) -> Any:
        os._exit(3)


class Hangs(Sound):
    def __call__(self, block: Block) -> Any:
        time.sleep(600)


class Bomb(Sound):
    def __call__(self, block: Block) -> Any:
        return [np.empty(1 << 28, np.uint8) for _ in range(10**6)]


class Greedy(Sound):
    def __call__(self, block: Block) -> Any:
        np.ones(700 << 20, np.uint8).sum()
        return super().__call__(block)


@dataclass(frozen=True)
class TakesAnything(Sound):
    more: Any = 1


@dataclass(frozen=True)
class BadDefault(Sound):
    scale: float = field(default=0.0, metadata={"gt": 0})


@dataclass(frozen=True)
class Doubles(Sound):
    more: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "more", 2 * self.more)


class NoSpec(Sound):
    def describe(self, inputs: Mapping[str, ColumnSpec]) -> Any:
        return None


class EmptyAxis(Sound):
    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        return ColumnSpec(("channel",), (0,), "float32")


class DescribesWhatItSaw(Sound):
    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        spec = super().describe(inputs)
        names = [f"c{vars(self).get('seen', 0)}_{one}" for one in range(spec.shape[0])]
        return ColumnSpec(spec.dims, spec.shape, spec.dtype, coords={"channel": names})

    def __call__(self, block: Block) -> Any:
        vars(self)["seen"] = block.n_rows
        return super().__call__(block)


class Squeezes(Sound):
    def __call__(self, block: Block) -> Any:
        values = super().__call__(block)
        return values[0] if block.n_rows == 1 else values


class Float64(Sound):
    def __call__(self, block: Block) -> Any:
        return super().__call__(block).astype(np.float64)


class Twice(TakesAnything):
    def __call__(self, block: Block) -> Any:
        return super().__call__(block).astype(np.float64)


class CountsRows(Sound):
    def __call__(self, block: Block) -> Any:
        return super().__call__(block) * np.float32(1 + 0.01 * block.n_rows)


class NumbersRows(Sound):
    def __call__(self, block: Block) -> Any:
        rows = np.arange(block.start, block.start + block.n_rows, dtype=np.float32)
        return super().__call__(block) + rows[:, np.newaxis]


class Overwrites(Sound):
    def __call__(self, block: Block) -> Any:
        block["eeg"][:] = 0
        return super().__call__(block)


class OverwritesBelow(Sound):
    def __call__(self, block: Block) -> Any:
        values = super().__call__(block)
        block["eeg"].base[:] = 0
        return values


@dataclass(frozen=True)
class SoundOfImages(Sound):
    table: ClassVar[str] = "stimuli"
    reads: ClassVar[tuple[str, ...]] = ("image",)

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        return ColumnSpec((), (), "float32")

    def __call__(self, block: Block) -> Any:
        return np.array([image.mean() for image in block["image"]], dtype=np.float32)


class OverwritesAnImage(SoundOfImages):
    def __call__(self, block: Block) -> Any:
        values = super().__call__(block)
        block["image"][0][:] = 0
        return values


class OverwritesBelowAnImage(SoundOfImages):
    def __call__(self, block: Block) -> Any:
        values = super().__call__(block)
        block["image"][0].base[:] = 0
        return values


class Draws(Sound):
    def __call__(self, block: Block) -> Any:
        values = super().__call__(block)
        return values + np.random.default_rng().random(values.shape, dtype=np.float32)


class CountsCalls(Sound):
    def __call__(self, block: Block) -> Any:
        vars(self)["calls"] = vars(self).get("calls", 0) + 1
        return super().__call__(block) * np.float32(self.__dict__["calls"])


class DrawsAtBirth(Sound):
    def __call__(self, block: Block) -> Any:
        drawn = vars(self).setdefault("drawn", np.float32(np.random.default_rng().random()))
        return super().__call__(block) + drawn


class NaNBelowZero(Sound):
    def __call__(self, block: Block) -> Any:
        return np.where(block["eeg"][:, :, 0] < 0, np.float32("nan"), super().__call__(block))


class SpreadsNaN(Sound):
    def __call__(self, block: Block) -> Any:
        return super().__call__(block) + 0 * block["eeg"].sum()


class DividesByZero(Sound):
    def __call__(self, block: Block) -> Any:
        return super().__call__(block) / block["eeg"].std(axis=-1)


class Overflows(Sound):
    def __call__(self, block: Block) -> Any:
        return super().__call__(block) ** 5


class RefusesFlat(Sound):
    def __call__(self, block: Block) -> Any:
        if not block["eeg"].any():
            raise ValueError("flat")
        return super().__call__(block)


class RefusesPadding(Sound):
    def __call__(self, block: Block) -> Any:
        if (block.n_valid < len(block.times)).any():
            raise ValueError("padded")
        return super().__call__(block)


class SpoiledByPadding(Sound):
    def __call__(self, block: Block) -> Any:
        full = block.n_valid == len(block.times)
        return np.where(full[:, np.newaxis], super().__call__(block), np.float32("nan"))


class KnowsItsProcess(Sound):
    def __call__(self, block: Block) -> Any:
        return super().__call__(block) + np.float32(os.getpid() % 9973)


class OtherKeys(Sound):
    def fingerprint(self) -> str:
        return uuid.uuid4().hex


@dataclass(frozen=True)
class SoundFitted(Sound):
    """Deviation from the mean of the train rows."""

    def fit(self, blocks: Iterable[Block]) -> Mapping[str, Any]:
        means = [block["eeg"].mean(axis=(0, 2)) for block in blocks]
        return {"mean": np.mean(means, axis=0).astype(np.float32)}

    def restore(self, state: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_mean", state["mean"])

    def __call__(self, block: Block) -> Any:
        if not hasattr(self, "_mean"):
            raise RuntimeError("odd is not fitted: restore() was not called")
        return super().__call__(block) - self._mean


class FitsAlone(Sound):
    def fit(self, blocks: Iterable[Block]) -> Mapping[str, Any]:
        return {"n": np.array(len(list(blocks)))}


class RestoresAlone(Sound):
    def restore(self, state: Mapping[str, Any]) -> None:
        pass


class StateOfObjects(SoundFitted):
    def fit(self, blocks: Iterable[Block]) -> Mapping[str, Any]:
        return {"mean": np.array([object()])}


class StateOfAList(SoundFitted):
    def fit(self, blocks: Iterable[Block]) -> Any:
        return [np.zeros(4)]


class FitsWhatItSaw(SoundFitted):
    def fit(self, blocks: Iterable[Block]) -> Mapping[str, Any]:
        return {**super().fit(blocks), "seen": np.array(vars(self).get("seen", 0))}

    def __call__(self, block: Block) -> Any:
        vars(self)["seen"] = vars(self).get("seen", 0) + block.n_rows
        return super().__call__(block)


class FitsOnce(SoundFitted):
    """Takes the blocks for an iterator, of which it leaves half to the next."""

    def fit(self, blocks: Iterable[Block]) -> Mapping[str, Any]:
        state = super().fit(blocks)
        vars(self)["fits"] = vars(self).get("fits", 0) + 1
        return state if self.__dict__["fits"] == 1 else {"mean": state["mean"] * 2}


class RestoresOther(SoundFitted):
    def restore(self, state: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_mean", state["median"])


class CallsUnfitted(SoundFitted):
    def __call__(self, block: Block) -> Any:
        return Sound.__call__(self, block) - getattr(self, "_mean", np.float32(0))


class FailsUnclearly(SoundFitted):
    def __call__(self, block: Block) -> Any:
        return Sound.__call__(self, block) - self._mean


def local() -> Any:
    """An extractor of a class that no other process can import."""

    class Local(Sound):
        pass

    return Local()


BROKEN: dict[str, list[Any]] = {
    "answers": [Raises(), Exits()],
    "bounded-memory": [Bomb(), Greedy()],
    "options-checked": [TakesAnything()],
    "defaults-accepted": [BadDefault(scale=1.0)],
    "options-travel": [Doubles()],
    "describes": [NoSpec(), EmptyAxis()],
    "describe-is-pure": [DescribesWhatItSaw()],
    "described-shape": [Squeezes(), Float64()],
    "rows-alone": [CountsRows()],
    "rows-permuted": [NumbersRows()],
    "input-untouched": [
        Overwrites(), OverwritesBelow(), OverwritesAnImage(), OverwritesBelowAnImage(),
    ],
    "deterministic": [Draws(), CountsCalls(), DrawsAtBirth()],
    "finite": [NaNBelowZero()],
    "nan-stays": [SpreadsNaN()],
    "extremes-survive": [DividesByZero(), Overflows(), RefusesFlat()],
    "padding-accepted": [RefusesPadding(), SpoiledByPadding()],
    "spawned-process": [KnowsItsProcess(), local()],
    "column-key": [OtherKeys()],
    "fit-and-restore": [FitsAlone(), RestoresAlone()],
    "state-is-arrays": [StateOfObjects(), StateOfAList()],
    "fit-repeats": [FitsWhatItSaw(), FitsOnce()],
    "state-restored": [RestoresOther()],
    "unfitted-refused": [CallsUnfitted(), FailsUnclearly()],
}  # fmt: skip
