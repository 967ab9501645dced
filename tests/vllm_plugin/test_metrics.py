"""Numbers of the engine core reach a registry of Prometheus' client in another process."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from sojourn.vllm import metrics as module
from sojourn.vllm import plugin
from sojourn.vllm.leftovers import remove_leftovers
from sojourn.vllm.metrics import (
    FAILURES_MAX,
    LABELS_MAX,
    METRICS,
    DecisionMetrics,
    FolderCollector,
    folder_in_force,
)


@pytest.fixture(autouse=True)
def _logger_in_force(monkeypatch):
    # import-linter, which another test calls in this process, disables every logger that exists.
    monkeypatch.setattr(module.logger, "disabled", False)


def shown(folder):
    """Return the samples that `/metrics` would show, by name and labels."""
    registry = CollectorRegistry()
    registry.register(FolderCollector(folder))
    lines = generate_latest(registry).decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def value(folder, name, **labels):
    every = {"engine": "0", "model_name": "m", **labels}
    inside = ",".join(f'{key}="{text}"' for key, text in sorted(every.items()))
    found = shown(folder).get(f"sojourn:{name}{{{inside}}}")
    return None if found is None else float(found)


def test_every_metric_reaches_the_registry(tmp_path):
    published = {
        f"{name}:here" if metric.label else name: number
        for number, (name, metric) in enumerate(METRICS.items(), 1)
    }
    DecisionMetrics(tmp_path, "m", 0).publish(published)
    for number, (name, metric) in enumerate(METRICS.items(), 1):
        labels = {metric.label: "here"} if metric.label else {}
        assert value(tmp_path, name, **labels) == number


def test_counters_and_gauges_are_told_apart(tmp_path):
    DecisionMetrics(tmp_path, "m", 0).publish({"drops_total": 1, "held_blocks": 2})
    registry = CollectorRegistry()
    registry.register(FolderCollector(tmp_path))
    text = generate_latest(registry).decode()
    assert "# TYPE sojourn:drops_total counter" in text
    assert "# TYPE sojourn:held_blocks gauge" in text
    assert f"# HELP sojourn:held_blocks {METRICS['held_blocks'].text}" in text


def test_the_files_are_those_of_prometheus_client(tmp_path):
    DecisionMetrics(tmp_path, "m", 3).publish({"shed_total:é": 4, "pauses_total": 2})
    (path,) = tmp_path.iterdir()
    rows = {key: number for key, number, *_ in MmapedDict.read_all_values_from_file(str(path))}
    text = METRICS["shed_total"].text
    labels = (["model_name", "engine", "reason"], ["m", "3", "é"])
    assert rows[mmap_key("sojourn:shed", "sojourn:shed_total", *labels, text)] == 4
    assert len(rows) == 2


def test_later_values_replace_earlier_ones_and_new_names_are_added(tmp_path):
    metrics = DecisionMetrics(tmp_path, "m", 0)
    for number in range(1, 30):
        metrics.publish({"drops_total": number, f"shed_total:reason {number}": 1, "held_blocks": 7})
        assert value(tmp_path, "drops_total") == number
        assert value(tmp_path, "shed_total", reason=f"reason {number}") == 1
    assert value(tmp_path, "held_blocks") == 7


def test_a_mode_that_is_left_is_0(tmp_path):
    metrics = DecisionMetrics(tmp_path, "m", 0)
    for mode in ("act", "shadow", "act"):
        metrics.publish({f"mode:{mode}": 1})
        assert value(tmp_path, "mode", mode=mode) == 1
        assert sum(float(v) for k, v in shown(tmp_path).items() if "mode=" in k) == 1


def test_engines_of_one_server_stand_side_by_side(tmp_path):
    for engine in range(2):
        DecisionMetrics(tmp_path, "m", engine).publish({"drops_total": engine + 1})
    assert value(tmp_path, "drops_total") == 1
    assert value(tmp_path, "drops_total", engine="1") == 2


def test_too_many_label_values_are_counted_together(tmp_path):
    metrics = DecisionMetrics(tmp_path, "m", 0)
    metrics.publish({f"shed_total:{number}": 1 for number in range(LABELS_MAX + 5)})
    assert len(shown(tmp_path)) == LABELS_MAX + 1
    assert value(tmp_path, "shed_total", reason="other") == 5
    metrics.publish({f"shed_total:{number}": 2 for number in range(LABELS_MAX + 5)})
    assert value(tmp_path, "shed_total", reason="other") == 10


def test_an_unknown_name_is_logged_once_and_the_rest_published(tmp_path, caplog):
    metrics = DecisionMetrics(tmp_path, "m", 0)
    metrics.publish({"drop_total": 1, "drops_total": 2})
    metrics.publish({"drop_total": 3, "drops_total": 4})
    assert value(tmp_path, "drops_total") == 4
    assert len(caplog.records) == 1


@pytest.mark.parametrize("wrong", ["text", {}, [1]])
def test_nothing_is_raised_for_what_is_no_number(tmp_path, wrong, caplog):
    metrics = DecisionMetrics(tmp_path, "m", 0)
    for _ in range(FAILURES_MAX + 2):
        metrics.publish({"drops_total": wrong})
        metrics.values.clear()
    assert metrics.failures == FAILURES_MAX
    assert len(caplog.records) == 1


def test_nothing_is_raised_where_nothing_can_be_written(tmp_path, caplog):
    (tmp_path / "file").write_text("", encoding="utf-8")
    metrics = DecisionMetrics(tmp_path / "file", "m", 0)
    for number in range(FAILURES_MAX + 2):
        metrics.publish({"drops_total": number})
    assert "no more metrics" in caplog.text


def test_a_full_disk_does_not_end_the_engine():
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    metrics = DecisionMetrics(Path("/tmp"), "m", 0)
    metrics.files["counter"].descriptor = os.open("/dev/full", os.O_RDWR)
    metrics.publish({"drops_total": 1})
    metrics.close()
    assert metrics.failures == 1


def test_a_failed_first_write_leaves_no_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "pwrite", full)
    DecisionMetrics(tmp_path, "m", 0).publish({"drops_total": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_removed_folder_comes_back_with_all_its_numbers(tmp_path):
    folder = tmp_path / "sojourn-metrics-1"
    metrics = DecisionMetrics(folder, "m", 0)
    metrics.publish({"drops_total": 1, "held_blocks": 2})
    shutil.rmtree(folder)
    metrics.publish({"drops_total": 3, "held_blocks": 2})
    assert value(folder, "drops_total") == 3
    assert value(folder, "held_blocks") == 2
    assert remove_leftovers(tmp_path) == 0
    metrics.close()


HOLDER = """
import sys, time
from pathlib import Path
from sojourn.vllm.metrics import DecisionMetrics
metrics = DecisionMetrics(Path(sys.argv[1]), "m", 0)
metrics.publish({"drops_total": 1})
print("there", flush=True)
time.sleep(60)
"""


def test_what_a_killed_engine_leaves_is_removed_by_the_next_server(tmp_path, monkeypatch):
    folder = tmp_path / "sojourn-metrics-1"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as engine:
        try:
            engine.stdout.readline()
            assert remove_leftovers(tmp_path) == 0
            assert value(folder, "drops_total") == 1
        finally:
            engine.kill()
    assert folder.exists()
    for name in ("sojourn-metrics-2", "others"):  # of another version, and of other programs
        (tmp_path / name).mkdir()
    monkeypatch.setattr(plugin, "_new_folder", lambda: tmp_path / "sojourn-metrics-3")
    monkeypatch.setattr(plugin, "_shown", [])
    monkeypatch.setenv(plugin.KEY_VARIABLE, "a key")
    monkeypatch.setenv("SOJOURN_METRICS_DIR", "")
    monkeypatch.setattr("prometheus_client.REGISTRY.register", lambda _: None)
    plugin._prepare()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["others", "sojourn-metrics-2"]


def test_a_folder_of_another_name_is_left_unmarked(tmp_path):
    DecisionMetrics(tmp_path, "m", 0).publish({"drops_total": 1})
    assert [path.suffix for path in tmp_path.iterdir()] == [".db"]


def test_no_folder_no_file(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.delenv("SOJOURN_METRICS_DIR", raising=False)
    assert folder_in_force() is None
    metrics = DecisionMetrics(None, "m", 0)
    metrics.publish({"drops_total": 1})
    assert metrics.failures == 0
    assert metrics.files["counter"].descriptor == -1


def test_where_vllm_joins_processes_the_files_go_into_its_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SOJOURN_METRICS_DIR", "/elsewhere")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert folder_in_force() == tmp_path
    DecisionMetrics(folder_in_force(), "m", 0).publish({"drops_total": 9})
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    assert b'sojourn:drops_total{engine="0",model_name="m"} 9.0' in generate_latest(registry)


def test_a_folder_that_is_not_there_or_broken_shows_nothing(tmp_path):
    assert shown(tmp_path / "none") == {}
    (tmp_path / "counter_1.db").write_bytes(b"\xff" * 40)
    assert shown(tmp_path) == {}


def test_publishing_takes_microseconds_in_a_step_of_milliseconds(tmp_path):
    metrics = DecisionMetrics(tmp_path, "m", 0)
    names = [f"{name}:x" if metric.label else name for name, metric in METRICS.items()]
    metrics.publish(dict.fromkeys(names, 0))
    began = time.thread_time()
    for number in range(500):
        metrics.publish(dict.fromkeys(names, number + 1))
    # Once a second: 0.2 ms would be 0.02 %.
    assert (time.thread_time() - began) / 500 < 200e-6


CHILD = """
import json, os, sys
from multiprocessing import get_context
from prometheus_client import REGISTRY, generate_latest
from sojourn.vllm import plugin
from sojourn.vllm.leftovers import remove_leftovers
from sojourn.vllm.metrics import DecisionMetrics, folder_in_force

def engine_core():
    plugin.register()
    DecisionMetrics(folder_in_force(), "m", 0).publish({"drops_total": 3})
    print(os.environ["SOJOURN_IDENTITY_KEY"], flush=True)

if __name__ == "__main__":
    plugin.register()
    plugin.register()
    process = get_context(sys.argv[1]).Process(target=engine_core)
    process.start()
    process.join()
    print(os.environ["SOJOURN_IDENTITY_KEY"])
    print(os.environ["SOJOURN_METRICS_DIR"])
    text = generate_latest(REGISTRY).decode()
    print([line for line in text.splitlines() if line.startswith("sojourn:")])
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_an_engine_core_below_an_api_server_shares_key_and_folder(tmp_path, method):
    script = tmp_path / "server.py"
    script.write_text(CHILD, encoding="utf-8")
    environment = {
        **{name: text for name, text in os.environ.items() if "PROMETHEUS" not in name},
        # As a server that another server's process starts would find them.
        "SOJOURN_IDENTITY_KEY": plugin.MADE_UP + "another servers",
        "SOJOURN_METRICS_DIR": str(tmp_path / "another servers"),
    }
    run = subprocess.run(
        [sys.executable, str(script), method],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    below, above, folder, lines = run.stdout.splitlines()
    assert below == above
    assert "another" not in above
    assert "another" not in folder
    assert not Path(folder).exists()
    assert lines == """['sojourn:drops_total{engine="0",model_name="m"} 3.0']"""


def test_a_users_key_is_kept(tmp_path):
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from sojourn.vllm import plugin; plugin.register(); print(plugin.identity_key())",
        ],
        env={**os.environ, "SOJOURN_IDENTITY_KEY": "ours"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stdout == "b'ours'\n"


def test_labels_are_json_whatever_the_model_is_called(tmp_path):
    name = 'a "quoted"\nmodel'
    DecisionMetrics(tmp_path, name, 0).publish({"drops_total": 1})
    (path,) = tmp_path.iterdir()
    ((key, *_),) = MmapedDict.read_all_values_from_file(str(path))
    assert json.loads(key)[2]["model_name"] == name
