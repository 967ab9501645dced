"""The event loop: arrivals, step ends and plans in order of time.

At one moment first come the arrivals, then the step ends, by replica, then the turns that follow
these at once, then the plans, by replica: so a turn finds all replicas between two steps, whether
they step one by one or jump.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from time import perf_counter, perf_counter_ns

from sojourn import __version__
from sojourn.decide.clock import NEVER, Time, from_seconds, to_seconds
from sojourn.decide.limits import HORIZON_STEPS, EngineLimits
from sojourn.decide.machine import Machine
from sojourn.decide.needs import Need
from sojourn.decide.request import Request, RequestView
from sojourn.decide.services import StepTime
from sojourn.decide.slots import Services
from sojourn.decide.states import NAMES
from sojourn.engine.replica import Replica
from sojourn.errors import UserError
from sojourn.recipes.load import Recipe
from sojourn.sim.columns import RequestRows, step_columns, transition_columns
from sojourn.sim.limits import check_limits
from sojourn.sim.recorder import RunRecorder
from sojourn.sim.workload import LONGEST, Workload
from sojourn.steplog.record import CANCELLED, FINISHED, SHED, UNFINISHED, RunRecord

OVER_MODEL_LEN = "prompt longer than max_model_len"
OVER_KV_CACHE = "prompt longer than the KV cache"
TURN_LOST = "an earlier turn of the session was shed"


@dataclass(frozen=True, slots=True)
class Setup:
    """What runs the workload.

    Attributes:
        recipe: Policies of each replica.
        limits: Engine limits of each replica.
        step_time: Step times, alike for the engine and for policies that predict them.
        replicas: 1; a fleet makes its own.
        swap_block_seconds: Time to copy one block over the link to host memory.
        trace_states: Whether every state change is recorded.
        max_horizon: Most steps that one plan may cover; 1 steps one by one.
        check: Called after every step of a replica, to assert invariants.
    """

    recipe: Recipe
    limits: EngineLimits
    step_time: StepTime
    replicas: int = 1
    swap_block_seconds: float = 0.0
    trace_states: bool = False
    max_horizon: int = HORIZON_STEPS
    check: Callable[[Replica], None] | None = None

    @property
    def name(self) -> str:
        """What to call it: its recipe."""
        return self.recipe.name

    @property
    def seats(self) -> int:
        """Seats of all replicas."""
        return self.replicas * self.limits.max_num_seqs

    def __post_init__(self) -> None:
        """Refuse limits that vLLM would refuse."""
        check_limits(self.limits)


class Truth:
    """The true lengths, for policies that declare that they need them."""

    def __init__(self) -> None:
        self.outputs: dict[int, int] = {}

    def output_tokens(self, request: RequestView) -> int:
        """Return the true output length."""
        return self.outputs[request.id]


class Simulation:
    """One run of one workload.

    Attributes:
        row_of: Workload row of each request id; ids count arrivals.
        pending: Turns that follow others, as (time, sequence, row).
        calls: What is to be done at a moment, before all else at it, as (time, sequence, what).
        wakes: Step ends and plans, as (time, 0 or 1, replica, version); only the newest version of
            a replica counts.
        open: Requests that have not ended, by id, with their replica.
    """

    def __init__(self, workload: Workload, setup: Setup, rate_scale: float = 1.0) -> None:
        self.workload = workload
        self.setup = setup
        self.rate_scale = rate_scale
        self.starts = workload.starts(rate_scale)
        self.recorders: list[RunRecorder] = []
        self.versions: list[int] = []
        self.replicas = [self._replica(index, setup) for index in range(setup.replicas)]
        self.rows = RequestRows(len(workload))
        self.row_of: list[int] = []
        self.pending: list[tuple[Time, int, int]] = []
        self.wakes: list[tuple[Time, int, int, int]] = []
        self.calls: list[tuple[Time, int, Callable[[Time], None]]] = []
        self.open: dict[int, tuple[Request, int]] = {}
        self.decisions = 0
        self.decision_nanoseconds = 0
        self.ended_count = 0
        self.deadlines = [
            (
                NEVER if c.ttft_seconds is None else from_seconds(c.ttft_seconds),
                NEVER if c.e2e_seconds is None else from_seconds(c.e2e_seconds),
            )
            for c in workload.classes
        ]

    def _replica(self, index: int, setup: Setup) -> Replica:
        """Make a replica and what goes with it."""
        self.recorders.append(RunRecorder())
        self.versions.append(0)
        machine = Machine(setup.limits)
        machine.log = [] if setup.trace_states else None
        truth = Truth()
        knows = Need.TRUTH in setup.recipe.needs
        services = Services(machine, setup.step_time, truth if knows else None)
        machine.install(setup.recipe.build(services))
        replica = Replica(
            index,
            machine,
            setup.step_time,
            self._ended,
            self.recorders[index],
            from_seconds(setup.swap_block_seconds),
            setup.max_horizon,
        )
        truth.outputs = replica.outputs
        return replica

    def run(self, progress: Callable[[int], None] | None = None, until: Time = NEVER) -> RunRecord:
        """Run to the end, to `until`, or to Ctrl-C; return the record of what happened."""
        began = perf_counter()
        complete = True
        try:
            self._loop(until, progress)
        except KeyboardInterrupt:
            complete = False
        if complete and until == NEVER:
            self._leftovers()
        for request, replica in self.open.values():
            if request.state == 0:
                continue
            row = self.row_of[request.id]
            self.rows.write(row, request, UNFINISHED, "", replica)
        return self._record(complete, perf_counter() - began)

    def _leftovers(self) -> None:
        """Take note of those that are open although nothing more will happen: here, nobody."""

    def _loop(self, until: Time, progress: Callable[[int], None] | None) -> None:
        starts, pending, wakes, versions = self.starts, self.pending, self.wakes, self.versions
        calls = self.calls
        at, count = 0, len(starts)
        told = 0
        while True:
            time = starts[at][0] if at < count else NEVER
            follows = bool(pending) and pending[0][0] < time
            if follows:
                time = pending[0][0]
            if calls and calls[0][0] <= time and (not wakes or calls[0][0] <= wakes[0][0]):
                time = calls[0][0]
                if time >= until or not self._busy(at < count):
                    return
                self._ring(heappop(calls)[2], time)
                continue
            if wakes and wakes[0][0] < time:
                time, _, index, version = heappop(wakes)
                if time >= until:
                    return
                if version == versions[index]:
                    self._wake(index, time)
                    if progress is not None and self.ended_count >= told + 512:
                        told = self.ended_count
                        progress(told)
                continue
            if time >= until or time == NEVER:
                return
            if follows:
                row = heappop(pending)[2]
            else:
                row = starts[at][1]
                at += 1
            self._arrive(row, time)

    def _ring(self, what: Callable[[Time], None], now: Time) -> None:
        """Do what was asked for at this moment."""
        what(now)

    def _busy(self, more: bool) -> bool:
        """Return whether anything is left to do, with `more` arrivals to come or none."""
        return more or bool(self.pending) or bool(self.open)

    def _wake(self, index: int, time: Time) -> None:
        replica = self.replicas[index]
        check = self.setup.check
        if replica.steps:
            replica.advance()
            if check is not None:
                check(replica)
            if self._more_at(time):
                self._call_at(index, time)
                return
        began = perf_counter_ns()
        again = replica.begin(time)
        self.decision_nanoseconds += perf_counter_ns() - began
        self.decisions += 1
        if check is not None:
            check(replica)
        self._call_at(index, again)

    def _more_at(self, time: Time) -> bool:
        """Return whether a turn arrives, another replica wakes or a call is due at this moment."""
        if self.calls and self.calls[0][0] <= time:
            return True
        if self.pending and self.pending[0][0] <= time:
            return True
        return bool(self.wakes) and self.wakes[0][0] <= time

    def _call_at(self, index: int, time: Time) -> None:
        self.versions[index] += 1
        replica = self.replicas[index]
        if time < LONGEST:
            plans = 0 if replica.steps else 1
            heappush(self.wakes, (time, plans, index, self.versions[index]))
        elif replica.steps or (len(replica.machine.queue) and not replica.awaits):
            raise self._too_long()

    def _too_long(self) -> UserError:
        return UserError(
            f"the run of recipe {self.setup.recipe.name!r} has not ended after "
            f"{to_seconds(LONGEST) / 86400:.0f} days of simulated time, the most that can be "
            "simulated: take fewer requests (--limit), or shorter steps, pauses or holds"
        )

    def _arrive(self, row: int, now: Time) -> None:
        if now >= LONGEST:
            raise self._too_long()
        workload, limits = self.workload, self.setup.limits
        request = self._request(row, now)
        self.open[request.id] = (request, -1)
        room = self._room(request)
        if request.prompt >= room:
            capacity = limits.num_gpu_blocks * limits.block_size
            over = request.prompt > capacity or room < limits.max_model_len
            self._ended(request, now, OVER_KV_CACHE if over else OVER_MODEL_LEN)
            return
        self._dispatch(request, min(workload.output[row], room - request.prompt), now)

    def _dispatch(self, request: Request, output: int, now: Time) -> None:
        """Decide which replica gets an arrival: there is but one."""
        self._send(request, 0, output, now)

    def _send(self, request: Request, index: int, output: int, now: Time) -> None:
        """Give a request to a replica."""
        self.open[request.id] = (request, index)
        replica = self.replicas[index]
        idle = replica.steps == 0
        if replica.submit(request, output, now):
            self._call_at(index, now if idle else replica.interrupt(now))

    def _room(self, request: Request) -> int:
        """Return the tokens that a request may have, prompt and output."""
        return room_in(self.setup.limits, request)

    def _request(self, row: int, now: Time) -> Request:
        workload = self.workload
        request = Request(len(self.row_of), now, workload.prompt[row], workload.tenant[row])
        self.row_of.append(row)
        request.program = workload.program[row]
        request.turn = workload.turn[row]
        request.last_turn = workload.following[row] < 0
        slo_class = request.slo_class = workload.slo_class[row]
        ttft, e2e = self.deadlines[slo_class]
        if ttft < NEVER:
            request.ttft_deadline = now + ttft
        if e2e < NEVER:
            request.deadline = now + e2e
        if workload.prefix:
            request.prefix = workload.prefix[row]
        return request

    def _ended(self, request: Request, now: Time, reason: str) -> None:
        """Write the row of a request that ended; send, or give up, the turn that follows."""
        replica = self.open.pop(request.id)[1]
        row = self.row_of[request.id]
        finished = request.finish >= 0
        cancelled = reason == "client gone"
        outcome = FINISHED if finished else CANCELLED if cancelled else SHED
        self.rows.write(row, request, outcome, reason, replica)
        self.ended_count += 1
        following = self.workload.following[row]
        if following < 0:
            return
        if finished:
            time = now + self.workload.gap[following]
            heappush(self.pending, (time, len(self.row_of), following))
            return
        while following >= 0:
            self.rows.write(following, self._request(following, now), SHED, TURN_LOST, -1)
            self.ended_count += 1
            following = self.workload.following[following]

    def _record(self, complete: bool, wall_seconds: float) -> RunRecord:
        workload, recipe = self.workload, self.setup.recipe
        logs = [replica.machine.log for replica in self.replicas]
        traced = [log for log in logs if log is not None]
        return RunRecord(
            recipe=recipe.name,
            load=None,
            rate_scale=self.rate_scale,
            deployable=recipe.deployable,
            complete=complete,
            kv_blocks=self.setup.limits.num_gpu_blocks,
            requests=self.rows.finish(workload),
            steps=step_columns([recorder.rows for recorder in self.recorders]),
            transitions=transition_columns(traced, self.row_of) if traced else None,
            tenants=workload.tenants,
            classes=workload.classes,
            reasons=tuple(self.rows.reasons),
            states=NAMES,
            decisions=self.decisions,
            decision_seconds=self.decision_nanoseconds / 1e9,
            wall_seconds=wall_seconds,
            notes={
                "replicas": self.setup.replicas,
                "closed_loop": any(row >= 0 for row in workload.following),
                "policies": recipe.parameters(),
            },
            prefix=workload.prefix or None,
            block_tokens=workload.block_tokens if workload.prefix else 0,
            engine=f"sojourn {__version__}",
        )


def room_in(limits: EngineLimits, request: Request) -> int:
    """Return the tokens that a request may have in an engine, prompt and output.

    Prefix ids whose tokens do not fill whole blocks take more blocks than their tokens need.
    """
    if not request.prefix or limits.block_tokens % limits.block_size == 0:
        return limits.max_model_len
    blocks = len(request.prefix) * -(-limits.block_tokens // limits.block_size)
    tail = (limits.num_gpu_blocks - blocks) * limits.block_size
    return min(limits.max_model_len, len(request.prefix) * limits.block_tokens + tail)
