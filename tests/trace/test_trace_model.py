from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import UserError
from sojourn.trace import Trace, build_trace, hit_blocks

NAN = float("nan")


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def lone(arrivals: np.ndarray, **more: object) -> Trace:
    count = len(arrivals)
    tokens = np.arange(1, count + 1)
    return build_trace(
        name="t", prompt_tokens=tokens, output_tokens=tokens, arrival_seconds=arrivals, **more
    )


def test_sorts_by_arrival_then_row_and_counts_what_was_late():
    trace = lone(floats(0, 5, 1, 5, 2))
    assert trace.arrival_seconds.tolist() == [0, 1, 2, 5, 5]
    assert trace.prompt_tokens.tolist() == [1, 3, 5, 2, 4]
    assert trace.notices == ("2 arrivals were out of order: sorted",)
    assert lone(floats(0, 1, 1)).notices == ()


def test_a_later_turn_without_arrival_stands_behind_its_session():
    trace = lone(
        floats(0, 7, NAN, 3, NAN),
        session=ints(0, -1, 0, 1, 1),
        sessions=("a", "b"),
        turn=ints(0, 0, 1, 0, 1),
    )
    assert trace.prompt_tokens.tolist() == [1, 3, 4, 5, 2]
    assert [trace.sessions[k] if k >= 0 else None for k in trace.session] == [
        *("a", "a", "b", "b", None)
    ]


def test_turns_that_arrive_together_come_in_turn_order():
    trace = lone(floats(0, 1, 1), session=ints(0, 0, 0), sessions=("a",), turn=ints(0, 2, 1))
    assert trace.turn.tolist() == [0, 1, 2]
    assert trace.prompt_tokens.tolist() == [1, 3, 2]
    assert trace.notices == ("turns of some sessions were out of order: sorted",)


def test_absent_turns_are_counted_by_arrival():
    trace = lone(floats(4, 0, 2, 9), session=ints(0, 0, 0, -1), sessions=("a",))
    assert trace.turn.tolist() == [0, 1, 2, 0]
    assert trace.arrival_seconds.tolist() == [0, 2, 4, 9]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt_tokens": ints(1, 0)}, "t: row 2: prompt_tokens is 0; it must be a whole number"),
        ({"output_tokens": ints(-4, 1)}, "t: row 1: output_tokens is -4; it must be a whole"),
        ({"output_tokens": ints(1, 2**31)}, "row 2: output_tokens is 2147483648"),
        ({"arrival_seconds": floats(0, -1)}, "row 2: arrival_s is -1; it must be 0 or more"),
        ({"arrival_seconds": floats(0, np.inf)}, "row 2: arrival_s is inf"),
        ({"arrival_seconds": floats(0, NAN)}, "row 2: arrival_s is empty, though other rows"),
        ({"tool_seconds": floats(-0.5, 0)}, "row 1: tool_s is -0.5"),
        ({"turn": ints(0, 1)}, "row 2: turn is 1, but the row has no session_id"),
        ({"turn": ints(0, -1), **{"session": ints(0, 0)}}, "row 2: turn is -1, but it must be 0"),
        ({"turn": ints(3, 3), "session": ints(0, 0)}, "row 2: session 'a' has turn 3 a second"),
        (
            {"turn": ints(1, 0), "session": ints(0, 0), "arrival_seconds": floats(0, 1)},
            "row 1: turn 1 of session 'a' arrives at 0 s, before the turn it follows (1 s)",
        ),
        (
            {"prefix_offsets": ints(0, 0, 0), "prompt_tokens": ints(3, 40)},
            "row 2: 0 block ids for 40 prompt tokens; 16-token blocks need 2 or 3",
        ),
        (
            {"prefix_offsets": ints(0, 2, 2), "prefix_ids": ints(4, 5)},
            "row 1: 2 block ids for 1 prompt tokens; 16-token blocks need 0 or 1",
        ),
        (
            {"prefix_offsets": ints(0, 1, 1), "prefix_ids": ints(-7)},
            "row 1: block id -7 is negative",
        ),
        ({"prefix_offsets": ints(0, 0, 0), "block_tokens": 0}, "block ids but no block size"),
    ],
)
def test_a_row_that_breaks_a_rule_is_named(change, sentence):
    columns = {
        "prompt_tokens": ints(1, 2),
        "output_tokens": ints(1, 2),
        "arrival_seconds": floats(0, 1),
        "sessions": ("a",),
        "block_tokens": 16,
    }
    if "prefix_offsets" in change:
        columns["prefix_ids"] = ints()
    with pytest.raises(UserError) as error:
        build_trace(name="t", **{**columns, **change})
    assert sentence in str(error.value)
    assert str(error.value).count("\n") == 0


def test_no_requests_is_refused():
    with pytest.raises(UserError, match="t: no requests in it"):
        lone(floats())


def test_names_are_numbered_by_first_appearance_and_unused_ones_dropped():
    trace = lone(floats(2, 1, 0), tenant=ints(0, 2, 2), tenants=("x", "y", "z"))
    assert trace.tenants == ("z", "x")
    assert trace.tenant.tolist() == [0, 0, 1]
    assert trace.take([0, 1]).tenants == ("z",)


def test_columns_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        lone(floats(0, 1)).prompt_tokens[0] = 5


@given(st.data())
def test_take_keeps_rows_and_their_prefixes(data):
    count = data.draw(st.integers(1, 12))
    prompts = np.array(data.draw(st.lists(st.integers(1, 70), min_size=count, max_size=count)))
    blocks = prompts // 16
    offsets = np.concatenate([[0], np.cumsum(blocks)])
    trace = build_trace(
        name="t",
        prompt_tokens=prompts,
        output_tokens=np.arange(count) + 1,
        arrival_seconds=np.arange(count, dtype=float),
        prefix_offsets=offsets,
        prefix_ids=np.arange(offsets[-1]) * 3,
        block_tokens=16,
    )
    rows = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1)))
    part = trace.take(list(reversed(rows)))
    assert part.prompt_tokens.tolist() == prompts[rows].tolist()
    assert [part.prefix(k).tolist() for k in range(len(rows))] == [
        trace.prefix(row).tolist() for row in rows
    ]
    mask = np.zeros(count, dtype=bool)
    mask[rows] = True
    assert trace.take(mask).equals(part)
    assert trace.head(len(rows)).equals(trace.take(range(len(rows))))


def test_hits_are_leading_blocks_of_earlier_rows_only():
    trace = build_trace(
        name="t",
        prompt_tokens=ints(48, 48, 40, 48, 16),
        output_tokens=ints(1, 1, 1, 1, 1),
        arrival_seconds=floats(0, 1, 2, 3, 4),
        prefix_offsets=ints(0, 3, 6, 8, 11, 12),
        # Row 2 leaves row 0's path after one block; row 3 meets a known block behind a new one.
        prefix_ids=ints(1, 2, 3, 1, 2, 3, 1, 9, 8, 2, 3, 8),
        block_tokens=16,
    )
    assert hit_blocks(trace).tolist() == [0, 3, 1, 0, 1]


def test_equals_sees_every_column():
    base = lone(floats(0, 1), session=ints(0, -1), sessions=("a",), tool_seconds=floats(NAN, 2))
    same = lone(floats(0, 1), session=ints(0, -1), sessions=("a",), tool_seconds=floats(NAN, 2))
    assert base.equals(same)
    assert not base.equals(lone(floats(0, 1), session=ints(0, -1), sessions=("b",)))
    assert not base.equals(lone(floats(0, 1), session=ints(0, -1), sessions=("a",)))
    assert not base.equals(lone(floats(0, 2)))
