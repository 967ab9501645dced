"""Llumnix's slots, worked by hand: freeness, dispatch, pairs, bands."""

from dataclasses import dataclass, field, replace
from math import inf
from types import SimpleNamespace

import pytest
from fleet_runs import LIMITS, columns, design, group, policy, run

from sojourn.decide.clock import NEVER, SECOND
from sojourn.decide.request import Request
from sojourn.errors import UserError
from sojourn.fleet.design import SPOT, Fault
from sojourn.fleet.views import DOWN, DRAINING, PREFILL, STARTING, UP, Load
from sojourn.policies.route.llumnix_freeness import Headroom, freeness, remaining_steps
from sojourn.policies.tables import SLOTS
from tests.sim.sim_workloads import make


@dataclass
class Replica:
    """A replica of 100 blocks of 16 tokens, as a policy sees it."""

    index: int = 0
    free: int = 100
    seated: int = 1
    waiting: int = 0
    demand: int = 0
    head: int = 0
    dropped: int = 0
    status: str = UP
    role: str = "mixed"
    open: int = 0
    urgent: int = 0
    departing: int = 0
    arriving: int = 0
    kind: str = "replica"
    blocks: int = 100
    block_size: int = 16
    requests: list[Request] = field(default_factory=list)

    @property
    def load(self):
        return Load(
            0,
            waiting=self.waiting,
            seated=self.seated,
            free_blocks=self.free,
            demand_blocks=self.demand,
            head_blocks=self.head,
            dropped=self.dropped,
        )

    def running(self):
        return self.requests


def fleet_of(*replicas):
    for index, one in enumerate(replicas):
        one.index = index
    entries = [one for one in replicas if one.status == UP]
    return SimpleNamespace(replicas=replicas, entries=entries, decoders=[])


def made(slot, name, fleet, **parameters):
    config, made_by = SLOTS[slot][name]
    return made_by(config(**parameters), fleet)


def requests(*lengths, **more):
    return [Request(id, 0, prompt, **more) for id, prompt in enumerate(lengths)]


NORMAL = Headroom(600, -1)


def test_freeness_is_the_decode_steps_left():
    assert freeness(Replica(free=40, seated=8), NORMAL) == 40 * 16 / 8
    assert freeness(Replica(free=100, seated=0), NORMAL) == 1600


def test_the_first_queued_request_counts_whole_and_the_others_not():
    queued = Replica(free=10, seated=4, waiting=3, head=30, demand=50)
    assert freeness(queued, NORMAL) == (10 - 30) * 16 / 4  # negative
    assert freeness(queued, NORMAL, whole_queue=True) == (10 - 50) * 16 / 4


def test_requests_of_high_priority_share_their_headroom():
    urgent = Replica(free=80, seated=2, urgent=2, requests=requests(16, 16, priority=-1))
    assert freeness(urgent, NORMAL) == (80 * 16 - (1600 - 600)) / 2
    of_class = Replica(free=80, seated=2, requests=requests(16, 16, slo_class=1))
    assert freeness(of_class, Headroom(600, 1)) == (80 * 16 - 1000) / 2
    assert freeness(of_class, NORMAL) == 80 * 16 / 2


def test_a_replica_that_drains_has_no_freeness():
    assert freeness(Replica(status=DRAINING), NORMAL) == -inf
    assert remaining_steps(Replica(status=DRAINING), 0.01, False) == -inf


def test_the_codes_load_counts_blocks_not_tokens():
    """The unit trap: a sixteenth of the paper's steps, and waiting requests in the batch."""
    one = Replica(free=41, seated=6, waiting=2, demand=20, head=12)
    assert remaining_steps(one, 0.01, False) == (41 - 1 - 20) / 8
    assert remaining_steps(one, 0.01, True) == (41 - 1 - 12) / 7


def test_dispatch_is_to_the_freest():
    replicas = [Replica(free=60, seated=10), Replica(free=50, seated=5), Replica(status=DRAINING)]
    assert made("route", "llumnix", fleet_of(*replicas)).route(Request(0, 0, 10), 0) == 1


def test_infaas_looks_at_memory_and_freeness_at_steps():
    """60 of 100 free for 10 requests is more memory, and fewer steps, than 50 for 5."""
    fleet = fleet_of(Replica(free=60, seated=10), Replica(free=50, seated=5))
    assert made("route", "infaas", fleet).route(Request(0, 0, 10), 0) == 0
    queued = fleet_of(Replica(free=60, seated=10, demand=20, head=5), Replica(free=50, seated=5))
    assert made("route", "infaas", queued).route(Request(0, 0, 10), 0) == 1


def test_measures_are_kept_for_a_while_but_for_the_last_target():
    replicas = [Replica(free=60), Replica(free=50), Replica(free=40)]
    route = made("route", "llumnix", fleet_of(*replicas))
    assert route.route(Request(0, 0, 10), 0) == 0
    replicas[0].free, replicas[2].free = 30, 90  # the last is not measured yet
    assert route.route(Request(1, 0, 10), SECOND // 100) == 1
    assert route.route(Request(2, 0, 10), SECOND // 20) == 2


def test_the_lowest_is_paired_with_the_highest():
    low, lower = Replica(free=2, seated=4), Replica(free=1, seated=4)
    high, higher = Replica(free=50, seated=4), Replica(free=80, seated=4)
    low.requests, lower.requests = requests(50, 20), requests(40, 90)
    middle = Replica(free=20, seated=4)  # 80 steps: neither below 48 nor above 96
    pairs = made("place", "llumnix", fleet_of(low, higher, middle, high, lower)).rebalance(0)
    assert [(one.request.prompt, one.target) for one in pairs] == [(40, 1), (20, 3)]


def test_low_priority_leaves_first_then_the_shortest():
    source = Replica(free=1, seated=3, urgent=1, requests=requests(30, 50, 90))
    source.requests[0].priority = -1
    (move,) = made("place", "llumnix", fleet_of(source, Replica())).rebalance(0)
    assert move.request.prompt == 50


def test_one_request_at_a_time_leaves_a_replica():
    source = Replica(free=1, seated=2, departing=1, requests=requests(30, 50))
    assert not made("place", "llumnix", fleet_of(source, Replica())).rebalance(0)


def test_a_queued_head_makes_room_for_itself_elsewhere():
    """Defragmentation: 30 blocks are free, the head needs 40, so somebody goes."""
    source = Replica(free=30, seated=4, waiting=1, head=40, requests=requests(100, 200))
    (move,) = made("place", "llumnix", fleet_of(source, Replica())).rebalance(0)
    assert move.request.prompt == 100


def test_who_drains_gives_away_and_takes_nothing():
    leaving = Replica(free=90, status=DRAINING, requests=requests(100))
    (move,) = made("place", "llumnix", fleet_of(leaving, Replica())).rebalance(0)
    assert move.target == 1
    full = Replica(free=0, seated=9, requests=requests(100))
    assert not made("place", "llumnix", fleet_of(full, leaving)).rebalance(0)
    entry = Replica(free=99, role=PREFILL)
    assert not made("place", "llumnix", fleet_of(full, entry)).rebalance(0)


def test_the_released_code_moves_nobody_by_default():
    assert made("place", "llumnix_code", fleet_of(Replica())).period == NEVER
    on = made("place", "llumnix_code", fleet_of(Replica()), routine_migration=True)
    assert on.period == SECOND // 20


def test_balanced_pairs_even_out_but_never_swap():
    source = Replica(free=5, seated=4, requests=requests(160))
    target = Replica(free=60, seated=4)
    place = made("place", "llumnix_code", fleet_of(source, target))
    assert len(place.rebalance(0)) == 1
    source.requests = requests(900)  # 57 blocks: the source would be the freer one by far
    assert not place.rebalance(0)
    defrag = made("place", "llumnix_code", fleet_of(source, target), balanced=False)
    assert len(defrag.rebalance(0)) == 1


def test_preempted_requests_make_a_source_and_unmake_a_target():
    hurt = Replica(free=60, seated=4, dropped=1, requests=requests(32))
    place = made("place", "llumnix_code", fleet_of(hurt, Replica(free=90, seated=2)))
    assert [one.target for one in place.rebalance(0)] == [1]
    full = Replica(free=1, seated=4, requests=requests(32))
    assert not made("place", "llumnix_code", fleet_of(full, hurt)).rebalance(0)


def test_the_band_of_mean_freeness():
    tight, loose = Replica(free=10, seated=4), Replica(free=100, seated=1)
    fleet = fleet_of(tight, replace(tight))
    assert made("scale", "llumnix", fleet).scale(0) == (("replica", 1),)
    starting = fleet_of(tight, Replica(status=STARTING))
    assert made("scale", "llumnix", starting).scale(0) == ()
    scale = made("scale", "llumnix", fleet_of(loose, replace(loose)), patience_seconds=30.0)
    assert scale.scale(0) == ()
    assert scale.scale(20 * SECOND) == ()
    assert scale.scale(30 * SECOND) == (("replica", -1),)
    assert scale.scale(40 * SECOND) == ()  # patience begins anew
    alone = made("scale", "llumnix", fleet_of(loose, Replica(status=DOWN)), patience_seconds=0.0)
    assert alone.scale(0) == ()


def test_the_codes_band_asks_what_is_left_without_one():
    idle, busy = Replica(free=100, seated=1), Replica(free=50, seated=2)
    assert made("scale", "llumnix_code", fleet_of(busy, replace(busy, free=5))).scale(0) == ()
    full = replace(busy, free=5)
    assert made("scale", "llumnix_code", fleet_of(full, replace(full))).scale(0)[0].replicas == 1
    assert made("scale", "llumnix_code", fleet_of(idle, busy)).scale(0) == ()  # 24 without it
    assert made("scale", "llumnix_code", fleet_of(idle, replace(idle))).scale(0)[0].replicas == -1


@pytest.mark.parametrize(
    ("slot", "name", "wrong"),
    [
        ("place", "llumnix", {"high_steps": 10.0}),
        ("place", "llumnix", {"period_seconds": 0.0}),
        ("place", "llumnix_code", {"watermark_share": 1.0}),
        ("route", "llumnix", {"refresh_seconds": -1.0}),
        ("scale", "llumnix", {"low_steps": 1000.0}),
        ("scale", "llumnix_code", {"high_blocks": 5.0}),
    ],
)
def test_values_out_of_range_are_refused(slot, name, wrong):
    with pytest.raises(UserError, match=rf"{slot}\.\w+ is .*; it must be"):
        policy(slot, name, **wrong)


TIGHT = replace(LIMITS, num_gpu_blocks=60, max_model_len=900)


def bursts():
    """Long requests that land together, and short ones between them."""
    rows = [(0.02 * (i // 3), 200 if i % 3 else 20, 150 + i % 40, i % 3) for i in range(60)]
    return make(rows)


@pytest.mark.parametrize(
    ("route", "place"),
    [
        ("infaas", "least_loaded"),
        ("llumnix", "llumnix"),
        ("llumnix_code", policy("place", "llumnix_code", routine_migration=True, balanced=False)),
    ],
)
def test_jumping_equals_stepping(route, place):
    fleet = design(group(count=3, limits=TIGHT), route=route, place=place)
    jumped, stepped = (run(bursts(), fleet, max_horizon=most) for most in (None, 1))
    assert columns(jumped[1]) == columns(stepped[1])
    if place != "least_loaded":
        assert any(one.outcome == "done" for one in jumped[0].moves.past)


def test_migration_spares_preemptions():
    """In turn, the long ones all go to one replica; those that move find the other's room."""
    rows = [(0.2 * i, *((200, 250) if i % 2 else (20, 20)), 0) for i in range(60)]
    two = group(count=2, limits=replace(TIGHT, max_num_seqs=32))
    _, still = run(make(rows), design(two))
    _, moved = run(make(rows), design(two, place="llumnix"))
    assert still.requests.preemptions.sum() > 0
    assert moved.requests.preemptions.sum() < still.requests.preemptions.sum() / 2


def test_a_spot_replica_is_emptied_before_it_goes():
    fault = Fault(SPOT, SECOND // 5, replica=0, notice=2 * SECOND)
    rows = [(0.01 * i, 50, 300, 0) for i in range(6)]
    sim, record = run(make(rows), design(group(count=3), place="llumnix", faults=(fault,)))
    assert sim.fleet_record.lost_requests == 0
    assert 0 not in record.requests.replica.tolist()
    still, _ = run(make(rows), design(group(count=3), faults=(replace(fault, notice=SECOND),)))
    assert still.fleet_record.lost_requests > 0


@pytest.mark.parametrize("scale", ["llumnix", "llumnix_code"])
def test_a_fleet_grows_with_its_load_and_shrinks_after_it(scale):
    replicas = group(count=1, limits=TIGHT, least=1, most=4, start_time=SECOND // 10)
    parameters = {"period_seconds": 0.1}
    if scale == "llumnix":
        parameters.update(patience_seconds=0.2, high_steps=500.0)
    else:
        parameters["high_blocks"] = 30.0
    rows = [(0.02 * i, 100, 100, 0) for i in range(80)] + [(9.0 + i, 20, 20, 0) for i in range(6)]
    fleet = design(replicas, route="llumnix", scale=policy("scale", scale, **parameters))
    sim, _ = run(make(rows), fleet)
    assert len(sim.units) > 1
    assert any(unit.status == DOWN for unit in sim.units)
