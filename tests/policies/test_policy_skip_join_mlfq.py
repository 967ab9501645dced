"""Skip-join multi-level feedback queue (FastServe)."""

import pytest
from policy_runs import a_recipe, a_request, rows_of, services, simulate

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import NEVER, SECOND
from sojourn.decide.states import DECODE, FINISHED, NEW, PAUSED, PREFILL, WAITING
from sojourn.errors import UserError
from sojourn.policies.order.skip_join_mlfq import Config, SkipJoinMlfq

MS = SECOND // 1000
MILLISECOND_A_TOKEN = Fitted(Coefficients(fixed=0.001, prefill_token=0.001))
"""A prompt of n tokens alone takes n + 1 ms; a decode step takes 1 ms."""


def mlfq(cost=MILLISECOND_A_TOKEN, **values):
    return SkipJoinMlfq(Config(**values), services(cost))


def arrive(order, request, now=0):
    order.moved(request, NEW, WAITING, now)
    return request


def level(order, request):
    return order.key(request, 0)[0]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    # Quanta are 10, 20, 40, 80 ms; the prompt takes prompt + 1 ms.
    [(1, 0), (9, 0), (10, 1), (19, 1), (20, 2), (39, 2), (40, 3), (79, 3), (80, 4)],
)
def test_a_request_joins_the_first_level_whose_quantum_covers_its_prefill(prompt, expected):
    order = mlfq()
    assert level(order, arrive(order, a_request(0, prompt=prompt))) == expected


def test_without_skip_join_everybody_joins_level_0():
    order = mlfq(skip_join=False)
    assert level(order, arrive(order, a_request(0, prompt=500))) == 0


def test_arrivals_join_the_tail_of_their_level():
    order = mlfq()
    first, second = (arrive(order, a_request(i, prompt=5)) for i in (0, 1))
    assert order.key(first, 0) < order.key(second, 0)


def test_whoever_uses_up_a_quantum_goes_one_level_down_to_the_front():
    # `waiting` sits in level 1. `seated` joins level 0 with its 6 ms prompt, and once it has been
    # in its seat for more than 10 ms it goes to level 1, before `waiting`.
    order = mlfq()
    waiting = arrive(order, a_request(0, prompt=15))
    seated = arrive(order, a_request(1, prompt=5))
    order.moved(seated, WAITING, PREFILL, 0)
    assert order.alarm_time == 10 * MS + 1
    assert order.ring(10 * MS) == []  # exactly the quantum is not more than it
    assert order.ring(10 * MS + 1) == [seated]
    assert level(order, seated) == level(order, waiting) == 1
    assert order.key(seated, 0) < order.key(waiting, 0)
    # Level 1 grants 20 ms, counted from the demotion.
    assert order.alarm_time == 10 * MS + 1 + 20 * MS + 1


def test_time_used_is_kept_over_a_pause():
    # 6 of 10 ms used, then paused: the alarm comes 4 ms after the next seat.
    order = mlfq()
    request = arrive(order, a_request(0, prompt=5))
    order.moved(request, WAITING, PREFILL, 0)
    order.moved(request, PREFILL, DECODE, 3 * MS)
    order.moved(request, DECODE, PAUSED, 6 * MS)
    assert order.ring(50 * MS) == []
    assert order.alarm_time == NEVER
    order.moved(request, PAUSED, DECODE, 60 * MS)
    assert order.alarm_time == 64 * MS + 1


def test_time_in_a_seat_is_charged_in_full_to_each_member_of_the_batch():
    order = mlfq()
    both = [arrive(order, a_request(i, prompt=5)) for i in (0, 1)]
    for request in both:
        order.moved(request, WAITING, PREFILL, 0)
    assert order.ring(10 * MS + 1) == both


def test_a_finished_request_is_forgotten():
    order = mlfq()
    request = arrive(order, a_request(0))
    order.moved(request, WAITING, PREFILL, 0)
    order.moved(request, DECODE, FINISHED, MS)
    assert order.ring(SECOND) == []
    assert order.jobs == order.idle == {}


def test_a_scan_promotes_only_requests_queued_for_the_starvation_time():
    # At step 1000 a scan finds the first queued for exactly 3 s and the second for 2.999 s.
    order = mlfq()
    old = arrive(order, a_request(0, prompt=15), 0)
    young = arrive(order, a_request(1, prompt=15), MS)
    order.services.view.steps = 999
    assert order.ring(3 * SECOND) == []
    order.services.view.steps = 1000
    assert order.ring(3 * SECOND) == [old]
    assert (level(order, old), level(order, young)) == (0, 1)
    assert order.alarm_step == 2000


def test_the_released_code_promotes_every_request_that_never_ran():
    order = mlfq(never_run_starves=True)
    fresh = arrive(order, a_request(0, prompt=15), 0)
    order.services.view.steps = 1000
    assert order.ring(MS) == [fresh]
    assert level(order, fresh) == 0


RECIPE = {"compose": "contest", "victim": "lowest_rank"}


def test_a_newcomer_takes_the_seat_of_a_demoted_request():
    # Steps of 1 s, quanta of 2, 4, 8 s, one seat. Row 0 is seated at 0; at second 2 it has used
    # exactly its quantum, at 3 it has used more and falls to level 1: row 1, in level 0 since
    # second 1, runs 3..5. Row 0 has 7 tokens to go and ends at 12.
    recipe = a_recipe(order=("skip_join_mlfq", {"quantum_base_seconds": 2.0}), **RECIPE)
    outcome = simulate(rows_of((0, 1, 10), (1, 1, 2)), recipe, max_num_seqs=1)
    assert (3.0, 0, "paused") in outcome.moves
    assert outcome.finish == [12, 5]


def test_fails_when_quanta_are_short_against_a_step():
    # Every step of 1 s uses up a quantum of 1, 2, 4 ms ...: three alike take turns, with ten
    # pauses, and all end at the end: mean 17 against (6 + 12 + 18) / 3 first come first served.
    rows = rows_of((0, 1, 6), (0, 1, 6), (0, 1, 6))
    order = ("skip_join_mlfq", {"quantum_base_seconds": 0.001, "skip_join": False})
    outcome = simulate(rows, a_recipe(order=order, **RECIPE), max_num_seqs=1)
    assert outcome.record.requests.preemptions.sum() == 10
    assert outcome.finish == [18, 17, 16]
    assert simulate(rows, max_num_seqs=1).mean == 12


def test_fails_when_a_dropped_request_pays_its_whole_prefill_again():
    # Memory for 30 tokens, not seats, is short. Newcomers of level 0 push the demoted out.
    rows = rows_of(*((t, 10, 8) for t in range(6)))
    order = ("skip_join_mlfq", {"quantum_base_seconds": 1.0})
    cost = Fitted(Coefficients(fixed=0.5, prefill_token=0.05))
    tight = {"num_gpu_blocks": 30, "cost": cost}
    outcome = simulate(rows, a_recipe(order=order, **RECIPE), **tight)
    stock = simulate(rows, **tight)
    assert outcome.record.requests.recomputed_tokens.sum() > 10
    assert outcome.mean > stock.mean


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"quantum_base_seconds": 0.0}, "must be above 0"),
        ({"quantum_ratio": 1.0}, "must be above 1"),
        ({"starvation_seconds": -1.0}, "must be above 0"),
        ({"starvation_scan_steps": 0}, "must be at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(values, sentence):
    with pytest.raises(UserError, match=f"^order.{next(iter(values))} is .*{sentence}$"):
        Config(**values)
