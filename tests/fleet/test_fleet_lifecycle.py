"""Lives of replicas: they start cold, drain, change roles and cost money; exact times."""

import pytest
from fleet_runs import design, group, run, split

from sojourn.decide.actions import Scale
from sojourn.decide.clock import SECOND
from sojourn.fleet.design import CRASH, Fault, Link
from sojourn.policies.tables import SLOTS
from tests.fleet.noise import PlaceConfig, ScaleConfig, registered
from tests.sim.sim_workloads import MILLISECOND, WHOLE, make

MS = MILLISECOND


class Script:
    """A scaler that does what it is told at each call."""

    def __init__(self, steps):
        self.steps, self.period = list(steps), 10 * MS

    def scale(self, _now):
        return self.steps.pop(0) if self.steps else ()


def scripted(monkeypatch, steps):
    made = (dict, lambda _config, _fleet: Script(steps))
    monkeypatch.setitem(SLOTS["scale"], "script", made)
    return "script", {}


def test_a_new_replica_is_up_after_its_start_and_the_drained_one_goes_when_empty(monkeypatch):
    """At 10 one is asked for, up at 40; at 50 the one with fewer requests drains: it ends at 60."""
    steps = [[Scale("a", 1)], [], [], [], [Scale("a", -1)]]
    fleet = design(
        group("a", 1, step_time=WHOLE, start_time=30 * MS, most=2, least=1, dollars_per_hour=3.6),
        route="least_load",
        scale=scripted(monkeypatch, steps),
    )
    rows = [(0, 10, 200, 0), (0.045, 10, 15, 0), (0.055, 10, 5, 0)]
    _, record = run(make(rows), fleet)
    assert record.requests.replica.tolist() == [0, 1, 0]
    told = [(one.time / MS, one.replica, one.what) for one in record.fleet.events]
    assert told == [
        (0, 0, "up"),
        (10, 1, "asked for"),
        (40, 1, "up"),
        (50, 1, "draining"),
        (60, 1, "drained"),
    ]
    first, second = record.fleet.units
    assert second.dollars == pytest.approx(0.050 * 3.6 / 3600)
    assert first.dollars == pytest.approx(first.ended / SECOND * 3.6 / 3600)


def test_a_group_stays_within_its_bounds(monkeypatch):
    steps = [[Scale("a", 5)], [Scale("a", -9)]]
    fleet = design(
        group("a", 2, step_time=WHOLE, most=3, least=1), scale=scripted(monkeypatch, steps)
    )
    sim, _ = run(make([(0, 10, 100, 0), (0, 10, 100, 0), (0, 10, 100, 0)]), fleet)
    assert len(sim.units) == 3
    assert sim.lives.count(sim.design.groups[0]) == 1


def test_a_draining_decode_replica_takes_what_was_promised_to_it():
    """Many prompts are bridging when scaling drains decode replicas: none is stranded."""
    link = Link(bytes_per_second=1e9)
    with registered():
        fleet = design(
            *split(1, 3, step_time=WHOLE),
            default_link=link,
            place=("noise", PlaceConfig(1000 * SECOND)),
            scale=("noise", ScaleConfig(11 * MS, ("decode",))),
        )
        _, record = run(make([(i * 0.001, 300, 20, 0) for i in range(60)]), fleet)
    assert (record.requests.outcome == 0).all()
    assert sum(one.what == "drained" for one in record.fleet.events) >= 2


def test_the_only_decode_replica_is_lost_and_comes_back():
    faults = (Fault(CRASH, 50 * MS, replica=1, duration=100 * MS),)
    fleet = design(*split(1, 1, step_time=WHOLE), faults=faults)
    sim, record = run(make([(i * 0.004, 30, 40, 0) for i in range(30)]), fleet)
    assert (record.requests.outcome == 0).all()
    assert sim.units[2].sent >= 20


def test_retyped_replicas_are_listed_in_order_of_index():
    with registered():
        fleet = design(
            *split(2, 2, step_time=WHOLE),
            place=("noise", PlaceConfig(2 * MS, roles=True)),
        )
        sim, record = run(make([(i * 0.002, 30, 30, 0) for i in range(60)]), fleet)
    assert sum(one.what.startswith("role") for one in record.fleet.events) > 10
    assert [one.index for one in sim.entries] == sorted(one.index for one in sim.entries)
