"""Prints the cost model's measured errors; with a page's path, writes them into the page.

Usage: python -m benchmarks.cost_fidelity DATA_DIR [docs/reference/cost-model.md]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from benchmarks.cost_fidelity import capacity, served, tables
from benchmarks.cost_fidelity.fit_shares import Errors, from_aiconfigurator, from_llmservingsim
from sojourn.errors import UserError

BEGIN: Final = "<!-- measured: begin -->"
END: Final = "<!-- measured: end -->"


def kernels(data: Path) -> list[str]:
    """Return the table of kernel errors, by GPU and operator."""
    lines = [
        "| GPU | kernel | median error, % | 90th percentile, % |",
        "|---|---|---|---|",
    ]
    for name in (*tables.SYSTEMS, *tables.RTX):
        derive = from_aiconfigurator if name in tables.SYSTEMS else from_llmservingsim
        errors: Errors = derive(data, name)[1]
        for kernel, (median, high) in errors.items():
            lines.append(f"| {name} | {kernel} | {median:.1f} | {high:.1f} |")
    return lines


def report(data: Path) -> str:
    """Return all tables as Markdown."""
    parts = [
        "### Served runs: closed loop",
        "",
        "Median absolute error, and in brackets the median signed error.",
        "",
        *served.end_to_end(data),
        "",
        "### Served run: 300 requests, one by one",
        "",
        "Llama-3.1-8B on an RTX PRO 6000, vLLM 0.19.0 (LLMServingSim's bench): error of the mean,",
        "and in brackets the median over requests of the absolute error.",
        "",
        *served.per_request(data),
        "",
        "### Kernels",
        "",
        "The first four GPUs (aiconfigurator): shapes held out of the fit, but for all-reduce. The",
        "RTX cards (LLMServingSim): sizes held out for GEMM; attention is in-sample.",
        "",
        *kernels(data),
        "",
        "### KV capacity",
        "",
        *capacity.table(),
    ]
    return "\n".join(parts) + "\n"


def write(page: Path, text: str) -> None:
    """Replace what stands between the page's markers by `text`."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{str(page)!r} lacks the markers {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Run the comparison on DATA_DIR; print it, or write it into a page."""
    if not 1 <= len(arguments) <= 2:
        raise SystemExit(__doc__)
    text = report(Path(arguments[0]))
    if len(arguments) == 2:
        write(Path(arguments[1]), text)
    else:
        print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
