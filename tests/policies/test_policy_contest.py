"""Seats to the best-ranked at every step (FastServe)."""

import pytest
from policy_runs import a_recipe, rows_of, simulate

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import SECOND
from sojourn.errors import UserError
from sojourn.policies.compose.contest import Config

SRPT = {"order": "srpt_clairvoyant", "compose": "contest", "victim": "lowest_rank"}
MLFQ = {"compose": "contest", "victim": "lowest_rank"}


def test_the_best_of_queued_and_seated_get_the_seats():
    # Two seats, outputs 10 and 8. At 3, row 2 (2 tokens) comes: row 0 has most to go (7) and
    # gives way until 5, then ends at 12.
    outcome = simulate(rows_of((0, 1, 10), (0, 1, 8), (3, 1, 2)), a_recipe(**SRPT), max_num_seqs=2)
    assert outcome.finish == [12, 8, 5]
    assert outcome.record.requests.preemptions.tolist() == [1, 0, 0]


def test_whoever_loses_a_seat_keeps_its_kv():
    outcome = simulate(rows_of((0, 5, 10), (3, 1, 2)), a_recipe(**SRPT), max_num_seqs=1)
    assert [(t, s) for t, row, s in outcome.moves if row == 0][3:] == [
        (3, "paused"),
        (5, "decode"),
        (12, "finished"),
    ]
    assert outcome.record.requests.recomputed_tokens.sum() == 0


def test_a_begun_prompt_gives_way_too_and_goes_on_where_it_was():
    # Chunks of 2, one seat. Row 0 (8 tokens, 5 s in all) has 4 computed at 2, when row 1 (2
    # tokens) comes. To a step that takes 1 s whatever it computes both have 1 s left, so the
    # first to come stays: with 0.1 s a token row 1 is the shorter and speaks first, at 2 x 1.2 +
    # 1.2, and row 0 goes on with its third chunk.
    rows = rows_of((0, 8, 1), (2, 2, 1))
    tight = {"max_num_batched_tokens": 2, "max_num_seqs": 1}
    assert simulate(rows, a_recipe(**SRPT), **tight).first == [4, 5]
    cost = Fitted(Coefficients(fixed=1.0, prefill_token=0.1))
    outcome = simulate(rows, a_recipe(**SRPT), cost, **tight)
    assert outcome.first == [6.0, 3.6]
    assert outcome.record.requests.recomputed_tokens.sum() == 0


@pytest.mark.parametrize(
    ("limits", "finish", "pauses"),
    [
        # At 3 both newcomers get a seat, until 5.
        ({}, [12, 12, 5, 5], [1, 1, 0, 0]),
        # Row 2 takes row 0's at 3, row 3 row 1's at 4. The seat that row 2 leaves at 5 goes to row
        # 1, which has one token less to go, and row 3's at 6 to row 0.
        ({"exchanges_burst": 1}, [13, 11, 5, 6], [1, 1, 0, 0]),
        # The next may be taken at 6, but at 5 row 2 leaves one.
        ({"exchanges_burst": 1, "exchange_steps": 3}, [14, 10, 5, 7], [1, 0, 0, 0]),
        # Three steps have earned no more than the burst, so that row 3 waits as above.
        ({"exchanges_burst": 1, "exchange_steps": 2}, [14, 10, 5, 7], [1, 0, 0, 0]),
        ({"exchanges_burst": 2, "exchange_steps": 9}, [12, 12, 5, 5], [1, 1, 0, 0]),
    ],
)
def test_only_so_many_seats_change_hands(limits, finish, pauses):
    # Two seats, two rows of 10 tokens; at 3 two rows of 2 tokens come.
    recipe = a_recipe(**{**SRPT, "compose": ("contest", limits)})
    rows = rows_of((0, 1, 10), (0, 1, 10), (3, 1, 2), (3, 1, 2))
    outcome = simulate(rows, recipe, max_num_seqs=2)
    assert outcome.finish == finish
    assert outcome.record.requests.preemptions.tolist() == pauses


def test_free_seats_are_not_exchanges():
    recipe = a_recipe(**{**SRPT, "compose": ("contest", {"exchanges_burst": 1})})
    assert simulate(rows_of(*((0, 1, 2),) * 4), recipe, max_num_seqs=4).finish == [2, 2, 2, 2]


def test_prompts_are_computed_in_chunks_under_the_engines_budget():
    tight = {"max_num_batched_tokens": 4, "max_num_seqs": 4}
    outcome = simulate(rows_of((0, 10, 1)), a_recipe(**SRPT), **tight)
    assert [tokens for _, tokens, _ in outcome.steps] == [4, 4, 2]


def test_each_decode_keeps_a_token_of_the_budget():
    # Three streams and a budget of 4: the prompt of 3 tokens gets one token a step.
    rows = rows_of((0, 1, 9), (0, 1, 9), (0, 1, 9), (1, 3, 1))
    outcome = simulate(rows, a_recipe(**SRPT), max_num_batched_tokens=4, max_num_seqs=4)
    assert outcome.steps[:4] == [(0, 3, 0), (1, 1, 3), (2, 1, 3), (3, 1, 3)]


def test_paused_requests_run_while_the_head_does_not_fit_in_memory():
    # Two seats, 20 blocks, nobody is dropped for a newcomer. Row 0 (6 + 9) gives its seat to row
    # 2 (2 tokens) from 2 to 4. Row 3, shortest of all, heads the queue since 3 but needs 14
    # blocks: at 4 the free seat goes to row 0, which has its KV and ends at 4 + 7.
    recipe = a_recipe(
        order="srpt_clairvoyant",
        compose="contest",
        victim=("lowest_rank", {"voluntary_drops_max": 0}),
    )
    rows = rows_of((0, 6, 9), (0, 1, 5), (2, 1, 2), (3, 14, 1))
    outcome = simulate(rows, recipe, num_gpu_blocks=20, max_num_seqs=2)
    assert outcome.finish == [11, 5, 4, 12]


@pytest.mark.parametrize(("watermark", "seated"), [(0.0, 1), (0.05, 1), (0.1, 6)])
def test_a_newcomer_leaves_the_watermark_free_for_those_that_run(watermark, seated):
    # Row 0 (4 + 6) decodes with its 5th of 20 blocks when row 1 comes at 1 and needs 14: one is
    # left over, which is 0.05 of 20 and less than 0.1: then row 1 waits for row 0 to end at 6.
    recipe = a_recipe(
        order="srpt_clairvoyant",
        compose=("contest", {"watermark": watermark}),
        victim="lowest_rank",
    )
    outcome = simulate(rows_of((0, 4, 6), (1, 14, 1)), recipe, num_gpu_blocks=20)
    assert outcome.first[1] == seated + 1


def test_with_nobody_decoding_there_is_no_watermark():
    recipe = a_recipe(
        order="srpt_clairvoyant", compose=("contest", {"watermark": 0.5}), victim="lowest_rank"
    )
    assert simulate(rows_of((0, 14, 1)), recipe, num_gpu_blocks=20).first == [1]


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_a_watermark_out_of_range_is_refused(value):
    with pytest.raises(UserError, match=r"^compose.watermark is .*; it must be in \[0, 1\)$"):
        Config(watermark=value)


@pytest.mark.parametrize(
    ("name", "value", "least"), [("exchanges_burst", -1, 0), ("exchange_steps", 0, 1)]
)
def test_limits_of_exchanges_out_of_range_are_refused(name, value, least):
    with pytest.raises(UserError, match=f"^compose.{name} is {value}; it must be at least {least}"):
        Config(**{name: value})


def test_fails_when_ranks_cross_often():
    # Quanta far below a step: three equal requests take turns; each stream is paused for others.
    order = ("skip_join_mlfq", {"quantum_base_seconds": 0.001, "skip_join": False})
    outcome = simulate(rows_of(*((0, 1, 6),) * 3), a_recipe(order=order, **MLFQ), max_num_seqs=1)
    assert outcome.record.requests.preemptions.tolist() == [3, 5, 2]
    assert outcome.record.requests.gap.min() >= 3 * SECOND
