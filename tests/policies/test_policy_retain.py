"""How long finished KV stays: LRU and fixed time-to-live."""

import pytest
from policy_runs import a_recipe, a_request, rows_of, services, simulate

from sojourn.decide.clock import SECOND
from sojourn.errors import UserError
from sojourn.policies.retain import fixed_ttl, lru


def two_turns(gap, *others, prompts=(4, 8)):
    """Return a session of two turns with a pause between, and other requests.

    The second turn's prompt repeats the first one's four tokens, and the answer.
    """
    rows = [(0, prompts[0], 2), (0, prompts[1], 1), *others]
    ids = iter(range(100, 10_000))
    prefix = [tuple(range(prompts[0])), (*range(prompts[0]), 50, 51, 52, 53)]
    prefix += [tuple(next(ids) for _ in range(row[1])) for row in others]
    return rows_of(
        *rows,
        following=[1] + [-1] * (len(rows) - 1),
        gap=[0, gap] + [0] * len(others),
        program=[0, 0] + [-1] * len(others),
        prefix=prefix,
    )


def holding(seconds):
    return a_recipe(retain=("fixed_ttl", {"hold_seconds": seconds}))


OTHERS = ((3, 10, 1), (4, 10, 1))
"""Two prompts of 10 in 20 blocks, one after the other: the second evicts the oldest five."""
CACHE = {"enable_prefix_caching": True, "block_tokens": 1}


def test_lru_releases_at_once():
    policy = lru.Lru(lru.Config(), services())
    assert policy.until(a_request(0, program=3, last_turn=False), 7) == 7


def test_lru_leaves_the_prefix_to_be_found_again():
    # Turn 2 comes 5 s after turn 1 and finds its 4 prompt tokens.
    outcome = simulate(two_turns(5.0), **CACHE)
    assert outcome.record.requests.cached_tokens.tolist() == [0, 4]
    assert [state for _, row, state in outcome.moves if row == 0][-1] == "finished"


def test_lru_fails_when_the_blocks_were_reused_before_the_program_comes_back():
    # Turn 1 leaves 4 + 1 blocks at 2, row 2 another 10 at 4: row 3 takes the 5 bare ones, then
    # turn 1's, the least recently used.
    outcome = simulate(two_turns(5.0, *OTHERS), num_gpu_blocks=20, **CACHE)
    assert outcome.record.requests.cached_tokens.tolist() == [0, 0, 0, 0]


def test_a_turn_that_is_not_the_last_is_held_for_the_time():
    policy = fixed_ttl.FixedTtl(fixed_ttl.Config(hold_seconds=1.5), services())
    until = policy.until(a_request(0, program=3, last_turn=False), 7 * SECOND)
    assert until == 17 * SECOND // 2


def test_by_default_it_is_held_for_two_seconds():
    policy = fixed_ttl.FixedTtl(fixed_ttl.Config(), services())
    assert policy.until(a_request(0, program=3, last_turn=False), 0) == 2 * SECOND


@pytest.mark.parametrize("fields", [{"program": 3, "last_turn": True}, {"last_turn": False}])
def test_a_last_turn_or_a_request_of_no_program_is_not_held(fields):
    policy = fixed_ttl.FixedTtl(fixed_ttl.Config(), services())
    assert policy.until(a_request(0, **fields), 7) == 7


def test_held_kv_survives_other_requests_until_the_program_comes_back():
    # As with LRU above, but held for 10 s: row 3 takes 5 of row 2's blocks instead. When turn 2
    # gets its seat at 7 the hold ends.
    outcome = simulate(two_turns(5.0, *OTHERS), holding(10.0), num_gpu_blocks=20, **CACHE)
    assert outcome.record.requests.cached_tokens.tolist() == [0, 4, 0, 0]
    assert [(t, s) for t, row, s in outcome.moves if row == 0][-2:] == [
        (2, "held"),
        (7, "finished"),
    ]


def test_fixed_ttl_fails_when_the_tool_call_outlasts_the_time():
    # Held until 2.5 only, and then as with LRU.
    outcome = simulate(two_turns(5.0, *OTHERS), holding(0.5), num_gpu_blocks=20, **CACHE)
    assert (2.5, 0, "finished") in outcome.moves
    assert outcome.record.requests.cached_tokens.tolist() == [0, 0, 0, 0]


def test_fixed_ttl_fails_when_held_blocks_keep_others_out():
    # Row 3 needs 18 blocks at 3: row 2 has 2, turn 1's 5 are held. Only when nobody runs, at 6, do
    # they give way, though held until 12; if they are released at once it speaks at 4.
    rows = two_turns(50.0, (2, 1, 4), (3, 18, 1))
    tight = {"num_gpu_blocks": 20, **CACHE}
    assert simulate(rows, holding(10.0), **tight).first[3] == 7
    assert simulate(rows, **tight).first[3] == 4


def test_a_negative_hold_is_refused():
    with pytest.raises(UserError, match=r"^retain.hold_seconds is -1.0; it must be 0 or more$"):
        fixed_ttl.Config(hold_seconds=-1.0)
