"""Runs the benchmark: python -m benchmarks.vllm_gain --case NAME|all [--model DIR] [--write].

Each case first measures what stock's default flags can serve, then sweeps stock's flags in short
runs. In full, in rounds that are compared pair by pair, run the best two of them, stock's own
priority scheduling where there are classes, and our recipes under the best stock's flags. A gain
is claimed only if it is above 5 % in every round, and throughput and the p99 stream gap stay within
5 % of the best stock's.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from benchmarks.vllm_gain.cases import all_cases
from benchmarks.vllm_gain.outcome import Outcome
from benchmarks.vllm_gain.serving import Server, model_folder
from benchmarks.vllm_gain.session import Result, Session

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "reference" / "vllm-gain.md"
MEASURED: Final = re.compile(r"(<!-- measured -->\n).*(\n<!-- end -->)", re.DOTALL)
NAMES: Final = ("seats", "memory", "classes", "tenants", "programs", "ample")
STARTING_SECONDS: Final = 30.0


def table(result: Result) -> str:
    """Return a case as Markdown: medians of the rounds, the verdict, the sweep in a line."""
    lines = [
        f"### {result.title}",
        "",
        f"{result.rate:.1f} requests/s; judged by {result.headline}.",
        "",
        "| configuration | mean TTFT, s | mean E2E, s | p99 stream gap, s | tok/s | goodput, /s "
        "| makespan, s | cut off |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    entrants = [*result.stock, *result.recipes]
    lines += [_row(runs) for runs in entrants if runs]
    for name in ("mean JCT", "polite mean E2E"):
        if result.headline == name:
            values = ", ".join(
                f"{runs[0].label} {median(one.value(name) for one in runs):.2f} s"
                for runs in entrants
                if runs
            )
            lines += ["", f"{name[0].upper()}{name[1:]}: {values}."]
    lines += ["", *(f"- {one}" for one in result.sentences)]
    if len(result.best) > 1:
        lines += [f"- Noise: the rounds of the best stock differ by {result.noise:.1%}."]
    if result.sweep:
        tried = ", ".join(
            f"{one.label} {one.value(result.headline):.3g}{' (cut)' if one.unfinished else ''}"
            for one in result.sweep
        )
        lines += ["", f"Sweep of stock, short runs, {result.headline}: {tried}."]
    return "\n".join(lines)


def _row(runs: Sequence[Outcome]) -> str:
    def middle(name: str) -> float:
        return float(median(getattr(one, name) for one in runs))

    return (
        f"| {runs[0].label} | {middle('ttft'):.2f} | {middle('e2e'):.2f} | {middle('gap'):.3f} "
        f"| {middle('throughput'):,.0f} | {middle('goodput'):.2f} | {middle('makespan'):.1f} "
        f"| {sum(one.unfinished for one in runs)} |"
    )


def main() -> None:
    """Measure, print tables as they come, and write what there is after every run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vllm_gain", description=__doc__)
    parser.add_argument("--case", default="all", choices=(*NAMES, "all"))
    parser.add_argument("--model", type=Path, help="a model's folder; default: 256 x 8 is made")
    parser.add_argument("--minutes", type=float, default=11.0, help="for all cases that run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after every run")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs page")
    given = parser.parse_args()
    began = perf_counter()

    def tell(text: str) -> None:
        print(f"[{perf_counter() - began:5.0f} s] {text}", flush=True)

    results: dict[str, Result] = {}

    def save(result: Result) -> None:
        results[result.case] = result
        if given.json is not None:
            made = [one.document() for one in results.values()]
            given.json.write_text(json.dumps(made, indent=1), encoding="utf-8")

    with TemporaryDirectory() as scratch:
        cases = all_cases(Path(scratch))
        names = NAMES if given.case == "all" else (given.case,)
        server = Server(model_folder(given.model, Path(scratch)))
        seconds = (given.minutes * 60 - STARTING_SECONDS) / sum(
            cases[name].weight for name in names
        )
        session = Session(server, seconds, tell, save)
        for name in names:
            if perf_counter() - began > given.minutes * 60:
                tell(f"no time is left for case {name}: run it alone with --case {name}")
                continue
            print(f"\n{table(session.run(cases[name]))}\n", flush=True)
        server.close()
    tell("done")
    if given.write:
        body = "\n\n".join(table(one) for one in results.values())
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(MEASURED.sub(lambda m: m[1] + body + m[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
