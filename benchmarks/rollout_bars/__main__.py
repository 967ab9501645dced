"""Measures the rollout bars and writes their page: python -m benchmarks.rollout_bars --write.

What is measured is merged into the file of numbers, bar by bar, so that they may be run one at a
time (`--bars placement,pruning`); `--bars none` only writes the page from what is there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Final

from benchmarks.rollout_bars import allocation, page, partial, placement, pruning, selection
from benchmarks.rollout_bars.rows import Measure, Options, Row, from_json

REFERENCE: Final = Path(__file__).resolve().parents[2] / "docs" / "reference"
PAGE: Final = "rollout-bars.md"
FIRST: Final = {"partial": 4000}
"""First seeds of bars that were tuned on seeds from 1000 on."""
BARS: Final[Mapping[str, tuple[Measure, int]]] = {
    "partial": (partial.rows, 8),
    "placement": (placement.rows, 30),
    "selection": (selection.rows, 12),
    "allocation": (allocation.rows, 16),
    "pruning": (pruning.rows, 8),
}
"""What measures each bar, and on how many seeds."""


def read(path: Path) -> dict[str, list[Row]]:
    """Return the rows of a file of numbers; none if there is no file yet."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text(encoding="utf-8"))
    return {name: [from_json(one) for one in rows] for name, rows in stored.items()}


def store(path: Path, bars: Mapping[str, list[Row]]) -> None:
    """Write all rows, in the order of the page."""
    stored = {name: [one._asdict() for one in bars[name]] for name in BARS if name in bars}
    path.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Measure what was asked for, merge it, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout_bars", description=__doc__)
    parser.add_argument("--bars", default=",".join(BARS), help="names, by comma, or none")
    parser.add_argument("--seeds", type=int, help="instead of each bar's own number")
    parser.add_argument("--first", type=int, help="first seed, instead of each bar's own")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--json", type=Path, default=REFERENCE / "rollout-bars.json")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    given = parser.parse_args()
    names = [] if given.bars == "none" else given.bars.split(",")
    for name in names:
        if name not in BARS:
            parser.error(f"--bars has {name!r}; known are {', '.join(BARS)}")
    began = monotonic()
    for name in names:
        measure, seeds = BARS[name]

        def say(text: str, name: str = name) -> None:
            print(f"{monotonic() - began:5.0f} s  {name}: {text}", flush=True)

        first = FIRST.get(name, 1000) if given.first is None else given.first
        rows = list(measure(Options(given.seeds or seeds, first, given.jobs, say)))
        store(given.json, {**read(given.json), name: rows})  # another process may write, too
        say(page.verdict(rows))
    if given.write:
        (REFERENCE / PAGE).write_text(page.write(read(given.json)), encoding="utf-8")
        print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
