"""DOTS's rule: a reference set, attention over embeddings, a calibration, draws near one half."""

from math import exp
from random import Random

import pytest
from choice_stubs import StubView, make_prompts, tell

from sojourn.errors import UserError
from sojourn.policies.select import dots
from sojourn.policies.select.attention import (
    Calibration,
    Known,
    Predictor,
    attend,
    fit_line,
    fit_logits,
    logit,
    sigmoid,
)
from sojourn.rollout.model import Prompt


def test_attention_by_hand():
    known = [Known((1.0, 0.0, 0.0, 0.0), 1.0), Known((0.0, 1.0, 0.0, 0.0), 0.0)]
    odds = exp(4.0 * 1.0 / 2.0)  # dot product 4, over the root of 4 dimensions
    assert attend((4.0, 0.0, 0.0, 0.0), known) == pytest.approx(odds / (odds + 1.0))
    assert attend((4.0, 0.0, 0.0, 0.0), known, skip=0) == 0.0


def test_a_line_is_fitted():
    fit = fit_line([0.2, 0.4, 0.6], [0.1, 0.5, 0.9])
    assert fit.slope == pytest.approx(2.0)
    assert fit.apply(0.5) == pytest.approx(0.7)
    assert fit.apply(0.9) == 1.0
    assert fit_line([0.3, 0.3], [0.2, 0.6]).apply(0.9) == pytest.approx(0.4)


def test_logits_are_corrected():
    true = Calibration(slope=1.7, offset=-0.4)
    guesses = [0.1 + 0.8 * at / 300 for at in range(301)]
    fit = fit_logits(guesses, [true.apply(one) for one in guesses])
    assert fit.slope == pytest.approx(1.7, abs=0.02)
    assert fit.offset == pytest.approx(-0.4, abs=0.02)
    assert sigmoid(logit(0.3)) == pytest.approx(0.3)


def test_calibration_exists_for_any_reference_set():
    for rates in ([0.0] * 5, [1.0] * 5, [0.0, 1.0, 0.0, 1.0, 1.0]):
        fit = fit_logits([0.1, 0.3, 0.5, 0.7, 0.9], rates)
        assert 0.0 < fit.apply(0.5) < 1.0


def test_attention_alone_is_too_flat_and_calibration_mends_it():
    dice = Random(4)
    known, queries = [], []
    for at in range(120):
        hard = 6.0 * dice.random() - 3.0
        pair = [0.4 * hard, 1.0], sigmoid(1.5 * hard)
        (queries if at >= 60 else known).append(Known(*pair))
    predictor = Predictor(known, apart=True)
    plain = sum(abs(attend(one.embedding, known) - one.rate) for one in queries)
    mended = sum(abs(predictor.rate(one.embedding) - one.rate) for one in queries)
    assert predictor.calibration.slope > 1.0
    assert mended < 0.8 * plain


def run(config, view, steps, seed=1):
    """Let it choose and learn; hardness is in the embedding. Return picks by reason."""
    policy, dice, uid = dots.Dots(config, view.setting()), Random(seed), 0
    picked = {"reference": [], "predicted rate": []}
    kept = []
    for _ in range(steps):
        trained = 0
        while trained < 8:
            for one in policy.propose(8 - trained, view):
                picked[one.reason].append(one.prompt_id)
                p = 1.0 - one.prompt_id / len(view.prompts)
                uid += 1
                values = [float(dice.random() < p) for _ in range(8)]
                keeps = tell(policy, view, one.prompt_id, values, uid)
                kept.append((one.reason, keeps))
                trained += keeps
        view.version += 1
        view.step += 1
    return policy, picked, kept


def steep(count=200):
    """Prompts whose embedding says how hard they are, strongly enough for attention."""
    places = [6.0 * at / count - 3.0 for at in range(count)]
    return tuple(Prompt(at, meta={"embedding": [3.0 * x, 1.0]}) for at, x in enumerate(places))


@pytest.mark.parametrize("variant", dots.VARIANTS)
def test_picks_what_is_predicted_to_be_half_solved(variant):
    view = StubView(prompts=steep())
    _, picked, kept = run(dots.Config(reference=40, variant=variant), view, steps=6)
    assert len(picked["reference"]) == 3 * 40  # every second of 6 steps
    assert all(keeps == (reason != "reference") for reason, keeps in kept)
    chosen = picked["predicted rate"]
    assert len(chosen) == 6 * 8
    assert sum(abs(one - 100) < 40 for one in chosen) > 0.8 * len(chosen)


def test_reference_groups_may_be_trained():
    view = StubView(prompts=steep())
    _, _, kept = run(dots.Config(reference=16, trains_reference=True), view, steps=4)
    assert all(keeps for _, keeps in kept)


def test_nothing_is_predicted_while_the_first_set_runs():
    view = StubView(prompts=steep())
    policy = dots.Dots(dots.Config(reference=5), view.setting())
    first = policy.propose(8, view)
    assert [one.reason for one in first] == ["reference"] * 5
    view.open = {one.prompt_id for one in first}
    assert policy.propose(8, view) == []
    view.open.clear()  # given up without a word: it tries another set
    assert [one.reason for one in policy.propose(8, view)] == ["reference"] * 5


def test_reference_groups_that_are_given_up_are_no_reference_later():
    view = StubView(prompts=steep(8))
    policy = dots.Dots(dots.Config(reference=4, every_steps=9, temperature=9.0), view.setting())
    first = [one.prompt_id for one in policy.propose(4, view)]
    for uid, prompt_id in enumerate(first[:2]):
        assert not tell(policy, view, prompt_id, [1.0, 0.0], uid)
    given_up = set(first[2:])
    again = [one for _ in range(8) for one in policy.propose(2, view)]
    assert {one.reason for one in again} == {"predicted rate"}
    assert given_up <= {one.prompt_id for one in again}
    for uid, prompt_id in enumerate(given_up, 2):
        assert tell(policy, view, prompt_id, [1.0, 0.0], uid)


def test_embeddings_are_needed():
    view = StubView(prompts=(make_prompts(1)[0], Prompt(1)))
    with pytest.raises(UserError, match=r"meta\['embedding'\]; prompt 1 has none"):
        dots.Dots(dots.Config(), view.setting())


def test_useless_embeddings_predict_the_mean_by_the_line():
    prompts = tuple(Prompt(at, meta={"embedding": [1.0, 1.0]}) for at in range(50))
    view = StubView(prompts=prompts)
    policy, picked, _ = run(dots.Config(reference=20, variant="line"), view, steps=2)
    assert len(set(picked["predicted rate"])) > 10
    rates = [policy.predictor.rate((1.0, 1.0)) for _ in range(2)]
    assert rates[0] == pytest.approx(sum(policy.rates.values()) / 20)
