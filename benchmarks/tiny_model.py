"""A small Llama with random weights and a tokenizer, for engines to serve without a download.

    python -m benchmarks.tiny_model FOLDER --width 64 --layers 2

The same arguments give the same bytes. The tokenizer is byte-level BPE trained on the project's
licence, so that every text can be written; the chat template shows messages and tools as JSON, so
that `/v1/chat/completions` works. A model's answers are noise, but steady noise: the greedy token
leads the next one by far more than rounding, so that two schedulers can be held to equal outputs.
Needs `torch`, `tokenizers`, `transformers` and `safetensors`, all of which vLLM brings.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LICENCE = Path(__file__).resolve().parents[1] / "LICENSE"
SPECIAL = ("<|pad|>", "<|begin|>", "<|end|>", "<|turn|>")
HEAD_WIDTH = 32
WEIGHT_SPREAD = 0.08
"""Standard deviation of the layers' weights: enough for the context to sway the next token."""

LOGIT_SPREAD = 3.0
"""Standard deviation of logits, so that the first token leads the second by about 0.5."""

CHAT_TEMPLATE = """\
{%- if tools %}{{ '<|turn|>tools ' + (tools | tojson) + '<|end|>' }}{%- endif %}
{%- for message in messages %}
{{- '<|turn|>' + message['role'] + ' ' }}
{%- if message['content'] is string %}{{- message['content'] }}
{%- elif message['content'] %}{{- message['content'] | tojson }}
{%- endif %}
{%- if message['tool_calls'] %}{{- message['tool_calls'] | tojson }}{%- endif %}
{{- '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|turn|>assistant ' }}{%- endif %}"""


@dataclass(frozen=True, slots=True)
class Size:
    """What a tiny model is made of.

    Attributes:
        width: Hidden size; a multiple of 32, the width of a head.
        layers: Decoder layers.
        vocabulary: Token ids; the tokenizer has at most as many.
        positions: Longest context, in tokens.
        seed: Of the weights.
    """

    width: int = 64
    layers: int = 2
    vocabulary: int = 512
    positions: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width < HEAD_WIDTH or self.width % HEAD_WIDTH:
            raise ValueError(f"width is {self.width}; it must be a multiple of {HEAD_WIDTH}")
        if min(self.layers, self.positions) < 1 or self.vocabulary < 256 + len(SPECIAL):
            raise ValueError("layers and positions must be at least 1, the vocabulary 260")

    @property
    def heads(self) -> int:
        """Attention heads; as many for keys and values as for queries."""
        return self.width // HEAD_WIDTH


def make_model(folder: Path, size: Size | None = None) -> Path:
    """Write a model's folder: weights, configuration, tokenizer and chat template.

    Args:
        folder: Made if it does not exist; files of another model in it are replaced.
        size: The default is right for tests; 256 x 8 and 512 x 16 take visible time per step.

    Returns:
        The folder.
    """
    from safetensors.torch import save_file
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    size = size or Size()
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder, size)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=2 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.positions,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    config.architectures = [LlamaForCausalLM.__name__]
    config.save_pretrained(folder)
    GenerationConfig(pad_token_id=0, bos_token_id=1, eos_token_id=2).save_pretrained(folder)
    save_file(_weights(size), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _weights(size: Size) -> dict[str, Any]:
    """Return float32 tensors by name, as Hugging Face's Llama calls them."""
    import torch

    source = torch.Generator().manual_seed(size.seed)

    def normal(rows: int, columns: int, spread: float) -> Any:
        return torch.randn(rows, columns, generator=source) * spread

    width, wide, vocabulary = size.width, 2 * size.width, size.vocabulary
    tensors = {"model.embed_tokens.weight": normal(vocabulary, width, 1.0)}
    for layer in range(size.layers):
        name = f"model.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            tensors[f"{name}.self_attn.{part}.weight"] = normal(width, width, WEIGHT_SPREAD)
        for part in ("gate_proj", "up_proj"):
            tensors[f"{name}.mlp.{part}.weight"] = normal(wide, width, WEIGHT_SPREAD)
        tensors[f"{name}.mlp.down_proj.weight"] = normal(width, wide, WEIGHT_SPREAD)
        for part in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{name}.{part}.weight"] = torch.ones(width)
    tensors["model.norm.weight"] = torch.ones(width)
    tensors["lm_head.weight"] = normal(vocabulary, width, LOGIT_SPREAD / width**0.5)
    return tensors


def _write_tokenizer(folder: Path, size: Size) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(size.vocabulary, 512),
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LICENCE.read_text(encoding="utf-8").splitlines(), trainer)
    assert tokenizer.get_vocab_size() <= size.vocabulary
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": SPECIAL[0],
        "bos_token": SPECIAL[1],
        "eos_token": SPECIAL[2],
        "model_max_length": size.positions,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2), encoding="utf-8")


def make_adapter(folder: Path, size: Size | None = None, rank: int = 8, seed: int = 1) -> Path:
    """Write a LoRA adapter for the model of this size that changes its answers.

    Returns:
        The folder, in the layout of the `peft` library.
    """
    import torch
    from safetensors.torch import save_file

    size = size or Size()
    source = torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for layer in range(size.layers):
        for part in ("q_proj", "v_proj"):
            name = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            for letter, shape in (("A", (rank, size.width)), ("B", (size.width, rank))):
                tensors[f"{name}.lora_{letter}.weight"] = torch.randn(*shape, generator=source)
    save_file(tensors, folder / "adapter_model.safetensors")
    about = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj", "v_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(about, indent=2), encoding="utf-8")
    return folder


def main() -> None:
    """Make the model that the command line describes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=512)
    parser.add_argument("--positions", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    words = vars(parser.parse_args())
    folder = words.pop("folder")
    print(make_model(folder, Size(**words)))


if __name__ == "__main__":
    main()
