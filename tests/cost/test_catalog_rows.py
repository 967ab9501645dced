"""The catalogue: published parameter counts, a source in every row, strict reading of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sojourn.catalog import gpu_names, load_gpu, load_model, model_names
from sojourn.errors import UserError

PUBLISHED = {  # total parameters in the safetensors headers of each Hugging Face repository
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-32b": 32_763_876_352,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "mistral-7b": 7_248_023_552,
    "mixtral-8x7b": 46_702_792_704,
}

LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}


def config(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "mine" / "config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**LLAMA, **changes}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", model_names())
def test_parameters_equal_the_published_count(name: str) -> None:
    model = load_model(name)
    assert model.parameters == PUBLISHED[name]
    assert f"{model.parameters:,}" in model.source


@pytest.mark.parametrize("name", gpu_names())
def test_every_gpu_cites_its_numbers(name: str) -> None:
    gpu = load_gpu(name)
    cited = {part.strip() for key in gpu.sources for part in key.split(",")}
    groups = {"gemm", "fp8", "moe", "prefill", "prior", "decode", "mixed"}
    assert cited >= groups | {"data_sheet", "elementwise", "sampler", "all_reduce"}


@pytest.mark.parametrize("name", gpu_names())
def test_no_kernel_is_faster_than_the_data_sheet(name: str) -> None:
    gpu = load_gpu(name)
    for rate in ("gemm", "fp8", "moe"):
        assert 0 < getattr(gpu, f"{rate}_bandwidth_share") <= 1
        assert 0 < getattr(gpu, f"{rate}_flops_share") <= 1
    assert 0 < gpu.decode_bandwidth_share <= 1
    assert 0 < gpu.prefill_flops_share <= 1


def test_aliases_and_hugging_face_names_are_understood() -> None:
    assert load_gpu("A100-80") == load_gpu("a100-80g")
    assert load_gpu("h200-sxm") == load_gpu("h200")
    assert load_model("meta-llama/Llama-3.1-8B-Instruct") == load_model("llama-3.1-8b")


def test_aliases_are_not_shared() -> None:
    names = [alias for name in gpu_names() for alias in (name, *load_gpu(name).aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("load", "name", "near"),
    [(load_gpu, "h100-sx", "h100-sxm"), (load_model, "llama-3.1-7b", "llama-3.1-")],
)
def test_an_unknown_name_is_refused_with_the_nearest(load: Any, name: str, near: str) -> None:
    with pytest.raises(UserError, match=f"unknown .* did you mean '{near}"):
        load(name)


def test_a_hugging_face_config_is_the_catalogue_row(tmp_path: Path) -> None:
    model = load_model(config(tmp_path))
    assert model.name == "mine"
    assert model.parameters == PUBLISHED["llama-3.1-8b"]
    assert load_model(str(tmp_path / "mine")) == model


def test_configs_of_other_families(tmp_path: Path) -> None:
    mixtral = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    model = load_model(config(tmp_path, **mixtral, vocab_size=32000))
    assert model.parameters == PUBLISHED["mixtral-8x7b"]
    qwen = load_model(config(tmp_path, model_type="qwen2"))
    assert qwen.qkv_bias
    assert load_model(config(tmp_path, model_type="qwen3")).qk_norm
    fp8 = load_model(config(tmp_path, quantization_config={"quant_method": "fp8"}))
    assert fp8.weight_bytes == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_lora_rank": 512}, "only plain grouped-query attention"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "only plain grouped-query"),
        ({"sliding_window": 4096}, r"sliding window \(4096 tokens\)"),
        ({"n_shared_experts": 1}, "shared experts"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised with 'awq'"),
        ({"hidden_size": None}, "lacks 'hidden_size'"),
        ({"num_attention_heads": 30}, "must be a multiple"),
    ],
)
def test_configs_that_are_not_modelled_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_model(config(tmp_path, **changes))


def test_full_attention_layer_types_and_unused_windows_are_accepted(tmp_path: Path) -> None:
    assert load_model(config(tmp_path, layer_types=["full_attention"] * 32)).layers == 32
    unused = {"sliding_window": 4096, "use_sliding_window": False}
    assert load_model(config(tmp_path, **unused)).layers == 32


def test_a_users_gpu_file(tmp_path: Path) -> None:
    base = load_gpu("h100-sxm")
    lines = [
        f"{key} = {list(value) if isinstance(value, tuple) else value}"
        for key in base.__slots__
        if key not in ("name", "aliases", "sources")
        for value in [getattr(base, key)]
    ]
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    mine = load_gpu(str(path))
    assert (mine.name, mine.memory_bytes) == ("mine", base.memory_bytes)
    for text, message in (
        ("bandwith_bytes_per_second = 1.0", "did you mean 'bandwidth_bytes_per_second'"),
        ("gemm_sharpness = 'x'", "not valid TOML|must be a number"),
    ):
        path.write_text("\n".join([*lines, text]), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            load_gpu(str(path))
    path.write_text("\n".join(lines[1:]), encoding="utf-8")
    with pytest.raises(UserError, match="'mine' lacks memory_bytes"):
        load_gpu(str(path))
    broken = [line for line in lines if not line.startswith("gemm_flops_share")]
    path.write_text("\n".join([*broken, "gemm_flops_share = 0.0"]), encoding="utf-8")
    with pytest.raises(UserError, match="gemm_flops_share of 'mine' is zero"):
        load_gpu(str(path))


def test_a_users_model_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    rows = "layers=2\nhidden=64\nheads=4\nkv_heads=2\nhead_dim=16\nintermediate=128\nvocab=100\n"
    path.write_text(rows + "max_positions=1024\n", encoding="utf-8")
    assert load_model(str(path)).kv_token_bytes() == 2 * 2 * 2 * 16 * 2
    path.write_text(rows + "max_positions=1024\nlayer=3\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"unknown key in .* did you mean 'layers'"):
        load_model(str(path))
    with pytest.raises(UserError, match="cannot read"):
        load_model(str(tmp_path / "none.json"))
