"""What both sides of a comparison record of each step, and our own side's recorder."""

from __future__ import annotations

from dataclasses import dataclass, field

from sojourn.decide.clock import Time
from sojourn.decide.limits import EngineLimits
from sojourn.decide.services import StepTime
from sojourn.decide.states import DECODE, FINISHED, PREFILL, WAITING
from sojourn.engine.replica import Replica
from sojourn.recipes import load_recipe
from sojourn.sim.loop import Setup, Simulation
from sojourn.sim.workload import Workload


@dataclass(slots=True)
class PlanRow:
    """One step as one side saw it; requests are named by their workload row.

    Attributes:
        start, duration: Virtual time, picoseconds.
        scheduled: (row, tokens with KV before the step, tokens to compute), in batch order. For a
            request admitted in this step the second number is what the prefix cache held.
        preempted: Rows that lost their KV to make room, in order.
        free_planned: Free blocks once the step was planned.
        finished: Rows that got their last token, in order.
        free_ended: Free blocks after the finished ones gave theirs back.
    """

    start: Time
    duration: Time = 0
    scheduled: list[tuple[int, int, int]] = field(default_factory=list)
    preempted: list[int] = field(default_factory=list)
    free_planned: int = 0
    finished: list[int] = field(default_factory=list)
    free_ended: int = 0


class Recorder:
    """Writes a `PlanRow` for each step of a replica; called after each plan and each step end."""

    def __init__(self) -> None:
        self.rows: list[PlanRow] = []
        self.open = False
        self.read = 0
        self.states: dict[int, int] = {}
        self.row_of: list[int] = []

    def __call__(self, replica: Replica) -> None:
        if replica.steps:
            self._planned(replica)
        elif self.open:
            row = self.rows[-1]
            row.finished = self._entered(replica, FINISHED)
            row.free_ended = replica.pool.free
            self.open = False

    def _planned(self, replica: Replica) -> None:
        machine, draft, row_of = replica.machine, replica.draft, self.row_of
        row = PlanRow(replica.start, replica.duration)
        if draft.decoding:
            row.scheduled = [
                (row_of[r.id], r.computed + machine.ticks - r.joined, 1)
                for r in machine.seated.values()
                if r.state == DECODE
            ]
        row.scheduled += [(row_of[r.id], r.computed, tokens) for r, tokens in draft.grants]
        row.preempted = self._entered(replica, WAITING, leaving=(PREFILL, DECODE))
        row.free_planned = replica.pool.free
        self.rows.append(row)
        self.open = True

    def _entered(
        self, replica: Replica, state: int, leaving: tuple[int, ...] | None = None
    ) -> list[int]:
        """Return the rows that entered a state since the last call."""
        log = replica.machine.log
        assert log is not None, "state changes are recorded"
        found = []
        for _, id, entered in log[self.read :]:
            before = self.states.get(id, 0)
            self.states[id] = entered
            if entered == state and (leaving is None or before in leaving):
                found.append(self.row_of[id])
        self.read = len(log)
        return found


def simulate(
    workload: Workload, limits: EngineLimits, step_time: StepTime, recipe: str = "vllm"
) -> tuple[list[PlanRow], list[Time]]:
    """Run our simulator with a recipe one step at a time.

    Returns:
        Its plans, and the finish times by row.
    """
    recorder = Recorder()
    setup = Setup(
        recipe=load_recipe(recipe),
        limits=limits,
        step_time=step_time,
        trace_states=True,
        max_horizon=1,
        check=recorder,
    )
    simulation = Simulation(workload, setup)
    recorder.row_of = simulation.row_of
    record = simulation.run()
    return recorder.rows, record.requests.finish.tolist()


def simulate_jumping(workload: Workload, limits: EngineLimits, step_time: StepTime) -> list[Time]:
    """Return our finish times by row when the simulator jumps over identical steps."""
    setup = Setup(
        recipe=load_recipe("vllm"),
        limits=limits,
        step_time=step_time,
    )
    return Simulation(workload, setup).run().requests.finish.tolist()


@dataclass(slots=True)
class Comparison:
    """Totals of one comparison or several, and the first difference that was found.

    Attributes:
        cached: Tokens found in the prefix cache, over all first admissions.
        differences: Comparisons with any difference.
    """

    cases: int = 0
    steps: int = 0
    preempted: int = 0
    cached: int = 0
    differences: int = 0
    told: str | None = None

    def add(self, other: Comparison) -> None:
        """Add the totals of another comparison."""
        self.cases += other.cases
        self.steps += other.steps
        self.preempted += other.preempted
        self.cached += other.cached
        self.differences += other.differences
        self.told = self.told or other.told

    def __str__(self) -> str:
        return (
            f"{self.cases} cases, {self.steps} steps, {self.preempted} preemptions, "
            f"{self.cached} cached tokens, {self.differences} differ"
        )


def cached_tokens(rows: list[PlanRow]) -> int:
    """Return the tokens found in the prefix cache, over all first admissions."""
    first: dict[int, int] = {}
    for plan in rows:
        for row, start, _ in plan.scheduled:
            first.setdefault(row, start)
    return sum(first.values())


def first_difference(ours: list[PlanRow], theirs: list[PlanRow]) -> str | None:
    """Return the first step in which two runs differ, as text; None if they are equal."""
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
        if mine != other:
            past = "\n".join(f"  {row}" for row in theirs[max(index - 3, 0) : index])
            return f"step {index} after\n{past}\nsojourn {mine}\nvllm    {other}"
    if len(ours) != len(theirs):
        return f"{len(ours)} steps in sojourn, {len(theirs)} in vllm"
    return None
