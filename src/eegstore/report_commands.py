"""The command ``eegstore report``: one page of HTML on a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegstore.plugin_commands import Debug, Quiet
from eegstore.terminal import progress, reported, show


@reported
def report_command(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store's folder.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The page to write.")
    ] = Path("report.html"),
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Seed of the samples.", min=0)
    ] = 0,
    max_trials: Annotated[
        int,
        typer.Option("--max-trials", metavar="N", help="Most trials a figure is from.", min=2),
    ] = 2000,
    no_audit: Annotated[
        bool, typer.Option("--no-audit", help="Leave the audit out: it reads all of the EEG.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a page that shows what a store is, how it was made, and what was found in it."""
    from eegstore.render import size
    from eegstore.report import report
    from eegstore.store import open_store

    opened = open_store(store)
    with progress(quiet) as listener:
        written = report(
            opened, out, with_audit=not no_audit, seed=seed, max_trials=max_trials,
            listener=listener,
        )  # fmt: skip
    notice = f" ({opened.notice})" if opened.notice else ""
    show(f"{written}: {size(written.stat().st_size)}, opens in any browser{notice}", quiet)
