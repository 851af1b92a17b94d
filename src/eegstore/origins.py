"""Where a plugin's code comes from: its source counts where it is edited without a new version."""

from __future__ import annotations

import importlib.util
import json
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

from eegstore.disk import digest_file, digest_json


def source_digest(entry_point: EntryPoint) -> str:
    """Digest of the Python files that an entry point's module belongs to, as they are now.

    Empty unless its distribution is installed as editable (PEP 610: https://peps.python.org/pep-0610/):
    files that no version vouches for. Of a package all its modules count, whichever is a plugin's;
    their names are relative, so that a source that is moved keeps its digest.
    """
    if entry_point.dist is None or not is_editable(entry_point.dist):
        return ""
    files = _source_files(entry_point.module)
    return digest_json([[name, digest_file(files[name])] for name in sorted(files)])


def is_editable(distribution: Distribution) -> bool:
    """Whether a distribution's own record says that it was installed by ``pip install -e``."""
    try:
        facts = json.loads(distribution.read_text("direct_url.json") or "{}")
        return facts["dir_info"]["editable"] is True
    except (ValueError, LookupError, TypeError):
        return False


def _source_files(module: str) -> dict[str, Path]:
    """Relative name and path of each Python file of a module's package."""
    spec = _owner(module)
    if spec is None:
        return {}
    if spec.submodule_search_locations is None:
        return {Path(spec.origin).name: Path(spec.origin)} if spec.origin else {}
    return {
        file.relative_to(folder).as_posix(): file
        for folder in spec.submodule_search_locations
        for file in Path(folder).rglob("*.py")
    }


def _owner(module: str) -> ModuleSpec | None:
    """The outermost package of a module that is one distribution's: no namespace package is."""
    names = module.split(".")
    for depth in range(1, len(names) + 1):
        spec = importlib.util.find_spec(".".join(names[:depth]))
        if spec is None or spec.has_location:
            return spec
    return None
