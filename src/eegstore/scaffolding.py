"""Scaffolds a distribution of one plugin: an example that works, with its tests, to change."""

from __future__ import annotations

import importlib.util
import keyword
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

import eegstore
from eegstore import registry
from eegstore.errors import InputError, UsageError
from eegstore.examination import PLUGIN_NAME
from eegstore.hookspecs import EEGSTORE_PLUGIN_API
from eegstore.recipe import nearest

# Names that the templates import.
TAKEN: Final = {"Any", "ClassVar", "Literal", "Mapping", "NDArray", "Path", *eegstore.__all__}
SUMMARIES: Final = {
    "extractor": "the root mean square of each channel",
    "source": "trials from a folder of CSV files",
    "stimuli": "gratings of many orientations",
    "pairing": "pairs that are no guesses",
    "split": "the last trials are tested on",
    "exporter": "a CSV file with a row a trial",
}
RECIPES: Final = {
    "extractor": '[source]\nplugin = "synthetic"\n\n[[extract]]\nplugin = "{}"\n',
    "source": '[source]\nplugin = "{}"\npath = "example"\n\n[[extract]]\nplugin = "temporal"\n',
    "stimuli": '[source]\nplugin = "synthetic"\n\n[stimuli]\nplugin = "{}"\n\n'
    '[pairing]\nplugin = "label"\nunmatched = "keep"\n',
    "pairing": '[source]\nplugin = "synthetic"\n\n[stimuli]\nplugin = "digits"\n\n'
    '[pairing]\nplugin = "{}"\n',
    "split": '[source]\nplugin = "synthetic"\n\n[split]\nplugin = "{}"\n',
    "exporter": '[source]\nplugin = "synthetic"\n\n[stimuli]\nplugin = "digits"\n',
}
TITLES: Final = {"stimuli": "provider of stimuli"}
MAX_NAME: Final = 40  # a line of code has the module's name and the class'
EXAMPLES: Final = ("0_1", "1_2", "1_3")


@dataclass(frozen=True)
class Project:
    """What was written: the folder, its files, and the commands that come next."""

    name: str
    kind: str
    folder: Path
    files: tuple[str, ...]
    commands: tuple[str, ...]


def scaffold(name: str, kind: str, folder: Path) -> Project:
    """Write a distribution of one plugin into a folder.

    Parameters
    ----------
    name
        The plugin's and the distribution's name, in kebab-case; its module is the name with ``_``.
    kind
        One of the keys of ``SUMMARIES``.
    folder
        It must not exist, or be empty.

    Raises
    ------
    UsageError
        Where the name is none that a plugin of this kind can have.
    InputError
        Where something is in the folder, or it cannot be written.
    """
    if kind not in SUMMARIES:
        raise UsageError(
            f"--kind {kind:.80}: not a kind that 'new' begins; {nearest(kind, SUMMARIES)}"
        )
    module = _module(name, kind)
    files = _files(name, kind, module)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder}: exists and is not empty; choose another with --out FOLDER")
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
    return Project(name, kind, folder, tuple(files), _commands(name, kind, folder))


def _module(name: str, kind: str) -> str:
    """The name of the module, where neither it nor the plugin's name is taken."""
    if not PLUGIN_NAME.fullmatch(name):
        raise UsageError(f"{name!r:.80} is no plugin's name, expected kebab-case, as my-{kind}")
    if len(name) > MAX_NAME:
        raise UsageError(f"{name!r} has {len(name)} characters, expected at most {MAX_NAME}")
    if any(one.kind == kind and one.name == name for one in registry.built_in()):
        raise UsageError(f"{kind} {name!r} is built in; choose another name")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        raise UsageError(f"{name!r} is a word of Python; choose another name, as my-{name}")
    found = None if module in sys.stdlib_module_names else importlib.util.find_spec(module)
    # A folder without modules counts as a package: that of a scaffold is one.
    if module in sys.stdlib_module_names or (found and found.origin):
        raise UsageError(f"a module {module!r} is installed already; choose another name")
    return module


def _class_name(name: str, kind: str) -> str:
    """The name in CamelCase, with the kind where it is taken."""
    camel = "".join(part.capitalize() for part in name.split("-"))
    return camel + kind.capitalize() if camel in TAKEN else camel


def _files(name: str, kind: str, module: str) -> dict[str, str]:
    """Path to text."""
    words = {
        "name": name,
        "module": module,
        "cls": _class_name(name, kind),
        "kind": kind,
        "api": str(EEGSTORE_PLUGIN_API),
        "eegstore_version": eegstore.__version__,
        "summary": SUMMARIES[kind],
        **_sentences(name, kind),
    }
    templates = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"src/{module}/__init__.py": f"{kind}.py",
        f"tests/test_{module}.py": f"{kind}_test.py",
        ".github/workflows/test.yml": "test.yml",
    }
    if kind == "source":
        templates |= {f"example/{one}.csv": f"example_{one}.csv" for one in EXAMPLES}
    files = {path: _filled(template, words) for path, template in templates.items()}
    return files | {f"src/{module}/py.typed": "", "example.toml": _recipe(name, kind)}


def _recipe(name: str, kind: str) -> str:
    return f'name = "{name}"\n\n{RECIPES[kind].format(name)}'


def _sentences(name: str, kind: str) -> dict[str, str]:
    title = TITLES.get(kind, kind)
    article = "an" if title[0] in "aeiou" else "a"
    code = "eegstore build example.toml"
    if kind == "exporter":
        code += f"\neegstore export {name}.zarr {name}.csv --format {name}"
    return {
        "title": title.capitalize(),
        "article": f"{article} {title}",
        "article_title": f"{article.capitalize()} {title}",
        "check_options": " --set path=example" if kind == "source" else "",
        "usage": "a recipe can name it, as `example.toml` does"
        if kind != "exporter"
        else "a store can be exported with it",
        "usage_code": "\n".join(f"    {line}" for line in code.splitlines()),
    }


def _filled(template: str, words: Mapping[str, str]) -> str:
    """A template of the package with its words."""
    file = resources.files("eegstore") / "templates" / f"{template}.template"
    return Template(file.read_text(encoding="utf-8")).substitute(words)


def _commands(name: str, kind: str, folder: Path) -> tuple[str, ...]:
    """Install it, run its tests, use it."""
    # pip takes a name without a separator for one of its index.
    here = str(folder) if folder.is_absolute() else os.path.join(".", folder)  # noqa: PTH118
    use = f"eegstore build {shlex.quote(str(folder / 'example.toml'))}"
    if kind == "exporter":
        use += f" && eegstore export {name}.zarr {name}.csv --format {name}"
    return (
        f"python -m pip install -e {shlex.quote(f'{here}[test]')}",
        f"python -m pytest {shlex.quote(str(folder))}",
        use,
    )
