"""Weights that make up for what was chosen, stopped or stale: data for trainers.

Three sources of bias have their own factor. Rollouts that policies stop depending on what they
look like, and rollouts that a subsampler leaves out, are made up for by one over the probability
of being kept (Horvitz and Thompson, 1952; self-normalised, Hájek, 1971). Tokens made by older
weights are made up for by truncated importance ratios (Ionides, 2008), token by token: ratios of
whole rollouts grow without bound across versions. Deterministic exclusion has no correction: a
rollout that could never be kept is missing from every estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, inf
from typing import Final, NamedTuple

from sojourn.rollout.model import GroupResult, Rollout, Subset, TrainGroup

KEPT_AT_RANDOM: Final = "kept at random"
"""Reason of a decision that kept a rollout which a rule would have stopped."""

RATIO_CAP: Final = 2.0
"""The usual bound of a token's importance ratio (verl's recipe of partial rollouts)."""


class Correction(NamedTuple):
    """What a trainer multiplies into the loss of one rollout.

    Attributes:
        rid: The rollout.
        weight: One over its probability of being trained, self-normalised within its group.
        ratios: Truncated importance ratio of each token after the prompt; 0 keeps a token out.
        truncated: How many ratios were above the cap.
    """

    rid: int
    weight: float
    ratios: tuple[float, ...]
    truncated: int


def kept_probability(rollout: Rollout) -> float:
    """Return the probability with which controls let a rollout live that did."""
    probability = 1.0
    for one in rollout.decisions:
        if one.reason == KEPT_AT_RANDOM:
            probability *= one.propensity
    return probability


def kept_probabilities(result: GroupResult) -> list[float]:
    """Return that of each scored rollout of a group, in the order of `scored`."""
    return [kept_probability(result.rollouts[at]) for at in result.scored]


def inclusion_weights(inclusion: Sequence[float], cap: float = inf) -> list[float]:
    """Return one over each probability, cut at a cap and scaled to a mean of 1.

    A cap trades a little bias for much variance: one rollout in ten kept at random would
    otherwise weigh as ten.
    """
    if not inclusion:
        return []
    assert all(0.0 < one <= 1.0 for one in inclusion)
    raw = [min(1.0 / one, cap) for one in inclusion]
    mean = sum(raw) / len(raw)
    return [one / mean for one in raw]


def corrected_mean(values: Sequence[float], inclusion: Sequence[float]) -> float:
    """Return Hájek's estimate of the mean over everything that might have been kept.

    The plain mean of the survivors is no baseline: pruning low scores raises it.
    """
    weights = inclusion_weights(inclusion)
    assert values
    assert len(values) == len(weights)
    return sum(one * weight for one, weight in zip(values, weights, strict=True)) / len(values)


def truncated_ratios(
    current: Sequence[float], behaviour: Sequence[float], cap: float = RATIO_CAP
) -> list[float]:
    """Return min(exp(current - behaviour), cap) of the log-probabilities of each token."""
    assert cap > 0.0
    bound = 50.0  # far above any cap, far below overflow
    return [
        min(exp(min(now - then, bound)), cap) for now, then in zip(current, behaviour, strict=True)
    ]


def behaviour_logprobs(rollout: Rollout) -> list[float | None]:
    """Return that of each token after the prompt; None where it may not be in a loss."""
    known: list[float | None] = []
    for one in rollout.segments:
        usable = one.trainable_mask() if one.logprobs else [False] * one.tokens
        told = one.logprobs or [0.0] * one.tokens
        known += [value if trained else None for value, trained in zip(told, usable, strict=True)]
    return known


def corrections(
    group: TrainGroup,
    current: Mapping[int, Sequence[float]],
    ratio_cap: float = RATIO_CAP,
    weight_cap: float = inf,
) -> list[Correction]:
    """Return the correction of each rollout of a group that is trained.

    `current` has, by rollout, the log-probabilities under the weights in training of all its
    tokens after the prompt. Rollouts without an advantage are left out.
    """
    subset: Subset = group.subset
    weights = inclusion_weights(subset.inclusion, weight_cap)
    found: list[Correction] = []
    for place, at in enumerate(subset.indices):
        if group.advantages[place] is None:
            continue
        rollout = group.result.rollouts[at]
        known = behaviour_logprobs(rollout)
        now = current[rollout.rid]
        assert len(now) == len(known), "a log-probability for each token after the prompt"
        masked = frozenset(subset.masked[place]) if subset.masked else frozenset()
        ratios = [
            0.0 if then is None or offset in masked else truncated_ratios([one], [then], inf)[0]
            for offset, (one, then) in enumerate(zip(now, known, strict=True))
        ]
        above = sum(ratio > ratio_cap for ratio in ratios)
        cut = tuple(min(ratio, ratio_cap) for ratio in ratios)
        found.append(Correction(rollout.rid, weights[place], cut, above))
    return found
