"""Nothing inside of a data file is ever executed: objects, texts, names, and a model's own code."""

from __future__ import annotations

import contextlib
import json
import pickle
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image, PngImagePlugin

import eegstore
from baits import BAITS, Canary, check_live, expression, is_refused
from inputs import Recipe, mindbigdata, recording, stimuli
from recordings import write_brainvision, write_eeglab


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What every bait makes when it is executed."""
    return tmp_path / "executed"


def hdf5_objects(folder: Path, mark: Path) -> Recipe:
    """Pickles as vlen bytes, as an opaque type and in attributes; object references."""
    pickled = np.frombuffer(pickle.dumps(Canary(mark)), np.uint8)
    with h5py.File(folder / "trials.h5", "w") as file:
        file["eeg"] = np.ones((2, 2, 8), np.float32)
        file["eeg"].attrs["sfreq"] = 100.0
        file["eeg"].attrs["units"] = np.void(pickled.tobytes())
        file.attrs["PYTABLES_FORMAT_VERSION"] = "2.1"
        file.attrs["producer"] = np.void(pickled.tobytes())
        labels = file.create_dataset("labels", (2,), h5py.vlen_dtype(np.uint8))
        labels[0] = labels[1] = pickled
        file["opaque"] = np.array([np.void(pickled.tobytes())] * 2)
        references = file.create_dataset("references", (2,), h5py.ref_dtype)
        references[0] = references[1] = file["labels"].ref
        file["shown"] = [expression(mark)] * 2
    options = {"plugin": "hdf5", "path": str(folder / "trials.h5"), "eeg": "eeg"}
    return {"source": options}


def hdf5_read_as(option: str, path: str) -> Callable[[Path, Path], Recipe]:
    def make(folder: Path, mark: Path) -> Recipe:
        recipe = hdf5_objects(folder, mark)
        return {"source": recipe["source"] | {option: path, "units": "V"}}

    return make


def matlab_objects(folder: Path, mark: Path) -> Recipe:
    """Objects of MATLAB classes and pickles among the fields of an EEGLAB set."""
    pickled = np.frombuffer(pickle.dumps(Canary(mark)), np.uint8)
    fields = np.array([(pickled,)], dtype=[("run", "O")])
    extra = {
        "etc": scipy.io.matlab.MatlabObject(fields, "evil"),
        "history": expression(mark),
        "comments": pickled,
    }
    write_eeglab(folder / "rec.set", **extra)
    return recording(folder / "rec.set")


def matlab_function(folder: Path, mark: Path) -> Recipe:
    """A function handle among the variables of an EEGLAB set; scipy reads it, but writes none."""
    recipe = matlab_objects(folder, mark)
    text = np.frombuffer(expression(mark).encode(), np.uint8).astype("<u2")
    characters = _array(4, (1, len(text)), b"", _element(4, text.tobytes()))
    handle = _array(16, (1, 1), b"evil", characters)
    with (folder / "rec.set").open("ab") as file:
        file.write(handle)
    found = scipy.io.loadmat(folder / "rec.set", appendmat=False)["evil"]
    assert isinstance(found, scipy.io.matlab.MatlabFunction)
    return recipe


def _element(kind: int, content: bytes) -> bytes:
    """A data element of a MAT file (MAT-File Format, version 5), padded to 8 bytes."""
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def _array(kind: int, shape: tuple[int, int], name: bytes, content: bytes) -> bytes:
    """An array of a MAT file: its class, its shape, its name, and what it holds."""
    flags = _element(6, struct.pack("<II", kind, 0))
    return _element(
        14, flags + _element(5, struct.pack("<ii", *shape)) + _element(1, name) + content
    )


def texts_in_images(folder: Path, mark: Path) -> Recipe:
    """Pickles and Python in the texts, the EXIF data and the colour profile of images."""
    image = Image.new("RGB", (16, 16))
    pickled = pickle.dumps(Canary(mark))
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", expression(mark))
    texts.add(b"puDs", pickled)
    image.save(folder / "0.png", pnginfo=texts, icc_profile=pickled)
    exif = Image.Exif()
    exif[0x9286] = pickled
    image.save(folder / "1.jpg", exif=exif, comment=pickled, icc_profile=pickled)
    image.save(folder / "2.gif", comment=pickled)
    image.save(folder / "3.tiff", tiffinfo={270: expression(mark), 37500: pickled})
    image.save(folder / "4.webp", exif=exif, xmp=pickled)
    return stimuli({"plugin": "image-folder", "path": str(folder)})


# Of the folder that the build runs in, for a name holds no slash.
NAMED = "__import__('os').mkdir('executed')"
SHELL = "$(mkdir executed)"


def names_of_images(folder: Path, mark: Path) -> Recipe:
    """Python, shell and template text in the names of files and folders."""
    for name in (NAMED, SHELL, "`mkdir executed`", "{label.__class__}", "%(x)s", "{{ 7 * 7 }}"):
        (folder / name).mkdir()
        Image.new("RGB", (16, 16)).save(folder / name / f"{name}.png")
    section = {"plugin": "image-folder", "path": str(folder), "caption": "{label}: {concept}"}
    return stimuli(section)


def text_of_recordings(folder: Path, mark: Path) -> Recipe:
    write_brainvision(folder / "rec.vhdr", f"[Comment]\n!!python/object/apply:os.system [id]\n"
                      f"{expression(mark)}\n")  # fmt: skip
    return recording(folder / "rec.vhdr")


def values_of_text(folder: Path, mark: Path) -> Recipe:
    recipe = mindbigdata(folder)
    text = (folder / "MU.txt").read_text()
    (folder / "MU.txt").write_text(text.replace("\t0,0,0", f"\t{expression(mark)},0,0", 1))
    return recipe


INSIDE: dict[str, Callable[[Path, Path], Recipe]] = {
    "HDF5 objects": hdf5_objects,
    "HDF5 vlen bytes as labels": hdf5_read_as("labels", "labels"),
    "HDF5 opaque values as labels": hdf5_read_as("labels", "opaque"),
    "HDF5 references as labels": hdf5_read_as("labels", "references"),
    "HDF5 references as the signal": hdf5_read_as("eeg", "references"),
    "HDF5 vlen bytes as names": hdf5_read_as("ch_names", "labels"),
    "HDF5 opaque values as keys": hdf5_read_as("stimulus_key", "opaque"),
    "HDF5 Python as keys": hdf5_read_as("stimulus_key", "shown"),
    "MATLAB objects": matlab_objects,
    "MATLAB function handle": matlab_function,
    "texts in images": texts_in_images,
    "names of images": names_of_images,
    "text of recordings": text_of_recordings,
    "values of text": values_of_text,
}


def ways_to_fire(mark: Path) -> dict[bytes, Callable[[], object]]:
    """What the bait looks like in a file or a name, and what executes it."""
    pickled, script = pickle.dumps(Canary(mark)), expression(mark)
    return {
        pickled: lambda: pickle.loads(pickled),
        script.encode(): lambda: eval(script),
        script.encode("utf-16-le"): lambda: eval(script),
        NAMED.encode(): lambda: eval(NAMED),
        SHELL.encode(): lambda: subprocess.run(["sh", "-c", f"echo {SHELL}"], check=True),
    }


@pytest.mark.promise("P13")
@pytest.mark.parametrize("name", INSIDE)
def test_nothing_inside_of_a_file_is_executed(
    tmp_path: Path, mark: Path, name: str, monkeypatch: pytest.MonkeyPatch,
    figure: Callable[..., None],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "input"
    folder.mkdir()
    recipe = INSIDE[name](folder, mark)
    is_refused(eegstore.build, recipe, tmp_path / "out.zarr")
    assert not mark.exists()
    paths = sorted(folder.rglob("*"))
    content = b"".join(path.read_bytes() for path in paths if path.is_file())
    content += " ".join(path.name for path in paths).encode()
    live = [fire for form, fire in ways_to_fire(mark).items() if form in content]
    assert live, "the bait is not there as it was meant"
    for fire in live:
        fire()
        mark.rmdir()
    figure("baits that lay still", len(live), len(live))


@pytest.fixture
def hostile_model(tmp_path: Path, mark: Path) -> Path:
    """A model that asks for code and for pickled weights, both of which are bait."""
    pytest.importorskip("transformers")
    from tiny_clip import write_tiny_clip

    folder = write_tiny_clip(tmp_path / "hostile", width=16, image_size=16)
    reference = {
        "AutoConfig": "theirs.Theirs",
        "AutoModel": "theirs.Theirs",
        "AutoImageProcessor": "theirs.Theirs",
        "AutoTokenizer": ["theirs.Theirs"] * 2,
    }
    for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json"):
        document = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(document | {"auto_map": reference}))
    (folder / "theirs.py").write_text(f"{expression(mark)}\nclass Theirs: pass\n")
    for name in ("pytorch_model.bin", "adapter_model.bin", "model-00001-of-00001.bin"):
        (folder / name).write_bytes(BAITS["torch.save"].make(mark))
    return folder


def embed(folder: Path, side: str) -> None:
    """Load a model and embed with it, as a worker does."""
    from eegstore import Block
    from eegstore_plugins.clip import ClipImage, ClipText

    plugin = {"image": ClipImage, "text": ClipText}[side]
    block = Block({"image": [np.zeros((16, 16, 3), np.uint8)], "caption": ["a"]}, 0, 1)
    plugin(model=str(folder))(block)


def ask_for(folder: Path, what: str) -> None:
    """Let a model's files ask for the bait in one of the ways that transformers knows."""
    config = json.loads((folder / "config.json").read_text())
    weights = folder / "model.safetensors"
    if what == "explicit name":
        config["transformers_weights"] = "adapter_model.bin"
    if what == "index":
        weights.unlink()
        index = {"metadata": {}, "weight_map": {"logit_scale": "model-00001-of-00001.bin"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        weights.with_name("model-00001-of-00001.safetensors").write_bytes(b"")
    if what == "pickles alone":
        weights.unlink()
    if what == "custom model":
        config["model_type"] = "theirs"
    if what == "custom processor":
        settings = json.loads((folder / "preprocessor_config.json").read_text())
        settings["image_processor_type"] = "Theirs"
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps(config))


WAYS = ["auto_map", "explicit name", "index", "pickles alone", "custom model", "custom processor"]


@pytest.mark.promise("P13")
@pytest.mark.parametrize("side", ["image", "text"])
@pytest.mark.parametrize("what", WAYS)
@pytest.mark.parametrize("checked", [True, False])
def test_no_code_and_no_pickle_of_a_model_is_executed(
    mark: Path, hostile_model: Path, what: str, side: str, checked: bool,
    monkeypatch: pytest.MonkeyPatch, figure: Callable[..., None],
) -> None:  # fmt: skip
    """Neither where the folder is checked, nor where the check is left out."""
    from eegstore_plugins import clip_checks

    ask_for(hostile_model, what)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked the user to trust it"))
    if not checked:
        monkeypatch.setattr(clip_checks, "check", lambda *_: None)
    assert is_refused(embed, hostile_model, side) or not checked
    assert not mark.exists()
    figure("baits that lay still", 1, 1)


def test_the_hostile_model_does_run_where_it_is_trusted(
    mark: Path, hostile_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    folder = str(tmp_path / "modules")
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.AutoModel.from_pretrained(hostile_model, trust_remote_code=True)
    assert mark.exists()
    mark.rmdir()
    check_live("torch.save", (hostile_model / "adapter_model.bin").read_bytes(), mark)
