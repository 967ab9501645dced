"""Requests through real engines, stock and ours: equal answers, and nothing left behind."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from sojourn.recipes.deploy import deployable_names

RECIPES = deployable_names()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """Settings under which `fastserve` pauses requests often, however fast the machine is."""
    cost = tmp_path_factory.mktemp("cost") / "cost.toml"
    cost.write_text("fixed = 1e-3\nprefill_token = 1e-5\ndecode = 1e-5\n")
    return {"params": ["order.quantum_base_seconds=0.0005"], "cost": str(cost)}


@pytest.fixture(scope="module")
def workload(vllm_engine):
    return vllm_engine.mixed_workload(60, seed=1)


@pytest.fixture(scope="module")
def answers():
    return {}


def stock_answers(engine, workload, answers, asynchronous):
    if asynchronous not in answers:
        answers[asynchronous] = engine(None, asynchronous).run(workload)
    return answers[asynchronous]


def likeliest_two(stock, asked):
    """Return the two highest log-probabilities of every token, request by request."""
    for at, one in enumerate(asked):
        stock.llm.add_request(str(at), {"prompt_token_ids": one.prompt}, one.params)
    found = {}
    while stock.llm.has_unfinished_requests():
        for output in stock.llm.step():
            if output.finished:
                places = output.outputs[0].logprobs
                found[int(output.request_id)] = [
                    sorted((one.logprob for one in place.values()), reverse=True)[:2]
                    for place in places
                ]
    return [pair for at in sorted(found) for pair in found[at]]


def test_no_token_is_a_close_call(engine, vllm_engine, workload):
    # float32 sums may differ with the batch that they are computed in; while the likeliest token
    # leads the next by more, answers can be held to be equal, token by token.
    asked = [
        one._replace(params=vllm_engine.greedy(one.params.max_tokens, logprobs=2))
        for one in workload
    ]
    batched = likeliest_two(engine(None), asked)
    alone = likeliest_two(engine(None, max_num_seqs=1), asked)
    assert len(batched) == len(alone) == sum(one.params.max_tokens for one in workload)
    rounding = max(abs(one[0] - two[0]) for one, two in zip(batched, alone, strict=True))
    leads = [first - second for first, second in batched]
    assert rounding < min(leads) / 4


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_greedy_outputs_equal_stock(engine, workload, answers, hasty, recipe, asynchronous):
    expected = stock_answers(engine, workload, answers, asynchronous)
    assert all(len(expected[at]) == one.params.max_tokens for at, one in enumerate(workload))
    ours = engine(recipe, asynchronous, sojourn=hasty if recipe == "fastserve" else {})
    assert ours.core.vllm_config.scheduler_config.async_scheduling is asynchronous
    assert ours.run(workload) == expected
    counters = ours.scheduler.counters
    assert not counters.errors
    assert counters.steps["act"] >= ours.steps - 2
    assert not any(ours.leftovers().values()), ours.leftovers()
    if recipe == "fastserve":
        assert counters.pauses
        assert counters.drops


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_modes_that_do_not_act_answer_like_stock(engine, workload, answers, mode):
    expected = stock_answers(engine, workload, answers, False)
    ours = engine("fastserve", sojourn={"mode": mode})
    assert ours.run(workload) == expected
    assert not ours.scheduler.counters.errors
    assert not any(ours.leftovers().values()), ours.leftovers()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("recipe", "count"), [("fastserve", 1000), ("slo-edf", 250), ("vtc", 250)])
def test_aborts_at_random_moments_leave_nothing_behind(
    engine, vllm_engine, hasty, recipe, count, asynchronous
):
    source = random.Random(7)
    workload = [
        one._replace(abort_step=one.step + source.choice((0, 1, 2, 5, 20, 60)))
        for one in vllm_engine.mixed_workload(count, seed=2)
    ]
    ours = engine(recipe, asynchronous, sojourn=hasty if recipe == "fastserve" else {})
    done = ours.run(workload)
    assert len(done) < count, "no request was aborted before its end"
    assert not ours.scheduler.counters.errors
    assert not any(ours.leftovers().values()), ours.leftovers()
    after = vllm_engine.mixed_workload(20, seed=3)
    assert len(ours.run(after)) == len(after)
    assert not any(ours.leftovers().values()), ours.leftovers()


def test_mode_switched_in_flight_answers_like_stock(engine, workload, answers, hasty, tmp_path):
    expected = stock_answers(engine, workload, answers, False)
    file = tmp_path / "mode"
    file.write_text("act")
    ours = engine("fastserve", sojourn={**hasty, "mode_file": str(file)})
    look, modes = ours.scheduler.settings.mode, ("shadow", "act", "off", "act")
    step = ours.llm.step

    def switching():
        if ours.steps % 40 == 20:
            file.write_text(modes[ours.steps // 40 % len(modes)])
            look.read, look.next_look = None, 0.0
        return step()

    ours.llm.step = switching
    assert ours.run(workload) == expected
    counters = ours.scheduler.counters
    assert counters.steps.keys() == {"act", "shadow", "off"}
    assert not counters.errors
    assert not any(ours.leftovers().values()), ours.leftovers()


@pytest.mark.parametrize(
    ("most", "running", "asking", "fit"),
    [
        (1, [1], [0, 2, 1], [0, 1]),  # whoever runs counts, in the step or not
        (1, [0], [1, 2, 0, 1], [1, 0, 1]),
        (2, [1], [2, 3, 2], [2, 2]),
        (0, [1], [2, 3], [2, 3]),
    ],
)
def test_seats_are_given_by_adapter(with_vllm, most, running, asking, fit):
    from sojourn.vllm import compat

    def made(numbers):
        adapters = [SimpleNamespace(lora_int_id=number) if number else None for number in numbers]
        return [SimpleNamespace(lora_request=one) for one in adapters]

    config = SimpleNamespace(max_loras=most) if most else None
    scheduler = SimpleNamespace(lora_config=config, running=made(running))
    found = compat.fitting(scheduler, made(asking))
    assert [compat.adapter(one) for one in found] == fit


@pytest.mark.parametrize("adapters_max", [1, 2])
def test_adapters_share_an_engine(engine, workload, hasty, tiny, adapters_max):
    # With one slot for two adapters, who may run depends on who runs already.
    from vllm.lora.request import LoRARequest

    adapters = [
        LoRARequest(name, at, str(folder))
        for at, (name, folder) in enumerate(tiny.adapters.items(), 1)
    ]
    given = {"enable_lora": True, "max_lora_rank": 8, "max_loras": adapters_max}
    with_adapters = [one._replace(adapter=adapters[at % 3 == 2]) for at, one in enumerate(workload)]
    expected = engine(None, **given).run(with_adapters)
    ours = engine("fastserve", sojourn=hasty, **given)
    assert ours.run(with_adapters) == expected
    assert ours.scheduler.counters.pauses
    assert not ours.scheduler.counters.errors
    assert not any(ours.leftovers().values()), ours.leftovers()
