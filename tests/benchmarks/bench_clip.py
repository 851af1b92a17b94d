"""What clip-image costs next to the bare forward pass of its model on tensors that are ready.

    python tests/benchmarks/bench_clip.py [--quick]

Random weights of ViT-B/32's size, half the images 500 × 500 and half 28 × 28. Extractor and bare
forward pass take turns on the same images; the ratio is the median over the pairs. With a CUDA
device, ViT-B/32 and ViT-H/14 also run at bfloat16 from JPEG files, decoded by image-folder a block
ahead as in a build; the bound is the bare decoding of these files by all cores, and the bare pass
is compared with the rate of a large matrix product. Then 64,875 trials of ten images are built.
Prints images a second by batch size, too: the default batch_size is chosen by this table on a CPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from bench_build import run, write_input
from numpy.typing import NDArray
from rounds import Row, in_turn, seconds, times_faster

from eegstore import Block
from eegstore.blocks import IMAGES_A_BLOCK
from eegstore.overlap import ahead
from eegstore_plugins.clip import ClipImage
from eegstore_plugins.clip_model import load_model, load_transform, quiet
from eegstore_plugins.executors import keep_freed_memory
from eegstore_plugins.image_folder import ImageFolder

Images = list[NDArray[np.uint8]]
VIT_H14 = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "hidden_act": "gelu",
}
# The vision tower's settings, the length of the embedding.
MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "ViT-B/32": ({}, 512),
    "ViT-H/14": (VIT_H14, 1024),
}
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
MATMUL_SIDE = 8192
NOTES: list[str] = []


def write_model(folder: Path, name: str) -> Path:
    """Save a CLIP of random weights: a vision tower of full size, hardly any text tower."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    vision, dimension = MODELS[name]
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1, "vocab_size": 8}
    text = {**sizes, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=dimension)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
        CLIPImageProcessorPil().save_pretrained(folder)
    return folder


def pictures(count: int) -> Images:
    """Noise, half of it 500 × 500 and half 28 × 28, in turn."""
    rng = np.random.default_rng(0)
    sides = [500 if number % 2 else 28 for number in range(count)]
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in sides]


def bare(extractor: ClipImage, values: Any) -> Callable[[], Any]:
    """The forward pass alone, on the model's device, in the extractor's batches."""
    import torch

    model = load_model(extractor.checkpoint, extractor.dtype, values.device.type)
    size = extractor.batch_size

    def forward() -> None:
        with torch.inference_mode():
            for start in range(0, len(values), size):
                model.get_image_features(pixel_values=values[start : start + size])
            if values.device.type == "cuda":
                torch.cuda.synchronize()

    return forward


def ready(extractor: ClipImage, images: Images, device: str) -> Any:
    """The images' tensor, prepared and on the device."""
    import torch

    transform = load_transform(extractor.checkpoint)
    assert transform is not None
    values = torch.from_numpy(transform.values(images))
    return values.to(device, getattr(torch, extractor.dtype))


def on_cpu(folder: Path, count: int, rounds: int) -> Row:
    """The extractor's wall time against the bare forward pass on the CPU."""
    extractor = ClipImage(model=str(folder), device="cpu")
    extractor.prepare()
    images = pictures(count)
    block = Block({"image": images}, 0, count)
    forward = bare(extractor, ready(extractor, images, "cpu"))
    extractor(Block({"image": images[:4]}, 0, 4))
    ways = [lambda: seconds(forward), lambda: seconds(lambda: extractor(block))]
    (slower,) = times_faster(in_turn(ways, rounds))
    what = f"clip-image ViT-B/32, {count} images on the CPU / forward pass"
    return Row(what, slower, "<= 1.10")


def write_jpegs(folder: Path, count: int) -> None:
    """Smooth noise of 500 × 500 pixels; as JPEG some 100 kB a file."""
    folder.mkdir()
    files = [folder / f"{number}.jpg" for number in range(count)]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(write_jpeg, files, range(count), chunksize=16))


def write_jpeg(file: Path, seed: int) -> None:
    """One image; in a module, for another process to find it."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (63, 63, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((500, 500))) + rng.integers(-12, 13, (500, 500, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=90)


def decoding_rate(folder: Path) -> float:
    """Images a second that all cores decode out of memory, and do nothing with."""
    import simplejpeg

    contents = [file.read_bytes() for file in folder.iterdir()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def decode() -> None:
            for start in range(0, len(contents), IMAGES_A_BLOCK):
                list(pool.map(simplejpeg.decode_jpeg, contents[start : start + IMAGES_A_BLOCK]))

        decode()
        return len(contents) / median(seconds(decode) for _ in range(3))


def from_files(extractor: ClipImage, provider: ImageFolder, count: int) -> None:
    """Decode and embed block by block, as a build does it."""
    starts = range(0, count, IMAGES_A_BLOCK)
    blocks = ((start, provider.read(start, start + IMAGES_A_BLOCK)) for start in starts)
    for start, images in ahead(blocks):
        extractor(Block({"image": images}, start, start + len(images)))


def matmul_rate(dtype: Any) -> float:
    """Operations a second of a large matrix product on the CUDA device."""
    import torch

    one = torch.randn(MATMUL_SIDE, MATMUL_SIDE, dtype=dtype, device="cuda")

    def products() -> None:
        for _ in range(10):
            one @ one
        torch.cuda.synchronize()

    products()
    return 10 * 2 * MATMUL_SIDE**3 / median(seconds(products) for _ in range(5))


def operations(extractor: ClipImage) -> float:
    """Floating point operations that the forward pass spends on an image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = load_model(extractor.checkpoint, extractor.dtype, "cuda")
    side = model.config.vision_config.image_size
    values = torch.zeros(1, 3, side, side, dtype=model.dtype, device="cuda")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.get_image_features(pixel_values=values)
    return float(counter.get_total_flops())


def on_cuda(folder: Path, name: str, count: int, rounds: int) -> Iterator[Row]:
    """Images a second from JPEG files to those of the bare forward pass, and a build's seconds."""
    import torch

    model = write_model(folder / name.replace("/", ""), name)
    extractor = ClipImage(model=str(model), device="cuda", dtype="bfloat16")
    provider = ImageFolder(path=folder / "jpegs")
    values = ready(extractor, provider.read(0, 4 * extractor.batch_size), "cuda")
    forward = bare(extractor, values)
    forward()
    from_files(extractor, provider, IMAGES_A_BLOCK)
    pairs = [
        (count / seconds(lambda: from_files(extractor, provider, count)),
         len(values) / seconds(forward))
        for _ in range(rounds)
    ]  # fmt: skip
    ours, bare_rate = (median(rates) for rates in zip(*pairs, strict=True))
    share = bare_rate * operations(extractor) / matmul_rate(torch.bfloat16)
    decoded = decoding_rate(folder / "jpegs")
    NOTES.append(
        f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores: {name} {ours:,.0f} images/s from"
        f" files, its forward pass alone {bare_rate:,.0f} ({share:.0%} of the rate of a product of"
        f" {MATMUL_SIDE}²), decoding alone {decoded:,.0f}"
    )
    yield Row(
        f"clip-image {name} on a GPU, bfloat16, from JPEG files / forward pass",
        median(one / other for one, other in pairs),
        ">= 0.85",
        min(decoded / bare_rate, 1.0),
    )
    yield Row(
        f"build 64,875 trials of ten images, {name} on a GPU: seconds",
        job(folder / f"job-{model.name}", model),
        "<= 20",
    )


def job(folder: Path, model: Path) -> float:
    """Seconds that a build takes: EEG, features, ten images through the model, in a new process."""
    write_input(folder, 1)
    recipe = folder / "recipe.toml"
    sections, _, _ = recipe.read_text().replace(str(folder / "clip"), str(model)).rpartition("[[")
    recipe.write_text(sections)  # without clip-text: the model has no tokenizer
    taken, _, _ = run("build", str(recipe), str(folder / "out.zarr"), "--json")
    shutil.rmtree(folder)
    return taken


def rows(quick: bool) -> list[Row]:
    """What is compared, the measured ratio, its limit and bound."""
    import torch

    keep_freed_memory()  # as a worker of a build does

    with tempfile.TemporaryDirectory(prefix="eegstore-bench-") as temporary:
        folder = Path(temporary)
        model = write_model(folder / "b32", "ViT-B/32")
        count, rounds = (6, 16) if quick else (64, 10)
        made = [on_cpu(model, count, rounds)]
        if torch.cuda.is_available():
            count, rounds = (512, 3) if quick else (4096, 5)
            write_jpegs(folder / "jpegs", count)
            made += [row for name in MODELS for row in on_cuda(folder, name, count, rounds)]
    return made


def batch_sizes(rounds: int) -> list[tuple[int, float]]:
    """Images a second of the bare forward pass on the CPU, the sizes taking turns."""
    with tempfile.TemporaryDirectory(prefix="eegstore-bench-") as temporary:
        folder = write_model(Path(temporary), "ViT-B/32")
        extractors = [ClipImage(model=str(folder), batch_size=size) for size in BATCH_SIZES]
        values = ready(extractors[0], pictures(max(BATCH_SIZES)), "cpu")
        passes = [bare(extractor, values) for extractor in extractors]
        passes[-1]()
        taken = in_turn([partial(seconds, one) for one in passes], rounds)
    return [
        (size, len(values) / median(each)) for size, each in zip(BATCH_SIZES, taken, strict=True)
    ]


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few images, no table of batch sizes")
    quick = parser.parse_args().quick
    print("| compared | measured | limit | bound |\n|---|---|---|---|")
    for row in rows(quick):
        print(f"| {row.what} | {row.ratio:.3g} | {row.limit} | {row.most:.3g} |", flush=True)
    print("", *NOTES, sep="\n")
    if not quick:
        print("\n| batch size | images/s on the CPU |\n|---|---|")
        for size, rate in batch_sizes(3):
            print(f"| {size} | {rate:.1f} |", flush=True)


if __name__ == "__main__":
    main()
