"""Runs the benchmark: python -m benchmarks.decision_cost [--profile] [--recipes vllm,vtc].

Stock's scheduler class and ours take turns, step by step, in one process: 256 requests decode and
10,000 (then 44) wait. Times are CPU times of the thread, so that what else runs on the machine
counts as little as possible. With asynchronous scheduling, as on a GPU, unless `--sync` is given.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import os
import pstats
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, linear_regression, median
from typing import Any, Final

import numpy as np

from benchmarks.decision_cost.engine import KEY, Engine
from sojourn.recipes import load_recipe, recipe_names

AIM: Final = 1.15
"""Most that our `schedule()` may take of stock's."""

CHANGES_MIN: Final = 10
"""Different numbers of moves in a step that a line is drawn through, at least."""

WAITING: Final = (10_000, 44)
SHOWN: Final = 14
SHORT_OUTPUT: Final = 4
SHORT_STEPS: Final = 60
MEASURED: Final = re.compile(r"(<!-- cost -->\n).*(\n<!-- end of cost -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Cell:
    """One comparison; times in microseconds, medians over the steps.

    Attributes:
        case: Recipe, or the mode that is not `act`.
        waiting: Requests in the queue.
        stock_schedule, schedule: Of `schedule()`.
        stock_update, update: Of `update_from_output()`.
        quick: Ratio of the fastest quarter of `schedule()`, which no other work has disturbed.
        mean: Ratio of the means of `schedule()`, the slowest twentieth left out.
        moves: Requests that got or gave up a seat in ours, per step: work that stock has not.
        still: Ratio of `schedule()` in a step without any, by a line through all steps.
        each: What one of them costs, by the same line; both are 0 where nothing moves.
    """

    case: str
    waiting: int
    stock_schedule: float
    schedule: float
    stock_update: float
    update: float
    quick: float
    mean: float
    moves: float
    still: float
    each: float

    @property
    def ratio(self) -> float:
        """Our `schedule()` over stock's."""
        return self.schedule / self.stock_schedule

    @property
    def both(self) -> float:
        """Our `schedule()` and `update_from_output()` over stock's."""
        return (self.schedule + self.update) / (self.stock_schedule + self.stock_update)


def cases(names: list[str], folder: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of our scheduler by what to call them."""
    made: dict[str, dict[str, Any]] = {name: {"recipe": name} for name in names}
    if "vllm-queue-limit" in made:
        # Its own bound would shed most of the queue, and a shorter one costs less in any case.
        made["vllm-queue-limit"]["params"] = ["admit.queued_max=1000000"]
    made["shadow vtc"] = {"recipe": "vtc", "mode": "shadow"}
    made["off"] = {"recipe": "vllm", "mode": "off"}
    made["vllm + step log"] = {"recipe": "vllm", "step_log": str(folder)}
    return made


def measure(
    case: str, settings: dict[str, Any], waiting: int, given: argparse.Namespace
) -> tuple[Cell, Engine]:
    """Let stock and ours take turns; return what they took, and our engine."""
    stock = Engine(None, waiting, not given.sync)
    ours = Engine(settings, waiting, not given.sync)
    gc.collect()
    gc.freeze()
    for engine in (stock, ours):
        for _ in range(given.warm):
            engine.step()
        engine.forget()
    for _ in range(given.steps):
        stock.step()
        ours.step()
    counters: Any = getattr(ours.scheduler, "counters")  # noqa: B009 - stock's class has none
    if counters.errors:
        raise SystemExit(f"{case}: the recipe failed: {counters.errors}")
    cell = Cell(
        case,
        waiting,
        *(median(times) / 1e3 for times in (stock.schedule, ours.schedule)),
        *(median(times) / 1e3 for times in (stock.update, ours.update)),
        quick=_low(ours.schedule) / _low(stock.schedule),
        mean=_mean(ours.schedule) / _mean(stock.schedule),
        moves=fmean(ours.changes),
        **_line(ours, median(stock.schedule)),
    )
    return cell, ours


def admission(given: argparse.Namespace) -> str:
    """Return what stock's own `schedule()` takes for a request that it admits."""
    engine = Engine(None, WAITING[0], not given.sync, SHORT_OUTPUT)
    engine.forget()
    for _ in range(SHORT_STEPS):
        engine.step()
    admitted = np.array(engine.changes, dtype=np.float64)
    others = np.array(engine.running) - admitted
    terms = np.column_stack([np.ones(len(admitted)), admitted, others])
    _, each, usual = np.linalg.lstsq(terms, np.array(engine.schedule) / 1e3, rcond=None)[0]
    return (
        f"With answers of {SHORT_OUTPUT} tokens, so that seats change hands, stock's own "
        f"`schedule()` takes {each:.0f} us for a request that it admits and {usual:.0f} us for "
        "one that has a seat."
    )


def _line(engine: Engine, stock: float) -> dict[str, float]:
    """Return what a step without moves takes of stock's, and what a move costs.

    The slowest twentieth of the steps, which something else disturbed, is left out.
    """
    if len(set(engine.changes)) < CHANGES_MIN:
        return {"still": 0.0, "each": 0.0}
    steps = sorted(zip(engine.schedule, engine.changes, strict=True))
    times, changes = zip(*steps[: len(steps) * 19 // 20], strict=True)
    each, still = linear_regression(changes, times)
    return {"still": still / stock, "each": each / 1e3}


def _low(times: list[int]) -> int:
    return sorted(times)[len(times) // 4]


def _mean(times: list[int]) -> float:
    return fmean(sorted(times)[: len(times) * 19 // 20])


def row(cell: Cell) -> str:
    """Return a comparison as a row of a Markdown table."""
    return (
        f"| {cell.case} | {cell.waiting:,} | {cell.stock_schedule:,.0f} | {cell.schedule:,.0f} "
        f"| {cell.ratio:.2f} | {cell.quick:.2f} | {cell.mean:.2f} "
        f"| {cell.stock_update:,.0f} | {cell.update:,.0f} "
        f"| {cell.update / cell.stock_update:.2f} | {cell.both:.2f} | {cell.moves:.1f} | "
        + (f"{cell.still:.2f} | {cell.each:.0f} |" if cell.still else "| |")
    )


def profile(engine: Engine, steps: int) -> str:
    """Return where the time of our `schedule()` and `update_from_output()` goes."""
    watch = cProfile.Profile()
    watch.enable()
    for _ in range(steps):
        engine.step()
    watch.disable()
    rows = []
    for (file, _, name), (_, calls, own, total, _) in pstats.Stats(watch).stats.items():
        if "sojourn" in file or name in ("schedule", "update_from_output"):
            place = f"{Path(file).parent.name}/{Path(file).stem}.{name}"
            rows.append((own / steps * 1e6, total / steps * 1e6, calls / steps, place))
    rows.sort(reverse=True)
    lines = ["    own us  total us  calls   (per step, inflated by the profiler)"]
    lines += [
        f"{own:10.1f}{total:10.1f}{calls:7.1f}   {p}" for own, total, calls, p in rows[:SHOWN]
    ]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    runs = [name for name in recipe_names() if load_recipe(name).deployable]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decision_cost", description=__doc__)
    parser.add_argument("--recipes", default=",".join(runs), help="to measure in mode act")
    parser.add_argument("--only", help="cases to measure, separated by commas; default: all")
    parser.add_argument("--waiting", type=int, nargs="+", default=WAITING)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--warm", type=int, default=40, help="steps before those")
    parser.add_argument("--sync", action="store_true", help="without asynchronous scheduling")
    parser.add_argument("--profile", action="store_true", help="say where our time goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--out", type=Path, metavar="PAGE", help="page to put the table into")
    return parser.parse_args()


def verdict(found: Sequence[Cell]) -> str:
    """Return which cases miss the aim, and whether they do where nothing moves."""
    missed = [one for one in found if one.ratio > AIM]
    if not missed:
        worst = max(found, key=lambda cell: cell.ratio)
        return f"All are within {AIM} times stock's `schedule()`; the worst is {worst.ratio:.2f}."
    told = [
        f"{one.case} with {one.waiting:,} waiting takes {one.ratio:.2f} times stock's"
        + (
            f" ({one.still:.2f} in a step without moves; it makes {one.moves:.0f} a step, at "
            f"{one.each:.0f} us each)"
            if one.still
            else ""
        )
        for one in missed
    ]
    return f"{len(found) - len(missed)} of {len(found)} are within {AIM} times stock's " + (
        f"`schedule()`; {'; '.join(told)}."
    )


def main() -> None:
    """Measure, and print a Markdown table as it grows."""
    given = parse()
    os.environ["SOJOURN_IDENTITY_KEY"] = KEY
    print("Microseconds of a step, medians; `quick` compares the fastest quarter.\n")
    head = (
        "| case | waiting | stock schedule | ours | ratio | quick | mean | stock update | ours "
        "| ratio | both | moves | still | each |\n|---|" + 13 * "--:|"
    )
    print(head)
    found: list[Cell] = []
    profiles: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        wanted = cases(given.recipes.split(","), Path(folder))
        only = given.only.split(",") if given.only else list(wanted)
        for case in only:
            for waiting in given.waiting:
                cell, engine = measure(case, wanted[case], waiting, given)
                found.append(cell)
                print(row(cell), flush=True)
                if given.profile:
                    text = profile(engine, 200)
                    profiles.append(f"{case}, {waiting:,} waiting\n{text}")
                engine.scheduler.shutdown()
                del engine
                gc.unfreeze()
                gc.collect()
    told = f"{verdict(found)} {admission(given)}"
    print(f"\n{told}")
    if given.out is not None:
        text = "\n".join([head, *map(row, found), "", told])
        page = given.out.read_text(encoding="utf-8")
        given.out.write_text(MEASURED.sub(lambda m: m[1] + text + m[2], page), encoding="utf-8")
    for text in profiles:
        print(f"\n{text}")
    if given.json:
        given.json.write_text(json.dumps([asdict(cell) for cell in found], indent=1))


if __name__ == "__main__":
    main()
