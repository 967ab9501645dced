"""A study of training runs: every candidate with every seed, spread over processes.

Results do not depend on the number of processes, and come in the order of the tasks.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Final

from sojourn.errors import UserError
from sojourn.sim.rollout.loop import CANDIDATE, ORACLE, UNIFORM, RolloutSimulation
from sojourn.sim.rollout.scenario import Scenario, with_select
from sojourn.sim.study import jobs_of_machine
from sojourn.steplog.rollouts import RolloutRecord


@dataclass(frozen=True, slots=True)
class RunTask:
    """One run of a study.

    Attributes:
        candidate: Index among the scenario's candidates; -1 for a bound on the baseline.
        seed: Its seed.
        role: `candidate`, `uniform` or `oracle`.
    """

    candidate: int
    seed: int
    role: str = CANDIDATE


@dataclass(slots=True)
class RolloutStudy:
    """What came out of a study.

    Attributes:
        records: In the order of the tasks; after Ctrl-C, of those that had ended.
        complete: Whether all were run to their end.
    """

    records: list[RolloutRecord]
    complete: bool


def tasks_of(scenario: Scenario) -> list[RunTask]:
    """Return the runs of a scenario: candidates in their order, then the bounds; by seed inside."""
    tasks = [RunTask(at, seed) for at in range(len(scenario.candidates)) for seed in scenario.seeds]
    if not scenario.bounds:
        return tasks
    if scenario.stock.slots["select"][0] != "uniform":
        tasks += [RunTask(-1, seed, UNIFORM) for seed in scenario.seeds]
    return tasks + [RunTask(-1, seed, ORACLE) for seed in scenario.seeds]


def run_task(scenario: Scenario, task: RunTask) -> RolloutRecord:
    """Return the record of one run."""
    if task.role == CANDIDATE:
        recipe = scenario.candidates[task.candidate]
    else:
        recipe = with_select(scenario.stock, task.role, "uniform")
    simulation = RolloutSimulation(
        scenario.world, recipe, task.seed, role=task.role, origin=scenario.origin
    )
    return simulation.run()


def run_rollouts(
    scenario: Scenario,
    tasks: Sequence[RunTask],
    *,
    jobs: int | None = None,
    told: Callable[[RunTask], None] = lambda _: None,
) -> RolloutStudy:
    """Run the tasks.

    Args:
        scenario: What they are of.
        tasks: The runs.
        jobs: Number of processes; 1 runs in this one, None takes as many as processors.
        told: Called after each run, in the order in which they end.
    """
    jobs = min(jobs_of_machine() if jobs is None else jobs, len(tasks))
    if jobs <= 1:
        return _run_here(scenario, tasks, told)
    return _run_apart(scenario, tasks, jobs, told)


def _run_here(
    scenario: Scenario, tasks: Sequence[RunTask], told: Callable[[RunTask], None]
) -> RolloutStudy:
    records: list[RolloutRecord] = []
    for task in tasks:
        try:
            record = run_task(scenario, task)
        except KeyboardInterrupt:
            return RolloutStudy(records, False)
        if not record.complete:
            return RolloutStudy(records, False)
        records.append(record)
        told(task)
    return RolloutStudy(records, True)


_shared: Final[dict[str, Any]] = {}
"""What all runs of a worker process have in common, sent once."""


def _begin(scenario: Scenario) -> None:
    """Set a worker process up: Ctrl-C is the parent's to hear, and its end is the worker's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _shared["scenario"] = scenario


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_shared(task: RunTask) -> RolloutRecord:
    return run_task(_shared["scenario"], task)


def _run_apart(
    scenario: Scenario, tasks: Sequence[RunTask], jobs: int, told: Callable[[RunTask], None]
) -> RolloutStudy:
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(scenario,),
    )
    found: dict[int, RolloutRecord] = {}
    try:
        places: dict[Future[RolloutRecord], int] = {
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
    return RolloutStudy([found[place] for place in sorted(found)], len(found) == len(tasks))
