"""Decodes first, then chunks under one budget (Sarathi-Serve, stock vLLM)."""

import random

from policy_runs import a_recipe, rows_of, simulate

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import SECOND
from sojourn.decide.states import DECODE, PREFILL


def test_decodes_then_the_begun_prompt_then_newcomers_share_the_budget():
    # Budget 4. Row 0 (2 tokens) speaks at 1 and decodes from then on. Row 1 (7 tokens) gets
    # 3, 3, 1; in its last step one token is left over for row 2 (1 token).
    outcome = simulate(
        rows_of((0, 2, 4), (1, 7, 2), (1, 1, 1)), max_num_batched_tokens=4, max_num_seqs=4
    )
    assert outcome.steps == [(0, 2, 0), (1, 3, 1), (2, 3, 1), (3, 2, 1), (4, 0, 1)]
    assert outcome.finish == [4, 5, 4]


def test_a_prefill_never_stalls_a_stream():
    # A stream of 10 tokens beside a prompt of 30 in chunks of 3: never more than a step apart.
    outcome = simulate(rows_of((0, 1, 10), (1, 30, 1)), max_num_batched_tokens=4, max_num_seqs=4)
    assert outcome.record.requests.gap[0] == SECOND


def test_nobody_is_admitted_in_a_step_in_which_somebody_yields():
    # Two seats, 8 tokens of memory. At 2 row 1 is dropped for row 0's growth: its seat and 3 of
    # its 4 blocks are free, and row 2, of a tenant that goes first, needs one. It is let in at 3.
    rows = rows_of((0, 3, 5), (0, 3, 5), (1, 1, 1, 1))
    outcome = simulate(rows, a_recipe(order="vtc"), num_gpu_blocks=8, max_num_seqs=2)
    assert (2, 1, "waiting") in outcome.moves
    assert [time for time, row, state in outcome.moves if (row, state) == (2, "prefill")] == [3]


def test_no_request_passes_a_head_that_does_not_fit():
    # Row 1 needs 8 of the 6 free blocks; row 2 needs 1 and waits behind it all the same.
    outcome = simulate(rows_of((0, 4, 3), (1, 8, 1), (1, 1, 1)), num_gpu_blocks=10)
    assert outcome.first[1] == outcome.first[2] == 4


def test_a_begun_prompt_stands_behind_all_decodes_in_order_of_seating():
    # That is why decodes first is vLLM's order of seating: seen before every plan of 30 runs.
    for seed in range(30):
        rng = random.Random(seed)
        rows = [(rng.randint(0, 20), rng.randint(1, 30), rng.randint(1, 20)) for _ in range(12)]
        seen = []

        def look(replica, seen=seen):
            states = [request.state for request in replica.machine.seated.values()]
            assert states == sorted(states, key=(DECODE, PREFILL).index)
            seen.append(PREFILL in states and DECODE in states)

        simulate(
            rows_of(*rows), check=look, num_gpu_blocks=60, max_num_seqs=4, max_num_batched_tokens=9
        )
        assert any(seen), "no mixed step in this run"


def test_fails_when_the_budget_is_too_small():
    # One stream leaves one token a step: a prompt of 20 takes 20 steps instead of 1.
    rows = rows_of((0, 1, 40), (1, 20, 1))
    small = simulate(rows, max_num_batched_tokens=2, max_num_seqs=2)
    large = simulate(rows, max_num_batched_tokens=64, max_num_seqs=2)
    assert (small.first[1], large.first[1]) == (21, 2)


def test_fails_when_the_budget_is_too_large():
    # 1 s a step and 0.1 s a prompt token: the stream stands for 1 + 20 x 0.1 s, not 1.1 s.
    rows = rows_of((0, 1, 40), (1, 20, 1))
    cost = Fitted(Coefficients(fixed=1.0, prefill_token=0.1))
    small = simulate(rows, cost=cost, max_num_batched_tokens=2, max_num_seqs=2)
    large = simulate(rows, cost=cost, max_num_batched_tokens=64, max_num_seqs=2)
    gaps = [run.record.requests.gap[0] for run in (small, large)]
    assert gaps == [11 * SECOND // 10, 3 * SECOND]
