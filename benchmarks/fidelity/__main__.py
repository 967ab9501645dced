"""Runs the benchmark: python -m benchmarks.fidelity [--model DIR] [--out PAGE].

Run A is recorded and fitted; A again shows the machine's noise. Then come runs with another rate
(B, twice), another length mix (C), another recipe (D) and overload (E). Each is predicted from
its arrivals and lengths, the fit of A and the engine's own number of KV blocks, nothing else.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from benchmarks.fidelity.runs import Bench, Numbers, Prediction
from benchmarks.fidelity.traffic import LONG_ANSWERS, LONG_PROMPTS, WIDE, burst, poisson, ramp
from benchmarks.vllm_gain.serving import Asked, Flags, Server, model_folder

MEASURED: Final = re.compile(r"(<!-- measured -->\n).*(\n<!-- end -->)", re.DOTALL)
TIMES: Final = ("mean TTFT", "mean TPOT", "mean E2E")
TOTALS: Final = ("makespan", "throughput")
BOUNDS: Final = {TIMES: 0.05, TOTALS: 0.03}
PROBE_REQUESTS: Final = 160
UNITS: Final = {"mean TTFT": (1e3, "ms"), "mean TPOT": (1e3, "ms"), "mean E2E": (1.0, "s"),
                "makespan": (1.0, "s"), "throughput": (1.0, "tok/s")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A run beside its prediction.

    Attributes:
        run, what: Name, and what differs from run A.
        measured, predicted: Its numbers.
        again: Those of its repetition; None if it was not repeated.
        judged: The numbers that a bound is set on; none for the fitted run itself.
    """

    run: str
    what: str
    measured: Numbers
    predicted: Numbers
    again: Numbers | None
    judged: tuple[str, ...]


def table(rows: list[Row], remarks: list[str]) -> str:
    """Return runs as Markdown."""
    lines = [
        "| run | what | number | measured | predicted | ratio | run to run | bound | |",
        "|---|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        lines += [_line(row, measure) for measure in row.judged or TIMES]
    return "\n".join([*lines, "", *(f"- {one}" for one in remarks)])


def _line(row: Row, measure: str) -> str:
    factor, unit = UNITS[measure]
    seen, told = row.measured.of(measure), row.predicted.of(measure)
    noise = "" if row.again is None else f"{row.again.of(measure) / seen:.3f}"
    bound = next(limit for names, limit in BOUNDS.items() if measure in names)
    verdict = ""
    if row.judged:
        verdict = "met" if abs(told / seen - 1.0) <= bound else "**missed**"
    return (
        f"| {row.run} | {row.what} | {measure} | {seen * factor:,.4g} {unit} "
        f"| {told * factor:,.4g} {unit} | {told / seen:.3f} | {noise} "
        f"| {f'{bound:.0%}' if row.judged else ''} | {verdict} |"
    )


def measure(bench: Bench, seconds: float, recipe: str, save: object) -> tuple[list[Row], list[str]]:
    """Run everything; `save` is called with rows and remarks whenever there is a new row."""
    assert callable(save)
    rows: list[Row] = []
    rate = bench.probe(burst(WIDE, PROBE_REQUESTS, seed=1))
    first = ramp(WIDE, 0.05 * rate, 1.2 * rate, seconds, seed=2)
    measured, again = bench.serve("A", first), bench.serve("A-again", first)
    model = bench.fit("A")
    limits = model.fleet.limits
    remarks = [
        f"Step times: {model.where}.",
        f"Engine: {limits.num_gpu_blocks:,} blocks of {limits.block_size} tokens, "
        f"{limits.max_num_seqs} seats, {limits.max_num_batched_tokens} tokens a step.",
        f"Run A: {len(first)} requests, from {0.05 * rate:.1f} to {1.2 * rate:.1f} a second.",
    ]

    def add(row: Row) -> None:
        rows.append(row)
        save(rows, remarks)

    add(Row("A", "the fitted run", measured, model.simulate(first), again, ()))
    capacity = {mix: model.capacity(mix) for mix in (WIDE, LONG_PROMPTS, LONG_ANSWERS)}
    asked = poisson(WIDE, 0.5 * capacity[WIDE], seconds, seed=3)
    pair = bench.serve("B", asked, log=False), bench.serve("B-again", asked, log=False)
    add(Row("B", "steady rate, load 0.5", pair[0], model.simulate(asked), pair[1], TIMES))
    for name, mix, load, what, used, judged in (
        ("C1", LONG_PROMPTS, 0.8, "long prompts, load 0.8", "", TIMES),
        ("C2", LONG_ANSWERS, 0.8, "long answers, load 0.8", "", TIMES),
        ("D", WIDE, 0.7, f"recipe {recipe}, load 0.7", recipe, TIMES),
        ("E", WIDE, 1.3, "load 1.3", "", TOTALS),
    ):
        asked = poisson(mix, load * capacity[mix], seconds, seed=ord(name[-1]))
        add(_run(bench, model, (name, what, used), asked, judged))
    return rows, remarks


def _run(
    bench: Bench,
    model: Prediction,
    named: tuple[str, str, str],
    asked: list[Asked],
    judged: tuple[str, ...],
) -> Row:
    name, what, recipe = named
    seen = bench.serve(name, asked, recipe, log=False)
    return Row(name, what, seen, model.simulate(asked, recipe), None, judged)


def main() -> None:
    """Measure, print the table as it grows, and put it into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__)
    parser.add_argument("--model", type=Path, help="a model's folder; default: 256 x 8 is made")
    parser.add_argument("--seconds", type=float, default=45.0, help="arrivals of each run")
    parser.add_argument("--recipe", default="fastserve", help="of run D")
    parser.add_argument("--seats", type=int, default=128)
    parser.add_argument("--budget", type=int, default=1024)
    parser.add_argument("--logs", type=Path, help="keep the step logs in this folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after every run")
    parser.add_argument("--out", type=Path, metavar="PAGE", help="page to put the table into")
    given = parser.parse_args()
    began = perf_counter()

    def tell(text: str) -> None:
        print(f"[{perf_counter() - began:5.0f} s] {text}", flush=True)

    def save(rows: list[Row], remarks: list[str]) -> None:
        print(f"\n{table(rows[-1:], [])}", flush=True)
        if given.json is not None:
            document = {"rows": [asdict(row) for row in rows], "remarks": remarks}
            given.json.write_text(json.dumps(document, indent=1), encoding="utf-8")

    with TemporaryDirectory() as scratch:
        server = Server(model_folder(given.model, Path(scratch)))
        flags = Flags(given.seats, given.budget)
        bench = Bench(server, flags, given.logs or Path(scratch) / "logs", tell)
        text = table(*measure(bench, given.seconds, given.recipe, save))
        server.close()
    print(f"\n{text}\n")
    tell("done")
    if given.out is not None:
        page = given.out.read_text(encoding="utf-8")
        given.out.write_text(MEASURED.sub(lambda m: m[1] + text + m[2], page), encoding="utf-8")


if __name__ == "__main__":
    main()
