"""Timelines of fleets: lives, transfers and arrows between a request's tracks."""

import json
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fleet_records import large, real
from report_records import STATES

from sojourn.cli.outputs import timeline_line
from sojourn.decide.clock import SECOND
from sojourn.report import Window, timeline
from sojourn.report.fleet_picture import cut_spans
from sojourn.steplog.fleet import FleetEvent
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


def test_a_cut_link_is_a_slice_of_the_fleet(written):
    made, _, events = written
    spells = cut_spans(made.fleet.events)
    process = len(made.fleet.units) + 1
    tracks = {e["tid"]: e["args"]["name"] for e in events if is_link(e, process)}
    found = [
        (tracks[tid], spans) for (pid, tid), spans in spans_of(events).items() if pid == process
    ]
    expected = [
        (f"link of {name}", [(begin // 1_000, end // 1_000, "cut")]) for name, begin, end in spells
    ]
    assert found == expected
    assert len(found) == (made.recipe == "split")


def is_link(event, process):
    return event["name"] == "thread_name" and event["pid"] == process


def test_cuts_are_clipped_to_the_window_and_fit(tmp_path):
    made = real("split", count=200)
    name = "\u00e9" * 90
    for number in range(300):
        made.fleet.events.append(FleetEvent(0, -1, f"{name}{number} parted"))
    made.fleet.units = [replace(one, kind=name) for one in made.fleet.units]
    path = tmp_path / "t.json"
    window = timeline(made, path, max_bytes=200_000)
    assert not window.whole
    cuts = [e for e in json.loads(path.read_text())["traceEvents"] if e["name"] == "cut"]
    assert len(cuts) >= 300
    assert {round(e["ts"] * 1e6) for e in cuts[-300:]} == {window.begin // 1_000 * 1_000}


def test_the_line_of_a_timeline_says_what_it_leaves_out(tmp_path):
    path = Path("t.json")
    whole = Window(0, SECOND, 7, (1, 7), 0, True, 10)
    assert timeline_line(path, whole) == "timeline: t.json (open it in ui.perfetto.dev)"
    many = replace(whole, requests=tuple(range(1_000)), left_out=1_867)
    assert timeline_line(path, many, "vllm") == (
        "timeline: t.json (vllm; tracks of 1,000 of the 2,867 requests in it, around request 7; "
        "open it in ui.perfetto.dev)"
    )
    part = replace(whole, whole=False, begin=SECOND // 4)
    assert "(0.25 s to 1 s of the run, as much as fits; open" in timeline_line(path, part)


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
