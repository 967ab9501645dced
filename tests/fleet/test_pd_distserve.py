"""DistServe: whole prompts to saturation, KV pulled, prefill memory as the buffer, dispatch."""

import pytest
from fleet_runs import columns, design, group, policy, run, split

from sojourn.decide.clock import SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.errors import UserError
from sojourn.fleet.design import Link
from sojourn.recipes import load_recipe
from sojourn.sim.fleet.loop import FleetSimulation
from tests.sim.sim_workloads import make


def limits(blocks=200, seats=8, tokens=2000):
    return EngineLimits(
        num_gpu_blocks=blocks,
        max_num_seqs=seats,
        max_num_batched_tokens=tokens,
        max_model_len=min(2000, blocks * 16),
    )


def batches(prompts, recipe, tokens=2000):
    """Return the tokens and the prompts of each prefill step, all prompts having come at once."""
    rows = [(0.0, 1, 1, 0)] + [(0.001, prompt, 1, 0) for prompt in prompts]
    made = design(group(count=1, recipe=recipe, limits=limits(400, 64, tokens)))
    _, record = run(make(rows), made)
    steps = record.steps
    return list(zip(steps.prefill_tokens.tolist(), steps.prompts.tolist(), strict=True))[1:]


def test_prompts_are_batched_whole_up_to_the_saturation_length():
    # 200 + 300 fit into 512; 100 would not; 1,500 runs alone; then 100 + 50.
    found = batches([200, 300, 100, 1500, 100, 50], "distserve-prefill")
    assert found == [(500, 2), (100, 1), (1500, 1), (150, 2)]


def test_what_other_recipes_do_with_the_same_prompts():
    prompts = [200, 300, 100, 1500, 100, 50]
    # One budget for the batch and for a single prompt: long ones need a large one, ...
    assert batches(prompts, "vllm-v0")[0] == (600, 3)
    # ... and under a small one stall-free chunks cut prompts to fill each step.
    assert batches(prompts, "vllm", 512)[:2] == [(512, 3), (512, 2)]


def test_a_prompt_over_the_budget_takes_several_steps():
    assert batches([1500], "distserve-prefill", 600) == [(600, 1), (600, 1), (300, 1)]


def test_a_changed_role_decodes_when_there_is_no_prompt():
    rows = [(0.0, 100, 20, 0), (0.02, 200, 20, 0)]
    run(make(rows), design(group(count=1, recipe="distserve-prefill", limits=limits())))


class Watched(FleetSimulation):
    """A fleet that notes, after each event, blocks landed at decode and kept at prefill."""

    def note(self):
        prefill, decode = self.units
        self.landed = max(getattr(self, "landed", 0), decode.measure(self.clock.now).landed_blocks)
        self.kept_blocks = max(
            getattr(self, "kept_blocks", 0), prefill.replica.pool.total - prefill.replica.pool.free
        )


def pulled(share, blocks=120):
    """Run prompts of 10 blocks with a decode replica that is short of seats."""
    rows = [(0.001 * i, 159, 200, 0) for i in range(30)]
    made = design(
        group("prefill", 1, role="prefill", recipe="distserve-prefill", limits=limits(blocks)),
        group("decode", 1, role="decode", limits=limits(400, seats=2)),
        place=policy("place", "least_loaded", waiting_share=share),
    )
    sim = Watched(make(rows), made, watch=Watched.note)
    return sim, sim.run()


def test_decode_pulls_only_while_little_waits_there():
    sim, _ = pulled(0.05)
    # 5 % of 400 blocks are 20: it fetches at 0 and at 10 waiting blocks, not at 20.
    assert sim.landed == 20
    sim, _ = pulled(0.5)
    assert sim.landed == 200


def test_prefill_memory_is_the_buffer_and_holds_prefill_up():
    sim, record = pulled(0.05)
    assert 110 <= sim.kept_blocks <= 120  # it fills with prompts that wait to be pulled
    assert record.requests.preemptions.sum() == 0
    wide, unhindered = pulled(0.05, blocks=1000)
    assert wide.kept_blocks > 200
    ttft = [(one.requests.first_token - one.requests.arrival).max() for one in (record, unhindered)]
    assert ttft[0] > 5 * ttft[1]  # prefill stands still until decode has pulled


def test_prefill_goes_to_the_shortest_queue_and_decode_to_the_least_loaded():
    rows = [(0.0, 1000, 400, 0), (0.001, 50, 400, 0), (0.002, 50, 400, 0), (0.3, 50, 4, 0)]
    made = design(
        *split(2, 2, recipe="vllm", limits=limits()),
        route=policy("route", "least_load", waiting_weight=1),
    )
    _, record = run(make(rows), made)
    moves = {one.request: (one.source, one.target) for one in record.fleet.moves}
    assert moves[0][0] == 0
    assert moves[1][0] == moves[2][0] == 1 or moves[2][0] == 0
    targets = [moves[row][1] for row in range(3)]
    assert sorted(targets)[0] == 2
    assert sorted(targets)[-1] == 3
    lighter = min((2, 3), key=targets.count)
    assert moves[3][1] == lighter


def test_slow_links_hold_prefill_up_too():
    rows = [(0.0005 * i, 159, 5, 0) for i in range(30)]
    ends = []
    for rate in (1e12, 1e8):
        made = design(*split(limits=limits(120)), default_link=Link(bytes_per_second=rate))
        _, record = run(make(rows), made)
        ends.append(record.requests.first_token.max() / SECOND)
    # 159 tokens of 100 kB take 0.16 s: prefill waits for its memory.
    assert ends[1] > 10 * ends[0]


def test_jumping_equals_stepping():
    rows = [(0.004 * i, 60 + 7 * (i % 50), 30 + i % 60, 0) for i in range(120)]
    made = design(
        group("prefill", 2, role="prefill", recipe="distserve-prefill", limits=limits(100)),
        group("decode", 2, role="decode", limits=limits(150)),
    )
    jumped, stepped = (run(make(rows), made, max_horizon=most)[1] for most in (None, 1))
    assert columns(jumped) == columns(stepped)


def test_saturation_must_be_a_length():
    assert load_recipe("distserve-prefill").slots["compose"][1].saturation_tokens == 512
    with pytest.raises(UserError, match="it must be at least 1"):
        policy("compose", "prompt_batches", saturation_tokens=0)
