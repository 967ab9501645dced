"""What a training loop asks: which prompts, how many rollouts of each, and which advantages.

A trainer that owns its loop calls `Curriculum` when it needs prompts and tells it what became of
them. Behind it is the machine that runs rollouts everywhere else, with one engine that takes all
rollouts at once: the trainer's own. It needs no event loop, clock or framework; time counts calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sojourn.errors import UserError
from sojourn.rollout import states as st
from sojourn.rollout.actions import Abort, Action, Close, Proposal, Submit, Train
from sojourn.rollout.beliefs import BeliefRules
from sojourn.rollout.events import (
    ERROR,
    LENGTH,
    STOP,
    Aborted,
    BatchWanted,
    EngineUp,
    Event,
    Finished,
    Pieces,
    Rewarded,
    Tick,
    WeightsLive,
)
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.model import Decision, Group, GroupResult, Prompt, Rollout, check_reward
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.plan import Plan
from sojourn.rollout.records import Run
from sojourn.rollout.slots import (
    UNLIMITED,
    Advantage,
    Allocate,
    Policies,
    Select,
    State,
    Subsample,
)
from sojourn.trainers.names import RequestName, check_run
from sojourn.trainers.own_slots import Asked, OneEngine, Taken

ENGINE: Final = 0
DISCARDED: Final = "discarded"
ENDS: Final = (STOP, LENGTH, ERROR, DISCARDED)
"""How a rollout may end: by itself, at a limit, by a fault, or given up by the trainer."""

TRAINER_OFFERS: Final = frozenset(
    {RolloutNeed.LOGPROBS, RolloutNeed.VERSIONS, RolloutNeed.EMBEDDINGS}
)
"""What a trainer that generates by itself has: no policy can stop or resume its rollouts."""


class Chosen(NamedTuple):
    """The policies that a trainer lets decide; the others are its own."""

    select: Select
    allocate: Allocate
    subsample: Subsample
    advantage: Advantage


class Assignment(NamedTuple):
    """A prompt that is to be rolled out, and how often.

    Attributes:
        group: Number of its group, never used again; the same again for a further round.
        prompt_id: The prompt.
        rids: One number for each rollout.
        names: Name of the first request of each.
        prefix_tokens, prefix: What each begins with after the prompt, such as a hint.
        propensity: Probability with which the prompt was selected.
        decisions: All decisions about the group so far, for correction afterwards.
    """

    group: int
    prompt_id: int
    rids: tuple[int, ...]
    names: tuple[str, ...]
    prefix_tokens: int
    prefix: tuple[int, ...]
    propensity: float
    decisions: tuple[Decision, ...]

    @property
    def rollouts(self) -> int:
        """How many rollouts."""
        return len(self.rids)


class Attempt(NamedTuple):
    """What became of a rollout.

    Attributes:
        rid: The rollout.
        reward: Its reward; None if it has none yet, or never will because it failed.
        pieces: Its output, with the weight version of each part.
        end: One of `ENDS`.
    """

    rid: int
    reward: float | None = None
    pieces: Pieces = ()
    end: str = STOP


class Curriculum:
    """Prompts and rollout counts out, results in, advantages out.

    Attributes:
        machine: The composition behind it; hosts may read its records.
        run_name: What the names of requests begin with.
        late: Results of rollouts that were over already.
    """

    def __init__(
        self,
        plan: Plan,
        prompts: Sequence[Prompt],
        chosen: Chosen,
        rules: BeliefRules | None = None,
        run_name: str = "run",
    ) -> None:
        check_offered(chosen)
        self._asked = Asked()
        self._taken = Taken()
        policies = Policies(
            select=chosen.select,
            allocate=chosen.allocate,
            controls=(self._asked,),
            dispatch=OneEngine(),
            replay=self._taken,
            subsample=chosen.subsample,
            advantage=chosen.advantage,
        )
        self.machine = RolloutMachine(plan, prompts, policies, rules)
        self.run_name = check_run(run_name)
        self.late = 0
        self._unsaid: dict[int, Pieces] = {}
        self._hear(EngineUp(0, ENGINE))

    @property
    def run(self) -> Run:
        """The records of the run, to be read only."""
        return self.machine.run

    def propose(self, count: int) -> list[Assignment]:
        """Return `count` prompts with the rollouts that each gets.

        Fewer come back where the plan's staleness or the selector lets no more be opened.
        """
        assert count > 0
        self._asked.wanted = count
        try:
            actions = self._hear(Tick(self._now()))
        finally:
            self._asked.wanted = 0
        return self._assignments(actions)

    def observe(self, attempts: Iterable[Attempt]) -> list[Assignment]:
        """Take note of what became of rollouts; return the further rounds that policies want.

        A rollout without a reward, unless it failed, keeps its group open until `reward`. One
        that is told again only revises its reward.
        """
        actions: list[Action] = []
        for one in attempts:
            assert one.end in ENDS, f"a rollout ends by one of {ENDS}"
            rollout = self.run.rollouts.get(one.rid)
            if rollout is None:
                self.late += 1
            elif rollout.status == st.RUNNING:
                actions += self._ended(rollout, one)
            if one.reward is not None and one.end in (STOP, LENGTH):
                actions += self.reward(one.rid, one.reward)
        return self._assignments(actions)

    def reward(self, rid: int, value: float, final: bool = True) -> list[Action]:
        """Give a rollout a reward, or revise it."""
        return self._hear(Rewarded(self._now(), rid, value, final))

    def lose(self, groups: Iterable[int]) -> None:
        """Give up groups: what is still out of them never comes, what has ended is kept."""
        known = [uid for uid in groups if uid in self.run.groups]
        if known:
            self._asked.proposals += [Close(uid, "lost by the trainer") for uid in known]
            self._hear(Tick(self._now()))

    def batch(self, groups: int = 0) -> Train | None:
        """Hand out a training batch with its advantages, oldest groups first.

        Args:
            groups: How many; 0 for all that are usable, as where the trainer chose what to
                train on. Never more than the plan's batch.

        Returns:
            The batch, or None while too few groups are usable, or an open one would become too
            stale for the batch after this one.
        """
        self._taken.count = groups or max(self.run.usable, 1)
        self._asked.taking = True
        try:
            now = self._now()
            actions = self._hear(Tick(now) if self.run.wanted else BatchWanted(now))
        finally:
            self._asked.taking = False
            self._taken.count = UNLIMITED
        return next((one for one in actions if isinstance(one, Train)), None)

    def advance(self, version: int) -> None:
        """Take note of the version of the weights that generate from now on; it never goes back."""
        if version > self.run.version:
            self._hear(WeightsLive(self._now(), version))

    def advantages(
        self, groups: Sequence[Sequence[float | None]], prompt_ids: Sequence[int] | None = None
    ) -> list[list[float | None]]:
        """Return the advantage of each rollout of groups of any sizes.

        Args:
            groups: The reward of each rollout; None for one that must not count, because it
                failed or was rejected.
            prompt_ids: The prompt of each group, for estimators that read beliefs; -1 for one
                of which nothing is believed.

        Returns:
            For each group, the advantage of each rollout; None for one that is not trained.
        """
        policies = self.run.policies
        ids = [-1] * len(groups) if prompt_ids is None else prompt_ids
        chosen = []
        for at, (rewards, prompt_id) in enumerate(zip(groups, ids, strict=True)):
            result = self._result(at, prompt_id, rewards)
            chosen.append((result, policies.subsample.select(result, self.run)))
        computed = policies.advantage.compute(chosen, self.run)
        spread: list[list[float | None]] = []
        for (result, subset), values in zip(chosen, computed, strict=True):
            whole: list[float | None] = [None] * len(result.rewards)
            for index, value in zip(subset.indices, values, strict=True):
                whole[index] = value
            spread.append(whole)
        return spread

    def metrics(self) -> dict[str, float]:
        """Return the numbers of the run and of its policies."""
        return {**self.machine.metrics(), "late": float(self.late)}

    def state_dict(self) -> State:
        """Return everything as JSON values; what is restored proposes the same."""
        return {"machine": self.machine.state_dict(), "late": self.late}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what was saved."""
        self.machine.load_state_dict(state["machine"])
        self.late = state["late"]

    def _now(self) -> int:
        return self.run.time + 1

    def _hear(self, event: Event) -> list[Action]:
        """Let the machine hear an event, and answer the aborts that follow from it."""
        actions: list[Action] = []
        due: list[Event] = [event]
        while due:
            for one in self.machine.handle(due.pop(0)):
                if isinstance(one, Abort):
                    due.append(self._abort_answer(one, len(due) + 1))
                else:
                    actions.append(one)
        return actions

    def _abort_answer(self, abort: Abort, later: int) -> Event:
        rollout = self.run.rollouts[abort.rid]
        pieces = self._unsaid.pop(abort.rid, ())
        time = self.run.time + later
        return Aborted(time, abort.rid, abort.attempt, rollout.length, pieces)

    def _ended(self, rollout: Rollout, one: Attempt) -> list[Action]:
        """Let a running rollout end."""
        if one.end == DISCARDED:
            self._unsaid[one.rid] = one.pieces
            dropped: Proposal = Abort(one.rid, keep=False, reason="discarded by the trainer")
            self._asked.proposals.append(dropped)
            return self._hear(Tick(self._now()))
        end = Finished(self._now(), one.rid, rollout.attempt, rollout.length, one.pieces, one.end)
        return self._hear(end)

    def _assignments(self, actions: Iterable[Action]) -> list[Assignment]:
        """Gather the rollouts of each group that are to be sent."""
        by_group: dict[int, list[Submit]] = {}
        for one in actions:
            if isinstance(one, Submit):
                by_group.setdefault(one.group, []).append(one)
        return [self._assignment(uid, submits) for uid, submits in by_group.items()]

    def _assignment(self, uid: int, submits: Sequence[Submit]) -> Assignment:
        group = self.run.groups[uid]
        sample = {rid: at for at, rid in enumerate(group.rids)}
        return Assignment(
            group=uid,
            prompt_id=group.prompt_id,
            rids=tuple(one.rid for one in submits),
            names=tuple(str(RequestName(self.run_name, uid, sample[one.rid])) for one in submits),
            prefix_tokens=submits[0].prefix_tokens,
            prefix=submits[0].prefix,
            propensity=group.decisions[0].propensity,
            decisions=tuple(group.decisions),
        )

    def _result(self, uid: int, prompt_id: int, rewards: Sequence[float | None]) -> GroupResult:
        """Return a group of finished rollouts with these rewards."""
        for at, reward in enumerate(rewards):
            if reward is not None:
                check_reward(reward, f"rollout {at} of group {uid}")
        version, step = self.run.version, self.run.step
        rids = list(range(len(rewards)))
        group = Group(uid, prompt_id, version, step, 0, len(rids), st.SETTLED, len(rids), rids)
        rollouts = [
            Rollout(
                rid,
                uid,
                prompt_id,
                rid,
                self.run.plan.tokens_max,
                status=st.PRUNED if reward is None else st.FINISHED,
            )
            for rid, reward in zip(rids, rewards, strict=True)
        ]
        return GroupResult(group, rollouts, list(rewards))


def check_offered(chosen: Chosen) -> None:
    """Refuse policies that need more than a trainer offers.

    Raises:
        UserError: Naming the slot and what is missing.
    """
    for slot, policy in zip(chosen._fields, chosen, strict=True):
        for need in sorted(policy.needs - TRAINER_OFFERS, key=lambda one: one.name):
            raise UserError(
                f"the {slot} policy {type(policy).__name__} needs to {need.value}, which a trainer "
                f"that generates by itself cannot do"
            )
