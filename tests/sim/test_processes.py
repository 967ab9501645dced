"""Tasks over processes: their order, what they share, and what ends them early."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sojourn.errors import UserError
from sojourn.sim.processes import jobs_of_machine, run_tasks

HERE = Path(__file__).parent


def times(factor, task):
    """Return a product; the earlier tasks take longer."""
    time.sleep(0.02 * (6 - task))
    return factor * task


def wait_at_two(shared, task):
    """Say that the third task has begun, and never end it."""
    if task == 2:
        os.write(1, b"third\n")  # in one piece, as another process writes too
    if task >= 2:
        time.sleep(60)
    return task


def die(shared, task):
    """End the process of the second task from outside."""
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def fail_at_once(shared, task):
    """Fail in the second task, while the first is far from its end."""
    if task == 1:
        raise UserError("the second fails")
    time.sleep(60)
    return task


def stop_at_two(shared, task):
    """Be cut short at the third task."""
    return None if task == 2 else task


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_the_order_of_the_tasks(jobs):
    told = []
    done = run_tasks(times, 10, range(6), jobs, told.append)
    assert done == ([0, 10, 20, 30, 40, 50], True)
    assert sorted(told) == list(range(6))


def test_what_is_cut_short_ends_the_study():
    told = []
    assert run_tasks(stop_at_two, None, range(5), 1, told.append) == ([0, 1], False)
    assert told == [0, 1]


def test_what_one_process_cuts_short_is_missing():
    told = []
    assert run_tasks(stop_at_two, None, range(5), 2, told.append) == ([0, 1, 3, 4], False)
    assert sorted(told) == [0, 1, 3, 4]


def test_a_process_that_is_killed_is_a_sentence():
    with pytest.raises(UserError, match="was ended from outside"):
        run_tasks(die, None, range(4), 2, lambda _: None)


def test_a_task_that_fails_is_not_held_up_by_the_others():
    began = time.monotonic()
    with pytest.raises(UserError, match="the second fails"):
        run_tasks(fail_at_once, None, range(4), 2, lambda _: None)
    assert time.monotonic() - began < 30


def test_ctrl_c_ends_the_workers_and_keeps_what_had_ended():
    """A terminal sends it to all processes; the workers leave it to the parent."""
    script = (
        "from sojourn.sim.processes import run_tasks\n"
        "from test_processes import wait_at_two\n"
        "import os\n"
        "print(run_tasks(wait_at_two, None, range(4), 2, lambda _: os.write(1, b'one\\n')))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
    ) as child:
        try:
            assert child.stdout is not None
            said = sorted(child.stdout.readline() for _ in range(3))
            assert said == ["one\n", "one\n", "third\n"]
            os.killpg(child.pid, signal.SIGINT)
            out, errors = child.communicate(timeout=30)  # the pipes end with the last process
        finally:
            child.kill()
    assert out == "([0, 1], False)\n", errors
    assert "Traceback" not in errors


def test_there_is_a_processor():
    assert jobs_of_machine() >= 1
