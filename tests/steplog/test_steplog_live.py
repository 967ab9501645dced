"""The live log: what goes in comes out of its files, which are whole, bounded and rotate."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from live_runs import MILLISECOND, RUN, STATES, decode, ended, opened

from sojourn.errors import UserError
from sojourn.steplog import live
from sojourn.steplog.live import LiveConfig
from sojourn.steplog.read import read_source, read_steplog
from sojourn.steplog.record import CANCELLED, SHED, SloClass
from sojourn.steplog.write import METADATA


def wait_until(happened, seconds=10.0):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_comes_back_from_its_file(tmp_path):
    log = opened(tmp_path)
    log.state(0, 0, 1)
    log.step(0, 2 * MILLISECOND, 40, 1, 0, 0, 0, 3, 820, 0, 0)
    for step in range(5):
        decode(log, 2 + step, context=41 + step, decodes=1)
    log.difference(7, 0, 4, 0)
    log.state(7 * MILLISECOND, 0, 4)
    log.request(ended(0, finish=7 * MILLISECOND, tenant="acme", priority=-5, program=3), [-9, 8])
    log.decisions, log.decision_seconds, log.caller_seconds = 6, 0.25, 100.0
    log.close()
    assert files(tmp_path) == ["steplog-000001.parquet"]
    record = read_steplog(tmp_path / "steplog-000001.parquet")
    steps, rows = record.steps, record.requests
    assert steps.start.tolist() == [0, 2 * MILLISECOND]
    assert steps.duration.tolist() == [2 * MILLISECOND, 5 * MILLISECOND]
    assert steps.steps.tolist() == [1, 5]
    assert (steps.prefill_tokens.tolist(), steps.pairs.tolist()) == ([40, 0], [820, 0])
    assert steps.context.tolist() == [0, 41]
    assert steps.replica.tolist() == [0, 0]
    assert rows.finish.tolist() == [7 * MILLISECOND]
    assert rows.prompt_tokens.tolist() == [40]
    assert (rows.priority.tolist(), rows.program.tolist()) == ([-5], [3])
    assert (rows.reason.tolist(), rows.last_turn.tolist()) == ([-1], [1])
    assert record.tenants == ("acme",)
    assert record.classes == RUN.classes
    assert record.prefix == [(-9, 8)]
    assert record.block_tokens == 16
    assert [record.states[state] for state in record.transitions.state] == ["waiting", "finished"]
    assert (record.states, record.recipe, record.host) == (STATES, "slo-edf", "vllm")
    assert record.differences.difference.tolist() == [4]
    assert (record.decisions, record.decision_seconds) == (6, 0.25)
    assert (record.complete, record.notes) == (True, {})
    assert record.started_unix_seconds == 1.7e9
    assert 100 < record.recorder_seconds < 105
    assert read_source(tmp_path) == RUN.source


@pytest.mark.parametrize(
    ("change", "context"),
    [
        ({"decodes": 4}, 103),
        ({"waiting": 3}, 103),
        ({"paused": 0}, 103),
        ({}, 104),
        ({"prefill_tokens": 5, "prompts": 1}, 103),
    ],
)
def test_only_steps_that_continue_a_row_are_merged(tmp_path, change, context):
    log = opened(tmp_path)
    decode(log, 0, context=100)
    decode(log, 1, context=context, **change)
    log.close()
    assert read_steplog(tmp_path).steps.steps.tolist() == [1, 1]


def test_nothing_is_merged_into_a_step_with_a_prompt(tmp_path):
    log = opened(tmp_path)
    decode(log, 0, context=100, prefill_tokens=5)
    decode(log, 1, context=103)
    decode(log, 2, context=106)
    log.close()
    assert read_steplog(tmp_path).steps.steps.tolist() == [1, 2]


def test_steps_that_lie_apart_are_merged_while_that_shifts_none_by_a_step(tmp_path):
    log = opened(tmp_path)
    for step in range(9):
        log.step(step * 1_300, 1_000, 0, 0, 2, 0, 0, 9, 0, 0, 10 + 2 * step)
    log.close()
    steps = read_steplog(tmp_path).steps
    assert steps.steps.tolist() == [4, 4, 1]
    assert steps.start.tolist() == [0, 4 * 1_300, 8 * 1_300]
    assert steps.context.tolist() == [10, 18, 26]
    assert steps.kv_used.tolist() == [9, 9, 9]


def test_rows_of_a_run_over_several_files_are_joined(tmp_path):
    log = opened(tmp_path, name="engine-0", rows_max=100)
    for number in range(250):
        log.state(number * MILLISECOND, number, 1)
        decode(log, number, context=7)
        wait_until(lambda due=2 * (number + 1) // 100: log.files_written == due)
    # Requests end in another order than they came, and one of them never does.
    for number in (*range(100, 240), *range(100), 249, *range(240, 248)):
        log.request(ended(number, tenant=f"t{number % 7}"), range(number % 3))
    log.difference(5, 248, 0, 1)
    log.difference(5, 249, 0, 1)
    log.close()
    assert len(files(tmp_path)) == 8
    record = read_steplog(tmp_path)
    assert record.complete
    assert record.steps.start.tolist() == [number * MILLISECOND for number in range(250)]
    numbers = [*range(248), 249]
    assert record.requests.arrival.tolist() == [number * MILLISECOND for number in numbers]
    assert record.prefix == [tuple(range(number % 3)) for number in numbers]
    assert [record.tenants[one] for one in record.requests.tenant] == [
        f"t{number % 7}" for number in numbers
    ]
    assert record.transitions.request.tolist() == list(range(249)), "248 has no row"
    assert record.transitions.time[-1] == 249 * MILLISECOND
    assert record.differences.request.tolist() == [248]
    names = [tmp_path / name for name in files(tmp_path)]
    assert np.array_equal(read_steplog(names[::-1]).requests.finish, record.requests.finish)
    first = read_steplog(names[0])
    assert not first.complete


def test_the_oldest_files_are_deleted(tmp_path):
    (tmp_path / "other.txt").write_text("stays")
    (tmp_path / "steplog-old.parquet").write_text("stays")
    log = opened(tmp_path, rows_max=100, files_max=3)
    for number in range(600):
        log.state(number, number, 1)
        wait_until(lambda due=number // 100: log.files_written >= due)
    log.close()
    kept = files(tmp_path)
    assert kept[:3] == ["other.txt", *(f"steplog-{number:06d}.parquet" for number in (5, 6))]
    assert kept[3:] == ["steplog-000007.parquet", "steplog-old.parquet"]
    assert read_steplog(list(tmp_path.glob("steplog-0*"))).notes == {"files_missing": 4}


def test_a_new_run_goes_on_with_the_numbers(tmp_path):
    for _ in range(2):
        log = opened(tmp_path)
        log.request(ended(0))
        log.close()
    first, second = sorted(tmp_path.iterdir())
    assert second.name == "steplog-000002.parquet"
    with pytest.raises(UserError) as caught:
        read_steplog(tmp_path)
    assert str(caught.value) == (
        f"these are step logs of 2 runs ({first}, {second}); give the files of one run"
    )


def test_a_file_is_begun_when_the_time_has_come(tmp_path):
    log = opened(tmp_path, seconds_max=0.05)
    log.request(ended(0))
    wait_until(lambda: log.files_written == 1)
    log.request(ended(1))
    wait_until(lambda: log.files_written == 2)
    time.sleep(0.15)
    assert log.files_written == 2, "no file without rows"
    log.close()
    last = json.loads(pq.read_metadata(max(tmp_path.iterdir())).metadata[METADATA])
    assert (last["part"], last["complete"]) == (3, True)
    assert read_steplog(tmp_path).requests.arrival.tolist() == [0, MILLISECOND]


def test_a_run_of_nothing_leaves_no_file(tmp_path):
    opened(tmp_path / "new" / "folder").close()
    assert files(tmp_path / "new" / "folder") == []


def test_a_folder_that_vanishes_costs_rows_and_one_warning(tmp_path, caplog):
    folder = tmp_path / "log"
    log = opened(folder, rows_max=100)
    folder.rmdir()
    with caplog.at_level(logging.WARNING):
        for number in range(200):
            log.state(number, number, 1)
        wait_until(lambda: log.rows_lost == 200)
        folder.mkdir()
        log.request(ended(0))
        log.close()
    assert caplog.text.count("rows of the step log are lost") == 1
    assert read_steplog(folder).notes == {"files_missing": 2, "rows_lost": 200}


def test_a_full_disk_leaves_no_half_written_file(tmp_path, monkeypatch, caplog):
    def full(table, where, **options):
        where.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    log = opened(tmp_path)
    log.request(ended(0))
    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", full)
        log.close()
    assert files(tmp_path) == []
    assert "No space left on device" in caplog.text
    assert log.rows_lost == 1


def test_a_slow_disk_never_makes_the_engine_wait(tmp_path, monkeypatch, caplog):
    log = opened(tmp_path, rows_max=100)
    write, go_on = log._files.write, multiprocessing.Event()
    monkeypatch.setattr(log._files, "write", lambda table: (go_on.wait(), write(table)))
    began = time.monotonic()
    for number in range(2_000):
        log.state(number, number, 1)
    assert time.monotonic() - began < 5
    waiting = live.PARTS_WAITING_MAX
    assert log.rows_lost in (2_000 - 100 * waiting, 2_000 - 100 * (waiting + 1))
    go_on.set()
    log.close()
    assert "the disk is too slow" in caplog.text


@pytest.mark.parametrize(
    "call",
    [
        lambda log: log.state(None, 0, 0),
        lambda log: log.state(1 << 63, 0, 0),
        lambda log: log.difference(0, 0, 6, 0),
        lambda log: log.request(ended(0.5)),
        lambda log: log.request(ended(0), [b"12345678", b"short"]),
        lambda log: log.request(ended(0), ["text"]),
        lambda log: log.request(ended(0, tenant=[])),
        lambda log: log.request(None),
        lambda log: (decode(log, 0, context="x"), decode(log, 1, context=0)),
    ],
)
def test_nothing_is_raised_into_the_engine(tmp_path, call, caplog):
    log = opened(tmp_path)
    log.request(ended(0), [1, 2])
    call(log)
    log.request(ended(1), [3])
    log.close()
    log.request(ended(2))
    assert log.rows_lost == 2
    assert caplog.text.count("rows of the step log are lost") == 1
    record = read_steplog(tmp_path)
    assert record.prefix == [(1, 2), (3,)]


def test_names_are_bounded_and_new_classes_have_no_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "NAMES_MAX", 3)
    log = opened(tmp_path)
    for number in range(6):
        outcome = SHED if number else CANCELLED
        row = ended(number, tenant=f"t{number}", reason="late" if number else "", outcome=outcome)
        log.request(row._replace(slo_class="batch"))
    log.close()
    record = read_steplog(tmp_path)
    assert record.tenants == ("t0", "t1", "t2", "(others)")
    assert record.requests.tenant.tolist() == [0, 1, 2, 3, 3, 3]
    assert record.requests.reason.tolist() == [-1, 0, 0, 0, 0, 0]
    assert record.classes == (*RUN.classes, SloClass("batch"))


def test_hashes_give_their_first_eight_bytes(tmp_path):
    log = opened(tmp_path)
    hashes = [bytes(range(start, start + 32)) for start in (0, 1)]
    log.request(ended(0), hashes)
    log.close()
    wanted = [int(np.frombuffer(one[:8], np.int64)[0]) for one in hashes]
    assert read_steplog(tmp_path).prefix == [tuple(wanted)]


def _engine(folder, way):
    log = opened(folder)
    log.request(ended(0))
    if way == "signal":
        signal.signal(signal.SIGTERM, lambda *_: exit(3))
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("way", ["return", "signal"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_the_end_of_the_process_writes_the_last_file(tmp_path, method, way):
    context = multiprocessing.get_context(method)
    process = context.Process(target=_engine, args=(tmp_path, way))
    process.start()
    process.join(60)
    assert process.exitcode == (3 if way == "signal" else 0)
    assert read_steplog(tmp_path).complete


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"folder": "x", "row_max": 5}, "unknown key in step log 'row_max': did you mean 'rows_m"),
        ({}, "step log: folder is None; it must name a folder"),
        ({"folder": "x", "rows_max": 5}, "step log: rows_max is 5; it must be at least 100"),
        ({"folder": "x", "files_max": True}, "files_max is True; it must be at least 1"),
        ({"folder": "x", "files_max": "9"}, "files_max is '9'; it must be at least 1"),
        ({"folder": "x", "seconds_max": float("nan")}, "seconds_max is nan; it must be at least"),
        ({"folder": "x", "name": "../y"}, "step log: name is '../y'; it must be of letters"),
        ({"folder": "x", "name": 3}, "step log: name is 3; it must be a text"),
    ],
)
def test_settings_are_checked(given, sentence):
    with pytest.raises(UserError) as caught:
        LiveConfig.of(given)
    assert sentence in str(caught.value)


def test_settings_of_a_table(tmp_path):
    config = LiveConfig.of({"folder": str(tmp_path), "files_max": 7})
    assert config == LiveConfig(tmp_path, files_max=7)


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^step log: cannot make the folder .*; name one that"):
        opened(tmp_path / "file" / "log")
