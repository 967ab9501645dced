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
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from sojourn.cost import Fitted, Host, Roofline
from sojourn.decide.clock import to_seconds
from sojourn.decide.limits import EngineLimits
from sojourn.errors import UserError, unknown
from sojourn.fleet.design import Design, Group
from sojourn.policies.tables import SLOTS
from sojourn.recipes.load import Recipe
from sojourn.sim.fleet.loop import start
from sojourn.sim.loop import Setup
from sojourn.sim.workload import LONGEST, LONGEST_SECONDS, Workload
from sojourn.steplog.record import RunRecord

Result = TypeVar("Result")
Cost = Roofline | Fitted

REQUESTS_WORTH_PROCESSES: Final = 30_000
"""Simulated requests that take about as long as starting processes: a second or two."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas of one engine and the router above them.

    Attributes:
        limits: Engine limits of each replica.
        cost: Step times, without the time that a recipe's decisions add.
        replicas: Number of replicas.
        route: Name of the router.
        swap_block_seconds: Time to copy one block over the link to host memory.
        design: Of a described fleet, everything but what the recipe under comparison fills.
    """

    limits: EngineLimits
    cost: Cost
    replicas: int = 1
    route: str = "round_robin"
    swap_block_seconds: float = 0.0
    design: Design | None = None

    def __post_init__(self) -> None:
        """Refuse a fleet of nothing, an unknown router, and steps that the clock cannot tell."""
        if self.replicas < 1:
            raise UserError(f"--replicas is {self.replicas}; it must be at least 1")
        if self.route not in SLOTS["route"]:
            raise unknown("router in --route", self.route, SLOTS["route"])
        check_step_time(self.cost, self.limits)

    def setup(self, recipe: Recipe, *, trace_states: bool = False) -> Setup:
        """Return what runs a recipe on this fleet."""
        return Setup(
            recipe=recipe,
            limits=replace(
                self.limits,
                max_num_seqs=recipe.max_num_seqs or self.limits.max_num_seqs,
                max_num_batched_tokens=(
                    recipe.max_num_batched_tokens or self.limits.max_num_batched_tokens
                ),
            ),
            step_time=with_decisions(self.cost, recipe.decision_seconds),
            swap_block_seconds=self.swap_block_seconds,
            trace_states=trace_states,
        )

    def built(self, recipe: Recipe) -> Setup | Design:
        """Return what runs a recipe: one replica, or a fleet."""
        alone = self.replicas == 1 and self.design is None
        return self.setup(recipe) if alone else self.design_of(recipe)

    def design_of(self, recipe: Recipe) -> Design:
        """Return the fleet that a recipe runs on."""
        setup = self.setup(recipe)
        group = Group(
            name="replica",
            count=self.replicas,
            recipe=recipe,
            limits=setup.limits,
            step_time=setup.step_time,
            swap_block_seconds=self.swap_block_seconds,
        )
        return Design(
            name=f"{self.replicas} replicas",
            groups=(group,),
            route=(self.route, SLOTS["route"][self.route][0]()),
            place=("least_loaded", SLOTS["place"]["least_loaded"][0]()),
            scale=("fixed", SLOTS["scale"]["fixed"][0]()),
        )


def check_step_time(cost: Cost, limits: EngineLimits) -> None:
    """Refuse step times that are nothing on the clock, or more than all of it.

    Raises:
        UserError: Naming the step.
    """
    tokens, seats = limits.max_num_batched_tokens, limits.max_num_seqs
    context = limits.num_gpu_blocks * limits.block_size
    steps = {
        "one decode": (0, 0, 0, 0, 1, 1),
        f"{seats} decodes over {context} KV tokens": (0, 0, 0, 0, seats, context),
        f"{tokens} prompt tokens": (tokens, tokens * (tokens + 1) // 2, 0, 1, 0, 0),
    }
    for name, step in steps.items():
        try:
            time = cost.step(*step)
        except (OverflowError, ZeroDivisionError):
            time = LONGEST
        if time < 1 and name == "one decode":
            raise UserError(
                f"a step of {name} takes less than {to_seconds(1):g} s, the clock's resolution: "
                "the cost model's coefficients must be in seconds"
            )
        if time >= LONGEST:
            raise UserError(
                f"a step of {name} takes {LONGEST_SECONDS} s or more, the most that can be "
                "simulated: the cost model's coefficients must be in seconds"
            )


def with_decisions(cost: Cost, seconds: float) -> Cost:
    """Return step times that are longer by what deciding adds to each step."""
    if not seconds:
        return cost
    if isinstance(cost, Fitted):
        longer = replace(cost.coefficients, fixed=cost.coefficients.fixed + seconds)
        return Fitted(longer)
    host = Host(cost.host.step_seconds + seconds, cost.host.sequence_seconds)
    return Roofline(cost.model, cost.gpu, cost.tensor_parallel, host)


@dataclass(frozen=True, slots=True)
class Task:
    """One run of a study.

    Attributes:
        recipe: The recipe.
        rate_scale: Factor on the workload's own rate.
        load: Fraction of the capacity that this is; None if the rate was not given that way.
    """

    recipe: Recipe
    rate_scale: float
    load: float | None = None


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
    setup = fleet.built(task.recipe)
    simulation = start(setup, workload, task.rate_scale, trace_states=trace_states)
    record = simulation.run()
    record.load = task.load
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
        fleet: What runs it.
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

    A new process takes over what its parent ignores, so that not even its start can be cut short.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
