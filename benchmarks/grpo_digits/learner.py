"""One GRPO update in plain torch, from a batch of the rollout machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.grpo_digits.digits import PAD, Problem
from benchmarks.grpo_digits.model import Model
from benchmarks.grpo_digits.pretrain import batch_of
from sojourn.rollout.actions import Train
from sojourn.rollout.corrections import (
    RATIO_CAP,
    behaviour_logprobs,
    inclusion_weights,
    kept_probability,
)

SLICE = 128
"""Rollouts in one forward pass, for the size of memory."""

WARM_UP = 10
"""Updates until the full rate: the first steps of Adam are as large as any, and know nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """A rollout as the loss sees it: ids, where its output begins, and what each token counts."""

    ids: list[int]
    start: int
    behaviour: list[float | None]
    advantage: float


@dataclass(frozen=True, slots=True)
class Learned:
    """What an update saw.

    Attributes:
        tokens: Tokens in the loss, those of zero advantage too.
        reward: Mean reward of the rollouts trained.
        mixed: Share of groups whose rewards differ.
        ratio: Mean importance ratio of the tokens with an advantage, before it is cut.
        cut: Share of them above the cap.
    """

    tokens: int
    reward: float
    mixed: float
    ratio: float
    cut: float


class Learner:
    """Policy gradient with group advantages and truncated importance ratios by token.

    Attributes:
        model: What is trained, in place.
        corrects: Whether ratios to the weights that sampled are used; else stale tokens count as
            if the weights in training had sampled them.
    """

    def __init__(self, model: Model, rate: float, corrects: bool = True) -> None:
        self.model = model
        self.corrects = corrects
        self.rate = rate
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0
        )
        self.updates = 0

    def update(self, batch: Train, problems: Sequence[Problem]) -> Learned:
        """Take one step on a batch."""
        rows = [row for group in batch.groups for row in rows_of(group, problems)]
        total = sum(len(row.behaviour) for row in rows)
        loud = sorted((row for row in rows if row.advantage), key=lambda row: len(row.ids))
        self.optimiser.zero_grad()
        ratios: list[Tensor] = []
        for at in range(0, len(loud), SLICE):
            loss, seen = self._loss(loud[at : at + SLICE])
            (loss / total).backward()
            ratios.append(seen)
        if loud:
            self.updates += 1
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * min(self.updates / WARM_UP, 1.0)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
        ratio = torch.cat(ratios) if ratios else torch.ones(1)
        values = [value for group in batch.groups for value in group.result.values]
        return Learned(
            tokens=total,
            reward=sum(values) / max(len(values), 1),
            mixed=sum(group.result.mixed for group in batch.groups) / len(batch.groups),
            ratio=float(ratio.mean()),
            cut=float((ratio > RATIO_CAP).float().mean()),
        )

    def _loss(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Return the summed loss of some rollouts, and the ratio of each token."""
        ids = batch_of([row.ids for row in rows])
        logits = self.model(ids[:, :-1])
        logits[..., PAD] = float("-inf")
        now = logits.log_softmax(dim=-1).gather(2, ids[:, 1:, None])[..., 0]
        then = torch.zeros_like(now)
        counts = torch.zeros_like(now, dtype=torch.bool)
        for at, row in enumerate(rows):
            places = slice(row.start - 1, row.start - 1 + len(row.behaviour))
            then[at, places] = torch.tensor([one or 0.0 for one in row.behaviour])
            counts[at, places] = torch.tensor([one is not None for one in row.behaviour])
        advantage = torch.tensor([row.advantage for row in rows])[:, None]
        ratio = (now.detach() - then).clamp(max=20.0).exp()
        weight = ratio.clamp(max=RATIO_CAP) if self.corrects else torch.ones_like(ratio)
        now = now.masked_fill(~counts, 0.0)
        return -(weight * advantage * now * counts).sum(), ratio[counts]


def rows_of(group, problems: Sequence[Problem]) -> list[Row]:
    """Return the rollouts of a group that are trained; chances of being kept weigh them."""
    result, subset = group.result, group.subset
    kept = [
        kept_probability(result.rollouts[at]) * share
        for at, share in zip(subset.indices, subset.inclusion, strict=True)
    ]
    found = []
    for at, weight, advantage in zip(
        subset.indices, inclusion_weights(kept), group.advantages, strict=True
    ):
        rollout = result.rollouts[at]
        if advantage is None:
            continue
        prompt = problems[rollout.prompt_id].prompt
        found.append(
            Row(
                ids=[*prompt, *rollout.token_ids()],
                start=len(prompt),
                behaviour=behaviour_logprobs(rollout),
                advantage=advantage * weight,
            )
        )
    return found
