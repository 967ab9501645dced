"""A tiny host of a rollout machine: engines that generate in virtual steps, and go wrong."""

import json
from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

from sojourn.rollout import events as ev
from sojourn.rollout.actions import Abort, End, GroupOver, Submit, Train
from sojourn.rollout.model import Piece
from tests.rollout.rollout_checks import check

SECOND = 10**12


@dataclass
class Knobs:
    """How a host behaves; shares are probabilities in a step."""

    engines: int = 2
    length_mean: int = 12
    chunk: int = 4
    reports: float = 0.5
    loss: float = 0.0
    unasked: float = 0.0
    late: float = 0.0
    turns: float = 0.0
    errors: float = 0.0
    hidden: float = 0.0
    seats: int = 0
    reward_delay: int = 1
    abort_delay: int = 1
    train_delay: int = 2
    rolling: bool = False
    token_ids: bool = False
    batches: int = 4
    per_version: int = 1
    steps: int = 3000


@dataclass
class Job:
    """A submission that an engine has."""

    submit: Submit
    engine: int
    told: int
    left: int
    untold: list = field(default_factory=list)
    made: int = 0
    abort_at: int = -1


def restored(machine, made):
    """Return a fresh machine that goes on where another stands, by way of JSON."""
    state = json.loads(json.dumps(machine.state_dict()))
    other = made()
    other.load_state_dict(state)
    assert json.loads(json.dumps(other.state_dict())) == state
    check(other.run)
    assert_alike(machine.run, other.run)
    return other


def assert_alike(run, other):
    """Everything of a run was restored, whether or not the coming events happen to ask for it."""
    never_change = {"plan", "prompts", "policies"}
    services = {"beliefs", "ledger", "tokens"}
    for name in vars(run).keys() - never_change - services:
        assert getattr(other, name) == getattr(run, name), name
    for name in services:
        assert getattr(other, name).state_dict() == getattr(run, name).state_dict(), name
    for name in ("groups", "open_groups", "usable_groups", "rollouts", "engines", "cohorts"):
        assert list(getattr(other, name)) == list(getattr(run, name)), f"order of {name}"


class Host:
    """Runs a machine until enough batches were made, checking it after each event."""

    def __init__(self, machine, seed, knobs, twin=None, relay=None):
        self.machine, self.knobs, self.dice = machine, knobs, Random(seed)
        self.knobs.per_version = machine.run.plan.batches_per_version
        self.twin, self.relay, self.twin_of = twin, relay, None
        self.now = 0
        self.versions = {}
        self.jobs = {}
        self.lengths = {}
        self.due = []
        self.acting = {}
        self.ends = {}
        self.over = {}
        self.batches = []
        self.told_tokens = 0
        self.log = []
        self.next_engine = 0
        self.serial = 0
        self.ghosts = deque()
        self.version = 0

    def tell(self, event):
        self.log.append(event)
        actions = self.machine.handle(event)
        if self.twin_of is not None:
            assert self.twin_of.handle(event) == actions
        check(self.machine.run)
        for action in actions:
            self.carry_out(action)
        if self.relay is not None:
            self.twin_of = restored(self.machine, self.relay)
        elif self.twin is not None and len(self.log) == self.twin[0]:
            self.twin_of = restored(self.machine, self.twin[1])

    def carry_out(self, action):
        if isinstance(action, Submit):
            self.submit(action)
        elif isinstance(action, Abort):
            job = self.jobs.get((action.rid, action.attempt))
            if job is not None and job.abort_at < 0:
                job.abort_at = self.now + self.dice.randint(0, self.knobs.abort_delay)
        elif isinstance(action, End):
            assert action.rid not in self.ends, "one end for each rollout"
            self.ends[action.rid] = action.status
            if action.status in ("finished", "truncated"):
                self.after(self.knobs.reward_delay, "reward", action.rid)
        elif isinstance(action, GroupOver):
            assert action.group not in self.over
            self.over[action.group] = action.status
        else:
            assert isinstance(action, Train)
            self.batches.append(action)
            self.after(self.knobs.train_delay, "trained", action.step)

    def submit(self, action):
        rollout = self.machine.run.rollout(action.rid)
        assert action.engine in self.versions
        assert action.max_new > 0
        assert len(action.prefix) == action.prefix_tokens or not self.knobs.token_ids
        mean = self.knobs.length_mean
        total = self.lengths.setdefault(action.rid, 1 + int(self.dice.expovariate(1.0 / mean)))
        job = Job(action, action.engine, action.prefix_tokens, max(total - rollout.sampled, 1))
        self.jobs[action.rid, action.attempt] = job
        self.after(0, "started", (action.rid, action.attempt))

    def after(self, delay, kind, value):
        self.serial += 1
        heappush(self.due, (self.now + self.dice.randint(0, delay), self.serial, kind, value))

    def start(self):
        for _ in range(self.knobs.engines):
            self.engine_up()
        self.tell(ev.BatchWanted(self.time))

    @property
    def time(self):
        return self.now * SECOND

    def engine_up(self):
        engine = self.next_engine
        self.next_engine += 1
        self.versions[engine] = self.version
        self.tell(ev.EngineUp(self.time, engine, self.version, self.knobs.seats))

    def run(self):
        self.start()
        while len(self.batches) < self.knobs.batches:
            assert self.now < self.knobs.steps, "no batch in all that time"
            self.step()
        return self

    def step(self):
        self.now += 1
        while self.due and self.due[0][0] <= self.now:
            _, _, kind, value = heappop(self.due)
            self.fall_due(kind, value)
        for key in list(self.jobs):
            if key in self.jobs:
                self.generate(self.jobs[key])
        self.go_wrong()
        self.tell(ev.Tick(self.time))

    def fall_due(self, kind, value):
        if kind == "reward":
            self.tell(ev.Rewarded(self.time, value, float(self.dice.random() < 0.5)))
        elif kind == "started" and value in self.jobs:
            self.tell(ev.Started(self.time, *value))
        elif kind == "tool":
            done, failed = self.dice.random() < 0.2, self.dice.random() < self.knobs.errors
            ids = (7, 7) if self.knobs.token_ids else ()
            self.tell(ev.ToolReturn(self.time, value, 2, ids, done, failed))
        elif kind == "trained":
            if value % self.knobs.per_version:
                self.tell(ev.BatchWanted(self.time))
            else:
                self.new_weights()

    def new_weights(self):
        self.version += 1
        if self.knobs.rolling:
            for engine in list(self.versions):
                if engine in self.versions:
                    self.tell(ev.WeightsPending(self.time, self.version, engine))
                    self.versions[engine] = self.version
                    self.tell(ev.WeightsLive(self.time, self.version, engine))
                    self.step()
        else:
            self.tell(ev.WeightsPending(self.time, self.version))
            self.versions = dict.fromkeys(self.versions, self.version)
        self.tell(ev.WeightsLive(self.time, self.version))
        self.tell(ev.BatchWanted(self.time))

    def generate(self, job):
        room = min(job.left, job.submit.max_new - job.made)
        if room > 0:
            made = min(self.dice.randint(1, self.knobs.chunk), room)
            job.left -= made
            job.made += made
            job.untold.append((made, self.versions[job.engine]))
        key = job.submit.rid, job.submit.attempt
        if job.left <= 0:
            del self.jobs[key]
            if self.dice.random() < self.knobs.errors:
                self.say(ev.Finished, job, "error")
            elif self.dice.random() < self.knobs.turns:
                self.lengths[job.submit.rid] += 1 + self.dice.randrange(self.knobs.length_mean)
                self.say(ev.TurnEnd, job)
                self.after(3, "tool", job.submit.rid)
            else:
                self.say(ev.Finished, job, "stop")
        elif job.made >= job.submit.max_new:
            del self.jobs[key]
            self.say(ev.Finished, job, "length")
        elif 0 <= job.abort_at <= self.now:
            del self.jobs[key]
            self.say(ev.Aborted, job)
        elif self.dice.random() < self.knobs.reports:
            self.say(ev.Progress, job, (self.dice.random(),))

    def say(self, kind, job, *more):
        """Tell what the machine has not been told of a job."""
        pieces = self.pieces(job)
        start, job.told = job.told, job.told + sum(one.tokens for one in pieces)
        self.told_tokens += sum(one.tokens for one in pieces)
        job.untold = []
        self.tell(kind(self.time, job.submit.rid, job.submit.attempt, start, pieces, *more))

    def pieces(self, job):
        found, at = [], job.told
        for tokens, version in job.untold:
            ids = logprobs = ()
            if self.knobs.token_ids:
                ids = tuple(job.submit.rid * 1000 + at + more for more in range(tokens))
                logprobs = (-0.5,) * tokens
            found.append(Piece(tokens, version, ids, logprobs))
            at += tokens
        return tuple(found)

    def go_wrong(self):
        dice, knobs = self.dice, self.knobs
        if dice.random() < knobs.loss and self.versions:
            engine = dice.choice(sorted(self.versions))
            gone = [job for job in self.jobs.values() if job.engine == engine]
            for job in gone:
                del self.jobs[job.submit.rid, job.submit.attempt]
            del self.versions[engine]
            hides = dice.random() < knobs.hidden
            lost = sum(made for job in gone for made, _ in job.untold) if hides else 0
            self.told_tokens += lost
            self.tell(ev.EngineLost(self.time, engine, lost))
            if not hides:
                self.ghosts.extend(gone)
            self.engine_up()
        if self.jobs and dice.random() < knobs.unasked:
            key = dice.choice(sorted(self.jobs))
            self.say(ev.Aborted, self.jobs.pop(key))
        if self.ghosts and dice.random() < knobs.late:
            job = self.ghosts.popleft()
            more = ("stop",) if dice.random() < 0.5 else ()
            self.say(ev.Finished if more else ev.Aborted, job, *more)
