"""The numbers of fleets by hand, and where they are shown."""

import json
import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from fleet_records import by_hand, large, real
from report_records import queue

from sojourn.decide.clock import SECOND
from sojourn.report import compare_document, judge, measure, render_html, summarise, units
from sojourn.report.fleet_picture import BINS, LANES_MAX, LINKS_MAX, MOVES_MAX, cut_spans
from sojourn.report.html import PAGE_BYTES_MAX
from sojourn.report.json_report import to_text as json_text
from sojourn.report.table import to_text
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.steplog.fleet import REPLICA_LOST, FleetEvent
from tests.fleet.fleet_runs import design, group
from tests.sim.sim_workloads import WHOLE, make

NASTY = "<script>alert(1)</script>"


def page_of(runs):
    facts = {"trace": "t", "model": "m", "gpu": "g", "seed": 1, "limits": {}, "capacity_rps": None}
    verdict = judge(runs)
    return render_html(compare_document(runs, verdict, **facts), runs, verdict)


def data_of(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found.group(1))


def test_numbers_by_hand():
    fleet = measure(by_hand()).fleet
    assert (fleet.design, fleet.replicas) == ("by hand", 3)
    assert fleet.gpu_hours == pytest.approx((10 + 5 + 2 * 8) / 3600)
    assert fleet.dollars == pytest.approx(0.035)
    assert fleet.dollars_per_million_output_tokens == pytest.approx(0.035 / 100 * 1e6)
    assert fleet.dollars_per_met_request == pytest.approx(0.035), "one request met its SLOs"
    assert fleet.moves == {
        "migration": {"done": 2, "no room at the target": 1},
        "handover": {"done": 1},
    }
    assert (fleet.done("migration"), fleet.given_up("migration")) == (2, 1)
    down = fleet.migration_downtime_seconds
    assert (down.mean, down.p50) == pytest.approx((0.03, 0.03))
    assert down.p99 == pytest.approx(0.02 + 0.99 * 0.02)
    assert fleet.handover_seconds.mean == pytest.approx(0.5)
    assert fleet.transfer_bytes == {"migration": 4050, "handover": 1000}
    assert (fleet.lost_requests, fleet.resumed, fleet.lost_tokens) == (3, 2, 7)
    assert fleet.failed == {REPLICA_LOST: 1}
    assert fleet.events == {"crash": 1, "role decode": 1}
    assert fleet.routing_microseconds_mean == pytest.approx(5.0)


def test_what_a_request_in_time_costs_does_not_depend_on_how_long_the_last_ones_take():
    """Two replicas at a dollar a second: 5 s until the last arrival, whatever comes after."""
    for output in (10, 400):
        fleet = design(group(count=2, step_time=WHOLE, dollars_per_hour=3600.0))
        rows = [(i * 0.5, 10, 10, 0) for i in range(10)] + [(5.0, 10, output, 0)]
        row = measure(FleetSimulation(make(rows), fleet).run())
        assert row.fleet.dollars > 10
        assert row.fleet.dollars_per_met_request == pytest.approx(10 / 11)


def test_imbalance_by_hand():
    """Busy 0.6 of 10 s and 0.2 of 5 s in group a, whose mean is 0.4667; b is alone, at 0.5."""
    mean = (0.6 * 10 + 0.2 * 5) / 15
    variance = (10 * (0.6 - mean) ** 2 + 5 * (0.2 - mean) ** 2) / 21
    overall = (6 + 1 + 3) / 21
    assert measure(by_hand()).fleet.imbalance == pytest.approx(variance**0.5 / overall)
    even = by_hand()
    even.steps.duration[1] = even.steps.duration[0] // 2
    assert measure(even).fleet.imbalance == pytest.approx(0, abs=1e-9)


def test_engine_time_and_kv_use_count_replicas_only_while_they_are_up():
    row = measure(by_hand())
    assert row.engine.decode_seconds == pytest.approx(10)
    assert row.engine.idle_seconds == pytest.approx(10 + 5 + 6 - 10)
    held, could = 50 * 6 + 10 * 1 + 100 * 3, 100 * 6 + 100 * 1 + 200 * 3
    assert row.kv_use_mean == pytest.approx(held / could)
    series = summarise(by_hand()).series
    at = [int(second / series.bin_seconds) for second in (0.5, 4.5, 5.5, 8.5)]
    shares = (50 / 200, 50 / 400, 50 / 300, 100 / 300)
    assert series.kv_use[at] == pytest.approx(shares)


def test_json_has_the_fleet_and_keeps_measurements_apart():
    row = summarise(by_hand()).to_json()
    assert json.loads(json_text(row)) == row
    assert row["fleet"]["moves"]["handover"] == {"done": 1}
    assert row["fleet"]["failed"] == {REPLICA_LOST: 1}
    assert "routing_microseconds_mean" not in row["fleet"]
    assert row["timing"]["routing_microseconds_mean"] == pytest.approx(5.0)
    assert measure(queue(n=50)).to_json()["fleet"] is None
    assert "routing_microseconds_mean" not in measure(queue(n=50)).to_json()["timing"]


def test_a_fleet_without_prices_has_no_cost():
    made = by_hand()
    made.fleet.units = [
        type(one)(**{n: 0 if n == "dollars" else getattr(one, n) for n in one.__slots__})
        for one in made.fleet.units
    ]
    row = measure(made)
    assert row.fleet.dollars is None
    assert row.fleet.dollars_per_met_request is None
    runs = [summarise(made)]
    assert "$" not in to_text(runs, judge(runs))


def test_table_and_verdict_tell_of_the_fleet():
    runs = [summarise(real(kind, traced=False)) for kind in ("migrating", "split")]
    verdict = judge(runs, stock="migrating")
    text = to_text(runs, verdict)
    assert max(map(len, text.splitlines())) <= 120
    assert "…" not in text
    table = text.partition("\nFleet")[2]
    for name in ("per 1k", "balance", "Moves and losses", "downtime", "copied", "resumed"):
        assert name in table
    assert max(map(len, to_text(runs, verdict, 100).splitlines())) <= 100
    assert "cost of a thousand requests that met their SLOs, least first: " in verdict.text
    lost = runs[0].row.fleet
    assert f"migrating {lost.lost_requests} ({lost.resumed} sent on, 0 failed)" in verdict.text
    assert "Fleet" not in to_text([summarise(queue(n=50))], judge([summarise(queue(n=50))]))


def test_picture_by_hand():
    picture = summarise(by_hand()).picture
    assert [(lane.first, lane.group) for lane in picture.lanes] == [(0, "a"), (1, "a"), (2, "b")]
    assert [lane.up for lane in picture.lanes] == [0.0, 0.0, 4.0]
    at = [int(second / picture.bin_seconds) for second in (0.5, 4.5, 5.5, 8.5)]
    heat = {name: values[:, at] for name, values in picture.heat.items()}
    gone = np.nan
    expected = [[0.5, 0.5, 0.5, 0], [0, 0, gone, gone], [gone, 0, 0, 0.5]]
    np.testing.assert_allclose(heat["kv"], expected)
    np.testing.assert_allclose(heat["waiting"][0], [4, 4, 4, 0])
    np.testing.assert_allclose(heat["busy"][2], [gone, 0, 0, 1])
    assert picture.up[at].tolist() == [2, 3, 2, 2]
    assert picture.starting[int(3 / picture.bin_seconds)] == pytest.approx(1)
    assert picture.dollars[-1] == pytest.approx(0.035)
    assert picture.dollars[BINS // 2 - 1] == pytest.approx(0.005 + 0.005 + 0.02 * 3 / 8)
    assert [(arc.source, arc.target) for arc in picture.arcs] == [(0, 1), (1, 0), (1, 0), (0, 2)]
    assert [(mark.lane, mark.what) for mark in picture.marks] == [(1, "crash"), (2, "role decode")]


def link_events(*told):
    """Events of links from seconds and words."""
    return [FleetEvent(int(second * SECOND), -1, what) for second, what in told]


def test_cuts_that_overlap_are_one_spell():
    events = link_events(
        (1, "a and b parted"),
        (2, "a and c parted"),
        (3, "a and b parted"),
        (4, "a and b joined again"),
        (6, "a and b joined again"),
        (7, "a and b parted"),
        (8, "a and b joined again"),
    )
    spans = [
        (name, since // SECOND, None if until is None else until // SECOND)
        for name, since, until in cut_spans(events)
    ]
    assert spans == [("a and b", 1, 6), ("a and c", 2, None), ("a and b", 7, 8)]


def test_the_page_shows_cut_links():
    made = by_hand()
    made.fleet.events += link_events((1, "a and b parted"), (2.5, "a and b joined again"))
    made.fleet.events += link_events((4, "b and b parted"))
    run = summarise(made)
    assert len(run.picture.marks) == 2, "links have no lane"
    (fleet,) = data_of(page_of([run]))["fleets"]
    assert fleet["links"] == ["a and b", "b and b"]
    assert fleet["cuts"] == [[1, 2.5, 0, "a and b"], [4, None, 1, "b and b"]]


def test_very_many_cut_links_share_a_row():
    made = by_hand()
    made.fleet.events += link_events(*((1, f"a and b{i} parted") for i in range(LINKS_MAX + 5)))
    (fleet,) = data_of(page_of([summarise(made)]))["fleets"]
    assert len(fleet["links"]) == LINKS_MAX
    assert fleet["links"][-1] == ""
    assert [cut[2] for cut in fleet["cuts"]] == [*range(LINKS_MAX)] + [LINKS_MAX - 1] * 5


def test_the_ends_of_slow_spells_and_of_cuts_are_told_as_such():
    told = summarise(real("split", traced=False)).row.fleet.events
    assert told["steps take 3 times as long"] == told["steps take their usual time again"] == 1
    (spell,) = cut_spans(real("split", traced=False).fleet.events)
    assert spell[2] - spell[1] == SECOND // 10


def test_the_page_names_figures_as_the_tables_do():
    run = summarise(real("split", traced=False))
    (fleet,) = data_of(page_of([run]))["fleets"]
    facts = dict(fleet["facts"])
    assert facts["per 1k met"] == units.dollars(1000 * run.row.fleet.dollars_per_met_request)
    assert facts["cost"] == units.dollars(run.row.fleet.dollars)


def test_what_the_page_holds_is_what_the_picture_says():
    run = summarise(by_hand())
    (fleet,) = data_of(page_of([run]))["fleets"]
    heat = fleet["heat"]["waiting"]
    codes = np.frombuffer(b64decode(heat["codes"]), dtype=np.uint8).reshape(3, BINS)
    found = np.where(codes == 255, np.nan, codes / 250 * heat["most"])
    np.testing.assert_allclose(found, run.picture.heat["waiting"], atol=heat["most"] / 400)
    assert fleet["outcomes"][fleet["arcs"][0][4]] == ["migration", "done", True]
    assert [mark[3] for mark in fleet["marks"]] == ["crash", "role decode"]
    assert ["KV copied", "5.05\u00a0kB"] in fleet["facts"]


def test_very_large_fleets_make_no_large_page():
    run = summarise(large())
    picture = run.picture
    assert len(picture.lanes) <= LANES_MAX + 2
    assert sum(lane.count for lane in picture.lanes) == 2_000
    assert len(picture.arcs) <= MOVES_MAX + MOVES_MAX // 10
    assert picture.moves == 30_020
    assert sum(arc.outcome == "an end was lost" for arc in picture.arcs) == 20
    assert np.nansum(picture.heat["busy"] * 2_000 / len(picture.lanes)) > 0
    alone = len(page_of([run]).encode())
    assert alone < 5_500_000
    assert len(page_of([run] * 40).encode()) <= PAGE_BYTES_MAX


def test_lanes_of_many_show_their_mean():
    run = summarise(large(units=400, moves=0))
    picture = run.picture
    size = picture.lanes[0].count
    assert size == 5
    bin_of_start = int(0.5 / picture.bin_seconds)
    starters = [i for i in range(size) if i % 9 == 0]
    expected = sum(i % 100 for i in starters) / (size * 100)
    assert picture.heat["kv"][0, bin_of_start] == pytest.approx(expected)
    assert picture.heat["busy"][0, bin_of_start] == pytest.approx(len(starters) / size)


def test_pages_of_one_replica_hold_nothing_of_fleets():
    page = page_of([summarise(queue(n=50))])
    assert 'id="fleet"' not in page
    assert "fleet-lanes" not in page
    assert data_of(page)["fleets"] == [None]


def test_names_in_fleets_are_no_markup():
    made = by_hand()
    made.fleet.events.append(FleetEvent(7, 0, NASTY))
    made.fleet.design = NASTY
    page = page_of([summarise(made)])
    assert NASTY not in page
    assert data_of(page)["fleets"][0]["design"] == NASTY


def test_the_page_is_the_same_twice():
    one, two = (page_of([summarise(real("split", traced=False))]) for _ in range(2))
    assert one == two


def test_the_reference_page_names_every_number():
    path = Path(__file__).parents[2] / "docs" / "reference" / "fleet-results.md"
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == list(measure(by_hand()).fleet.to_json())
    assert f"more than {LANES_MAX} replicas" in text
    assert f"more than {MOVES_MAX:,} moves" in text
    assert f"of more than {LINKS_MAX} such links" in text
