"""The pixels of the CLIP extractors against transformers' processors and Pillow, bit by bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image

import eegstore
from eegstore import Block
from eegstore_plugins import clip_inputs, clip_model, clip_passes, clip_resize
from eegstore_plugins.clip import ClipImage
from eegstore_plugins.clip_inputs import ToDevice, ToValues, in_order, preparation
from eegstore_plugins.clip_pixels import transform_of
from tiny_clip import write_tiny_clip

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SIDES = st.integers(1, 90)
FLOATS = st.tuples(*[st.floats(0.1, 2.0)] * 3)
LEVELS = {
    "do_rescale": st.booleans(),
    "rescale_factor": st.floats(1e-3, 1.0),
    "do_normalize": st.booleans(),
    "image_mean": FLOATS,
    "image_std": FLOATS,
    "resample": st.sampled_from(range(6)),
}
BOXES = st.fixed_dictionaries({"height": SIDES, "width": SIDES})
CLIP_SETTINGS = st.fixed_dictionaries(
    {"size": st.one_of(SIDES.map(lambda edge: {"shortest_edge": edge}), BOXES), "crop_size": BOXES},
    optional=LEVELS,
)
SIGLIP_SETTINGS = st.fixed_dictionaries({"size": BOXES}, optional=LEVELS)
OPENAI = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}


def picture(height, width, seed=0, *, extreme=False):
    """uint8, (y, x, 3): noise; ``extreme``: of black and white alone, which overshoots."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return (noise >> 7) * np.uint8(255) if extreme else noise


def processed(processor, images):
    made = processor(images=images, input_data_format="channels_last", return_tensors="np")
    return made["pixel_values"]


def clip_transform(**options):
    return transform_of(transformers.CLIPImageProcessorPil(**(OPENAI | options)))


@settings(deadline=None, max_examples=150)
@given(CLIP_SETTINGS, SIDES, SIDES, st.integers(0, 9), st.booleans())
@example(OPENAI, 500, 500, 0, True)
@example(OPENAI, 28, 28, 0, True)
@example(OPENAI, 1, 90, 0, True)
@example(OPENAI, 400, 90, 0, True)
def test_clips_pixels_are_the_processors(options, height, width, seed, extreme):
    processor = transformers.CLIPImageProcessorPil(**options)
    image = picture(height, width, seed, extreme=extreme)
    expected = processed(processor, [image, image[::-1]])
    made = transform_of(processor).values([image, image[::-1]])
    assert made.dtype == np.float32
    assert_array_equal(made, expected)


@settings(deadline=None, max_examples=60)
@given(SIGLIP_SETTINGS, SIDES, SIDES, st.integers(0, 9))
def test_siglips_pixels_are_the_processors(options, height, width, seed):
    processor = transformers.SiglipImageProcessorPil(**options)
    image = picture(height, width, seed)
    assert_array_equal(transform_of(processor).values([image]), processed(processor, [image]))


class _Theirs(transformers.CLIPImageProcessorPil):
    pass


@pytest.mark.parametrize(
    "processor",
    [
        transformers.CLIPImageProcessorPil(do_resize=False),
        transformers.CLIPImageProcessorPil(do_center_crop=False),
        transformers.CLIPImageProcessorPil(size={"shortest_edge": 9, "longest_edge": 20}),
        transformers.CLIPImageProcessorPil(do_pad=True, pad_size={"height": 250, "width": 250}),
        transformers.ViTImageProcessorPil(),
        _Theirs(),
    ],
    ids=["as it is", "any shape", "two edges", "padded", "another class", "a subclass"],
)
def test_any_other_processor_is_left_to_itself(processor):
    assert transform_of(processor) is None


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="module")
def mixed() -> list[np.ndarray]:
    """A batch of several shapes: many alike, few alike, tall, wide, large."""
    shapes = [(28, 28)] * 9 + [(50, 40)] * 8 + [(50, 20)] * 10 + [(3, 90), (1100, 30), (40, 50)]
    order = np.random.default_rng(0).permutation(len(shapes))
    return [picture(*shapes[row], seed=row, extreme=row % 2 == 0) for row in order]


def embed(folder, images, **options):
    return ClipImage(model=str(folder), **options)(Block({"image": images}, 0, len(images)))


def test_a_processor_that_is_left_to_itself_gives_the_same_embeddings(clip, mixed, monkeypatch):
    expected = embed(clip, mixed, device="cpu")
    monkeypatch.setattr(clip_model, "load_transform", lambda _: None)
    assert_array_equal(embed(clip, mixed, device="cpu"), expected)


SHAPES = [(500, 500), (28, 28), (480, 640), (224, 224), (300, 224), (375, 500), (5, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_usual_shapes_are_resized_on_the_device(shape):
    transform = clip_transform()
    along = clip_resize.axes(transform, shape)
    for image in (picture(*shape), picture(*shape, seed=1, extreme=True)):
        made = clip_resize.resized(torch.from_numpy(image)[None], *map(torch.from_numpy, along))
        assert_array_equal(made[0].permute(1, 2, 0), transform.pixels(image))


@settings(deadline=None, max_examples=100)
@given(SIDES, SIDES, SIDES, BOXES, st.integers(0, 9), st.booleans())
@example(26, 4, 1, {"height": 1, "width": 1}, 0, False)
def test_the_devices_resize_is_pillows_or_is_not_taken(height, width, edge, crop, seed, extreme):
    transform = clip_transform(size={"shortest_edge": edge}, crop_size=crop)
    along = clip_resize.axes(transform, (height, width))
    if along is not None:
        image = picture(height, width, seed, extreme=extreme)
        made = clip_resize.resized(torch.from_numpy(image)[None], *map(torch.from_numpy, along))
        assert_array_equal(made[0].permute(1, 2, 0), transform.pixels(image))


def test_a_shape_whose_noise_pillow_resizes_otherwise_is_left_to_pillow(monkeypatch):
    transform = clip_transform()
    assert clip_resize.axes(transform, (61, 67)) is not None
    monkeypatch.setattr(clip_resize, "A", -0.75)
    clip_resize.halves.cache_clear()
    assert clip_resize.axes(transform, (61, 66)) is None
    clip_resize.halves.cache_clear()


def test_other_filters_large_and_odd_images_are_left_to_pillow():
    assert clip_resize.axes(clip_transform(resample=2), (50, 50)) is None
    assert clip_resize.axes(clip_transform(), (50, clip_resize.MAX_SIDE + 1)) is None
    tiny = clip_transform(size={"shortest_edge": 2}, crop_size={"height": 2, "width": 2})
    assert clip_resize.axes(tiny, (1000, 1000)) is None, "its sums are too large for float32"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpus_way_gives_the_values_of_the_cpus(clip, mixed, dtype):
    model = clip_model.load_model(ClipImage(model=str(clip)).checkpoint, dtype, "cpu")
    transform = clip_transform()
    on_cpu, on_gpu = ToValues(model, transform), ToDevice(model, transform)
    staged = on_gpu.stage(mixed)
    resized_first = {part.pixels.shape[1:3]: part.is_resized for part in staged}
    assert resized_first[28, 28] is False
    assert resized_first[224, 224] is True
    assert sorted(row for part in staged for row in part.rows) == list(range(len(mixed)))
    made = on_gpu.arrive(staged)["pixel_values"]
    expected = on_cpu.arrive(on_cpu.stage(mixed))["pixel_values"]
    assert made.dtype == expected.dtype == getattr(torch, dtype)
    assert torch.equal(made, expected)


@pytest.mark.parametrize("batch_size", [9, 64])
def test_a_gpus_way_gives_the_embeddings_of_the_cpus(clip, mixed, batch_size, monkeypatch):
    expected = embed(clip, mixed, device="cpu", batch_size=batch_size)
    monkeypatch.setattr(clip_inputs, "ToValues", ToDevice)
    assert_array_equal(embed(clip, mixed, device="cpu", batch_size=batch_size), expected)


def test_a_model_on_the_cpu_takes_values_one_elsewhere_takes_bytes(clip):
    model = clip_model.load_model(ClipImage(model=str(clip)).checkpoint, "float32", "cpu")
    assert type(preparation("image", model, None, clip_transform())) is ToValues
    elsewhere = torch.nn.Linear(1, 1, device="meta")
    elsewhere.device = torch.device("meta")
    assert type(preparation("image", elsewhere, None, clip_transform())) is ToDevice


@pytest.mark.parametrize("ahead", [False, True])
def test_batches_keep_their_order_and_at_most_one_is_ahead(ahead):
    begun = []

    def stage(batch):
        begun.append(batch[0])
        return batch[0] * 10

    seen = []
    for value in in_order(stage, [[1], [2], [3], [4]], ahead=ahead):
        seen.append(value)
        assert len(begun) <= len(seen) + ahead
    assert seen == [10, 20, 30, 40]
    assert begun == [1, 2, 3, 4]


def test_a_batch_that_cannot_be_staged_raises_in_its_turn():
    def stage(batch):
        return 1 / batch[0]

    made = in_order(stage, [[1], [0], [2]], ahead=True)
    assert next(made) == 1
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_a_transform_of_one_size_ignores_proportions():
    box = replace(clip_transform(), edge=0, box=(7, 9), crop=(7, 9))
    assert box.size(100, 3) == (7, 9)
    assert box.pixels(picture(100, 3)).shape == (7, 9, 3)


def test_a_build_shows_each_distinct_image_to_the_model_once(clip, tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    levels = [10, 200, 10, 90, 200, 10]
    for number, level in enumerate(levels):
        Image.new("RGB", (8, 8), (level, level, level)).save(tmp_path / f"images/{number}.png")
    checkpoint = ClipImage(model=str(clip)).checkpoint
    seen, features = [], transformers.CLIPModel.get_image_features

    def counted(model, pixel_values):
        seen.append(len(pixel_values))
        return features(model, pixel_values)

    monkeypatch.setattr(transformers.CLIPModel, "get_image_features", counted)
    recipe = {
        "name": "few",
        "source": {"plugin": "synthetic", "n_trials": 12, "n_classes": 6},
        "stimuli": {"plugin": "image-folder", "path": str(tmp_path / "images")},
        "extract": [{"plugin": "clip-image", "model": str(checkpoint.folder), "device": "cpu"}],
    }
    eegstore.build(recipe, tmp_path / "a.zarr")
    assert seen == [3]
    column = eegstore.open_store(tmp_path / "a.zarr").stimuli["clip_image"][:]
    assert_array_equal(column[[0, 0, 1]], column[[2, 5, 4]])
    assert len(np.unique(column, axis=0)) == 3


def refused(*_):
    raise RuntimeError("operation not permitted when stream is capturing")


def test_whole_batches_are_replayed_from_the_second_on(monkeypatch):
    told = []

    class Recording:
        def __init__(self, forward, values):
            told.append(("recorded", len(values)))

        def replayed(self, values):
            told.append(("replayed", len(values)))
            return values * 2

    def forward(inputs):
        told.append(("launched", len(inputs["pixel_values"])))
        return inputs["pixel_values"] * 2

    monkeypatch.setattr(clip_passes, "Recording", Recording)
    replayed = clip_passes.Replayed(forward, 3)
    for n_rows in (2, 3, 3, 1, 3):
        values = torch.arange(n_rows)
        assert torch.equal(replayed({"pixel_values": values}), values * 2)
    assert told == [
        ("launched", 2), ("launched", 3), ("recorded", 3), ("replayed", 3), ("launched", 1),
        ("replayed", 3),
    ]  # fmt: skip


def test_a_pass_that_cannot_be_recorded_is_launched_step_by_step(monkeypatch):
    asked = []
    monkeypatch.setattr(clip_passes, "Recording", lambda *given: asked.append(1) or refused())
    replayed = clip_passes.Replayed(lambda inputs: inputs["pixel_values"] + 1, 2)
    for _ in range(3):
        assert replayed({"pixel_values": torch.zeros(2)}).tolist() == [1, 1]
    assert len(asked) == 1


@needs_cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpus_values_are_those_of_the_cpu_to_the_bit(clip, mixed, dtype):
    model = clip_model.load_model(ClipImage(model=str(clip)).checkpoint, dtype, "cuda")
    transform = clip_transform()
    on_cpu, on_gpu = ToValues(model, transform), ToDevice(model, transform)
    before = torch.get_float32_matmul_precision()
    made = on_gpu.arrive(on_gpu.stage(mixed))["pixel_values"]
    assert torch.get_float32_matmul_precision() == before
    assert torch.equal(made.cpu(), on_cpu.stage(mixed))


@needs_cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_replayed_passes_give_the_embeddings_of_launched_ones(clip, mixed, dtype, monkeypatch):
    options = {"device": "cuda", "dtype": dtype, "batch_size": 8}
    made, replayed = [], clip_passes.Recording.replayed
    monkeypatch.setattr(
        clip_passes.Recording,
        "replayed",
        lambda self, values: made.append(len(values)) or replayed(self, values),
    )
    clip_passes.passes.cache_clear()
    first, again = (embed(clip, mixed, **options) for _ in range(2))
    assert made == [8] * (2 * (len(mixed) // 8) - 1)
    monkeypatch.setattr(clip_passes, "Recording", refused)
    clip_passes.passes.cache_clear()
    launched = embed(clip, mixed, **options)
    clip_passes.passes.cache_clear()
    assert_array_equal(first, launched)
    assert_array_equal(again, launched)
