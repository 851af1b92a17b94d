"""The commands ``eegstore evaluate`` and ``eegstore search``: is it found, and what is found."""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eegstore.errors import UsageError
from eegstore.plugin_commands import Debug, Json, Quiet
from eegstore.terminal import print_json, reported, show

if TYPE_CHECKING:
    from eegstore.search import Search
    from eegstore.store import Store

StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="A store's folder.")]
Query = Annotated[
    str,
    typer.Option(
        "--query", metavar="COLUMN", help="What asks: a column of trials, or TABLE/COLUMN."
    ),
]
Gallery = Annotated[
    str,
    typer.Option("--gallery", metavar="COLUMN", help="What is searched: a column of stimuli."),
]


class Target(Enum):
    """What counts as found."""

    stimulus = "stimulus"
    concept = "concept"


class Candidates(Enum):
    """What is in the gallery."""

    split = "split"
    all = "all"


class Average(Enum):
    """What is averaged before it asks."""

    none = "none"
    stimulus = "stimulus"


class By(Enum):
    """What the bootstrap draws."""

    stimulus = "stimulus"
    subject = "subject"


class Metric(Enum):
    """How vectors are compared."""

    cosine = "cosine"
    dot = "dot"


@reported
def evaluate_command(
    store: StoreArgument,
    query: Query,
    gallery: Gallery,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", metavar="NAME",
            help="The trials that ask: test by default, else each fold; 'folds' for the folds.",
        ),
    ] = None,
    target: Annotated[
        Target, typer.Option("--target", help="Find the very stimulus, or any of its concept.")
    ] = Target.stimulus,
    candidates: Annotated[
        Candidates,
        typer.Option("--candidates", help="The gallery: stimuli that the split shows, or all."),
    ] = Candidates.split,
    average: Annotated[
        Average,
        typer.Option("--average", help="Average the trials of a stimulus (a subject's) first."),
    ] = Average.none,
    by: Annotated[
        By, typer.Option("--by", help="What the intervals generalise to: other stimuli, subjects.")
    ] = By.stimulus,
    metric: Annotated[
        Metric, typer.Option("--metric", help="How vectors are compared.")
    ] = Metric.cosine,
    n_boot: Annotated[
        int, typer.Option("--n-boot", metavar="N", help="Draws of the bootstrap; 0 for none.")
    ] = 1000,
    n_perm: Annotated[
        int, typer.Option("--n-perm", metavar="N", help="Permutations; 0 for none.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of both.")] = 0,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="Where torch computes: cpu, cuda, …")
    ] = "cpu",
    tautology_ok: Annotated[
        bool,
        typer.Option("--tautology-ok", help="Score pairs by what made them too, and say so."),
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Append the result to the store's history.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Say how well a column of trials finds the stimulus: with intervals, chance and a p-value.

    Pairs that hold by construction are refused. docs/evaluate.md says what each number is.
    """
    from eegstore import evaluation_pages
    from eegstore.evaluate import evaluate
    from eegstore.recording import now, record_evaluation
    from eegstore.store import open_store

    opened, started, clock = open_store(store), now(), time.perf_counter()
    found = evaluate(
        opened, query, gallery, split=split, target=target.value, candidates=candidates.value,
        average=average.value, by=by.value, metric=metric.value, n_boot=n_boot, n_perm=n_perm,
        seed=seed, tautology_ok=tautology_ok, device=device,
    )  # fmt: skip
    if record:
        record_evaluation(opened, found.summary(), started, time.perf_counter() - clock)
    if json_:
        print_json(found.document())
    else:
        show(evaluation_pages.evaluation(found, recorded=record), quiet)


@reported
def search_command(
    store: StoreArgument,
    gallery: Gallery,
    trial: Annotated[
        int | None, typer.Option("--trial", metavar="N", help="Search for what this trial shows.")
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="TEXT", help="Search for a text, through CLIP.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="Search for an image file.")
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            "--query", metavar="COLUMN",
            help="A column of trials; for a text or an image, the column whose model embeds it.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many to find.")] = 10,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="Search the stimuli of this split alone."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE.png", help="Draw the images that are found."),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Show the images that are nearest to a trial, a text or an image file."""
    from eegstore import evaluation_pages
    from eegstore.sheet import check_sheet, draw_sheet
    from eegstore.store import open_store

    if sheet is not None:
        check_sheet(sheet)
    opened = open_store(store)
    found, asked = _found(opened, trial, text, image, query, gallery, k, split)
    if sheet is not None:
        draw_sheet(opened, found, sheet, asked)
    if json_:
        print_json(found.document() | {"sheet": str(sheet) if sheet else None})
    else:
        show(evaluation_pages.search(found, sheet), quiet)


def _found(
    store: Store, trial: int | None, text: str | None, image: Path | None, query: str | None,
    gallery: str, k: int, split: str | None,
) -> tuple[Search, Any]:  # fmt: skip
    """What is found, and the pixels of the image that was asked for."""
    from eegstore.embed import read_image
    from eegstore.search import search_image, search_text, search_trial

    if sum(one is not None for one in (trial, text, image)) != 1:
        raise UsageError("search for one thing: --trial N, --text TEXT or --image FILE")
    if text is not None:
        return search_text(store, text, query, gallery, k, split), None
    if image is not None:
        pixels = read_image(image)
        return search_image(store, pixels, str(image), query, gallery, k, split), pixels
    if query is None:
        raise UsageError("--trial needs --query, the column of trials that is searched by")
    assert trial is not None
    return search_trial(store, trial, query, gallery, k, split), None


def register(app: typer.Typer) -> None:
    """Add both commands."""
    app.command("evaluate")(evaluate_command)
    app.command("search")(search_command)
