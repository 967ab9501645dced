"""Accept all, or shed at a full queue."""

import pytest
from policy_runs import a_recipe, a_request, rows_of, services, simulate

from sojourn.decide.actions import Reject
from sojourn.decide.clock import SECOND
from sojourn.errors import UserError
from sojourn.policies.admit import accept_all, queue_limit


def limit(queued_max):
    return a_recipe(admit=("queue_limit", {"queued_max": queued_max}))


def outcomes(outcome):
    """Return finished (0) or shed (1) for each row."""
    return outcome.record.requests.outcome.tolist()


def test_everything_is_accepted():
    policy = accept_all.AcceptAll(accept_all.Config(), services())
    assert policy.admit(a_request(0), 10**6, 0) is None


def test_accept_all_fails_when_load_stays_above_capacity():
    # One seat, 2 s of work every second: the queue grows by one every 2 s.
    outcome = simulate(rows_of(*((i, 1, 2) for i in range(40))), max_num_seqs=1)
    steps = outcome.record.steps
    waiting = dict(zip(steps.start // SECOND, steps.waiting, strict=True))
    assert [waiting[t] for t in (1, 11, 21, 31)] == [1, 6, 11, 16]


def test_an_arrival_is_shed_when_as_many_are_queued_as_may_be():
    policy = queue_limit.QueueLimit(queue_limit.Config(queued_max=2), services())
    request = a_request(0)
    assert policy.admit(request, 1, 0) is None
    assert policy.admit(request, 2, 0) == Reject(request, "queue full")


def test_the_default_is_a_thousand_and_twenty_four():
    policy = queue_limit.QueueLimit(queue_limit.Config(), services())
    assert policy.admit(a_request(0), 1023, 0) is None
    assert policy.admit(a_request(0), 1024, 0) is not None


def test_requests_with_a_seat_do_not_count():
    # One seat, one place in the queue: row 0 runs, row 1 waits, row 2 is shed at 2; at 4 row 1
    # runs and row 3 finds the place free.
    rows = rows_of((0, 1, 4), (1, 1, 4), (2, 1, 4), (5, 1, 1))
    outcome = simulate(rows, limit(1), max_num_seqs=1)
    assert outcomes(outcome) == [0, 0, 1, 0]
    assert outcome.record.reasons == ("queue full",)


def test_only_the_engines_own_queue_counts():
    # vLLM counts requests in front of the engine too: row 1, still unseated at the moment when
    # row 2 arrives, is the only one that is counted here.
    outcome = simulate(rows_of((0, 1, 9), (1, 1, 1), (1, 1, 1)), limit(2), max_num_seqs=1)
    assert outcomes(outcome) == [0, 0, 0]


def test_queue_limit_fails_in_a_burst_that_would_have_been_digested_in_time():
    # Ten at once need ten seconds on one seat, and are alone for an hour: seven are shed.
    rows = rows_of(*((0, 1, 1),) * 10)
    assert sum(outcomes(simulate(rows, limit(3), max_num_seqs=1))) == 7
    assert sum(outcomes(simulate(rows, max_num_seqs=1))) == 0


def test_a_queue_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"^admit.queued_max is 0; it must be at least 1$"):
        queue_limit.Config(queued_max=0)
