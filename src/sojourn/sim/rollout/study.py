"""A study of training runs: every candidate with every seed, spread over processes.

Results do not depend on the number of processes, and come in the order of the tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sojourn.sim.processes import jobs_of_machine, run_tasks
from sojourn.sim.rollout.loop import CANDIDATE, ORACLE, UNIFORM, RolloutSimulation
from sojourn.sim.rollout.scenario import Scenario, with_select
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
    jobs = jobs_of_machine() if jobs is None else jobs
    return RolloutStudy(*run_tasks(_complete, scenario, tasks, jobs, told))


def _complete(scenario: Scenario, task: RunTask) -> RolloutRecord | None:
    """Return the record of a run, or None if it was cut short."""
    record = run_task(scenario, task)
    return record if record.complete else None
