"""The event loop of a training run in virtual time.

At one moment first come the calls (rewards, tools, the trainer, losses), then the step ends of the
engines with all that is to be said there, by engine, then the plans, by engine. Nothing is said
while plans are made, so engines that step one by one and engines that jump give the same record.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import exp
from time import perf_counter
from typing import Any, Final

from sojourn.decide.clock import NEVER, Time, from_seconds
from sojourn.decide.limits import HORIZON_STEPS
from sojourn.errors import UserError
from sojourn.recipes.rollouts import RolloutRecipe
from sojourn.rollout import actions, events, states
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.streams import Stream
from sojourn.sim.rollout.engines import LOST, PAUSED, Engine, EngineSpec, Word
from sojourn.sim.rollout.flights import CAP, REPORT, TURN, Flight
from sojourn.sim.rollout.measure import Measure
from sojourn.sim.rollout.oracle import OracleSelect
from sojourn.sim.rollout.trainer import Trainer
from sojourn.sim.rollout.truth import Draw, Truth
from sojourn.sim.rollout.world import Loss, World
from sojourn.sim.workload import LONGEST, LONGEST_SECONDS
from sojourn.steplog.rollouts import RolloutRecord

CANDIDATE: Final = "candidate"
ORACLE: Final = "oracle"
UNIFORM: Final = "uniform"


class RolloutSimulation:
    """One training run of one candidate with one seed.

    Attributes:
        plan: The world's, with the candidate's changes.
        truth, machine, trainer, measure: The parts.
        engines: Every engine there has been, by number.
        flights: Rollouts of groups that are not over, by number.
        members: Their numbers, by group.
        visits: Groups of each prompt so far, and which of them each open group is.
        values: Rewards of rollouts in `flights`.
        wakes: Step ends (0) and plans (1), as (time, 0 or 1, engine, revision).
        calls: What is to be done at a moment, before all else at it, as (time, serial, what).
        appointments: Calls to come that are not periodic.
    """

    def __init__(
        self,
        world: World,
        recipe: RolloutRecipe,
        seed: int,
        *,
        role: str = CANDIDATE,
        origin: str = "the scenario",
        max_horizon: int = HORIZON_STEPS,
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.world = world
        self.seed = seed
        self.name = recipe.name
        self.told = told
        self.plan = recipe.plan_of(world.plan, origin)
        self.truth = Truth(world.prompts, world.truth, world.lengths, world.tools.turns_mean, seed)
        policies = recipe.build(self.plan, self.truth.prompts, seed)
        if role == ORACLE:
            policies = policies._replace(select=OracleSelect(self.truth))
        self.machine = RolloutMachine(self.plan, self.truth.prompts, policies, world.beliefs)
        engines = world.engines
        self.spec = EngineSpec(engines.recipe, engines.limits, engines.step_time, max_horizon)
        self.numbers = count()
        self.serials = count()
        self.engines: list[Engine] = []
        self.flights: dict[int, Flight] = {}
        self.members: dict[int, list[int]] = {}
        self.visits: dict[int, int] = {}
        self.visit_of: dict[int, int] = {}
        self.values: dict[int, float] = {}
        self.wakes: list[tuple[Time, int, int, int]] = []
        self.calls: list[tuple[Time, int, Callable[[Time], None]]] = []
        self.appointments = 0
        self.now: Time = 0
        record = RolloutRecord(recipe.name, seed, role, False, world.warmup)
        record.policies = recipe.parameters()
        record.gpus = engines.count * engines.gpus
        self.measure = Measure(self, record)
        self.trainer = Trainer(self)
        self._carry_out: dict[type[Any], Callable[[Any], None]] = {
            actions.Submit: self._submit,
            actions.Abort: self._ask_abort,
            actions.End: self._end,
            actions.GroupOver: self._group_over,
            actions.Train: self.trainer.train,
        }

    def run(self) -> RolloutRecord:
        """Run all steps, or up to Ctrl-C; return the record."""
        began = perf_counter()
        record = self.measure.record
        for _ in range(self.world.engines.count):
            self.engine_up(0)
        for loss in self.world.engines.losses:
            self._appoint(from_seconds(loss.at_seconds), partial(self._lose, loss))
        self.call(0, self.trainer.begin)
        if self.world.engines.load_period_seconds:
            self._appoint(from_seconds(self.world.engines.load_period_seconds), self._report)
        try:
            self._loop()
            record.complete = True
        except KeyboardInterrupt:
            return record
        self.measure.finish(self.now)
        record.wall_seconds = perf_counter() - began
        return record

    def _loop(self) -> None:
        wakes, calls = self.wakes, self.calls
        while not self.trainer.over:
            if calls and (not wakes or calls[0][0] <= wakes[0][0]):
                self.now, _, what = heappop(calls)
                what(self.now)
            elif wakes:
                time, phase, index, revision = heappop(wakes)
                engine = self.engines[index]
                if revision == engine.revision and engine.state != LOST:
                    self.now = time
                    self._wake(engine, phase, time)
            else:
                raise self._stalled()
            if self.now >= LONGEST:
                raise UserError(
                    f"candidate {self.name!r} has not made its steps after "
                    f"{LONGEST_SECONDS / 86400:.0f} days of simulated time: take fewer steps, or "
                    "shorter times"
                )

    def _stalled(self) -> UserError:
        run = self.machine.run
        if not run.engines:
            return UserError(
                f"candidate {self.name!r}: all engines are lost in step {run.step}, and none comes "
                "back; change [[losses]]"
            )
        return UserError(
            f"candidate {self.name!r} comes to a standstill in step {run.step}: {run.usable} of "
            f"{run.need} groups are ready, {len(run.open_groups)} are open and nothing runs; "
            "allow more staleness, give it more prompts, or another control"
        )

    def call(self, time: Time, what: Callable[[Time], None]) -> None:
        """Have something done at a moment."""
        self.appointments += 1

        def ring(now: Time) -> None:
            self.appointments -= 1
            what(now)

        self._appoint(time, ring)

    def _appoint(self, time: Time, what: Callable[[Time], None]) -> None:
        """Have something done at a moment, if the run lasts so long."""
        heappush(self.calls, (time, next(self.serials), what))

    def handle(self, event: events.Event) -> None:
        """Tell the machine what happened and carry out what it asks."""
        for action in self.machine.handle(event):
            self._carry_out[type(action)](action)

    def stepped(self) -> None:
        """Tell whoever watches that a step is over."""
        self.told(self.trainer.batches)

    def _wake(self, engine: Engine, phase: int, now: Time) -> None:
        """Do what an engine is to do at a step boundary: speak, or plan."""
        if phase:
            if engine.state == PAUSED:
                return
            again = engine.begin(now)
            if again < NEVER:
                self._wake_at(engine, again, 0 if engine.replica.steps else 1)
            return
        if engine.replica.steps:
            engine.advance()
        while engine.said or engine.chores:
            while engine.said:
                self._say(engine, engine.said.pop(0), now)
            engine.ring(now)
        self.trainer.look(now)
        self.soon(engine, now)

    def soon(self, engine: Engine, now: Time) -> None:
        """Have an engine look at its chores and plan, at its next step boundary."""
        replica = engine.replica
        if engine.state == LOST:
            return
        if replica.steps:
            self._wake_at(engine, replica.interrupt(now), 0)
        elif engine.chores or engine.said:
            self._wake_at(engine, now, 0)
        elif engine.state != PAUSED:
            self._wake_at(engine, now, 1)

    def _wake_at(self, engine: Engine, time: Time, phase: int) -> None:
        engine.revision += 1
        heappush(self.wakes, (time, phase, engine.index, engine.revision))

    def _say(self, engine: Engine, word: Word, now: Time) -> None:
        """Pass on what an engine has to say of a rollout that it still has."""
        kind, flight = word
        if flight.engine != engine.index:
            return
        rid, attempt = flight.rid, flight.attempt
        if kind == "started":
            self.handle(events.Started(now, rid, attempt))
            return
        start, pieces = flight.tell(engine.replica, engine.version)
        if kind == REPORT:
            features = (self.truth.feature(flight.draw),)
            self.handle(events.Progress(now, rid, attempt, start, pieces, features))
        elif kind == TURN:
            engine.take_back(flight, now)
            self._call_tool(flight, now)
            self.handle(events.TurnEnd(now, rid, attempt, start, pieces))
        elif kind == CAP:
            engine.take_back(flight, now)
            self.handle(events.Finished(now, rid, attempt, start, pieces, events.LENGTH))
        else:
            engine.close(flight)
            self.handle(events.Finished(now, rid, attempt, start, pieces, events.STOP))

    def _submit(self, action: actions.Submit) -> None:
        """Send a rollout to an engine."""
        flight = self.flights.get(action.rid) or self._take_off(action)
        engine = self.engines[action.engine]
        flight.attempt = action.attempt
        flight.context = action.prefix_tokens - flight.length
        assert flight.context >= 0, "output went missing between machine and engine"
        if flight.home not in (-1, engine.index):
            self.engines[flight.home].forget(flight)
        room = engine.room(flight)
        flight.goal = flight.sampled + min(action.max_new, room)
        flight.reports = sorted(
            (at for at in action.report_at if flight.sampled < at < flight.goal), reverse=True
        )
        if room < 1:
            flight.length += flight.context
            flight.context = 0
            self.call(self.now, partial(self._no_room, flight))
        elif engine.submit(flight, self.now):
            self.soon(engine, self.now)

    def _no_room(self, flight: Flight, now: Time) -> None:
        """An engine has no room for another token of a rollout."""
        event = events.Finished(now, flight.rid, flight.attempt, flight.length, (), events.LENGTH)
        self.handle(event)

    def _take_off(self, action: actions.Submit) -> Flight:
        """Draw what a rollout will be that is submitted for the first time."""
        group, prompt = action.group, action.prompt_id
        if group not in self.members:
            self.members[group] = []
            self.visit_of[group] = self.visits.get(prompt, 0)
            self.visits[prompt] = self.visit_of[group] + 1
        members = self.members[group]
        place = self.machine.run.groups[group].rids.index(action.rid)
        draw = self.truth.draw(prompt, self.visit_of[group], place)
        if action.session != action.rid and action.prefix_tokens:
            draw = _behind(draw, action.prefix_tokens)
        flight = Flight(action.rid, group, prompt, draw, self.truth.prompts[prompt].tokens)
        members.append(action.rid)
        self.flights[action.rid] = flight
        return flight

    def _ask_abort(self, action: actions.Abort) -> None:
        """Stop a rollout at the next step boundary of its engine."""
        flight = self.flights[action.rid]
        if flight.engine < 0:  # it just came back, and the machine is about to hear of it
            return
        engine = self.engines[flight.engine]
        engine.chores.append(partial(self.abort, action.rid, action.attempt))
        self.soon(engine, self.now)

    def abort(self, rid: int, attempt: int, now: Time) -> None:
        """At a step boundary: stop a rollout that its engine still has, and say how far it came."""
        flight = self.flights.get(rid)
        if flight is None or flight.engine < 0 or flight.attempt != attempt:
            return
        engine = self.engines[flight.engine]
        start, pieces = flight.tell(engine.replica, engine.version)
        engine.take_back(flight, now)
        self.handle(events.Aborted(now, rid, attempt, start, pieces))

    def _end(self, action: actions.End) -> None:
        """Have a rollout that ended rewarded, if it is to be."""
        flight = self.flights.get(action.rid)
        if flight is None:  # it was given up before it was ever sent
            return
        if flight.home >= 0:
            self.engines[flight.home].forget(flight)
        if action.status not in states.SCORED:
            return
        plan, ended = self.plan, action.status == states.FINISHED
        value = self.truth.reward(flight.draw, ended, plan.reward_low, plan.reward_high)
        self.values[action.rid] = value
        rewards = self.world.rewards
        delay = _seconds(flight.draw.stream, rewards.seconds_median, rewards.seconds_sigma_log)
        self.call(
            self.now + delay, lambda now: self.handle(events.Rewarded(now, action.rid, value))
        )

    def _call_tool(self, flight: Flight, now: Time) -> None:
        """Have the environment of a rollout answer."""
        tools, stream = self.world.tools, flight.draw.stream
        delay = _seconds(stream, tools.seconds_median, tools.seconds_sigma_log)
        failed = stream.uniform() < tools.failure_share
        tokens, rid = tools.observation_tokens, flight.rid
        self.call(
            now + delay,
            lambda at: self.handle(events.ToolReturn(at, rid, tokens, failed=failed)),
        )

    def values_of(self, group: int) -> list[float]:
        """Return the rewards of a group's rollouts."""
        return [self.values[rid] for rid in self.members.get(group, ()) if rid in self.values]

    def _group_over(self, action: actions.GroupOver) -> None:
        """Forget a group."""
        self.measure.group_over(action)
        for rid in self.members.pop(action.group, ()):
            flight = self.flights.pop(rid)
            assert flight.engine < 0, "a group is over while an engine has a rollout of it"
            self.values.pop(rid, None)
        self.visit_of.pop(action.group, None)

    def engine_up(self, now: Time) -> None:
        """Let a new engine come up with the present weights."""
        engine = Engine(len(self.engines), self.spec, self.trainer.version, self.numbers.__next__)
        self.engines.append(engine)
        limits = self.spec.limits
        kv = limits.num_gpu_blocks * limits.block_size
        self.handle(events.EngineUp(now, engine.index, engine.version, limits.max_num_seqs, kv))

    def _lose(self, loss: Loss, now: Time) -> None:
        """Lose an engine with all that it holds."""
        if loss.engine >= len(self.engines) or self.engines[loss.engine].state == LOST:
            return
        engine = self.engines[loss.engine]
        _, lost = engine.halt(now)
        self.handle(events.EngineLost(now, engine.index, lost))
        self.trainer.look(now)
        if loss.for_seconds:
            self.call(now + from_seconds(loss.for_seconds), self._again)

    def _again(self, now: Time) -> None:
        """Let an engine come up in the place of a lost one; not while weights are loaded."""
        if self.trainer.syncing:
            self.trainer.newcomers += 1
        else:
            self.engine_up(now)

    def _report(self, now: Time) -> None:
        """Let the engines report their load, each at its next step boundary."""
        working = [one for one in self.engines if one.state != LOST and one.flights]
        for engine in working:
            engine.chores.append(partial(self._tell_load, engine))
            self.soon(engine, now)
        if working or self.appointments:
            period = from_seconds(self.world.engines.load_period_seconds)
            self._appoint(now + period, self._report)

    def _tell_load(self, engine: Engine, now: Time) -> None:
        self.handle(events.EngineLoad(now, engine.index, *engine.load()))


def _seconds(stream: Stream, median: float, sigma: float) -> Time:
    """Return a log-normal time."""
    return from_seconds(median * exp(sigma * stream.normal())) if median else 0


def _behind(draw: Draw, tokens: int) -> Draw:
    """Return what is left of a rollout that begins behind tokens of its parent."""
    ends = tuple(end - tokens for end in draw.turn_ends if end > tokens)
    return draw._replace(tokens=max(draw.tokens - tokens, 1), turn_ends=ends)
