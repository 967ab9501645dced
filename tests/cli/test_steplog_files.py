from __future__ import annotations

import json
from dataclasses import fields, is_dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import CLASSES, ENGINE, run

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.limits import EngineLimits
from sojourn.errors import UserError
from sojourn.recipes import load_recipe
from sojourn.sim.loop import Simulation
from sojourn.sim.study import Fleet, Task, run_task
from sojourn.sim.workload import make_workload
from sojourn.steplog.read import read_source, read_steplog
from sojourn.steplog.write import METADATA, Source, write_steplog
from sojourn.trace import read_trace

SOURCE = Source("sample", "llama-3.1-8b", "h100-sxm", 3, {"max_num_seqs": 4, "host": "vllm"})


def same(left, right):
    if is_dataclass(left) and not isinstance(left, type):
        return type(left) is type(right) and all(
            same(getattr(left, one.name), getattr(right, one.name)) for one in fields(left)
        )
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    return left == right


@pytest.fixture(scope="module")
def records():
    """Return a record with and one without states; many are shed, paused and dropped."""
    workload = make_workload(read_trace("sample", limit=80), (), 3)
    cost = Fitted(Coefficients(fixed=0.01, prefill_token=2e-5, context_token=1e-8))
    limits = EngineLimits(num_gpu_blocks=100, max_num_seqs=4, max_model_len=1500)
    fleet = Fleet(limits, cost, replicas=2)
    task = Task(load_recipe("fastserve"), 50.0, 0.9)
    return [run_task(workload, fleet, task, trace_states=traced) for traced in (True, False)]


def test_a_record_is_read_back_exactly(records, tmp_path):
    for record in records:
        path = tmp_path / "steps.parquet"
        write_steplog(path, record, SOURCE)
        found = read_steplog(path)
        assert same(record, found)
        assert read_source(path) == SOURCE
        assert list(tmp_path.iterdir()) == [path]
    assert (records[0].requests.outcome == 1).any()
    assert records[0].requests.preemptions.any()


def test_a_cut_off_record_is_read_back_exactly(tmp_path):
    workload = make_workload(read_trace("sample", limit=80), (), 3)
    fleet = Fleet(
        EngineLimits(num_gpu_blocks=500, max_model_len=8000), Fitted(Coefficients(fixed=1.0))
    )

    record = Simulation(workload, fleet.setup(load_recipe("vllm"), trace_states=True)).run(
        until=10 * 10**12
    )
    assert (record.requests.arrival < 0).any()
    path = tmp_path / "steps.parquet"
    write_steplog(path, record, SOURCE)
    assert same(record, read_steplog(path))


def test_the_file_is_plain_to_other_readers(records, tmp_path):
    path = tmp_path / "steps.parquet"
    write_steplog(path, records[0], SOURCE)
    table = pq.read_table(path)
    kinds = table["kind"].to_pylist()
    assert set(kinds) == {"run", "state", "request", "replica", "event"}
    assert kinds.count("request") == 80
    assert table.schema.field("arrival_ps").type == "int64"
    shed = [row for row in table.to_pylist() if row["outcome"] == "shed"]
    assert all(row["reason"].startswith("prompt longer than") for row in shed)
    assert all(row["finish_ps"] is None and row["tenant"] == "default" for row in shed)
    states = [row["state"] for row in table.to_pylist() if row["kind"] == "state"]
    assert {"waiting", "prefill", "decode", "finished"} <= set(states)
    assert json.loads(table.schema.metadata[METADATA])["schema"] == "sojourn/steplog/3"


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.parquet"
    with pytest.raises(UserError, match="cannot read"):
        read_steplog(path)
    path.write_text("text")
    with pytest.raises(UserError, match="cannot read"):
        read_steplog(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(UserError, match="is not a step log"):
        read_steplog(path)


def test_simulate_writes_a_step_log_and_the_rest(tmp_path, capsys):
    names = {
        "--step-log": "s.parquet",
        "--json": "s.json",
        "--html": "s.html",
        "--timeline": "t.json",
    }
    files = [word for flag, name in names.items() for word in (flag, tmp_path / name)]
    words = ("simulate", "sample", *ENGINE, *CLASSES, "--limit", 80, "--recipe", "fastserve")
    done = run(capsys, *words, *files)
    assert done.code == 0
    assert "fastserve" in done.out
    assert "max_num_seqs 256" in done.out
    record = read_steplog(tmp_path / "s.parquet")
    assert record.recipe == "fastserve"
    assert record.transitions is not None
    document = json.loads((tmp_path / "s.json").read_text())
    assert document["results"][0]["finished"] == 80 == (record.requests.outcome == 0).sum()
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]


def test_simulate_at_a_load_measures_the_capacity(tmp_path, capsys):
    target = tmp_path / "s.json"
    words = ("simulate", "sample", *ENGINE, "--limit", 80, "--recipe", "vtc", "--load", 0.8)
    done = run(capsys, *words, "--json", target)
    assert done.code == 0
    assert "Capacity of vllm: " in done.out
    document = json.loads(target.read_text())
    assert document["results"][0]["load"] == 0.8
    assert document["capacity_rps"] > 0
