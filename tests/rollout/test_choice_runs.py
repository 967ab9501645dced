"""Every selector and allocator in a whole run, with faults, restored in the middle."""

from importlib import import_module

import pytest
from choice_stubs import make_prompts
from rollout_host import Host, Knobs

from sojourn.policies.tables import SLOTS
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Policies, Setting
from sojourn.rollout.streams import Stream

PROMPTS = make_prompts(60)
USUAL = {
    "select": "uniform",
    "allocate": "fixed",
    "control": "april",
    "dispatch": "least_in_flight",
    "replay": "no_replay",
    "subsample": "whole_group",
    "advantage": "grpo",
}


def variants(slot):
    return [
        (name, variant)
        for name, (config, _) in SLOTS[slot].items()
        for variant in getattr(import_module(config.__module__), "VARIANTS", ("",))
    ]


def machine_of(plan, **chosen):
    def made(slot):
        name, fields = chosen.get(slot, (USUAL[slot], {}))
        config, policy = SLOTS[slot][name]
        return policy(config(**fields), Setting(plan, PROMPTS, Stream(plan.seed, slot)))

    named = {slot: made(slot) for slot in USUAL if slot != "control"}
    return RolloutMachine(plan, PROMPTS, Policies(controls=(made("control"),), **named))


def fields_of(name, variant, **more):
    return name, {**({"variant": variant} if variant else {}), **more}


@pytest.mark.parametrize(("name", "variant"), variants("select"))
@pytest.mark.parametrize("control", ["april", "synchronous"])
def test_selectors_run_and_go_on(name, variant, control):
    plan = Plan(batch_groups=4, rollouts_per_group=4, staleness_versions=2, tokens_max=40)
    more = {"reference": 8} if name == "dots" else {}

    def made():
        select = fields_of(name, variant, **more)
        return machine_of(plan, select=select, control=(control, {}))

    host = Host(made(), 7, Knobs(batches=6, loss=0.02), twin=(150, made)).run()
    assert len(host.batches) == 6
    assert host.twin_of.state_dict() == host.machine.state_dict()


@pytest.mark.parametrize(("name", "variant"), variants("allocate"))
def test_allocators_run_within_the_budget(name, variant):
    plan = Plan(batch_groups=4, rollouts_per_group=8, staleness_versions=2, tokens_max=40)
    probes = {"dars": {"first": 4}, "gvm": {"probes": 4}}.get(name, {})

    def made():
        return machine_of(plan, allocate=fields_of(name, variant, **probes))

    host = Host(made(), 7, Knobs(batches=8), twin=(200, made)).run()
    run = host.machine.run
    groups = run.next_uid
    submitted = groups * plan.rollouts_per_group - run.budget
    assert run.budget >= 0
    assert submitted >= groups
    assert host.twin_of.state_dict() == host.machine.state_dict()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("rollout_gdro_inspired", {"variant": "exact"}),
        ("rollout_gdro_inspired", {"variant": "exact", "probes": 2}),
        ("tracked_neyman", {}),
        ("tracked_neyman", {"probes": 2}),
        ("cures", {"variant": "even"}),
        ("xrpo_inspired", {}),
    ],
)
def test_a_budget_that_is_divided_is_spent(name, fields):
    plan = Plan(batch_groups=6, rollouts_per_group=8, tokens_max=40)
    machine = machine_of(plan, allocate=(name, fields), control=("synchronous", {}))
    for at in range(0, 60, 2):  # half of the prompts are known to fail
        machine.run.beliefs.observe(at, 0.0, 64, 0)
        if name == "tracked_neyman":  # it has a memory of its own
            machine.run.policies.allocate.filter.observe(at, 0.0, 64, 0, False)
    host = Host(machine, 3, Knobs(batches=12)).run()
    sizes = [len(one.result.rollouts) for batch in host.batches for one in batch.groups]
    assert len(sizes) == 72
    assert sum(sizes) == pytest.approx(72 * 8, rel=0.01)
    assert len(set(sizes)) > 1
    assert min(sizes) >= 2
