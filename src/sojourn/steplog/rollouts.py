"""The record of a simulated training run: what each step took, trained and wasted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class StepRow:
    """One training step, from asking for its batch to asking for the next one.

    Attributes:
        step: Its number, from 1.
        start_seconds, seconds: When the batch was asked for, and how long the step took.
        waiting_seconds: How long of it the trainer waited for the batch.
        groups, replayed: Newly generated groups in the batch, and others.
        mixed: Newly generated ones whose rewards differ.
        rollouts, tokens: Trained of the newly generated groups.
        stale_tokens: Of those tokens, what older weights had made.
        lag_tokens: Sum over those tokens of how many versions old their weights were.
        lag_versions_max: The oldest of them.
        filtered, discarded: Groups that ended otherwise since the batch before.
        filtered_mixed: Of the filtered ones, those whose rewards differ.
        submitted: Rollouts made since the batch before.
        generated, discarded_tokens, carried_tokens: Counts of the token ledger after the batch,
            since the start; carried is what then stood.
        success: Mean success probability over all prompts before the update.
        busy_share: Share of the engines' time that was in steps.
    """

    step: int
    start_seconds: float
    seconds: float
    waiting_seconds: float
    groups: int
    replayed: int
    mixed: int
    rollouts: int
    tokens: int
    stale_tokens: int
    lag_tokens: int
    lag_versions_max: int
    filtered: int
    discarded: int
    filtered_mixed: int
    submitted: int
    generated: int
    discarded_tokens: int
    carried_tokens: int
    success: float
    busy_share: float


@dataclass(slots=True)
class RolloutRecord:
    """One run of one candidate with one seed.

    Attributes:
        candidate, seed: What ran.
        role: `candidate`, or `oracle` or `uniform` for a bound.
        complete: Whether all steps were run.
        warmup: Steps at the beginning that no number counts.
        steps: Those that were run.
        tokens: The token ledger at the end, by name.
        trained_lengths, offered_lengths: Sampled tokens of the rollouts that were trained after
            the warm-up, and of as many drawn from all prompts alike at the same time.
        counts: Numbers of the machine and the policies at the end.
        engine_tokens: Tokens that the engines generated, counted from their steps alone.
        untold_tokens: Of those, what had not been told when the run ended.
        prefill_tokens: Prompt and output tokens that engines computed to begin and to resume.
        preemptions: Rollouts that lost their KV for want of memory.
        gpus: GPUs that generate.
        policies: Policy and parameters of each slot.
        wall_seconds: Time that the simulation took.
    """

    candidate: str
    seed: int
    role: str
    complete: bool
    warmup: int
    steps: list[StepRow] = field(default_factory=list)
    tokens: Mapping[str, int] = field(default_factory=dict)
    trained_lengths: list[int] = field(default_factory=list)
    offered_lengths: list[int] = field(default_factory=list)
    counts: Mapping[str, float] = field(default_factory=dict)
    engine_tokens: int = 0
    untold_tokens: int = 0
    prefill_tokens: int = 0
    preemptions: int = 0
    gpus: int = 0
    policies: Mapping[str, Any] = field(default_factory=dict)
    wall_seconds: float = 0.0

    @property
    def counted(self) -> list[StepRow]:
        """The steps after the warm-up."""
        return self.steps[self.warmup :]
