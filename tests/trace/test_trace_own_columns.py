"""Tables that users make themselves: other names of columns, other separators, clear refusals."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sojourn.errors import UserError
from sojourn.trace import describe_trace, read_trace
from sojourn.trace.spellings import OPTIONAL, REQUIRED, meaning, readable

LENGTHS = "prompt_tokens,output_tokens"


def csv(tmp_path, text, name="mine.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "values", "arrivals", "unit"),
    [
        ("arrival_ms", ("0", "1500"), [0, 1.5], "milliseconds"),
        ("arrivalTimeMs", ("250", "1500"), [0.25, 1.5], "milliseconds"),
        ("timestamp_us", ("0", "1500000"), [0, 1.5], "microseconds"),
        ("start_time_ns", ("0", "1500000000"), [0, 1.5], "nanoseconds"),
        ("time_s", ("0.25", "1.5"), [0.25, 1.5], "seconds"),
        ("Arrival S", ("0.25", "1.5"), [0.25, 1.5], "seconds"),
        ("timestamp", ("2026-03-01 09:00:00", "2026-03-01 09:00:01.5"), [0, 1.5], "dates and"),
        ("time", ("2026-03-01T09:00:00Z", "2026-03-01T09:00:01.5Z"), [0, 1.5], "dates and"),
        (
            "created_at",
            ("2026-03-01T10:00:00+01:00", "2026-03-01T09:00:01.5+00:00"),
            [0, 1.5],
            "dates and",
        ),
    ],
)
def test_an_arrival_with_its_unit_is_read_under_another_name(
    tmp_path, name, values, arrivals, unit
):
    rows = "".join(f"{value},5,1\n" for value in values)
    trace = read_trace(csv(tmp_path, f"{name},{LENGTHS}\n{rows}"))
    assert trace.arrival_seconds.tolist() == arrivals
    (notice,) = trace.notices
    assert notice.startswith(f"column {name} read as arrival_s, in {unit}")
    lines = "".join(
        json.dumps(
            {
                name: value if unit == "dates and" else float(value),
                "prompt_tokens": 5,
                "output_tokens": 1,
            }
        )
        + "\n"
        for value in values
    )
    assert read_trace(csv(tmp_path, lines, "mine.jsonl")).equals(trace)


@pytest.mark.parametrize("name", ["session", "SessionID", "conversation_id", "thread_id", "chatId"])
def test_a_session_is_read_under_its_common_names(tmp_path, name):
    trace = read_trace(csv(tmp_path, f"arrival_s,{LENGTHS},{name}\n0,5,1,a\n1,9,1,a\n2,9,1,b\n"))
    assert trace.sessions == ("a", "b")
    assert trace.turn.tolist() == [0, 1, 0]
    assert trace.notices == (f"column {name} read as session_id",)


def test_a_pause_with_its_unit_and_names_in_other_case_are_read(tmp_path):
    header = "Arrival_S,promptTokens,Output Tokens,session_id,tool_ms,SLO class"
    trace = read_trace(csv(tmp_path, f"{header}\n0,5,1,a,,fast\n,9,1,a,2500,fast\n"))
    assert str(trace.tool_seconds.tolist()) == "[nan, 2.5]"
    assert trace.slo_classes == ("fast",)
    assert "column tool_ms read as tool_s, in milliseconds" in trace.notices
    assert "column promptTokens read as prompt_tokens" in trace.notices
    with pytest.raises(UserError, match="line 3: tool_ms is 'x'; it must be a number of millise"):
        read_trace(csv(tmp_path, f"{header}\n0,5,1,a,,fast\n,9,1,a,x,fast\n"))


def test_seconds_since_1970_count_from_the_earliest(tmp_path):
    for name, values in (
        ("timestamp_s", (1_772_355_600.25, 1_772_355_601.5)),
        ("timestamp_ms", (1_772_355_600_250, 1_772_355_601_500)),
    ):
        rows = "".join(f"{value},5,1\n" for value in values)
        trace = read_trace(csv(tmp_path, f"{name},{LENGTHS}\n{rows}"))
        assert trace.arrival_seconds.tolist() == [0, 1.25], name
        assert f"{name} counts from 1970: arrivals count from the earliest one" in trace.notices
    kept = read_trace(csv(tmp_path, f"arrival_s,{LENGTHS}\n1772355600.25,5,1\n"))
    assert kept.arrival_seconds.tolist() == [1_772_355_600.25]


def test_arrow_timestamps_are_read_from_parquet(tmp_path):
    first = datetime(2026, 3, 1, 9)
    for name in ("timestamp", "arrival_s"):
        times = pa.array([first, first + timedelta(seconds=1.5)], pa.timestamp("us", "UTC"))
        columns = {name: times, "prompt_tokens": [5, 6], "output_tokens": [1, 1]}
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        assert read_trace(tmp_path / "t.parquet").arrival_seconds.tolist() == [0, 1.5]


def test_semicolons_and_tabs_separate_too(tmp_path):
    text = f"arrival_s,{LENGTHS},tenant\n0,5,1,a\n1,6,1,b\n"
    wanted = read_trace(csv(tmp_path, text))
    for delimiter, name in ((";", "x.csv"), ("\t", "x.csv"), ("\t", "x.tsv")):
        assert read_trace(csv(tmp_path, text.replace(",", delimiter), name)).equals(wanted)
    with pytest.raises(UserError, match="line 2: arrival_s is '0,5'; it must be a number"):
        read_trace(csv(tmp_path, "arrival_s;prompt_tokens;output_tokens\n0,5;5;1\n"))
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(text.replace(",", ";").encode()))
    assert read_trace(path).equals(wanted)


REFUSED = [
    (
        f"timestamp,{LENGTHS}\n0,5,1\n",
        "column 'timestamp' holds arrivals as numbers without a unit; call it arrival_s (seconds),"
        " arrival_ms, arrival_us or arrival_ns",
    ),
    (f"time,{LENGTHS}\n\n,5,1\n3.5,5,1\n", "column 'time' holds arrivals as numbers without a"),
    (f"time,{LENGTHS}\n9:00:01,5,1\n", "line 2: time is '9:00:01'; it must be a date and time"),
    (
        f"timestamp,{LENGTHS}\n2026-03-01 09:00:00Z,5,1\n\nlater,5,1\n",
        "line 4: timestamp is 'later'; it must be a date and time like 2023-11-16 18:17:03.97",
    ),
    (
        f"timestamp,{LENGTHS},arrival_ms\n2026-03-01,5,1,0\n",
        "columns 'timestamp' and 'arrival_ms' may each be arrival_s; rename or take out all but",
    ),
    (f"arival_s,{LENGTHS}\n0,5,1\n", "no column arrival_s, and 'arival_s' is not read; rename it"),
    (f"ingest_timestamp,{LENGTHS}\n0,5,1\n", "no column arrival_s, and 'ingest_timestamp' is not"),
    (
        "timestamp,input_tokens,completion_tokens\n0,5,1\n",
        "missing columns prompt_tokens, output_tokens; found: timestamp, input_tokens,"
        " completion_tokens (is 'timestamp' meant to be 'arrival_s', 'input_tokens' meant to be"
        " 'prompt_tokens', 'completion_tokens' meant to be 'output_tokens'?)",
    ),
    (
        "arrival_s,prompt_tokens,num_decode_tokens\n0,5,1\n",
        "missing column output_tokens; found: arrival_s, prompt_tokens, num_decode_tokens (is"
        " 'num_decode_tokens' meant to be 'output_tokens'?)",
    ),
    ("arrival_s,prompt_tokens\n0,5\n", "missing column output_tokens; found: arrival_s, prompt_to"),
    ("0.0,1200,80\n1.0,5,1\n", "line 1 names no columns; it must, like arrival_s,prompt_tokens,"),
    (f"arrival_s,{LENGTHS}\n0,5,1\n\n\n1,5\n", "line 5: 2 fields, but the header names 3"),
    (f"arrival_s,{LENGTHS}\n0,5,1\n\n1,-5,1\n", "line 4: prompt_tokens is -5; it must be a whole"),
    (
        f"arrival_ms,{LENGTHS}\n0,5,1\n-9,5,1\n",
        "line 3: arrival_ms is -0.009; it must be 0",
    ),
    (
        f"arrival_s,{LENGTHS}\n1772355600250,5,1\n",
        "arrival_s is 1.77236e+12; it must be 0 or more seconds, at most 1e+11 (milliseconds go"
        " into a column arrival_ms)",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED, ids=[row[1][:50] for row in REFUSED])
def test_what_cannot_be_read_as_meant_is_refused(tmp_path, text, sentence):
    path = csv(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_trace(path)
    said = str(error.value)
    assert said.startswith(f"{path}: ")
    assert sentence in said
    assert "\n" not in said


def test_a_column_of_ours_is_never_taken_for_another(tmp_path):
    with pytest.raises(UserError) as error:
        read_trace(csv(tmp_path, "arrival_s,prompt_tokens\n0,5\n"))
    assert "meant to be" not in str(error.value)
    for name in (*REQUIRED, *OPTIONAL):
        assert readable(name)[0] == meaning(name)[0] == name


def test_a_trace_without_arrivals_says_so_and_near_names_are_named(tmp_path):
    text = f"{LENGTHS},tennant,user_agent,end_timestamp\n5,1,a,b,3\n"
    trace = read_trace(csv(tmp_path, text))
    assert not trace.has_arrivals
    assert trace.notices == (
        "no column arrival_s: the trace does not say when requests arrived",
        "columns not read: tennant (meant to be tenant?), user_agent, end_timestamp",
    )
    exact = read_trace(csv(tmp_path, f"arrival_s,timestamp,{LENGTHS}\n7,1,5,1\n"))
    assert exact.arrival_seconds.tolist() == [7]
    assert exact.notices == ("columns not read: timestamp",)


def test_json_lines_keep_what_a_table_keeps(tmp_path):
    row = {"arrival_s": 0, "prompt_tokens": 40, "output_tokens": 2, "session_id": 7, "turn": 0}
    more = {"tool_s": 1.5, "tenant": "a", "slo_class": "fast", "extra": 1}
    later = {"prompt_tokens": 60, "output_tokens": 2, "session_id": 7, "turn": 1, **more}
    first = {**row, **more, "tool_s": None}
    text = "".join(json.dumps(one) + "\n" for one in (first, later))
    trace = read_trace(csv(tmp_path, text, "mine.jsonl"))
    assert (trace.sessions, trace.turn.tolist(), trace.tenants) == (("7",), [0, 1], ("a",))
    assert np.isnan(trace.arrival_seconds[1])
    assert trace.tool_seconds[1] == 1.5
    assert trace.notices == ("columns not read: extra",)
    assert describe_trace(trace)["later_turns_without_arrival"] == 1
    for line, sentence in (
        ({**row, "session_id": "x"}, 'line 2: session_id is "x"; it must be a number'),
        ({"arrival_s": 1, "turn": 2}, "line 2: missing fields prompt_tokens, output_tokens; found"),
    ):
        text = json.dumps(row) + "\n" + json.dumps(line) + "\n"
        with pytest.raises(UserError) as error:
            read_trace(csv(tmp_path, text, "mine.jsonl"))
        assert sentence in str(error.value)
    text = json.dumps({**row, "prefix_block_hashes": [1, 2]}) + "\n"
    with pytest.raises(UserError, match="field prefix_block_hashes is not read from JSON lines"):
        read_trace(csv(tmp_path, text, "mine.jsonl"))
