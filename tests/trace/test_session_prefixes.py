from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.errors import UserError
from sojourn.trace import build_trace, hit_blocks, read_trace, with_session_prefixes, write_trace


def trace_of(prompts, sessions):
    names = sorted({one for one in sessions if one is not None})
    index = [-1 if one is None else names.index(one) for one in sessions]
    return build_trace(
        name="t",
        prompt_tokens=np.array(prompts),
        output_tokens=np.ones(len(prompts), dtype=np.int64),
        arrival_seconds=np.arange(len(prompts), dtype=np.float64),
        session=np.array(index),
        sessions=names,
    )


def lists(trace):
    return [trace.prefix(row).tolist() for row in range(len(trace))]


def test_a_turn_shares_the_whole_blocks_of_the_turn_before(tmp_path):
    # Blocks of 16: 40 tokens are two whole ones, 70 are four. Others share nothing.
    trace = with_session_prefixes(trace_of([40, 40, 70, 40, 75], ["a", "b", "a", None, "b"]))
    assert lists(trace) == [[0, 1], [2, 3], [0, 1, 6, 7], [8, 9], [2, 3, 12, 13]]
    assert hit_blocks(trace).tolist() == [0, 0, 2, 0, 2]
    assert (trace.block_tokens, trace.notices) == (16, ())
    write_trace(trace, tmp_path / "t.parquet")
    assert read_trace(tmp_path / "t.parquet").equals(trace)


def test_what_a_shorter_prompt_left_out_does_not_come_back():
    trace = with_session_prefixes(trace_of([64, 32, 64], ["a", "a", "a"]), 16)
    assert lists(trace) == [[0, 1, 2, 3], [0, 1], [0, 1, 8, 9]]
    assert trace.notices == (
        "1 turn has a shorter prompt than the turn before, taken for its beginning",
    )


@given(st.lists(st.tuples(st.integers(1, 90), st.sampled_from(["a", "b", None])), min_size=2))
def test_hits_are_the_blocks_that_both_turns_fill(rows):
    prompts, sessions = zip(*rows, strict=True)
    if set(sessions) == {None}:
        sessions = ("a", *sessions[1:])
    trace = with_session_prefixes(trace_of(prompts, sessions), 8)
    latest: dict[str, int] = {}
    hits = hit_blocks(trace).tolist()
    for row, (prompt, session) in enumerate(zip(prompts, sessions, strict=True)):
        before = latest.get(session, 0) if session else 0
        assert hits[row] == min(prompt // 8, before)
        if session:
            latest[session] = prompt // 8


def test_what_has_no_sessions_or_has_ids_is_refused():
    lone = trace_of([40], [None])
    with pytest.raises(UserError, match="t: it has no sessions to derive prefixes from; a column"):
        with_session_prefixes(lone)
    trace = with_session_prefixes(trace_of([40], ["a"]), 8)
    with pytest.raises(UserError, match="t: it has ids of 8-token blocks already"):
        with_session_prefixes(trace)
    for size in (0, -1, 2**21):
        with pytest.raises(UserError, match=f"a block of {size} tokens cannot be; it must"):
            with_session_prefixes(trace_of([40], ["a"]), size)
    with pytest.raises(UserError, match="its prompts have 600000000 blocks of 1 tokens, more than"):
        with_session_prefixes(trace_of([600_000_000], ["a"]), 1)
