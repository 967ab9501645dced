"""Skip-join multi-level feedback queue: short work first without knowing lengths.

Source: FastServe (Wu et al., arXiv 2305.05920; NSDI 2026), released code at 187a274.
Reads: prompt, arrival.
Memory: for each request its level, the time it has used there and its place in the level.
Needs: predicted step times.
Deviations: a request joins the first level whose quantum covers its prefill time and goes to its
    tail; whoever has used up a quantum goes one level down, to the front, as the released code
    does. Time in a seat is charged in full to each member of the batch. Promotion scans look at
    requests queued for `starvation_seconds`; in the released code a request that never ran counts
    as starved at every scan, which `never_run_starves` reproduces.
Fails when: jobs are alike (they take turns and all end late), when memory rather than seats is
    short, and where KV cannot be parked: a dropped request pays its whole prefill again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import ClassVar, Final

from sojourn.decide.clock import NEVER, Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.decide.queues import Key
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Changes, Services
from sojourn.decide.states import DECODE, DELAYED, GONE, NEW, PREFILL, WAITING
from sojourn.errors import UserError
from sojourn.policies.order.steady import Steady

LEVELS_MAX: Final = 48


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the skip-join queue; the defaults are the released code's.

    Attributes:
        quantum_base_seconds: Time in a seat that level 0 grants.
        quantum_ratio: How many times longer each further level's quantum is.
        starvation_seconds: Time queued after which a scan promotes a request to level 0.
        starvation_scan_steps: Steps between scans.
        never_run_starves: Whether a scan also promotes every request that never had a seat.
        skip_join: Whether arrivals skip the levels that cannot hold their prefill.
    """

    quantum_base_seconds: float = 0.01
    quantum_ratio: float = 2.0
    starvation_seconds: float = 3.0
    starvation_scan_steps: int = 1000
    never_run_starves: bool = False
    skip_join: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not self.quantum_base_seconds > 0:
            raise UserError(
                f"order.quantum_base_seconds is {self.quantum_base_seconds}; it must be above 0"
            )
        if not self.quantum_ratio > 1:
            raise UserError(f"order.quantum_ratio is {self.quantum_ratio}; it must be above 1")
        if not self.starvation_seconds > 0:
            raise UserError(
                f"order.starvation_seconds is {self.starvation_seconds}; it must be above 0"
            )
        if self.starvation_scan_steps < 1:
            raise UserError(
                f"order.starvation_scan_steps is {self.starvation_scan_steps}; "
                "it must be at least 1"
            )


@dataclass(slots=True)
class Job:
    """What the queue remembers of one request.

    Attributes:
        level: Level, 0 first.
        place: Order inside the level; negative places were entered at the front.
        used: Time used of the level's quantum, up to `since`.
        since: When it got its seat or its level, while seated.
        alarm: When its quantum ends, while seated; else NEVER.
    """

    request: RequestView
    level: int
    place: int
    used: Time = 0
    since: Time = 0
    alarm: Time = NEVER


class SkipJoinMlfq(Steady):
    """Levels of doubling quanta."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.STEP_TIME})
    changes: ClassVar[Changes] = "events"

    def __init__(self, config: Config, services: Services) -> None:
        super().__init__()
        self.config = config
        self.services = services
        base = from_seconds(config.quantum_base_seconds)
        self.quanta = [round(base * config.quantum_ratio**level) for level in range(LEVELS_MAX)]
        self.starvation = from_seconds(config.starvation_seconds)
        self.jobs: dict[int, Job] = {}
        self.alarms: list[tuple[Time, int]] = []
        self.idle: dict[int, Time] = {}
        self.places = 0
        self.alarm_step = config.starvation_scan_steps

    def key(self, request: RequestView, now: Time) -> Key:
        """Rank by level, then by place in it."""
        job = self.jobs[request.id]
        return (job.level, job.place)

    def standing(self, request: RequestView, now: Time) -> Key:
        """Rank seated requests as queued ones."""
        return self.key(request, now)

    def moved(self, request: RequestView, start: int, finish: int, now: Time) -> None:
        """Let arrivals join, and charge time in a seat."""
        if start in (NEW, DELAYED):
            if finish == WAITING:
                self._join(request, now)
        elif finish in (DECODE, PREFILL):
            if start != PREFILL:
                job = self.jobs[request.id]
                job.since = now
                self._arm(job)
                self.idle.pop(request.id, None)
        elif finish in GONE:
            if self.jobs.pop(request.id, None) is not None:
                self.idle.pop(request.id, None)
        elif start in (DECODE, PREFILL):
            job = self.jobs[request.id]
            job.used += now - job.since
            job.alarm = NEVER
            self.idle[request.id] = now

    def ring(self, now: Time) -> Sequence[RequestView]:
        """Demote whoever has used up a quantum; at a scan, promote the starved."""
        changed: list[RequestView] = []
        while self.alarms and self.alarms[0][0] <= now:
            alarm, id = heappop(self.alarms)
            job = self.jobs.get(id)
            if job is None or job.alarm != alarm:
                continue
            job.level = min(job.level + 1, LEVELS_MAX - 1)
            job.used = 0
            job.since = now
            self._to_front(job)
            self._arm(job)
            changed.append(job.request)
        if self.services.view.steps >= self.alarm_step:
            self._scan(now, changed)
        self.alarm_time = self.alarms[0][0] if self.alarms else NEVER
        return changed

    def _join(self, request: RequestView, now: Time) -> None:
        level = 0
        if self.config.skip_join:
            tokens = request.prompt
            alone = self.services.step_time.step(tokens, tokens * (tokens + 1) // 2, 0, 1, 0, 0)
            while level < LEVELS_MAX - 1 and self.quanta[level] < alone:
                level += 1
        self.places += 1
        self.jobs[request.id] = Job(request, level, self.places)
        self.idle[request.id] = now

    def _to_front(self, job: Job) -> None:
        self.places += 1
        job.place = -self.places

    def _arm(self, job: Job) -> None:
        """Set the moment after which the quantum is exceeded."""
        job.alarm = job.since + self.quanta[job.level] - job.used + 1
        heappush(self.alarms, (job.alarm, job.request.id))
        self.alarm_time = self.alarms[0][0]

    def _scan(self, now: Time, changed: list[RequestView]) -> None:
        steps = self.config.starvation_scan_steps
        self.alarm_step = (self.services.view.steps // steps + 1) * steps
        for id, since in list(self.idle.items()):
            job = self.jobs[id]
            never_ran = self.config.never_run_starves and job.used == 0
            if now - since < self.starvation and not never_ran:
                if not self.config.never_run_starves:
                    break
                continue
            if job.level > 0:
                job.level = 0
                job.used = 0
                self._to_front(job)
                changed.append(job.request)
