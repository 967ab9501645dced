"""Rows, intervals and the verdict, on records made by hand."""

from dataclasses import replace

import pytest

from sojourn.report.rollouts import judge, seed_row, summarise
from sojourn.report.rollouts_html import render_rollouts
from sojourn.report.seeds import distance, estimate, paired_ratio, quantiles, student
from sojourn.steplog.rollouts import RolloutRecord, StepRow

ROW = StepRow(
    step=1,
    start_seconds=0.0,
    seconds=10.0,
    waiting_seconds=6.0,
    groups=8,
    replayed=0,
    mixed=6,
    rollouts=64,
    tokens=6400,
    stale_tokens=640,
    lag_tokens=640,
    lag_versions_max=1,
    filtered=2,
    discarded=0,
    filtered_mixed=0,
    submitted=80,
    generated=8000,
    discarded_tokens=600,
    carried_tokens=1000,
    success=0.5,
    busy_share=0.5,
)


LEDGER = {"generated": 24, "trained": 20, "discarded": 1, "carried": 2, "in_flight": 1}


def record(name, seconds, seed=0, role="candidate", mixed=6, lengths=(10, 20, 30)):
    steps = [
        replace(
            ROW,
            step=at + 1,
            seconds=seconds,
            mixed=mixed,
            generated=8000 * (at + 1),
            discarded_tokens=600 * (at + 1),
        )
        for at in range(3)
    ]
    return RolloutRecord(
        name,
        seed,
        role,
        True,
        1,
        steps,
        trained_lengths=list(lengths),
        offered_lengths=[10, 20, 30],
        tokens=LEDGER,
    )


def study(*pairs):
    return [
        record(name, seconds, seed) for name, times in pairs for seed, seconds in enumerate(times)
    ]


def test_what_is_clearly_less_is_said_to_be():
    rows = summarise(study(("sync", (10, 11, 12)), ("slow", (20, 22, 24))), "sync")
    (reason,) = judge(rows, "sync").reasons
    assert "slow: 0.50×" in reason
    assert "clearly less than the baseline" in reason
    assert "not clearly more" not in reason


def test_a_row_counts_what_comes_after_the_warm_up():
    row = seed_row(record("a", 10.0))
    assert row.step_seconds == 10.0
    assert row.waiting_share == pytest.approx(0.6)
    assert row.groups_per_second == pytest.approx(0.8)
    assert row.effective_per_second == pytest.approx(0.6)
    assert row.effective_ratio == pytest.approx(0.6)
    assert row.rollouts_per_effective == pytest.approx(160 / 12)
    assert row.tokens_per_second == pytest.approx(800.0)
    assert (row.generated, row.trained, row.carried, row.discarded) == (24, 20, 3, 1)
    assert row.stale_share == pytest.approx(0.1)
    assert row.lag_versions == pytest.approx(0.1)


def test_the_distance_of_lengths_is_that_of_kolmogorov_and_smirnov():
    assert distance([1, 2, 3], [1, 2, 3]) == 0.0
    assert distance([1, 2], [3, 4]) == 1.0
    assert distance([1, 2, 3, 4], [3, 4, 5, 6]) == pytest.approx(0.5)
    assert distance([], [1]) == 0.0


def test_intervals_are_student_s():
    assert student(4) == pytest.approx(2.776)
    assert student(9) == pytest.approx(2.262, abs=0.01)
    assert student(29) == pytest.approx(2.045, abs=0.002)
    found = estimate([1.0, 2.0, 3.0])
    assert found.interval == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5))
    assert estimate([1.0, 3.0]).interval[0] < 0.0 < estimate([1.0, 3.0]).interval[1]
    assert estimate([1.0, 3.0], least=0.0).interval[0] == 0.0
    assert estimate([1.0]).interval is None
    assert estimate([None]) is None


def test_a_paired_ratio_does_not_see_what_seeds_have_in_common():
    found = paired_ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0])
    assert found.mean == pytest.approx(2.0)
    assert found.interval == pytest.approx((2.0, 2.0))
    assert paired_ratio([0.0], [1.0]) is None


def test_a_clear_gain_is_recommended():
    rows = summarise(study(("sync", (10, 11, 12)), ("fast", (7, 8, 8.5))), "sync")
    verdict = judge(rows, "sync")
    assert verdict.recommended == "fast"
    assert verdict.overall.startswith("use fast: 1.4")
    assert "10 % of trained tokens from older weights: correct for it" in verdict.text


@pytest.mark.parametrize("times", [(9.9, 10.9, 12.4), (9.95, 10.95, 11.95)])
def test_no_clear_gain_keeps_the_baseline(times):
    rows = summarise(study(("sync", (10, 11, 12)), ("other", times)), "sync")
    verdict = judge(rows, "sync")
    assert verdict.recommended == "sync"
    assert verdict.overall.startswith(
        "keep sync: by groups with a signal per second, none is clearly"
    )


def test_a_candidate_that_trains_other_lengths_is_not_recommended():
    short = [record("short", 5.0 + seed, seed, lengths=(10, 11, 12)) for seed in range(3)]
    rows = summarise(study(("sync", (10, 11, 12))) + short, "sync")
    verdict = judge(rows, "sync")
    assert verdict.recommended == "sync"
    assert "it trains other lengths than are offered" in verdict.text


def test_a_candidate_that_trains_old_tokens_is_recommended_only_if_that_is_allowed():
    runs = study(("sync", (10, 11, 12)), ("old", (5, 6, 6.5)))
    for one in runs:
        if one.candidate == "old":
            one.steps = [replace(row, lag_tokens=2 * row.tokens) for row in one.steps]
    rows = summarise(runs, "sync")
    verdict = judge(rows, "sync")
    assert verdict.recommended == "sync"
    assert "none that is clearly faster may be used" in verdict.overall
    assert "2.00 versions old on average, of 1 allowed" in verdict.text
    assert judge(rows, "sync", 2.0).recommended == "old"


def test_one_seed_decides_nothing():
    rows = summarise(study(("sync", (10,)), ("fast", (5,))), "sync")
    verdict = judge(rows, "sync")
    assert verdict.recommended == "sync"
    assert "one seed has no interval" in verdict.text


def test_two_seeds_are_said_to_be_few():
    rows = summarise(study(("sync", (10, 11)), ("fast", (5, 5.6))), "sync")
    assert "2 seeds say little of their spread" in judge(rows, "sync").text
    rows = summarise(study(("sync", (10, 11, 12)), ("fast", (5, 5.6, 6))), "sync")
    assert "say little" not in judge(rows, "sync").text


def test_groups_that_never_differ_are_the_verdict():
    runs = [record(name, 10.0, seed, mixed=0) for name in ("sync", "fast") for seed in range(3)]
    verdict = judge(summarise(runs, "sync"), "sync")
    assert verdict.recommended == "sync"
    assert "no group had a signal, as all rollouts of each got the same reward" in verdict.text


def test_the_gap_is_from_the_baseline_s_uniform_selection_to_the_oracle():
    runs = [record("sync", 10.0, seed) for seed in range(2)]
    runs += [record("half", 10.0, seed, mixed=7) for seed in range(2)]
    runs += [record("oracle", 10.0, seed, "oracle", mixed=8) for seed in range(2)]
    rows = {row.name: row for row in summarise(runs, "sync")}
    assert rows["half"].gap_share.mean == pytest.approx(0.5)
    assert rows["sync"].gap_share.mean == 0.0
    assert rows["oracle"].gap_share.mean == pytest.approx(1.0)


def test_the_page_holds_verdict_tables_and_no_foreign_markup():
    rows = summarise(study(("<b>sync", (10, 11)), ("fast", (7, 8))), "<b>sync")
    page = render_rollouts("a <script>", {"steps": 3}, rows, judge(rows, "<b>sync"))
    assert "&lt;b&gt;sync" in page
    assert "<b>sync" not in page
    assert "a <script>" not in page
    assert 'id="chart-rate"' in page
    assert "http-equiv" in page


def test_quantiles_span_the_values():
    assert quantiles([3, 1, 2], 2) == (1.0, 2.0, 3.0)
    assert quantiles([]) == ()
