"""Timelines of fleets: lives, transfers and arrows between a request's tracks."""

import json
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fleet_records import large, real
from report_records import STATES

from sojourn.decide.clock import SECOND
from sojourn.report import timeline
from sojourn.steplog.record import TransitionColumns


@pytest.fixture(scope="module", params=["migrating", "split"])
def written(request, tmp_path_factory):
    made = real(request.param)
    path = tmp_path_factory.mktemp("timeline") / "t.json"
    window = timeline(made, path)
    return made, window, json.loads(path.read_text())["traceEvents"]


def spans_of(events):
    tracks = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            begin = round(event["ts"] * 1_000)
            end = begin + round(event["dur"] * 1_000)
            tracks[event["pid"], event["tid"]].append((begin, end, event["name"]))
    return tracks


def test_slices_of_a_track_never_overlap(written):
    for spans in spans_of(written[2]).values():
        spans.sort()
        assert all(one[1] <= two[0] for one, two in pairwise(spans))


def test_each_replica_is_a_process_with_its_life(written):
    made, window, events = written
    assert window.whole
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    units = made.fleet.units
    for unit in units:
        assert names[unit.index + 1].startswith(f"replica {unit.index} (")
        assert "h100-sxm" in names[unit.index + 1]
        stays = {name: end - begin for begin, end, name in spans_of(events)[unit.index + 1, 2]}
        alive = stays.get("up", 0) + stays.get("draining", 0)
        # The run's last moment is a request's; a replica may end after it.
        assert alive <= (unit.ended - unit.up) // 1_000 + 1
    assert names[len(units) + 1] == "fleet"
    told = [e["name"] for e in events if e["ph"] == "i"]
    assert {"crash", "spot notice"} <= set(told)
    assert any("starting" in (s[2] for s in spans) for spans in spans_of(events).values())


def test_every_move_is_a_transfer_and_each_completed_one_an_arrow(written):
    made, _, events = written
    moves = made.fleet.moves
    begun = {e["id"]: e for e in events if e["ph"] == "b"}
    ended = {e["id"]: e for e in events if e["ph"] == "e"}
    lasting = {n for n, one in enumerate(moves) if one.ended > one.began}
    assert set(begun) == set(ended) >= lasting
    for number, event in begun.items():
        assert event["pid"] == moves[number].target + 1
        assert event["args"]["bytes"] == moves[number].bytes
        assert event["ts"] <= ended[number]["ts"]
    done = {n for n in lasting if moves[n].outcome == "done" and moves[n].down >= 0}
    assert done
    starts = {e["id"]: e for e in events if e["ph"] == "s"}
    ends = {e["id"]: e for e in events if e["ph"] == "f"}
    assert set(starts) == set(ends) == done
    spans = spans_of(events)
    for number in done:
        for event, replica in (
            (starts[number], moves[number].source),
            (ends[number], moves[number].target),
        ):
            assert event["pid"] == replica + 1
            at = round(event["ts"] * 1_000)
            stays = spans[event["pid"], event["tid"]]
            assert any(begin <= at <= end for begin, end, _ in stays), "an arrow from nowhere"


def test_replicas_up_and_price_are_counted(written):
    made, _, events = written
    for name in ("replicas up", "dollars per hour"):
        values = [e["args"][name] for e in events if e["ph"] == "C" and e["name"] == name]
        assert max(values) >= 3
    counts = [e["args"]["replicas up"] for e in events if e["name"] == "replicas up"]
    starts = sum(unit.up == 0 for unit in made.fleet.units)
    assert counts[0] == starts
    assert min(counts[:-1]) < starts, "some were lost"


@pytest.mark.parametrize("max_bytes", [60_000, 100_000])
def test_size_holds(tmp_path, max_bytes):
    path = tmp_path / "t.json"
    window = timeline(real("split", count=200), path, max_bytes=max_bytes)
    assert not window.whole
    assert path.stat().st_size == window.bytes <= max_bytes
    for event in json.loads(path.read_text())["traceEvents"]:
        if "ts" in event:
            assert window.begin - 1_000 <= event["ts"] * 1e6 <= window.end + 1_000


def test_same_bytes_twice(tmp_path):
    for name in ("a", "b"):
        timeline(real("migrating"), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_very_large_fleet_fits(tmp_path):
    one = np.zeros(1, dtype=np.int64)
    made = replace(large(), states=STATES, transitions=TransitionColumns(one, one, one + 2, one))
    made.requests.finish[:] = 9 * SECOND
    window = timeline(made, tmp_path / "t.json", max_bytes=8_000_000)
    assert 1_000_000 < window.bytes <= 8_000_000
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert sum(event["name"] == "process_name" for event in events) >= 2_000
