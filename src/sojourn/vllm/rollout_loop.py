"""A training run on real engines: the rollout machine, vLLM, rewards and a trainer, in one loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeAlias

from sojourn.rollout import events
from sojourn.rollout import states as st
from sojourn.rollout.actions import Abort, Action, End, Submit, Train
from sojourn.rollout.events import Event
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.model import Rollout
from sojourn.vllm.rollouts import EngineGone, PauseMode, RolloutEngine, clock
from sojourn.vllm.sampling import Sampling
from sojourn.vllm.weights import Weights


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
        batches, trained: Batches to train on, and those that were.
        version: Of the weights in training.
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
        self.batches = 0
        self.trained = 0
        self.version = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def add_engine(self, llm: Any, counts: Any, sampling: Sampling | None = None) -> RolloutEngine:
        """Let the run have another engine; `start` it then, or `run` does."""
        index = len(self.engines)
        engine = RolloutEngine(llm, counts, self.inbox.put_nowait, index, sampling)
        self.engines[index] = engine
        return engine

    async def run(self, batches: int) -> None:
        """Train on so many batches, and then stop what runs; its tokens stay with the machine.

        Raises:
            EngineGone: If no engine is left.
        """
        self.batches = batches
        for engine in self.engines.values():
            await engine.start(self.version)
        self._put(events.BatchWanted(clock()))
        while self.trained < batches:
            self._handle(await self.inbox.get())
        await self._stop()

    def check_balance(self) -> None:
        """Refuse a token that vLLM generated and the machine has not, or twice; after `run`."""
        live = [one for one in self.engines.values() if not one.is_lost]
        for engine in live:
            engine.check_balance()
        told = sum(one.told_tokens for one in self.engines.values())
        ledger = self.machine.run.tokens
        ledger.check()
        assert ledger.generated == told, f"engines told {told}, the machine has {ledger.generated}"

    def _put(self, event: Event) -> None:
        self.inbox.put_nowait(event)

    def _handle(self, event: Event | BaseException) -> None:
        if isinstance(event, BaseException):
            raise event
        if self.respond is not None and isinstance(event, events.Finished):
            event = self._as_turn(event)
        for action in self.machine.handle(event):
            self._carry_out(action)
        if isinstance(event, events.TurnEnd):
            rollout = self.machine.run.rollout(event.rid)
            if rollout is not None and rollout.awaits_tool and rollout.status in st.LIVE:
                self._begin(self._respond(rollout))
        if isinstance(event, events.EngineLost) and not self.machine.run.engines:
            raise EngineGone("no engine is left")

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
            self._begin(self._learn(action))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something run beside the loop; if it fails, so does the loop."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

        def over(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if not done.cancelled() and (error := done.exception()) is not None:
                self.inbox.put_nowait(error)

        task.add_done_callback(over)

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
        weights = await self.learn(batch)
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
        """Stop what runs and let the machine have every token of it; nothing new is sent."""
        for engine in self.engines.values():
            for flight in list(engine.flights.values()):
                engine.abort(flight.submit.rid, flight.submit.attempt)
        for task in [*self._tasks]:
            task.cancel()
        while any(one.flights for one in self.engines.values()) or not self.inbox.empty():
            event = await self.inbox.get()
            if not isinstance(event, BaseException):
                self.machine.handle(event)  # its actions are of no use any more
        for index in list(self.machine.run.engines):
            self.machine.handle(events.EngineLost(clock(), index))
