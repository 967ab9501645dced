"""DistServe's placement searches and its published latency model."""

import numpy as np
import pytest

from sojourn.cost import Coefficients, Fitted, Phased, Phases
from sojourn.cost.phases import OPT_13B_A100, OPT_13B_KV_TOKEN_BYTES, OPT_13B_KV_TOKENS
from sojourn.decide.clock import SECOND
from sojourn.errors import UserError
from sojourn.fleet.design import Link
from sojourn.recipes import load_recipe
from sojourn.sim.fleet.placement import Bisection, Engine, Objective, Parallel, Placement, Search

ONE = Parallel(1, 1)
RNG = np.random.default_rng(3)
LENGTHS = list(
    zip(RNG.integers(50, 1200, 500).tolist(), RNG.integers(20, 300, 500).tolist(), strict=True)
)
QUICK = Bisection(requests=150, most=8.0, tolerance=0.5)


def opt(**more):
    """Return OPT-13B on A100-80G."""
    return Engine(
        step_time=lambda tensor, _: Phased(OPT_13B_A100[tensor]),
        kv_tokens=lambda tensor, pipeline: OPT_13B_KV_TOKENS.get((tensor, pipeline), 0),
        kv_token_bytes=OPT_13B_KV_TOKEN_BYTES,
        prefill=load_recipe("distserve-prefill"),
        decode=load_recipe("vllm"),
        **more,
    )


def search(objective=None, demand=10.0, engine=None, lengths=LENGTHS, **more):
    given = {"bisection": QUICK, **more}
    return Search(engine or opt(), lengths, objective or Objective(0.25, 0.1), demand, **given)


def test_published_latency_model():
    cost = Phased(OPT_13B_A100[1])
    for tokens, milliseconds in ((512, 72), (2048, 257)):
        took = cost.step(tokens, tokens * (tokens + 1) // 2, 0, 1, 0, 0) / SECOND
        assert round(took * 1000) == milliseconds
    # Decodes: 19.93 + 50 * 0.0385 + 35,000 * 0.000627 ms; from 95 on the other coefficients.
    assert cost.step(0, 0, 0, 0, 50, 35_000) / SECOND == pytest.approx(0.043803, abs=1e-6)
    assert cost.step(0, 0, 0, 0, 95, 66_500) / SECOND == pytest.approx(0.060763, abs=1e-6)


def test_chunks_of_a_prompt_sum_to_its_square():
    cost = Phased(OPT_13B_A100[1])
    whole = cost.step(1000, 1000 * 1001 // 2, 0, 1, 0, 0)
    fixed = cost.step(0, 0, 0, 1, 0, 0) or cost.prompts.step(1, 1, 0, 1, 0, 0)
    first = cost.step(400, 400 * 401 // 2, 0, 1, 0, 0)
    second = cost.step(600, 600 * 400 + 600 * 601 // 2, 400, 1, 0, 0)
    assert first + second - whole == pytest.approx(fixed, rel=0.01)


def test_runs_of_steps_are_sums_of_steps():
    cost = Phased(OPT_13B_A100[2])
    for decodes in (94, 95):
        single = sum(cost.step(0, 0, 0, 0, decodes, 9000 + i * decodes) for i in range(40))
        assert cost.run(decodes, 9000, 40) == single
        assert cost.steps_until(decodes, 9000, single) == 40


def test_coefficients_that_fall_are_refused():
    with pytest.raises(UserError, match="at most the second"):
        Phased(Phases((1.0, 0.1, -1e-6), (1.0, 0.0, 0.0), (1.0, 0.0, 0.0)))


def test_bisection_finds_the_rate_of_a_deterministic_server():
    # 10 ms a prompt of any length on one GPU: M/D/1 holds P90 of 30 ms up to about 61 a second.
    instant = Engine(
        step_time=lambda *_: Fitted(Coefficients(fixed=0.01)),
        kv_tokens=lambda tensor, pipeline: 100_000 if (tensor, pipeline) == (1, 1) else 0,
        kv_token_bytes=1,
        prefill=load_recipe("distserve-prefill", "vllm", [("compose", "saturation_tokens", "1")]),
        decode=load_recipe("vllm"),
    )
    bisection = Bisection(requests=4000, most=100.0, tolerance=1.0)
    made = search(Objective(0.03, 1.0), engine=instant, bisection=bisection, nodes=1, node_gpus=1)
    prefill, _ = made.high_affinity()
    assert 55 <= prefill.best.per_gpu <= 68
    assert [probe.per_gpu for probe in prefill.best.probes[:2]] == [50.0, 75.0]
    assert prefill.replicas == 1


def test_low_affinity_keeps_a_segment_in_a_node():
    choice = search().low_affinity()
    tried = [trial.config for trial in choice.trials]
    assert Placement(1, Parallel(2, 1), ONE) in tried
    assert all(one.prefill.gpus + one.decode.gpus <= 4 for one in tried)
    assert all(one.segments == 1 for one in tried)
    assert choice.best.per_gpu == max(trial.per_gpu for trial in choice.trials)
    assert choice.replicas == -(-10.0 // (choice.best.per_gpu * choice.best.gpus))
    wide = search(nodes=2, node_gpus=2).low_affinity()
    assert {trial.config.segments for trial in wide.trials} == {1, 2}
    assert all(trial.config.gpus <= 4 for trial in wide.trials)


def test_a_pipeline_crosses_nodes_with_both_phases():
    placement = Placement(2, ONE, Parallel(2, 1))
    assert placement.gpus == 6
    assert placement.whole(placement.decode) == Parallel(2, 2)


def test_high_affinity_searches_each_phase_alone():
    prefill, decode = search().high_affinity()
    assert all(probe.tpot_seconds == 0 for trial in prefill.trials for probe in trial.probes)
    assert all(probe.ttft_seconds < 1e-6 for trial in decode.trials for probe in trial.probes)
    tight, _ = search(Objective(0.12, 0.1)).high_affinity()
    assert tight.best.per_gpu < prefill.best.per_gpu


def test_goodput_falls_with_tighter_objectives_and_slower_links():
    placement = Placement(1, Parallel(2, 1), ONE)
    goodput = search().goodput(placement).per_gpu
    assert search(Objective(0.12, 0.1)).goodput(placement).per_gpu < goodput
    assert search(Objective(0.25, 0.03)).goodput(placement).per_gpu < goodput
    slow = opt(link=Link("ethernet", 1.25e8))
    assert search(engine=slow).goodput(placement).per_gpu < goodput


def test_what_does_not_fit_is_not_tried():
    heavy = opt(max_model_len=70_000)
    tried = {trial.config for trial in search(engine=heavy).high_affinity()[0].trials}
    assert ONE not in tried
    assert Parallel(2, 1) in tried


def test_an_objective_that_nothing_meets_is_the_users_error():
    with pytest.raises(UserError, match=r"no placement meets 0\.001 s"):
        search(Objective(0.001, 0.1)).low_affinity()


def test_the_same_seed_gives_the_same_search():
    placement = Placement(1, ONE, ONE)
    assert search().goodput(placement) == search().goodput(placement)
