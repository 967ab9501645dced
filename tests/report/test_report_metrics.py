import json
import pickle

import numpy as np
import pytest
from report_records import CLASSES, queue, record

from sojourn.report import measure, summarise
from sojourn.report.fairness import max_gap_tokens
from sojourn.report.served import CAUSES, causes, served
from sojourn.steplog.record import CANCELLED, SHED, UNFINISHED, SloClass

KEYS = [
    "recipe", "load", "deployable", "requests", "finished", "shed", "goodput_rps",
    "goodput_interval", "slo_attainment", "throughput_tps", "ttft_seconds", "tpot_seconds",
    "e2e_seconds", "queue_seconds", "stream_gap_seconds", "preemptions", "recomputed_tokens",
    "kv_use_mean", "prefix_hit_share", "fairness_max_gap_tokens", "steps", "simulated_seconds",
    "timing",
]  # fmt: skip


def done(arrival, admitted, first, finish, tokens, **more):
    return {
        "arrival": arrival, "admitted": admitted, "first_token": first, "finish": finish,
        "output_tokens": tokens, **more,
    }  # fmt: skip


SMALL = [
    done(10.0, 10.0, 10.5, 11.5, 11, gap=0.25, cached_tokens=50),  # meets all: TPOT 0.1 exactly
    done(11.0, 12.5, 13.0, 13.5, 11),  # TTFT 2 s: missed, in the queue
    done(12.0, 12.0, 12.25, 14.25, 11, gap=1.5, preemptions=2, recomputed_tokens=40),  # TPOT 0.2
    {"arrival": 13.0, "outcome": SHED, "reason": 0},
    done(14.0, 14.0, 15.0, 15.0, 1),  # TTFT 1 s exactly: met; no TPOT
]
STEPS = [
    {"start": 10.0, "duration": 1.0, "prefill_tokens": 100, "prompts": 1, "kv_used": 10},
    {"start": 11.0, "duration": 2.0, "steps": 20, "decodes": 3, "kv_used": 40, "paused": 1},
    {"start": 13.0, "duration": 1.0, "prefill_tokens": 60, "prompts": 1, "decodes": 2,
     "kv_used": 90, "waiting": 2},
]  # fmt: skip


def small():
    return record(
        SMALL, STEPS, reasons=("too late",), decisions=4, decision_seconds=1e-5, wall_seconds=0.5
    )


def test_row_has_the_promised_keys_first_and_is_strict_json():
    row = measure(small()).to_json()
    assert list(row)[: len(KEYS)] == KEYS
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row["timing"] == {"wall_seconds": 0.5, "decision_microseconds_mean": 2.5}


def test_row_by_hand():
    row = measure(small())
    assert (row.requests, row.finished, row.shed, row.cancelled, row.unfinished) == (5, 4, 1, 0, 0)
    # Four gaps between five arrivals in 4 s: 1 req/s offered, of which 2 of 5 met their SLOs.
    assert row.offered_rps == pytest.approx(1.0)
    assert row.goodput_rps == pytest.approx(0.4)
    low, high = row.goodput_interval
    assert 0.0 <= low <= 0.4 <= high <= 1.0
    assert row.slo_attainment == {"all": pytest.approx(0.4)}
    assert row.throughput_tps == pytest.approx(34 / 5.0)
    assert row.ttft_seconds.mean == pytest.approx((0.5 + 2.0 + 0.25 + 1.0) / 4)
    assert row.ttft_seconds.p90 == pytest.approx(np.quantile([0.5, 2.0, 0.25, 1.0], 0.9))
    assert row.tpot_seconds.mean == pytest.approx((0.1 + 0.05 + 0.2) / 3)
    assert row.e2e_seconds.p50 == pytest.approx(np.median([1.5, 2.5, 2.25, 1.0]))
    assert row.queue_seconds.mean == pytest.approx(1.5 / 4)
    assert row.stream_gap_seconds_p99 == pytest.approx(np.quantile([0.25, 0.0, 1.5], 0.99))
    assert (row.preemptions, row.recomputed_tokens, row.steps) == (2, 40, 22)
    assert row.kv_use_mean == pytest.approx((10 + 2 * 40 + 90) / 400)
    assert row.prefix_hit_share == pytest.approx(50 / 400)
    assert row.fairness_max_gap_tokens is None
    assert row.simulated_seconds == pytest.approx(5.0)
    assert row.shed_reasons == {"too late": 1}


def test_engine_time_by_hand():
    engine = measure(small()).engine
    assert engine.prefill_seconds == pytest.approx(1.0)
    assert engine.decode_seconds == pytest.approx(2.0)
    assert engine.mixed_seconds == pytest.approx(1.0)
    assert engine.idle_seconds == pytest.approx(1.0)
    assert engine.recomputed_share == pytest.approx(40 / 160)
    assert engine.queue_share == pytest.approx(1.5 / 7.25)
    assert engine.paused_share == pytest.approx(2.0 / 7.25)
    assert engine.prefilling_share == pytest.approx(0.5)
    assert engine.idle_share == pytest.approx(0.2)


def test_each_missed_request_has_one_cause():
    facts = served(small())
    counts = causes(small(), facts)
    assert tuple(counts) == CAUSES
    assert {name: n for name, n in counts.items() if n} == {
        "shed": 1, "queueing": 1, "recomputed": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        (done(0, 0.2, 3.0, 3.5, 11), "prefill"),
        (done(0, 0, 0.5, 9.5, 11, preemptions=1), "paused"),
        (done(0, 0, 0.5, 9.5, 11), "slow stream"),
        ({"arrival": 0.0, "outcome": UNFINISHED}, "unfinished"),
        ({"arrival": 0.0, "outcome": CANCELLED}, "unfinished"),
    ],
)
def test_cause(row, cause):
    made = record([row])
    assert causes(made, served(made))[cause] == 1


def test_requests_that_never_got_a_seat_count_in_the_queueing_time():
    made = record([done(0, 0, 1, 10, 5), {"arrival": 4.0, "outcome": UNFINISHED}])
    row = measure(made)
    assert row.queue_seconds.mean == pytest.approx((0 + 6) / 2)
    assert (row.finished, row.unfinished) == (1, 1)


def test_rows_that_never_arrived_are_not_counted():
    made = record([done(0, 0, 1, 2, 5), {"arrival": -1.0, "outcome": UNFINISHED}])
    assert measure(made).requests == 1


def test_without_slo_a_finished_request_counts():
    made = record(
        [done(0, 0, 9, 90, 5), done(1, 1, 9, 90, 5), {"arrival": 2.0, "outcome": SHED}],
        classes=(SloClass("any"),),
    )
    assert measure(made).goodput_rps == pytest.approx(2 / 3 * 1.0)
    indexless = record([done(0, 0, 9, 90, 5, slo_class=-1)], classes=())
    assert measure(indexless).goodput_rps == pytest.approx(1 / 90)


def test_empty_record_has_none_everywhere_and_no_nan():
    row = measure(record())
    json.dumps(row.to_json(), allow_nan=False)
    assert row.goodput_rps is None
    assert row.goodput_interval is None
    assert row.slo_attainment == {"all": None}
    assert row.kv_use_mean is None
    assert row.ttft_seconds.mean is None
    assert summarise(record()).curves["ttft"].size == 0


def test_a_slow_recipe_does_not_shrink_its_denominator():
    quick = [done(t, t, t + 0.1, t + 0.5, 11) for t in range(10)]
    slow = [*quick[:-1], done(9, 9, 9.1, 500.0, 11)]
    assert measure(record(slow)).goodput_rps == pytest.approx(0.9)
    assert measure(record(quick)).goodput_rps == pytest.approx(1.0)


def test_all_at_once_falls_back_to_the_makespan():
    made = record([done(0, 0, 0.5, 1.0, 11), done(0, 0, 0.5, 4.0, 2)], classes=(SloClass("a"),))
    assert measure(made).goodput_rps == pytest.approx(2 / 4.0)


def test_fairness_by_hand():
    waiting = {"arrival": 0.0, "admitted": 10.0, "first_token": 11.0, "finish": 12.0,
               "output_tokens": 5}  # fmt: skip
    served_one = done(0.0, 0.0, 1.0, 5.0, 50)
    rows = [{**waiting, "tenant": 0}, {**waiting, "tenant": 1}, {**served_one, "tenant": 0}]
    made = record(rows, tenants=("a", "b"))
    # While both wait, a receives 100 prompt tokens and 2 × 50 output tokens, b nothing.
    assert max_gap_tokens(made, served(made)) == pytest.approx(200.0)


def test_fairness_credits_output_evenly_and_only_while_both_wait():
    rows = [
        {**done(0.0, 3.0, 20.0, 20.0, 1), "tenant": 0, "prompt_tokens": 0},
        {**done(0.0, 10.0, 20.0, 20.0, 1), "tenant": 1, "prompt_tokens": 0},
        {**done(0.0, 0.0, 0.0, 4.0, 400), "tenant": 0, "prompt_tokens": 0},
    ]
    made = record(rows, tenants=("a", "b"))
    # Both wait for 3 s, in which a receives three quarters of 800; one cell of 10 ms may be lost.
    assert max_gap_tokens(made, served(made)) == pytest.approx(600.0, abs=200 * 20 / 1999)


def test_fairness_stops_where_the_common_backlog_stops():
    rows = [
        {**done(0.0, 10.0, 12.0, 12.0, 1), "tenant": 0},
        {**done(0.0, 10.0, 12.0, 12.0, 1), "tenant": 1},
        {**done(0.0, 0.0, 10.0, 12.0, 1), "tenant": 0, "prompt_tokens": 5_000},
    ]
    made = record(rows, tenants=("a", "b"))
    assert max_gap_tokens(made, served(made)) == 0.0


def test_fairness_is_none_for_one_tenant_and_zero_without_common_backlog():
    lone = record(SMALL)
    assert max_gap_tokens(lone, served(lone)) is None
    apart = record([done(0, 1, 2, 3, 2), done(5, 6, 7, 8, 2, tenant=1)], tenants=("a", "b"))
    assert max_gap_tokens(apart, served(apart)) == 0.0


def test_fairness_bounds_the_tenants_it_compares():
    made = queue(n=3_000, tenants=("a", "b"))
    made.requests.tenant = np.arange(3_000, dtype=np.int64) % 500
    made.tenants = tuple(f"t{i}" for i in range(500))
    assert max_gap_tokens(made, served(made)) >= 0.0
    summary = summarise(made)
    assert len(summary.tenants) == 64
    assert summary.rest.name == "436 smaller tenants"
    assert summary.rest.requests + sum(one.requests for one in summary.tenants) == 3_000
    received = [one.service_tokens for one in summary.tenants]
    assert received == sorted(received, reverse=True)


def test_percentiles_agree_with_numpy_on_a_large_run():
    made = queue(n=2_000)
    row = measure(made)
    ttft = (made.requests.first_token - made.requests.arrival) / 1e12
    assert row.ttft_seconds.p99 == pytest.approx(np.quantile(ttft, 0.99))
    interactive = made.requests.slo_class == 0
    tpot = (made.requests.finish - made.requests.first_token) / 1e12
    tpot /= made.requests.output_tokens - 1
    met = (ttft <= 0.5) & (tpot <= 0.05)
    assert row.slo_attainment["interactive"] == pytest.approx(met[interactive].mean())
    assert [one.name for one in CLASSES] == list(row.slo_attainment)


def test_series_by_hand():
    rows = [{"arrival": 2.0, "outcome": UNFINISHED}, done(2.0, 2.0, 3.0, 14.0, 5)]
    long = {"start": 2.0, "duration": 6.0, "waiting": 4, "decodes": 3, "kv_used": 50}
    series = summarise(record(rows, [long])).series
    assert series.bin_seconds == pytest.approx(12.0 / 600)
    np.testing.assert_allclose(series.waiting, np.repeat([4.0, 0.0], 300), atol=1e-9)
    np.testing.assert_allclose(series.kv_use, np.repeat([0.5, 0.0], 300), atol=1e-9)
    np.testing.assert_allclose(series.running, np.repeat([3.0, 0.0], 300), atol=1e-9)


def test_summary_is_compact_and_picklable():
    made = queue(n=5_000, replicas=2)
    summary = summarise(made, seed=3)
    assert len(pickle.dumps(summary)) < 120_000
    again = pickle.loads(pickle.dumps(summary))
    assert again.row == summary.row
    assert all(curve.size <= 400 for curve in summary.curves.values())
    assert summary.series.kv_use.size == 600
    assert summary.series.kv_use.max() <= 1.0
    # The mean over the series is the time integral of the rows over the span.
    steps = made.steps
    area = float((steps.waiting * (steps.duration / 1e12)).sum())
    span = summary.series.bin_seconds * 600
    assert summary.series.waiting.mean() * span == pytest.approx(area, rel=1e-3)
    assert {one.name: one.requests for one in summary.tenants}.keys() == {"acme", "globex"}
    assert sum(one.requests for one in summary.classes) == 5_000


def test_replicas_that_never_ran_stand_idle():
    made = queue(n=50, rate=0.5)
    alone = measure(made).engine
    made.notes["replicas"] = 4
    four = measure(made).engine
    busy = four.decode_seconds + four.prefill_seconds + four.mixed_seconds
    assert busy == alone.decode_seconds + alone.prefill_seconds + alone.mixed_seconds
    assert busy + four.idle_seconds == pytest.approx(4 * (busy + alone.idle_seconds))
