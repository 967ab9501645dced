"""The composition of rollout policies: events in, actions out, and nothing else.

The machine knows no engine, clock or socket. A host (the simulator, an adapter over an engine, a
trainer) tells it what happened and carries out what it asks. Each event goes through the same
steps: the records are brought up to date, controls and dispatch say what they want, groups settle,
a batch is made, groups are opened, and what waits is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sojourn.rollout import batches, events, moves, opening, saving
from sojourn.rollout import states as st
from sojourn.rollout.actions import Action
from sojourn.rollout.beliefs import BeliefRules, BeliefStore
from sojourn.rollout.events import Event, Heard
from sojourn.rollout.model import TOOL, Prompt, Reward, Rollout, check_reward
from sojourn.rollout.plan import Plan
from sojourn.rollout.records import Engine, Run
from sojourn.rollout.slots import Policies
from sojourn.rollout.waiting import Waiting

WORDS_MAX: Final = 1 << 16
"""Settled groups and batches that one event may lead to, at most."""


class RolloutMachine:
    """The rollouts of a training run and the policies that decide about them.

    Attributes:
        run: Records and services; hosts may read them, only the machine writes.
        waiting: The rollouts that wait for an engine.
    """

    def __init__(
        self,
        plan: Plan,
        prompts: Sequence[Prompt],
        policies: Policies,
        rules: BeliefRules | None = None,
    ) -> None:
        assert policies.controls, "at least one control says when groups are opened"
        assert all(prompt.id == at for at, prompt in enumerate(prompts))
        self.run = Run(plan, prompts, BeliefStore(rules or BeliefRules()))
        self.run.policies = policies
        self.waiting = Waiting()
        self._react: dict[type[Any], Callable[[Any], bool]] = {
            events.EngineUp: self._engine_up,
            events.EngineLoad: self._engine_load,
            events.EngineLost: self._engine_lost,
            events.Started: self._started,
            events.Progress: self._progress,
            events.TurnEnd: self._turn_end,
            events.ToolReturn: self._tool_return,
            events.Finished: self._finished,
            events.Aborted: self._aborted,
            events.Rewarded: self._rewarded,
            events.BatchWanted: self._batch_wanted,
            events.WeightsPending: self._weights_pending,
            events.WeightsLive: self._weights_live,
            events.Tick: lambda _: True,
        }

    def handle(self, event: Event) -> list[Action]:
        """Take in an event and return what the host is to do, in this order.

        A late word about something that is over changes nothing and is counted.
        """
        run = self.run
        assert event.time >= run.time, "time only goes forward"
        run.time = event.time
        run.actions = []
        if self._react[type(event)](event):
            self._tell(event)
            self._conclude(event)
        else:
            run.stale_events += 1
        self._follow_up()
        opening.open_groups(run)
        self.waiting.take_in(run)
        self.waiting.send(run)
        run.tokens.check()
        actions, run.actions = run.actions, []
        return actions

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next actions depend on, between two events, as JSON values."""
        return saving.save(self.run, self.waiting)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another machine with the same plan, prompts and policies stood."""
        saving.restore(self.run, self.waiting, state)

    def begin_at(self, version: int) -> None:
        """Begin, before the first event, where training stood that went on without its rollouts.

        What was trained counts as accepted; else a burst of groups would be let in.
        """
        run = self.run
        assert not run.next_rid, "rollouts were made already"
        run.ledger.recover(version, waiting=0, running=0)
        run.step = version * run.plan.batches_per_version

    def metrics(self) -> dict[str, float]:
        """Return the numbers of the run and of every policy that has some, by name."""
        run = self.run
        found: dict[str, float] = {
            **{f"tokens.{name}": float(n) for name, n in run.tokens.state_dict().items()},
            **{f"rollouts.{name}": float(n) for name, n in run.ended.items()},
            **{f"groups.{name}": float(n) for name, n in run.groups_over.items()},
            "rollouts.submitted": float(run.submitted),
            "stale_events": float(run.stale_events),
            "refused": float(run.refused),
            "budget_left": float(run.budget),
        }
        for slot, policy in zip(run.policies._fields, run.policies, strict=True):
            several = policy if isinstance(policy, tuple) else (policy,)
            for at, one in enumerate(several):
                prefix = f"{slot}.{at}" if isinstance(policy, tuple) else slot
                found |= {f"{prefix}.{name}": value for name, value in one.metrics().items()}
        return found

    def _tell(self, event: Heard) -> None:
        """Let controls and dispatch hear an event, and carry out what they want."""
        run, policies = self.run, self.run.policies
        self.waiting.take_in(run)
        proposals = [one for control in policies.controls for one in control.on_event(event, run)]
        proposals += policies.dispatch.on_event(event, run)
        moves.apply(run, proposals)
        self.waiting.take_in(run)
        self.waiting.renew(run, list(policies.dispatch.changed(event, run)))

    def _follow_up(self) -> None:
        """Settle groups and make batches until nothing follows from what policies want."""
        words = 0
        while True:
            heard: list[Heard] = [*opening.settle(self.run)]
            batch = None if heard else batches.make_batch(self.run)
            if batch is not None:
                heard.append(batch)
            if not heard:
                return
            for one in heard:
                self._tell(one)
            words += len(heard)
            assert words < WORDS_MAX, "policies keep on answering each other"

    def _conclude(self, event: Event) -> None:
        """Decide what policies left open: what is at a limit and was not extended."""
        if not isinstance(event, events.Finished | events.TurnEnd):
            return
        rollout = self.run.rollouts.get(event.rid)
        if rollout is None or rollout.status not in (st.ACTING, st.PARKED):
            return
        if rollout.sampled >= rollout.token_limit:
            self.run.enter(rollout, st.TRUNCATED, "limit of tokens")
        elif isinstance(event, events.TurnEnd):
            if 0 < rollout.turn_limit <= rollout.turns:
                self.run.enter(rollout, st.TRUNCATED, "limit of turns")
        elif not rollout.holds:
            self.run.enter(rollout, st.PENDING)

    def _running(self, event: Any) -> Rollout | None:
        """Return the rollout of an engine's word, or None if nobody waits for that word.

        What it generated after the machine gave it up still counts as generated.
        """
        rollout = self.run.rollouts.get(event.rid)
        if (
            rollout is not None
            and rollout.status == st.RUNNING
            and rollout.attempt == event.attempt
        ):
            return rollout
        self.run.tokens.produce_late(sum(piece.tokens for piece in getattr(event, "pieces", ())))
        return None

    def _engine_up(self, event: events.EngineUp) -> bool:
        assert event.engine >= 0
        assert event.engine not in self.run.engines, "an engine comes up once"
        self.run.engines[event.engine] = Engine(
            event.engine, event.version, event.seats, event.kv_tokens
        )
        return True

    def _engine_load(self, event: events.EngineLoad) -> bool:
        engine = self.run.engines.get(event.engine)
        if engine is None:
            return False
        engine.kv, engine.running, engine.waiting = event.kv, event.running, event.waiting
        engine.preemptions, engine.reported = event.preemptions, event.time
        return True

    def _engine_lost(self, event: events.EngineLost) -> bool:
        run = self.run
        if event.engine not in run.engines:
            return False
        run.tokens.produce_late(event.lost_tokens)
        for rollout in run.in_status(st.RUNNING):
            if rollout.engine == event.engine:
                self._gave_back(rollout)
        for rollout in run.rollouts.values():
            if rollout.destination == event.engine:
                rollout.destination = -1
        del run.engines[event.engine]
        return True

    def _gave_back(self, rollout: Rollout) -> None:
        """Let a rollout that its engine no longer has go where it was to go."""
        if rollout.stop == moves.DISCARD:
            self.run.enter(rollout, st.PRUNED, "discarded")
        elif rollout.sampled >= rollout.token_limit:
            self.run.enter(rollout, st.PARKED)
            self.run.enter(rollout, st.TRUNCATED, "limit of tokens")
        elif rollout.stop == moves.KEEP and not rollout.resumes:
            self.run.enter(rollout, st.PARKED)
        else:
            self.run.enter(rollout, st.PENDING)

    def _started(self, event: events.Started) -> bool:
        return self._running(event) is not None

    def _progress(self, event: events.Progress) -> bool:
        rollout = self._running(event)
        if rollout is None:
            return False
        self.run.absorb(rollout, event.start, event.pieces)
        if event.features:
            rollout.features = event.features
        return True

    def _turn_end(self, event: events.TurnEnd) -> bool:
        rollout = self._running(event)
        if rollout is None:
            return False
        self.run.absorb(rollout, event.start, event.pieces)
        rollout.turns += 1
        rollout.awaits_tool = True
        if rollout.stop == moves.DISCARD:
            self.run.enter(rollout, st.PRUNED, "discarded")
        elif rollout.stop == moves.KEEP and not rollout.resumes:
            self.run.enter(rollout, st.PARKED)
        else:
            self.run.enter(rollout, st.ACTING)
        return True

    def _tool_return(self, event: events.ToolReturn) -> bool:
        rollout = self.run.rollouts.get(event.rid)
        if rollout is None or rollout.status not in st.LIVE or not rollout.awaits_tool:
            return False
        self.run.give(rollout, TOOL, event.tokens, event.token_ids)
        rollout.awaits_tool = False
        if event.failed:
            self.run.enter(rollout, st.FAILED, "environment error")
        elif event.done:
            self.run.enter(rollout, st.FINISHED, "environment")
        elif rollout.status == st.ACTING:
            self.run.enter(rollout, st.PENDING)
        return True

    def _finished(self, event: events.Finished) -> bool:
        assert event.reason in events.REASONS
        rollout = self._running(event)
        if rollout is None:
            return False
        self.run.absorb(rollout, event.start, event.pieces)
        parks = not rollout.resumes and (rollout.capped or rollout.stop == moves.KEEP)
        if rollout.stop == moves.DISCARD:
            self.run.enter(rollout, st.PRUNED, "discarded")
        elif event.reason == events.STOP:
            self.run.enter(rollout, st.FINISHED, event.reason)
        elif event.reason == events.ERROR:
            self.run.enter(rollout, st.FAILED, event.reason)
        else:
            self.run.enter(rollout, st.PARKED)  # until it is known whether somebody extends it
            rollout.holds = parks
            if rollout.sampled < rollout.goal:  # an extension would not help, nor would a resume
                self.run.enter(rollout, st.TRUNCATED, "limit of the engine")
        return True

    def _aborted(self, event: events.Aborted) -> bool:
        rollout = self._running(event)
        if rollout is None:
            return False
        self.run.absorb(rollout, event.start, event.pieces)
        self._gave_back(rollout)
        return True

    def _rewarded(self, event: events.Rewarded) -> bool:
        run = self.run
        rollout = run.rollouts.get(event.rid)
        if not 0 <= event.rid < run.next_rid:
            return False
        check_reward(event.value, f"rollout {event.rid}")
        if rollout is None:
            row = Reward(event.rid, event.value, 1, event.final, event.source, event.time)
            run.policies.replay.revise(row)
            return True
        run.add_reward(rollout, event.value, event.final, event.source)
        return True

    def _batch_wanted(self, _: events.BatchWanted) -> bool:
        run = self.run
        assert not run.wanted, "one batch at a time"
        run.wanted = True
        run.step += 1
        return True

    def _weights_pending(self, event: events.WeightsPending) -> bool:
        for engine in self._meant(event.engine):
            engine.loading = True
        return True

    def _weights_live(self, event: events.WeightsLive) -> bool:
        run = self.run
        for engine in self._meant(event.engine):
            assert event.version >= engine.version, "versions only go up"
            engine.version = event.version
            engine.loading = False
        before = run.version
        run.ledger.advance(max(event.version, before))
        if run.version > before:  # groups may have become overdue
            self.waiting.take_in(run)
            self.waiting.renew(run, list(run.by_status[st.PENDING]))
        return True

    def _meant(self, engine: int) -> list[Engine]:
        """Return the engines that an event is about; one that is lost is none."""
        if engine == events.EVERY_ENGINE:
            return list(self.run.engines.values())
        return [self.run.engines[engine]] if engine in self.run.engines else []
