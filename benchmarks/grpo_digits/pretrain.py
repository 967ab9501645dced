"""Supervised training on solutions, up to a stated accuracy, and the measure of accuracy."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everywhere

from benchmarks.grpo_digits.digits import PAD, Problem, problem
from benchmarks.grpo_digits.generator import Generator
from benchmarks.grpo_digits.model import Model
from sojourn.rollout.actions import Submit
from sojourn.rollout.events import Finished

CHECK_EVERY = 50
STEPS_MAX = 4000


def batch_of(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return sequences as one tensor, padded at the end."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])


def pretrain(
    model: Model,
    digits_max: int,
    target: float,
    test: Sequence[Problem],
    seed: int,
    tokens_max: int,
    slips: float,
    rate: float,
    rows: int = 96,
    tell: Callable[[str], None] = print,
) -> float:
    """Train a model on solutions until it solves a share `target` of the test; return the share.

    Problems come as they are asked: as many of each number of digits. A share `slips` of the
    columns has a wrong digit, so that the model learns how to add and not to be careful.
    """
    source = random.Random(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    share = 0.0
    for step in range(1, STEPS_MAX + 1):
        asked = [problem(source, 1 + at % digits_max) for at in range(rows)]
        ids = batch_of([one.prompt + one.written(slipping(source, one, slips)) for one in asked])
        targets = ids[:, 1:].clone()
        for row, one in enumerate(asked):
            targets[row, : len(one.prompt) - 1] = PAD
        for group in optimiser.param_groups:
            group["lr"] = rate * min(step / 30, 1.0)
        logits = model(ids[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % CHECK_EVERY == 0:
            share = sum(accuracy(model, test, seed, tokens_max).values()) / digits_max
            tell(f"supervised step {step}: loss {loss:.3f}, {share:.1%} solved")
            if share >= target:
                break
    return share


def slipping(source: random.Random, one: Problem, share: float) -> list[int]:
    """Return how much each column is off: mostly nothing."""
    return [source.randrange(1, 10) if source.random() < share else 0 for _ in range(one.digits)]


def accuracy(model: Model, test: Sequence[Problem], seed: int, tokens_max: int) -> dict[int, float]:
    """Return the share of test problems solved by one sample each, by number of digits."""
    model.eval()
    generator = Generator(model, len(test), seed)
    for at, one in enumerate(test):
        submit = Submit(at, 1, at, at, at, 0, 0, (), tokens_max)
        generator.submit(submit, one.prompt, 0)
    solved: dict[int, list[float]] = {}
    while not generator.is_idle:
        for event in generator.step():
            assert isinstance(event, Finished)
            one = test[event.rid]
            ids = [token for piece in event.pieces for token in piece.token_ids]
            solved.setdefault(one.digits, []).append(one.reward(ids))
    return {digits: sum(found) / len(found) for digits, found in sorted(solved.items())}
