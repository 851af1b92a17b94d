"""Small, randomly initialised CLIP and SigLIP models, as transformers saves real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eegstore_plugins.clip_model import quiet

TEXT_LENGTH = 32
MERGES = [("d", "i"), ("di", "g"), ("i", "t</w>")]


def _byte_characters() -> list[str]:
    """The 256 characters that byte-level tokenizers write bytes as (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def clip_tokenizer(merges: Sequence[tuple[str, str]]) -> Any:
    """A real CLIPTokenizer that knows every byte, some merges and the two special tokens."""
    from transformers import CLIPTokenizer

    characters = _byte_characters()
    tokens = [
        *characters,
        *(f"{character}</w>" for character in characters),
        *("".join(pair) for pair in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=TEXT_LENGTH)


def _siglip_tokenizer() -> Any:
    """A tokenizer of single characters; SigLIP's own needs the package sentencepiece."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = ["<unk>", "</s>", *(chr(code) for code in range(32, 127))]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids"],
    )


def _save(folder: Path, model_class: Any, config: Any, parts: list[Any], seed: int) -> Path:
    import torch

    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model_class(config).eval().save_pretrained(folder)
        for part in parts:
            part.save_pretrained(folder)
    return folder


def _tower(width: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }


def write_tiny_clip(
    folder: Path,
    *,
    seed: int = 0,
    width: int = 64,
    projection_dim: int = 32,
    image_size: int = 32,
) -> Path:
    """Save a CLIPModel with its image processor and tokenizer; the same seed, the same weights."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    tokenizer = clip_tokenizer(MERGES)
    text = {
        **_tower(width),
        "vocab_size": len(tokenizer),
        "max_position_embeddings": TEXT_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**_tower(width), "image_size": image_size, "patch_size": image_size // 4}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection_dim)
    images = CLIPImageProcessorPil(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
    )
    return _save(folder, CLIPModel, config, [images, tokenizer], seed)


def write_tiny_siglip(
    folder: Path, *, seed: int = 0, width: int = 64, image_size: int = 32
) -> Path:
    """Save a SiglipModel with its image processor and a tokenizer of characters."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    tokenizer = _siglip_tokenizer()
    text = {
        **_tower(width),
        "vocab_size": len(tokenizer),
        "max_position_embeddings": TEXT_LENGTH,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**_tower(width), "image_size": image_size, "patch_size": image_size // 4}
    config = SiglipConfig(text_config=text, vision_config=vision)
    images = SiglipImageProcessorPil(size={"height": image_size, "width": image_size})
    return _save(folder, SiglipModel, config, [images, tokenizer], seed)
