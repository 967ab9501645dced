"""Which replica gets a request: in turn, or the least loaded."""

from dataclasses import dataclass

import pytest
from policy_runs import a_request

from sojourn.errors import UserError
from sojourn.policies.route import least_load, round_robin


@dataclass
class Said:
    waiting: int
    seated: int


class Replica:
    """A replica that is up, with a load."""

    role, status = "mixed", "up"

    def __init__(self, index, load):
        self.index = index
        self.load = Said(*load)


class Fleet:
    """A fleet whose replicas have the loads given."""

    def __init__(self, count=3):
        self.entries = [Replica(index, (0, 0)) for index in range(count)]


def place(router, *loads):
    for index, load in enumerate(loads):
        router.changed(Replica(index, load), 0)
    return router.route(a_request(0), 0)


def in_turn(count=3):
    return round_robin.RoundRobin(round_robin.Config(), Fleet(count))


def by_load(**parameters):
    return least_load.LeastLoad(least_load.Config(**parameters), Fleet())


def test_replicas_get_requests_in_turn():
    router = in_turn()
    assert [place(router, (0, 0), (0, 0), (0, 0)) for _ in range(5)] == [0, 1, 2, 0, 1]


def test_round_robin_reads_nothing():
    router = in_turn(2)
    assert [place(router, (99, 99), (0, 0)) for _ in range(3)] == [0, 1, 0]


def test_round_robin_fails_when_requests_differ_in_size():
    # Large, small, large, small: after 8 requests replica 0 has 4 x 100, replica 1 has 4 x 1.
    router = in_turn(2)
    work = [0, 0]
    for size in (100, 1) * 4:
        work[place(router, (0, 0), (0, 0))] += size
    assert work == [400, 4]


def test_a_waiting_request_weighs_as_much_as_four_seated_ones():
    # Scores 4 x 1 + 0 = 4 against 3, then 4 against 5.
    router = by_load()
    assert place(router, (1, 0), (0, 3)) == 1
    assert place(router, (1, 0), (0, 5)) == 0


def test_a_tie_goes_to_the_lowest_index():
    router = by_load()
    assert place(router, (2, 0), (1, 4), (0, 8)) == 0


def test_the_weight_is_a_parameter():
    router = by_load(waiting_weight=1)
    assert place(router, (2, 0), (0, 3)) == 0


def test_loads_are_exact_and_current():
    # vLLM's are up to 100 ms old: here a change shows at the very next request.
    router = by_load()
    assert [place(router, (0, n), (0, 1)) for n in (0, 2)] == [0, 1]


def test_least_load_fails_when_requests_differ_greatly_in_size():
    # One request of a million tokens counts less than two of one token.
    assert place(by_load(), (0, 1), (0, 2)) == 0


def test_a_weightless_queue_is_refused():
    with pytest.raises(UserError, match=r"^route.waiting_weight is 0; it must be at least 1$"):
        least_load.Config(waiting_weight=0)
