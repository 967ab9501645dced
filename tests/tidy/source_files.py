"""The files that the tidy tests read, parsed once."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "sojourn"
PURE = ("decide", "engine", "policies", "rollout")
"""The packages that run in every host, or must be exactly repeatable."""

SHARED_POLICY_CODE = {
    "allocate/sharing.py": "numbers of rollouts in proportion, or for the least variance",
    "allocate/student.py": "quantiles of Student's t distribution",
    "control/checkpoints.py": "rollouts of a group at a token count, and how they ended",
    "dispatch/seats.py": "the engine with the smallest share of its seats taken",
    "dispatch/sibling_lengths.py": "expected lengths, given how long siblings have been running",
    "route/llumnix_freeness.py": "freeness as Llumnix's three slots count it",
    "route/load_index.py": "the replica with the lowest score, kept current by changes",
    "route/preble_window.py": "the prefixes of the last minutes, and what each costs whom",
    "route/prefix_tree.py": "which replicas were sent which prefixes, a table of ids",
    "route/prompt_queue.py": "uncached prompt tokens in flight to each replica",
    "select/attention.py": "success rates predicted from a reference set and embeddings",
    "select/beta_math.py": "expectations under a beta distribution",
    "select/logit_filter.py": "success probabilities tracked on the logit scale",
    "select/pool.py": "candidates drawn from all prompts, and what selectors of them share",
    "order/service_seconds.py": "remaining time and tokens, used by both clairvoyant orders",
    "order/steady.py": "what an order without alarms has in common",
}
"""Files in a slot's folder that are not policies, each with what it is."""


def python_files(*packages: str) -> list[Path]:
    """Return the Python files of some packages of sojourn, or of all of it, in order."""
    folders = [SRC / package for package in packages] or [SRC]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def policy_files() -> list[Path]:
    """Return the files that hold one policy each."""
    return [
        path
        for path in python_files("policies")
        if path.name not in ("__init__.py", "tables.py")
        and slot_and_name(path) not in SHARED_POLICY_CODE
    ]


def slot_and_name(path: Path) -> str:
    """Return `slot/file.py` of a policy file."""
    return path.relative_to(SRC / "policies").as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def ids(paths: list[Path]) -> list[str]:
    """Return short names for parametrised tests."""
    return [path.relative_to(ROOT).as_posix() for path in paths]
