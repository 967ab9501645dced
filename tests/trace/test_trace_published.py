"""Our numbers against those published beside the project's data, where that is at hand."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sojourn.errors import UserError
from sojourn.trace import (
    GenerateSpec,
    ServegenSpec,
    describe_trace,
    generate_trace,
    read_trace,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
NOT_COMPARED = {
    "trace",
    "other",
    "of_which_first_seen_in_other_session",  # not a statistic of ours
}
# The file's arrivals are synthetic, so the table gives none; its pauses are of tools only.
AGENT_ONLY = {"span_s", "rate_rps", "cv_iat", "idc_1s", "idc_10s", "idc_60s", "peak_to_mean_60s"}
PAUSES = {"tool_s_p50", "tool_s_p90", "tool_s_p99", "tool_s_mean"}

pytestmark = pytest.mark.skipif(
    not (DATA / "STATS.csv").exists(), reason="the shared data folder is not beside the repository"
)


def published():
    if not (DATA / "STATS.csv").exists():
        return []
    with (DATA / "STATS.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return [row for row in rows if path_of(row["trace"]).exists()]


def path_of(name):
    return DATA / ("" if "/" in name else "traces") / f"{name}.parquet"


@pytest.mark.parametrize("row", published(), ids=lambda row: row["trace"])
def test_statistics_equal_the_published_ones(row):
    stats = describe_trace(read_trace(path_of(row["trace"])))
    skipped = AGENT_ONLY | PAUSES if row["trace"] == "agent_claudecode" else set()
    compared = 0
    for key, text in row.items():
        if key in NOT_COMPARED | skipped:
            continue
        if text == "":
            assert stats[key] is None, key
            continue
        decimals = len(text.partition(".")[2])
        assert stats[key] == pytest.approx(float(text), abs=0.5001 * 10**-decimals), key
        compared += 1
    assert compared >= 7


def test_the_clock_of_mooncake_is_seen():
    stats = describe_trace(read_trace(path_of("mooncake_conversation")))
    assert stats["arrival_tick_s"] == 3.0
    assert describe_trace(read_trace(path_of("azure23_conv")))["arrival_tick_s"] is None


def test_files_that_are_no_traces_are_refused():
    with pytest.raises(UserError, match="missing columns prompt_tokens, output_tokens; found: se"):
        read_trace(path_of("agent_claudecode_b64"))


def servegen(model, **more):
    folder = DATA / "clients"
    return ServegenSpec(
        windows=str(folder / "servegen_client_windows.parquet"),
        quantiles=str(folder / "servegen_token_quantiles.parquet"),
        model=model,
        **more,
    )


@pytest.mark.parametrize(
    ("model", "file"),
    [("deepseek-r1", "servegen_deepseek_r1"), ("mm-image", "servegen_mm_image")],
)
def test_servegen_sampling_is_like_the_sampled_trace(model, file):
    spec = GenerateSpec(
        servegen=servegen(model, start_seconds=36_000), duration_seconds=3600, seed=5
    )
    ours = describe_trace(generate_trace(spec))
    theirs = describe_trace(read_trace(path_of(file)))
    assert ours["tenants"] == theirs["tenants"]
    for key, tolerance in {
        "rate_rps": 0.06,
        "cv_iat": 0.06,
        "idc_1s": 0.15,
        "prompt_mean": 0.05,
        "prompt_p50": 0.08,
        "output_mean": 0.08,
        "top_tenant_share": 0.1,
    }.items():
        assert ours[key] == pytest.approx(theirs[key], rel=tolerance), key


def test_servegen_scales_and_says_which_clients_it_cannot_sample():
    window = servegen("m-large", start_seconds=122_400, rate_rps=7.0)
    trace = generate_trace(GenerateSpec(servegen=window, duration_seconds=1200))
    assert len(trace) / 1200 == pytest.approx(7.0, rel=0.06)
    assert trace.models == ("m-large",)
    assert trace.arrival_seconds[0] < 10
    assert 1190 < trace.arrival_seconds[-1] < 1200
    assert trace.notices[0].startswith("14 clients without length tables left out: 4")
    with pytest.raises(UserError, match="unknown ServeGen model 'm-larg': did you mean 'm-large'"):
        generate_trace(GenerateSpec(servegen=servegen("m-larg"), duration_seconds=60))
    with pytest.raises(UserError, match="mm-image has no window from 9e\\+08 s"):
        generate_trace(
            GenerateSpec(servegen=servegen("mm-image", start_seconds=9e8), duration_seconds=60)
        )
