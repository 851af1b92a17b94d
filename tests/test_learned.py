"""Extractors that predict a stimulus' embedding: what they find, and what they never see."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom
from sklearn.linear_model import Ridge as SklearnRidge

import eegstore
from eegstore import Block, ColumnSpec, InputError, PluginError, RecipeError
from eegstore_plugins import inputs_of_trials
from eegstore_plugins.cca import Cca
from eegstore_plugins.linear import PENALTIES
from eegstore_plugins.parts import PartOfRow, Parts
from eegstore_plugins.ridge import Ridge
from planted import Planted, top_5

SMALL = Planted(1.0, n_train=150, repetitions=2, n_channels=6, n_times=32, width=12)
NOISE = Planted(0.0, n_train=200, repetitions=2, n_channels=6, n_times=32, width=12)


def learnt(extractor: Any, blocks: Iterable[Block]) -> Any:
    """The extractor, fitted and restored."""
    extractor.restore(extractor.fit(list(blocks)))
    return extractor


def at_chance(hits: float, n_rows: int, n_gallery: int) -> bool:
    """Whether a share of hits among the first 5 is within the 99 % interval of guessing."""
    low, high = binom.interval(0.99, n_rows, 5 / n_gallery)
    return bool(low <= hits * n_rows <= high)


def as_test(block: Block) -> Block:
    """The same rows, as if they were of the split test: all are predicted by the model of all."""
    columns = {name: block[name] for name in block} | {"split": np.full(block.n_rows, "test")}
    return Block(columns, 0, block.n_rows, sfreq=block.sfreq, times=block.times)


def features_of(block: Block, n_bins: int = 32) -> NDArray[np.float64]:
    """float64, (row, feature), standardised by none."""
    eeg = block["eeg"].astype(np.float64)
    n_rows, n_channels, n_times = eeg.shape
    return eeg.reshape(n_rows, n_channels * n_bins, n_times // n_bins).mean(axis=-1)


def direct(train: Block, new: Block, penalty: float, weight: Any = None) -> NDArray[np.float64]:
    """Ridge regression by scikit-learn, on features standardised by the train rows."""
    x, y = features_of(train), train["stimuli/clip_image"].astype(np.float64)
    weight = np.ones(len(x)) if weight is None else weight
    mean = np.average(x, axis=0, weights=weight)
    scale = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    model = SklearnRidge(alpha=penalty * weight.sum())
    model.fit((x - mean) / scale, y, sample_weight=weight)
    return model.predict((features_of(new) - mean) / scale)


@pytest.mark.parametrize("extractor", [Ridge(), Cca()], ids=["ridge", "cca"])
def test_a_planted_embedding_is_found_in_unseen_stimuli(extractor: Any) -> None:
    learnt(extractor, SMALL.blocks(SMALL.train))
    gallery = SMALL.embeddings[SMALL.n_train :]
    found = extractor(SMALL.block(SMALL.test))
    assert found.dtype == np.float32
    assert top_5(found, gallery, np.arange(200)) > 0.6
    first = SMALL.train[: SMALL.n_train]
    out_of_fold = extractor(SMALL.block(first))
    assert top_5(out_of_fold, SMALL.embeddings[: SMALL.n_train], np.arange(SMALL.n_train)) > 0.6


@pytest.mark.parametrize(
    "extractor", [Ridge(), Ridge(penalty=0.1), Cca()], ids=["ridge", "fixed", "cca"]
)
def test_without_a_signal_all_is_at_chance_but_what_was_seen(extractor: Any) -> None:
    learnt(extractor, NOISE.blocks(NOISE.train))
    n_train, first = NOISE.n_train, NOISE.block(NOISE.train[: NOISE.n_train])
    unseen = top_5(extractor(NOISE.block(NOISE.test)), NOISE.embeddings[n_train:], np.arange(200))
    assert at_chance(unseen, 200, 200)
    seen = NOISE.embeddings[:n_train]
    assert at_chance(top_5(extractor(first), seen, np.arange(n_train)), n_train, n_train)
    # The model that has seen these rows gives them away, though nothing is in them.
    in_sample = top_5(extractor(as_test(first)), seen, np.arange(n_train))
    assert in_sample > 5 * 5 / n_train


def test_ridge_is_the_ridge_regression_of_scikit_learn() -> None:
    ridge = learnt(Ridge(penalty=0.3, spread="shrunk", n_bins=32), SMALL.blocks(SMALL.train))
    train, test = SMALL.block(SMALL.train), SMALL.block(SMALL.test)
    np.testing.assert_allclose(ridge(test), direct(train, test, 0.3), rtol=0, atol=2e-4)


def turns(number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whose turn it is: the first 128 stimuli go one by one, and then sixteens."""
    return np.where(number < 128, number, 128 + (number - 128) // 16)


def test_a_train_row_is_predicted_without_its_part() -> None:
    ridge = learnt(Ridge(penalty=0.3, spread="shrunk", n_folds=3), SMALL.blocks(SMALL.train))
    # Stimuli come in their order, and take turns.
    part = turns(SMALL.stimulus[SMALL.train]) % 3
    for number in range(3):
        rest, own = SMALL.train[part != number], SMALL.block(SMALL.train[part == number])
        expected = direct(SMALL.block(rest), own, 0.3)
        np.testing.assert_allclose(ridge(own), expected, rtol=0, atol=2e-4)


def test_a_trial_that_is_far_from_all_others_spoils_no_model_that_has_not_seen_it() -> None:
    train = SMALL.block(SMALL.train)
    eeg, part = train["eeg"].copy(), turns(SMALL.stimulus[SMALL.train]) % 3
    far = int(np.flatnonzero(part == 1)[7])
    eeg[far] *= 1e5
    ridge = Ridge(penalty=0.3, spread="shrunk", n_folds=3)
    learnt(ridge, [with_columns(train, eeg=eeg)])
    own = SMALL.train[(part == 1) & (np.arange(len(part)) != far)]
    expected = direct(SMALL.block(SMALL.train[part != 1]), SMALL.block(own), 0.3)
    np.testing.assert_allclose(ridge(SMALL.block(own)), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("kind", [Ridge, Cca], ids=["ridge", "cca"])
def test_few_trials_with_values_of_all_sizes_are_fitted(kind: Any) -> None:
    data = Planted(1.0, n_train=28, n_test=20, repetitions=1, n_channels=6, n_times=32, width=12)
    eeg = data.eeg * 10.0 ** np.random.default_rng(3).uniform(-2, 5, (len(data.eeg), 1, 1))
    every = data.block(np.arange(len(data.eeg)))
    wild = with_columns(every, eeg=eeg.astype(np.float32))
    is_train = data.split == "train"
    columns = {name: np.asarray(wild[name])[is_train] for name in wild}
    train = Block(columns, 0, int(is_train.sum()), sfreq=wild.sfreq, times=wild.times)
    assert np.isfinite(learnt(kind(), [train])(wild)).all()


def test_folds_of_the_split_are_the_parts() -> None:
    rng = np.random.default_rng(0)
    fold = np.where(SMALL.split == "train", rng.integers(0, 4, len(SMALL.split)), -1)
    train = SMALL.block(SMALL.train, fold)
    ridge = learnt(Ridge(penalty=0.3, spread="shrunk"), [train])
    own = fold[SMALL.train]
    for number in range(4):
        rest = SMALL.block(SMALL.train[own != number])
        held_out = SMALL.block(SMALL.train[own == number], fold)
        expected = direct(rest, held_out, 0.3)
        np.testing.assert_allclose(ridge(held_out), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("width", [12, 80])
def test_the_penalty_is_the_best_on_parts_that_were_left_out(width: int) -> None:
    data = Planted(0.2, n_train=120, repetitions=1, n_channels=6, n_times=32, width=width)
    found = Ridge(n_folds=3).fit(data.blocks(data.train))["penalty"]
    part, errors = data.stimulus[data.train] % 3, []
    for penalty in PENALTIES:
        error = 0.0
        for number in range(3):
            own = data.block(data.train[part == number])
            predicted = direct(data.block(data.train[part != number]), own, penalty)
            error += float(np.square(predicted - own["stimuli/clip_image"]).sum())
        errors.append(error)
    # The error is that of a few sums of 80 dimensions: what is about as good may be chosen.
    assert errors[PENALTIES.index(float(found))] <= min(errors) * (1 if width <= 64 else 1.01)


def test_matched_predictions_vary_as_much_as_the_targets() -> None:
    data = Planted(0.1, n_train=200, repetitions=2, n_channels=6, n_times=32, width=12)
    train = data.block(data.train)
    wide, shrunk = (
        learnt(Ridge(spread=spread), [train])(train) for spread in ("matched", "shrunk")
    )
    target = train["stimuli/clip_image"].var(axis=0).sum()
    assert abs(wide.var(axis=0).sum() / target - 1) < 0.05
    assert shrunk.var(axis=0).sum() < 0.6 * target


def test_cca_is_the_regression_on_canonical_components() -> None:
    """Against the singular vectors of the whitened cross-covariance, written out."""
    penalty, share, kept = 0.3, 0.1, 3
    options = {"penalty": penalty, "target_penalty": share, "spread": "shrunk"}
    cca = learnt(Cca(n_components=kept, **options), SMALL.blocks(SMALL.train))
    train, test = SMALL.block(SMALL.train), SMALL.block(SMALL.test)
    x, y = features_of(train), train["stimuli/clip_image"].astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    x, centre = (x - mean) / scale, y.mean(axis=0)
    covariance = (y - centre).T @ (y - centre)
    covariance += share * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    roots = [np.linalg.cholesky(x.T @ x + penalty * len(x) * np.eye(x.shape[1])),
             np.linalg.cholesky(covariance)]  # fmt: skip
    cross = np.linalg.solve(roots[0], x.T @ (y - centre))
    whitened = np.linalg.solve(roots[1], cross.T).T
    left, values, right = np.linalg.svd(whitened, full_matrices=False)
    new = np.linalg.solve(roots[0], ((features_of(test) - mean) / scale).T).T
    canonical = (new @ left[:, :kept] * values[:kept]) @ right[:kept] @ roots[1].T + centre
    np.testing.assert_allclose(cca(test), canonical, rtol=0, atol=2e-4)
    every = learnt(Cca(n_components=64, **options), SMALL.blocks(SMALL.train))
    np.testing.assert_allclose(every(test), direct(train, test, penalty), rtol=0, atol=2e-4)


def with_columns(block: Block, **columns: Any) -> Block:
    """A block with other columns, or more."""
    held = {name: block[name] for name in block} | columns
    return Block(held, 0, block.n_rows, sfreq=block.sfreq, times=block.times)


def test_a_weight_counts_as_so_many_trials() -> None:
    rng = np.random.default_rng(1)
    train, test = SMALL.block(SMALL.train), SMALL.block(SMALL.test)
    score = rng.integers(0, 3, train.n_rows).astype(np.float32)
    quality = np.stack([rng.standard_normal(train.n_rows), score], axis=1)
    ridge = Ridge(penalty=0.3, spread="shrunk", weight="quality")
    assert ridge.fit_reads == ("stimuli/clip_image", "stimuli/content_id", "quality")
    learnt(ridge, [with_columns(train, quality=quality)])
    repeated = SMALL.block(np.repeat(SMALL.train, score.astype(int)))
    np.testing.assert_allclose(ridge(test), direct(repeated, test, 0.3), rtol=0, atol=2e-4)
    for wrong in (-1, np.inf, np.nan, 1e39):
        quality[7] = wrong
        given = re.escape(f"{wrong:g}")
        with pytest.raises(InputError, match=rf"quality weighs a trial by {given} .* a finite num"):
            ridge.fit([with_columns(train, quality=quality)])


@pytest.mark.parametrize("offset", [0.0, 4200.0])
def test_what_is_learnt_does_not_depend_on_blocks_or_on_an_offset(offset: float) -> None:
    def blocks(n_rows: int) -> list[Block]:
        return [
            with_columns(one, eeg=one["eeg"] + np.float32(offset))
            for one in SMALL.blocks(SMALL.train, n_rows)
        ]

    one, other = (Ridge().fit(blocks(n_rows)) for n_rows in (7, 300))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    plain = learnt(Ridge(), SMALL.blocks(SMALL.train))
    ridge, test = learnt(Ridge(), blocks(50)), SMALL.block(SMALL.test)
    moved = ridge(with_columns(test, eeg=test["eeg"] + np.float32(offset)))
    np.testing.assert_allclose(moved, plain(test), rtol=0, atol=0 if not offset else 0.02)


def test_a_flat_channel_and_unpaired_trials_are_left_out() -> None:
    train, test = SMALL.block(SMALL.train), SMALL.block(SMALL.test)
    flat = train["eeg"].copy()
    flat[:, 2] = 1234.567
    stimulus = train["stimulus"].copy()
    stimulus[::2] = -1
    ridge = learnt(Ridge(penalty=0.3), [with_columns(train, eeg=flat, stimulus=stimulus)])
    paired = with_columns(SMALL.block(SMALL.train[1::2]), eeg=flat[1::2])
    expected = learnt(Ridge(penalty=0.3), [paired])
    given = test["eeg"].copy()
    given[:, 2] = 1e6  # the feature came to nothing, whatever it is
    found = ridge(with_columns(test, eeg=given))
    np.testing.assert_array_equal(found, expected(with_columns(test, eeg=given)))
    np.testing.assert_array_equal(found, ridge(test))


def test_what_cannot_be_fitted_is_refused_with_a_reason() -> None:
    rows = SMALL.train[SMALL.stimulus[SMALL.train] == 3]
    with pytest.raises(InputError, match="paired train trials are 1 parts, expected at least 2"):
        Ridge().fit([SMALL.block(rows)])
    with pytest.raises(PluginError, match="called before restore"):
        Ridge()(SMALL.block(SMALL.test))
    train = SMALL.block(SMALL.train)
    target = train["stimuli/clip_image"].copy()
    target[4, 2] = np.nan
    with pytest.raises(InputError, match="NaN or Inf"):
        Ridge().fit([with_columns(train, **{"stimuli/clip_image": target})])


@pytest.mark.parametrize("extractor", [Ridge(weight="quality"), Cca(weight="quality")])
def test_trials_that_all_weigh_nothing_are_refused(extractor: Any) -> None:
    train, part = SMALL.block(SMALL.train), turns(SMALL.stimulus[SMALL.train]) % 5
    # Of one part alone: the model without that part has nothing to learn from.
    for quality in (np.zeros(train.n_rows), part == 2):
        with pytest.raises(InputError, match=r"without one of their 5 parts .* weigh 0 in sum"):
            extractor.fit([with_columns(train, quality=quality.astype(np.float32))])


def test_a_part_may_weigh_nothing() -> None:
    train, part = SMALL.block(SMALL.train), turns(SMALL.stimulus[SMALL.train]) % 5
    weight = (part != 2).astype(np.float32)
    ridge = Ridge(penalty=0.3, spread="shrunk", weight="quality")
    learnt(ridge, [with_columns(train, quality=weight)])
    counted = SMALL.block(SMALL.train[part != 2])
    for rows in (SMALL.train[part == 2], SMALL.test):
        expected = direct(counted, SMALL.block(rows), 0.3)
        np.testing.assert_allclose(ridge(SMALL.block(rows)), expected, rtol=0, atol=2e-4)


def test_describe_gives_the_targets_width_and_refuses_what_does_not_fit() -> None:
    specs = SMALL.specs()
    spec = Ridge().describe(specs)
    assert (spec.dims, spec.shape, spec.dtype) == (("embedding",), (12,), "float32")
    assert spec.attrs == {"target": "stimuli/clip_image", "input": "eeg", "n_features": 192}
    image = ColumnSpec(("y", "x"), (8, 8), "float32")
    with pytest.raises(RecipeError, match="expected one vector of floats a stimulus"):
        Ridge().describe(specs | {"stimuli/clip_image": image})
    with pytest.raises(RecipeError, match="no sample is within tmin = 2"):
        Ridge(tmin=2.0).describe(specs)
    wide = ColumnSpec(("channel", "feature"), (100, 100), "float32")
    with pytest.raises(RecipeError, match="spectral has 10,000 features a trial, expected at most"):
        Ridge(input="spectral").describe(specs | {"spectral": wide})
    with pytest.raises(RecipeError, match=r"target is 'clip_image', expected a column of the"):
        eegstore.configure(Ridge, {"target": "clip_image"}, eegstore.__path__[0], "here")


def test_the_features_are_means_over_bins_of_a_window_without_the_padding() -> None:
    times = np.arange(10) / 10 - 0.2
    eeg = np.arange(40, dtype=np.float32).reshape(2, 2, 10)
    block = Block({"eeg": eeg}, 0, 2, n_valid=np.array([10, 5]), times=times)
    found = inputs_of_trials.features(block, "eeg", 0.0, 0.6, 2)
    # The samples 2 to 7, in two bins of 3; of the second trial 5 samples were recorded.
    np.testing.assert_allclose(found[0], [3, 6, 13, 16], rtol=1e-6)
    np.testing.assert_allclose(found[1], [23, 0, 33, 0], rtol=1e-6)
    assert inputs_of_trials.n_bins_of(63, 250, None) == 32
    assert inputs_of_trials.n_bins_of(14, 256, None) == 64
    assert inputs_of_trials.n_bins_of(5000, 250, None) == 1
    assert inputs_of_trials.features(block, "eeg", None, None, 3).shape == (2, 6)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_all_trials_of_a_content_are_in_one_part_and_parts_are_of_a_size(data: Any) -> None:
    n_parts = data.draw(st.integers(2, 6))
    content = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=40))
    # Two stimuli a content: files with the same bytes.
    copy = data.draw(st.lists(st.integers(0, 1), min_size=len(content), max_size=len(content)))
    stimulus = 2 * np.array(content) + np.array(copy)
    fold = np.full(len(content), -1)
    parts = Parts(n_parts)
    names = [f"{one}" for one in content]
    half = len(content) // 2
    pieces = [parts.deal(stimulus[s], names[s], fold[s]) for s in (slice(half), slice(half, None))]
    number, part = (np.concatenate(one) for one in zip(*pieces, strict=True))
    by_content = {}
    for one, its in zip(content, part.tolist(), strict=True):
        assert by_content.setdefault(one, its) == its
    sizes = np.bincount(list(by_content.values()), minlength=n_parts)
    assert sizes.max() - sizes.min() <= 1
    assert len(set(number.tolist())) == len(by_content)
    used = sorted(set(part.tolist()))
    held = PartOfRow.of_state(parts.state(used))
    asked = Block({"stimulus": stimulus, "split": np.full(len(stimulus), "train"), "fold": fold},
                  0, len(stimulus))  # fmt: skip
    assert [used[one] for one in held.model(asked)] == part.tolist()


def test_many_stimuli_go_to_parts_by_sixteens() -> None:
    stimulus = np.arange(5000)
    _, part = Parts(5).deal(stimulus, stimulus.tolist(), np.full(5000, -1))
    assert part.tolist() == (turns(stimulus) % 5).tolist()
    sizes = np.bincount(part)
    assert sizes.max() - sizes.min() <= 17


def test_the_model_of_all_is_for_all_but_train_rows_of_a_known_part() -> None:
    parts = Parts(2)
    parts.deal(np.array([4, 9]), ["a", "b"], np.array([-1, -1]))
    parts.deal(np.array([4]), ["a"], np.array([3]))
    held = PartOfRow.of_state(parts.state([0, 1, 5]))
    block = Block(
        {
            "stimulus": np.array([4, 9, 4, 4, 9, -1, 7, 4, 4]),
            "split": np.array(["train"] * 3 + ["test", "val"] + ["train"] * 4),
            "fold": np.array([-1, -1, 3, -1, 3, -1, -1, 2, 3]),
        },
        0, 9,
    )  # fmt: skip
    assert held.model(block).tolist() == [0, 1, 2, 3, 3, 3, 3, 3, 2]


def test_a_build_fits_and_predicts_out_of_fold(tmp_path: Any) -> None:
    """Through the store: the target is joined by the pairs, and a fold is predicted by others."""
    recipe = {
        "source": {"plugin": "synthetic", "n_trials": 120, "n_channels": 4, "n_times": 32},
        "stimuli": {"plugin": "digits"},
        "pairing": {"plugin": "label"},
        "split": {"plugin": "random", "test_size": 0.25},
        "extract": [
            {"plugin": "hog", "size": 16},
            {"plugin": "ridge", "target": "stimuli/hog", "penalty": 0.1, "spread": "shrunk"},
        ],
    }
    eegstore.build(recipe, tmp_path / "s.zarr")
    store = eegstore.open_store(tmp_path / "s.zarr")
    found, stimulus = store.trials["ridge"][:], store.trials["stimulus"][:]
    train = store.trials["split"][:] == "train"
    eeg = store.trials["eeg"][:]
    block = Block(
        {"eeg": eeg, "stimuli/clip_image": store.stimuli["hog"][:][stimulus]}, 0, len(eeg)
    )  # fmt: skip

    def rows(chosen: NDArray[np.bool_]) -> Block:
        return Block({name: block[name][chosen] for name in block}, 0, int(chosen.sum()))

    test = direct(rows(train), rows(~train), 0.1)
    np.testing.assert_allclose(found[~train], test, rtol=0, atol=2e-4)
    order = list(dict.fromkeys(stimulus[train].tolist()))
    part = np.array([order.index(one) % 5 for one in stimulus.tolist()])
    for number in range(5):
        own, rest = train & (part == number), train & (part != number)
        expected = direct(rows(rest), rows(own), 0.1)
        np.testing.assert_allclose(found[own], expected, rtol=0, atol=2e-4)


@pytest.mark.nightly
@pytest.mark.parametrize("extractor", [Ridge(), Cca()], ids=["ridge", "cca"])
@pytest.mark.parametrize("seed", range(3))
def test_a_faint_embedding_is_found_and_none_is_not(extractor: Any, seed: int) -> None:
    """One part of signal to five of 1/f noise; 200 concepts that no train trial shows."""
    data = Planted(0.2, n_train=600, width=64, n_channels=32, n_times=100, seed=seed)
    none = Planted(0.0, n_train=600, width=64, n_channels=32, n_times=100, seed=seed)
    shares = [
        top_5(
            learnt(extractor, one.blocks(one.train))(one.block(one.test)),
            one.embeddings[one.n_train :],
            np.arange(200),
        )
        for one in (data, none)
    ]
    assert shares[0] > 0.6
    assert at_chance(shares[1], 200, 200)
