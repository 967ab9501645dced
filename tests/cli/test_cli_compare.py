from __future__ import annotations

import json
import signal
import time

import pytest
from command_line import CLASSES, ENGINE, run, start, without_timing

from sojourn.sim import study

KEYS = [
    *("schema", "trace", "model", "gpu", "seed", "limits", "capacity_rps", "notes", "verdict"),
    "results",
]
LIMITS = {
    "tensor_parallel_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "block_size",
    "num_gpu_blocks",
    "kv_cache_tokens",
    "gpu_memory_utilization",
    "enable_prefix_caching",
    "replicas",
    "route",
    "host",
    "swap_space_gib",
    "cost",
}


def test_the_main_job_writes_verdict_table_and_three_files(tmp_path, capsys):
    recipes = "vllm,vllm-v0,fastserve,slo-edf,vtc,srpt-clairvoyant,worst"
    files = [tmp_path / name for name in ("out.json", "out.html", "out.perfetto.json")]
    outputs = zip(("--json", "--html", "--timeline"), files, strict=True)
    done = run(
        capsys,
        *("compare", "sample", *ENGINE, *CLASSES, "--limit", 300, "--recipes", recipes),
        *("--load", "0.7,0.9,1.1", "--seed", 1),
        *(word for pair in outputs for word in pair),
    )
    assert done.code == 0
    assert done.out.startswith("Verdict: ")
    assert "the capacity of vllm is " in done.err
    document = json.loads(files[0].read_text())
    assert list(document) == KEYS
    assert document["schema"] == "sojourn/compare/1"
    assert document["seed"] == 1
    assert document["limits"].keys() >= LIMITS
    assert all(f"{name} " in done.out for name in LIMITS)
    assert f"Capacity of vllm: {document['capacity_rps']:.4g} req/s" in done.out
    rows = [(row["load"], row["recipe"]) for row in document["results"]]
    assert rows == [(load, name) for load in (0.7, 0.9, 1.1) for name in recipes.split(",")]
    for row in document["results"]:
        # An offered rate is the load's share of the capacity, but for the gap after the last.
        assert row["offered_rps"] == pytest.approx(row["load"] * document["capacity_rps"], rel=0.01)
    assert files[1].read_text().startswith("<!doctype html>")
    assert json.loads(files[2].read_text())["traceEvents"]
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_same_seed_same_bytes_whatever_the_hash_seed_and_the_processes(tmp_path):
    processes = []
    for place in (1, 2):
        folder = tmp_path / str(place)
        folder.mkdir()
        words = ("--json", folder / "out.json", "--timeline", folder / "out.perfetto.json")
        few = ("--limit", 100, "--recipes", "vllm,fastserve,vtc", "--load", "1", "--seed", 7)
        processes.append(
            start(
                *("compare", "sample", *ENGINE, *CLASSES, *few, *words, "--jobs", place),
                PYTHONHASHSEED=str(place - 1),
            )
        )
    for process in processes:
        assert process.communicate()[1].count("note:") >= 1
        assert process.returncode == 0
    first, second = (
        json.dumps(without_timing(json.loads((tmp_path / place / "out.json").read_text())))
        for place in ("1", "2")
    )
    assert first == second
    first, second = ((tmp_path / place / "out.perfetto.json").read_bytes() for place in ("1", "2"))
    assert first == second


def test_rate_scales_need_no_capacity(tmp_path, capsys):
    target = tmp_path / "out.json"
    words = ("compare", "sample", *ENGINE, "--limit", 50, "--recipes", "vllm,vtc", "--json", target)
    assert run(capsys, *words, "--rate-scale", "1").code == 0
    document = json.loads(target.read_text())
    assert document["capacity_rps"] is None
    assert [row["load"] for row in document["results"]] == [None, None]
    assert run(capsys, *words, "--rate-scale", "1,2").code == 0
    document = json.loads(target.read_text())
    assert [row["load"] for row in document["results"]] == [1.0, 1.0, 2.0, 2.0]
    assert document["limits"]["loads_are"] == "factors on the trace's own rate"
    assert document["limits"]["rate_scales"] == [1.0, 2.0]


def test_the_engine_can_be_described_by_coefficients_alone(tmp_path, capsys):
    cost = tmp_path / "cost.toml"
    cost.write_text("fixed = 0.005\nprefill_token = 2e-5\ndecode = 1e-5\ncontext_token = 4e-9\n")
    words = ("compare", "sample", "--model", "llama-3.1-8b", "--cost", cost, "--limit", 50)
    more = ("--recipes", "vllm", "--rate-scale", "1", "--num-gpu-blocks-override", 2000)
    done = run(capsys, *words, *more)
    assert done.code == 0
    assert "num_gpu_blocks 2000" in done.out
    assert "kv_cache_tokens 31984" in done.out
    assert "max_model_len is cut from 131072 to 31984" in done.err
    assert "cost fitted: cost.toml" in done.out


def test_long_prompts_are_shed_with_a_reason_and_the_run_goes_on(tmp_path, capsys):
    target = tmp_path / "out.json"
    words = ("compare", "sample", *ENGINE, "--limit", 100, "--recipes", "vllm", "--rate-scale", 1)
    done = run(capsys, *words, "--max-model-len", 2000, "--json", target)
    assert done.code == 0
    row = json.loads(target.read_text())["results"][0]
    assert 0 < row["shed"] < 100
    assert row["shed_reasons"] == {"prompt longer than max_model_len": row["shed"]}
    assert f"note: {row['shed']} of 100 prompts do not fit in max_model_len" in done.err


def test_replicas_routers_and_hosts_are_passed_on(capsys):
    words = ("compare", "sample", *ENGINE, "--limit", 60, "--rate-scale", 20, "--quiet")
    more = ("--recipes", "vllm,fastserve", "--replicas", 3, "--route", "least_load")
    done = run(capsys, *words, *more, "--host", "ideal", "--swap-space", 8)
    assert done.code == 0
    assert not done.err
    for text in ("replicas 3", "route least_load", "host ideal", "swap_space_gib 8"):
        assert text in done.out


def test_parameters_reach_the_recipes_that_have_them(tmp_path, capsys):
    target = tmp_path / "out.json"
    words = ("compare", "sample", *ENGINE, "--limit", 300, "--rate-scale", 30, "--json", target)
    more = ("--recipes", "vllm,fastserve", "--max-num-seqs", 8)
    run(capsys, *words, *more)
    before = json.loads(target.read_text())["results"]
    run(capsys, *words, *more, "--param", "order.quantum_base_seconds=100")
    document = json.loads(target.read_text())
    assert document["limits"]["param"] == ["order.quantum_base_seconds=100"]
    assert without_timing(document["results"][0]) == without_timing(before[0])
    assert document["results"][1]["preemptions"] < before[1]["preemptions"]


def test_an_interrupted_study_reports_what_had_ended(tmp_path, capsys, monkeypatch):
    ended = []

    def run_two(*words, **more):
        if len(ended) == 2:
            raise KeyboardInterrupt
        ended.append(words)
        return run_task(*words, **more)

    run_task = study.run_task
    monkeypatch.setattr(study, "run_task", run_two)
    target, page, line = tmp_path / "out.json", tmp_path / "out.html", tmp_path / "line.json"
    words = ("compare", "sample", *ENGINE, "--limit", 30, "--recipes", "vllm,vtc,worst")
    files = ("--json", target, "--html", page, "--timeline", line)
    done = run(capsys, *words, "--rate-scale", "1", "--jobs", 1, *files)
    assert done.code == 130
    assert "interrupted: 2 runs had ended and are reported" in done.err
    document = json.loads(target.read_text())
    assert document["complete"] is False
    assert [row["recipe"] for row in document["results"]] == ["vllm", "vtc"]
    assert page.is_file()
    assert not line.exists()


def test_ctrl_c_writes_what_had_ended(tmp_path):
    target = tmp_path / "out.json"
    rates = ",".join(str(1 + place / 1000) for place in range(2000))
    words = ("compare", "sample", *ENGINE, "--limit", 100, "--recipes", "vllm", "--jobs", 1)
    process = start(*words, "--rate-scale", rates, "--json", target)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("note: ")
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    document = json.loads(target.read_text())
    assert document["complete"] is False
    assert 1 <= len(document["results"]) < 2000
    assert out.startswith("Verdict: ")
    assert list(tmp_path.iterdir()) == [target]


def test_what_vllms_server_would_start_with_is_in_every_output(tmp_path, capsys):
    target, page = tmp_path / "out.json", tmp_path / "out.html"
    words = ("compare", "sample", *ENGINE, "--limit", 30, "--recipes", "vllm", "--rate-scale", 1)
    done = run(capsys, *words, "--json", target, "--html", page, "--quiet")
    assert not done.err
    notes = json.loads(target.read_text())["notes"]
    assert any("vLLM's server starts with 1024 seats and 8192 tokens" in one for one in notes)
    assert "vLLM&#x27;s server starts with 1024 seats" in page.read_text()


def test_idle_replicas_count_and_rates_are_named(tmp_path, capsys):
    target = tmp_path / "out.json"
    words = ("compare", "sample", *ENGINE, "--limit", 2, "--recipes", "vllm", "--json", target)
    shares = []
    for replicas in (1, 8):
        done = run(capsys, *words, "--rate-scale", "2", "--replicas", replicas)
        row = json.loads(target.read_text())["results"][0]
        assert (row["load"], row["rate_scale"]) == (2.0, 2.0)
        time = row["engine_time"]
        busy = time["decode_seconds"] + time["prefill_seconds"] + time["mixed_seconds"]
        shares.append((busy + time["idle_seconds"]) / row["simulated_seconds"])
        assert "at rate 2×" in done.out
        assert "at load" not in done.out
    assert shares == pytest.approx([1.0, 8.0])
