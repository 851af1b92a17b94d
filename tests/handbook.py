"""The project's documents as tests read them: sections, code blocks, commands and signatures."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
HOOKS: Final = ROOT / "docs" / "hooks.md"
GUIDE: Final = ROOT / "docs" / "plugins.md"
FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN: Final = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def documents() -> list[Path]:
    """Every document that a user reads."""
    return [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


def sections(text: str) -> dict[str, str]:
    """Heading of the second level to what is below it."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return [code for name, code in FENCE.findall(text) if name == language]


def is_example(code: str) -> bool:
    """Whether a block is a whole module, not a list of signatures."""
    return "@hookimpl" in code


def examples() -> dict[str, str]:
    """Name of each plugin that the reference shows, with its module."""
    codes = [code for code in blocks(HOOKS.read_text(), "python") if is_example(code)]
    names = [re.search(r'^    name = "([a-z-]+)"$', code, re.MULTILINE) for code in codes]
    return {name[1]: code for name, code in zip(names, codes, strict=True) if name}


def guide_class() -> str:
    """The module that the plugin guide ends with."""
    (code,) = [code for code in blocks(GUIDE.read_text(), "python") if is_example(code)]
    return code


def documented_functions(text: str) -> dict[str, str]:
    """Functions of signature blocks, by name, as ``ast`` writes them; methods as Class.method."""
    found = {}
    for code in blocks(text, "python"):
        if is_example(code):
            continue
        for node in ast.parse(code).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = ast.unparse(node)
            if isinstance(node, ast.ClassDef):
                bases = ", ".join(map(ast.unparse, node.bases))
                found[node.name] = f"class {node.name}({bases})"
                for member in node.body:
                    if isinstance(member, ast.FunctionDef):
                        found[f"{node.name}.{member.name}"] = ast.unparse(member)
                    elif isinstance(member, ast.AnnAssign):
                        found[f"{node.name}.{ast.unparse(member.target)}"] = ast.unparse(member)
    return found


class Shown:
    """An annotation that is a string, without its quotes."""

    def __init__(self, annotation: str) -> None:
        self.annotation = annotation

    def __repr__(self) -> str:
        return self.annotation


def signature(function: Any, name: str) -> str:
    """A function as a signature block shows it."""
    found = inspect.signature(function)
    parameters = [
        one.replace(annotation=Shown(one.annotation)) if one.annotation is not one.empty else one
        for one in found.parameters.values()
    ]
    shown = found.replace(parameters=parameters, return_annotation=Shown(found.return_annotation))
    code = f"def {name}{shown}: ...".replace("protocols.", "")
    return ast.unparse(ast.parse(code))


def protocol_functions(cls: type[Any]) -> dict[str, str]:
    """A protocol as ``documented_functions`` gives it."""
    bases = ", ".join(base.__name__ for base in cls.__bases__)
    found = {cls.__name__: f"class {cls.__name__}({bases})"}
    for name, annotation in vars(cls).get("__annotations__", {}).items():
        found[f"{cls.__name__}.{name}"] = f"{name}: {annotation}"
    for name, member in vars(cls).items():
        if inspect.isfunction(member) and member.__module__ == cls.__module__:
            found[f"{cls.__name__}.{name}"] = signature(member, name)
        elif isinstance(member, property):
            found[f"{cls.__name__}.{name}"] = f"@property\n{signature(member.fget, name)}"
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The words of every ``eegstore`` command that a document shows, in code of any kind."""
    shown = [line for _, code in FENCE.findall(text) for line in code.splitlines()]
    shown += SPAN.findall(FENCE.sub("", text))
    for line in shown:
        words = line.strip().removeprefix("$ ").split("  #")[0].split()
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # a variable of the environment
            words = words[1:]
        if words[:3] == ["python", "-m", "eegstore"]:
            words = words[2:]
        if words[1:] and words[0] == "eegstore":
            yield words[1:]


def lone_options(text: str) -> list[str]:
    """Options that a document names by themselves, such as ``--deep``."""
    return [span.split()[0] for span in SPAN.findall(FENCE.sub("", text)) if span.startswith("--")]
