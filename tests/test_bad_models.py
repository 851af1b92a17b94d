"""Models that are damaged, ask for code or are not to be had: refused before a byte is written."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import eegstore
from command import LIMIT_S, check_build_refused, check_refused, run_command
from eegstore import InputError
from tiny_clip import write_tiny_clip

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from safetensors.torch import load_file, save_file  # noqa: E402

from eegstore_plugins.clip import ClipImage, ClipText  # noqa: E402

INDEX = "model.safetensors.index.json"
RECIPE = """
[source]
plugin = "synthetic"
n_trials = 8
n_channels = 2
n_times = 32

[stimuli]
plugin = "image-folder"
path = "images"

[pairing]
plugin = "label"
unmatched = "keep"

[[extract]]
plugin = "{plugin}"
model = "{model}"
"""


@dataclass(frozen=True)
class Case:
    """What is done to a sound model's folder, and what the one line must name."""

    damage: Callable[[Path], object]
    parts: tuple[str, ...]
    plugin: str = "clip-image"


def weights_of(folder: Path) -> Path:
    return folder / "model.safetensors"


def only_pickles(folder: Path) -> None:
    torch.save(load_file(weights_of(folder)), folder / "pytorch_model.bin")
    weights_of(folder).unlink()


def set_keys(file: str, **keys: Any) -> Callable[[Path], object]:
    """Set keys of a JSON file."""

    def damage(folder: Path) -> None:
        document = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(document | keys))

    return damage


def write(file: str, content: bytes) -> Callable[[Path], object]:
    """Replace a file."""
    return lambda folder: (folder / file).write_bytes(content)


def remove(*files: str) -> Callable[[Path], object]:
    """Delete files."""
    return lambda folder: [(folder / file).unlink() for file in files]


def pipe(file: str) -> Callable[[Path], object]:
    """Replace a file by a pipe, which whoever opens it waits at."""

    def damage(folder: Path) -> None:
        (folder / file).unlink()
        os.mkfifo(folder / file)

    return damage


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """The bytes of a safetensors file whose header is given as JSON, or as bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor(start: Any, stop: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "data_offsets": [start, stop]}


def change_weights(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Change the bytes of the weights' file."""

    def damage(folder: Path) -> None:
        weights_of(folder).write_bytes(change(weights_of(folder).read_bytes()))

    return damage


def longer_header(content: bytes) -> bytes:
    """The header claims one byte more than the whole file has."""
    return (len(content) - 7).to_bytes(8, "little") + content[8:]


def set_weight(value: float, dtype: Any = torch.float32) -> Callable[[Path], object]:
    """Put a value among the weights."""

    def damage(folder: Path) -> None:
        weights = load_file(weights_of(folder))
        name = "visual_projection.weight"
        weights[name] = weights[name].to(dtype)
        weights[name][3, 5] = value
        save_file(weights, weights_of(folder), {"format": "pt"})

    return damage


def shards(folder: Path, index: object) -> None:
    """Two shards in place of one file, and an index."""
    shutil.copy(weights_of(folder), folder / "model-00001-of-00002.safetensors")
    weights_of(folder).rename(folder / "model-00002-of-00002.safetensors")
    if index is not None:
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))


def sharded(*names: str) -> Callable[[Path], object]:
    """An index that names files: a pickle, a file outside, one that is not there."""
    return lambda folder: shards(folder, {f"weight{n}": name for n, name in enumerate(names)})


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"

CASES = {
    "only pickled weights": Case(
        only_pickles, ("no model.safetensors", "pytorch_model.bin", "save_pretrained")
    ),
    "auto_map": Case(
        set_keys("config.json", auto_map={"AutoModel": "theirs.Theirs"}),
        ("config.json has auto_map", "never run"),
    ),
    "auto_map of the processor": Case(
        set_keys("preprocessor_config.json", auto_map={"AutoImageProcessor": "theirs.Theirs"}),
        ("preprocessor_config.json has auto_map",),
    ),
    "auto_map of the tokenizer": Case(
        set_keys("tokenizer_config.json", auto_map={"AutoTokenizer": ["theirs.T", None]}),
        ("tokenizer_config.json has auto_map",),
        "clip-text",
    ),
    "no processor": Case(
        remove("preprocessor_config.json"),
        ("image processor's files are missing", "preprocessor_config.json", "save_pretrained"),
    ),
    "no tokenizer": Case(
        remove("tokenizer.json"),
        ("tokenizer's files are missing", "merges.txt with vocab.json"),
        "clip-text",
    ),
    "header beyond the file": Case(
        change_weights(longer_header), ("model.safetensors has", "a header of", "truncated")
    ),
    "truncated download": Case(
        change_weights(lambda content: content[: len(content) // 2]),
        ("model.safetensors has", "by its header", "truncated", "fetch it again"),
    ),
    "NaN weights": Case(
        set_weight(float("nan")),
        ("model.safetensors has NaN or Inf among the weights 'visual_projection.weight'",),
    ),
    "weights that are a pipe": Case(pipe("model.safetensors"), ("no model.safetensors",)),
    "config that is a pipe": Case(pipe("config.json"), ("config.json is missing",)),
    "index that names a file outside": Case(
        sharded(FIRST, SECOND, "../evil.safetensors"), ("'../evil.safetensors' is not there",)
    ),
    "index that names pickles": Case(
        sharded(FIRST, SECOND, "pytorch_model.bin"), ("'pytorch_model.bin' is not there",)
    ),
    "another kind of model": Case(
        set_keys("config.json", model_type="bert"), ("model_type 'bert', expected clip or siglip",)
    ),
}

# Tried in this process: what the command makes of an InputError is shown by CASES.
MORE = {
    "adapter": Case(write("adapter_config.json", b"{}"), ("adapter_config.json", "merge")),
    "weights of another name": Case(
        set_keys("config.json", transformers_weights="adapter_model.bin"),
        ("config.json has transformers_weights", "model.safetensors"),
    ),
    "auto_map inside": Case(
        set_keys("config.json", vision_config={"auto_map": {"AutoModel": "theirs.T"}}),
        ("config.json has auto_map",),
    ),
    "no config": Case(remove("config.json"), ("config.json is missing",)),
    "config no JSON": Case(write("config.json", b"{"), ("config.json is not JSON",)),
    "config of brackets": Case(write("config.json", b"[" * 100_000), ("config.json is not JSON",)),
    "config of 20 MB": Case(
        write("config.json", b'{"a": "' + b" " * 20_000_000 + b'"}'), ("config.json is not JSON",)
    ),
    "config a list": Case(write("config.json", b"[]"), ("config.json is a JSON list",)),
    "dimension a string": Case(
        set_keys("config.json", projection_dim="32"), ("projection_dim '32', expected a positive",)
    ),
    "dimension true": Case(
        set_keys("config.json", projection_dim=True), ("projection_dim True, expected a positive",)
    ),
    "processor a list": Case(
        write("preprocessor_config.json", b"[1]"), ("preprocessor_config.json is a JSON list",)
    ),
    "processor of an infinite mean": Case(
        write("preprocessor_config.json", b'{"image_mean": [0.5, 1e999]}'),
        ("preprocessor_config.json is not JSON", "restore it"),
    ),
    "empty weights": Case(write("model.safetensors", b""), ("has 0 bytes", "truncated")),
    "seven bytes": Case(write("model.safetensors", b"1234567"), ("has 7 bytes",)),
    "length only": Case(write("model.safetensors", bytes(8)), ("a header of 0", "no safetensors")),
    "length of 2**63": Case(
        write("model.safetensors", safetensors({}, length=1 << 63)), (f"a header of {1 << 63}",)
    ),
    "pickle named safetensors": Case(
        write("model.safetensors", b"\x80\x02}q\x00." * 20), ("no safetensors file",)
    ),
    "header no JSON": Case(write("model.safetensors", safetensors(b"{")), ("no list of tensors",)),
    "header a list": Case(write("model.safetensors", safetensors([])), ("no list of tensors",)),
    "header of brackets": Case(
        write("model.safetensors", safetensors(b"[" * 100_000)), ("RecursionError",)
    ),
    "no tensor": Case(write("model.safetensors", safetensors({})), ("no list of tensors",)),
    "gap": Case(
        write("model.safetensors", safetensors({"a": tensor(4, 8)}, bytes(8))), ("leave gaps",)
    ),
    "overlap": Case(
        write("model.safetensors", safetensors({"a": tensor(0, 8), "b": tensor(4, 8)}, bytes(8))),
        ("overlap",),
    ),
    "backwards": Case(
        write("model.safetensors", safetensors({"a": tensor(0, -4), "b": tensor(-4, 4)}, bytes(4))),
        ("leave gaps or overlap",),
    ),
    "infinite offset": Case(
        write("model.safetensors", safetensors({"a": tensor(0, float("inf"))})),
        ("no list of tensors",),
    ),
    "trailing bytes": Case(
        change_weights(lambda content: content + b"\0"), ("followed by something else",)
    ),
    **{
        f"{value} as {dtype}": Case(
            set_weight(value, dtype), ("NaN or Inf among the weights 'visual_projection.weight'",)
        )
        for value in (float("nan"), float("inf"), float("-inf"))
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    },
    "shards without index": Case(lambda folder: shards(folder, None), (f"{INDEX} is missing",)),
    "index that lacks a shard": Case(sharded(FIRST), (f"{SECOND!r} is not in the index",)),
    "index that names a place": Case(
        sharded(FIRST, SECOND, "/etc/passwd"), ("'/etc/passwd' is not there",)
    ),
    "index of numbers": Case(sharded(FIRST, SECOND, 3), ("'3' is not there",)),
    "index a string": Case(lambda folder: shards(folder, "x"), ("is not in the index",)),
    "tokenizer settings no JSON": Case(
        write("tokenizer_config.json", b"\xff"), ("tokenizer_config.json is not JSON",), "clip-text"
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(autouse=True)
def _images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for label in range(2):
        Image.new("RGB", (8, 8), (label, 0, 0)).save(tmp_path / "images" / f"{label}.png")


@pytest.fixture
def model(sound: Path, tmp_path: Path) -> Path:
    """A sound model in the folder of the test."""
    return Path(shutil.copytree(sound, tmp_path / "model"))


def extractor(plugin: str, model: Path | str) -> ClipImage | ClipText:
    return (ClipImage if plugin == "clip-image" else ClipText)(model=str(model))


def refusal(given: ClipImage | ClipText) -> str:
    """Why a scan refuses an extractor's model, in one line; empty where it does not."""
    try:
        assert given.describe({}).shape[0] >= 1
        assert len(given.fingerprint()) == 64
    except InputError as error:
        message = str(error)
    else:
        return ""
    assert message.startswith("model 'model': ")
    assert "\n" not in message
    return message


@pytest.mark.promise("P14")
@pytest.mark.parametrize("name", CASES)
def test_a_bad_model_is_refused_by_name(model: Path, name: str) -> None:
    case = CASES[name]
    case.damage(model)
    recipe = RECIPE.format(plugin=case.plugin, model="model")
    check_build_refused(recipe, model.parent, 3, "model 'model': ", *case.parts)
    assert not (model.parent / "out.zarr").exists()
    assert not (model.parent / "out.zarr.build").exists()


@pytest.mark.promise("P14")
@pytest.mark.parametrize("name", MORE)
def test_a_model_with_a_damaged_file_is_refused_by_name(model: Path, name: str) -> None:
    case = MORE[name]
    case.damage(model)
    message = refusal(extractor(case.plugin, model))
    assert len(message) < 300
    for part in case.parts:
        assert part in message


def test_the_sound_model_that_the_cases_damage_is_accepted(model: Path) -> None:
    """So that a case is refused for what is done to the model, not for what the model is."""
    for plugin in ("clip-image", "clip-text"):
        assert extractor(plugin, model).describe({}).shape == (32,)
    set_weight(65504.0, torch.float16)(model)
    shards(model, {"a": FIRST, "b": SECOND})
    assert extractor("clip-image", model).describe({}).shape == (32,)


def test_a_recipe_that_names_a_file_in_place_of_a_models_folder_is_told_so(model: Path) -> None:
    with pytest.raises(InputError, match=r"model\.safetensors': a file, expected a folder"):
        extractor("clip-image", weights_of(model)).describe({})


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    file=st.sampled_from(["config.json", "preprocessor_config.json", "model.safetensors"]),
    at=st.floats(0, 1, exclude_max=True),
    patch=st.binary(min_size=1, max_size=8) | st.sampled_from([b"null", b"[]", b"{}", b"1e999"]),
)
def test_a_model_with_a_changed_file_is_read_or_refused_and_nothing_else(
    model: Path, sound: Path, file: str, at: float, patch: bytes
) -> None:
    content = bytearray((sound / file).read_bytes())
    start = int(at * min(len(content), 20_000))  # the header of the weights is what can break
    content[start : start + len(patch)] = patch
    (model / file).write_bytes(content)
    try:
        refusal(extractor("clip-image", model))
    finally:
        shutil.copy(sound / file, model / file)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes every connection and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed(silent: str) -> str:
    """An address that refuses connections."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.promise("P14")
@pytest.mark.parametrize(
    ("endpoint", "offline", "reason"),
    [
        ("silent", "0", "no answer in 4 s"),
        ("closed", "0", "ConnectError"),
        ("http://nowhere.invalid", "0", "Error"),
        ("silent", "1", "Offline"),
    ],
)
def test_a_hub_model_without_network_is_refused_with_what_to_do_and_without_waiting(
    tmp_path: Path, request: pytest.FixtureRequest, endpoint: str, offline: str, reason: str
) -> None:
    place = endpoint if "/" in endpoint else request.getfixturevalue(endpoint)
    env = {"HF_ENDPOINT": place, "HF_HUB_OFFLINE": offline, "HF_HOME": str(tmp_path / "hub"),
           "NO_PROXY": "*", "no_proxy": "*"}  # fmt: skip
    (tmp_path / "recipe.toml").write_text(RECIPE.format(plugin="clip-image", model="someone/clip"))
    outcome = run_command("build", "recipe.toml", "o", cwd=tmp_path, env=env, limit_s=LIMIT_S)
    check_refused(
        outcome, 3, "model 'someone/clip': ", reason,
        "run `HF_HUB_OFFLINE=0 hf download someone/clip` where there is a network",
        "name a folder that holds the model",
    )  # fmt: skip
    assert not (tmp_path / "o").exists()


@pytest.mark.promise("P14")
def test_a_model_of_another_dimension_replaces_no_committed_column_unasked(model: Path) -> None:
    folder = model.parent
    other = write_tiny_clip(folder / "other", projection_dim=16)
    recipe, store = folder / "recipe.toml", folder / "out.zarr"
    recipe.write_text(RECIPE.format(plugin="clip-image", model="model"))
    eegstore.build(recipe, store)
    before = eegstore.open_store(store)
    embedded = before.stimuli["clip_image"][:]
    recipe.write_text(RECIPE.format(plugin="clip-image", model="other"))
    outcome = run_command("build", "recipe.toml", "out.zarr", cwd=folder, limit_s=LIMIT_S)
    check_refused(outcome, 3, "clip_image", "32", "16", "--overwrite")
    after = eegstore.open_store(store)
    assert after.digest == before.digest
    assert (after.stimuli["clip_image"][:] == embedded).all()
    eegstore.build(recipe, store, overwrite=True)
    replaced = eegstore.open_store(store).stimuli["clip_image"]
    assert replaced[:].shape == (2, 16)
    assert replaced.attrs["model"] == other.name
