"""Whole runs with published policies: what a trainer gets from them without a framework."""

import json
from random import Random

import pytest
from trainer_cases import attempt, curriculum

from sojourn.policies.tables import SLOTS
from sojourn.trainers.curriculum import TRAINER_OFFERS

HARD, EVEN = 0.0, 0.5


def train(run, truth, steps, seed=1):
    """Train for some steps against known success probabilities; return prompts and counts."""
    random = Random(seed)
    seen = []
    begin = run.run.version
    for version in range(begin, begin + steps):
        queue = run.propose(4)
        while queue:
            one = queue.pop(0)
            seen.append((version, one.prompt_id, one.rollouts))
            chance = truth(one.prompt_id)
            told = [
                attempt(rid, float(random.random() < chance), version=version) for rid in one.rids
            ]
            queue += run.observe(told)
        batch = run.batch()
        run.advance(version + 1)
        if batch is not None:
            for group in batch.groups:
                assert len(group.advantages) == len(group.subset.indices)
        run.run.tokens.check()
        assert run.run.submitted <= run.run.plan.rollouts_per_group * run.run.next_uid
    return seen


def even_prompts_learn(prompt_id):
    """Every fourth prompt is solved half of the time, the others never."""
    return EVEN if prompt_id % 4 == 0 else HARD


def share_even(seen, since):
    late = [prompt_id for version, prompt_id, _ in seen if version >= since]
    return sum(prompt_id % 4 == 0 for prompt_id in late) / len(late)


def test_a_bayesian_selector_finds_the_prompts_that_teach():
    uniform = train(curriculum(), even_prompts_learn, 60)
    mopps = train(curriculum(select={"policy": "mopps"}), even_prompts_learn, 60)
    assert share_even(uniform, 30) == pytest.approx(0.25, abs=0.05)
    assert share_even(mopps, 30) > 0.5


def test_an_allocation_gives_more_to_the_undecided():
    tables = {"plan": {"rollouts_per_group": 6}, "allocate": {"policy": "rollout_gdro_inspired"}}
    run = curriculum(**tables)
    counts = {EVEN: [], HARD: []}
    for version in range(40):
        assigned = run.propose(4)
        for one in assigned:
            chance = even_prompts_learn(one.prompt_id)
            if version >= 20:
                counts[chance].append(one.rollouts)
            flip = Random(one.group)
            run.observe(
                attempt(rid, float(flip.random() < chance), version=version) for rid in one.rids
            )
        run.batch()
        run.advance(version + 1)
    mean = {key: sum(some) / len(some) for key, some in counts.items()}
    assert mean[EVEN] > mean[HARD]


@pytest.mark.parametrize("slot", ["select", "allocate", "subsample", "advantage"])
def test_every_policy_that_a_trainer_may_choose_trains_and_restores(slot):
    names = [name for name in SLOTS[slot] if SLOTS[slot][name][1].needs <= TRAINER_OFFERS]
    assert names
    for name in names:
        tables = {slot: {"policy": name}, "rounds": True}
        one = curriculum(**tables)
        train(one, even_prompts_learn, 6)
        two = curriculum(**tables)
        two.load_state_dict(json.loads(json.dumps(one.state_dict())))
        assert train(one, even_prompts_learn, 4) == train(two, even_prompts_learn, 4), name
