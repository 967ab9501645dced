"""`sojourn report` of runs whose goodput would mislead."""

from __future__ import annotations

import json

import pytest
from command_line import run

from tests.steplog.live_runs import MILLISECOND, decode, ended, opened


def report_of(folder, capsys, *arrivals):
    """Return the report's text and row of requests that came at these milliseconds."""
    log = opened(folder / "logs")
    for number, arrival in enumerate(arrivals):
        decode(log, 100 * number, context=0)
        times = {"arrival": arrival, "admitted": arrival + 1, "first_token": arrival + 2}
        times["finish"] = 1000 + number
        log.request(ended(number)._replace(**{k: v * MILLISECOND for k, v in times.items()}))
    log.close()
    done = run(capsys, "report", folder / "logs", "--json", folder / "r.json")
    assert (done.code, done.err) == (0, "")
    return done.out, json.loads((folder / "r.json").read_text())["results"][0]


def test_the_goodput_of_a_burst_is_per_second_of_the_run(tmp_path, capsys):
    text, row = report_of(tmp_path, capsys, 0, 1, 2, 3, 4)
    assert row["goodput_rps"] == pytest.approx(5 / 1.004)
    flat = " ".join(text.split())
    assert (
        "All 5 requests came within 4.00 ms: goodput is per second of the whole 1.00 s, in which "
        "they were served."
    ) in flat


def test_the_goodput_of_a_stream_is_per_second_of_its_arrivals(tmp_path, capsys):
    text, row = report_of(tmp_path, capsys, 0, 100, 200, 300, 400)
    assert row["goodput_rps"] == pytest.approx(10)
    assert "goodput is per second" not in text


def test_one_request_is_no_burst(tmp_path, capsys):
    text, row = report_of(tmp_path, capsys, 0)
    assert row["goodput_rps"] == pytest.approx(1)
    assert text.startswith(
        "Verdict: recipe slo-edf in vLLM 0.32.0 met the SLOs of 100 % of 1 request.\n"
    )
    assert "goodput is per second" not in text
