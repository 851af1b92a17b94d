"""The commands: each calls the one function of the package that does the work, and prints."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from eegstore import __version__, evaluation_commands
from eegstore.audit_commands import audit_command
from eegstore.errors import DamageError
from eegstore.plugin_commands import Debug, Json, Quiet
from eegstore.plugin_commands import app as plugins_app
from eegstore.report_commands import report_command
from eegstore.terminal import open_streams, print_json, progress, reported, show, tell, write

app = typer.Typer(
    name="eegstore",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="A store's folder.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        write(f"eegstore {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """EEG recordings and the images people saw, in one Zarr v3 store that a model trains from."""


@app.command("build")
@reported
def build_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A TOML file, or a shipped one.")],
    out: Annotated[str | None, typer.Argument(metavar="[OUT]", help="The store to write.")] = None,
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
        bool,
        typer.Option("--overwrite", help="Drop columns and finished work that the recipe lost."),
    ] = False,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Read every byte of what is reused; mend it."),
    ] = False,
    check_determinism: Annotated[
        bool,
        typer.Option("--check-determinism", help="Compute all twice; refuse plugins that differ."),
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Build a store from a recipe, resume a build, or bring a store up to date."""
    from eegstore import builder, render

    assignments = set_ or []
    if plan:
        planned = builder.plan(recipe, out, assignments=assignments, deep=deep)
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
            deep=deep,
            check_determinism=check_determinism,
            listener=listener,
        )
    if json_:
        print_json(done.document())
    else:
        show(render.report(done), quiet)


@app.command("info")
@reported
def info_command(
    store: StoreArgument,
    provenance: Annotated[
        str | None,
        typer.Option(
            "--provenance",
            metavar="COLUMN",
            help="Show what a column, or TABLE/COLUMN, is made of.",
        ),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show what a store holds, or where one of its columns comes from."""
    from eegstore import render
    from eegstore.store import open_store

    opened = open_store(store)
    if provenance is not None:
        from eegstore.provenance import provenance as tree_of

        tree = tree_of(opened, provenance)
        print_json(tree) if json_ else show(render.provenance(tree), quiet)
    elif json_:
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

    with contextlib.redirect_stdout(sys.stderr):
        found = registry.named("exporter", format_name)
    for plugin in [one for one in found if one.cls is not None]:
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
        out: Annotated[str, typer.Argument(metavar="OUT", help="The file or folder to write.")],
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


def _export(store: Path, out: str, format_name: str, options: dict[str, Any], quiet: bool) -> None:
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
    from eegstore.verification import verify

    with progress(quiet or json_) as listener:
        found = verify(store, deep=deep, listener=listener)
    if json_:
        damage = [{"file": one.file, "problem": one.problem} for one in found]
        print_json({"store": str(store), "deep": deep, "ok": not found, "damage": damage})
    elif found:
        show(render.damage(found))
        mend = "; 'eegstore build RECIPE STORE --deep' makes again exactly what is damaged"
        told = f"{store}: {len(found)} damaged"
        tell(told + mend if any(one.mendable for one in found) else told)
    else:
        checked = "every byte is" if deep else "metadata, presence and sizes are"
        show(f"{store}: {checked} as committed", quiet)
    return DamageError.exit_code if found else 0


evaluation_commands.register(app)
app.command("audit")(audit_command)
app.add_typer(plugins_app, name="plugins")
app.command("report")(report_command)


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
    from eegstore import attributes, schema

    print_json(schema.recipe_schema() if of is Schema.recipe else attributes.schema())


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
        write(recipes[name])
    else:
        raise UsageError(f"no shipped recipe is called {name!r}; {nearest(name, recipes)}")


def main() -> None:
    """Run the command line."""
    open_streams()
    export_format = _format_of(sys.argv[1:])
    if export_format or not {"-h", "--help"}.intersection(sys.argv):
        from eegstore.distributions import tolerate

        tolerate()
    add_export_command(export_format)
    app()
