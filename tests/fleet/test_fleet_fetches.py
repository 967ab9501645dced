"""Prefix fetches worked by hand: steps take 1 ms, and a link carries a token in 1 us."""

from dataclasses import replace

import pytest
from fleet_runs import LIMITS, columns, design, group, run

from sojourn.decide.clock import SECOND
from sojourn.fleet.design import CRASH, CUT, Fault, Link
from sojourn.fleet.slots import Fetch
from sojourn.policies.tables import SLOTS
from tests.sim.sim_workloads import MILLISECOND, WHOLE, make

MS = MILLISECOND
CACHING = replace(LIMITS, block_tokens=16)
LINK = Link(bytes_per_second=1e11, latency=MS)
"""100,000 bytes of a token take a microsecond."""
SHARED = tuple(range(6))


class Script:
    """Says what it is told to say, one after another."""

    needs = frozenset()
    minds_changes = False

    def __init__(self, verdicts):
        self.verdicts = iter(verdicts)

    def route(self, _request, _now):
        return next(self.verdicts)

    def changed(self, _replica, _now):
        pass


@pytest.fixture
def fleet(monkeypatch):
    """Return a maker of fleets of two replicas whose router says what a test wants."""

    def make_fleet(*verdicts, limits=CACHING, groups=None, **more):
        made = (dict, lambda _config, _fleet: Script(verdicts))
        monkeypatch.setitem(SLOTS["route"], "script", made)
        found = groups or [group("a", 2, step_time=WHOLE, limits=limits)]
        return design(*found, route=("script", {}), default_link=LINK, **more)

    return make_fleet


def twice(*, later=0.02, prompt=100, output=3):
    """Two requests of one prompt; only its last 4 tokens have no id."""
    rows = [(0, prompt, output, 0), (later, prompt, output, 0)]
    return make(rows, block_tokens=16, prefix=[SHARED, SHARED])


def moves(record):
    return [(one.kind, one.source, one.target, one.outcome) for one in record.fleet.moves]


def test_a_prompt_waits_for_what_another_has_of_it(fleet):
    """96 of its tokens come in 1.096 ms (and 3 ps of boundaries); then its 4 are a step of 1 ms."""
    _, record = run(twice(), fleet(0, Fetch(1, 0)))
    assert record.requests.cached_tokens.tolist() == [0, 96]
    (move,) = record.fleet.moves
    assert moves(record) == [("fetch", 0, 1, "done")]
    assert (move.bytes, move.stages, move.down) == (96 * 100_000, 1, move.ended - move.began)
    assert move.ended - move.began == 1096 * MS // 1000 + 3
    assert record.requests.first_token[1] == 20 * MS + 1096 * MS // 1000 + 3 + MS


def test_what_has_come_is_found_by_others_too(fleet):
    work = make(
        [(0, 100, 3, 0), (0.02, 100, 3, 0), (0.04, 100, 3, 0)],
        block_tokens=16,
        prefix=[SHARED] * 3,
    )
    _, record = run(work, fleet(0, Fetch(1, 0), 1))
    assert record.requests.cached_tokens.tolist() == [0, 96, 96]


def test_only_what_is_missing_is_copied(fleet):
    work = make(
        [(0, 100, 3, 0), (0, 40, 3, 0), (0.02, 100, 3, 0)],
        block_tokens=16,
        prefix=[SHARED, SHARED[:2], SHARED],
    )
    _, record = run(work, fleet(0, 1, Fetch(1, 0)))
    assert record.fleet.moves[0].bytes == 64 * 100_000
    assert record.requests.cached_tokens.tolist() == [0, 0, 96]


@pytest.mark.parametrize("verdicts", [(0, Fetch(0, 1)), (1, Fetch(1, 0))])
def test_nothing_is_copied_where_the_source_has_no_more(fleet, verdicts):
    _, record = run(twice(), fleet(*verdicts))
    assert moves(record)[0][3] == "nothing to fetch"
    assert record.fleet.moves[0].bytes == 0
    assert record.requests.cached_tokens.tolist() == [0, 96]


def test_the_source_keeps_the_prefix_until_it_has_been_read(fleet):
    """A prompt of another text needs all 20 blocks of replica 0 while 6 of them are read.

    They are given back at 21.096, when nothing runs, and it is taken up at once.
    """
    small = replace(CACHING, num_gpu_blocks=20, max_model_len=320)
    work = make(
        [(0, 100, 3, 0), (0.02, 100, 3, 0), (0.0205, 300, 3, 0)],
        block_tokens=16,
        prefix=[SHARED, SHARED, tuple(range(100, 118))],
    )
    groups = [group("a", 2, step_time=WHOLE, limits=replace(small, max_num_batched_tokens=512))]
    _, record = run(work, fleet(0, Fetch(1, 0), 0, groups=groups))
    assert record.requests.cached_tokens.tolist() == [0, 96, 0]
    begun = record.requests.first_token[2] - MS
    assert begun == 20 * MS + 1096 * MS // 1000 + 2


def test_a_target_without_room_computes_all(fleet):
    """Of the target's 12 blocks a stream of another text has 7; 5 are not enough."""
    small = replace(CACHING, num_gpu_blocks=12, max_model_len=192)
    work = make(
        [(0, 100, 3, 0), (0.015, 100, 12, 0), (0.02, 100, 3, 0)],
        block_tokens=16,
        prefix=[SHARED, tuple(range(100, 106)), SHARED],
    )
    _, record = run(work, fleet(0, 1, Fetch(1, 0), limits=small))
    assert moves(record) == [("fetch", 0, 1, "no room at the target")]
    assert record.requests.cached_tokens.tolist() == [0, 0, 0]
    assert (record.requests.outcome == 0).all()


@pytest.mark.parametrize(
    ("lost", "cached", "replica"), [(0, [0, 0], 1), (1, [0, 96], 0)], ids=["source", "target"]
)
def test_the_loss_of_either_end_loses_no_request(fleet, lost, cached, replica):
    """At 20.5 the copy is under way; without a target the router is asked again."""
    faults = (Fault(CRASH, 20 * MS + MS // 2, replica=lost),)
    _, record = run(twice(), fleet(0, Fetch(1, 0), 0, faults=faults))
    assert moves(record) == [("fetch", 0, 1, "an end was lost")]
    assert record.requests.cached_tokens.tolist() == cached
    assert record.requests.replica.tolist() == [0, replica]
    assert (record.requests.outcome == 0).all()
    assert record.fleet.lost_requests == (lost == 1)


@pytest.mark.parametrize(("at", "ended"), [(10, 20 * MS + 2), (20.5, 20.5 * MS)])
def test_a_cut_lets_the_prompt_queue_without(fleet, at, ended):
    """It is cut for ever, before the fetch or in the middle of it."""
    groups = [group(name, 1, step_time=WHOLE, limits=CACHING) for name in "ab"]
    faults = (Fault(CUT, round(at * MS), group="a", other="b"),)
    _, record = run(twice(), fleet(0, Fetch(1, 0), groups=groups, faults=faults))
    assert moves(record) == [("fetch", 0, 1, "its link is cut")]
    assert record.fleet.moves[0].ended == ended
    assert record.requests.cached_tokens.tolist() == [0, 0]
    assert record.requests.first_token[1] == ended + MS


def test_nothing_is_fetched_where_nothing_is_cached(fleet):
    without = replace(CACHING, enable_prefix_caching=False)
    _, record = run(twice(), fleet(0, Fetch(1, 0), limits=without))
    assert record.fleet.moves == []


def test_jumping_equals_stepping(fleet):
    """The source decodes all the time, so it lends at one of its step boundaries."""
    rows = [(0, 100, 200, 0), *((0.0103 * i, 100, 9, 0) for i in range(1, 12))]
    work = make(rows, block_tokens=16, prefix=[SHARED] * 12)
    verdicts = [0, *(Fetch(i % 2, 1 - i % 2) for i in range(1, 12))]
    runs = [run(work, fleet(*verdicts), max_horizon=most)[1] for most in (None, 1)]
    assert columns(runs[0]) == columns(runs[1])
    assert sum(one.outcome == "done" for one in runs[0].fleet.moves) == 1


def test_a_prefix_of_a_request_that_ends_is_there_still(fleet):
    work = twice(later=0.0015)  # the source is in the middle of its second step
    _, record = run(work, fleet(0, Fetch(1, 0)))
    assert moves(record) == [("fetch", 0, 1, "done")]
    assert record.requests.first_token[1] == 2 * MS + 1096 * MS // 1000 + 2 + MS


def test_ids_are_whole(fleet):
    """An id of 17 tokens takes two blocks at each end, and 85 of the tokens have an id."""
    odd = replace(LIMITS, block_tokens=17)
    work = make([(0, 100, 3, 0), (0.02, 100, 3, 0)], block_tokens=17, prefix=[SHARED[:5]] * 2)
    _, record = run(work, fleet(0, Fetch(1, 0), limits=odd))
    assert record.requests.cached_tokens.tolist() == [0, 85]
    assert record.fleet.moves[0].bytes == 85 * 100_000
    assert record.fleet.moves[0].ended > 20 * MS + SECOND // 1000
