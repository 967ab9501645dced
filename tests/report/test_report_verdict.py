import json

import pytest
from report_records import queue, record

from sojourn.report import judge, summarise
from sojourn.steplog.record import SloClass


def runs(*records):
    return [summarise(one, seed=1) for one in records]


def clear():
    return runs(
        queue("vllm", rate=6.6, load=1.1),
        queue("slo-edf", rate=6.6, load=1.1, order="class"),
        queue("srpt-clairvoyant", rate=6.6, load=1.1, order="srpt", deployable=False),
        queue("worst", rate=6.6, load=1.1, order="ljf", deployable=False),
    )


def test_clear_winner():
    verdict = judge(clear(), seed=1)
    (one,) = verdict.by_load
    assert (one.best, one.best_deployable, one.stock) == ("srpt-clairvoyant", "slo-edf", "vllm")
    assert one.difference
    assert one.paired_gain.clear
    assert verdict.recommended == "slo-edf"
    assert verdict.text.startswith("Verdict: use slo-edf: better than stock (vllm) at load 1.1.")
    assert "use slo-edf: goodput " in one.headline
    assert "against stock's " in one.headline
    assert "with vllm, " in one.why
    assert "waited too long for a seat (mean queue " in one.why
    assert "simulator only, for reference: srpt-clairvoyant" in one.why
    assert "slo-edf reaches " in one.why
    assert "cost: throughput " in one.why
    assert "; paid for by batch (" in one.why
    assert set(one.recipes) == {"vllm", "slo-edf", "srpt-clairvoyant", "worst"}


def test_overlap_keeps_stock_and_says_both():
    verdict = judge(
        runs(queue("vllm", rate=5, load=0.8), queue("vtc", rate=5, load=0.8, tpot=0.0199))
    )
    (one,) = verdict.by_load
    assert one.best_deployable == "vtc"
    assert not one.difference
    assert verdict.recommended == "vllm"
    assert "no difference: keep stock" in verdict.overall
    assert one.headline.startswith("no difference: keep stock. vllm ")
    assert "the best deployable recipe, vtc, " in one.headline
    assert "paired gain " in one.headline
    assert "it would cost: throughput" in one.why


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
    verdict = judge(
        runs(queue("vllm", rate=6.6), queue("oracle", rate=6.6, order="srpt", deployable=False))
    )
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
        queue("vllm", rate=3.0, load=0.5),
        queue("x", rate=3.0, load=0.5, tpot=0.06),
        queue("vllm", rate=6.6, load=1.1),
        queue("x", rate=6.6, load=1.1, order="class"),
    )
    verdict = judge(made)
    assert [one.difference for one in verdict.by_load] == [False, True]
    assert verdict.recommended is None
    assert "no single recipe is best throughout: use x at load 1.1, stock (vllm) at 0.5" in (
        verdict.overall
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
            queue("vllm", rate=6.6, load=1.1),
            queue("vllm@1024x8192", rate=6.6, load=1.1, order="class"),
            queue("slo-edf", rate=6.6, load=1.1, order="class"),
        ),
        seed=1,
    )
    (one,) = verdict.by_load
    assert one.stock == "vllm@1024x8192"
    assert verdict.recommended == "vllm@1024x8192"
    assert not one.difference
