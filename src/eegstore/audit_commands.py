"""The command ``eegstore audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eegstore.errors import DamageError
from eegstore.plugin_commands import Debug, Json, Quiet
from eegstore.terminal import print_json, progress, reported, show, tell


@reported
def audit_command(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store's folder.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 5 where there are errors or warnings.")
    ] = False,
    zero_shot: Annotated[
        bool | None,
        typer.Option(
            "--zero-shot/--no-zero-shot",
            help="Whether the test is of new concepts; by default where the split is by concept.",
        ),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Look for leaks: whatever lets a score say more of a decoder than it should."""
    from eegstore import audit_pages
    from eegstore.audit import examine, verdict
    from eegstore.store import open_store

    opened = open_store(store)
    with progress(quiet or json_) as listener:
        found = examine(opened, zero_shot=zero_shot, listener=listener)
    if json_:
        print_json({"store": str(store), **found.document()})
    else:
        show(audit_pages.page(opened, found), quiet)
    if not strict or found.is_clean:
        return 0
    tell(f"{store}: {verdict(found)}")
    return DamageError.exit_code
