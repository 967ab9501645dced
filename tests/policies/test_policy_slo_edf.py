"""SLO-gated earliest deadline first (FlowPrefill)."""

import pytest
from policy_runs import a_recipe, a_request, rows_of, services, simulate

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import NEVER, SECOND
from sojourn.errors import UserError
from sojourn.policies.order.slo_edf import Config, SloEdf
from sojourn.steplog.record import SloClass

TENTH_A_TOKEN = Fitted(Coefficients(fixed=1e-9, prefill_token=0.1))
RECIPE = {"order": "slo_edf", "compose": "urgent_chunks"}


def due_at(id, seconds, prompt=10, **fields):
    return a_request(id, prompt=prompt, ttft_deadline=seconds * SECOND, **fields)


def edf(**values):
    # The 1 ns of a step keeps 10 tokens a hair over one second: use whole seconds around it.
    return SloEdf(Config(**values), services(TENTH_A_TOKEN))


def ranked(order, requests, now):
    found = sorted(requests, key=lambda r: (order.key(r, now * SECOND), r.arrival, r.id))
    return [request.id for request in found]


def test_feasible_by_deadline_then_infeasible_latest_deadline_first():
    # 10 tokens take 1 s (and 1 ns). At second 5 the deadlines 3, 4 and 5.5 cannot be met
    # (5 + 1 > 5.5), 7 and 9 can: 7 before 9, then 5.5 before 4 before 3.
    requests = [due_at(0, 3), due_at(1, 4), due_at(2, 9), due_at(3, 7)]
    requests.append(a_request(4, prompt=10, ttft_deadline=11 * SECOND // 2))
    assert ranked(edf(), requests, 5) == [3, 2, 4, 1, 0]


def test_a_request_is_feasible_up_to_the_very_moment_of_its_latest_start():
    order = edf()
    request = due_at(0, 5)
    latest = 4 * SECOND - SECOND // 10**9
    assert order.latest_start(request) == latest
    assert order.key(request, latest) == (0, 5 * SECOND)
    assert order.key(request, latest + 1) == (1, -5 * SECOND)


def test_only_the_rest_of_a_begun_prompt_counts():
    # 5 of 10 tokens are computed: half a second is left to do.
    order = edf()
    request = due_at(0, 5, computed=5)
    assert order.latest_start(request) == 9 * SECOND // 2 - SECOND // 10**9


def test_a_head_keeps_its_rank_until_it_turns_infeasible():
    order = edf()
    request = due_at(0, 5)
    assert order.holds(request, 0) == (NEVER, order.latest_start(request) + 1)
    assert order.holds(request, 5 * SECOND) == (NEVER, NEVER)


def test_without_a_ttft_objective_the_end_to_end_deadline_counts():
    assert edf().due(a_request(0, deadline=7 * SECOND)) == 7 * SECOND


def test_the_earlier_of_both_objectives_counts():
    request = a_request(0, ttft_deadline=9 * SECOND, deadline=7 * SECOND)
    assert edf().due(request) == 7 * SECOND


def test_without_any_objective_the_default_counts_from_arrival():
    assert edf(default_deadline_seconds=8.0).due(a_request(0, arrival=3.0)) == 11 * SECOND
    assert edf().due(a_request(0, arrival=3.0)) == 63 * SECOND


def test_a_dropped_request_that_has_spoken_goes_first():
    spoken = due_at(0, 1, decoded=1)
    assert ranked(edf(), [due_at(1, 9), spoken], 5) == [0, 1]
    assert edf().holds(spoken, 5 * SECOND) == (NEVER, NEVER)


TIGHT, LOOSE = SloClass("tight", 0.5, 4.0), SloClass("loose", 0.5, 60.0)


def test_decisions_fall_at_chunk_ends():
    # Chunks of 2 tokens, 1 s each. Row 0 (8 tokens, due at 60) has begun its second chunk when
    # row 1 (2 tokens, due at 5.5) arrives at 1.5: it waits for the chunk to end at 2, then
    # overtakes and speaks at 3; row 0 keeps its 4 tokens and speaks at 5.
    outcome = simulate(
        rows_of((0, 8, 1), (1.5, 2, 1), classes=(LOOSE, TIGHT), slo=[0, 1]),
        a_recipe(**RECIPE),
        max_num_batched_tokens=2,
        max_num_seqs=2,
    )
    assert outcome.first == [5, 3]
    assert outcome.record.requests.recomputed_tokens.tolist() == [0, 0]


def test_fails_when_most_cannot_make_their_deadline():
    # One seat, 3 s each, all due 4 s after arrival: row 0 is served, and then always the one with
    # the latest deadline. Row 1, the next in line when it missed, is served last of all.
    outcome = simulate(
        rows_of(*((0.01 * i, 1, 3) for i in range(5)), classes=(TIGHT,)),
        a_recipe(**RECIPE),
        max_num_seqs=1,
    )
    assert outcome.finish == [3, 6, 15, 12, 9]


def test_fails_when_the_engine_is_bound_by_decodes():
    # Everybody is seated on arrival: no order of prefills changes anything.
    rows = rows_of(*((i, 4, 9) for i in range(5)), classes=(LOOSE, TIGHT), slo=[0, 1, 0, 1, 0])
    assert simulate(rows, a_recipe(**RECIPE)).finish == simulate(rows).finish


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_parameters_out_of_range_are_refused(value):
    with pytest.raises(UserError, match=r"^order.default_deadline_seconds is .*above 0$"):
        Config(default_deadline_seconds=value)
