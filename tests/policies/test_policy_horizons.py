"""A run of steps ends where a policy would decide anew: jumps, hand-worked, against single steps.

Each case has one reason for which a run must end in the middle of a long decode.
"""

import random

import pytest
from policy_runs import a_recipe, rows_of, simulate

from sojourn.steplog.record import SloClass

JUMP = 1 << 20
MLFQ = {"quantum_base_seconds": 2.0}
CONTEST = {"compose": "contest", "victim": "lowest_rank"}
DUE = (SloClass("soon", 0.5, 5.0), SloClass("later", 0.5, 60.0))

CASES = {
    # Row 0 ends at 5 in the middle of row 1's 20 tokens, and row 2 gets its seat.
    "somebody ends": (
        rows_of((0, 1, 5), (0, 1, 20), (1, 1, 3)),
        a_recipe(),
        {"max_num_seqs": 2},
        [5, 20, 8],
    ),
    # Together they have 6 + 2 k of 20 tokens after step k: at 8 row 1 (9 tokens) yields, at 12
    # row 0 has gone and row 1 computes 3 + 8 tokens again.
    "blocks run out": (
        rows_of((0, 3, 12), (0, 3, 12)),
        a_recipe(),
        {"num_gpu_blocks": 20},
        [12, 16],
    ),
    # Row 0 falls a level at 3 and gives way to row 1 (see the queue's own tests).
    "a quantum ends": (
        rows_of((0, 1, 10), (1, 1, 2)),
        a_recipe(order=("skip_join_mlfq", MLFQ), **CONTEST),
        {"max_num_seqs": 1},
        [12, 5],
    ),
    # A scan every 6 steps promotes row 1, queued in level 1 for 2 s or more, over row 0.
    "a scan is due": (
        rows_of((0, 1, 30), (1, 3, 2)),
        a_recipe(
            order=(
                "skip_join_mlfq",
                {
                    "quantum_base_seconds": 0.5,
                    "quantum_ratio": 100.0,
                    "starvation_seconds": 2.0,
                    "starvation_scan_steps": 6,
                },
            ),
            **CONTEST,
        ),
        {"max_num_seqs": 1},
        [32, 8],
    ),
    # Rows 0 and 1 fall to level 1 at 5 and give way to rows 2 and 3 at 5 and 6, one seat a step.
    # The scan at 12 promotes both paused ones, and the second takes a seat at 13.
    "only so many seats change hands": (
        rows_of((0, 1, 14), (0, 1, 14), (1, 1, 20), (1, 1, 20)),
        a_recipe(
            order=(
                "skip_join_mlfq",
                {
                    "quantum_base_seconds": 4.0,
                    "quantum_ratio": 100.0,
                    "starvation_seconds": 2.0,
                    "starvation_scan_steps": 12,
                    "skip_join": False,
                },
            ),
            compose=("contest", {"exchanges_burst": 1}),
            victim="lowest_rank",
        ),
        {"max_num_seqs": 2},
        [22, 20, 35, 33],
    ),
    # Row 1 (45 tokens, due at 1 + 5) does not fit beside row 0 and turns infeasible after 5; then
    # row 2 (5 tokens, due at 62) heads the queue, and fits: seated at 6.
    "the head turns infeasible": (
        rows_of((0, 5, 30), (1, 45, 1), (2, 5, 1), classes=DUE, slo=[1, 0, 1]),
        a_recipe(order="slo_edf", compose="urgent_chunks"),
        {"num_gpu_blocks": 50},
        [30, 31, 7],
    ),
    # Tenant 0 gains 2 a step while row 0 decodes; row 1, its head, does not fit. Row 2 of tenant
    # 1, lifted to tenant 0's counter on arrival, overtakes it as soon as that rises.
    "another tenant overtakes": (
        rows_of((0, 5, 30, 0), (1, 45, 1, 0), (2, 5, 1, 1)),
        a_recipe(order="vtc"),
        {"num_gpu_blocks": 50},
        [30, 31, 4],
    ),
    # A shorter one comes in the middle of a run.
    "somebody better arrives": (
        rows_of((0, 1, 10), (3, 1, 2)),
        a_recipe(order="srpt_clairvoyant", **CONTEST),
        {"max_num_seqs": 1},
        [12, 5],
    ),
    # Row 0 pauses at 2 with 8 tokens, and row 1's third token leaves fewer than 10 of 20 blocks
    # free: swapped out at 5. It is back by 7, and goes on when row 1 has ended at 8.
    "the reserve is touched": (
        rows_of((0, 7, 10), (2, 1, 6)),
        a_recipe(
            order="srpt_clairvoyant",
            compose="contest",
            victim=("proactive_swap", {"min_free_blocks": 10}),
        ),
        {"num_gpu_blocks": 20, "max_num_seqs": 1, "swap_blocks": 100, "swap": 0.01},
        [16, 8],
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_a_run_ends_when(name):
    rows, recipe, options, finish = CASES[name]
    single = simulate(rows, recipe, **options)
    jumped = simulate(rows, recipe, max_horizon=JUMP, **options)
    assert jumped.moves == single.moves
    assert jumped.record.requests.gap.tolist() == single.record.requests.gap.tolist()
    assert sum(jumped.record.steps.steps) == len(single.steps)
    assert len(jumped.steps) < len(single.steps)
    assert jumped.finish == finish


def test_a_run_ends_after_a_step_when_somebody_yielded_behind_a_blocked_head():
    # One seat, quanta of 2, 4, 8 s. Row 0 (20 tokens) falls to level 1 at 3 and gives way to row
    # 1 at 4. Row 2 (45 tokens) heads the queue from 5 on and does not fit: host memory has no
    # room for row 0's 23 tokens. At 12 row 1 falls to level 2, gives its seat to row 0, and is
    # small enough to be swapped out for row 2: the next plan, at 13, does so.
    recipe = a_recipe(order=("skip_join_mlfq", MLFQ), compose="contest", victim="proactive_swap")
    rows = rows_of((0, 20, 30), (4, 2, 30), (5, 45, 1))
    options = {"num_gpu_blocks": 60, "max_num_seqs": 1, "swap_blocks": 10, "swap": 0.01}
    jumped = simulate(rows, recipe, max_horizon=JUMP, **options)
    assert (12, 1, "paused") in jumped.moves
    assert (13, 1, "swapping-out") in jumped.moves
    assert jumped.moves == simulate(rows, recipe, **options).moves


@pytest.mark.parametrize("recipe", ["stall_free", "contest"])
def test_ids_that_end_inside_a_block_are_counted_alike_in_jumps_and_steps(recipe):
    # An id stands for 6 tokens, which take 2 blocks of 4 whole: what follows begins a new block.
    slots = {"order": "srpt_clairvoyant", "victim": "lowest_rank"} if recipe == "contest" else {}
    for seed in range(15):
        rng = random.Random(seed)
        rows = [(rng.random() * 9, rng.randint(1, 40), rng.randint(2, 40)) for _ in range(8)]
        prefix = [
            tuple(i if i < 3 else 100 * row + i for i in range(prompt // 6))
            for row, (_, prompt, _) in enumerate(rows, 1)
        ]
        options = {
            "num_gpu_blocks": 45,
            "block_size": 4,
            "block_tokens": 6,
            "enable_prefix_caching": True,
            "max_num_seqs": 4,
        }
        workload = rows_of(*rows, prefix=prefix)
        single = simulate(workload, a_recipe(compose=recipe, **slots), **options)
        jumped = simulate(workload, a_recipe(compose=recipe, **slots), max_horizon=JUMP, **options)
        assert jumped.moves == single.moves
