"""The trainer: it asks for batches, trains on them, and brings new weights to the engines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sojourn.decide.clock import Time, from_seconds
from sojourn.rollout.actions import Train
from sojourn.rollout.events import BatchWanted, WeightsLive, WeightsPending
from sojourn.sim.rollout.engines import DRAINING, LIVE, LOST, PAUSED, Engine
from sojourn.sim.rollout.world import ABORT, WAIT

if TYPE_CHECKING:
    from sojourn.sim.rollout.loop import RolloutSimulation


class Trainer:
    """The training loop of a run.

    Attributes:
        version: Version of the weights that engines serve.
        batches: Batches made.
        pausing: Whether engines are being brought to a halt, or stand still.
        then: What is done when all of them stand still.
        update: Time that training on the batch in hand takes.
        newcomers: Engines that came up meanwhile.
        over: Whether all steps were run.
    """

    def __init__(self, sim: RolloutSimulation) -> None:
        self.sim = sim
        self.plan = sim.world.trainer
        self.version = 0
        self.batches = 0
        self.pausing = False
        self.update: Time = 0
        self.newcomers = 0
        self.over = False
        self.loading = False  # whether weights are on their way to engines that stand still

    @property
    def renews(self) -> bool:
        """Whether the engines get new weights after the batch in hand."""
        return self.batches % self.sim.plan.batches_per_version == 0

    def begin(self, now: Time) -> None:
        """Ask for the first batch."""
        self.sim.handle(BatchWanted(now))

    def train(self, action: Train) -> None:
        """Train on a batch."""
        sim, plan = self.sim, self.plan
        tokens = sim.measure.batch(action)
        self.batches += 1
        sim.truth.train(one.result.group.prompt_id for one in action.groups if one.result.mixed)
        self.update = from_seconds(plan.update_seconds + plan.update_token_seconds * tokens)
        if plan.shares_gpus:
            sim.call(action.time, self._pause)
        else:
            sim.call(action.time + self.update, self._updated)

    def _updated(self, now: Time) -> None:
        """The update is done beside the engines."""
        if self.renews:
            self._pause(now)
        else:
            self._next(now)

    def _pause(self, now: Time) -> None:
        """Bring the engines to a halt, each at a step boundary."""
        sim = self.sim
        self.pausing = True
        sim.handle(WeightsPending(now, self.version + self.renews))
        for engine in sim.engines:
            if engine.state != LIVE:
                continue
            engine.state = DRAINING
            if self.plan.sync_mode == WAIT:
                engine.chores.append(lambda _: None)  # to look whether it is empty
            else:
                engine.chores.append(partial(self._halt, engine))
            sim.soon(engine, now)
        self.look(now)

    def _halt(self, engine: Engine, now: Time) -> None:
        """At a step boundary: abort what runs, or freeze it."""
        if engine.state != DRAINING:
            return
        if self.plan.sync_mode == ABORT:
            for flight in list(engine.flights.values()):
                self.sim.abort(flight.rid, flight.attempt, now)
        else:
            for flight in engine.flights.values():
                flight.mark(engine.replica, engine.version)
        engine.state = PAUSED

    def look(self, now: Time) -> None:
        """Go on if all engines stand still; an engine that drains and is empty does."""
        if not self.pausing:
            return
        for engine in self.sim.engines:
            empty = not engine.flights and not engine.replica.steps
            if engine.state == DRAINING and self.plan.sync_mode == WAIT and empty:
                engine.state = PAUSED
        if all(engine.state in (PAUSED, LOST) for engine in self.sim.engines):
            self.pausing = False
            self.loading = True
            share = self.update if self.plan.shares_gpus else 0
            sync = from_seconds(self.plan.sync_seconds) if self.renews else 0
            self.sim.call(now + share + sync, self._live)

    @property
    def syncing(self) -> bool:
        """Whether engines stand still, or are about to."""
        return self.pausing or self.loading

    def _live(self, now: Time) -> None:
        """Let the engines go on, with new weights if there are any."""
        sim = self.sim
        self.loading = False
        if self.renews:
            self.version += 1
            sim.truth.advance()
        for engine in sim.engines:
            if engine.state == PAUSED:
                engine.state = LIVE
                engine.version = self.version
                if self.renews and self.plan.clear_cache:
                    engine.clear_cache()
                sim.soon(engine, now)
        sim.handle(WeightsLive(now, self.version))
        for _ in range(self.newcomers):
            sim.engine_up(now)
        self.newcomers = 0
        self._next(now)

    def _next(self, now: Time) -> None:
        """End a step and ask for the next batch."""
        sim = self.sim
        sim.measure.step_over(self.batches, now)
        sim.stepped()
        if self.batches >= sim.world.steps:
            self.over = True
            return
        sim.handle(BatchWanted(now))
