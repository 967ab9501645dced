"""The records of a run: groups, rollouts, engines and rewards, and the only code that moves them.

`Run` is what policies see as a `View`. `enter` and `enter_group` are the only places where a state
changes; they keep indices, engine counts and the token ledger in step with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sojourn.decide.clock import Time
from sojourn.rollout import states as st
from sojourn.rollout.actions import Action, End, GroupOver
from sojourn.rollout.beliefs import BeliefStore
from sojourn.rollout.events import Pieces
from sojourn.rollout.model import (
    SAMPLED,
    Decision,
    Group,
    GroupResult,
    Prompt,
    Reward,
    Rollout,
    Segment,
    digest,
)
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Policies
from sojourn.rollout.tokens import CARRIED, DISCARDED, TRAINED, TokenLedger
from sojourn.rollout.versions import VersionLedger


@dataclass(slots=True)
class Engine:
    """An engine as far as it is known; the fields are those of `views.EngineView`.

    Attributes:
        loading: Whether it is loading weights and takes no rollouts.
    """

    id: int
    version: int = 0
    seats: int = 0
    kv_tokens: int = 0
    in_flight: int = 0
    context_tokens: int = 0
    kv: float = 0.0
    running: int = 0
    waiting: int = 0
    preemptions: int = 0
    reported: Time = -1
    loading: bool = False


class Run:
    """Everything that is known of a training run's rollouts.

    Attributes:
        plan, prompts, policies: Never change.
        beliefs, ledger, tokens: The shared services.
        time: Time of the event in hand.
        step, wanted: Batches asked for so far, and whether one is due.
        groups: Exactly the groups that are open or settled, in the order of opening.
        open_groups, usable_groups: Those of each of the two states.
        open_prompts: Groups of each prompt that has any.
        cohorts: Open groups by the opening they were part of.
        rollouts: Exactly the rollouts of those groups.
        by_status: Live ones by state, in the order in which they entered it.
        rewards: Rows of each rollout that has any, latest last.
        engines: Those that are up, by number.
        ripe: Groups that may have to be settled, in the order in which that came up.
        woken: Rollouts that have become pending and are not queued yet.
        budget: Rollouts that may still be submitted.
        next_uid, next_rid, next_cohort: Numbers of the next ones.
        submitted: Rollouts made so far.
        ended: How many ended in each state.
        groups_over: How many groups ended in each state.
        stale_events, refused: Late words of hosts, and proposals that could not be carried out.
        actions: What the host is to do; emptied by the machine.
    """

    def __init__(self, plan: Plan, prompts: Sequence[Prompt], beliefs: BeliefStore) -> None:
        self.plan = plan
        self.prompts = prompts
        self.policies: Policies
        self.beliefs = beliefs
        self.ledger = VersionLedger(
            plan.allowance,
            plan.groups_per_version,
            plan.groups_max,
            batches_per_version=plan.batches_per_version,
        )
        self.tokens = TokenLedger()
        self.time: Time = 0
        self.step = 0
        self.wanted = False
        self.groups: dict[int, Group] = {}
        self.open_groups: dict[int, Group] = {}
        self.usable_groups: dict[int, Group] = {}
        self.open_prompts: dict[int, int] = {}
        self.cohorts: dict[int, dict[int, None]] = {}
        self.rollouts: dict[int, Rollout] = {}
        self.by_status: dict[str, dict[int, None]] = {status: {} for status in st.LIVE}
        self.rewards: dict[int, list[Reward]] = {}
        self.engines: dict[int, Engine] = {}
        self.ripe: dict[int, None] = {}
        self.woken: dict[int, None] = {}
        self.budget = 0
        self.next_uid = 0
        self.next_rid = 0
        self.next_cohort = 0
        self.submitted = 0
        self.ended = dict.fromkeys(st.ENDED, 0)
        self.groups_over = dict.fromkeys(st.OVER, 0)
        self.stale_events = 0
        self.refused = 0
        self.actions: list[Action] = []

    @property
    def version(self) -> int:
        """Version of the weights in training."""
        return self.ledger.version

    @property
    def need(self) -> int:
        """Newly generated groups that the coming batch takes."""
        return min(max(self.policies.replay.fresh(self), 1), self.plan.batch_groups)

    @property
    def usable(self) -> int:
        """Groups that wait to be trained."""
        return len(self.usable_groups)

    @property
    def admission(self) -> int:
        """Groups that staleness lets be opened."""
        return self.ledger.admission(self.plan.batch_groups - self.need)

    @property
    def on_engines(self) -> int:
        """Rollouts that engines have."""
        return len(self.by_status[st.RUNNING])

    def group(self, uid: int) -> Group:
        """Return a group that is not over."""
        return self.groups[uid]

    def rollout(self, rid: int) -> Rollout | None:
        """Return a rollout, or None if its group is over."""
        return self.rollouts.get(rid)

    def members(self, uid: int) -> Sequence[Rollout]:
        """Return the rollouts of a group."""
        return [self.rollouts[rid] for rid in self.groups[uid].rids]

    def in_status(self, status: str) -> Iterable[Rollout]:
        """Return the live rollouts of a state."""
        return [self.rollouts[rid] for rid in self.by_status[status]]

    def reward(self, rid: int) -> float | None:
        """Return the reward of a rollout that holds now."""
        rows = self.rewards.get(rid)
        return rows[-1].value if rows else None

    def is_open(self, prompt_id: int) -> bool:
        """Return whether a prompt has a group that is not over."""
        return prompt_id in self.open_prompts

    def overdue(self, uid: int) -> bool:
        """Return whether a group must be in the very next batch."""
        return self.ledger.overdue(self.groups[uid].opened_at_version)

    def result(self, uid: int) -> GroupResult:
        """Return a group with its rollouts and the rewards that hold now."""
        group = self.groups[uid]
        return GroupResult(group, [*self.members(uid)], [self.reward(rid) for rid in group.rids])

    def add_group(self, prompt_id: int, cohort: int) -> Group:
        """Open a group."""
        group = Group(
            uid=self.next_uid,
            prompt_id=prompt_id,
            opened_at_version=self.version,
            step=self.step,
            cohort=cohort,
            opened=self.time,
        )
        self.next_uid += 1
        self.groups[group.uid] = group
        self.open_prompts[prompt_id] = self.open_prompts.get(prompt_id, 0) + 1
        self.cohorts.setdefault(cohort, {})[group.uid] = None
        self.enter_group(group, st.OPEN)
        self.ledger.opened()
        return group

    def add_rollout(
        self, group: Group, token_limit: int, parent: int = -1, fork_at: int = 0
    ) -> Rollout:
        """Make a rollout of an open group, paid from the budget; it has no state yet."""
        assert self.budget > 0
        assert group.status == st.OPEN
        rollout = Rollout(
            rid=self.next_rid,
            group=group.uid,
            prompt_id=group.prompt_id,
            session=self.next_rid if parent < 0 else self.rollouts[parent].session,
            token_limit=token_limit,
            turn_limit=self.plan.turns_max,
            parent=parent,
            fork_at=fork_at,
            opened=self.time,
        )
        self.next_rid += 1
        self.submitted += 1
        self.budget -= 1
        group.budget_spent += 1
        group.waiting += 1
        group.rids.append(rollout.rid)
        self.rollouts[rollout.rid] = rollout
        return rollout

    def enter(self, rollout: Rollout, status: str, reason: str = "") -> None:
        """Let a rollout change its state; the only place where that happens."""
        start = rollout.status
        st.check_move(start, status)
        if start == st.RUNNING:
            self._leave_engine(rollout)
        if start == st.PENDING:
            rollout.waited += self.time - rollout.since
            self.woken.pop(rollout.rid, None)
        if start in self.by_status:
            del self.by_status[start][rollout.rid]
            self.tokens.enter(start, status, rollout.sampled)
        rollout.status = status
        rollout.since = self.time
        if status in st.ENDED:
            self._end(rollout, reason)
            return
        self.by_status[status][rollout.rid] = None
        if status == st.RUNNING:
            engine = self.engines[rollout.engine]
            engine.in_flight += 1
            engine.context_tokens += self.prompts[rollout.prompt_id].tokens + rollout.length
        elif status == st.PENDING:
            self.woken[rollout.rid] = None

    def _leave_engine(self, rollout: Rollout) -> None:
        rollout.stop = ""
        rollout.resumes = False
        engine = self.engines.get(rollout.engine)
        if engine is not None:
            engine.in_flight -= 1
            engine.context_tokens -= self.prompts[rollout.prompt_id].tokens + rollout.length

    def _end(self, rollout: Rollout, reason: str) -> None:
        rollout.end_reason = reason
        self.ended[rollout.status] += 1
        self.actions.append(End(rollout.rid, rollout.status))
        beliefs = self.beliefs
        if rollout.status in st.SCORED:
            beliefs.completed(self.prompts[rollout.prompt_id].domain)
        if rollout.status == st.FINISHED:
            beliefs.lengths.observe(rollout.prompt_id, rollout.sampled)
        elif rollout.status == st.TRUNCATED:
            beliefs.lengths.observe_longer(rollout.prompt_id, rollout.sampled)
        if rollout.status not in st.SCORED or self._is_final(rollout.rid):
            self._count_down(rollout)

    def _is_final(self, rid: int) -> bool:
        return any(row.final for row in self.rewards.get(rid, ()))

    def _count_down(self, rollout: Rollout) -> None:
        group = self.groups[rollout.group]
        group.waiting -= 1
        assert group.waiting >= 0
        if not group.waiting and group.status == st.OPEN:
            self.ripe[group.uid] = None

    def add_reward(self, rollout: Rollout, value: float, final: bool, source: str) -> None:
        """Add a row to the rewards of a rollout."""
        before = self._is_final(rollout.rid)
        rows = self.rewards.setdefault(rollout.rid, [])
        rows.append(Reward(rollout.rid, value, len(rows), final, source, self.time))
        if final and not before and rollout.status in st.SCORED:
            self._count_down(rollout)

    def absorb(self, rollout: Rollout, start: int, pieces: Pieces) -> None:
        """Append new output of a running rollout; nothing may be missing or told twice."""
        assert start == rollout.length, f"output from {start} on, but {rollout.length} are known"
        added = 0
        for piece in pieces:
            if not piece.tokens:
                continue
            assert piece.weight_version >= rollout.newest_version, "weight versions only go up"
            assert len(piece.token_ids) in (0, piece.tokens)
            last = rollout.segments[-1] if rollout.segments else None
            if (
                last is None
                or last.kind != SAMPLED
                or last.weight_version != piece.weight_version
                or last.attempt != rollout.attempt
            ):
                last = Segment(
                    kind=SAMPLED,
                    tokens=0,
                    weight_version=piece.weight_version,
                    engine=rollout.engine,
                    attempt=rollout.attempt,
                    sampling=self.plan.sampling,
                )
                rollout.segments.append(last)
            last.tokens += piece.tokens
            last.token_ids.extend(piece.token_ids)
            last.logprobs.extend(piece.logprobs)
            added += piece.tokens
        rollout.length += added
        rollout.sampled += added
        self.tokens.produce(added)
        engine = self.engines.get(rollout.engine)
        if engine is not None:
            engine.context_tokens += added

    def give(self, rollout: Rollout, kind: str, tokens: int, token_ids: Iterable[int]) -> None:
        """Append tokens that the rollout did not sample."""
        if not tokens:
            return
        ids = list(token_ids)
        assert len(ids) in (0, tokens)
        version = max(rollout.newest_version, 0)
        rollout.segments.append(Segment(kind, tokens, version, token_ids=ids))
        rollout.length += tokens

    def enter_group(self, group: Group, status: str) -> None:
        """Let a group change its state; the only place where that happens."""
        st.check_group_move(group.status, status)
        if group.status == st.OPEN:
            del self.open_groups[group.uid]
            del self.cohorts[group.cohort][group.uid]
            if not self.cohorts[group.cohort]:
                del self.cohorts[group.cohort]
            self.ripe.pop(group.uid, None)
        elif group.status == st.SETTLED:
            del self.usable_groups[group.uid]
        group.status = status
        if status == st.OPEN:
            self.open_groups[group.uid] = group
        elif status == st.SETTLED:
            group.settled = self.time
            self.usable_groups[group.uid] = group

    def forget(self, group: Group, trained: Iterable[int] = ()) -> None:
        """Let a group that is over go, with its rollouts, and say where their tokens went."""
        assert group.status in st.OVER
        chosen = frozenset(trained)
        for rid in group.rids:
            rollout = self.rollouts.pop(rid)
            assert rollout.status in st.ENDED
            if rollout.status in st.SCORED:
                place = TRAINED if rid in chosen else DISCARDED
                self.tokens.move(CARRIED, place, rollout.sampled)
            self.rewards.pop(rid, None)
        del self.groups[group.uid]
        left = self.open_prompts[group.prompt_id] - 1
        if left:
            self.open_prompts[group.prompt_id] = left
        else:
            del self.open_prompts[group.prompt_id]
        self.groups_over[group.status] += 1
        self.actions.append(GroupOver(group.uid, group.status))

    def decision(self, kind: str, propensity: float, reason: str, *inputs: object) -> Decision:
        """Return the record of a decision on these inputs."""
        return Decision(kind, digest(kind, *inputs), propensity, self.time, reason)
