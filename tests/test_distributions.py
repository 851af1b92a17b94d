"""A distribution whose entry points cannot be read stops nothing but itself."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import eegstore
from command import check_refused, run_command
from eegstore import distributions, registry
from eegstore.distributions import Malformed
from third_party import extractor, lay_out

RECIPE = """
[source]
plugin = "synthetic"
n_trials = 8
n_channels = 2
n_times = 16
[store]
codec = "small"
[[extract]]
plugin = "odd"
"""
MALFORMED = {
    "no value": (b"[console_scripts]\nodd\n", "TypeError: "),
    "no text": (b"[console_scripts]\nodd = \xff\xfe:main\n", "UnicodeDecodeError: "),
}


def malform(site: Path, content: bytes) -> None:
    facts = site / "unrelated-3.1.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: unrelated\nVersion: 3.1\n")
    (facts / "entry_points.txt").write_bytes(content)


@pytest.mark.parametrize("case", MALFORMED)
def test_commands_and_their_workers_go_on_beside_it(tmp_path, case):
    content, reason = MALFORMED[case]
    site = tmp_path / "site"
    malform(site, content)
    env = lay_out(site, extractor("return block['eeg'].max(axis=(1, 2))"))
    with pytest.raises(subprocess.CalledProcessError):  # the file is as bad as this test says
        subprocess.run(
            [sys.executable, "-c", "import importlib.metadata as m; m.entry_points()"],
            env=os.environ | env, check=True, capture_output=True,
        )  # fmt: skip
    said = (
        f"plugin 'unrelated' of unrelated is not used: its entry_points.txt is malformed ({reason}"
    )
    listed = run_command("plugins", "--json", cwd=tmp_path, env=env)
    assert listed.code == 0, listed.err
    rows = {row["name"]: row for row in json.loads(listed.out)}
    assert rows["odd"]["status"] == "ok"
    assert rows["unrelated"]["distribution"] == "unrelated 3.1"
    assert listed.err.startswith(f"eegstore: {said}")
    assert listed.err.endswith("; install it again\n")
    assert len(listed.err.splitlines()) == 1
    (tmp_path / "a.toml").write_text(RECIPE)
    command = ("build", "a.toml", "--executor", "processes", "--workers", "2")
    built = run_command(*command, cwd=tmp_path, env=env)
    assert built.code == 0, built.err
    assert len(eegstore.open_store(tmp_path / "a.zarr").trials["odd"]) == 8
    for others in (("info", "a.zarr"), ("verify", "a.zarr", "--deep"), ("recipes",), ("schema",),
                   ("export", "a.zarr", "flat", "--format", "npy")):  # fmt: skip
        done = run_command(*others, cwd=tmp_path, env=env)
        assert done.code == 0, (others, done.err)
    (tmp_path / "b.toml").write_text(RECIPE.replace('"odd"', '"absent"'))
    missing = run_command("build", "b.toml", cwd=tmp_path, env=env)
    check_refused(
        missing, 4, "it may be of one that is not loaded: unrelated, its entry_points.txt"
    )
    chosen = run_command("plugins", cwd=tmp_path, env=env | {"EEGSTORE_PLUGINS": "theirs"})
    assert (chosen.code, chosen.err) == (0, "")


def test_a_process_that_is_no_command_keeps_its_metadata_as_it_is(tmp_path, monkeypatch):
    before = importlib.metadata.Distribution.__dict__["entry_points"]
    sound = [one.name for one in distributions.entry_points("eegstore")]
    assert distributions.malformed() == []
    malform(tmp_path, MALFORMED["no value"][0])
    monkeypatch.syspath_prepend(tmp_path)
    assert [one.name for one in distributions.entry_points("eegstore")] == sound
    (found,) = distributions.malformed()
    assert isinstance(found, Malformed)
    assert found[:2] == ("unrelated", "3.1")
    assert importlib.metadata.Distribution.__dict__["entry_points"] is before
    with pytest.raises(TypeError):
        importlib.metadata.entry_points(group="eegstore")
    registry.plugins.cache_clear()
    assert "unrelated" in [one.name for one in registry.broken() or registry.plugins()]
    monkeypatch.undo()
    assert [one.name for one in distributions.entry_points("eegstore")] == sound
    assert distributions.malformed() == []
    registry.plugins.cache_clear()
