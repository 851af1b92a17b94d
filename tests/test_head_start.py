"""The worker that imports what takes long while the recipe is planned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import eegstore
from command import Outcome, check_refused, run_command
from samples import IDX, data_files, write_idx
from test_workers import MARK, nobody_left
from third_party import extractor, lay_out

# Images for three tasks; with those of the trials a build chooses processes.
N_IMAGES = 1_100
RECIPE = f"""
{IDX}
[source]
plugin = "synthetic"
n_trials = 8
n_channels = 2
n_times = 16
[pairing]
plugin = "label"
[[extract]]
plugin = "odd"
"""
IMPORTED = "import os\nopen(f'imported-{os.getpid()}', 'w')\n"
COMPUTED = (
    "open(f'computed-{os.getpid()}-{block.start}', 'w')\n"
    "return np.array([one.mean() for one in block['image']])"
)
SPEC = 'return ColumnSpec((), (), "float64")'
# It is called while the recipe is planned.
AWAITED = (
    "from pathlib import Path\n"
    "end = time.monotonic() + 30\n"
    "while not list(Path().glob('imported-*')):\n"
    "    assert time.monotonic() < end, 'nobody imports'\n"
    "    time.sleep(0.01)\n"
)
Build = Callable[..., Outcome]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Build by the command with an extractor of images that imports ``slow``; nobody is left."""
    write_idx(tmp_path, N_IMAGES, size=4)
    (tmp_path / "recipe.toml").write_text(RECIPE)

    def run(
        *options: str, out: str = "out.zarr", slow: str = IMPORTED, describe: str = SPEC
    ) -> Outcome:
        code = extractor(COMPUTED, describe, reads="image")
        found = lay_out(
            tmp_path / "site", code.replace("@hookimpl", "Odd.imports = ('slow',)\n@hookimpl")
        )
        (tmp_path / "site" / "slow.py").write_text(slow)
        return run_command(
            "build", "recipe.toml", out, *(options or ("--workers", "2")),
            cwd=tmp_path, env={**found, MARK: str(tmp_path)},
        )  # fmt: skip

    yield run
    nobody_left(tmp_path)


def numbers(folder: Path, what: str) -> set[str]:
    """What stands behind a word in the names of files."""
    return {path.name.removeprefix(what) for path in folder.glob(f"{what}*")}


def test_who_imports_while_the_recipe_is_planned_runs_the_first_task(tmp_path, build):
    outcome = build(describe=AWAITED + SPEC)
    assert (outcome.code, outcome.err) == (0, "")
    (early,) = numbers(tmp_path, "imported-")
    assert f"{early}-0" in numbers(tmp_path, "computed-")
    assert not (tmp_path / "out.zarr.build").exists()
    assert eegstore.verify(tmp_path / "out.zarr", deep=True) == []
    assert build("--executor", "serial", out="other.zarr").code == 0
    assert data_files(tmp_path / "out.zarr") == data_files(tmp_path / "other.zarr")


@pytest.mark.parametrize("options", [("--executor", "processes"), ("--workers", "1")])
def test_nothing_is_imported_early_where_another_executor_may_be_meant(tmp_path, build, options):
    assert build(*options).code == 0
    assert numbers(tmp_path, "imported-") == set()


def test_a_store_that_is_there_may_need_no_worker(tmp_path, build):
    assert build("--executor", "serial").code == 0
    assert build().code == 0
    assert numbers(tmp_path, "imported-") == set()


def test_a_recipe_that_is_refused_leaves_no_worker(tmp_path, build):
    refused = AWAITED + "raise InputError('not today')"
    check_refused(build(describe=refused), 3, "not today")
    assert len(numbers(tmp_path, "imported-")) == 1
    assert not (tmp_path / "out.zarr.build").exists()


def test_few_tasks_are_done_without_the_worker(tmp_path, build):
    write_idx(tmp_path, 10, size=4)
    assert build(describe=AWAITED + SPEC).code == 0
    (early,) = numbers(tmp_path, "imported-")
    (computed,) = numbers(tmp_path, "computed-")
    assert computed != f"{early}-0"


def test_what_cannot_be_imported_is_for_the_task_to_tell(tmp_path, build):
    outcome = build(slow=IMPORTED + "import nowhere_to_be_found")
    assert (outcome.code, outcome.err) == (0, "")
    assert eegstore.verify(tmp_path / "out.zarr", deep=True) == []


def test_a_worker_that_dies_while_it_imports_is_replaced(tmp_path, build):
    assert build(slow=IMPORTED + "os._exit(9)").code == 0
    assert len(numbers(tmp_path, "imported-")) == 1
    assert eegstore.verify(tmp_path / "out.zarr", deep=True) == []
