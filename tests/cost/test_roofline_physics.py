"""The roofline respects the hardware, scales with GPUs, and prices mixed batches as measured."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from cost_strategies import rooflines, steps
from hypothesis import given, settings

from sojourn.catalog import gpu_names, load_gpu, load_model, model_names
from sojourn.cost import SYNCHRONOUS, Floor, Roofline, check_floor
from sojourn.cost.roofline import experts_touched
from sojourn.errors import UserError


@settings(max_examples=200, deadline=None)
@given(rooflines, steps())
def test_no_step_beats_the_floor(cost: Roofline, step: tuple[int, int, int, int, int, int]) -> None:
    floor = Floor(cost.model, cost.gpu, cost.tensor_parallel)
    assert cost.step(*step) >= floor.step(*step)


@pytest.mark.parametrize("model", model_names())
@pytest.mark.parametrize("gpu", gpu_names())
def test_every_catalogue_pair_passes_the_floor_check(model: str, gpu: str) -> None:
    for parallel in (1, 2, 4):
        facts, card = load_model(model), load_gpu(gpu)
        check_floor(Roofline(facts, card, parallel), Floor(facts, card, parallel), model)


def test_one_decode_reads_the_weights_once() -> None:
    # 16.06 GB of weights less the embedding table, over 3.35 TB/s: 4.5 ms is the floor.
    cost = Roofline(load_model("llama-3.1-8b"), load_gpu("h100-sxm"))
    assert 4.5e9 < cost.step(0, 0, 0, 0, 1, 500) < 7.5e9


def test_an_l40s_decodes_qwen3_8b_as_a_server_did() -> None:
    # Measured TPOT of one user: 22.8 to 22.9 ms (the run whose KV capacity is compared, too).
    cost = Roofline(load_model("qwen3-8b"), load_gpu("l40s"))
    assert cost.step(0, 0, 0, 0, 1, 600) == pytest.approx(22.85e9, rel=0.05)


def test_prefill_is_bound_by_compute() -> None:
    # 2048 tokens x 2 x 6.98e9 weights = 28.6 TFLOP: 29 ms at peak, about 36 ms at 81 %.
    cost = Roofline(load_model("llama-3.1-8b"), load_gpu("h100-sxm"))
    assert 29e9 < cost.step(2048, 2048 * 2049 // 2, 0, 1, 0, 0) < 50e9


def test_prefill_is_quadratic_in_the_prompt() -> None:
    cost = Roofline(load_model("llama-3.1-8b"), load_gpu("h100-sxm"))
    one = cost.step(2048, 2048 * 2049 // 2, 0, 1, 0, 0)
    four = cost.step(2048, 2048 * 2049 // 2 + 2048 * 30_000, 30_000, 1, 0, 0)
    assert four > 1.5 * one


def test_decodes_beside_a_chunk_cost_more_where_it_was_measured() -> None:
    for gpu in ("rtx-4090", "rtx-pro-6000", "a100-80g", "l40s", "l4"):
        cost = Roofline(load_model("llama-3.1-8b"), load_gpu(gpu))
        additive = replace(load_gpu(gpu), mixed_reread_share=0.0, mixed_tile_seconds=0.0)
        apart = Roofline(load_model("llama-3.1-8b"), additive)
        step = (1024, 1024 * 1025 // 2, 0, 1, 128, 128 * 2048)
        assert cost.step(*step) > apart.step(*step)
        assert cost.run(128, 128 * 2048, 10) == apart.run(128, 128 * 2048, 10)


def test_the_extra_of_a_mixed_batch_is_near_the_measured_one() -> None:
    # LLMServingSim's RTX PRO 6000 table: 1,617 us for one layer's mixed attention, 61 + 760 apart.
    card = load_gpu("rtx-pro-6000")
    cost = Roofline(load_model("llama-3.1-8b"), card)
    apart = Roofline(
        load_model("llama-3.1-8b"), replace(card, mixed_reread_share=0.0, mixed_tile_seconds=0.0)
    )
    step = (1024, 1024 * 1025 // 2, 0, 1, 128, 128 * 2048)
    extra_us = (cost.step(*step) - apart.step(*step)) / 32 / 1e6
    assert 500 < extra_us < 1100


def test_hopper_has_no_mixed_extra_and_says_why() -> None:
    for gpu in ("h100-sxm", "h200"):
        card = load_gpu(gpu)
        assert card.mixed_reread_share == 0
        assert "not measured" in card.sources["mixed"]


def test_more_gpus_are_faster_but_never_proportionally() -> None:
    model, gpu = load_model("llama-3.1-70b"), load_gpu("h100-sxm")
    for step in ((0, 0, 0, 0, 32, 64_000), (4096, 4096 * 4097 // 2, 0, 1, 0, 0)):
        times = [Roofline(model, gpu, size).step(*step) for size in (1, 2, 4, 8)]
        assert times == sorted(times, reverse=True)
        for single, double in pairwise(times):
            assert double > single / 2


def test_fp8_weights_decode_faster_even_without_fp8_arithmetic() -> None:
    model = load_model("llama-3.1-8b")
    for gpu in ("h100-sxm", "a100-80g"):
        card = load_gpu(gpu)
        narrow = Roofline(replace(model, weight_bytes=1), card)
        assert narrow.step(0, 0, 0, 0, 1, 1) < Roofline(model, card).step(0, 0, 0, 0, 1, 1)


def test_a_host_that_does_not_overlap_adds_its_time() -> None:
    model, gpu = load_model("qwen3-32b"), load_gpu("h100-sxm")
    plain, slow = Roofline(model, gpu, 2), Roofline(model, gpu, 2, SYNCHRONOUS)
    added = slow.step(0, 0, 0, 0, 10, 1000) - plain.step(0, 0, 0, 0, 10, 1000)
    assert added == pytest.approx(1.4e9 + 10 * 2.6e7, abs=4)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(1, 2.0), (2, 3.5), (3, 4.625)],  # 8 * (1 - (3/4)**tokens)
)
def test_experts_touched_by_hand(tokens: int, expected: float) -> None:
    assert experts_touched(8, 2, tokens) == pytest.approx(expected)


def test_experts_touched_never_exceeds_what_there_is() -> None:
    assert experts_touched(8, 2, 10_000) == pytest.approx(8)
    assert experts_touched(128, 8, 1) == pytest.approx(8)


def test_a_mixture_reads_few_experts_for_few_tokens() -> None:
    cost = Roofline(load_model("mixtral-8x7b"), load_gpu("h100-sxm"), 2)
    one, many = cost.step(0, 0, 0, 0, 1, 100), cost.step(0, 0, 0, 0, 32, 100)
    assert many > 2.2 * one


def test_a_split_that_does_not_divide_the_heads_is_refused() -> None:
    with pytest.raises(UserError, match=r"28 attention heads.*use 4 or fewer"):
        Roofline(load_model("qwen2.5-7b"), load_gpu("h100-sxm"), 8)
    with pytest.raises(UserError, match="not one of 1, 2, 4, 8"):
        Roofline(load_model("qwen2.5-7b"), load_gpu("h100-sxm"), 3)
