"""Measured prompts: pass rates and lengths of a user's own rollouts, and what they leave open.

A file has a row for each rollout (`prompt`, `reward`, `response_tokens`) or for each prompt
(`prompt`, `pass_rate`, `rollouts`). A few rollouts of a prompt do not say how likely it succeeds or
how long it gets, so a world draws both from what the file leaves open: success probabilities from
the Beta posterior under a prior fitted to all prompts, and each prompt's own score of lengths from
the normal posterior of a random-effects model. Seeds differ in them.

One rollout of a prompt tells none of the laws; what no prompt tells is taken from `[lengths]`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt
from statistics import fmean, median
from typing import Any, Final

from sojourn.rollout.streams import Stream
from sojourn.sim.rollout.lengths import STANDARD, LengthPlan

CORRELATION_MAX: Final = 0.99
"""Siblings that are all alike in a file may still differ in the next rollout."""
SHAPE_MIN: Final = 0.05
SHAPES_MAX: Final = 200.0
PROBABILITY_MIN: Final = 1e-6
CUT_SHARE: Final = 0.005
CUT_MIN: Final = 3
"""Share and number of lengths that are all the longest, from which on they must have been cut."""
FACTOR_RANGE: Final = (0.1, 10.0)
FEW_PROMPTS: Final = 5
"""A law that fewer prompts tell is hardly measured."""
USUAL: Final = LengthPlan()


@dataclass(frozen=True, slots=True)
class MeasuredPrompt:
    """What a file says of a prompt.

    Attributes:
        successes, rollouts: How many succeeded of how many; rewards in between count in part.
        tokens: Of the prompt; 0 if it is not known.
        domain: Empty if it is not known.
        lengths: Sampled tokens of its rollouts and whether each succeeded; empty if not known.
    """

    successes: float
    rollouts: int
    tokens: int = 0
    domain: str = ""
    lengths: tuple[tuple[int, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """The prompts of a file, and the laws that were fitted to them.

    Attributes:
        prompts: What was measured of each.
        alpha, beta: The prior of success probabilities.
        wrong_factor: How many times as long failures are as successes of the same prompt.
        group_correlation: Of the scores of two rollouts of one prompt.
        assumed: Which of the two no prompt tells, so that they are those of `[lengths]`.
        recorded: All lengths in order, those of failures divided by the factor; empty if the file
            has none.
    """

    prompts: tuple[MeasuredPrompt, ...]
    alpha: float
    beta: float
    wrong_factor: float = 1.0
    group_correlation: float = 0.0
    assumed: tuple[str, ...] = ()
    recorded: tuple[int, ...] = field(default=(), repr=False)

    @property
    def has_lengths(self) -> bool:
        """Whether lengths were measured."""
        return bool(self.recorded)

    @property
    def repeated(self) -> int:
        """How many prompts have two rollouts or more, which pass rates are told apart by."""
        return sum(one.rollouts > 1 for one in self.prompts)

    @property
    def mixed(self) -> int:
        """How many prompts have lengths of both successes and failures."""
        return sum(len({right for _, right in one.lengths}) > 1 for one in self.prompts)

    @property
    def has_tokens(self) -> bool:
        """Whether lengths of prompts are known."""
        return all(one.tokens for one in self.prompts)

    @property
    def has_domains(self) -> bool:
        """Whether domains are known."""
        return all(one.domain for one in self.prompts)

    def summary(self) -> dict[str, Any]:
        """Return what was read and fitted, as JSON values; null for what no prompt tells."""
        rollouts = sum(one.rollouts for one in self.prompts)
        found: dict[str, Any] = {
            "prompts": len(self.prompts),
            "rollouts": rollouts,
            "pass_rate": round(sum(one.successes for one in self.prompts) / rollouts, 6),
            "prior": [round(self.alpha, 6), round(self.beta, 6)],
        }
        if self.has_lengths:
            raw = [tokens for one in self.prompts for tokens, _ in one.lengths]
            found |= {
                "response_tokens": {
                    "median": median(raw),
                    "mean": round(fmean(raw), 3),
                    "max": max(raw),
                },
                **{
                    law: None if law in self.assumed else round(getattr(self, law), 6)
                    for law in ("wrong_factor", "group_correlation")
                },
            }
        return found

    def probability(self, prompt: int, stream: Stream) -> float:
        """Draw the success probability of a prompt from what its rollouts leave open."""
        one = self.prompts[prompt]
        failures = one.rollouts - one.successes
        drawn = stream.beta(self.alpha + one.successes, self.beta + failures)
        return min(max(drawn, PROBABILITY_MIN), 1.0 - PROBABILITY_MIN)

    def own_score(self, prompt: int, correlation: float, stream: Stream) -> float:
        """Draw a prompt's own score of lengths from what its rollouts leave open.

        A score is √ρ · own + √(1 − ρ) · noise with standard normal parts, so the posterior of the
        own part is normal.
        """
        deviate = stream.normal()
        lengths = self.prompts[prompt].lengths
        if not lengths or correlation <= 0.0:
            return deviate
        rho = min(correlation, CORRELATION_MAX)
        total = sum(self._score(*one) for one in lengths)
        precision = 1.0 + len(lengths) * rho / (1.0 - rho)
        return sqrt(rho) / (1.0 - rho) * total / precision + deviate / sqrt(precision)

    def _score(self, tokens: int, right: bool) -> float:
        return score_of(self.recorded, tokens / (1.0 if right else self.wrong_factor))


def measured_text(measured: Measured) -> str:
    """Return in a sentence what was measured and fitted."""
    found = measured.summary()
    text = (
        f"prompts as measured: {found['prompts']} with {found['rollouts']} rollouts, "
        f"{found['pass_rate']:.1%} of them right"
    )
    if not measured.has_lengths:
        return f"{text}; lengths are those of [lengths]"
    tokens = found["response_tokens"]
    factor = f"failures {measured.wrong_factor:.2f} times as long as successes of the same prompt"
    if "wrong_factor" in measured.assumed:
        factor = (
            "how many times as long failures are is not measurable (no prompt has both successes "
            f"and failures), lengths.wrong_factor is {measured.wrong_factor:.2f}"
        )
    alike = f"correlation within groups {measured.group_correlation:.2f}"
    if "group_correlation" in measured.assumed:
        alike = (
            "correlation within groups not measurable, lengths.group_correlation is "
            f"{measured.group_correlation:.2f}"
        )
    return (
        f"{text}; {tokens['median']:.0f} tokens in the median and {tokens['max']} at most, "
        f"{factor}, {alike}"
    )


def cut_text(measured: Measured, tokens_max: int) -> str:
    """Return what the file leaves open: lengths beyond a cut, laws that few prompts tell.

    Empty if nothing is.
    """
    return "; ".join(filter(None, (_beyond_text(measured, tokens_max), few_text(measured))))


def few_text(measured: Measured) -> str:
    """Return which laws were measured on few prompts; empty if none was."""
    said = []
    if 0 < measured.repeated < FEW_PROMPTS:
        known = "pass rates and lengths" if measured.has_lengths else "pass rates"
        said.append(
            f"{_only(measured.repeated)} two rollouts or more, so how prompts differ in {known} "
            "is measured on little"
        )
    if 0 < measured.mixed < FEW_PROMPTS:
        said.append(
            f"{_only(measured.mixed)} both successes and failures, so how many times as long "
            "failures are is measured on little"
        )
    return "; ".join(said)


def _only(prompts: int) -> str:
    return f"only {prompts} prompt{' has' if prompts == 1 else 's have'}"


def _beyond_text(measured: Measured, tokens_max: int) -> str:
    """Return what is not known because the file's lengths were cut; empty if nothing is."""
    tokens = [one for prompt in measured.prompts for one, _ in prompt.lengths]
    longest = max(tokens, default=tokens_max)
    cut = sum(one == longest for one in tokens)
    if cut < max(CUT_SHARE * len(tokens), CUT_MIN) or tokens_max <= longest:
        return ""
    return (
        f"{cut / len(tokens):.1%} of the measured lengths are {longest}, the longest: rollouts "
        f"were cut there; nothing is known of lengths up to plan.tokens_max, which is {tokens_max}"
    )


def fit(prompts: Sequence[MeasuredPrompt], usual: LengthPlan = USUAL) -> Measured:
    """Return measured prompts with the laws fitted to them.

    A law of lengths that no prompt tells is the usual one.
    """
    alpha, beta = fit_prior(prompts)
    if not any(one.lengths for one in prompts):
        return Measured(tuple(prompts), alpha, beta)
    fitted_factor = fit_wrong_factor(prompts)
    factor = usual.wrong_factor if fitted_factor is None else fitted_factor
    recorded = sorted(
        max(round(tokens / (1.0 if right else factor)), 1)
        for one in prompts
        for tokens, right in one.lengths
    )
    scores = [
        [score_of(recorded, tokens / (1.0 if right else factor)) for tokens, right in one.lengths]
        for one in prompts
    ]
    correlation = intraclass_correlation(scores)
    assumed = [
        *(["wrong_factor"] if fitted_factor is None else []),
        *(["group_correlation"] if correlation is None else []),
    ]
    return Measured(
        tuple(prompts),
        alpha,
        beta,
        wrong_factor=factor,
        group_correlation=usual.group_correlation if correlation is None else correlation,
        assumed=tuple(assumed),
        recorded=tuple(recorded),
    )


def fit_prior(prompts: Sequence[MeasuredPrompt]) -> tuple[float, float]:
    """Return the Beta prior whose mean and spread are those of the pass rates, by moments.

    The spread that so few rollouts make by themselves is taken off.
    """
    total = sum(one.rollouts for one in prompts)
    mean = sum(one.successes for one in prompts) / total
    chance = mean * (1.0 - mean)
    if chance <= 0.0:
        return SHAPE_MIN + mean, SHAPE_MIN + 1.0 - mean
    weights = [one.rollouts / total for one in prompts]
    rates = [one.successes / one.rollouts for one in prompts]
    spread = sum(w * (rate - mean) ** 2 for w, rate in zip(weights, rates, strict=True))
    # Expected of the spread over chance: `alone` + `room` · share, where rollouts of one prompt
    # have the correlation `share`, which is 1 / (alpha + beta + 1).
    alone = (len(prompts) - 1) / total
    room = 1.0 - sum(w * w for w in weights) - alone
    share = (spread / chance - alone) / room if room > 0.0 else 0.0
    share = min(max(share, 1.0 / (1.0 + SHAPES_MAX)), 1.0 / (1.0 + 2.0 * SHAPE_MIN))
    shapes = 1.0 / share - 1.0
    return max(mean * shapes, SHAPE_MIN), max((1.0 - mean) * shapes, SHAPE_MIN)


def fit_wrong_factor(prompts: Sequence[MeasuredPrompt]) -> float | None:
    """Return how many times as long failures are as successes of the same prompt.

    None if no prompt has both.

    Logarithms are compared inside prompts, which takes out that hard prompts are long; a prompt
    counts by how much it says.
    """
    weighted = weights = 0.0
    for one in prompts:
        right = [log(tokens) for tokens, success in one.lengths if success]
        wrong = [log(tokens) for tokens, success in one.lengths if not success]
        if right and wrong:
            weight = len(right) * len(wrong) / (len(right) + len(wrong))
            weighted += weight * (fmean(wrong) - fmean(right))
            weights += weight
    if not weights:
        return None
    return min(max(exp(weighted / weights), FACTOR_RANGE[0]), FACTOR_RANGE[1])


def score_of(recorded: Sequence[int], tokens: float) -> float:
    """Return the standard normal score of a length: of its middle place among recorded ones."""
    low, high = bisect_left(recorded, tokens), bisect_right(recorded, tokens)
    place = (low + high) / 2.0 / len(recorded)
    edge = 0.5 / len(recorded)
    return STANDARD.inv_cdf(min(max(place, edge), 1.0 - edge))


def intraclass_correlation(groups: Sequence[Sequence[float]]) -> float | None:
    """Return how alike the members of a group are: one-way analysis of variance.

    None if there are not two groups, or none has two members.

    Source: Donner, A Review of Inference Procedures for the Intraclass Correlation Coefficient in
    the One-Way Random Effects Model, International Statistical Review 54, 1986.
    """
    filled = [group for group in groups if group]
    count, total = len(filled), sum(map(len, filled))
    if count < 2 or total <= count:
        return None
    mean = sum(map(sum, filled)) / total
    means = [fmean(group) for group in filled]
    between = sum(len(g) * (m - mean) ** 2 for g, m in zip(filled, means, strict=True))
    within = sum((x - m) ** 2 for g, m in zip(filled, means, strict=True) for x in g)
    between, within = between / (count - 1), within / (total - count)
    size = (total - sum(len(group) ** 2 for group in filled) / total) / (count - 1)
    whole = between + (size - 1.0) * within
    return min(max((between - within) / whole, 0.0), CORRELATION_MAX) if whole > 0.0 else 0.0
