from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sojourn.errors import UserError
from sojourn.trace import build_trace, convert_trace, read_trace, write_trace

names = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=6)
seconds = st.floats(0, 1e6, allow_nan=False)


def column(data, values, count):
    return data.draw(st.lists(values, min_size=count, max_size=count))


@st.composite
def traces(draw, prefixes=True):
    """Any trace: lone requests and sessions, with and without each optional column."""
    data = draw(st.data())
    count = draw(st.integers(1, 8))
    prompts = np.array(column(data, st.integers(1, 200), count))
    session_names = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    session = np.array(column(data, st.integers(-1, len(session_names) - 1), count))
    arrival = np.sort(np.array(column(data, seconds, count)))
    if draw(st.booleans()):  # later turns lose their arrivals
        seen: set[int] = set()
        for row, owner in enumerate(session.tolist()):
            arrival[row] = np.nan if owner in seen and owner >= 0 else arrival[row]
            seen.add(owner)
    turn = np.array([int(np.sum(session[:row] == session[row])) for row in range(count)])
    pauses = column(data, st.none() | seconds, count)
    tenant_names = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    more = {}
    if draw(st.booleans()):
        more["slo_class"] = np.zeros(count, dtype=np.int64)
        more["slo_classes"] = ("fast",)
    if prefixes and draw(st.booleans()):
        size = draw(st.integers(1, 64))
        blocks = np.array([data.draw(st.integers(p // size, -(-p // size))) for p in prompts])
        offsets = np.concatenate([[0], np.cumsum(blocks)])
        ids = column(data, st.integers(0, 2**62), int(offsets[-1]))
        more |= {
            "prefix_offsets": offsets,
            "prefix_ids": np.array(ids, dtype=np.int64),
            "block_tokens": size,
        }
    return build_trace(
        name="t",
        prompt_tokens=prompts,
        output_tokens=np.array(column(data, st.integers(1, 2**31 - 1), count)),
        arrival_seconds=np.full(count, np.nan) if draw(st.booleans()) else arrival,
        session=session,
        sessions=session_names,
        turn=np.where(session < 0, 0, turn),
        tool_seconds=np.array([np.nan if pause is None else pause for pause in pauses]),
        tenant=np.array(column(data, st.integers(0, len(tenant_names) - 1), count)),
        tenants=tenant_names,
        **more,
    )


quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@quick
@given(trace=traces())
def test_parquet_round_trip_is_exact(tmp_path, trace):
    path = tmp_path / "t.parquet"
    assert write_trace(trace, path, overwrite=True) == ()
    back = read_trace(path)
    assert back.equals(trace)
    assert back.notices == ()


@quick
@given(trace=traces(prefixes=False))
def test_csv_round_trip_is_exact(tmp_path, trace):
    path = tmp_path / "t.csv"
    assert write_trace(trace, path, overwrite=True) == ()
    assert read_trace(path).equals(trace)


@quick
@given(ticks=st.lists(st.integers(0, 10**7), min_size=1), size=st.integers(1, 3000))
def test_mooncake_round_trip_is_exact_on_milliseconds(tmp_path, ticks, size):
    count = len(ticks)
    blocks = -(-size // 512)
    trace = build_trace(
        name="t",
        prompt_tokens=np.full(count, size),
        output_tokens=np.arange(count) + 1,
        arrival_seconds=np.sort(np.array(ticks)) / 1000,
        prefix_offsets=np.arange(count + 1) * blocks,
        prefix_ids=np.arange(count * blocks),
        block_tokens=512,
    )
    assert write_trace(trace, tmp_path / "t.jsonl", overwrite=True) == ()
    assert read_trace(tmp_path / "t.jsonl").equals(trace)


def test_what_a_format_cannot_keep_is_said(tmp_path):
    trace = build_trace(
        name="t",
        prompt_tokens=np.array([600]),
        output_tokens=np.array([3]),
        arrival_seconds=np.array([0.0004]),
        session=np.array([0]),
        sessions=("a",),
        tenants=("x",),
        prefix_offsets=np.array([0, 2]),
        prefix_ids=np.array([1, 2]),
        block_tokens=512,
    )
    assert write_trace(trace, tmp_path / "t.csv") == (
        "block ids left out: CSV has no place for them",
    )
    assert write_trace(trace, tmp_path / "t.jsonl") == (
        "arrivals rounded to whole milliseconds",
        "sessions, turns and pauses left out: Mooncake's format has no place for them",
        "tenants left out: Mooncake's format has no place for them",
    )


def test_mooncake_refuses_other_blocks_and_absent_arrivals(tmp_path):
    one = np.array([20])
    small = build_trace(
        name="t",
        prompt_tokens=one,
        output_tokens=one,
        arrival_seconds=np.zeros(1),
        prefix_offsets=np.array([0, 1]),
        prefix_ids=np.array([1]),
        block_tokens=16,
    )
    with pytest.raises(UserError, match="blocks of 512 tokens, but this trace has blocks of 16"):
        write_trace(small, tmp_path / "t.jsonl")
    with pytest.raises(UserError, match="an arrival for every request, and this trace has 1 with"):
        write_trace(
            build_trace(name="t", prompt_tokens=one, output_tokens=one), tmp_path / "t.jsonl"
        )
    assert list(tmp_path.iterdir()) == []  # a failed write leaves nothing behind


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_text("mine")
    with pytest.raises(UserError, match="it exists already; give --force to replace it"):
        write_trace(read_trace("sample", limit=5), path)
    assert path.read_text() == "mine"
    write_trace(read_trace("sample", limit=5), path, overwrite=True)
    assert len(read_trace(path)) == 5
    assert list(tmp_path.iterdir()) == [path]


def test_convert(tmp_path):
    trace, lost = convert_trace("sample", tmp_path / "s.csv", limit=7)
    assert (len(trace), lost) == (7, ())
    assert read_trace(tmp_path / "s.csv").equals(trace)
    with pytest.raises(UserError, match="the ending says no format to write; use"):
        convert_trace("sample", tmp_path / "s.xls")
    with pytest.raises(UserError, match="there is no folder"):
        convert_trace("sample", tmp_path / "none" / "s.csv")
