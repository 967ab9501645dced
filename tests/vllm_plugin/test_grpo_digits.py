"""The digit-addition benchmark, small: it runs with what vLLM brings, but without vLLM."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

pytestmark = [
    pytest.mark.xdist_group("digits"),
    pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed here"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def small():
    """Sizes with which a run takes seconds."""
    from benchmarks.grpo_digits.model import Shape
    from benchmarks.grpo_digits.training import Sizes

    return Sizes(
        digits_max=2,
        prompts=48,
        test=192,
        groups=8,
        rollouts=8,
        tokens_max=20,
        updates=24,
        look_every=12,
        rate=1e-3,
        slips=0.2,
        first_rate=4e-3,
        shape=Shape(width=64, layers=2, heads=4, context=32),
    )


@pytest.fixture(scope="module")
def weights(small, tmp_path_factory):
    from benchmarks.grpo_digits.training import first_weights

    file = tmp_path_factory.mktemp("digits") / "first.pt"
    share = first_weights(small, file, tell=print)
    assert share >= small.target
    return file


@pytest.fixture(scope="module")
def results(small, weights):
    from benchmarks.grpo_digits.training import run

    names = ("sync", "april", "mopps-shuffled", "prune-random", "stale-uncorrected")
    return {name: run(name, 0, small, weights) for name in names}


def test_solutions_are_right_and_others_are_not():
    from benchmarks.grpo_digits.digits import Problem, answer_tokens, encode, split

    one = Problem(37, 85, 2)
    assert one.prompt == encode("73+58=")
    assert one.solution == encode("75213821#221.")
    assert one.reward(one.solution) == 1.0
    assert one.written([0, 9]) == encode("75213811#211.")
    assert one.reward(one.written([0, 9])) == 0.0
    assert Problem(3, 4, 2).solution == encode("34700000#70.")
    assert one.reward(encode("#221.")) == 1.0
    for wrong in ("75213821#221", "75213821#222.", "75213821221.", "#122.", ""):
        assert one.reward(encode(wrong)) == 0.0
    train, test = split(40, 40, 4, seed=0)
    assert not set(train) & set(test)
    assert max(len(each.solution) for each in train) <= answer_tokens(4)


def test_going_on_from_a_cache_gives_the_logits_of_whole_sequences(small):
    import torch

    from benchmarks.grpo_digits.model import Model

    model = Model(small.shape)
    ids = torch.randint(0, 14, (5, 12))
    whole = model(ids)
    keys, values = model.new_cache(5)
    first = torch.tensor([3, 7, 4, 1, 5])
    with torch.no_grad():
        model(ids[:, :7], (keys, values))
        for at in range(4):
            places = first + at
            found = model.extend(ids[torch.arange(5), places], places, keys, values)
            assert torch.allclose(found, whole[torch.arange(5), places], atol=1e-4)


def test_reward_rises_and_tokens_add_up(small, results):
    from benchmarks.grpo_digits.page import last, solved

    sync = results["sync"]
    assert last(sync) > solved(sync, 0) + 0.05
    for one in results.values():
        tokens = one["tokens"]
        held = tokens["trained"] + tokens["carried"] + tokens["discarded"] + tokens["in_flight"]
        assert tokens["generated"] == held
        assert len(one["curve"]) == small.updates
    assert sync["tokens"]["stale"] == 0
    assert sync["tokens"]["trained"] == sync["generated"]


def test_sampled_tokens_have_the_probability_that_the_learner_sees(results):
    for name in ("sync", "mopps-shuffled", "prune-random"):
        assert all(abs(one["ratio"] - 1.0) < 1e-3 for one in results[name]["curve"]), name
    stale = [one["ratio"] for one in results["stale-uncorrected"]["curve"]]
    assert abs(stale[0] - 1.0) < 1e-3
    assert max(abs(one - 1.0) for one in stale) > 1e-3


def test_april_carries_tokens_over_and_needs_fewer_steps(results):
    april, sync = results["april"], results["sync"]
    assert april["tokens"]["stale"] > 0
    assert april["steps"] < sync["steps"]


def test_noise_prunes_too(results):
    pruned = results["prune-random"]
    assert pruned["metrics"]["controls.1.pruned"] > 0
    assert pruned["tokens"]["discarded"] > 0


def test_nothing_solves_a_spoilt_problem(small, weights):
    from dataclasses import replace

    from benchmarks.grpo_digits.training import Run

    run = Run("mopps-spoilt", 0, replace(small, updates=3), weights)
    values = []
    learn = run._learn

    def watched(batch):
        results = [group.result for group in batch.groups]
        values.extend((run.spoilt[one.group.prompt_id], *one.values) for one in results)
        learn(batch)

    run._learn = watched
    run.go()
    assert 0.5 < sum(run.spoilt) / len(run.spoilt) < 0.9
    assert max(value for spoilt, *rewards in values if spoilt for value in rewards) == 0.0
    assert max(value for spoilt, *rewards in values if not spoilt for value in rewards) == 1.0


def test_the_same_seed_gives_the_same_run(small, weights, results):
    from dataclasses import replace

    from benchmarks.grpo_digits.training import run

    again = run("april", 0, replace(small, updates=12), weights)
    first = results["april"]["curve"][:12]
    assert [one["steps"] for one in again["curve"]] == [one["steps"] for one in first]
    assert [one["reward"] for one in again["curve"]] == [one["reward"] for one in first]


def test_the_page_says_what_lost(small, results):
    from benchmarks.grpo_digits.page import page

    planted = {**results, "prune": {**results["prune-random"], "arm": "prune"}}
    body = page([{**one, "seed": seed} for one in planted.values() for seed in (0, 1)], small)
    assert "`prune-random` against `prune`:** **does not lose beyond the noise**" in body
    assert "APRIL against synchronous" in body
    assert all(f"`{name}`" in body for name in planted)
