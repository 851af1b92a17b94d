"""The distributions in plugins/ are a third party's: the public names alone, their own wheels."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import eegstore

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


def imported(file: Path) -> list[tuple[str, str]]:
    """Module and name of each import of a file; the name is empty where all of it is imported."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


def test_the_packages_are_there():
    assert [path.name for path in PACKAGES] == ["eegstore-catch22", "eegstore-riemann"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_uses_the_public_names_alone(package):
    files = sorted((package / "src").rglob("*.py"))
    uses = [one for file in files for one in imported(file)]
    ours = [(module, name) for module, name in uses if module.split(".")[0] == "eegstore"]
    assert ours
    assert {module for module, _ in ours} == {"eegstore"}
    assert {name for _, name in ours} <= set(eegstore.__all__)
    assert not [module for module, _ in uses if module.startswith("eegstore_plugins")]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_declares_what_it_imports_and_offers(package):
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert project["name"] == package.name
    own = package.name.replace("-", "_")
    files = sorted((package / "src" / own).rglob("*.py"))
    names = {module.split(".")[0] for file in files for module, _ in imported(file)}
    needed = names - sys.stdlib_module_names - {own}
    declared = {one.split(">")[0] for one in project["dependencies"]}
    assert needed == declared
    modules = project["entry-points"]["eegstore"].values()
    assert {package / "src" / f"{one.replace('.', '/')}.py" for one in modules} <= set(files)


def test_the_wheel_of_eegstore_has_none_of_them(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert tops == {"eegstore", "eegstore_plugins", f"eegstore-{eegstore.__version__}.dist-info"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_what_a_package_needs_is_imported_when_it_is_needed(package):
    """Listing plugins imports the module of each entry point."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    modules = ", ".join(project["entry-points"]["eegstore"].values())
    code = f"import sys; sys.path.append('src'); import {modules}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=package, check=True, capture_output=True, text=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert package.name.replace("-", "_") in loaded
    assert not loaded & {"catch22_C", "matplotlib", "pycatch22", "pyriemann", "scipy", "sklearn"}
