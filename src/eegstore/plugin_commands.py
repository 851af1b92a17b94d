"""The commands ``eegstore plugins …``: what is installed, in full, begun anew, and checked."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Final

import typer

from eegstore.errors import PluginError
from eegstore.terminal import print_json, reported, show, tell, write
from eegstore.wording import printable

Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no summary.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Named = Annotated[str, typer.Argument(metavar="NAME", help="A plugin: NAME, or KIND/NAME.")]

# Those of scaffolding.SUMMARIES, which --help does not import.
KINDS: Final = "extractor, source, stimuli, pairing, split or exporter."

app = typer.Typer(name="plugins", context_settings={"help_option_names": ["-h", "--help"]})


@app.callback(invoke_without_command=True)
def plugins_command(
    context: typer.Context, json_: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """List the plugins that are installed; or show, begin or check one."""
    if context.invoked_subcommand is None:
        _list(json_=json_, quiet=quiet, debug=debug)


@reported
def _list(*, json_: bool, quiet: bool, debug: bool) -> None:
    from eegstore import plugin_pages, registry

    found = registry.plugins()
    if json_:
        print_json([one.row() for one in found])
    else:
        show(plugin_pages.plugins(found), quiet)


@app.command("show")
@reported
def show_command(
    name: Named, json_: Json = False, quiet: Quiet = False, debug: Debug = False
) -> int:
    """Show what a plugin does, its options, and how a recipe names it; exit 4 if it is broken."""
    from eegstore import catalogue, plugin_pages

    entry = catalogue.entry(catalogue.look_up(name))
    if json_:
        print_json(entry.document())
    else:
        show(plugin_pages.plugin(entry), quiet)
    return 0 if entry.plugin.cls is not None else PluginError.exit_code


@app.command("new")
@reported
def new_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="In kebab-case, as my-extractor.")],
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help=KINDS)],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where to write; the folder NAME by default."),
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Begin a plugin: a distribution with an example that works, and its tests."""
    from eegstore import plugin_pages, scaffolding

    written = scaffolding.scaffold(name, kind, Path(name) if out is None else out)
    show(plugin_pages.project(written), quiet)
    # To be copied: what wraps at the terminal's width would be cut into two commands.
    write("".join(f"  {printable(one)}\n" for one in written.commands if not quiet))


@app.command("check")
@reported
def check_command(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="NAME, KIND/NAME, or the folder of a project."),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="Set an option of the plugin."),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Try everything that is expected of a plugin; exit code 4 where it fails."""
    from eegstore import catalogue, checking, plugin_pages

    with contextlib.ExitStack() as stack:
        if checking.is_project(name):
            plugins = stack.enter_context(checking.project(Path(name)))
        else:
            plugins = [catalogue.look_up(name)]
        checked = checking.check(plugins, set_ or [])
    if json_:
        print_json([one.document() for one in checked])
    else:
        show(plugin_pages.checked(checked), quiet)
    for one in [one for one in checked if one.n_failed]:
        names = ", ".join(tried.name for tried in one.tried if tried.passed is False)
        tell(f"{one.plugin.path}: {one.n_failed} of {len(one.tried)} checks failed: {names}")
    return PluginError.exit_code if any(one.n_failed for one in checked) else 0
