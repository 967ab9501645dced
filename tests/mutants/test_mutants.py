"""The tests notice every seeded mutant: minutes, so not part of the fast set."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_seeded_mutant_is_killed():
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
