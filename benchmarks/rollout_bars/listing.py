"""List scheduling: engines with seats, whose step time grows with their batch, and a machine.

Rollouts of one engine advance together, one token a step; a step takes a + c times the batch. What
is sent beyond an engine's seats waits in it, first come first served. A prefill stalls its engine;
what a rollout resumes from is always computed anew. Rewards come at once and training takes no
time, so only generation is measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from sojourn.decide.clock import from_seconds
from sojourn.rollout import events as ev
from sojourn.rollout.actions import Abort, End, Submit, Train
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.model import Piece, Rollout


class Fate(NamedTuple):
    """What is true of a rollout: tokens to its end, its reward, and what a report says of it."""

    length: int
    reward: float
    score: float = 0.0


@dataclass(frozen=True)
class Shape:
    """Engines, all alike; times in seconds."""

    engines: int = 4
    seats: int = 32
    step_fixed: float = 0.010
    step_each: float = 0.0001
    prefill_each: float = 0.00005


@dataclass
class Job:
    """A submission: token counts of the rollout when it came and is to end, and what was told."""

    submit: Submit
    fate: Fate
    done: int
    told: int
    marks: list[int]
    begun_at: float = 0.0

    @property
    def stop_at(self) -> int:
        return min(self.fate.length, self.done + self.submit.max_new)


@dataclass
class Lane:
    """An engine: the tokens each of its rollouts has advanced by so far, and since when;
    seconds of prefill still to do."""

    index: int
    steps: float = 0.0
    since: float = 0.0
    stall: float = 0.0
    seated: dict[int, Job] = field(default_factory=dict)
    queue: deque[Job] = field(default_factory=deque)
    wake: int = 0


class Listing:
    """Carries out what a machine asks, until enough batches were made.

    Attributes:
        makespans: Seconds that each batch took.
        batches: What was handed to training.
    """

    def __init__(
        self, machine: RolloutMachine, shape: Shape, fate: Callable[[Rollout], Fate]
    ) -> None:
        self.machine, self.shape, self.fate = machine, shape, fate
        self.lanes = [Lane(at) for at in range(shape.engines)]
        self.places: dict[int, Lane] = {}
        self.fates: dict[int, Fate] = {}
        self.heap: list[tuple[float, int, int, int]] = []
        self.serial = 0
        self.now = self.began = 0.0
        self.makespans: list[float] = []
        self.batches: list[Train] = []
        self.version = 0

    def run(self, batches: int) -> Listing:
        for lane in self.lanes:
            self.tell(ev.EngineUp(0, lane.index, 0, self.shape.seats))
        self.tell(ev.BatchWanted(0))
        while len(self.batches) < batches:
            assert self.heap, "nothing runs and no batch came"
            time, _, index, wake = heappop(self.heap)
            lane = self.lanes[index]
            if wake == lane.wake:
                self.now = max(self.now, time)
                self.serve(lane)
        return self

    @property
    def time(self) -> int:
        return from_seconds(self.now)

    def step_time(self, lane: Lane) -> float:
        return self.shape.step_fixed + self.shape.step_each * len(lane.seated)

    def advance(self, lane: Lane) -> None:
        stalled = min(lane.stall, self.now - lane.since)
        lane.stall -= stalled
        if lane.seated:
            lane.steps += (self.now - lane.since - stalled) / self.step_time(lane)
        lane.since = self.now

    def tokens(self, lane: Lane, job: Job) -> int:
        return min(job.done + int(lane.steps - job.begun_at + 1e-6), job.stop_at)

    def serve(self, lane: Lane) -> None:
        """Say what has come due at a lane: reports and ends."""
        self.advance(lane)
        for rid, job in list(lane.seated.items()):
            if lane.seated.get(rid) is not job:
                continue
            tokens = self.tokens(lane, job)
            if tokens >= job.stop_at:
                del lane.seated[rid], self.places[rid]
                reason = ev.STOP if tokens >= job.fate.length else ev.LENGTH
                self.say(ev.Finished, job, tokens, reason)
            elif job.marks and tokens >= job.marks[0]:
                job.marks = [at for at in job.marks if at > tokens]
                self.say(ev.Progress, job, tokens, (job.fate.score,))
        self.fill(lane)

    def fill(self, lane: Lane) -> None:
        """Seat who waits, and wake up when the next thing is due."""
        self.advance(lane)
        while lane.queue and len(lane.seated) < self.shape.seats:
            job = lane.queue.popleft()
            job.begun_at = lane.steps
            lane.seated[job.submit.rid] = job
            prompt = self.machine.run.prompts[job.submit.prompt_id].tokens
            lane.stall += self.shape.prefill_each * (prompt + job.done)
            self.tell(ev.Started(self.time, job.submit.rid, job.submit.attempt))
        lane.wake += 1
        if lane.seated:
            due = min(
                job.begun_at + min([*job.marks[:1], job.stop_at]) - job.done
                for job in lane.seated.values()
            )
            self.serial += 1
            wait = lane.stall + max(due - lane.steps, 0.0) * self.step_time(lane)
            heappush(self.heap, (self.now + wait, self.serial, lane.index, lane.wake))

    def say(self, kind: type, job: Job, tokens: int, more: object) -> None:
        pieces = (Piece(tokens - job.told, self.version),)
        start, job.told = job.told, tokens
        self.tell(kind(self.time, job.submit.rid, job.submit.attempt, start, pieces, more))

    def tell(self, event: ev.Event) -> None:
        for action in self.machine.handle(event):
            if isinstance(action, Submit):
                self.submit(action)
            elif isinstance(action, Abort):
                self.abort(action.rid)
            elif isinstance(action, End) and action.status in ("finished", "truncated"):
                self.tell(ev.Rewarded(self.time, action.rid, self.fates[action.rid].reward))
            elif isinstance(action, Train):
                self.batches.append(action)
                self.makespans.append(self.now - self.began)
                self.began = self.now
                self.version += 1
                self.tell(ev.WeightsLive(self.time, self.version))
                self.tell(ev.BatchWanted(self.time))

    def submit(self, action: Submit) -> None:
        rollout = self.machine.run.rollout(action.rid)
        assert rollout is not None
        fate = self.fates.setdefault(action.rid, self.fate(rollout))
        lane = self.lanes[action.engine]
        marks = [at for at in action.report_at if at < fate.length]
        done = action.prefix_tokens
        lane.queue.append(Job(action, fate, done, done, marks))
        self.places[action.rid] = lane
        self.fill(lane)

    def abort(self, rid: int) -> None:
        lane = self.places.pop(rid, None)
        if lane is None:
            return
        self.advance(lane)
        job = lane.seated.pop(rid, None)
        if job is None:
            job = next(one for one in lane.queue if one.submit.rid == rid)
            lane.queue.remove(job)
            tokens = job.done
        else:
            tokens = self.tokens(lane, job)
        pieces = (Piece(tokens - job.told, self.version),)
        submit = job.submit
        self.tell(ev.Aborted(self.time, rid, submit.attempt, job.told, pieces))
        self.fill(lane)
