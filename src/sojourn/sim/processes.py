"""The tasks of a study, one after another in this process or spread over several.

Results come in the order of the tasks, however many processes there are.
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
from multiprocessing import resource_tracker
from typing import Any, Final, TypeVar

from sojourn.errors import UserError

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")


def jobs_of_machine() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_tasks(
    work: Callable[[Shared, Task], Result | None],
    shared: Shared,
    tasks: Sequence[Task],
    jobs: int,
    told: Callable[[Task], None],
) -> tuple[list[Result], bool]:
    """Return the results in the order of the tasks, and whether all tasks ran to their end.

    Args:
        work: Makes the result of a task, or None if Ctrl-C cut it short; with several processes it
            must be a function of a module.
        shared: What all tasks have in common, sent to each process once.
        tasks: The tasks.
        jobs: Number of processes; up to 1 runs in this one.
        told: Called after each task, in the order in which they end.

    Raises:
        UserError: If a process was ended from outside.
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        return _run_here(work, shared, tasks, told)
    return _run_apart(work, shared, tasks, jobs, told)


def _run_here(
    work: Callable[[Shared, Task], Result | None],
    shared: Shared,
    tasks: Sequence[Task],
    told: Callable[[Task], None],
) -> tuple[list[Result], bool]:
    results: list[Result] = []
    try:
        for task in tasks:
            result = work(shared, task)
            if result is None:
                return results, False
            results.append(result)
            told(task)
    except KeyboardInterrupt:
        return results, False
    return results, True


_worker: Final[dict[str, Any]] = {}
"""What a worker process does, and what all its tasks have in common."""


def _begin(work: Callable[[Any, Any], Any], shared: Any) -> None:
    """Set a worker process up."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.update(work=work, shared=shared)
    # What is shared never dies, so the collector need not look at it again and again.
    gc.freeze()


def _end_with_parent() -> None:
    """Wait until the parent is gone, however it ended, and end this process then."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(task: Any) -> Any:
    return _worker["work"](_worker["shared"], task)


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
    work: Callable[[Shared, Task], Result | None],
    shared: Shared,
    tasks: Sequence[Task],
    jobs: int,
    told: Callable[[Task], None],
) -> tuple[list[Result], bool]:
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        jobs,
        # A fork would copy the threads' locks of whatever the parent runs, such as a progress bar.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(work, shared),
    )
    found: dict[int, Result] = {}
    try:
        with _workers_deaf_to_interrupts():
            places: dict[Future[Result | None], int] = {
                pool.submit(_work, task): place for place, task in enumerate(tasks)
            }
        for future in as_completed(places):
            if (result := future.result()) is not None:
                found[places[future]] = result
                told(tasks[places[future]])
        pool.shutdown()
    except BaseException as error:  # nobody waits for tasks whose results are not wanted
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        pool.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                "a process of the study was ended from outside, perhaps for want of memory: "
                "try fewer --jobs"
            ) from error
        if not isinstance(error, KeyboardInterrupt):
            raise
    return [found[place] for place in sorted(found)], len(found) == len(tasks)
