"""`sojourn replay`: what another recipe would have done to the traffic of a recorded run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sojourn.cli import options as opt
from sojourn.cli.calibrate import named_table, percent
from sojourn.cli.compare import slowest
from sojourn.cli.experiment import INTERRUPTED, load_recipes, print_limits, status
from sojourn.cli.outputs import check_outputs, timeline_line
from sojourn.cli.recording import classes_of, engine_of, recorded_recipe_of
from sojourn.cli.slo import describe
from sojourn.cli.streams import console

if TYPE_CHECKING:
    from sojourn.cost import MeasuredEngine
    from sojourn.recipes import Recipe
    from sojourn.report import RunSummary
    from sojourn.sim.fidelity import Check
    from sojourn.sim.replay import Replay
    from sojourn.sim.study import Fleet, Study, Task
    from sojourn.steplog.record import RunRecord

TRUSTED_ERROR: Final = 0.25
"""A replay that is further off than this is not worth comparing recipes on."""

Logs = Annotated[
    list[Path],
    typer.Argument(
        metavar="STEPLOG",
        help="The step log of one run: a file, its rotated files, or their folder.",
        show_default=False,
    ),
]
RecipeNames = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "--recipes",
        help="What to hold against the recorded recipe: recipes separated by commas; without any "
        "only the check is made.",
    ),
]
Recorded = Annotated[
    str | None,
    typer.Option(
        "--recorded-recipe",
        help="The recipe of the recording, if it does not come with Sojourn: a TOML file.",
    ),
]
ClosedLoop = Annotated[
    bool,
    typer.Option(
        "--closed-loop",
        help="Let turns of a program wait for the turn before them and then for the recorded "
        "pause, instead of sending them when they were recorded to arrive.",
    ),
]
Cost = Annotated[
    Path | None,
    typer.Option(
        "--cost",
        metavar="FILE.toml",
        help="Step times, such as `sojourn calibrate` writes; fitted to the log itself if left "
        "out.",
    ),
]
SloClasses = Annotated[
    list[str] | None,
    typer.Option(
        "--slo-class",
        metavar="NAME:KEY=VALUE,...",
        help="Other bounds for a class of the log, such as chat:ttft=0.5,tpot=0.05. Repeatable.",
    ),
]

EXAMPLES: Final = """\
\b
Try:
  sojourn replay steps.parquet --recipe slo-edf
  sojourn replay logs/ --recipe fastserve,vllm@512x8192 --html replay.html
  sojourn replay steps.parquet --recipe vtc --cost engine.toml
"""


def replay(
    step_log: Logs,
    recipe: RecipeNames = None,
    recorded_recipe: Recorded = None,
    cost: Cost = None,
    closed_loop: ClosedLoop = False,
    slo_class: SloClasses = None,
    param: opt.Params = None,
    seed: opt.Seed = 0,
    jobs: opt.Jobs = None,
    json: opt.JsonFile = None,
    html: opt.HtmlFile = None,
    timeline: opt.TimelineFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """Say what another recipe would have done to recorded traffic.

    First the recorded recipe is simulated on the recorded requests and held against the recording:
    what the simulator gets wrong there, it gets wrong elsewhere. Then the recipes are compared on
    the same requests.
    """
    from sojourn.sim.fidelity import check_replay
    from sojourn.sim.replay import make_replay
    from sojourn.sim.study import Task, run_task
    from sojourn.steplog.read import read_source, read_steplog

    outputs = {"--json": json, "--html": html, "--timeline": timeline}
    check_outputs(outputs, None, *step_log, cost)
    opt.check_jobs(jobs)
    record, source = read_steplog(step_log), read_source(step_log)
    before, own = recorded_recipe_of(record, recorded_recipe)
    names = opt.split_names("--recipe", recipe) if recipe is not None else ()
    others = [one for one in load_recipes(names, "vllm", param or ()) if one.name != before.name]
    name = source.trace or step_log[0].name
    made = make_replay(record, name, classes_of(record, slo_class or ()), closed_loop)
    engine, fleet, where = engine_of(record, source, cost, step_log, before)
    limits = {
        **engine.limits(),
        "replicas": fleet.replicas,
        "cost": where,
        "recorded_recipe": before.name,
        "closed_loop": closed_loop,
        "slo_classes": [describe(one) for one in made.workload.classes],
        **({"param": list(param)} if param else {}),
    }
    # A name of its own: the verdict is against the recorded run, not the best flags of stock.
    before = replace(before, name=f"recorded {before.name}")
    if not quiet:
        for note in (*own, *made.notices):
            typer.echo(f"note: {note}", err=True)
    with status(f"replaying {before.name}", quiet):
        simulated = run_task(made.workload, fleet, Task(before, 1.0))
    if not simulated.complete:
        raise typer.Exit(INTERRUPTED)
    check = check_replay(record, made, simulated)
    run = Comparison(made, fleet, before, check, limits, engine, seed)
    study = _compare(run, simulated, [Task(one, 1.0) for one in others], jobs, quiet)
    _deliver(run, study, outputs)
    if not study.complete:
        raise typer.Exit(INTERRUPTED)
    if timeline is not None:
        _write_timeline(run, others or [before], study, timeline, quiet)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A recorded run with all that is needed to run and report other recipes on it.

    Attributes:
        replay: Its requests.
        fleet: The engine that it ran on.
        recorded: The recipe that it ran.
        check: How close the simulation of it came.
        limits: Every limit and setting by name; JSON values.
        engine: What the log says of the engine.
        seed: Seed of the bootstrap.
    """

    replay: Replay
    fleet: Fleet
    recorded: Recipe
    check: Check
    limits: dict[str, Any]
    engine: MeasuredEngine
    seed: int


def _compare(
    run: Comparison, simulated: RunRecord, tasks: Sequence[Task], jobs: int | None, quiet: bool
) -> Study[RunSummary]:
    """Run the recipes on the recorded requests; the first result is the recorded recipe's."""
    from functools import partial

    from sojourn.report import summarise
    from sojourn.sim.study import Study, run_study

    summary = summarise(simulated, seed=run.seed)
    if not tasks:
        return Study([summary], True)
    names = ", ".join(task.recipe.name for task in tasks)
    with status(f"running {names}", quiet):
        study = run_study(
            run.replay.workload, run.fleet, tasks, partial(summarise, seed=run.seed), jobs=jobs
        )
    return Study([summary, *study.results], study.complete)


def sentence(check: Check) -> str:
    """Return what the check means for the comparison below it."""
    worst = check.worst
    if check.exact:
        return (
            f"the replay reproduces the recorded run exactly: all {check.requests:,} requests got "
            "their first and last tokens at the recorded moments."
        )
    if worst is None:
        return "the replay and the recorded run have no finished request in common."
    error = percent(check.error)
    if check.error > TRUSTED_ERROR:
        return (
            f"the replay does not reproduce the recorded run: {worst.name} is off by {error}; do "
            "not act on the comparison of recipes, and look at the errors that `sojourn "
            "calibrate` prints for this log."
        )
    return (
        f"the replay reproduces the recorded run within {error} (worst: {worst.name}): "
        "differences between recipes below that mean nothing."
    )


def _deliver(run: Comparison, study: Study[RunSummary], outputs: Mapping[str, Path | None]) -> None:
    """Write the files, then print the check, the verdict and the tables."""
    from sojourn.report import compare_document, judge, print_comparison, write_html, write_json

    runs = study.results
    verdict = judge(runs, stock=run.recorded.name, seed=run.seed)
    told = sentence(run.check)
    verdict = replace(verdict, notes=(f"Check: {told}", *verdict.notes))
    document = compare_document(
        runs,
        verdict,
        trace=run.replay.workload.name,
        model=run.engine.model,
        gpu=run.engine.gpu,
        seed=run.seed,
        limits=run.limits,
        capacity_rps=None,
    )
    document["replay"] = _document(run, told)
    if not study.complete:
        document["complete"] = False
    if outputs["--json"] is not None:
        write_json(outputs["--json"], document)
    if outputs["--html"] is not None:
        write_html(outputs["--html"], document, runs, verdict)
    _print_check(run)
    if len(runs) > 1:
        print_comparison(runs, verdict)
        typer.echo()
    else:
        typer.echo(told[0].upper() + told[1:])
    print_limits(run.limits)
    for flag, kind in (("--json", "results"), ("--html", "page")):
        if outputs[flag] is not None:
            typer.echo(f"{kind}: {outputs[flag]}")


def _document(run: Comparison, told: str) -> dict[str, Any]:
    """Return the check as JSON values."""
    return {
        "recorded_recipe": run.limits["recorded_recipe"],
        "engine": run.engine.name,
        "requests": run.check.requests,
        "exact": run.check.exact,
        "sentence": told,
        "measures": [
            {
                "name": one.name,
                "unit": one.unit,
                "recorded": one.recorded,
                "simulated": one.simulated,
                "ratio": one.ratio,
                "median_error": one.median_error,
            }
            for one in run.check.measures
        ],
        "notices": list(run.replay.notices),
    }


def _print_check(run: Comparison) -> None:
    """Print the recorded run beside the simulation of it."""
    from sojourn.report.units import count, rate, seconds

    recipe = run.limits["recorded_recipe"]
    typer.echo(
        f"Check: {recipe} as recorded on {run.engine.name or 'the engine'}, and as "
        f"simulated; {run.check.requests:,} requests that finished in both"
    )
    table = named_table("")
    for heading in ("recorded", "simulated", "ratio", "request by request"):
        table.add_column(heading, justify="right", no_wrap=True)
    text = {"s": seconds, "tok/s": lambda value: f"{rate(value)} tok/s", "": count}
    for one in run.check.measures:
        show = text[one.unit]
        table.add_row(
            one.name,
            show(one.recorded),
            show(one.simulated),
            "–" if one.ratio is None else f"{one.ratio:.3f}",
            "" if one.median_error is None else f"median error {percent(one.median_error)}",
        )
    console().print(table, crop=False)
    typer.echo()


def _write_timeline(
    run: Comparison, recipes: Sequence[Recipe], study: Study[RunSummary], path: Path, quiet: bool
) -> None:
    """Run the slowest of some recipes again with tracing on and write its timeline."""
    from sojourn.report import timeline
    from sojourn.sim.study import Task, run_task

    tasks = [Task(one, 1.0) for one in recipes]
    task = slowest(tasks, study.results[-len(tasks) :])
    with status(f"tracing {task.recipe.name}", quiet):
        record = run_task(run.replay.workload, run.fleet, task, trace_states=True)
        if not record.complete:
            raise typer.Exit(INTERRUPTED)
        window = timeline(record, path)
    typer.echo(timeline_line(path, window, task.recipe.name))
