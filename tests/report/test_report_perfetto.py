import json
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from report_records import STATES, queue, record

from sojourn.errors import UserError
from sojourn.report import timeline
from sojourn.report.perfetto import p99_request
from sojourn.report.slices import request_slices
from sojourn.steplog.record import TransitionColumns


def read(path):
    events = json.loads(path.read_text())["traceEvents"]
    kinds = defaultdict(list)
    for event in events:
        kinds[event["ph"]].append(event)
    return kinds


def assert_nested(slices):
    tracks = defaultdict(list)
    for event in slices:
        begin = round(event["ts"] * 1_000)
        tracks[event["pid"], event["tid"]].append((begin, begin + round(event["dur"] * 1_000)))
    for spans in tracks.values():
        spans.sort()
        assert all(begin <= end for begin, end in spans)
        assert all(one[1] <= two[0] for one, two in pairwise(spans))


def test_whole_run(tmp_path):
    made = queue(n=60, traced=True, replicas=2)
    path = tmp_path / "t.json"
    window = timeline(made, path)
    assert window.whole
    assert window.bytes == path.stat().st_size
    assert window.requests == tuple(range(60))
    kinds = read(path)
    assert_nested(kinds["X"])
    names = {event["name"] for event in kinds["X"]}
    assert names <= {"prefill", "decode", "mixed", *STATES}
    assert {"prefill", "decode", "waiting", "paused"} <= names
    assert {event["name"] for event in kinds["C"]} == {"waiting", "running", "KV use"}
    processes = [e["args"]["name"] for e in kinds["M"] if e["name"] == "process_name"]
    assert processes == ["replica 0", "replica 1"]
    tracks = [e["args"]["name"] for e in kinds["M"] if e["name"] == "thread_name"]
    assert f"request {p99_request(made)} (centre)" in tracks
    one = next(e for e in kinds["X"] if e["tid"] == 10)
    assert one["args"]["prompt_tokens"] == int(made.requests.prompt_tokens[0])
    assert one["args"]["output_tokens"] == int(made.requests.output_tokens[0])
    # Every stay of request 0 is there: from arrival to finish without a hole.
    mine = [e for e in kinds["X"] if e["tid"] == 10]
    total = sum(event["dur"] for event in mine)
    life = (made.requests.finish[0] - made.requests.arrival[0]) / 1e6
    assert total == pytest.approx(life, abs=0.01)


def test_slices_by_hand():
    rows = [{"replica": 1}, {"replica": -1}, {"replica": 0}]
    made = record(rows, states=STATES)
    changes = [(0, 0, 0, -1), (1, 1, 0, -1), (2, 2, 9, 0), (3, 0, 1, 1), (3, 0, 2, 1), (7, 0, 8, 1)]
    made.transitions = TransitionColumns(*np.array(changes, dtype=np.int64).T)
    slices = request_slices(made, 9)
    # Request 0 waits, decodes (its prefill took no time) and ends; request 1 waits to the end;
    # request 2 is rejected at once.
    assert slices.request.tolist() == [0, 0, 1]
    assert [STATES[state] for state in slices.state] == ["waiting", "decode", "waiting"]
    assert slices.begin.tolist() == [0, 3, 1]
    assert slices.end.tolist() == [3, 7, 9]
    assert slices.process.tolist() == [2, 2, 0]
    assert slices.queued.tolist() == [True, False, True]


def test_center_is_the_p99_of_finished_requests():
    made = queue(n=1_000)
    e2e = made.requests.finish - made.requests.arrival
    at = e2e[p99_request(made)]
    assert at >= np.quantile(e2e, 0.99)
    assert (e2e < at).mean() == pytest.approx(0.99, abs=0.002)


@pytest.mark.parametrize("max_bytes", [60_000, 400_000, 2_000_000])
def test_size_holds_and_the_window_is_as_wide_as_that_allows(tmp_path, max_bytes):
    made = queue(n=12_000, rate=6.6, traced=True)
    path = tmp_path / "t.json"
    window = timeline(made, path, center=6_000, max_bytes=max_bytes)
    assert not window.whole
    assert 0.4 * max_bytes < path.stat().st_size <= max_bytes
    assert 6_000 in window.requests
    assert window.left_out > 0
    kinds = read(path)
    assert_nested(kinds["X"])
    for event in kinds["X"]:
        assert event["ts"] * 1e6 >= window.begin - 1e3
        assert (event["ts"] + event["dur"]) * 1e6 <= window.end + 1e3


def test_same_bytes_twice(tmp_path):
    made = queue(n=200, traced=True)
    timeline(made, tmp_path / "a.json")
    timeline(made, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_refusals(tmp_path):
    path = tmp_path / "t.json"
    with pytest.raises(UserError, match="tracing on"):
        timeline(queue(n=10), path)
    traced = queue(n=10, traced=True)
    with pytest.raises(UserError, match="allowed are 0 to 9"):
        timeline(traced, path, center=10)
    with pytest.raises(UserError, match="allow at least"):
        timeline(traced, path, max_bytes=100)
    with pytest.raises(UserError, match="cannot write"):
        timeline(traced, tmp_path / "absent" / "t.json")
    empty = record(states=STATES)
    empty.transitions = traced.transitions
    with pytest.raises(UserError, match="no requests"):
        timeline(empty, path)
    assert not list(tmp_path.iterdir())
