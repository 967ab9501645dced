"""Decodes, then prompts by rank, begun or not (FlowPrefill at chunk granularity)."""

from policy_runs import a_recipe, rows_of, simulate

from sojourn.steplog.record import SloClass

RECIPE = {"order": "slo_edf", "compose": "urgent_chunks"}
CLASSES = tuple(SloClass(str(ttft), 0.25, ttft) for ttft in (100.0, 90.0, 80.0, 70.0))


def test_a_more_urgent_prompt_overtakes_one_that_has_begun():
    # Budget 4. Row 0 (12 tokens, due at 100) gets the steps 0, 2, 3; row 1 (4 tokens, due at
    # 1 + 90) the step 1. Row 0 keeps its seat and its KV meanwhile.
    outcome = simulate(
        rows_of((0, 12, 1), (1, 4, 1), classes=CLASSES, slo=[0, 1]),
        a_recipe(**RECIPE),
        max_num_batched_tokens=4,
        max_num_seqs=4,
    )
    assert outcome.steps == [(0, 4, 0), (1, 4, 0), (2, 4, 0), (3, 4, 0)]
    assert outcome.first == [4, 2]
    assert "paused" not in {state for _, _, state in outcome.moves}


def test_a_less_urgent_prompt_does_not():
    outcome = simulate(
        rows_of((0, 12, 1), (1, 4, 1), classes=CLASSES, slo=[1, 0]),
        a_recipe(**RECIPE),
        max_num_batched_tokens=4,
        max_num_seqs=4,
    )
    assert outcome.first == [3, 4]


def test_decodes_share_the_step():
    # Row 0 decodes from 1 on; of 4 tokens 3 are left for row 1's prompt of 6.
    outcome = simulate(
        rows_of((0, 2, 4), (1, 6, 1), classes=CLASSES, slo=[0, 1]),
        a_recipe(**RECIPE),
        max_num_batched_tokens=4,
        max_num_seqs=4,
    )
    assert outcome.steps == [(0, 2, 0), (1, 3, 1), (2, 3, 1), (3, 0, 1)]


def test_the_engines_token_budget_is_the_only_limit_of_a_batch():
    # 2,000 + 2,500 tokens in one step; FlowPrefill stops at 2,048.
    outcome = simulate(
        rows_of((0, 2000, 1), (0, 2500, 1)),
        a_recipe(**RECIPE),
        num_gpu_blocks=8000,
        max_num_batched_tokens=5000,
    )
    assert outcome.steps == [(0, 4500, 0)]


def test_a_stream_that_yields_to_a_chunk_gives_the_block_of_its_own_token_back():
    # Budget 4, 21 tokens of memory. Row 0 (16 tokens) has 4 computed when row 1 (3 + 9) overtakes
    # it at 1, and then 5, 8, 11, 14; at 5 row 1's sixth token takes the last block, row 0's chunk
    # of 2 finds none, and row 1, seated last, is dropped with that block: 7 and not 6 are free.
    outcome = simulate(
        rows_of((0, 16, 1), (1, 3, 9), classes=CLASSES, slo=[0, 1]),
        a_recipe(**RECIPE),
        num_gpu_blocks=21,
        max_num_batched_tokens=4,
        max_num_seqs=4,
    )
    assert (5, 1, "waiting") in outcome.moves
    assert (
        dict(zip([t for t, _, _ in outcome.steps], outcome.record.steps.kv_used, strict=True))[5]
        == 16
    )


def test_fails_when_many_prompts_are_begun_and_overtaken():
    # Four prompts of 8 tokens, each more urgent than the one before: at 4, four chunks of 4 hold
    # 16 tokens of memory and nobody has spoken. In order of arrival the first speaks at 2.
    rows = rows_of(*((i, 8, 1) for i in range(4)), classes=CLASSES, slo=[0, 1, 2, 3])
    tight = {"max_num_batched_tokens": 4, "max_num_seqs": 4}
    outcome = simulate(rows, a_recipe(**RECIPE), **tight)
    assert outcome.first == [8, 7, 6, 5]
    assert outcome.record.steps.kv_used.tolist()[:4] == [4, 8, 12, 16]
    assert simulate(rows, **tight).first == [2, 4, 6, 8]
