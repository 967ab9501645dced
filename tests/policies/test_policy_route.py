"""Which replica gets a request: in turn, or the least loaded."""

from dataclasses import dataclass

import pytest
from policy_runs import a_request

from sojourn.errors import UserError
from sojourn.policies.route import least_load, round_robin


@dataclass
class Load:
    waiting: int
    seated: int


def place(router, *loads):
    return router.route(a_request(0), [Load(*load) for load in loads], 0)


def test_replicas_get_requests_in_turn():
    router = round_robin.RoundRobin(round_robin.Config())
    assert [place(router, (0, 0), (0, 0), (0, 0)) for _ in range(5)] == [0, 1, 2, 0, 1]


def test_round_robin_reads_nothing():
    router = round_robin.RoundRobin(round_robin.Config())
    assert [place(router, (99, 99), (0, 0)) for _ in range(3)] == [0, 1, 0]


def test_round_robin_fails_when_requests_differ_in_size():
    # Large, small, large, small: after 8 requests replica 0 has 4 x 100, replica 1 has 4 x 1.
    router = round_robin.RoundRobin(round_robin.Config())
    work = [0, 0]
    for size in (100, 1) * 4:
        work[place(router, (0, 0), (0, 0))] += size
    assert work == [400, 4]


def test_a_waiting_request_weighs_as_much_as_four_seated_ones():
    # Scores 4 x 1 + 0 = 4 against 3, then 4 against 5.
    router = least_load.LeastLoad(least_load.Config())
    assert place(router, (1, 0), (0, 3)) == 1
    assert place(router, (1, 0), (0, 5)) == 0


def test_a_tie_goes_to_the_lowest_index():
    router = least_load.LeastLoad(least_load.Config())
    assert place(router, (2, 0), (1, 4), (0, 8)) == 0


def test_the_weight_is_a_parameter():
    router = least_load.LeastLoad(least_load.Config(waiting_weight=1))
    assert place(router, (2, 0), (0, 3)) == 0


def test_loads_are_exact_and_current():
    # vLLM's are up to 100 ms old: here a change shows at the very next request.
    router = least_load.LeastLoad(least_load.Config())
    assert [place(router, (0, n), (0, 1)) for n in (0, 2)] == [0, 1]


def test_least_load_fails_when_requests_differ_greatly_in_size():
    # One request of a million tokens counts less than two of one token.
    assert place(least_load.LeastLoad(least_load.Config()), (0, 1), (0, 2)) == 0


def test_a_weightless_queue_is_refused():
    with pytest.raises(UserError, match=r"^route.waiting_weight is 0; it must be at least 1$"):
        least_load.Config(waiting_weight=0)
