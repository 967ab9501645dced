"""The rollout machine under random lengths, faults and policies that want nonsense."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from rollout_host import Host, Knobs
from rollout_noise import NoiseAllocate, NoiseControl, NoiseDispatch, NoiseReplay, NoiseSelect

from sojourn.recipes.rollouts import rollout_recipe
from sojourn.rollout import states as st
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.model import Prompt
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Setting
from sojourn.rollout.streams import Stream

PROMPTS = tuple(Prompt(at, "ab"[at % 2], tokens=3 + at % 5) for at in range(40))
CONTROLS = {
    "synchronous": {"policy": "synchronous"},
    "april": {"policy": "april", "ratio": 2.0},
    "slime": {"policy": "april", "ratio": 1.5, "discards_surplus": True},
}


def machine_of(plan, control="april", noise=frozenset(), together=False):
    chosen = {
        "control": CONTROLS[control],
        "dispatch": {"policy": "least_in_flight", "engine_rollouts_max": 5},
    }
    policies = rollout_recipe(chosen, "a test").build(plan, PROMPTS, plan.seed)

    def setting(name):
        return Setting(plan, PROMPTS, Stream(plan.seed, name))

    if "control" in noise:
        policies = policies._replace(
            controls=(*policies.controls, NoiseControl(setting("control")))
        )
    if "dispatch" in noise:
        policies = policies._replace(dispatch=NoiseDispatch(setting("dispatch")))
    if "allocate" in noise:
        policies = policies._replace(allocate=NoiseAllocate(setting("allocate"), together))
    if "select" in noise:
        policies = policies._replace(select=NoiseSelect(setting("select")))
    if "replay" in noise:
        policies = policies._replace(replay=NoiseReplay(setting("replay")))
    return RolloutMachine(plan, PROMPTS, policies)


plans = some.builds(
    Plan,
    batch_groups=some.integers(1, 4),
    rollouts_per_group=some.integers(1, 5),
    groups_max=some.integers(4, 12),
    staleness_versions=some.integers(0, 3),
    tokens_max=some.sampled_from((1, 6, 20, 200)),
    turns_max=some.sampled_from((0, 1, 2)),
    rounds_max=some.integers(1, 4),
    batches_per_version=some.integers(1, 2),
    seed=some.integers(0, 99),
)
share = some.sampled_from((0.0, 0.0, 0.1, 0.3))
knobs = some.builds(
    Knobs,
    engines=some.integers(1, 3),
    length_mean=some.sampled_from((2, 10, 40)),
    chunk=some.sampled_from((1, 5, 30)),
    reports=some.sampled_from((0.0, 0.5, 1.0)),
    loss=share,
    unasked=share,
    late=some.sampled_from((0.0, 0.5)),
    turns=some.sampled_from((0.0, 0.5)),
    errors=some.sampled_from((0.0, 0.2)),
    hidden=some.sampled_from((0.0, 0.5)),
    reward_delay=some.integers(0, 5),
    abort_delay=some.integers(0, 4),
    train_delay=some.integers(0, 6),
    rolling=some.booleans(),
    token_ids=some.booleans(),
    batches=some.integers(1, 4),
)
noises = some.frozensets(some.sampled_from(("control", "dispatch", "allocate", "select", "replay")))


def finish(host):
    """Check what holds at the end of a run, beside what holds after each event."""
    run, plan = host.machine.run, host.machine.run.plan
    assert run.tokens.generated == host.told_tokens
    assert Counter(host.ends.values()) == +Counter(run.ended)
    assert Counter(host.over.values()) == +Counter(run.groups_over)
    live = {rid for rid, one in run.rollouts.items() if one.status in st.LIVE}
    assert not live & host.ends.keys()
    assert live | host.ends.keys() == set(range(run.next_rid))
    trained = 0
    for batch in host.batches:
        assert 1 <= len(batch.groups) <= plan.batch_groups
        short = plan.batch_groups - len(batch.groups)
        assert not short or run.policies.replay.metrics(), "only noise gives less than it said"
        for one in batch.groups:
            age = batch.version - one.result.group.opened_at_version
            assert age <= plan.staleness_versions or one.replayed
            assert one.subset.indices
            assert len(one.advantages) == len(one.subset.indices)
            tokens = sum(one.result.rollouts[at].sampled for at in one.subset.indices)
            trained += 0 if one.replayed else tokens
    assert run.tokens.trained == trained
    assert [batch.step for batch in host.batches] == list(range(1, len(host.batches) + 1))


@settings(max_examples=60)
@given(plans, knobs, some.sampled_from(sorted(CONTROLS)), some.integers(0, 10**6))
def test_published_controls_under_faults(plan, knob, control, seed):
    finish(Host(machine_of(plan, control), seed, knob).run())


@settings(max_examples=120)
@given(plans, knobs, noises, some.booleans(), some.integers(0, 10**6))
def test_nonsense_breaks_nothing(plan, knob, noise, together, seed):
    finish(Host(machine_of(plan, "april", noise, together), seed, knob).run())


@settings(max_examples=60)
@given(plans, knobs, noises, some.booleans(), some.integers(0, 10**6), some.integers(0, 200))
def test_a_restored_machine_goes_on_with_the_same_actions(plan, knob, noise, together, seed, event):
    def made():
        return machine_of(plan, "april", noise, together)

    host = Host(made(), seed, knob, twin=(event, made)).run()
    finish(host)
    if host.twin_of is not None:
        assert host.twin_of.state_dict() == host.machine.state_dict()
        assert host.twin_of.metrics() == host.machine.metrics()


def test_killed_and_restored_at_every_event_of_a_run():
    # More rollouts for a group than allocation takes on average: some of the budget stays over.
    plan = Plan(batch_groups=2, rollouts_per_group=6, staleness_versions=2, tokens_max=30)
    knob = Knobs(
        loss=0.1, unasked=0.1, turns=0.3, late=0.5, rolling=True, batches=3, token_ids=True
    )

    def made():
        return machine_of(plan, "april", {"control", "dispatch", "allocate"})

    host = Host(made(), 5, knob, relay=made).run()
    finish(host)
    assert len(host.log) > 100
    assert host.machine.run.budget > 0


def test_the_same_seed_gives_the_same_run():
    plan = Plan(batch_groups=3, rollouts_per_group=4, staleness_versions=1)
    runs = [Host(machine_of(plan), 3, Knobs(loss=0.1)).run() for _ in range(2)]
    assert runs[0].log == runs[1].log
    assert runs[0].batches == runs[1].batches


@pytest.mark.parametrize("control", sorted(CONTROLS))
def test_nothing_is_stale_without_allowance(control):
    plan = Plan(batch_groups=3, rollouts_per_group=4, staleness_versions=0)
    host = Host(machine_of(plan, control), 1, Knobs()).run()
    assert host.machine.run.tokens.stale == 0
    assert host.machine.run.tokens.carried_over == 0


def test_april_carries_what_it_stops_and_trains_it_later():
    plan = Plan(batch_groups=4, rollouts_per_group=4, staleness_versions=4)
    host = Host(machine_of(plan), 1, Knobs(batches=8)).run()
    tokens = host.machine.run.tokens
    assert tokens.carried_over > 0
    assert tokens.stale > 0
    assert tokens.discarded == 0
    spans = [
        one.spans()
        for batch in host.batches
        for group in batch.groups
        for one in group.result.rollouts
    ]
    assert any(len(one) > 1 for one in spans)


def test_april_finishes_batches_sooner_than_the_synchronous_loop():
    plan = Plan(batch_groups=8, rollouts_per_group=4, staleness_versions=4)
    steps = {
        name: Host(machine_of(plan, name), 1, Knobs(length_mean=40, batches=8)).run().now
        for name in ("april", "synchronous")
    }
    assert steps["april"] < steps["synchronous"]


def test_partial_output_is_resumed_from_the_very_ids():
    plan = Plan(batch_groups=4, rollouts_per_group=4, staleness_versions=4)
    host = Host(machine_of(plan), 1, Knobs(batches=6, token_ids=True)).run()
    seen = 0
    for batch in host.batches:
        for group in batch.groups:
            for one in group.result.rollouts:
                assert one.token_ids() == [one.rid * 1000 + at for at in range(one.length)]
                assert sum(len(part.logprobs) for part in one.segments) == one.length
                seen += one.attempt > 1
    assert seen
