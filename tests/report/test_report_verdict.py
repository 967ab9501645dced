import json
import re

import pytest
from report_records import queue, record

from sojourn.report import judge, summarise
from sojourn.steplog.record import SloClass


def runs(*records):
    return [summarise(one, seed=1) for one in records]


LAX = (
    SloClass("interactive", ttft_seconds=3.0, tpot_seconds=0.05),
    SloClass("batch", e2e_seconds=3_600.0),
)


def clear(**more):
    return runs(
        queue("vllm", rate=6.6, load=1.1, **more),
        queue("slo-edf", rate=6.6, load=1.1, order="class", **more),
        queue("srpt-clairvoyant", rate=6.6, load=1.1, order="srpt", deployable=False, **more),
        queue("worst", rate=6.6, load=1.1, order="ljf", deployable=False, **more),
    )


def test_clear_winner():
    verdict = judge(clear(classes=LAX), seed=1)
    (one,) = verdict.by_load
    assert (one.best_deployable, one.stock) == ("slo-edf", "vllm")
    assert one.difference
    assert one.adequate
    assert one.paired_gain.clear
    assert verdict.recommended == "slo-edf"
    assert verdict.text.startswith("Verdict: use slo-edf: better than stock (vllm) at load 1.1.")
    assert "use slo-edf: goodput " in one.headline
    assert "against stock's " in one.headline
    assert "with vllm, " in one.why
    assert "waited too long for a seat (mean queue " in one.why
    assert "simulator only, for reference: " in one.why
    assert ": throughput " in one.why
    assert "; no class meets fewer SLOs; tail: batch p99 TTFT " in one.why
    assert set(one.recipes) == {"vllm", "slo-edf", "srpt-clairvoyant", "worst"}


def test_an_overloaded_load_recommends_nothing():
    verdict = judge(clear(), seed=1)
    (one,) = verdict.by_load
    assert (one.best, one.best_deployable, one.stock) == ("srpt-clairvoyant", "slo-edf", "vllm")
    assert one.difference
    assert not one.adequate
    assert one.to_json()["adequate"] is False
    assert verdict.recommended is None
    assert verdict.overall == (
        "no recipe is adequate at any load that was run: add capacity or shed; slo-edf loses least."
    )
    assert re.search(
        r"\nat load 1\.1: overloaded, no deployable recipe meets even 90 % of requests' SLOs "
        r"\(slo-edf \d+ %, stock \d+ %\): add capacity or shed; of those run, slo-edf loses least: "
        r"goodput \S+ \[\S+, \S+\] req/s against stock's \S+ \[\S+, \S+\] \(\+\d+ %\)\.\n",
        verdict.text,
    )
    assert "slo-edf reaches " in one.why
    assert "; paid for by batch (" in one.why


def test_better_only_in_collapse_keeps_stock():
    made = [
        *runs(queue("vllm", rate=3, load=0.5), queue("slo-edf", rate=3, load=0.5, tpot=0.0199)),
        *clear()[:2],
    ]
    verdict = judge(made, seed=1)
    assert [one.adequate for one in verdict.by_load] == [True, False]
    assert verdict.recommended == "vllm"
    assert verdict.overall == (
        "keep stock (vllm): no recipe is clearly better where SLOs can be met; "
        "at load 1.1 nothing is adequate, and slo-edf loses least."
    )


def test_better_where_adequate_and_in_collapse():
    made = [
        *runs(
            queue("vllm", rate=6.6, load=0.9, classes=LAX),
            queue("slo-edf", rate=6.6, load=0.9, order="class", classes=LAX),
        ),
        *clear()[:2],
    ]
    verdict = judge(made, seed=1)
    assert verdict.recommended == "slo-edf"
    assert verdict.overall == (
        "use slo-edf: better than stock (vllm) at load 0.9; "
        "at load 1.1 nothing is adequate, and slo-edf loses least."
    )


@pytest.mark.parametrize(("met", "adequate"), [(90, True), (89, False)])
def test_adequate_from_ninety_percent_on(met, adequate):
    rows = [
        {"arrival": i, "admitted": i, "first_token": i + (0.5 if i < met else 5), "finish": i + 6,
         "output_tokens": 100}
        for i in range(100)
    ]  # fmt: skip
    (one,) = judge(runs(record(rows))).by_load
    assert one.adequate is adequate
    assert one.headline.startswith("only stock" if adequate else "no deployable recipe meets")


def test_without_slos_what_finishes_is_adequate():
    free = (SloClass("any"),)
    made = runs(queue("vllm", rate=9, classes=free), queue("x", rate=9, tpot=0.03, classes=free))
    verdict = judge(made)
    assert verdict.by_load[0].adequate
    assert verdict.recommended == "vllm"


def test_overlap_keeps_stock_and_says_both():
    verdict = judge(
        runs(
            queue("vllm", rate=5, load=0.8, classes=LAX),
            queue("vtc", rate=5, load=0.8, tpot=0.0196, classes=LAX),
        )
    )
    (one,) = verdict.by_load
    assert one.best_deployable == "vtc"
    assert not one.difference
    assert verdict.recommended == "vllm"
    assert "no difference: keep stock" in verdict.overall
    assert one.headline.startswith("no difference: keep stock. vllm ")
    assert "the best deployable recipe, vtc, " in one.headline
    assert "paired gain " in one.headline
    assert ": throughput" in one.why


def test_only_stock():
    verdict = judge(runs(queue("vllm", load=None)))
    assert verdict.recommended == "vllm"
    assert "only stock (vllm) was run" in verdict.overall
    assert "nothing to compare" in verdict.by_load[0].headline
    assert verdict.by_load[0].paired_gain is None
    assert "\nas traced: only stock" in verdict.text


def test_stock_is_best():
    verdict = judge(runs(queue("vllm"), queue("slow", tpot=0.03)))
    assert "keep stock (vllm): no deployable recipe did better" in verdict.by_load[0].headline
    assert verdict.recommended == "vllm"


def test_simulator_only_is_never_recommended():
    verdict = judge(runs(queue("vllm", rate=4), queue("oracle", tpot=0.01, deployable=False)))
    assert verdict.by_load[0].best == "oracle"
    assert verdict.by_load[0].best_deployable == "vllm"
    assert verdict.recommended == "vllm"
    assert judge(runs(queue("oracle", deployable=False))).recommended is None


def test_other_stock_and_missing_stock():
    made = runs(queue("tuned"), queue("slo-edf", order="class"))
    assert judge(made, stock="tuned").by_load[0].stock == "tuned"
    missing = judge(made)
    assert missing.recommended is None
    assert missing.by_load[0].stock is None
    assert "no stock row (vllm)" in missing.by_load[0].headline


def test_no_single_recipe_when_the_winner_loses_elsewhere():
    made = runs(
        queue("vllm", rate=3.0, load=0.5, classes=LAX),
        queue("x", rate=3.0, load=0.5, tpot=0.06, classes=LAX),
        queue("vllm", rate=6.6, load=1.1, classes=LAX),
        queue("x", rate=6.6, load=1.1, order="class", classes=LAX),
    )
    verdict = judge(made)
    assert [one.difference for one in verdict.by_load] == [False, True]
    assert verdict.recommended is None
    assert verdict.overall == (
        "no single recipe is best throughout: use x at load 1.1, stock (vllm) at 0.5."
    )


def test_notes_say_when_no_slo_was_given_and_when_a_run_was_cut():
    made = queue("vllm", classes=(SloClass("any"),))
    made.complete = False
    notes = judge(runs(made)).notes
    assert "No SLO was given" in notes[0]
    assert "vllm" in notes[1]


@pytest.mark.parametrize("rows", [[], [{"arrival": 0.0, "outcome": 3}]])
def test_empty_runs_have_a_verdict(rows):
    verdict = judge(runs(record(rows), record(rows, recipe="other")))
    json.dumps(verdict.to_json(), allow_nan=False)
    assert judge([]).text == "Verdict: nothing was run."


def test_json_shape():
    document = judge(clear()).to_json()
    json.dumps(document, allow_nan=False)
    assert list(document)[:2] == ["text", "by_load"]
    assert list(document["by_load"][0])[:7] == [
        "load", "best", "best_deployable", "stock", "difference", "paired_gain", "why",
    ]  # fmt: skip


def test_the_best_tuned_stock_stands_for_stock():
    verdict = judge(
        runs(
            queue("vllm", rate=6.6, load=1.1, classes=LAX),
            queue("vllm@1024x8192", rate=6.6, load=1.1, order="class", classes=LAX),
            queue("slo-edf", rate=6.6, load=1.1, order="class", classes=LAX),
        ),
        seed=1,
    )
    (one,) = verdict.by_load
    assert one.stock == "vllm@1024x8192"
    assert verdict.recommended == "vllm@1024x8192"
    assert not one.difference


def test_each_load_has_its_own_stock_row():
    tuned = "vllm@1024x8192"
    made = runs(
        queue("vllm", rate=6.6, load=0.9, classes=LAX),
        queue(tuned, rate=6.6, load=0.9, order="class", classes=LAX),
        queue("x", rate=6.6, load=0.9, order="class", classes=LAX),
        queue("vllm", rate=3, load=1.1, classes=LAX),
        queue(tuned, rate=3, load=1.1, tpot=0.06, classes=LAX),
        queue("x", rate=3, load=1.1, tpot=0.06, classes=LAX),
    )
    verdict = judge(made, seed=1)
    assert [one.stock for one in verdict.by_load] == [tuned, "vllm"]
    assert not any(one.difference for one in verdict.by_load)
    assert f"keep stock ({tuned} at 0.9, vllm at 1.1)" in verdict.overall
