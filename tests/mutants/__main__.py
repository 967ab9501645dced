"""Apply each seeded mutant to a copy of the source and see whether the tests notice.

    python -m tests.mutants [part of a name ...]

Prints one line for each mutant; exits with 1 if one survived or no longer applies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.seeded_mutants import MUTANTS

ROOT = Path(__file__).parents[2]
FLEETS = tuple(
    f"tests/fleet/test_fleet_{name}.py" for name in ("faults", "links", "lifecycle", "moves")
)
QUICK = ("tests/policies", "tests/decide", "tests/engine", *FLEETS)
THOROUGH = (
    "tests/sim/test_jump.py",
    "tests/sim/test_hostile.py",
    "tests/sim/test_controls.py",
    "tests/fleet/test_fleet_invariants.py",
)
LIMIT_SECONDS = 180
OPTIONS = (
    "-x",
    "-q",
    "--no-header",
    "-p",
    "no:cacheprovider",
    "--hypothesis-seed=1",
    "-p",
    "tests.mutants.without_shrinking",
)


def run_tests(source: Path, tests: tuple[str, ...], skipped: list[str]) -> list[str] | None:
    """Return the first failing test, or nothing if all pass, or None if they never end."""
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["HYPOTHESIS_PROFILE"] = "mutants"
    options = [*OPTIONS, *(f"--deselect={name}" for name in skipped)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *tests, *options],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return None
    failed = [
        line.partition(" ")[2].partition(" - ")[0]
        for line in done.stdout.splitlines()
        if line.startswith(("FAILED ", "ERROR "))
    ]
    if done.returncode and not failed:
        return [done.stdout.strip().splitlines()[-1]]
    return failed


def failing_already(source: Path) -> list[str]:
    """Return the tests that fail without any mutant: they notice nothing."""
    skipped: list[str] = []
    for tests in (QUICK, THOROUGH):
        while found := run_tests(source, tests, skipped):
            skipped += found
    return skipped


def judge(folder: Path, file: str, old: str, new: str, skipped: list[str]) -> str:
    """Return what became of a mutant: `killed by TEST`, `SURVIVED` or `STALE`."""
    path = folder / "sojourn" / file
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        return "STALE: its old text does not occur once"
    path.write_text(text.replace(old, new), encoding="utf-8")
    try:
        for tests in (QUICK, THOROUGH):
            found = run_tests(folder, tests, skipped)
            if found is None:
                return f"killed: no end in {LIMIT_SECONDS} s"
            if found:
                return f"killed by {found[0]}"
        return "SURVIVED"
    finally:
        path.write_text(text, encoding="utf-8")


def main(parts: list[str]) -> int:
    """Judge the mutants whose names contain one of the parts; all without parts."""
    chosen = [mutant for mutant in MUTANTS if not parts or any(p in mutant[0] for p in parts)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(
            ROOT / "src" / "sojourn",
            folder / "sojourn",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        skipped = failing_already(folder)
        if skipped:
            print(f"failing without a mutant, left out: {', '.join(skipped)}")
        bad = 0
        for mutant, file, old, new in chosen:
            verdict = judge(folder, file, old, new, skipped)
            bad += not verdict.startswith("killed")
            print(f"{mutant:34s} {file:36s} {verdict}", flush=True)
    print(f"{len(chosen) - bad} of {len(chosen)} killed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
