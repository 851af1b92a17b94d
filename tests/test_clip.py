"""The CLIP and SigLIP extractors against transformers itself, on small models with real classes."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from huggingface_hub import constants
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.datasets import load_digits

from eegstore import Block, InputError
from eegstore.registry import create
from eegstore_plugins import clip_model
from eegstore_plugins.clip import ClipImage, ClipText
from tiny_clip import TEXT_LENGTH, clip_tokenizer, write_tiny_clip, write_tiny_siglip

CAPTIONS = [f"This picture is digit {digit}" for digit in range(10)]


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="module")
def siglip(tmp_path_factory) -> Path:
    return write_tiny_siglip(tmp_path_factory.mktemp("models") / "tiny-siglip")


@pytest.fixture
def copy(clip, tmp_path) -> Path:
    """A folder that the test may damage."""
    return Path(shutil.copytree(clip, tmp_path / "model"))


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """80 handwritten digits in the sizes and shapes that occur: square, tall, wide, tiny, large."""
    zooms = [(1, 1), (4, 4), (3, 7), (9, 2), (30, 30)]
    digits = (load_digits().images[:80] * (255 / 16)).astype(np.uint8)
    grown = [np.kron(one, np.ones(zooms[i % 5], np.uint8)) for i, one in enumerate(digits)]
    return [np.stack([one, 255 - one, one // 2], axis=-1) for one in grown]


def embed_images(folder, images, **options):
    return ClipImage(model=str(folder), **options)(Block({"image": images}, 0, len(images)))


def embed_captions(folder, captions, **options):
    return ClipText(model=str(folder), **options)(Block({"caption": captions}, 0, len(captions)))


def direct_image_embeddings(folder, images):
    """The embeddings without eegstore, one image at a time."""
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        rows = [
            model.vision_model(**processor(images=image, return_tensors="pt")).pooler_output
            for image in images
        ]
        if hasattr(model, "visual_projection"):
            rows = [model.visual_projection(row) for row in rows]
    return torch.cat(rows).numpy()


def direct_text_embeddings(folder, captions):
    """The embeddings without eegstore, one caption at a time, unpadded where the model allows."""
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    padding = "max_length" if model.config.model_type == "siglip" else False
    rows = []
    with torch.no_grad():
        for caption in captions:
            tokens = tokenizer(
                caption,
                padding=padding,
                truncation=True,
                max_length=TEXT_LENGTH,
                return_tensors="pt",
            )
            row = model.text_model(input_ids=tokens["input_ids"]).pooler_output
            rows.append(model.text_projection(row) if hasattr(model, "text_projection") else row)
    return torch.cat(rows).numpy()


@pytest.mark.parametrize("model", ["clip", "siglip"])
def test_image_embeddings_are_those_of_transformers(model, images, request):
    folder = request.getfixturevalue(model)
    embedded = embed_images(folder, images)
    assert embedded.dtype == np.float32
    assert embedded.shape == (80, {"clip": 32, "siglip": 64}[model])
    assert_allclose(embedded, direct_image_embeddings(folder, images), rtol=0, atol=1e-5)
    assert embedded.std(axis=0).min() > 1e-3, "the images must not all look alike to the model"


@pytest.mark.parametrize("model", ["clip", "siglip"])
@pytest.mark.parametrize("captions", [CAPTIONS, ["x" * 200, "a"]], ids=["short", "too long"])
def test_text_embeddings_are_those_of_transformers(model, captions, request):
    folder = request.getfixturevalue(model)
    embedded = embed_captions(folder, captions)
    assert embedded.dtype == np.float32
    assert_allclose(embedded, direct_text_embeddings(folder, captions), rtol=0, atol=1e-5)
    assert np.ptp(embedded, axis=0).min() > 1e-3, "the captions must not all look alike"


def test_embeddings_are_projected_but_not_normalised(clip, images):
    norms = np.linalg.norm(embed_images(clip, images), axis=1)
    assert norms.std() > 1e-3
    assert not np.isclose(norms, 1).any()


@pytest.mark.parametrize("batch_size", [1, 3, 79, 200])
def test_embeddings_do_not_depend_on_the_batch_size(clip, images, batch_size):
    captions = [f"digit {i}" for i in range(7)]
    assert_allclose(
        embed_images(clip, images, batch_size=batch_size),
        embed_images(clip, images),
        rtol=0,
        atol=1e-5,
    )
    assert_allclose(
        embed_captions(clip, captions, batch_size=batch_size),
        embed_captions(clip, captions),
        rtol=0,
        atol=1e-5,
    )


def test_embeddings_are_bit_identical_on_repetition_and_after_a_new_load(clip, images):
    first = embed_images(clip, images), embed_captions(clip, CAPTIONS)
    assert_array_equal(embed_images(clip, images), first[0])
    clip_model.load_model.cache_clear()
    assert_array_equal(embed_images(clip, images), first[0])
    assert_array_equal(embed_captions(clip, CAPTIONS), first[1])


def test_number_of_threads_is_that_of_the_cpus_whatever_was_set_before(clip, images):
    before = torch.get_num_threads()
    expected = embed_images(clip, images)
    try:
        torch.set_num_threads(1 if os.cpu_count() != 1 else 2)
        assert_array_equal(embed_images(clip, images), expected)
        assert torch.get_num_threads() == os.cpu_count()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.1), ("float16", 0.01)])
def test_half_precision_is_float32_within_its_rounding(clip, images, dtype, tolerance):
    exact, half = embed_images(clip, images), embed_images(clip, images, dtype=dtype)
    assert half.dtype == np.float32
    assert_allclose(half, exact, rtol=0, atol=tolerance)
    assert not np.array_equal(half, exact), "the option had no effect"
    captions = embed_captions(clip, CAPTIONS, dtype=dtype)
    assert_allclose(captions, embed_captions(clip, CAPTIONS), rtol=0, atol=tolerance)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_cuda_agrees_with_the_cpu(clip, images, dtype, tolerance):
    on_cuda = embed_images(clip, images, device="cuda", dtype=dtype)
    on_cpu = embed_images(clip, images, device="cpu", dtype=dtype)
    assert_allclose(on_cuda, on_cpu, rtol=0, atol=tolerance)
    again = embed_images(clip, images, device="cuda", dtype=dtype)
    assert_array_equal(again, on_cuda)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(clip):
    with pytest.raises(InputError, match=r"no CUDA device; set device = \"auto\""):
        ClipImage(model=str(clip), device="cuda").prepare()


@pytest.mark.parametrize("shape", [(3, 40, 3), (1, 9, 3), (4, 4, 3), (3, 3, 3)])
def test_an_image_of_few_rows_is_not_taken_for_channels_first(clip, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = direct_image_embeddings(clip, [Image.fromarray(image, "RGB")])
    assert_allclose(embed_images(clip, [image]), expected, rtol=0, atol=1e-5)


def test_equal_captions_are_computed_once(clip, monkeypatch):
    seen = []
    model = clip_model.load_model(ClipText(model=str(clip)).checkpoint, "float32", "cpu")
    features = model.get_text_features

    def counted(**inputs):
        seen.append(len(inputs["input_ids"]))
        return features(**inputs)

    monkeypatch.setattr(model, "get_text_features", counted)
    embedded = embed_captions(clip, ["b", "a", "b", "b", "c", "a"], device="cpu")
    assert seen == [3]
    assert_array_equal(embedded[[0, 1]], embedded[[2, 5]])
    assert_array_equal(embedded[0], embedded[3])
    assert_allclose(embedded[[1, 0, 4]], direct_text_embeddings(clip, ["a", "b", "c"]), atol=1e-5)


def test_empty_captions_are_refused(clip):
    block = Block({"caption": ["one", "", "  "]}, 5, 8)
    with pytest.raises(InputError, match=r"2 of 3 captions in rows 5 to 7 .* set caption in"):
        ClipText(model=str(clip))(block)


def test_images_and_captions_share_one_load(clip):
    clip_model.load_model.cache_clear()
    ClipImage(model=str(clip)).prepare()
    ClipText(model=str(clip)).prepare()
    assert clip_model.load_model.cache_info().misses == 1
    ClipText(model=str(clip), dtype="float16").prepare()
    assert clip_model.load_model.cache_info().misses == 2


def test_weights_that_change_in_place_are_loaded_again(tmp_path, images):
    write_tiny_clip(tmp_path / "model", seed=1)
    before = embed_images(tmp_path / "model", images[:2])
    print_before = ClipImage(model=str(tmp_path / "model")).fingerprint()
    write_tiny_clip(tmp_path / "model", seed=2)
    after = embed_images(tmp_path / "model", images[:2])
    assert np.abs(after - before).max() > 0.1
    assert ClipImage(model=str(tmp_path / "model")).fingerprint() != print_before


@pytest.mark.parametrize("model", ["clip", "siglip"])
@pytest.mark.parametrize("plugin", [ClipImage, ClipText])
def test_describe_gives_the_shape_that_the_call_returns(model, plugin, images, request):
    folder = request.getfixturevalue(model)
    extractor = plugin(model=str(folder))
    spec = extractor.describe({})
    result = extractor(Block({"image": images[:2], "caption": ["a", "b"]}, 0, 2))
    assert (spec.dims, spec.shape, spec.dtype) == (("feature",), result.shape[1:], "float32")


def test_describe_states_what_was_computed(clip):
    weights = (clip / "model.safetensors").read_bytes()
    attrs = ClipImage(model=str(clip), dtype="bfloat16").describe({}).attrs
    assert json.loads(json.dumps(attrs)) == attrs
    assert attrs["model"] == "tiny-clip"
    assert attrs["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert attrs["compute_dtype"] == "bfloat16"
    assert attrs["dimension"] == 32
    assert attrs["normalised"] is False
    assert attrs["processor"]["backend"] == "pil"
    assert attrs["processor"]["crop_size"] == {"height": 32, "width": 32}
    assert attrs["processor"]["resample"] == 3


@pytest.mark.parametrize(
    ("kind", "plugin", "config", "dimension"),
    [
        ("clip", ClipImage, {}, 512),
        ("clip", ClipText, {"projection_dim": 768}, 768),
        ("siglip", ClipImage, {"vision_config": {"model_type": "siglip_vision_model"}}, 768),
        ("siglip", ClipImage, {"vision_config": {"hidden_size": 1152}}, 1152),
        ("siglip", ClipText, {"text_config": {"hidden_size": 1152}}, 1152),
        ("siglip", ClipText, {"text_config": {"hidden_size": 8, "projection_size": 16}}, 16),
    ],
)
def test_dimension_where_config_leaves_defaults_out(copy, kind, plugin, config, dimension):
    (copy / "config.json").write_text(json.dumps({"model_type": kind, **config}))
    assert plugin(model=str(copy)).describe({}).shape == (dimension,)
    section = plugin.side.replace("image", "vision") + "_config"
    known = transformers.AutoConfig.for_model(kind, **config)
    part = getattr(known, section)
    expected = getattr(known, "projection_dim", None) or getattr(
        part, "projection_size", part.hidden_size
    )
    assert expected == dimension


def test_fingerprint_follows_what_decides_the_side_and_nothing_else(copy):
    def prints():
        return [plugin(model=str(copy)).fingerprint() for plugin in (ClipImage, ClipText)]

    first = prints()
    (copy / "README.md").write_text("nothing")
    assert prints() == first
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    settings["image_mean"] = [0.5, 0.5, 0.5]
    (copy / "preprocessor_config.json").write_text(json.dumps(settings))
    second = prints()
    assert second[0] != first[0]
    assert second[1] == first[1]
    (copy / "tokenizer_config.json").write_text("{}")
    third = prints()
    assert third[0] == second[0]
    assert third[1] != second[1]


def test_fingerprint_does_not_depend_on_where_the_folder_is(clip, tmp_path):
    elsewhere = shutil.copytree(clip, tmp_path / "elsewhere" / "tiny-clip")
    here, there = ClipText(model=str(clip)), ClipText(model=str(elsewhere))
    assert here.fingerprint() == there.fingerprint()
    assert here.describe({}).attrs == there.describe({}).attrs


def test_a_relative_folder_starts_from_the_current_one(clip, monkeypatch):
    monkeypatch.chdir(clip.parent)
    assert ClipImage(model="tiny-clip").checkpoint.folder == clip.resolve()


def test_sharded_weights_give_the_same_embeddings(clip, copy, images):
    with clip_model.quiet():
        model = transformers.CLIPModel.from_pretrained(clip)
        (copy / "model.safetensors").unlink()
        model.save_pretrained(copy, max_shard_size="100KB")
    assert len(list(copy.glob("model-*-of-*.safetensors"))) > 2
    assert_array_equal(embed_images(copy, images[:3]), embed_images(clip, images[:3]))
    first = ClipImage(model=str(copy)).fingerprint()
    shard = sorted(copy.glob("model-*"))[-1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert ClipImage(model=str(copy)).fingerprint() != first


def test_the_legacy_form_of_the_image_processors_file_is_read(clip, copy, images):
    legacy = {
        "crop_size": 32,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 32,
    }
    (copy / "preprocessor_config.json").write_text(json.dumps(legacy))
    assert_allclose(embed_images(copy, images), embed_images(clip, images), atol=1e-6)


def run(program: str) -> str:
    """What a fresh process writes to the terminal."""
    command = [sys.executable, "-W", "default", "-c", program]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


@pytest.mark.nightly
def test_nothing_is_written_to_the_terminal(copy):
    weights = safetensors.torch.load_file(copy / "model.safetensors")
    weights["theirs"] = torch.zeros(1)
    safetensors.torch.save_file(weights, copy / "model.safetensors", {"format": "pt"})
    loads = f"import transformers; transformers.AutoModel.from_pretrained({str(copy)!r})"
    assert re.search("Loading weights: 100%(.|\n)*theirs.*UNEXPECTED", run(loads))
    embeds = f"""
import numpy as np
from eegstore import Block
from eegstore_plugins.clip import ClipImage, ClipText
block = Block({{"image": [np.zeros((9, 9, 3), np.uint8)] * 3, "caption": ["x" * 500] * 3}}, 0, 3)
for plugin in ClipImage, ClipText:
    extractor = plugin(model={str(copy)!r})
    extractor.fingerprint()
    extractor.describe({{}})
    extractor.prepare()
    extractor(block)
"""
    assert run(embeds) == ""
    assert re.search("Loading weights: 100%(.|\n)*theirs.*UNEXPECTED", run(embeds + loads))


def test_library_settings_are_put_back(clip):
    log = transformers.utils.logging
    hub = huggingface_hub.utils
    before = (
        log.get_verbosity(),
        log.is_progress_bar_enabled(),
        hub.logging.get_verbosity(),
        hub.are_progress_bars_disabled(),
        list(warnings.filters),
    )
    with clip_model.quiet():
        assert log.get_verbosity() == log.ERROR
        assert not log.is_progress_bar_enabled()
        assert hub.are_progress_bars_disabled()
    embed_captions(clip, ["a"])
    assert before == (
        log.get_verbosity(),
        log.is_progress_bar_enabled(),
        hub.logging.get_verbosity(),
        hub.are_progress_bars_disabled(),
        list(warnings.filters),
    )


def test_importing_describing_and_fingerprinting_import_no_torch(clip):
    program = f"""
import sys
from eegstore_plugins.clip import ClipImage, ClipText
heavy = {{"torch", "transformers", "huggingface_hub", "PIL", "safetensors", "tokenizers"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
for plugin in ClipImage, ClipText:
    plugin(model={str(clip)!r}).describe({{}})
    plugin(model={str(clip)!r}).fingerprint()
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    assert run(program) == ""


@pytest.mark.parametrize(
    ("file", "plugin"),
    [
        ("config.json", ClipImage),
        ("preprocessor_config.json", ClipImage),
        ("tokenizer_config.json", ClipText),
    ],
)
def test_a_model_that_asks_for_code_of_its_folder_is_refused(copy, file, plugin):
    settings = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(settings | {"auto_map": {"AutoModel": "theirs.Theirs"}}))
    for act in ("describe", "fingerprint", "prepare"):
        assert f"{file} has auto_map: it asks for code" in one_line(plugin(model=str(copy)), act)


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickled_weights_are_refused_and_never_opened(copy, tmp_path):
    (copy / "model.safetensors").unlink()
    torch.save({"a": _Bomb(str(tmp_path / "exploded"))}, copy / "pytorch_model.bin")
    for act in ("describe", "fingerprint", "prepare"):
        with pytest.raises(InputError, match=r"model 'model': no model.safetensors .*never") as one:
            getattr(ClipImage(model=str(copy)), act)(*([{}] if act == "describe" else []))
        assert "\n" not in str(one.value)
    assert not (tmp_path / "exploded").exists()


def one_line(extractor, act) -> str:
    with pytest.raises(InputError) as caught:
        getattr(extractor, act)(*([{}] if act == "describe" else []))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("missing", "plugin", "named"),
    [
        ("config.json", ClipImage, "config.json is missing"),
        ("preprocessor_config.json", ClipImage, "preprocessor_config.json or processor_config"),
        ("tokenizer.json", ClipText, "tokenizer.json or merges.txt with vocab.json"),
    ],
)
def test_a_missing_file_is_named(copy, missing, plugin, named):
    (copy / missing).unlink()
    for act in ("describe", "fingerprint", "prepare"):
        assert named in one_line(plugin(model=str(copy)), act)


def test_a_vocabulary_without_its_merges_is_refused(copy):
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.json").write_text("{}")
    assert "merges.txt with vocab.json" in one_line(ClipText(model=str(copy)), "prepare")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "config.json is not JSON"),
        ("\xff", "config.json is not JSON"),
        ("[]", "config.json is a JSON list, expected an object"),
        ('{"model_type": "bert"}', "model_type 'bert', expected clip or siglip"),
        ('{"model_type": ["clip"]}', "model_type ['clip'], expected clip or siglip"),
        ('{"model_type": "clip", "projection_dim": -3}', "projection_dim -3, expected a positive"),
    ],
)
def test_a_bad_config_is_one_line(copy, text, complaint):
    (copy / "config.json").write_bytes(text.encode("latin-1"))
    assert complaint in one_line(ClipImage(model=str(copy)), "describe")


@pytest.mark.parametrize(
    ("name", "content", "plugin"),
    [
        ("tokenizer.json", b"{}", ClipText),
        ("preprocessor_config.json", b'{"image_processor_type": "None"}', ClipImage),
        ("config.json", b'{"model_type": "clip", "text_config": 3}', ClipImage),
    ],
)
def test_damaged_files_are_one_line(copy, name, content, plugin):
    (copy / name).write_bytes(content)
    message = one_line(plugin(model=str(copy)), "prepare")
    assert message.startswith("model 'model': transformers cannot load the ")


def test_weights_of_another_architecture_are_refused_not_made_up(copy):
    config = json.loads((copy / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 3
    (copy / "config.json").write_text(json.dumps(config))
    message = one_line(ClipImage(model=str(copy)), "prepare")
    assert "the weights lack" in message
    assert "vision_model.encoder.layers.2" in message


def test_weights_of_another_size_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["projection_dim"] = 16
    (copy / "config.json").write_text(json.dumps(config))
    assert "cannot load the weights" in one_line(ClipImage(model=str(copy)), "prepare")


def test_a_tokenizer_that_needs_another_package_says_so(siglip, tmp_path):
    if transformers.utils.is_sentencepiece_available():
        pytest.skip("sentencepiece is installed")
    folder = Path(shutil.copytree(siglip, tmp_path / "siglip"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "SiglipTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "SentencePiece" in one_line(ClipText(model=str(folder)), "prepare")


@pytest.mark.parametrize("model", ["/no/such/folder", "./nothing", "a/b/c", "nothing"])
def test_a_folder_that_is_not_there_is_no_hub_id(model):
    message = one_line(ClipImage(model=model), "describe")
    assert message.startswith(f"model {model!r}: no such folder")


def test_a_revision_of_a_folder_is_refused(clip):
    extractor = ClipImage(model=str(clip), revision="main")
    assert "revision is 'main', but this is a folder" in one_line(extractor, "describe")


def test_a_hub_model_that_cannot_be_had_gives_the_command():
    message = one_line(ClipText(model="someone/clip", revision="v2"), "describe")
    assert "`HF_HUB_OFFLINE=0 hf download someone/clip --revision v2`" in message
    assert message.startswith("model 'someone/clip': neither a folder nor in this machine's cache")


def test_the_hubs_conversion_is_taken_where_main_holds_pickles_only():
    message = one_line(ClipText(model="openai/clip-vit-base-patch32"), "describe")
    assert "hf download openai/clip-vit-base-patch32 --revision refs/pr/15`" in message


@pytest.mark.parametrize("package", ["torch", "transformers", "huggingface_hub", "safetensors"])
def test_a_missing_package_gives_the_command(clip, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    message = one_line(ClipImage(model=str(clip)), "describe")
    assert message == (
        f"clip-image: package {package!r} is not installed; run `pip install 'eegstore[clip]'`"
    )


@pytest.fixture
def hub_model(clip, tmp_path) -> str:
    """The small model as the Hub's client caches one."""
    repository = tmp_path / "hub" / "models--someone--clip"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee" + "0" * 34)
    shutil.copytree(clip, repository / "snapshots" / ("c0ffee" + "0" * 34))
    return "someone/clip"


def test_a_cached_hub_model_is_used_without_the_network(hub_model, clip, images, capfd):
    extractor = ClipImage(model=hub_model)
    attrs = extractor.describe({}).attrs
    assert (attrs["model"], attrs["revision"]) == ("someone/clip", "c0ffee" + "0" * 34)
    embedded = extractor(Block({"image": images[:4]}, 0, 4))
    assert_array_equal(embedded, embed_images(clip, images[:4]))
    assert extractor.fingerprint() != ClipImage(model=str(clip)).fingerprint()
    assert capfd.readouterr() == ("", "")


def test_only_the_files_that_are_used_are_downloaded(hub_model, clip, monkeypatch):
    asked = {}

    def download(model, *, revision, allow_patterns, local_files_only):
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not cached")
        asked.update(model=model, revision=revision, patterns=allow_patterns)
        return str(clip)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: "has it")
    ClipImage(model="someone/new", revision="v1").fingerprint()
    kept = huggingface_hub.utils.filter_repo_objects(
        [
            "README.md",
            "config.json",
            "flax_model.msgpack",
            "merges.txt",
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "open_clip_model.safetensors",
            "onnx/model.onnx",
            "preprocessor_config.json",
            "pytorch_model.bin",
            "tf_model.h5",
            "modeling_theirs.py",
            "tokenizer.json",
            "vocab.json",
        ],
        allow_patterns=asked["patterns"],
    )
    assert (asked["model"], asked["revision"]) == ("someone/new", "v1")
    assert list(kept) == [
        "config.json",
        "merges.txt",
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "vocab.json",
    ]


def test_a_cache_without_weights_is_completed(hub_model, tmp_path, clip, monkeypatch):
    (folder,) = (tmp_path / "hub" / "models--someone--clip" / "snapshots").iterdir()
    (folder / "model.safetensors").unlink()
    download = huggingface_hub.snapshot_download

    def completing(model, *, local_files_only, **options):
        if not local_files_only:
            shutil.copy(clip / "model.safetensors", folder)
        return download(model, local_files_only=True, **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", completing)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: "has it")
    assert len(ClipImage(model=hub_model).checkpoint.weights) == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "model"),
        ({"model": "a/b", "dtype": "int8"}, "dtype"),
        ({"model": "a/b", "batch_size": 0}, "batch_size"),
        ({"model": "a/b", "batch_size": "64"}, "batch_size"),
        ({"model": "a/b", "device": "tpu"}, "device"),
        ({"model": "a/b", "modell": 1}, "modell"),
    ],
)
@pytest.mark.parametrize("name", ["clip-image", "clip-text"])
def test_bad_options_are_refused(name, options, complaint, tmp_path):
    with pytest.raises(InputError, match=complaint):
        create("extractor", name, options, tmp_path)


def test_the_recipe_finds_both_by_name(clip, tmp_path):
    image = create("extractor", "clip-image", {"model": str(clip), "batch_size": 2}, tmp_path)
    assert image == ClipImage(model=str(clip), batch_size=2)
    assert isinstance(create("extractor", "clip-text", {"model": str(clip)}, tmp_path), ClipText)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("text", "ids"),
    [("a diagram", [320, 22697]), ("A photo of  a cat", [320, 1125, 539, 320, 2368])],
)
def test_openais_vocabulary_gives_openais_token_ids(shared_data, copy, text, ids):
    path = shared_data / "clip-assets" / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    tokenizer = clip_tokenizer(merges)
    assert len(tokenizer) == 49408
    with clip_model.quiet():
        tokenizer.save_pretrained(copy)
    loaded = clip_model.load_processor(ClipText(model=str(copy)).checkpoint, "text")
    assert loaded(text)["input_ids"] == [49406, *ids, 49407]
