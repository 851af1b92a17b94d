"""The command line: the only place that prints, and the only one that turns errors into codes."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, cast

import typer

from eegstore import __version__
from eegstore.errors import DamageError, EegStoreError, InterruptedBuildError

if TYPE_CHECKING:
    from rich.console import RenderableType

P = ParamSpec("P")
EXIT_S = 2.0

app = typer.Typer(
    name="eegstore",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no summary.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="A store's folder.")]


def reported(command: Callable[P, int | None]) -> Callable[P, None]:
    """Turn what a command raises into a line or two on stderr and the documented exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs) or 0
        except BrokenPipeError:
            # The reader has gone; what is left in the buffer has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = InterruptedBuildError.exit_code
        except Exception as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            expected = isinstance(error, EegStoreError)
            text = str(error) if expected else f"unexpected {type(error).__name__}: {error}"
            print(f"eegstore: {printable(text)}", file=sys.stderr)
            if not expected and not kwargs.get("debug"):
                print("this is a defect of eegstore; --debug shows where", file=sys.stderr)
            code = error.exit_code if isinstance(error, EegStoreError) else 1
        warn_of_broken_plugins()
        if code:
            leave(code)

    return run


def leave(code: int) -> NoReturn:
    """End the process, whatever threads it still has.

    What failed may have left some behind, in a C library or beside killed workers, and a regular
    exit would wait for them. Where there were workers it is given two seconds all the same: their
    semaphores are cleaned up in it.
    """
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    if "multiprocessing.resource_tracker" not in sys.modules:
        os._exit(code)
    watchdog = threading.Timer(EXIT_S, os._exit, (code,))
    watchdog.daemon = True
    watchdog.start()
    raise typer.Exit(code)


def warn_of_broken_plugins() -> None:
    """A line for each plugin that is installed and cannot be used, where plugins were loaded."""
    registry = sys.modules.get("eegstore.registry")
    for one in registry.broken() if registry else ():
        line = f"plugin {one.name!r} of {one.distribution} is not used: {one.status}"
        print(f"eegstore: {printable(line)}", file=sys.stderr)


def printable(text: str) -> str:
    """The text with control characters escaped: names in data must not drive the terminal."""
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)


def show(renderable: RenderableType, quiet: bool = False) -> None:
    """Print for a person, at the terminal's width (80 columns where there is none)."""
    from rich.console import Console
    from rich.text import Text

    if not quiet:
        text = Text(renderable) if isinstance(renderable, str) else renderable
        console = Console(highlight=False)
        # rich would end the process with an exit code of its own where the reader has gone.
        with console.capture() as captured:
            console.print(text)
        sys.stdout.write(captured.get())
        sys.stdout.flush()


def print_json(value: Any) -> None:
    """Print for a machine."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on stderr that names the stage; none where that is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total or None)

        yield tell


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"eegstore {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """EEG recordings and the images people saw, in one Zarr v3 store that a model trains from."""


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@app.command("build")
@reported
def build_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A TOML file, or a shipped one.")],
    out: Annotated[Path | None, typer.Argument(metavar="[OUT]", help="The store to write.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=VALUE", help="Override a key of the recipe."),
    ] = None,
    executor: Annotated[
        str | None, typer.Option("--executor", metavar="NAME", help="serial, processes, …")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="How many tasks at once.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what would be done, and do nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Drop columns that the recipe no longer has.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Build a store from a recipe, resume a build, or bring a store up to date."""
    from eegstore import builder, render

    signal.signal(signal.SIGTERM, _interrupt)
    assignments = set_ or []
    if plan:
        planned = builder.plan(recipe, out, assignments=assignments)
        if json_:
            print_json(render.plan_document(planned))
        else:
            show(render.plan(planned))
        return
    with progress(quiet or json_) as listener:
        done = builder.build(
            recipe,
            out,
            assignments=assignments,
            executor=executor,
            n_workers=workers,
            overwrite=overwrite,
            listener=listener,
        )
    if json_:
        print_json(done.document())
    else:
        show(render.report(done), quiet)


@app.command("info")
@reported
def info_command(
    store: StoreArgument, json_: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """Show what a store holds."""
    from eegstore import render
    from eegstore.store import open_store

    opened = open_store(store)
    if json_:
        print_json(render.store_document(opened))
    else:
        show(render.store(opened), quiet)


def _format_of(args: Sequence[str]) -> str:
    """The value of ``--format`` among the arguments of ``export``; empty for other commands."""
    if "export" not in args[:3]:
        return ""
    parts = [part for argument in args for part in argument.split("=", 1)]
    return parts[parts.index("--format") + 1] if "--format" in parts[:-1] else ""


def _format_parameters(format_name: str) -> Iterator[inspect.Parameter]:
    """The options of an exporter as parameters of the command."""
    if not format_name:
        return
    from eegstore import registry

    for plugin in registry.usable("exporter"):
        if plugin.name != format_name:
            continue
        fields = registry.options_model(cast(Any, plugin.cls)).model_fields
        for name, field in fields.items():
            flag = "--" + name.replace("_", "-")
            switch = field.annotation is bool
            option = typer.Option(
                f"{flag}/--no-{flag[2:]}" if switch else flag,
                help=field.description,
                rich_help_panel=f"Options of the format {format_name}",
                metavar=None if switch else "VALUE",
            )
            kind: Any = bool | None if switch else str | None
            yield inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None,
                annotation=Annotated[kind, option],
            )  # fmt: skip


def add_export_command(format_name: str) -> None:
    """Add the command ``export``, the options of the given format among its own."""

    @reported
    def run(
        store: StoreArgument,
        out: Annotated[Path, typer.Argument(metavar="OUT", help="The file or folder to write.")],
        format: Annotated[
            str,
            typer.Option("--format", metavar="NAME", help="npy, hdf5, …; it adds its own options."),
        ],
        quiet: Quiet = False,
        debug: Debug = False,
        **options: Any,
    ) -> None:
        """Write a store in another format; '--format NAME --help' shows that format's options."""
        _export(store, out, format, options, quiet)

    fixed = dict(inspect.signature(run, eval_str=True).parameters)
    del fixed["options"]
    parameters = [*fixed.values(), *_format_parameters(format_name)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    app.command("export")(run)


def _export(store: Path, out: Path, format_name: str, options: dict[str, Any], quiet: bool) -> None:
    from eegstore import render
    from eegstore.exports import export
    from eegstore.recipe import parse_value
    from eegstore.store import open_store

    given = {
        name: parse_value(value) if isinstance(value, str) else value
        for name, value in options.items()
        if value is not None
    }
    written = export(store, out, format_name, given)
    files = sorted(written.rglob("*")) if written.is_dir() else [written]
    show(render.exported(written, files, open_store(store).notice), quiet)


@app.command("verify")
@reported
def verify_command(
    store: StoreArgument,
    deep: Annotated[bool, typer.Option("--deep", help="Read and check every byte.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Check that a store is what was committed; exit code 5 where it is not."""
    from eegstore import render
    from eegstore.attributes import DOCUMENT
    from eegstore.verification import verify

    with progress(quiet or json_) as listener:
        found = verify(store, deep=deep, listener=listener)
    if json_:
        damage = [{"file": one.file, "problem": one.problem} for one in found]
        print_json({"store": str(store), "deep": deep, "ok": not found, "damage": damage})
    elif found:
        show(render.damage(found))
        whole = any(one.file == DOCUMENT for one in found)
        how = f"delete {'the store' if whole else 'the damaged files'} and build again"
        print(f"eegstore: {store}: {len(found)} damaged; {how}", file=sys.stderr)
    else:
        checked = "every byte is" if deep else "metadata, presence and sizes are"
        show(f"{store}: {checked} as committed", quiet)
    return DamageError.exit_code if found else 0


@app.command("plugins")
@reported
def plugins_command(json_: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the plugins that are installed."""
    from eegstore import registry, render

    found = registry.plugins()
    if json_:
        print_json([one.row() for one in found])
        return
    show(render.plugins(found), quiet)
    if debug:
        for one in found:
            sys.stderr.write(one.trace)


class Schema(StrEnum):
    """What has a JSON Schema."""

    recipe = "recipe"
    store = "store"


@app.command("schema")
@reported
def schema_command(
    of: Annotated[Schema, typer.Argument(help="What to describe.")] = Schema.recipe,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Print the JSON Schema of recipes, or of a store's metadata."""
    from eegstore import attributes, registry

    print_json(registry.recipe_schema() if of is Schema.recipe else attributes.schema())


@app.command("recipes")
@reported
def recipes_command(
    name: Annotated[str | None, typer.Argument(help="Print this recipe's text.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the recipes that ship with the package, or print one."""
    from eegstore import render
    from eegstore.errors import UsageError
    from eegstore.recipe import nearest, shipped_recipes

    recipes = shipped_recipes()
    if name is None:
        show(render.recipes(recipes), quiet)
    elif name in recipes:
        sys.stdout.write(recipes[name])
    else:
        raise UsageError(f"no shipped recipe is called {name!r}; {nearest(name, recipes)}")


def main() -> None:
    """Run the command line."""
    add_export_command(_format_of(sys.argv[1:]))
    app()
