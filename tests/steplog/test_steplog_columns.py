"""What the simulator writes into the columns that step times and replays are made from."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from live_runs import ended, opened

from sojourn.errors import UserError
from sojourn.steplog.fleet_table import COLUMNS
from sojourn.steplog.read import read_source, read_steplog
from sojourn.steplog.record import DIFFERENCES, WOULD_PAUSE, DifferenceColumns
from sojourn.steplog.write import (
    METADATA,
    TABLES,
    Source,
    all_columns,
    column_name,
    table_of,
    write_steplog,
)
from tests.sim.sim_workloads import COST, cases, run

SOURCE = Source("case", "llama-3.1-8b", "h100-sxm", 3, {"max_num_seqs": 4, "host": "vllm"})
SETTINGS = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])


def same(left, right):
    if is_dataclass(left) and not isinstance(left, type):
        return type(left) is type(right) and all(
            same(getattr(left, one.name), getattr(right, one.name)) for one in fields(left)
        )
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    return left == right


def rows(steps):
    """Return the rows of step columns as dictionaries."""
    names = [field.name for field in fields(steps)]
    columns = [getattr(steps, name).tolist() for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def singly(steps):
    """Return (prefill tokens, pairs, prior, prompts, decodes, context) of every single step."""
    found = {}
    for row in rows(steps):
        for index in range(row["steps"]):
            context = row["context"] + index * row["decodes"]
            found.setdefault(row["replica"], []).append(
                (
                    *(row[name] for name in ("prefill_tokens", "pairs", "prior", "prompts")),
                    row["decodes"],
                    context,
                )
            )
    return found


@pytest.mark.parametrize("recipe", ["vllm", "fastserve"])
@SETTINGS
@given(case=cases())
def test_step_times_follow_from_the_columns(recipe, case):
    record = run(case, recipe)
    for row in rows(record.steps):
        assert row["duration"] == step_time(row)


def step_time(row):
    if row["prefill_tokens"]:
        assert row["steps"] == 1
        names = ("prefill_tokens", "pairs", "prior", "prompts", "decodes", "context")
        return COST.step(*(row[name] for name in names))
    return COST.run(row["decodes"], row["context"], row["steps"])


@SETTINGS
@given(case=cases())
def test_a_merged_row_stands_for_its_single_steps(case):
    assert singly(run(case).steps) == singly(run(case, max_horizon=1).steps)


@SETTINGS
@given(case=cases())
def test_programs_and_prefixes_are_recorded(case, tmp_path_factory):
    workload, record = case.workload, run(case)
    requests = record.requests
    assert requests.program.tolist() == workload.program
    assert requests.turn.tolist() == workload.turn
    assert [bool(last) for last in requests.last_turn] == [row < 0 for row in workload.following]
    assert set(requests.priority.tolist()) == {0}
    assert record.prefix == (workload.prefix or None)
    assert bool(record.block_tokens) == bool(workload.prefix)
    path = tmp_path_factory.mktemp("steplog") / "steps.parquet"
    write_steplog(path, record, SOURCE)
    assert same(record, read_steplog(path))


def test_differences_are_read_back(sample_record, tmp_path):
    differences = DifferenceColumns(
        time=np.array([5, 5, 9]),
        request=np.array([0, 2, 1]),
        difference=np.array([WOULD_PAUSE, 0, 5]),
        tokens=np.array([0, 16, 32]),
    )
    record = replace(
        sample_record, differences=differences, host="vllm", engine="vLLM", recorder_seconds=0.5,
        started_unix_seconds=1.7e9,
    )  # fmt: skip
    path = tmp_path / "steps.parquet"
    write_steplog(path, record, SOURCE)
    assert same(record, read_steplog(path))
    found = [row for row in pq.read_table(path).to_pylist() if row["kind"] == "difference"]
    assert [row["difference"] for row in found] == ["would pause", "would admit", "other chunk"]
    assert len(DIFFERENCES) == 6


def second_schema(record):
    """Return the table and the metadata that a file of the second schema holds."""
    table = table_of(record, SOURCE)
    known = json.loads(table.schema.metadata[METADATA]) | {"schema": "sojourn/steplog/2"}
    del known["fleet"]
    kinds = pa.array(list(TABLES))
    old = table.filter(pc.is_in(table["kind"].cast("string"), value_set=kinds))
    new = {column for columns in COLUMNS.values() for column in columns.values()}
    kept = {column_name(name) for name in all_columns()}
    return old.drop_columns(sorted(new - kept)), known


def test_the_second_schema_is_read(sample_record, tmp_path):
    old, known = second_schema(sample_record)
    assert old.column_names == ["kind", *map(column_name, all_columns()), "prefix"]
    metadata = old.schema.metadata | {METADATA: json.dumps(known).encode()}
    path = tmp_path / "old.parquet"
    pq.write_table(old.replace_schema_metadata(metadata), path)
    assert same(read_steplog(path), replace(sample_record, fleet=None))


def test_the_first_schema_is_read(sample_record, tmp_path):
    table, known = second_schema(sample_record)
    known["schema"] = "sojourn/steplog/1"
    for name in ("host", "engine", "started_unix_seconds", "block_tokens", "run", "part"):
        del known[name]
    old = table.drop_columns(["pairs", "prior", "context", "program", "turn", "last_turn",
                              "priority", "prefix", "difference", "tokens"])  # fmt: skip
    numbers = [
        None if kind == "request" else number
        for kind, number in zip(old["kind"].to_pylist(), old["request"].to_pylist(), strict=True)
    ]
    place = old.column_names.index("request")
    old = old.set_column(place, "request", [numbers])
    metadata = old.schema.metadata | {METADATA: json.dumps(known).encode()}
    path = tmp_path / "old.parquet"
    pq.write_table(old.replace_schema_metadata(metadata), path)
    found = read_steplog(path)
    for name in ("pairs", "prior", "context"):
        assert set(getattr(found.steps, name).tolist()) == {-1}
    for name in ("program", "turn", "last_turn", "priority"):
        assert set(getattr(found.requests, name).tolist()) == {-1}
    assert found.prefix is None
    assert (found.host, found.engine, found.started_unix_seconds) == ("simulator", "", None)
    assert np.array_equal(found.requests.finish, sample_record.requests.finish)
    assert np.array_equal(found.steps.kv_used, sample_record.steps.kv_used)
    assert same(found.transitions, sample_record.transitions)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"schema": "sojourn/steplog/4"},
            "'s.parquet' is a step log of schema 'sojourn/steplog/4', which this version of "
            "Sojourn cannot read; it reads sojourn/steplog/1, sojourn/steplog/2 and "
            "sojourn/steplog/3",
        ),
        ({"schema": "other"}, "'s.parquet' is not a step log: its metadata lack the schema"),
        (
            {"classes": [{"ttft": 3}]},
            "'s.parquet' is a damaged step log (",
        ),
        ({"recipe": None, "trace": None}, None),
    ],
)
def test_files_that_cannot_be_read_are_refused(
    sample_record, tmp_path, monkeypatch, change, sentence
):
    monkeypatch.chdir(tmp_path)
    table = table_of(sample_record, SOURCE)
    known = json.loads(table.schema.metadata[METADATA])
    for name, value in change.items():
        if value is None:
            del known[name]
        else:
            known[name] = value
    metadata = table.schema.metadata | {METADATA: json.dumps(known).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), "s.parquet")
    with pytest.raises(UserError) as caught:
        read_steplog("s.parquet")
    assert str(caught.value).startswith(sentence or "'s.parquet' is a damaged step log ")
    if sentence is None:
        with pytest.raises(UserError, match="is a damaged step log"):
            read_source("s.parquet")


def test_metadata_that_are_no_json_are_no_step_log(sample_record, tmp_path):
    table = table_of(sample_record, SOURCE)
    for text in (b"{", b"[1]", b"\xff"):
        path = tmp_path / "s.parquet"
        pq.write_table(table.replace_schema_metadata({METADATA: text}), path)
        with pytest.raises(UserError, match="is not a step log"):
            read_steplog(path)


def test_a_file_given_twice_is_read_once_and_a_copy_is_refused(tmp_path):
    log = opened(tmp_path / "logs")
    log.request(ended(0))
    log.close()
    (first,) = (tmp_path / "logs").iterdir()
    assert read_steplog([first, tmp_path / "logs"]).requests.arrival.tolist() == [0]
    copy = first.with_name("copy.parquet")
    copy.write_bytes(first.read_bytes())
    with pytest.raises(UserError, match="hold the same part of a step log; give one of them"):
        read_steplog(tmp_path / "logs")
