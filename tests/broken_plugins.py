"""Plugins of the other kinds that break one promise each; they are sound but for that."""

from __future__ import annotations

import operator
import os
import random
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from eegstore import Pairs, Splits, Stimuli, Store, Trials

N_TRIALS = 11


class Named:
    name: ClassVar[str] = "odd"
    version: ClassVar[str] = "1"


@dataclass(frozen=True)
class Source(Named):
    """Trials of a file of float32 (trial, 2, 8)."""

    path: Path | None = field(default=None, metadata={"description": "The file."})

    def scan(self) -> Trials:
        label = np.arange(N_TRIALS) % 3
        return Trials(n_trials=N_TRIALS, ch_names=["a", "b"], sfreq=8.0, times=np.arange(8) / 8,
                      units="V", label=label)  # fmt: skip

    def read(self, start: int, stop: int) -> Any:
        return self._whole()[start:stop].copy()

    def _whole(self) -> Any:
        if self.path is not None:
            return np.fromfile(self.path, np.float32).reshape(-1, 2, 8)
        return np.arange(N_TRIALS * 16, dtype=np.float32).reshape(-1, 2, 8)


class ScanRaises(Source):
    def scan(self) -> Any:
        raise RuntimeError("nothing works")


class ReadRaises(Source):
    def read(self, start: int, stop: int) -> Any:
        raise RuntimeError("nothing works")


class ReadHangs(Source):
    def read(self, start: int, stop: int) -> Any:
        time.sleep(600)


class ScansNothing(Source):
    def scan(self) -> Any:
        return None


class ScansAnew(Source):
    def scan(self) -> Trials:
        label = np.random.default_rng().integers(0, 1000, N_TRIALS)
        return Trials(n_trials=N_TRIALS, ch_names=["a", "b"], sfreq=8.0, times=np.arange(8) / 8,
                      units="V", label=label)  # fmt: skip


class NeedsScan(Source):
    def scan(self) -> Trials:
        vars(self)["scanned"] = True
        return super().scan()

    def read(self, start: int, stop: int) -> Any:
        if not vars(self).get("scanned"):
            raise RuntimeError("scan first")
        return super().read(start, stop)


class Stateful(NeedsScan):
    def state(self) -> Mapping[str, Any]:
        return {"rows": np.arange(3)}

    def restore(self, state: Mapping[str, Any]) -> None:
        vars(self)["scanned"] = len(state["rows"]) == 3


class StateOfObjects(Stateful):
    def state(self) -> Mapping[str, Any]:
        return {"rows": np.array([object()] * 3)}


class StateAlone(Source):
    def state(self) -> Mapping[str, Any]:
        return {"rows": np.arange(3)}


class RestoreRaises(Stateful):
    def restore(self, state: Mapping[str, Any]) -> None:
        raise KeyError("columns")


class RestoresNothing(Stateful):
    def restore(self, state: Mapping[str, Any]) -> None:
        pass


class ReadsFromTheStart(Source):
    def read(self, start: int, stop: int) -> Any:
        return self._whole()[: stop - start].copy()


class CannotReadNothing(Source):
    def read(self, start: int, stop: int) -> Any:
        return np.stack([self._whole()[row] for row in range(start, stop)])


class WritesItsFile(Source):
    def read(self, start: int, stop: int) -> Any:
        if self.path is not None:
            self.path.write_bytes(self.path.read_bytes())
        return super().read(start, stop)


class KnowsItsProcess(Source):
    def _whole(self) -> Any:
        return super()._whole() + np.float32(os.getpid())


class OtherFingerprints(Source):
    def fingerprint(self) -> str:
        return uuid.uuid4().hex


class ReadsDoubles(Source):
    def read(self, start: int, stop: int) -> Any:
        return super().read(start, stop).astype(np.float64)


class LendsItsArray(Source):
    def read(self, start: int, stop: int) -> Any:
        return vars(self).setdefault("held", self._whole())[start:stop]


@dataclass(frozen=True)
class Images(Named):
    """Grey images, of which every other is the same."""

    def scan(self) -> Stimuli:
        names = np.array([f"{row}.png" for row in range(9)])
        content = np.array([f"digest {row % 4}" for row in range(9)])
        return Stimuli(image_path=names, label=np.arange(9), concept=names, caption=names,
                       content_id=content)  # fmt: skip

    def read(self, start: int, stop: int) -> Any:
        return [np.full((4, 5, 3), row % 4, np.uint8) for row in range(start, stop)]


class ScansTrials(Images):
    def scan(self) -> Any:
        return Source().scan()


class WithAlpha(Images):
    def read(self, start: int, stop: int) -> Any:
        return [np.zeros((4, 5, 4), np.uint8) for _ in range(start, stop)]


class OneContent(Images):
    def read(self, start: int, stop: int) -> Any:
        return [np.full((4, 5, 3), row, np.uint8) for row in range(start, stop)]


class DrawsImages(Images):
    def read(self, start: int, stop: int) -> Any:
        return [image + np.uint8(start) for image in super().read(start, stop)]


@dataclass(frozen=True)
class Pairing(Named):
    """The first stimulus of the trial's label."""

    def __call__(self, trials: Trials, stimuli: Stimuli, columns: Mapping[str, Any]) -> Any:
        return self.pairs(self.rows(trials))

    def rows(self, trials: Trials) -> Any:
        return np.where(trials.label >= 0, trials.label, -1)

    def pairs(self, rows: Any) -> Pairs:
        return Pairs(rows, np.where(rows >= 0, 1, np.nan).astype(np.float32))


class PairsRaises(Pairing):
    def rows(self, trials: Trials) -> Any:
        raise RuntimeError("nothing works")


class GivesRows(Pairing):
    def pairs(self, rows: Any) -> Any:
        return rows


class PairsOfFractions(Pairing):
    def rows(self, trials: Trials) -> Any:
        return super().rows(trials).astype(np.float64)


class RowBeyond(Pairing):
    def rows(self, trials: Trials) -> Any:
        return np.where(trials.label == 3, 99, super().rows(trials))


class PairsTheUnlabelled(Pairing):
    def rows(self, trials: Trials) -> Any:
        return trials.label % 4


class DrawsPairs(Pairing):
    def rows(self, trials: Trials) -> Any:
        drawn = np.random.default_rng().integers(0, 2, trials.n_trials)
        return np.where(trials.label >= 0, trials.label + 4 * drawn, -1)


class PairsByPosition(Pairing):
    def rows(self, trials: Trials) -> Any:
        turn = np.arange(trials.n_trials) % 2
        return np.where(trials.label >= 0, trials.label + 4 * turn, -1)


class WritesLabels(Pairing):
    def rows(self, trials: Trials) -> Any:
        rows = super().rows(trials)
        trials.label.base[:] = 0
        return rows


class WritesReadOnly(Pairing):
    def rows(self, trials: Trials) -> Any:
        trials.label[:] = 0


class PairsTwo(Pairing):
    """The two stimuli of the trial's label."""

    made_from: ClassVar[tuple[str, ...]] = ("label",)

    def pairs(self, rows: Any) -> Pairs:
        first = super().pairs(rows)
        more = self.more(rows)[:, None]
        return Pairs(first.stimulus, first.score, more, np.where(more >= 0, 0.5, np.nan))

    def more(self, rows: Any) -> Any:
        return np.where(rows >= 0, rows + 4, -1)


class PairsTwice(PairsTwo):
    def more(self, rows: Any) -> Any:
        return rows


class MoreWithoutScores(PairsTwo):
    def pairs(self, rows: Any) -> Pairs:
        return replace(super().pairs(rows), more_score=None)


class MadeFromAnything(Pairing):
    made_from: ClassVar[tuple[str, ...]] = ("the labels",)


class PairsByProcess(Pairing):
    def pairs(self, rows: Any) -> Pairs:
        return Pairs(rows, np.full(len(rows), os.getpid() % 9973, np.float32))


class OtherPairFingerprints(Pairing):
    def fingerprint(self) -> str:
        return uuid.uuid4().hex


@dataclass(frozen=True)
class Split(Named):
    """Every third label is for tests."""

    def __call__(self, trials: Trials, stimulus: Any, stimuli: Stimuli | None) -> Any:
        return np.where(trials.label % 3 == 0, "test", "train")


class SplitRaises(Split):
    def __call__(self, trials: Trials, stimulus: Any, stimuli: Stimuli | None) -> Any:
        raise RuntimeError("nothing works")


class NamesTooFew(Split):
    def __call__(self, trials: Trials, stimulus: Any, stimuli: Stimuli | None) -> Any:
        return super().__call__(trials, stimulus, stimuli)[1:]


class NamesNumbers(Split):
    def __call__(self, trials: Trials, stimulus: Any, stimuli: Stimuli | None) -> Any:
        return trials.label % 2


class NamesNothing(Split):
    def __call__(self, trials: Trials, stimulus: Any, stimuli: Stimuli | None) -> Any:
        return np.where(trials.label % 3 == 0, "", "train")


class DrawsSplits(Split):
    def __call__(self, trials: Trials, stimulus: Any, stimuli: Stimuli | None) -> Any:
        return np.array([random.choice(["train", "test"]) for _ in range(trials.n_trials)])


class NeedsStimuli(Split):
    def __call__(self, trials: Trials, stimulus: Any, stimuli: Any) -> Any:
        return np.where(stimuli.label[stimulus] == 0, "test", "train")


class WritesPairs(Split):
    def __call__(self, trials: Trials, stimulus: Any, stimuli: Stimuli | None) -> Any:
        stimulus.flags.writeable = True
        stimulus[0] = 77
        return super().__call__(trials, stimulus, stimuli)


class Folds(Split):
    """Three folds of the trials that are trained on."""

    def __call__(self, trials: Trials, stimulus: Any, stimuli: Stimuli | None) -> Any:
        split = super().__call__(trials, stimulus, stimuli)
        return Splits(split, self.fold(np.where(split == "train", np.arange(len(split)) % 3, -1)))

    def fold(self, fold: Any) -> Any:
        return fold


class FoldsOfGaps(Folds):
    def fold(self, fold: Any) -> Any:
        return 2 * fold


class FoldsOfFractions(Folds):
    def fold(self, fold: Any) -> Any:
        return fold / 2


class DrawsFolds(Folds):
    def fold(self, fold: Any) -> Any:
        return np.random.default_rng().permutation(fold)


class SplitsByProcess(Split):
    def __call__(self, trials: Trials, stimulus: Any, stimuli: Stimuli | None) -> Any:
        return np.full(trials.n_trials, f"p{os.getpid()}")


class OtherSplitFingerprints(Split):
    def fingerprint(self) -> str:
        return uuid.uuid4().hex


@dataclass(frozen=True)
class Exporter(Named):
    """The labels, as text."""

    def __call__(self, store: Store, out: Path) -> None:
        out.write_text(self.text(store))

    def text(self, store: Store) -> str:
        return " ".join(map(str, store.trials["label"][:].tolist()))


class ExportRaises(Exporter):
    def text(self, store: Store) -> str:
        raise RuntimeError("nothing works")


class WritesNothing(Exporter):
    def __call__(self, store: Store, out: Path) -> None:
        pass


class WritesBeside(Exporter):
    def __call__(self, store: Store, out: Path) -> None:
        super().__call__(store, out)
        out.with_suffix(".log").write_text("done")


class TellsTheTime(Exporter):
    def text(self, store: Store) -> str:
        return f"{time.time_ns()}"


class TouchesTheStore(Exporter):
    def text(self, store: Store) -> str:
        document = Path(store.path) / "zarr.json"
        document.write_bytes(document.read_bytes())
        return super().text(store)


class TellsItsProcess(Exporter):
    def text(self, store: Store) -> str:
        return f"{os.getpid()}"


class InPlace(Executor):
    """Runs each call at once."""

    ended = False

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        if self.ended:
            raise RuntimeError("ended")
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            self.fail(future, error)
        return future

    def fail(self, future: Any, error: Exception) -> None:
        future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.ended = True


@dataclass(frozen=True)
class Executors(Named):
    """Runs each call at once."""

    def __call__(self, n_workers: int) -> Any:
        return InPlace()


class ExecutorRaises(Executors):
    def __call__(self, n_workers: int) -> Any:
        raise RuntimeError("nothing works")


class NoExecutor(Executors):
    def __call__(self, n_workers: int) -> Any:
        return [n_workers]


class Forgets(InPlace):
    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return super().submit(operator.truediv if fn is operator.truediv else operator.add, *args)


class ForgetsResults(Executors):
    def __call__(self, n_workers: int) -> Any:
        return Forgets()


class Swallows(InPlace):
    def fail(self, future: Any, error: Exception) -> None:
        future.set_result(None)


class SwallowsErrors(Executors):
    def __call__(self, n_workers: int) -> Any:
        return Swallows()


class Immortal(InPlace):
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass


class NeverEnds(Executors):
    def __call__(self, n_workers: int) -> Any:
        return Immortal()


def local(cls: Any) -> Any:
    """A plugin of a class that no other process can import."""

    class Local(cls):
        pass

    return Local()


SOUND: dict[str, list[Any]] = {
    "source": [Source(), Stateful()],
    "stimuli": [Images()],
    "pairing": [Pairing(), PairsTwo()],
    "split": [Split(), Folds()],
    "exporter": [Exporter()],
    "executor": [Executors()],
}
BROKEN: dict[str, dict[str, list[Any]]] = {
    "source": {
        "answers": [ScanRaises(), ReadRaises()],
        "scans": [ScansNothing()],
        "scan-repeats": [ScansAnew()],
        "reads-without-scan": [NeedsScan()],
        "state-is-arrays": [StateOfObjects(), StateAlone()],
        "state-restored": [RestoreRaises()],
        "restored-reads": [RestoresNothing()],
        "any-range": [ReadsFromTheStart(), CannotReadNothing()],
        "spawned-process": [KnowsItsProcess(), local(Source)],
        "fingerprint-repeats": [OtherFingerprints()],
        "read-as-scanned": [ReadsDoubles()],
        "new-arrays": [LendsItsArray()],
    },
    "stimuli": {
        "scans": [ScansTrials()],
        "any-range": [DrawsImages()],
        "images-as-promised": [WithAlpha()],
        "content-id-follows": [OneContent()],
    },
    "pairing": {
        "answers": [PairsRaises()],
        "gives-pairs": [GivesRows()],
        "pairs-described": [PairsOfFractions()],
        "rows-exist": [RowBeyond()],
        "more-described": [PairsTwice(), MoreWithoutScores()],
        "made-from-named": [MadeFromAnything()],
        "unlabelled-unpaired": [PairsTheUnlabelled()],
        "deterministic": [DrawsPairs()],
        "permuted": [PairsByPosition()],
        "input-untouched": [WritesLabels(), WritesReadOnly()],
        "spawned-process": [PairsByProcess(), local(Pairing)],
        "fingerprint-repeats": [OtherPairFingerprints()],
    },
    "split": {
        "answers": [SplitRaises()],
        "name-a-trial": [NamesTooFew(), NamesNumbers()],
        "names-usable": [NamesNothing()],
        "folds-described": [FoldsOfGaps(), FoldsOfFractions()],
        "deterministic": [DrawsSplits(), DrawsFolds()],
        "unpaired-handled": [NeedsStimuli()],
        "input-untouched": [WritesPairs()],
        "spawned-process": [SplitsByProcess(), local(Split)],
        "fingerprint-repeats": [OtherSplitFingerprints()],
    },
    "exporter": {
        "answers": [ExportRaises()],
        "writes-out": [WritesNothing(), WritesBeside()],
        "same-twice": [TellsTheTime()],
        "store-untouched": [TouchesTheStore()],
        "spawned-process": [TellsItsProcess(), local(Exporter)],
    },
    "executor": {
        "answers": [ExecutorRaises()],
        "gives-executor": [NoExecutor()],
        "runs-calls": [ForgetsResults()],
        "errors-arrive": [SwallowsErrors()],
        "shutdown-ends": [NeverEnds()],
        "spawned-process": [local(Executors)],
    },
}
