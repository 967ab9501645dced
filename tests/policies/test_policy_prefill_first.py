"""Whole prompts or decodes (vLLM before chunked prefill)."""

from policy_runs import a_recipe, rows_of, simulate

from sojourn.decide.clock import SECOND

RECIPE = {"compose": "prefill_first"}


def test_prompts_go_first_and_streams_wait():
    # Row 0 speaks at 1; rows 1 and 2 take the steps at 1 and 2; row 0 goes on at 3.
    outcome = simulate(rows_of((0, 2, 3), (1, 4, 1), (2, 4, 1)), a_recipe(**RECIPE))
    assert outcome.steps == [(0, 2, 0), (1, 4, 0), (2, 4, 0), (3, 0, 1), (4, 0, 1)]
    assert outcome.finish == [5, 2, 3]
    assert outcome.record.requests.gap[0] == 3 * SECOND


def test_only_whole_prompts_share_a_step():
    # Budget 10: 6 + 3 fit, 4 does not fit into the one token left and is not cut.
    outcome = simulate(
        rows_of((0, 6, 1), (0, 3, 1), (0, 4, 1)), a_recipe(**RECIPE), max_num_batched_tokens=10
    )
    assert outcome.steps == [(0, 9, 0), (1, 4, 0)]


def test_decodes_share_one_step():
    outcome = simulate(rows_of((0, 1, 3), (0, 1, 3)), a_recipe(**RECIPE))
    assert outcome.steps == [(0, 2, 0), (1, 0, 2), (2, 0, 2)]


def test_a_prompt_above_the_budget_takes_successive_prefill_steps():
    # 25 tokens under a budget of 10, while row 0's stream waits from 1 to 4.
    outcome = simulate(
        rows_of((0, 1, 2), (1, 25, 1)), a_recipe(**RECIPE), max_num_batched_tokens=10
    )
    assert outcome.steps == [(0, 1, 0), (1, 10, 0), (2, 10, 0), (3, 5, 0), (4, 0, 1)]


def test_no_watermark_of_free_blocks_is_kept():
    # Two prompts of 50 fill all 100 blocks; V0 would have kept one free and let row 1 wait.
    outcome = simulate(rows_of((0, 50, 1), (0, 50, 1)), a_recipe(**RECIPE), num_gpu_blocks=100)
    assert outcome.steps == [(0, 100, 0)]
    assert outcome.record.steps.kv_used.tolist() == [100]


def test_fails_when_prompts_keep_coming():
    # One prompt a second for 10 s: the stream stands still for all of them.
    rows = rows_of((0, 1, 2), *((i, 4, 1) for i in range(1, 11)))
    outcome = simulate(rows, a_recipe(**RECIPE), max_num_seqs=16)
    assert outcome.record.requests.gap[0] == 11 * SECOND
    assert simulate(rows, max_num_seqs=16).record.requests.gap[0] == SECOND
