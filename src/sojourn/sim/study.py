"""A study: several recipes at several rates on one workload, spread over processes.

Results do not depend on the number of processes: each run is a function of the workload, the
fleet and its task, and results come in the order of the tasks.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, Final, Generic, TypeVar

from sojourn.errors import UserError
from sojourn.fleet.design import Design
from sojourn.recipes.load import Recipe
from sojourn.sim.engines import Cost as Cost
from sojourn.sim.engines import Fleet as Fleet
from sojourn.sim.engines import with_decisions as with_decisions
from sojourn.sim.fleet.start import start
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


def jobs_of_machine() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        return _run_here(workload, fleet, tasks, reduce, told)
    return _run_apart(workload, fleet, tasks, reduce, jobs, told)


def _run_here(
    workload: Workload,
    fleet: Fleet,
    tasks: Sequence[Task],
    reduce: Callable[[RunRecord], Result],
    told: Callable[[Task], None],
) -> Study[Result]:
    results: list[Result] = []
    try:
        for task in tasks:
            record = run_task(workload, fleet, task)
            if not record.complete:
                return Study(results, False)
            results.append(reduce(record))
            told(task)
    except KeyboardInterrupt:
        return Study(results, False)
    return Study(results, True)


_shared: Final[dict[str, Any]] = {}
"""What all runs of a worker process have in common, sent once."""


def _begin(workload: Workload, fleet: Fleet, reduce: Callable[[RunRecord], Any]) -> None:
    """Set a worker process up."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _shared.update(workload=workload, fleet=fleet, reduce=reduce)
    # The workload never dies, so the collector need not look at it again and again.
    gc.freeze()


def _end_with_parent() -> None:
    """Wait until the parent is gone, however it ended, and end this process then."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_shared(task: Task) -> Any:
    return _shared["reduce"](run_task(_shared["workload"], _shared["fleet"], task))


@contextmanager
def _workers_deaf_to_interrupts() -> Iterator[None]:
    """Start processes that ignore Ctrl-C, which a terminal sends to all: the parent ends them.

    A new process takes over what its parent holds back, so that not even its start can be cut
    short; the parent gets it when they have started.
    """
    masks = hasattr(signal, "pthread_sigmask")
    if threading.current_thread() is not threading.main_thread() or not masks:
        yield
        return
    resource_tracker.ensure_running()  # its own start would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_apart(
    workload: Workload,
    fleet: Fleet,
    tasks: Sequence[Task],
    reduce: Callable[[RunRecord], Result],
    jobs: int,
    told: Callable[[Task], None],
) -> Study[Result]:
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        jobs,
        # A fork would copy the threads' locks of whatever the parent runs, such as a progress bar.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(workload, fleet, reduce),
    )
    found: dict[int, Result] = {}
    try:
        with _workers_deaf_to_interrupts():
            places: dict[Future[Result], int] = {
                pool.submit(_run_shared, task): place for place, task in enumerate(tasks)
            }
        for future in as_completed(places):
            found[places[future]] = future.result()
            told(tasks[places[future]])
        pool.shutdown()
    except (KeyboardInterrupt, BrokenProcessPool) as error:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        pool.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                "a process of the study was ended from outside, perhaps for want of memory: "
                "try fewer --jobs"
            ) from error
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    return Study([found[place] for place in sorted(found)], len(found) == len(tasks))
