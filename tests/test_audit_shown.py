"""Audits of what is shown: images and concepts are compared by number, whatever their names."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eegstore.audit_groups import concept_overlap, stimulus_across_splits
from eegstore.audit_images import _shown
from eegstore.findings import NotCheckedError


def paired(n: int) -> Any:
    """Rows that show 250 images, each in both splits; names are as long as names are."""
    stimulus, names = np.arange(n) % 250, [f"{'x' * 40}{one}" for one in range(50)]
    columns = {"stimulus": stimulus, "label": stimulus % 50}
    stimuli = {
        "content_id": np.array([f"{one:064x}" for one in range(250)]),
        "concept": np.array(names)[np.arange(250) % 50],
        "image_path": np.array([f"{one}.png" for one in range(250)]),
    }
    return SimpleNamespace(
        store=SimpleNamespace(stimuli=stimuli), column=columns.__getitem__, need_parts=lambda: None,
        shown=(np.arange(n), stimulus), part=np.arange(n) // 250 % 2, part_names=["test", "train"],
        shares_stimuli="", is_zero_shot=False,
    )  # fmt: skip


@pytest.mark.parametrize("check", [stimulus_across_splits, concept_overlap, _shown])
def test_what_is_shown_is_compared_by_number_in_little_memory(check: Any) -> None:
    rows = paired(100_000)
    tracemalloc.start()
    found = list(check(rows))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A content_id has 256 bytes as text.
    assert peak < 120 * 100_000
    if check is not _shown:
        assert [one.count for one in found] == [250 if check is stimulus_across_splits else 50]
        assert (
            found[0]
            .examples[0]
            .endswith(
                "0.png (test: 200, train: 200)"
                if found[0].count == 250
                else "x0 (test: 1000, train: 1000)"
            )
        )


def test_a_concept_is_told_by_its_name_and_an_unpaired_trial_by_its_label() -> None:
    rows = paired(500)
    rows.store.stimuli["concept"][:] = np.where(np.arange(250) % 2, "", "label 1")
    columns = {
        "stimulus": np.array([0, 1, -1, -1, -1, 2, 4]),
        "label": np.array([5, 5, 1, 2, -1, 3, 3]),
    }
    rows.column, rows.part = columns.__getitem__, np.array([0, 0, 1, 1, 1, 0, 1])
    (found,) = concept_overlap(rows)
    assert found.examples == ["label 1 (test: 2, train: 2)"]
    assert found.what == "1 of 2 concepts in more than one split"
    columns["label"][:], columns["stimulus"][:] = -1, -1
    with pytest.raises(NotCheckedError, match="no trial has a label or is paired"):
        list(concept_overlap(rows))
