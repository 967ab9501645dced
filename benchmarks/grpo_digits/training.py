"""One run: an arm, a seed, so many updates, in the generator's own time."""

from __future__ import annotations

import random
from collections import deque
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.grpo_digits.arms import ARMS, make
from benchmarks.grpo_digits.digits import Problem, split
from benchmarks.grpo_digits.generator import Generator
from benchmarks.grpo_digits.learner import Learner
from benchmarks.grpo_digits.model import Model, Shape
from benchmarks.grpo_digits.pretrain import accuracy, pretrain
from sojourn.rollout import states as st
from sojourn.rollout.actions import Abort, Action, End, Submit, Train
from sojourn.rollout.events import (
    BatchWanted,
    EngineUp,
    Event,
    Rewarded,
    WeightsLive,
    WeightsPending,
)
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.model import Prompt


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers of the benchmark.

    Attributes:
        digits_max: Digits of the longest problems.
        prompts, test: Problems to train on, and held out.
        groups, rollouts: Groups in a batch, rollouts in a group.
        tokens_max: Where a rollout is cut.
        updates: Batches trained.
        look_every: Updates between two looks at the held-out problems.
        rate: Learning rate.
        slips: Share of the columns that are wrong in supervised training.
        target: Share of problems solved before the first update.
        first_rate: Learning rate of supervised training.
        shape: Of the model.
    """

    digits_max: int = 6
    prompts: int = 256
    test: int = 512
    groups: int = 32
    rollouts: int = 8
    tokens_max: int = 35
    updates: int = 60
    look_every: int = 10
    rate: float = 4e-4
    slips: float = 0.3
    target: float = 0.3
    first_rate: float = 2e-3
    shape: Shape = field(default_factory=Shape)

    @property
    def plan(self) -> dict[str, int]:
        """The fields of the plan that all arms share."""
        return {
            "batch_groups": self.groups,
            "rollouts_per_group": self.rollouts,
            "tokens_max": self.tokens_max,
        }

    def problems(self) -> tuple[list[Problem], list[Problem]]:
        """Return the problems to train on and those held out."""
        return split(self.prompts, self.test, self.digits_max, seed=1)


def first_weights(sizes: Sizes, file: Path, seed: int = 0, tell: Any = print) -> float:
    """Write the weights that every run begins with; return the share that they solve."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = Model(sizes.shape)
    test = sizes.problems()[1]
    share = pretrain(
        model,
        sizes.digits_max,
        sizes.target,
        test,
        seed,
        sizes.tokens_max,
        sizes.slips,
        sizes.first_rate,
        tell=tell,
    )
    torch.save(model.state_dict(), file)
    return share


class Run:
    """Machine, generator and learner of one run.

    Attributes:
        machine, generator, learner: What is driven.
        train, test: Problems.
        spoilt: Which of the problems to train on nothing solves.
        inbox: Events not yet handled.
        due: A batch that the learner is to train on.
        version: Of the weights that the generator has.
        seconds: Wall time of generating, of learning and of deciding.
        curve: What every update saw.
    """

    def __init__(self, arm_name: str, seed: int, sizes: Sizes, weights: Path) -> None:
        arm = ARMS[arm_name]
        self.sizes = sizes
        self.train, self.test = sizes.problems()
        prompts = [
            Prompt(at, str(one.digits), len(one.prompt)) for at, one in enumerate(self.train)
        ]
        chance = random.Random(2)
        self.spoilt = [chance.random() < arm.spoilt for _ in self.train]
        made = make(arm, prompts, seed, sizes.plan)
        self.machine = RolloutMachine(made.plan, prompts, made.policies, arm.rules)
        model = Model(sizes.shape)
        model.load_state_dict(torch.load(weights, weights_only=True))
        self.learner = Learner(model, sizes.rate, arm.corrects)
        self.generator = Generator(deepcopy(model), sizes.groups * sizes.rollouts, seed)
        self.inbox: deque[Event] = deque()
        self.due: Train | None = None
        self.version = 0
        self.seconds = {"generating": 0.0, "learning": 0.0, "deciding": 0.0}
        self.curve: list[dict[str, Any]] = []

    def go(self) -> dict[str, Any]:
        """Train on all batches; return what is shown."""
        self.inbox += [EngineUp(0, 0, 0, self.generator.seats), BatchWanted(0)]
        looks = {0: self._look()}
        while len(self.curve) < self.sizes.updates:
            began = perf_counter()
            while self.inbox:
                for action in self.machine.handle(self.inbox.popleft()):
                    self._carry_out(action)
            self.seconds["deciding"] += perf_counter() - began
            if self.due is not None:
                self._learn(self.due)
                done = len(self.curve)
                if done % self.sizes.look_every == 0:
                    looks[done] = self._look()
                continue
            began = perf_counter()
            self.inbox += self.generator.step()
            self.seconds["generating"] += perf_counter() - began
        tokens = self.machine.run.tokens
        tokens.check()
        assert tokens.generated == self.generator.generated - self._untold()
        return {
            "looks": looks,
            "curve": self.curve,
            "steps": self.generator.steps,
            "generated": self.generator.generated,
            "prefilled": self.generator.prefilled,
            "tokens": tokens.state_dict(),
            "seconds": self.seconds,
            "metrics": self.machine.metrics(),
        }

    def _untold(self) -> int:
        """Return the tokens that running rollouts have and the machine was not told of."""
        return sum(
            int(self.generator.lengths[seat.row] - self.generator.starts[seat.row]) - seat.told
            for seat in self.generator.rows
        )

    def _look(self) -> dict[int, float]:
        """Return the share of held-out problems solved, by digits; with the same noise always."""
        found = accuracy(self.learner.model, self.test, 7, self.sizes.tokens_max)
        self.learner.model.train()
        return found

    def _carry_out(self, action: Action) -> None:
        run, now = self.machine.run, self.generator.time
        if isinstance(action, Submit):
            prompt = self.train[action.prompt_id].prompt
            self.generator.submit(action, prompt, run.rollouts[action.rid].sampled)
        elif isinstance(action, Abort):
            self.inbox += self.generator.abort(action.rid, action.attempt)
        elif isinstance(action, End) and action.status in st.SCORED:
            rollout = run.rollouts[action.rid]
            value = self.train[rollout.prompt_id].reward(rollout.token_ids())
            value *= not self.spoilt[rollout.prompt_id]
            self.inbox.append(Rewarded(now, rollout.rid, value))
        elif isinstance(action, Train):
            self.due = action

    def _learn(self, batch: Train) -> None:
        """Update the weights, and let the generator have them if it is time."""
        began = perf_counter()
        learned = self.learner.update(batch, self.train)
        self.seconds["learning"] += perf_counter() - began
        self.due = None
        now = self.generator.time
        done = len(self.curve) + 1
        if done % self.machine.run.plan.batches_per_version == 0:
            self.version += 1
            self.generator.load(deepcopy(self.learner.model), self.version)
            self.inbox += [WeightsPending(now, self.version), WeightsLive(now, self.version)]
        self.inbox.append(BatchWanted(now))
        self.curve.append(
            {
                **asdict(learned),
                "steps": self.generator.steps,
                "generated": self.generator.generated,
                "stale": batch.stale_tokens,
            }
        )


def run(arm_name: str, seed: int, sizes: Sizes, weights: Path) -> dict[str, Any]:
    """Run an arm with a seed; return its numbers, as JSON values."""
    torch.set_num_threads(1)  # two runs go side by side
    return {"arm": arm_name, "seed": seed, **Run(arm_name, seed, sizes, weights).go()}
