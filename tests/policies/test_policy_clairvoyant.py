"""The two clairvoyant orders: shortest and longest remaining time first."""

import pytest
from policy_runs import SECOND_A_STEP, a_recipe, a_request, rows_of, services, simulate

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import SECOND
from sojourn.decide.states import NEW, WAITING
from sojourn.errors import UserError
from sojourn.policies.order import longest_clairvoyant, srpt_clairvoyant

SRPT = {"order": "srpt_clairvoyant", "compose": "contest", "victim": "lowest_rank"}
LONGEST = {"order": "longest_clairvoyant"}


def longest_first(steps):
    """Return the control's own composition, ranking seated requests every so many steps."""
    order = ("longest_clairvoyant", {"rank_steps": steps})
    return a_recipe(order=order, compose="contest", victim="lowest_rank")


def shortest(lengths, cost=SECOND_A_STEP):
    return srpt_clairvoyant.SrptClairvoyant(
        srpt_clairvoyant.Config(), services(cost, dict(enumerate(lengths)))
    )


def longest_key(request, length, cost):
    order = longest_clairvoyant.LongestClairvoyant(
        longest_clairvoyant.Config(), services(cost, {request.id: length})
    )
    order.moved(request, NEW, WAITING, 0)
    return order.key(request, 0)


def test_the_key_is_the_time_that_the_rest_takes_alone():
    # 0.5 s a step, 0.1 s a prompt token, 0.01 s a KV token read. Prompt 10, 3 tokens:
    # prefill 0.5 + 1.0 gives the first; two decodes read 11 and 12: 0.61 + 0.62. Sum 2.73 s.
    cost = Fitted(Coefficients(fixed=0.5, prefill_token=0.1, context_token=0.01))
    assert shortest([3], cost).key(a_request(0, prompt=10), 0) == (273 * SECOND // 100,)
    assert longest_key(a_request(0, prompt=10), 3, cost) == (-273 * SECOND // 100,)


def test_a_begun_request_counts_only_what_is_left():
    # 10 prompt tokens computed and 1 of 3 spoken: two decodes, 0.61 + 0.62.
    cost = Fitted(Coefficients(fixed=0.5, prefill_token=0.1, context_token=0.01))
    request = a_request(0, prompt=10, computed=10, decoded=1)
    assert shortest([3], cost).key(request, 0) == (123 * SECOND // 100,)


def test_a_single_token_needs_no_decode_step():
    assert shortest([1]).key(a_request(0, prompt=10), 0) == (SECOND,)


def test_a_shorter_newcomer_takes_the_only_seat():
    # Row 0 has 10 - 2 = 8 s left when row 1 (2 s) comes at 2: it runs 2..4, row 0 ends at 12.
    # Row 2 (5 s) comes at 4, against 8 left: it runs 4..9 and row 0 ends at 17.
    outcome = simulate(rows_of((0, 1, 10), (2, 1, 2), (4, 1, 5)), a_recipe(**SRPT), max_num_seqs=1)
    assert outcome.finish == [17, 4, 9]


def test_a_longer_newcomer_does_not():
    outcome = simulate(rows_of((0, 1, 5), (1, 1, 5)), a_recipe(**SRPT), max_num_seqs=1)
    assert outcome.finish == [5, 10]
    assert outcome.record.requests.preemptions.sum() == 0


def test_the_standing_is_the_number_of_tokens_left():
    # At tick 7: 5 tokens to go stand at 12, 2 at 9, whatever the contexts.
    order = shortest([5, 3])
    order.services.view.ticks = 7
    assert order.standing(a_request(0, prompt=10), 0) == (12,)
    assert order.standing(a_request(1, prompt=500, decoded=1), 0) == (9,)


def test_standing_and_key_differ_if_contexts_differ_greatly():
    # 0.1 s a KV token read. Row 0 has 3 tokens to go over a context of 1000, row 1 has 4 over 10:
    # by tokens left row 0 stands better, by time it ranks worse.
    order = shortest([4, 5], Fitted(Coefficients(fixed=1.0, context_token=0.1)))
    deep = a_request(0, prompt=1000, computed=1000, decoded=1)
    shallow = a_request(1, prompt=10, computed=10, decoded=1)
    assert order.standing(deep, 0) < order.standing(shallow, 0)
    assert order.key(deep, 0) > order.key(shallow, 0)


def test_fails_when_it_is_taken_for_a_bound_in_a_batch():
    # Two seats. Outputs 1, 1, 2 at 0, then 1, 1 at 2 and 1, 1 at 3. Shortest first: the 2 s one
    # runs alone from 1 to 3 and delays each later pair by one: 1 + 1 + 3, 1 + 2, 1 + 2 = 11.
    # Longest first: 1 + 2 + 2, and both pairs find both seats free: 1 + 1, 1 + 1. Sum 9.
    times, outputs = (0, 0, 0, 2, 2, 3, 3), (1, 1, 2, 1, 1, 1, 1)
    rows = rows_of(*((time, 1, out) for time, out in zip(times, outputs, strict=True)))
    assert simulate(rows, a_recipe(**SRPT), max_num_seqs=2).total == 11
    assert simulate(rows, a_recipe(**LONGEST), max_num_seqs=2).total == 9


def test_fails_when_long_requests_starve():
    # A 2 s request comes every 2 s from second 0 to 18: the 5 s one waits for all ten.
    rows = rows_of((0, 1, 5), *((2 * i, 1, 2) for i in range(10)))
    outcome = simulate(rows, a_recipe(**SRPT), max_num_seqs=1)
    assert outcome.finish[0] == 25


def test_the_longest_goes_first():
    # Outputs 1, 3, 2 at once: 3, then 2, then 1, one seat: ends at 6, 3, 5.
    rows = rows_of((0, 1, 1), (0, 1, 3), (0, 1, 2))
    outcome = simulate(rows, a_recipe(**LONGEST), max_num_seqs=1)
    assert outcome.finish == [6, 3, 5]


def test_the_longest_first_fails_always_once_requests_queue():
    # 6 + 3 + 5 against 1 + 6 + 3 the other way round.
    rows = rows_of((0, 1, 1), (0, 1, 3), (0, 1, 2))
    assert simulate(rows, a_recipe(**LONGEST), max_num_seqs=1).total == 14
    assert simulate(rows, a_recipe(**SRPT), max_num_seqs=1).total == 10


def test_without_a_queue_the_longest_first_is_as_good_as_any():
    rows = rows_of((0, 1, 1), (0, 1, 3), (0, 1, 2))
    assert simulate(rows, a_recipe(**LONGEST)).finish == simulate(rows).finish == [1, 3, 2]


def test_whoever_has_most_left_takes_the_seat():
    # Row 0 has 3 of 4 s left when row 1 (5 s) comes at 1. Ranked while seated every 100 steps
    # only, row 1 runs to its end at 6 and row 0 ends at 9.
    outcome = simulate(rows_of((0, 1, 4), (1, 1, 5)), longest_first(100), max_num_seqs=1)
    assert outcome.finish == [9, 6]


def test_requests_in_a_seat_are_ranked_anew_every_so_many_steps():
    # Every step: at 3 both have 3 s left and row 0, which came first, takes the seat; from then
    # on they take turns, and row 0 ends at 8, row 1 at 9.
    outcome = simulate(rows_of((0, 1, 4), (1, 1, 5)), longest_first(1), max_num_seqs=1)
    assert outcome.finish == [8, 9]


def test_nothing_is_dropped_for_the_longest():
    # Row 2 needs 20 blocks; 40 - 11 - 11 are left beside the two that run: it waits.
    rows = rows_of((0, 10, 6), (0, 10, 6), (1, 20, 12))
    outcome = simulate(rows, longest_first(1), num_gpu_blocks=40, max_num_seqs=2)
    assert outcome.record.requests.recomputed_tokens.sum() == 0
    assert outcome.first[2] == 7


def test_ranking_less_than_every_step_is_refused():
    with pytest.raises(UserError, match=r"^order.rank_steps is 0; it must be at least 1$"):
        longest_clairvoyant.Config(rank_steps=0)
