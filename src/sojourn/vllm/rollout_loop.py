"""A training run on real engines: the rollout machine, vLLM, rewards and a trainer, in one loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from sojourn.errors import UserError
from sojourn.rollout import events
from sojourn.rollout import states as st
from sojourn.rollout.actions import Abort, Action, End, Submit, Train
from sojourn.rollout.events import Event
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.model import Rollout
from sojourn.rollout.needs import RolloutNeed
from sojourn.vllm.rollouts import EngineGone, PauseMode, RolloutEngine, clock
from sojourn.vllm.sampling import Sampling
from sojourn.vllm.weights import Weights

WANTING: Final = {
    RolloutNeed.PRIORITY: "; start it with --scheduling-policy priority",
    RolloutNeed.TURNS: "; give the loop an environment, `respond`",
}
"""What to do about a need that is not met."""


class Observation(NamedTuple):
    """What an environment says when a rollout ended a turn.

    Attributes:
        token_ids: Ids that the rollout is given to go on from.
        done: Whether it ends here.
    """

    token_ids: tuple[int, ...] = ()
    done: bool = False


Grade: TypeAlias = Callable[[Rollout], Awaitable[float]]
Learn: TypeAlias = Callable[[Train], Awaitable[Weights]]
Respond: TypeAlias = Callable[[Rollout], Awaitable[Observation]]


class RolloutLoop:
    """Carries events to the machine and its actions to engines, rewards and the trainer.

    Attributes:
        machine: What decides.
        prompts: Token ids of each prompt, by its number.
        grade: Gives a rollout that has ended its reward.
        learn: Trains on a batch and says where the new weights are.
        respond: The environment, asked whenever a rollout stops; None if a stop ends it.
        mode, clear_cache: How weights are changed, as `RolloutEngine.update` has it.
        engines: Those that were added, by number; lost ones too.
        inbox: Events not yet handled.
        batches, trained: Batches to train on in all, and those that were; a machine that stands
            further on has some behind it.
        version: Of the weights in training.
        due: A batch that is not trained yet.
    """

    def __init__(
        self,
        machine: RolloutMachine,
        prompts: Sequence[Sequence[int]],
        grade: Grade,
        learn: Learn,
        respond: Respond | None = None,
        mode: PauseMode = "keep",
        clear_cache: bool = True,
    ) -> None:
        self.machine = machine
        self.prompts = prompts
        self.grade = grade
        self.learn = learn
        self.respond = respond
        self.mode: PauseMode = mode
        self.clear_cache = clear_cache
        self.engines: dict[int, RolloutEngine] = {}
        self.inbox: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        self.batches = self.trained = machine.run.step
        self.version = machine.run.version
        self.due: Train | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._trainer: asyncio.Task[None] | None = None
        self._generated_before = machine.run.tokens.generated
        self._ahead = max(machine.run.time - clock(), 0)

    def add_engine(self, llm: Any, counts: Any, sampling: Sampling | None = None) -> RolloutEngine:
        """Let the run have another engine; `start` it then, or `run` does.

        Raises:
            UserError: If it lacks what a policy needs, or its output could not be accounted for.
        """
        index = len(self.engines)
        engine = RolloutEngine(llm, counts, self.inbox.put_nowait, index, sampling)
        self._check_needs(engine.offers)
        self.engines[index] = engine
        return engine

    def _check_needs(self, offers: frozenset[RolloutNeed]) -> None:
        if self.respond is None:
            offers -= {RolloutNeed.TURNS}
        policies = self.machine.run.policies
        others = (one for one in policies if one is not policies.controls)
        for policy in (*others, *policies.controls):
            for need in sorted(getattr(policy, "needs", frozenset()) - offers, key=str):
                what = WANTING.get(need, "; no vLLM engine can: choose another policy")
                name = type(policy).__name__
                raise UserError(f"{name} needs an engine that can {need.value}{what}")

    async def run(self, batches: int) -> None:
        """Train on so many more batches, and then stop what runs; its tokens stay with the machine.

        It may be called again, which goes on from there, and so does another loop with a machine
        that was given this one's state. What rewards, environment or trainer raise comes out
        here, when everything has been stopped and accounted for.

        Raises:
            EngineGone: If no engine is left.
        """
        self.batches = self.trained + batches
        self._lose_engines()
        try:
            for engine in self.engines.values():
                if not engine.is_lost:
                    await engine.start(self.version)
            self._ask_again()
            while self.trained < self.batches:
                self._handle(await self.inbox.get())
        finally:
            await self._stop()

    def check_balance(self) -> None:
        """Refuse a token that vLLM generated and the machine has not, or twice; after `run`."""
        live = [one for one in self.engines.values() if not one.is_lost]
        for engine in live:
            engine.check_balance()
        told = sum(one.told_tokens for one in self.engines.values())
        ledger = self.machine.run.tokens
        ledger.check()
        new = ledger.generated - self._generated_before
        assert new == told, f"engines told {told}, the machine has {new}"

    def _put(self, event: Event) -> None:
        self.inbox.put_nowait(event)

    def _handle(self, event: Event | BaseException) -> None:
        if isinstance(event, BaseException):
            raise event
        if self.respond is not None and isinstance(event, events.Finished):
            event = self._as_turn(event)
        for action in self._decide(event):
            self._carry_out(action)
        if isinstance(event, events.TurnEnd):
            rollout = self.machine.run.rollout(event.rid)
            if rollout is not None and rollout.awaits_tool and rollout.status in st.LIVE:
                self._begin(self._respond(rollout))
        if isinstance(event, events.EngineLost) and not self.machine.run.engines:
            raise EngineGone("no engine is left")

    def _decide(self, event: Event) -> list[Action]:
        """Let the machine have an event, at a time not before what it knows from elsewhere."""
        return self.machine.handle(event._replace(time=event.time + self._ahead))

    def _ask_again(self) -> None:
        """Ask for what the machine waits for and nobody works on: a run was stopped or restored."""
        run = self.machine.run
        for rollout in [*run.rollouts.values()]:
            if rollout.status in st.SCORED and run.reward(rollout.rid) is None:
                self._begin(self._grade(rollout))
            elif rollout.awaits_tool and rollout.status in st.LIVE:
                self._begin(self._respond(rollout))
        if self.due is not None:
            self._trainer = self._begin(self._learn(self.due))
        elif not run.wanted:
            self._put(events.BatchWanted(clock()))

    @staticmethod
    def _as_turn(event: events.Finished) -> Event:
        """Return the end of a turn where an engine tells the end of a rollout."""
        if event.reason != events.STOP:
            return event
        return events.TurnEnd(event.time, event.rid, event.attempt, event.start, event.pieces)

    def _carry_out(self, action: Action) -> None:
        run = self.machine.run
        if isinstance(action, Submit):
            sampled = run.rollouts[action.rid].sampled
            prompt = self.prompts[action.prompt_id]
            self.engines[action.engine].submit(action, prompt, sampled)
        elif isinstance(action, Abort):
            self.engines[run.rollouts[action.rid].engine].abort(action.rid, action.attempt)
        elif isinstance(action, End):
            rollout = run.rollout(action.rid)
            if rollout is not None and action.status in st.SCORED:
                self._begin(self._grade(rollout))
        elif isinstance(action, Train):
            self._trainer = self._begin(self._learn(action))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let something run beside the loop; if it fails, so does the loop."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

        def over(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if not done.cancelled() and (error := done.exception()) is not None:
                self.inbox.put_nowait(error)

        task.add_done_callback(over)
        return task

    async def _grade(self, rollout: Rollout) -> None:
        value = await self.grade(rollout)
        self._put(events.Rewarded(clock(), rollout.rid, value))

    async def _respond(self, rollout: Rollout) -> None:
        assert self.respond is not None
        said = await self.respond(rollout)
        ids = said.token_ids
        self._put(events.ToolReturn(clock(), rollout.rid, len(ids), ids, done=said.done))

    async def _learn(self, batch: Train) -> None:
        """Train on a batch, give the engines the new weights if it is time, ask for the next."""
        self.due = batch
        weights = await self.learn(batch)
        self.due = None
        if (self.trained + 1) % self.machine.run.plan.batches_per_version == 0:
            self.version += 1
            await asyncio.gather(
                *(self._update(one, weights) for one in self.engines.values() if not one.is_lost)
            )
        self.trained += 1
        more = self.trained < self.batches
        self._put(events.BatchWanted(clock()) if more else events.Tick(clock()))

    async def _update(self, engine: RolloutEngine, weights: Weights) -> None:
        try:
            await engine.update(self.version, weights, self.mode, self.clear_cache)
        except EngineGone:
            return  # it has told so itself

    async def _stop(self) -> None:
        """Stop what runs and let the machine have every token of it; nothing new is sent.

        Whoever works on a reward or an observation is told to give up; it is asked again if the
        run goes on. The trainer is waited for, lest an engine is left with half of its weights.
        """
        for task in self._tasks - {self._trainer}:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for engine in self.engines.values():
            for flight in list(engine.flights.values()):
                engine.abort(flight.submit.rid, flight.submit.attempt)
        while any(one.flights for one in self.engines.values()) or not self.inbox.empty():
            event = await self.inbox.get()
            if not isinstance(event, BaseException):
                self._keep_batch(self._decide(event))
        self._lose_engines()

    def _lose_engines(self) -> None:
        """Let the machine take back what it believes engines to have."""
        for index in list(self.machine.run.engines):
            lost = events.EngineLost(self.machine.run.time - self._ahead, index)
            self._keep_batch(self._decide(lost))

    def _keep_batch(self, actions: Sequence[Action]) -> None:
        """Let actions be that have no use any more, but not a batch."""
        for action in actions:
            if isinstance(action, Train):
                self.due = action
