"""KV capacity against start-up logs of real servers, and the sentences for what does not fit."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from benchmarks.cost_fidelity.capacity import LOGGED, Logged
from sojourn.catalog import load_gpu, load_model
from sojourn.cost import kv_blocks
from sojourn.errors import UserError


@pytest.mark.parametrize("row", LOGGED, ids=lambda row: f"{row.model} on {row.card}")
def test_capacity_is_within_two_per_cent_of_the_log(row: Logged) -> None:
    assert row.predicted() == pytest.approx(row.tokens, rel=0.02)


@pytest.mark.parametrize(
    ("model", "gib"),  # "Model loading took ... GiB", vLLM start-up logs
    [
        ("llama-3.1-8b", 14.9889),
        ("qwen3-8b", 15.2683),
        ("qwen3-32b", 61.03),
        ("qwen2.5-7b", 14.2488),
    ],
)
def test_weights_match_what_servers_load(model: str, gib: float) -> None:
    assert load_model(model).weights_bytes / 2**30 == pytest.approx(gib, rel=0.006)


def test_more_of_any_other_memory_leaves_fewer_blocks() -> None:
    model, gpu = load_model("llama-3.1-8b"), load_gpu("h100-sxm")
    base = kv_blocks(model, gpu)
    assert kv_blocks(model, gpu, max_num_batched_tokens=16_384) < base
    assert kv_blocks(model, gpu, max_num_seqs=1024) < base
    assert kv_blocks(model, gpu, gpu_memory_utilization=0.8) < base
    assert kv_blocks(model, gpu, block_size=32) == base // 2
    assert kv_blocks(model, gpu, 2) > 2 * base
    assert kv_blocks(replace(model, kv_bytes=1), gpu) in (2 * base, 2 * base + 1)


def test_kv_heads_fewer_than_gpus_are_replicated() -> None:
    model = load_model("qwen2.5-32b")
    assert model.kv_token_bytes(8) == model.kv_token_bytes(1) // 8
    few = replace(model, kv_heads=4)
    assert few.kv_token_bytes(8) == few.kv_token_bytes(4)


def test_a_model_that_does_not_fit_says_how_many_gpus_would() -> None:
    message = "llama-3.1-70b does not fit on 1 x h100-sxm.*tensor parallel size of 4 would do"
    with pytest.raises(UserError, match=message):
        kv_blocks(load_model("llama-3.1-70b"), load_gpu("h100"), gpu_memory_utilization=0.85)
    with pytest.raises(UserError, match="not even 8 GPUs would do"):
        kv_blocks(load_model("llama-3.1-70b"), load_gpu("l4"), gpu_memory_utilization=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gpu_memory_utilization": 90.0}, "gpu_memory_utilization is 90.0; it must be above 0"),
        ({"gpu_memory_utilization": 0.0}, "it must be above 0 and at most 1"),
        ({"block_size": 0}, "block_size is 0; it must be at least 1"),
        ({"max_num_seqs": 0}, "max_num_seqs is 0"),
        ({"max_num_batched_tokens": -1}, "max_num_batched_tokens is -1"),
    ],
)
def test_bad_limits_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        kv_blocks(load_model("llama-3.1-8b"), load_gpu("h100"), **arguments)  # type: ignore[arg-type]
