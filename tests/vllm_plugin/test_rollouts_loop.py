"""A training run on real engines: every token is with the machine, whatever happens."""

from __future__ import annotations

import os
import signal

import pytest

from sojourn.policies.advantage import grpo
from sojourn.policies.allocate import fixed
from sojourn.policies.control import april, synchronous
from sojourn.policies.dispatch import least_in_flight
from sojourn.policies.replay import no_replay
from sojourn.policies.select import uniform
from sojourn.policies.subsample import whole_group
from sojourn.rollout.events import EngineLost
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.model import Prompt
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Policies, Setting
from sojourn.rollout.streams import Stream

CONTROLS = {"synchronous": synchronous.Synchronous, "april": april.April}
CONFIGS = {"synchronous": synchronous.Config(), "april": april.Config(ratio=2.0)}
BATCHES = 3


def machine(control, asked, **changed):
    """Return a machine over some prompts."""
    plan = Plan(
        **{
            "batch_groups": 3,
            "rollouts_per_group": 2,
            "tokens_max": 60,
            "staleness_versions": 3 if control == "april" else 0,
            **changed,
        }
    )
    prompts = [Prompt(at, tokens=len(one)) for at, one in enumerate(asked)]

    def setting(name):
        return Setting(plan, prompts, Stream(0, name))

    policies = Policies(
        uniform.Uniform(uniform.Config(), setting("select")),
        fixed.Fixed(fixed.Config(), setting("allocate")),
        (CONTROLS[control](CONFIGS[control], setting("control")),),
        least_in_flight.LeastInFlight(least_in_flight.Config(), setting("dispatch")),
        no_replay.NoReplay(no_replay.Config(), setting("replay")),
        whole_group.WholeGroup(whole_group.Config(), setting("subsample")),
        grpo.Grpo(grpo.Config(), setting("advantage")),
    )
    return RolloutMachine(plan, prompts, policies)


class Training:
    """A trainer that learns nothing: weights change places, and batches are kept."""

    def __init__(self, weights):
        self.weights = weights
        self.batches = []

    async def grade(self, rollout):
        return float(rollout.token_ids()[-1] % 2)

    async def learn(self, batch):
        self.batches.append(batch)
        return self.weights.old if len(self.batches) % 2 else self.weights.new

    def rollouts(self):
        return [
            group.result.rollouts[at]
            for batch in self.batches
            for group in batch.groups
            for at in group.subset.indices
        ]


def sampling(host):
    """Sample, so that lengths differ: one token in twelve ends a rollout."""
    return host.Sampling(stop_ids=tuple(range(0, 512, 12)))


@pytest.mark.parametrize(
    ("control", "mode"), [("synchronous", "keep"), ("april", "keep"), ("april", "abort")]
)
def test_tokens_trained_carried_and_discarded_are_those_that_vllm_generated(
    place, host, weights, control, mode
):
    asked = host.prompts(20, seed=5)
    decided, training = machine(control, asked), Training(weights)
    before = place.core_generated

    async def whole():
        loop = host.RolloutLoop(decided, asked, training.grade, training.learn, mode=mode)
        loop.add_engine(place.llm, place.counts, sampling(host))
        await loop.run(BATCHES)
        await loop.engines[0]._arrived()
        loop.check_balance()

    place.run(whole())
    tokens = decided.run.tokens
    assert place.core_generated - before == tokens.generated
    held = tokens.trained + tokens.carried + tokens.discarded + tokens.in_flight
    assert held == tokens.generated
    assert len(training.batches) == BATCHES
    assert tokens.trained == sum(one.sampled for one in training.rollouts())
    for one in training.rollouts():
        for segment in one.segments:
            assert len(segment.token_ids) == len(segment.logprobs) == segment.tokens
        versions = [segment.weight_version for segment in one.segments]
        assert versions == sorted(versions)
    spans = [len({s.weight_version for s in one.segments}) for one in training.rollouts()]
    assert (max(spans) > 1) is (control == "april")
    assert (tokens.stale > 0) is (control == "april")


def test_turns_go_on_behind_what_the_environment_said(place, host, weights):
    asked = host.prompts(6, seed=6)
    decided, training = machine("synchronous", asked, turns_max=3), Training(weights)

    async def respond(rollout):
        return host.Observation((400 + rollout.turns,), done=rollout.turns >= 2)

    async def whole():
        loop = host.RolloutLoop(decided, asked, training.grade, training.learn, respond)
        loop.add_engine(place.llm, place.counts, sampling(host))
        await loop.run(1)
        loop.check_balance()

    place.run(whole())
    several = [one for one in training.rollouts() if one.turns == 2]
    assert several
    for one in several:
        assert [s.kind for s in one.segments] == ["sampled", "tool", "sampled", "tool"]
        assert one.segments[1].token_ids == [401]


def test_a_run_goes_on_when_one_of_two_engines_dies(place, host, weights, new_place):
    asked = host.prompts(20, seed=7)
    decided, training = machine("april", asked), Training(weights)
    dying = new_place("dying in a run", place)
    killed = []

    async def learn(batch):
        if not killed:
            for process in dying.llm.engine_core.resources.engine_manager.processes:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
        return await training.learn(batch)

    async def whole():
        loop = host.RolloutLoop(decided, asked, training.grade, learn)
        loop.add_engine(place.llm, place.counts, sampling(host))
        loop.add_engine(dying.llm, dying.counts, sampling(host))
        heard = []
        put = loop.inbox.put_nowait
        loop.inbox.put_nowait = lambda event: (heard.append(event), put(event))
        for engine in loop.engines.values():
            engine.tell = loop.inbox.put_nowait
        await loop.run(BATCHES)
        loop.check_balance()
        assert loop.engines[1].is_lost
        assert loop.engines[1].told_tokens > 0
        assert sum(isinstance(one, EngineLost) for one in heard) == 1

    place.run(whole())
    assert len(training.batches) == BATCHES
