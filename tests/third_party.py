"""A third party's distribution of one module, laid out as pip would, for commands to find."""

from __future__ import annotations

import os
from pathlib import Path

IMPORTS = """
import ctypes, dataclasses, os, re, signal, sys, time
from dataclasses import dataclass, field
from typing import ClassVar
import numpy as np
import eegstore
from eegstore import ColumnSpec, InputError, Pairs, Stimuli, Trials, hookimpl
"""
ONE_VALUE = 'return ColumnSpec((), (), "float32")'


def lay_out(site: Path, code: str, name: str = "theirs") -> dict[str, str]:
    """Install a module that is an entry point; the environment in which commands find it."""
    facts = site / f"{name}-1.0.dist-info"
    facts.mkdir(parents=True, exist_ok=True)
    (site / f"{name}.py").write_text(code, encoding="utf-8")
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[eegstore]\n{name} = {name}\n")
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(site), before] if before else [str(site)])}


def plugin(kind: str, body: str, name: str = "odd") -> str:
    """The code of a module that offers one plugin; ``body`` is that of its class."""
    hook = {"source": "sources", "stimuli": "stimuli"}.get(kind, f"{kind}s")
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return f'''{IMPORTS}
@dataclass(frozen=True)
class Odd:
    """Breaks a promise."""
    name: ClassVar[str] = "{name}"
    version: ClassVar[str] = "1"
{lines}

@hookimpl
def eegstore_{hook}():
    return [Odd]
'''


def extractor(call: str, describe: str = ONE_VALUE, reads: str = "eeg") -> str:
    """The code of a module that offers the extractor ``odd``; by default one number a row."""
    table = "stimuli" if reads in ("image", "caption") else "trials"
    body = f'table: ClassVar[str] = "{table}"\nreads: ClassVar[tuple[str, ...]] = ("{reads}",)\n'
    for head, lines in (("describe(self, inputs)", describe), ("__call__(self, block)", call)):
        body += f"def {head}:\n" + "".join(f"    {line}\n" for line in lines.strip().splitlines())
    return plugin("extractor", body)
