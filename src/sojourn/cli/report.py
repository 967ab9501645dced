"""`sojourn report`: the tables, the page and the timeline of a run that was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sojourn.cli import options as opt
from sojourn.cli.experiment import print_limits
from sojourn.cli.outputs import check_outputs, timeline_line
from sojourn.cli.recording import classes_of
from sojourn.cli.replay import Logs, SloClasses
from sojourn.cli.slo import describe
from sojourn.cli.streams import console
from sojourn.errors import UserError

if TYPE_CHECKING:
    from sojourn.report import RunSummary, Verdict
    from sojourn.steplog.record import RunRecord

STOCK: Final = "vllm"
"""What decided while a recipe ran in shadow mode."""

BURST_SHARE: Final = 0.1
"""Requests that came within a smaller share of the run than this offered no rate."""

TimelineFile = Annotated[
    Path | None,
    typer.Option(
        "--timeline",
        help="Write a timeline for ui.perfetto.dev.",
        callback=opt.refuse_stdout,
    ),
]
Request = Annotated[
    int | None,
    typer.Option(
        "--request",
        metavar="ROW",
        help="The request that the timeline is centred on, counted from 0 in order of arrival; "
        "the one at the 99th percentile of E2E if left out.",
    ),
]

EXAMPLES: Final = """\
\b
Try:
  sojourn report steps.parquet
  sojourn report logs/ --html run.html --timeline run.perfetto.json
  sojourn report logs/steplog-00000*.parquet --slo-class chat:ttft=0.3,tpot=0.05
"""


def report(
    step_log: Logs,
    slo_class: SloClasses = None,
    seed: opt.Seed = 0,
    json: opt.JsonFile = None,
    html: opt.HtmlFile = None,
    timeline: TimelineFile = None,
    request: Request = None,
) -> None:
    """Report on a run from its step log, be it of a real engine or of the simulator.

    The classes' bounds are those of the log unless --slo-class gives others.
    """
    from sojourn.report import summarise
    from sojourn.report import timeline as write_timeline
    from sojourn.steplog.read import read_source, read_steplog, steplog_files

    outputs = {"--json": json, "--html": html, "--timeline": timeline}
    check_outputs(outputs, None, *steplog_files(step_log))
    if request is not None and timeline is None:
        raise UserError("--request says what a timeline is centred on; give --timeline too")
    record, source = read_steplog(step_log), read_source(step_log)
    record.classes = classes_of(record, slo_class or ())
    if timeline is not None and record.transitions is None:
        raise UserError(
            f"{str(step_log[0])!r} holds no changes of state, which a timeline is drawn from: "
            "leave --timeline out"
        )
    shown = record if record.differences is None else replace(record, recipe=STOCK)
    burst = _burst(shown)
    if burst is not None:
        # Nor is a rate offered from outside in a closed loop.
        shown = replace(shown, notes={**shown.notes, "closed_loop": True})
    runs = [summarise(shown, seed=seed)]
    verdict = _verdict(runs[0], record, burst)
    about = {
        "trace": source.trace or step_log[0].name,
        "model": source.model,
        "gpu": source.gpu,
        "seed": seed,
        "limits": {**source.limits, "slo_classes": [describe(one) for one in record.classes]},
    }
    told = []
    # The timeline first: it alone may refuse what it is asked for.
    if timeline is not None:
        told.append(timeline_line(timeline, write_timeline(shown, timeline, request)))
    told = _write(runs, verdict, about, record, {"--json": json, "--html": html}) + told
    _print(runs, verdict, about, record)
    for line in told:
        typer.echo(line)


def notes_of(record: RunRecord) -> list[str]:
    """Return what one should know of a recording before its numbers, one sentence each."""
    notes = []
    if record.differences is not None:
        notes.append(_shadow(record))
    if not record.complete:
        notes.append(
            "The run was interrupted: what had happened until then is reported."
            if record.host == "simulator"
            else "The log does not hold the end of the run; requests that had not ended are not "
            "in it."
        )
    missing = record.notes.get("files_missing")
    if missing:
        one = missing == 1
        notes.append(
            f"{missing} earlier {'file' if one else 'files'} of the run {'is' if one else 'are'} "
            f"not there, and what {'it' if one else 'they'} held is not in the numbers."
        )
    lost = record.notes.get("rows_lost")
    if lost:
        notes.append(f"{lost} rows could not be written while the engine ran, and are missing.")
    return notes


def _burst(record: RunRecord) -> str | None:
    """Return the sentence on a real run whose requests came all but at once, else None.

    Goodput is per second of the time in which requests came. Of a burst that is a rate which
    nobody offered and no engine served. Simulated runs are compared with others by it, and keep
    the number that `sojourn simulate` gave.
    """
    from sojourn.decide.clock import SECOND
    from sojourn.report.served import served
    from sojourn.report.units import count, seconds

    if record.host == "simulator" or record.notes.get("closed_loop"):
        return None
    facts = served(record)
    arrivals = record.requests.arrival[facts.arrived]
    if arrivals.size < 2:
        return None
    span, whole = int(arrivals.max()) - facts.begin, facts.end - facts.begin
    if span >= BURST_SHARE * whole:
        return None
    return (
        f"All {count(arrivals.size)} requests came within {seconds(span / SECOND)}: goodput is "
        f"per second of the whole {seconds(whole / SECOND)}, in which they were served."
    )


def recorder_share(record: RunRecord) -> float | None:
    """Return the CPU time of recording over the time of the steps; None if not measured."""
    busy = float(record.steps.duration.sum()) / 1e12
    if not record.recorder_seconds or not busy or record.notes.get("files_missing"):
        return None
    return record.recorder_seconds / busy


def _shadow(record: RunRecord) -> str:
    """Return the sentence on what a recipe in shadow mode would have done otherwise."""
    counts = [f"{name} {number}" for name, number in differences_of(record).items()]
    return (
        f"{record.recipe} ran in shadow mode and stock decided; it would have decided otherwise: "
        f"{', '.join(counts) or 'never'}."
    )


def differences_of(record: RunRecord) -> dict[str, int]:
    """Return how often a recipe in shadow mode would have decided otherwise, by kind."""
    from sojourn.steplog.record import DIFFERENCES

    if record.differences is None:
        return {}
    found = record.differences.difference
    counts = {name: int((found == place).sum()) for place, name in enumerate(DIFFERENCES)}
    return {name: number for name, number in counts.items() if number}


def _verdict(run: RunSummary, record: RunRecord, burst: str | None) -> Verdict:
    """Return what stands where comparisons have a verdict: what the run achieved."""
    from sojourn.report import LoadVerdict, Verdict
    from sojourn.report.fleet_figures import fleet_lines
    from sojourn.report.reasons import what_it_missed
    from sojourn.report.standing import is_adequate, met_share, rated
    from sojourn.report.units import count, share

    row = run.row
    engine = record.engine or record.host
    noun = "request" if row.requests == 1 else "requests"
    met = f"met the SLOs of {share(met_share(run))} of {count(row.requests)} {noun}"
    missed = what_it_missed(row)
    one = LoadVerdict(
        load=row.load,
        best=row.recipe,
        best_deployable=row.recipe if row.deployable else None,
        stock=None,
        difference=False,
        paired_gain=None,
        headline=f"goodput {rated(run)} req/s." if row.requests else "nothing was served.",
        why="\n".join([f"why: {missed}", *fleet_lines([run])]),
        recipes={row.recipe: missed},
        adequate=is_adequate(run),
    )
    what = met if row.requests else "had no request"
    notes = (*notes_of(record), *([burst] if burst else ()))
    return Verdict(f"recipe {row.recipe} in {engine} {what}.", None, notes, (one,))


def _write(
    runs: Sequence[RunSummary],
    verdict: Verdict,
    about: Mapping[str, Any],
    record: RunRecord,
    outputs: Mapping[str, Path | None],
) -> list[str]:
    """Write the results and the page; return the lines that say so."""
    from sojourn.report import compare_document, write_html, write_json

    document = compare_document(runs, verdict, capacity_rps=None, **about)
    document["complete"] = record.complete
    document["recorded"] = {
        "host": record.host,
        "engine": record.engine,
        "recipe": record.recipe,
        "shadow": record.differences is not None,
        "started_unix_seconds": record.started_unix_seconds,
        "recorder_share": recorder_share(record),
        "files_missing": record.notes.get("files_missing", 0),
        "rows_lost": record.notes.get("rows_lost", 0),
        "differences": differences_of(record),
    }
    told = []
    path = outputs["--json"]
    if path is not None:
        write_json(path, document)
        told.append(f"results: {path}")
    path = outputs["--html"]
    if path is not None:
        write_html(path, document, runs, verdict)
        told.append(f"page: {path}")
    return told


def _print(
    runs: Sequence[RunSummary], verdict: Verdict, about: Mapping[str, Any], record: RunRecord
) -> None:
    from sojourn.report import print_comparison
    from sojourn.report.units import share

    print_comparison(runs, verdict, console())
    typer.echo()
    typer.echo(f"{about['trace']} on {about['model']}, {about['gpu']}{_begun(record)}")
    recording = recorder_share(record)
    if recording is not None:
        typer.echo(f"Recording took {share(recording)} of the steps' time")
    print_limits(about["limits"])


def _begun(record: RunRecord) -> str:
    """Return when a real run began, as part of a line."""
    from datetime import UTC, datetime

    if record.started_unix_seconds is None:
        return ""
    moment = datetime.fromtimestamp(record.started_unix_seconds, UTC)
    return f", begun {moment:%Y-%m-%d %H:%M:%S} UTC"
