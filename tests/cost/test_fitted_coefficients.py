"""Coefficients: read strictly, held against the floor, and found again from their own steps."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from sojourn.catalog import load_gpu, load_model
from sojourn.cost import Coefficients, Fitted, Floor, Roofline, load_fitted
from sojourn.cost.fit import Measured, fit, non_negative
from sojourn.errors import UserError

GOOD = Coefficients(
    fixed=6e-3,
    prefill_token=2e-5,
    pair=8e-10,
    prior_token=6e-7,
    prompt=1e-5,
    decode=2e-5,
    context_token=5e-8,
    mixed_context_token=3e-8,
    mixed_token_decode=2e-9,
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "coefficients.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_coefficients_is_read_back(tmp_path: Path) -> None:
    assert load_fitted(written(tmp_path, GOOD.to_toml())).coefficients == GOOD


def test_every_term_counts_once() -> None:
    cost = Fitted(GOOD)
    expected = 6e-3 + 10 * 2e-5 + 55 * 8e-10 + 7 * 6e-7 + 1e-5 + 3 * 2e-5 + 400 * 8e-8
    expected += 10 * 3 * 2e-9
    assert cost.step(10, 55, 7, 1, 3, 400) == round(expected * 1e12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fixed = 1e-3\ncontext_tokens = 1e-8", "did you mean 'context_token'"),
        ("decode = 1e-3", "lacks 'fixed'"),
        ("fixed = 'fast'", "fixed must be a number of seconds"),
        ("fixed = true", "fixed must be a number of seconds"),
        ("fixed = -1.0", "fixed is -1.0; it must be zero or more"),
        ("fixed = nan", "it must be zero or more seconds"),
        ("fixed = 0.0", "a step must take time"),
        ("fixed = = 1", "not valid TOML"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_fitted(written(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        load_fitted(tmp_path / "none.toml")


def test_coefficients_that_beat_the_memory_are_refused(tmp_path: Path) -> None:
    # 3.05 ms a token of Llama-3.1-8B on an H100 is what a simulator once promised.
    floor = Floor(load_model("llama-3.1-8b"), load_gpu("h100-sxm"))
    path = written(tmp_path, "fixed = 3.05e-3\ncontext_token = 5e-8\nprefill_token = 2e-5")
    with pytest.raises(UserError, match=r"promises 3.05 ms .* cannot take less than 4.48 ms"):
        load_fitted(path, floor)
    assert load_fitted(written(tmp_path, GOOD.to_toml()), floor).coefficients == GOOD


def test_coefficients_that_beat_the_arithmetic_are_refused(tmp_path: Path) -> None:
    floor = Floor(load_model("llama-3.1-8b"), load_gpu("h100-sxm"))
    path = written(tmp_path, "fixed = 6e-3\ncontext_token = 5e-8\nprefill_token = 1e-7")
    with pytest.raises(UserError, match="512 prompt tokens and 0 decodes"):
        load_fitted(path, floor)


def random_steps(cost: Fitted | Roofline, count: int, noise: float) -> list[Measured]:
    chance = random.Random(7)
    rows = []
    for _ in range(count):
        size = chance.choice((0, 0, chance.randint(1, 2048)))
        prior = chance.randint(0, 4096) if size else 0
        decodes = chance.randint(0 if size else 1, 128)
        context = decodes * chance.randint(1, 4096)
        pairs = size * prior + size * (size + 1) // 2
        step = (size, pairs, prior, int(size > 0), decodes, context)
        seconds = cost.step(*step) / 1e12 * (1 + noise * chance.uniform(-1, 1))
        rows.append(Measured(*step, seconds))
    return rows


def test_a_fit_finds_the_coefficients_that_made_the_steps() -> None:
    found = fit(random_steps(Fitted(GOOD), 400, 0.0))
    assert found.median_error < 1e-6
    for name in ("fixed", "prefill_token", "pair", "context_token", "mixed_context_token"):
        assert getattr(found.coefficients, name) == pytest.approx(getattr(GOOD, name), rel=1e-3)


def test_a_fit_to_noisy_steps_predicts_other_steps() -> None:
    found = fit(random_steps(Fitted(GOOD), 600, 0.1))
    assert found.median_error < 0.08
    cost = Fitted(found.coefficients)
    step = (512, 512 * 513 // 2, 0, 1, 64, 64_000)
    assert cost.step(*step) == pytest.approx(Fitted(GOOD).step(*step), rel=0.03)


def test_a_fit_describes_a_roofline_within_a_tenth() -> None:
    cost = Roofline(load_model("llama-3.1-8b"), load_gpu("a100-80g"))
    assert fit(random_steps(cost, 400, 0.0)).median_error < 0.1


def test_a_fit_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="no measured steps"):
        fit([])
    with pytest.raises(UserError, match=r"step 0 took 0\.0 s"):
        fit([Measured(1, 1, 0, 1, 0, 0, 0.0)])


def test_non_negative_least_squares_by_hand() -> None:
    # The free solution of x - y = 2, x + y = 1 is (1.5, -0.5); with y >= 0, x is their mean.
    found = non_negative(np.array([[1.0, -1.0], [1.0, 1.0]]), np.array([2.0, 1.0]))
    assert found == pytest.approx([1.5, 0.0])
