"""Virtual environments with an eegstore of their own, made without a network."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Environment:
    """A virtual environment and a folder to work in."""

    bin: Path
    work: Path

    def run(self, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs there; its exit status is as expected."""
        program, *arguments = command
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        done = subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.work,
            env=kept | {"PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def pip(self, *arguments: str) -> None:
        self.run("python", "-m", "pip", *arguments)

    def install(self, *what: str) -> None:
        # Nothing is downloaded, and what the environment of the tests has installed is no reason
        # to leave a distribution out.
        offline = ("--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed")
        self.pip("install", "--quiet", *offline, *what)


def with_eegstore(work: Path) -> Environment:
    """eegstore from its wheel, in a fresh environment in a folder."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", work]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = work.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True, timeout=120)
    bin_ = work / "venv" / ("Scripts" if os.name == "nt" else "bin")
    environment = Environment(bin_, work)
    # The dependencies are those of the tests' own environment. A line of a .pth file adds its
    # folder and does not read the .pth files in there, so that no editable eegstore comes along.
    site = environment.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(site.stdout.strip()) / "lent.pth").write_text("\n".join(sorted(lent)) + "\n")
    environment.install(str(wheel))
    return environment
