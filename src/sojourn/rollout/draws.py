"""Draws in which everything has exactly the probability that is written down for it."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn.rollout.streams import Stream


def inclusions(weights: Sequence[float], count: int) -> list[float]:
    """Return probabilities in proportion to weights that sum to `count`, none above 1."""
    assert 0 <= count <= len(weights)
    assert all(one > 0.0 for one in weights)
    certain: set[int] = set()
    while True:
        total = sum(one for at, one in enumerate(weights) if at not in certain)
        room = count - len(certain)
        above = [
            at
            for at, one in enumerate(weights)
            if at not in certain and one * room > total * (1.0 + 1e-12)
        ]
        if not above:
            break
        certain.update(above)
    return [
        1.0 if at in certain else min(one * room / total, 1.0) for at, one in enumerate(weights)
    ]


def systematic(chances: Sequence[float], stream: Stream) -> list[int]:
    """Return indices drawn with these probabilities, as many as they sum to, in order.

    Source: Madow, On the Theory of Systematic Sampling II, Ann. Math. Stat. 20(3), 1949; over a
    random order, so that neighbours can be drawn together.
    """
    count = round(sum(chances))
    point, passed = stream.uniform(), 0.0
    drawn: list[int] = []
    for at in stream.shuffled(range(len(chances))):
        passed += chances[at]
        if passed > point - 1e-9 and len(drawn) < count:
            drawn.append(at)
            point += 1.0
    return sorted(drawn)
