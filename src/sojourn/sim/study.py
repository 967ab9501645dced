"""A study: several recipes at several rates on one workload, spread over processes.

Results do not depend on the number of processes: each run is a function of the workload, the
fleet and its task, and results come in the order of the tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sojourn.fleet.design import Design
from sojourn.recipes.load import Recipe
from sojourn.sim.engines import Cost as Cost
from sojourn.sim.engines import Fleet as Fleet
from sojourn.sim.engines import with_decisions as with_decisions
from sojourn.sim.fleet.start import start
from sojourn.sim.processes import jobs_of_machine, run_tasks
from sojourn.sim.workload import Workload
from sojourn.steplog.record import RunRecord

Result = TypeVar("Result")

REQUESTS_WORTH_PROCESSES: Final = 30_000
"""Simulated requests that take about as long as starting processes: a second or two."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run of a study.

    Attributes:
        recipe: The recipe.
        rate_scale: Factor on the workload's own rate.
        load: Fraction of the capacity that this is; None if the rate was not given that way.
        fleet: What runs it; None for the study's own.
    """

    recipe: Recipe
    rate_scale: float
    load: float | None = None
    fleet: Fleet | None = None


@dataclass(slots=True)
class Study(Generic[Result]):
    """What came out of a study.

    Attributes:
        results: What was made of each run, in the order of the tasks; after Ctrl-C, of those
            that had ended.
        complete: Whether all tasks were run to their end.
    """

    results: list[Result]
    complete: bool


def run_task(
    workload: Workload, fleet: Fleet, task: Task, *, trace_states: bool = False
) -> RunRecord:
    """Return the record of one task."""
    fleet = task.fleet or fleet
    setup = fleet.built(task.recipe)
    simulation = start(setup, workload, task.rate_scale, trace_states=trace_states)
    record = simulation.run()
    record.load = task.load
    if record.fleet is not None:
        record.recipe = fleet.name_of(task.recipe)
        record.deployable = fleet.deployable(task.recipe)
        record.notes["replicas"] = len(record.fleet.units)
        end = max(unit.ended for unit in record.fleet.units)
        faults = setup.faults if isinstance(setup, Design) else ()
        record.notes["late_faults"] = sum(fault.time > end for fault in faults)
        record.notes["policies"] = fleet.parameters(task.recipe)
    return record


def run_study(
    workload: Workload,
    fleet: Fleet,
    tasks: Sequence[Task],
    reduce: Callable[[RunRecord], Result],
    *,
    jobs: int | None = None,
    told: Callable[[Task], None] = lambda _: None,
) -> Study[Result]:
    """Run the tasks and return what `reduce` makes of each record, in order.

    Args:
        workload: The workload, the same for all.
        fleet: What runs those tasks that do not say otherwise.
        tasks: Recipes and rates.
        reduce: Makes a small result of a record; called where the run was made, so with several
            processes it must be a function of a module, or a `partial` of one.
        jobs: Number of processes; 1 runs in this one. None takes as many as there are processors,
            or one if the study is too small to repay starting others.
        told: Called after each run, in the order in which they end.
    """
    if jobs is None:
        small = len(workload) * len(tasks) < REQUESTS_WORTH_PROCESSES
        jobs = 1 if small else jobs_of_machine()
    shared = (workload, fleet, reduce)
    return Study(*run_tasks(_reduced, shared, tasks, jobs, told))


def _reduced(
    shared: tuple[Workload, Fleet, Callable[[RunRecord], Result]], task: Task
) -> Result | None:
    """Return what is made of a run, or None if it was cut short."""
    workload, fleet, reduce = shared
    record = run_task(workload, fleet, task)
    return reduce(record) if record.complete else None
