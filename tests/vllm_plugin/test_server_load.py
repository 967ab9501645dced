"""Load tools by others against `sojourn serve`, and the end of a server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_server_clients import settled
from vllm_server import CPU

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 150
REQUESTS = 60


def run(*words):
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, **CPU},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_vllms_own_benchmark(pair, tiny, tmp_path):
    server, out = pair.ours, tmp_path / "bench.json"
    run(
        *(sys.executable, "-m", "benchmarks.vllm_bench", "--base-url", server.url),
        *("--model", "tiny", "--tokenizer", str(tiny.model), "--dataset-name", "random"),
        *("--random-input-len", "100", "--random-output-len", "30", "--seed", "1"),
        *("--num-prompts", str(REQUESTS), "--request-rate", "20", "--ignore-eos"),
        *("--save-result", "--result-filename", str(out)),
    )
    result = json.loads(out.read_text())
    assert (result["completed"], result["failed"]) == (REQUESTS, 0)
    assert result["total_output_tokens"] == REQUESTS * 30
    assert settled(server)


def test_guidellm(pair, tiny, tmp_path):
    program = shutil.which("guidellm")
    if program is None:
        pytest.skip("guidellm is not on the PATH; install it in an environment of its own")
    server, out = pair.ours, tmp_path / "guidellm.json"
    run(
        *(program, "run", "--backend", f"kind=openai_http,target={server.url},model=tiny"),
        *("--profile", "kind=poisson,rate=10"),
        *("--constraint", f"kind=max_requests,count={REQUESTS}"),
        *("--tokenizer", f"kind=hf_auto,model={tiny.model}"),
        *("--data", "kind=synthetic_text,prompt_tokens=100,output_tokens=30"),
        *("--disable-console", "--output", f"kind=json,path={out}"),
    )
    (benchmark,) = json.loads(out.read_text())["benchmarks"]
    totals = benchmark["metrics"]["request_totals"]
    assert (totals["successful"], totals["errored"]) == (REQUESTS, 0)
    assert settled(server)


def test_signals_and_exit_code_are_vllms(server):
    ours = server("vtc").wait()
    ours.process.send_signal(signal.SIGTERM)
    assert ours.process.wait(30) == 0
    refused = server("vtc", "--no-such-flag")
    assert refused.process.wait(60) == 2
    assert "unrecognized arguments: --no-such-flag" in refused.tail()
