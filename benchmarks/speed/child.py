"""The CPU seconds of a whole command: user and system time of the process, start-up included."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took.

    Attributes:
        cpu_seconds: User and system time.
        memory_mib: Largest resident set.
        output: What it printed.
    """

    cpu_seconds: float
    memory_mib: float
    output: str


def run(command: Sequence[str]) -> Cost:
    """Run a command to its end and return what it took; a failure ends the benchmark."""
    with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
        # One thread in each library: what is counted is work, not waiting.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        child = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if child.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{errors.read()}")
        seconds = usage.ru_utime + usage.ru_stime
        return Cost(seconds, usage.ru_maxrss / 1024, output.read())


def sojourn(*arguments: str) -> Cost:
    """Run a `sojourn` command of this Python installation."""
    return run([str(Path(sys.executable).parent / "sojourn"), *arguments])
