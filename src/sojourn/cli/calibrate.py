"""`sojourn calibrate`: step times fitted to the step log of a real engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sojourn.cli import options as opt
from sojourn.cli.outputs import check_outputs
from sojourn.cli.streams import console
from sojourn.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from sojourn.cost.calibration import Calibration, Judged
    from sojourn.cost.coefficient_file import MeasuredEngine
    from sojourn.cost.samples import Samples

SCHEMA: Final = "sojourn/calibrate/1"
NAME_WIDTH: Final = 16

Logs = Annotated[
    list[Path],
    typer.Argument(
        metavar="STEPLOG",
        help="Step logs of one engine: files, or folders of rotated files.",
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE.toml",
        help="Where to write the coefficients.",
        callback=opt.refuse_stdout,
    ),
]

EXAMPLES: Final = """\
\b
Try:
  sojourn calibrate steps.parquet --out engine.toml
  sojourn calibrate monday/ tuesday/ --out engine.toml --html fit.html
  sojourn compare trace.parquet --cost engine.toml --recipes vllm,fastserve
"""


def calibrate(
    step_log: Logs,
    out: Out,
    json: opt.JsonFile = None,
    html: opt.HtmlFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """Fit the cost model to the steps of a real engine.

    Each fifth of the log's time is held out in turn: the held-out errors are what to expect of
    other traffic on that engine. The file also holds the engine's limits and its number of KV
    blocks, so that `sojourn compare --cost FILE` needs no --model and no --gpu.
    """
    from sojourn.cost.calibration import calibrate as fit

    outputs = {"--out": out, "--json": json, "--html": html}
    check_outputs(outputs, None, *step_log)
    rows, engine, notes = read_logs(step_log)
    found = fit(rows)
    names = [path.name for path in step_log]
    document = calibration_document(found, engine, names)
    sentences = summary(found, engine, names)
    _write(outputs, found, engine, document, sentences)
    _print(found, sentences)
    if not quiet:
        for note in (*notes, *found.warnings):
            typer.echo(f"note: {note}", err=True)
    for flag, path in outputs.items():
        if path is not None:
            kind = {"--out": "coefficients", "--json": "results", "--html": "page"}[flag]
            typer.echo(f"{kind}: {path}")


def read_logs(logs: Sequence[Path]) -> tuple[Samples, MeasuredEngine, list[str]]:
    """Return the steps of some logs, the engine that they are of, and what to say about them.

    Raises:
        UserError: If a log cannot be read or they are of several engines.
    """
    from sojourn.cost.recorded import recorded_engine, same_engine
    from sojourn.cost.samples import joined, samples
    from sojourn.steplog.read import read_source, read_steplog

    parts, engines, notes = [], {}, []
    for log in logs:
        if str(log) in engines:
            raise UserError(f"step log {str(log)!r} is given twice")
        record, source = read_steplog(log), read_source(log)
        seconds, note = decision_seconds(record.recipe)
        notes += note
        parts.append(samples(record.steps, str(log), seconds))
        engines[str(log)] = recorded_engine(record, source)
    return joined(parts), same_engine(engines), list(dict.fromkeys(notes))


def decision_seconds(recipe: str) -> tuple[float, list[str]]:
    """Return the time that a recipe's decisions add to a step, and a note if it is not known.

    It is part of the measured time, and a simulation adds that of the recipe it runs: fitted step
    times must be without it.
    """
    from sojourn.recipes import load_recipe, recipe_names

    if recipe.partition("@")[0] not in recipe_names():
        return 0.0, [
            f"recipe {recipe!r} does not come with Sojourn: the time that its decisions took is "
            "counted as the engine's own"
        ]
    return load_recipe(recipe, "ideal").decision_seconds, []


def calibration_document(
    found: Calibration, engine: MeasuredEngine, names: Sequence[str]
) -> dict[str, Any]:
    """Return a calibration as JSON values in a fixed order."""
    from dataclasses import asdict

    def judged(one: Judged) -> dict[str, Any]:
        return {
            "steps": one.name,
            "in_sample": asdict(one.in_sample),
            "held_out": asdict(one.held_out),
        }

    return {
        "schema": SCHEMA,
        "step_logs": list(names),
        "engine": {key: value for key, value in asdict(engine).items() if value not in (None, "")},
        "coefficients": found.coefficients.to_json(),
        "errors": judged(found.overall),
        "by_kind": [judged(one) for one in found.kinds],
        "by_sequences": [judged(one) for one in found.batches],
        "estimates": [asdict(one) for one in found.estimates],
        "set_aside": {
            "steps": found.aside_steps,
            "share_of_time": found.aside_share,
            "bias_with_them": found.bias_of_all,
        },
        "between_steps_share_of_time": found.between_share,
        "covered": found.covered,
        "warnings": list(found.warnings),
    }


def _write(
    outputs: Mapping[str, Path | None],
    found: Calibration,
    engine: MeasuredEngine,
    document: dict[str, Any],
    sentences: Sequence[str],
) -> None:
    """Write the files; each appears whole or not at all."""
    from sojourn.cli.calibrate_page import render
    from sojourn.cost.coefficient_file import to_toml
    from sojourn.files import write_text
    from sojourn.report import write_json

    fit = {
        "step_logs": document["step_logs"],
        "steps": found.overall.in_sample.steps,
        "seconds": rounded(found.overall.in_sample.seconds),
        "steps_set_aside": found.aside_steps,
        "set_aside_share": rounded(found.aside_share),
        **{
            f"{name}_{key}": rounded(getattr(getattr(found.overall, name), key))
            for name in ("in_sample", "held_out")
            for key in ("median", "mean", "p90", "bias")
        },
        **{f"covered_{key}": value for key, value in found.covered.items()},
    }
    page = None if outputs["--html"] is None else render(found, document, sentences)
    if outputs["--out"] is not None:
        write_text(outputs["--out"], to_toml(found.coefficients, engine, fit))
    if outputs["--json"] is not None:
        write_json(outputs["--json"], document)
    if outputs["--html"] is not None and page is not None:
        write_text(outputs["--html"], page)


def rounded(value: float) -> float:
    """Return a number to six digits, so that a file does not hold the last bits of a library."""
    return 0.0 if abs(value) < 1e-9 else float(f"{value:.6g}")


def _print(found: Calibration, sentences: Sequence[str]) -> None:
    """Print what was fitted, how well, and what each coefficient is worth."""
    for line in sentences:
        typer.echo(line)
    screen = console()
    for table in (_error_table(found), _coefficient_table(found)):
        typer.echo()
        screen.print(table, crop=False)
    typer.echo()


def summary(found: Calibration, engine: MeasuredEngine, names: Sequence[str]) -> list[str]:
    """Return the sentences that come first."""
    from sojourn.report.units import seconds, share

    mine = found.overall
    logs = names[0] if len(names) == 1 else f"{len(names)} step logs"
    on = ", ".join(text for text in (engine.name, engine.model, engine.gpu) if text)
    lines = [
        f"Step times of {on}, fitted to {mine.in_sample.steps:,} steps "
        f"({seconds(mine.in_sample.seconds)}) of {logs}",
        f"Held out: median error {percent(mine.held_out.median)}, 90th percentile "
        f"{percent(mine.held_out.p90)}, total time {signed(mine.held_out.bias)}; in sample "
        f"{percent(mine.in_sample.median)}, {percent(mine.in_sample.p90)} and "
        f"{signed(mine.in_sample.bias)}",
    ]
    if found.aside_steps:
        lines.append(
            f"Set aside: {found.aside_steps:,} steps far from what such steps take, "
            f"{share(found.aside_share)} of the time; with them the predicted total is "
            f"{signed(found.bias_of_all)}"
        )
    if abs(found.between_share) >= 0.0005:
        what = "passed between steps" if found.between_share > 0 else "is overlapped by two steps"
        lines.append(
            f"Between steps: {share(abs(found.between_share))} of the time {what}; it is part of "
            "the step before"
        )
    return lines


def percent(value: float) -> str:
    """Return an error as a percentage; below a thousandth of one it says so."""
    from sojourn.report.units import significant

    return "<0.001 %" if abs(value) < 1e-5 else f"{significant(100 * value, 2)} %"


def signed(value: float) -> str:
    """Return a deviation as a percentage with its sign."""
    return (
        "±0.00 %"
        if abs(value) < 5e-5
        else f"{'+' if value > 0 else '−'}{abs(value):.2%}"[:-1] + " %"
    )


def _error_table(found: Calibration) -> Table:
    """Return errors by kind of step and by the number of sequences in it."""
    from sojourn.report.units import count, share

    total = found.overall.in_sample.seconds
    table = named_table("Errors: on time that the fit did not see, then in sample")
    held = ("median", "mean", "p90", "total time")
    for heading in ("steps", "time", *held, "median", "p90", "total time"):
        table.add_column(heading, justify="right", no_wrap=True)

    def add(name: str, one: Judged) -> None:
        out, seen = one.held_out, one.in_sample
        table.add_row(
            name,
            count(out.steps),
            share(out.seconds / total),
            *(percent(value) for value in (out.median, out.mean, out.p90)),
            signed(out.bias),
            *(percent(value) for value in (seen.median, seen.p90)),
            signed(seen.bias),
        )

    add("all", found.overall)
    for one in found.kinds:
        add(one.name, one)
    table.add_section()
    for one in found.batches:
        add(f"{one.name} sequence{'' if one.name == '1' else 's'}", one)
    return table


def _coefficient_table(found: Calibration) -> Table:
    """Return each coefficient, its range between parts of the log, and its share of the time."""
    from sojourn.report.units import share

    table = named_table("Coefficients")
    for heading in ("value", "between parts", "of the time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("remark")
    for one in found.estimates:
        low, high = small(one.low), small(one.high)
        table.add_row(
            f"{one.name}: {one.what}",
            small(one.seconds),
            low if low == high else f"{low} to {high}",
            share(one.share),
            one.remark,
        )
    return table


def small(seconds: float) -> str:
    """Return a time with the unit that suits it, from picoseconds up."""
    from sojourn.report.units import significant

    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")):
        if seconds * factor >= 0.9995:
            return f"{significant(seconds * factor)} {unit}"
    return f"{significant(seconds * 1e12)} ps" if seconds else "0"


def named_table(title: str) -> Table:
    """Return an empty table of the house's look, with a first column for names."""
    from sojourn.report.empty_table import empty_table

    table = empty_table(title)
    table.add_column("", no_wrap=True, min_width=NAME_WIDTH)
    return table
