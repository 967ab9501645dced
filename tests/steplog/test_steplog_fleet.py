"""What a fleet did survives the step log."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from sojourn.decide.clock import SECOND
from sojourn.errors import UserError
from sojourn.fleet.design import CRASH, SPOT, Fault, Link
from sojourn.report import summarise
from sojourn.steplog.read import read_steplog
from sojourn.steplog.write import METADATA, Source, write_steplog
from tests.cli.command_line import run as command
from tests.fleet.fleet_runs import design, run, split
from tests.sim.sim_workloads import make

SOURCE = Source("case", "llama-3.1-8b", "h100-sxm", 3, {})


@pytest.fixture(scope="module")
def record():
    """Return the record of a split fleet whose replicas are lost and come back."""
    workload = make([(i * 0.01, 100 + i, 60 + i % 7, 0) for i in range(40)])
    fleet = design(
        *split(1, 2, dollars_per_hour=2.5, hardware="h100", gpus=2),
        default_link=Link(bytes_per_second=2e7),
        faults=(
            Fault(CRASH, SECOND // 5, replica=0, duration=SECOND // 50),
            Fault(CRASH, SECOND // 4, replica=1, duration=SECOND // 10),
            Fault(SPOT, SECOND // 3, replica=2, duration=SECOND // 10, notice=SECOND // 20),
        ),
    )
    return run(workload, fleet)[1]


def test_a_fleet_is_read_back_exactly(record, tmp_path):
    path = tmp_path / "fleet.parquet"
    write_steplog(path, record, SOURCE)
    found = read_steplog(path).fleet
    assert found == record.fleet
    assert {one.outcome for one in found.moves} > {"done"}
    assert {"crash", "spot", "spot notice", "up", "asked for"} <= {one.what for one in found.events}
    assert found.lost_requests > 0
    assert found.routing_seconds > 0


def test_its_rows_are_plain_to_other_readers(record, tmp_path):
    path = tmp_path / "fleet.parquet"
    write_steplog(path, record, SOURCE)
    rows = pq.read_table(path).to_pylist()
    replicas = [row for row in rows if row["kind"] == "replica"]
    assert [row["replica"] for row in replicas] == list(range(6))
    assert sum(row["dollars"] for row in replicas) == record.fleet.dollars > 0
    assert {row["group"] for row in replicas} == {"prefill", "decode"}
    assert {row["blocks"] for row in replicas} == {record.kv_blocks}
    moves = [row for row in rows if row["kind"] == "move"]
    assert {row["move"] for row in moves} == {"handover"}
    assert sum(row["bytes"] for row in moves) == sum(one.bytes for one in record.fleet.moves)
    assert all(row["ended_ps"] >= row["began_ps"] for row in moves)


def test_one_replica_has_no_fleet(record, tmp_path):
    path = tmp_path / "one.parquet"
    write_steplog(path, replace(record, fleet=None), SOURCE)
    assert read_steplog(path).fleet is None


def test_what_the_metadata_say_of_a_fleet_is_checked(record, tmp_path):
    path = tmp_path / "fleet.parquet"
    write_steplog(path, record, SOURCE)
    table = pq.read_table(path)
    known = json.loads(table.schema.metadata[METADATA])
    known["fleet"] = {"design": "x", "colour": 3}
    metadata = table.schema.metadata | {METADATA: json.dumps(known).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(UserError, match="is a damaged step log"):
        read_steplog(path)


@pytest.mark.parametrize(
    ("rows", "change", "reason"),
    [
        ("units", {"index": 5}, "that of replica 5"),
        ("units", {"ended": 0, "asked": 9}, "impossible times"),
        ("units", {"gpus": 0}, "impossible times or GPUs"),
        ("moves", {"target": 77}, "to 77, but there are 6"),
        ("moves", {"source": -1}, "from replica -1"),
        ("moves", {"ended": 0}, "ends before it begins"),
        ("events", {"replica": 8}, "an event of replica 8"),
        ("events", {"time": -1}, "an event of replica"),
    ],
)
def test_rows_that_contradict_one_another_are_refused(record, tmp_path, rows, change, reason):
    path = tmp_path / "fleet.parquet"
    fleet = replace(record.fleet)
    first, *others = getattr(fleet, rows)
    setattr(fleet, rows, [replace(first, **change), *others])
    write_steplog(path, replace(record, fleet=fleet), SOURCE)
    with pytest.raises(UserError, match=f"is a damaged step log .*{reason}"):
        read_steplog(path)


def test_rows_of_a_replica_that_is_not_there_are_refused(record, tmp_path):
    path = tmp_path / "fleet.parquet"
    fleet = replace(record.fleet, units=record.fleet.units[:1], moves=[], events=[])
    write_steplog(path, replace(record, fleet=fleet), SOURCE)
    with pytest.raises(UserError, match="but there are 1"):
        read_steplog(path)


def test_the_report_of_a_recorded_fleet_is_that_of_the_run(record, tmp_path, capsys):
    write_steplog(tmp_path / "fleet.parquet", record, SOURCE)
    names = {"--json": "r.json", "--html": "r.html", "--timeline": "t.json"}
    files = [word for flag, name in names.items() for word in (flag, tmp_path / name)]
    done = command(capsys, "report", tmp_path / "fleet.parquet", *files)
    assert (done.code, done.err) == (0, "")
    row = json.loads((tmp_path / "r.json").read_text())["results"][0]
    assert row["fleet"] == summarise(record).to_json()["fleet"]
    assert row["fleet"]["dollars"] > 0
    assert "Moves and losses" in done.out
    assert "requests on replicas that were lost: " in done.out
    assert 'id="fleet-lanes"' in (tmp_path / "r.html").read_text()
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert {"s", "f", "b", "e"} <= {event["ph"] for event in events}
