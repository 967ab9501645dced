"""A training run on real engines: every token is with the machine, whatever happens."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from sojourn.errors import UserError
from sojourn.policies.advantage import grpo
from sojourn.policies.allocate import fixed
from sojourn.policies.control import april, synchronous, turn_limits
from sojourn.policies.dispatch import least_in_flight
from sojourn.policies.replay import no_replay
from sojourn.policies.select import uniform
from sojourn.policies.subsample import whole_group
from sojourn.rollout.actions import Submit
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


def run_of(place, host, decided, asked, training, **changed):
    """Return a loop over an engine that outlives it."""
    loop = host.RolloutLoop(decided, asked, training.grade, training.learn, **changed)
    loop.add_engine(place.llm, place.counts, sampling(host))
    return loop


def test_a_run_goes_on_where_it_stood_in_another_loop(place, host, weights):
    """The machine's state as JSON is all that passes from one loop to the other."""
    asked = host.prompts(20, seed=8)
    first, training = machine("april", asked), Training(weights)
    before = place.core_generated
    state = []

    async def begin():
        loop = run_of(place, host, first, asked, training, mode="abort")
        await loop.run(1)
        await loop.run(1)
        loop.check_balance()
        assert not loop.engines[0].flights
        state.append(json.dumps(first.state_dict()))

    async def go_on():
        second = machine("april", asked)
        second.load_state_dict(json.loads(state[0]))
        assert second.run.tokens.in_flight + second.run.tokens.carried > 0
        loop = run_of(place, host, second, asked, training, mode="abort")
        assert (loop.trained, loop.version) == (2, 2)
        await loop.run(2)
        await loop.engines[0]._arrived()
        loop.check_balance()
        assert place.core_generated - before == second.run.tokens.generated

    place.run(begin())
    place.run(go_on())
    assert [one.step for one in training.batches] == [1, 2, 3, 4]
    later = [group.result for batch in training.batches[2:] for group in batch.groups]
    carried = [
        segment.weight_version
        for result in later
        for rollout in result.rollouts
        for segment in rollout.segments
    ]
    assert min(carried) < 2, "nothing of the first loop was trained in the second"


@pytest.mark.parametrize("place_of_failure", ["grade", "learn"])
def test_what_a_trainer_raises_comes_out_and_the_run_can_go_on(
    place, host, weights, place_of_failure
):
    asked = host.prompts(20, seed=9)
    decided, training = machine("april", asked), Training(weights)
    before, calls = place.core_generated, []
    works = getattr(training, place_of_failure)

    async def fails(given):
        calls.append(given)
        if len(calls) == 2:
            raise ConnectionError("the sandbox is gone")
        return await works(given)

    setattr(training, place_of_failure, fails)

    async def whole():
        loop = run_of(place, host, decided, asked, training)
        with pytest.raises(ConnectionError, match="the sandbox is gone"):
            await loop.run(BATCHES)
        assert not loop.engines[0].flights
        assert not loop._tasks
        loop.check_balance()
        await loop.run(BATCHES - loop.trained)
        await loop.engines[0]._arrived()
        loop.check_balance()

    place.run(whole())
    assert place.core_generated - before == decided.run.tokens.generated
    assert [one.step for one in training.batches] == [1, 2, 3]


def test_an_engine_that_lacks_what_a_policy_needs_is_refused(place, host, weights):
    asked = host.prompts(6, seed=6)
    limits = turn_limits.TurnLimits(
        turn_limits.Config(), Setting(Plan(turns_max=2), (), Stream(0, "turns"))
    )
    decided, training = machine("synchronous", asked), Training(weights)
    policies = decided.run.policies
    decided.run.policies = policies._replace(controls=(*policies.controls, limits))

    async def whole():
        with pytest.raises(UserError, match="TurnLimits needs an engine that can tell where"):
            run_of(place, host, decided, asked, training)

        async def respond(rollout):
            raise AssertionError

        run_of(place, host, decided, asked, training, respond=respond)

    place.run(whole())


def test_the_script_in_the_docs_runs(place, tiny, capsys):
    page = Path(__file__).parents[2] / "docs" / "reference" / "rollouts-vllm.md"
    script = page.read_text(encoding="utf-8").partition("<!-- file: train.py -->\n```python\n")[2]
    names = {"__name__": "train"}
    exec(compile(script.partition("```\n")[0], str(page), "exec"), names)
    llm, counts = place.llm, place.counts
    names["MODEL"] = tiny.model
    names["start_llm"] = lambda *_: (llm, counts)  # one that runs already
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llm, "shutdown", lambda: None)
        place.run(names["main"]())
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said[:3]] == ["batch 1", "batch 2", "batch 3"]
    assert said[3].startswith("generated ")


def test_a_run_goes_on_when_one_of_two_engines_dies(place, host, weights, new_place):
    asked = host.prompts(20, seed=7)
    decided, training = machine("april", asked, batch_groups=6), Training(weights)
    dying = new_place("dying", place)
    before = place.core_generated
    heard, at_death = [], []

    async def learn(batch):
        if not at_death:
            at_death.append(len(heard))
            for process in dying.llm.engine_core.resources.engine_manager.processes:
                os.kill(process.pid, signal.SIGKILL)
        return await training.learn(batch)

    async def whole():
        loop = host.RolloutLoop(decided, asked, training.grade, learn)
        loop.add_engine(place.llm, place.counts, sampling(host))
        loop.add_engine(dying.llm, dying.counts, sampling(host))
        for engine in loop.engines.values():
            engine.tell = lambda event: (heard.append(event), loop.inbox.put_nowait(event))
        await loop.run(BATCHES)
        await loop.engines[0]._arrived()
        loop.check_balance()
        return loop

    loop = place.run(whole())
    lost = loop.engines[1]
    assert lost.is_lost
    assert not lost.flights
    assert sum(isinstance(one, EngineLost) for one in heard) == 1
    between_processes = dying.core_generated - lost.told_tokens
    assert 0 <= between_processes <= 3 * 8, "what was on its way, and no more, is gone"
    alive = place.core_generated - before
    assert decided.run.tokens.generated == alive + lost.told_tokens
    assert len(training.batches) == BATCHES
    both = [{one.engine for one in each.segments} for each in training.rollouts()]
    assert {0, 1} in both, "no rollout went on at the other engine"

    async def afterwards():
        with pytest.raises(host.EngineGone):
            await lost.update(99, None)
        lost.submit(Submit(5, 9, 0, 0, 0, 1, 0, (), 5), [1, 2])  # the machine takes it back
        assert not lost.flights

    place.run(afterwards())
