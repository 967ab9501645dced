"""Runs the benchmark: python -m benchmarks.fidelity [--model DIR] [--out PAGE].

A first run sizes the others. Then come short rounds. Each records two runs anew, at its begin (A1)
and its end (A2), fits both together, and predicts the runs between: another rate (B), two other
length mixes (C), another recipe (D) and overload (E). A prediction is given the arrivals and
lengths of a run, the fit of its round and the engine's own number of KV blocks, nothing else. All
rounds send the same requests, so what differs between them is the machine; the order of the runs
that a round predicts is drawn anew.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from benchmarks.fidelity.pace import Clock
from benchmarks.fidelity.runs import Bench, Numbers, Prediction, Recorded, Seen, fit
from benchmarks.fidelity.traffic import (
    LONG_ANSWERS,
    LONG_PROMPTS,
    VARIED,
    WIDE,
    Mix,
    burst,
    poisson,
    ramp,
)
from benchmarks.vllm_gain.serving import Asked, Flags, Server, model_folder

MEASURED: Final = re.compile(r"(<!-- measured -->\n).*(\n<!-- end -->)", re.DOTALL)
TIMES: Final = ("mean TTFT", "mean TPOT", "mean E2E")
TOTALS: Final = ("makespan", "throughput")
BOUNDS: Final = {TIMES: 0.05, TOTALS: 0.03}
PROBE_REQUESTS: Final = 160
RESAMPLES: Final = 4000
LOW: Final = 0.05
HIGH: Final = 1.6
LONGER: Final = 1.2
"""Rates of runs A over what stock serves of a backlog, and their arrivals' time over that of other
runs: the fit must see batches as large as those that it is asked about, and quiet stretches too."""
FITTED: Final = ("A1", "A2")
"""The first and the last run of a round, so that a machine that slows down or quickens all the
while does so for what is fitted as for what is predicted."""
UNITS: Final = {"mean TTFT": (1e3, "ms"), "mean TPOT": (1e3, "ms"), "mean E2E": (1.0, "s"),
                "makespan": (1.0, "s"), "throughput": (1.0, "tok/s")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """A run that every round repeats.

    Attributes:
        name, what: Name, and what differs from run A.
        asked: Its requests.
        judged: The numbers that a bound is set on; none for the fitted runs themselves.
        recipe: Its recipe; empty for stock's order.
    """

    name: str
    what: str
    asked: list[Asked]
    judged: tuple[str, ...] = TIMES
    recipe: str = ""


@dataclass(slots=True)
class Pairs:
    """Numbers of a run in every round, measured and predicted."""

    measured: list[Numbers] = field(default_factory=list)
    predicted: list[Numbers] = field(default_factory=list)

    def ratio(self, measure: str) -> tuple[float, float, float]:
        """Return predicted over measured, with its interval."""
        seen = [one.of(measure) for one in self.measured]
        return ratio_of_means([one.of(measure) for one in self.predicted], seen)

    def spread(self, measure: str) -> str:
        """Return the lowest and the highest measurement over their mean."""
        seen = [one.of(measure) for one in self.measured]
        return f"{min(seen) / fmean(seen):.2f} to {max(seen) / fmean(seen):.2f}"


@dataclass(slots=True)
class Row:
    """A run beside its predictions.

    Attributes:
        run, what, judged: As in `Run`.
        plain, even: Its numbers in plain seconds and at even speed (see `Clock`).
    """

    run: str
    what: str
    judged: tuple[str, ...]
    plain: Pairs = field(default_factory=Pairs)
    even: Pairs = field(default_factory=Pairs)


def table(rows: Sequence[Row], remarks: Sequence[str]) -> str:
    """Return runs as Markdown."""
    lines = [
        "| run | what | number | measured | predicted | ratio, 95 % | run to run "
        "| at even speed: ratio, 95 % | run to run | bound | |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        lines += [_line(row, measure) for measure in row.judged or TIMES]
    return "\n".join([*lines, "", *(f"- {one}" for one in remarks)])


def _line(row: Row, measure: str) -> str:
    factor, unit = UNITS[measure]
    plain, even = row.plain.ratio(measure), row.even.ratio(measure)
    bound = next(limit for names, limit in BOUNDS.items() if measure in names)
    verdict = ""
    if row.judged:
        verdict = "met" if abs(even[0] - 1.0) <= bound else "**missed**"
    seen, told = (
        fmean(one.of(measure) for one in ones) * factor
        for ones in (row.plain.measured, row.plain.predicted)
    )
    return (
        f"| {row.run} | {row.what} | {measure} | {seen:,.4g} {unit} | {told:,.4g} {unit} "
        f"| {_interval(plain)} | {row.plain.spread(measure)} "
        f"| {_interval(even)} | {row.even.spread(measure)} "
        f"| {f'{bound:.0%}' if row.judged else ''} | {verdict} |"
    )


def _interval(ratio: tuple[float, float, float]) -> str:
    return f"{ratio[0]:.3f} [{ratio[1]:.3f}, {ratio[2]:.3f}]"


def ratio_of_means(above: Sequence[float], below: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of two means over rounds, and its 95 % bootstrap interval."""
    dice = random.Random("rounds")
    pairs = list(zip(above, below, strict=True))

    def ratio(chosen: Sequence[tuple[float, float]]) -> float:
        return sum(one for one, _ in chosen) / sum(other for _, other in chosen)

    drawn = sorted(ratio(dice.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return ratio(pairs), drawn[RESAMPLES // 40], drawn[-RESAMPLES // 40]


def predicted_runs(model: Prediction, awake: float, seconds: float, recipe: str) -> list[Run]:
    """Return the runs that a round predicts; the engine serves for a part of the time."""
    capacity = {mix: awake * model.capacity(mix) for mix in (WIDE, LONG_PROMPTS, LONG_ANSWERS)}

    def asked(mix: Mix, load: float, seed: int) -> list[Asked]:
        return poisson(mix, load * capacity[mix], seconds, seed)

    return [
        Run("B", "steady rate, load 0.5", asked(WIDE, 0.5, 3)),
        Run("C1", "long prompts, load 0.8", asked(LONG_PROMPTS, 0.8, 49)),
        Run("C2", "long answers, load 0.8", asked(LONG_ANSWERS, 0.8, 50)),
        Run("D", f"recipe {recipe}, load 0.7", asked(WIDE, 0.7, 68), recipe=recipe),
        Run("E", "load 1.3", asked(WIDE, 1.3, 69), TOTALS),
    ]


def measure(
    bench: Bench | Recorded, given: argparse.Namespace, save: Callable[[list[Row], list[str]], None]
) -> tuple[list[Row], list[str]]:
    """Run everything; `save` is called with rows and remarks after 1, 2, 4, 8 ... rounds."""
    rate = bench.probe(burst(VARIED, PROBE_REQUESTS, seed=1))
    low, high = LOW * rate, HIGH * rate
    first, last = (
        Run(name, "fitted", ramp(VARIED, low, high, LONGER * given.seconds, seed), ())
        for seed, name in enumerate(FITTED, 2)
    )
    sized = [bench.serve(f"{run.name}-0", run.asked) for run in (first, last)]
    awake = 1.0 - fmean(one.probe.share for one in sized)
    others = predicted_runs(fit(sized, None), awake, given.seconds, given.recipe)
    planned = [*others, first, last]
    order = random.Random("order")
    rounds: list[dict[str, Seen]] = []
    while True:
        bench.tell(f"round {len(rounds) + 1} of {given.rounds}")
        rounds.append(
            {
                run.name: bench.serve(f"{run.name}-{len(rounds) + 1}", run.asked, run.recipe)
                for run in (first, *order.sample(others, len(others)), last)
            }
        )
        is_last = len(rounds) == given.rounds
        if is_last or len(rounds).bit_count() == 1:
            found = compare(planned, rounds, sized)
            save(*found)
        if is_last:
            return found


def compare(
    planned: Sequence[Run], rounds: Sequence[dict[str, Seen]], sized: Sequence[Seen]
) -> tuple[list[Row], list[str]]:
    """Return what was measured beside what is predicted, and remarks."""
    every = [one for seen in rounds for one in seen.values()]
    # A recipe's own times are in plain seconds, so an even second is one on average.
    usual = fmean(fmean(one.probe.took) for one in every)
    rows = [Row(run.name, run.what, run.judged) for run in planned]
    for seen in rounds:
        for speed in (None, usual):
            model = fit([seen[name] for name in FITTED], speed)
            for run, row in zip(planned, rows, strict=True):
                clock = Clock(seen[run.name].probe, speed)
                pairs = row.plain if speed is None else row.even
                pairs.measured.append(seen[run.name].numbers(clock))
                pairs.predicted.append(
                    model.simulate(seen[run.name].sent(clock), seen[run.name].recipe)
                )
    limits = model.fleet.limits
    took = {
        run.name: fmean(fmean(seen[run.name].probe.took) for seen in rounds) * 1e3
        for run in planned
    }
    return rows, [
        f"Rounds: {len(rounds)}. The last fit: {model.where}.",
        f"Engine: {limits.num_gpu_blocks:,} blocks of {limits.block_size} tokens, "
        f"{limits.max_num_seqs} seats, {limits.max_num_batched_tokens} tokens a step.",
        "Work between steps, mean: "
        + ", ".join(f"{name} {ms:.2f} ms" for name, ms in took.items())
        + f"; {fmean(one.probe.share for one in every):.1%} of the time. When loads were set: "
        f"{fmean(fmean(one.probe.took) for one in sized) * 1e3:.2f} ms.",
    ]


def main() -> None:
    """Measure, print the table as it grows, and put it into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__)
    parser.add_argument("--model", type=Path, help="a model's folder; default: 256 x 8 is made")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=10.0, help="arrivals of each run")
    parser.add_argument("--recipe", default="fastserve", help="of run D")
    parser.add_argument("--seats", type=int, default=128)
    parser.add_argument("--budget", type=int, default=1024)
    parser.add_argument("--logs", type=Path, help="keep what is recorded in this folder")
    parser.add_argument("--again", type=Path, metavar="LOGS", help="predict anew what it holds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after every run")
    parser.add_argument("--out", type=Path, metavar="PAGE", help="page to put the table into")
    given = parser.parse_args()
    began = perf_counter()

    def tell(text: str) -> None:
        print(f"[{perf_counter() - began:5.0f} s] {text}", flush=True)

    def save(rows: list[Row], remarks: list[str]) -> None:
        print(f"\n{table(rows, remarks)}\n", flush=True)
        if given.json is not None:
            document = {"rows": [asdict(row) for row in rows], "remarks": remarks}
            given.json.write_text(json.dumps(document, indent=1), encoding="utf-8")

    if given.again is not None:
        recorded = Recorded(given.again, tell)
        given.rounds = min(given.rounds, recorded.rounds(FITTED[-1]))
        given.recipe = recorded.serve("D-1", []).recipe
        text = table(*measure(recorded, given, save))
        _finish(text, given.out)
        return
    with TemporaryDirectory() as scratch:
        server = Server(model_folder(given.model, Path(scratch)))
        flags = Flags(given.seats, given.budget)
        bench = Bench(server, flags, given.logs or Path(scratch) / "logs", tell)
        text = table(*measure(bench, given, save))
        server.close()
    tell("done")
    _finish(text, given.out)


def _finish(text: str, page: Path | None) -> None:
    """Print the table, and put it into a page."""
    print(f"\n{text}\n")
    if page is not None:
        before = page.read_text(encoding="utf-8")
        page.write_text(MEASURED.sub(lambda m: m[1] + text + m[2], before), encoding="utf-8")


if __name__ == "__main__":
    main()
