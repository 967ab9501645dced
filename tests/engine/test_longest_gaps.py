"""The longest pause after a tick, against looking at all of them."""

from hypothesis import given
from hypothesis import strategies as st

from sojourn.sim.gaps import LongestGaps


@given(
    pushes=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), max_size=40),
    asked=st.integers(0, 100),
)
def test_the_longest_gap_after_a_tick_is_the_maximum_of_all_later_ones(pushes, asked):
    gaps, seen, tick = LongestGaps(), [], 0
    for ahead, gap in pushes:
        tick += ahead
        gaps.push(tick, gap)
        seen.append((tick, gap))
        for after in (asked, tick - 1, tick, 0):
            expected = max((gap for at, gap in seen if at > after), default=0)
            assert gaps.longest_after(after) == expected


def test_only_gaps_that_may_still_be_the_longest_are_kept():
    gaps = LongestGaps()
    for tick in range(1000):
        gaps.push(tick, 5)
    assert len(gaps.gaps) == 1
