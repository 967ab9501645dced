"""A data set, curricula and results that the trainer tests share."""

from __future__ import annotations

from sojourn.rollout.model import Piece, Prompt
from sojourn.trainers.curriculum import Attempt
from sojourn.trainers.settings import make


def prompts(count=40):
    """Return prompts of two domains, with embeddings."""
    return [
        Prompt(at, ("maths", "code")[at % 2], 10 + at, {"embedding": [1.0, at / count]})
        for at in range(count)
    ]


def curriculum(rounds=False, count=40, **tables):
    """Return a curriculum of batches of 4 groups of 3 rollouts; tables replace parts of it."""
    plan = {"batch_groups": 4, "rollouts_per_group": 3, **tables.pop("plan", {})}
    return make({"plan": plan, "run": "demo", **tables}, prompts(count), "the test", rounds)


def attempt(rid, reward=1.0, tokens=5, version=0, **more):
    """Return a rollout that ended well."""
    return Attempt(rid, reward, (Piece(tokens, version),), **more)


def results(assignments, reward_of, version=0):
    """Return what became of assignments; `reward_of` takes the group's index and the sample."""
    return [
        attempt(rid, reward_of(at, sample), version=version)
        for at, one in enumerate(assignments)
        for sample, rid in enumerate(one.rids)
    ]


def step(run, count=4, version=0, reward_of=lambda _, sample: float(sample % 2)):
    """Carry out a training step; return what was assigned and the batch."""
    assigned = run.propose(count)
    assert run.observe(results(assigned, reward_of, version)) == []
    batch = run.batch()
    run.advance(version + 1)
    return assigned, batch
