"""Who yields when memory is short: last in, lowest rank, proactive swap."""

import pytest
from policy_runs import a_recipe, a_request, rows_of, services, simulate

from sojourn.decide.clock import SECOND
from sojourn.decide.slots import Mode, Yield
from sojourn.decide.states import DECODE, PAUSED, PREFILL, WAITING
from sojourn.errors import UserError
from sojourn.policies.victim import last_in, lowest_rank, proactive_swap

SRPT = {"order": "srpt_clairvoyant", "compose": "contest"}


class Pressure:
    """Requests to choose from, best first."""

    def __init__(self, seated=(), paused=()):
        self.seated = list(seated)
        self.paused = list(paused)

    def seated_last_first(self):
        return reversed(self.seated)

    def worst_seated(self, _now):
        return self.seated[-1] if self.seated else None

    def worst_paused(self):
        return self.paused[-1] if self.paused else None


def states(state, *ids, drops=0):
    return [a_request(id, state=state, drops=drops) for id in ids]


LAST = last_in.LastIn(last_in.Config(), services())
LOWEST = lowest_rank.LowestRank(lowest_rank.Config(voluntary_drops_max=2), services())


def test_the_last_one_in_is_dropped():
    seated = states(DECODE, 1, 2, 3)
    assert LAST.victim(Pressure(seated), seated[0], 0) == Yield(seated[2], Mode.DROP)


def test_with_nobody_seated_nobody_yields():
    assert LAST.victim(Pressure(), None, 0) is None


def test_last_in_does_nothing_ahead_of_need():
    assert LAST.prepare(Pressure(states(DECODE, 1)), 0) is None


def test_last_in_fails_when_memory_stays_short():
    # 20 tokens of memory, prompts of 4 and 4, 12, 9 tokens to come. At 3 all three would need 7:
    # row 2, with 6, is dropped. Row 0 ends at 4 and row 2 comes back with target 4 + 3; at 7 it
    # has 9, row 1 has 11 and both grow: dropped again. Row 1 ends at 12; row 2 computes
    # 4 + 6 tokens once more and ends at 15.
    outcome = simulate(rows_of((0, 4, 4), (0, 4, 12), (0, 4, 9)), num_gpu_blocks=20)
    assert outcome.finish == [4, 12, 15]
    assert outcome.record.requests.preemptions.tolist() == [0, 0, 2]
    assert outcome.record.requests.recomputed_tokens.tolist() == [0, 0, 6 + 9]


def test_the_worst_paused_yields_before_the_worst_seated():
    seated, paused = states(DECODE, 1, 2), states(PAUSED, 3, 4)
    pressure = Pressure(seated, paused)
    assert LOWEST.victim(pressure, seated[0], 0) == Yield(paused[1], Mode.DROP)
    assert LOWEST.victim(Pressure(seated), seated[0], 0) == Yield(seated[1], Mode.DROP)


@pytest.mark.parametrize("state", [DECODE, PREFILL])
def test_a_seated_one_yields_only_for_the_growth_of_a_seated_one(state):
    seated = states(state, 1, 2)
    assert LOWEST.victim(Pressure(seated), seated[0], 0) is not None
    assert LOWEST.victim(Pressure(seated), a_request(9, state=WAITING), 0) is None
    assert LOWEST.victim(Pressure(seated), None, 0) is None


def test_nobody_yields_to_itself():
    paused = states(PAUSED, 3)
    assert LOWEST.victim(Pressure([], paused), paused[0], 0) is None


def test_for_a_newcomer_nobody_is_dropped_more_often_than_allowed():
    newcomer = a_request(9, state=WAITING)
    assert LOWEST.victim(Pressure([], states(PAUSED, 3, drops=1)), newcomer, 0) is not None
    assert LOWEST.victim(Pressure([], states(PAUSED, 3, drops=2)), newcomer, 0) is None


def test_by_default_nobody_is_dropped_for_a_newcomer():
    policy = lowest_rank.LowestRank(lowest_rank.Config(), services())
    assert policy.victim(Pressure([], states(PAUSED, 3)), a_request(9, state=WAITING), 0) is None


def test_for_growth_that_bound_does_not_hold():
    seated, paused = states(DECODE, 1), states(PAUSED, 3, drops=99)
    assert LOWEST.victim(Pressure(seated, paused), seated[0], 0) == Yield(paused[0], Mode.DROP)


DROPS = a_recipe(victim=("lowest_rank", {"voluntary_drops_max": 2}), **SRPT)


def test_lowest_rank_drops_where_the_paper_swaps():
    # 12 tokens of memory, one seat. Row 0 (4 + 8) holds 4 when it gives its seat to row 1 (2 s)
    # at 1; at 3 row 2, the shortest, needs 10: row 0 is dropped, and computes 4 + 1 tokens at 4.
    rows = rows_of((0, 4, 8), (1, 1, 2), (2, 10, 1))
    outcome = simulate(rows, DROPS, num_gpu_blocks=12, max_num_seqs=1)
    assert "swapping-out" not in {state for _, _, state in outcome.moves}
    assert outcome.record.requests.recomputed_tokens.tolist() == [4, 0, 0]
    assert outcome.finish == [11, 3, 4]


def test_lowest_rank_fails_when_memory_is_short_and_requests_are_long():
    # Row 0 (20 + 9) is paused for row 1, then dropped for row 2's 20 tokens: 21 of its tokens
    # are thrown away, and computed once more.
    rows = rows_of((0, 20, 9), (2, 1, 3), (3, 20, 1))
    tight = simulate(rows, DROPS, num_gpu_blocks=30, max_num_seqs=1)
    roomy = simulate(rows, DROPS, num_gpu_blocks=90, max_num_seqs=1)
    assert tight.record.requests.recomputed_tokens.tolist() == [21, 0, 0]
    assert roomy.record.requests.recomputed_tokens.tolist() == [0, 0, 0]


def swapper(**values):
    return proactive_swap.ProactiveSwap(proactive_swap.Config(**values), services(max_num_seqs=8))


def test_the_reserve_is_the_larger_of_seats_and_parameter():
    assert swapper().keep_free == swapper(min_free_blocks=3).keep_free == 8
    assert swapper(min_free_blocks=30).keep_free == 30


def test_the_worst_paused_is_swapped_while_fewer_blocks_are_free_than_the_reserve():
    paused = states(PAUSED, 3, 4)
    assert swapper().prepare(Pressure([], paused), 7) == Yield(paused[1], Mode.SWAP)
    assert swapper().prepare(Pressure([], paused), 8) is None
    assert swapper().prepare(Pressure(states(DECODE, 1)), 0) is None


def test_when_it_is_too_late_to_swap_the_lowest_rank_is_dropped():
    seated, paused = states(DECODE, 1), states(PAUSED, 3)
    wants = seated[0]
    assert swapper().victim(Pressure(seated, paused), wants, 0) == Yield(paused[0], Mode.DROP)


def test_rank_stands_in_for_the_estimated_next_scheduled_time():
    # Row 0 has waited longest to run again, row 4 ranks worst: rank decides.
    paused = [a_request(0, state=PAUSED, since=0), a_request(4, state=PAUSED, since=99)]
    assert swapper().prepare(Pressure([], paused), 0) == Yield(paused[1], Mode.SWAP)


def test_a_newcomer_lets_the_worst_paused_be_swapped_out():
    paused = states(PAUSED, 3, 4)
    assert swapper().victim(Pressure([], paused), a_request(9, state=WAITING), 0) == Yield(
        paused[1], Mode.SWAP
    )


SWAPS = a_recipe(victim=("proactive_swap", {"min_free_blocks": 10}), **SRPT)
TWO = rows_of((0, 8, 10), (2, 3, 2))
TIGHT = {"num_gpu_blocks": 20, "max_num_seqs": 1, "swap_blocks": 100}


def test_blocks_become_free_when_their_copy_is_done():
    # Row 0 pauses at 2 with 9 tokens for row 1. At 3 only 8 of 20 blocks are free, fewer than
    # 10: its copy takes 9 x 0.5 s, until 7.5. Row 1 ends at 4; row 0 heads the queue when its
    # copy is done, is copied back until 12, and its 8 tokens end at 20.
    outcome = simulate(TWO, SWAPS, swap=0.5, **TIGHT)
    assert [(time, state) for time, row, state in outcome.moves if row == 0][3:] == [
        (2, "paused"),
        (3, "swapping-out"),
        (7.5, "swapped"),
        (7.5, "swapping-in"),
        (12, "paused"),
        (12, "decode"),
        (20, "finished"),
    ]
    assert outcome.record.requests.recomputed_tokens.sum() == 0
    # While the copy out runs, row 0's 9 blocks are in use beside row 1's 4.
    used = dict(
        zip(outcome.record.steps.start // SECOND, outcome.record.steps.kv_used, strict=True)
    )
    assert used[3] == 9 + 4


def test_a_request_is_brought_back_only_when_it_heads_the_queue():
    # Its copy out ends at 3.09, but rows 1 and 2 rank before row 0: until row 2 (5 tokens) is
    # seated at 4 it heads the queue, although the blocks are free.
    rows = rows_of((0, 8, 10), (2, 3, 2), (3, 1, 5))
    outcome = simulate(rows, SWAPS, swap=0.01, **TIGHT)
    back = [time for time, row, state in outcome.moves if state == "swapping-in"]
    seated = [time for time, row, state in outcome.moves if row == 2 and state == "prefill"]
    assert seated == [4]
    assert back[0] == 4


def test_proactive_swap_fails_when_the_link_is_slow():
    # With a free link row 0 goes on at 4 and ends at 12, with this one at 20.
    assert simulate(TWO, SWAPS, swap=0.0, **TIGHT).finish == [12, 4]
    assert simulate(TWO, SWAPS, swap=0.5, **TIGHT).finish == [20, 4]


def test_a_request_larger_than_all_but_the_reserve_is_not_swapped_for_ever():
    # Row 0's 9 tokens leave 11 of 20 blocks, fewer than the reserve of 12: whenever it is back on
    # the GPU and before it gets its seat, it is the worst paused one and is swapped out again.
    recipe = a_recipe(victim=("proactive_swap", {"min_free_blocks": 12}), **SRPT)
    outcome = simulate(TWO, recipe, swap=0.5, until=300 * SECOND, **TIGHT)
    assert outcome.record.requests.outcome.tolist() == [0, 0]


def test_a_negative_bound_of_drops_is_refused():
    with pytest.raises(UserError, match=r"voluntary_drops_max is -1; it must be 0 or more$"):
        lowest_rank.Config(voluntary_drops_max=-1)


def test_a_negative_reserve_is_refused():
    with pytest.raises(UserError, match=r"min_free_blocks is -1; it must be 0 or more$"):
        proactive_swap.Config(min_free_blocks=-1)
