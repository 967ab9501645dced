"""`sojourn rollout`: what rollout policies give a training run, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sojourn.cli import completion
from sojourn.cli import options as opt
from sojourn.cli.progress import runs_bar
from sojourn.cli.streams import console

if TYPE_CHECKING:
    from sojourn.sim.rollout.scenario import Scenario
    from sojourn.sim.rollout.study import RolloutStudy

INTERRUPTED: Final = 130
READ: Final = (("prompts", "file"), ("lengths", "file"), ("engines", "cost"), ("engines", "recipe"))
"""Tables and keys of a scenario that name a file."""

app = typer.Typer(
    no_args_is_help=True,
    help="Compare rollout policies of RL training in simulation.",
)

File = Annotated[
    Path,
    typer.Argument(
        metavar="SCENARIO.toml",
        help="A scenario; `sojourn rollout scenario` prints one to begin with.",
        autocompletion=completion.toml_files,
    ),
]
Steps = Annotated[
    int | None, typer.Option("--steps", help="Training steps, in place of the scenario's.")
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", help="Number of seeds, in place of the scenario's.")
]


@app.command()
def compare(
    file: File,
    steps: Steps = None,
    seeds: Seeds = None,
    jobs: opt.Jobs = None,
    json: opt.JsonFileOrStdout = None,
    html: opt.HtmlFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """Run every candidate of a scenario with every seed, and say which to use.

    The output is a verdict, which may be to keep the baseline, and tables of speed, tokens and
    what is trained, with intervals over seeds. With `--json -` it is the results as JSON instead.

    Try:

        sojourn rollout scenario > scenario.toml

        sojourn rollout compare scenario.toml --json out.json --html out.html
    """
    outputs = {"--json": None if json == opt.STDOUT else json, "--html": html}
    opt.check_outputs(outputs, None, file)
    opt.check_jobs(jobs)
    scenario = _read(file, steps, seeds, outputs)
    study = _run(scenario, jobs, quiet)
    if not _deliver(scenario, study, json, html, notes=not quiet):
        raise typer.Exit(INTERRUPTED)


@app.command()
def scenario() -> None:
    """Print a scenario to begin with: every table, with what it means.

    Try:

        sojourn rollout scenario > scenario.toml
    """
    from sojourn.sim.rollout.example import EXAMPLE

    typer.echo(EXAMPLE, nl=False)


def _read(
    file: Path, steps: int | None, seeds: int | None, outputs: Mapping[str, Path | None]
) -> Scenario:
    """Return the scenario, with what the command line says in place of it.

    No output may replace a file that the scenario names.
    """
    from sojourn.files import read_toml
    from sojourn.sim.rollout.scenario import scenario_of

    document = read_toml(file)
    named = [_named(document, table, key) for table, key in READ]
    opt.check_outputs(outputs, None, *(file.parent / one for one in named if one))
    if steps is not None:
        document["steps"] = steps
        warmup = document.get("warmup_steps", 0)
        if isinstance(warmup, int) and warmup >= steps > 0:
            document["warmup_steps"] = steps // 4
    if seeds is not None:
        document["seeds"] = seeds
    found = scenario_of(document, str(file), file.parent)
    return replace(found, settings=_with_files(found.settings, document))


def _with_files(settings: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the names of the files that prompts and lengths were read from."""
    named = {table: _named(document, table, "file") for table in ("prompts", "lengths")}
    return {
        key: {"file": named[key], **value} if named.get(key) else value
        for key, value in settings.items()
    }


def _named(document: Mapping[str, Any], table: str, key: str) -> str:
    """Return the file that a key names; empty if there is none, or no text."""
    found = document.get(table)
    value = found.get(key) if isinstance(found, dict) else None
    return value if isinstance(value, str) else ""


def _run(scenario: Scenario, jobs: int | None, quiet: bool) -> RolloutStudy:
    """Run everything, with a bar on a terminal."""
    from sojourn.sim.rollout.study import run_rollouts, tasks_of

    tasks = tasks_of(scenario)
    with runs_bar(len(tasks), quiet) as told:
        return run_rollouts(scenario, tasks, jobs=jobs, told=told)


def _deliver(
    scenario: Scenario, study: RolloutStudy, json: Path | None, html: Path | None, notes: bool
) -> bool:
    """Write the files, print the tables or the JSON; return whether nothing was interrupted."""
    from sojourn.report.json_report import to_text, write_json
    from sojourn.report.rollouts import judge, summarise
    from sojourn.report.rollouts_html import rollouts_document, write_rollouts_html
    from sojourn.report.rollouts_table import print_rollouts

    if not study.complete:
        typer.echo(f"interrupted: {len(study.records)} runs had ended", err=True)
    if not any(_is_baseline(scenario, record) for record in study.records):
        typer.echo("nothing is reported: the baseline had not run", err=True)
        raise typer.Exit(INTERRUPTED)
    rows = summarise(study.records, scenario.baseline)
    verdict = judge(rows, scenario.baseline, scenario.lag_versions_max)
    settings, note = scenario.settings, _note(scenario)
    said = [one for one in (_measured(scenario), note) if one]
    document = rollouts_document(scenario.name, settings, rows, verdict, study.complete, said)
    # Files first: a terminal that goes away must not cost the results.
    if json is not None and json != opt.STDOUT:
        write_json(json, document)
    if html is not None:
        write_rollouts_html(html, scenario.name, settings, rows, verdict, said)
    if notes and note:
        typer.echo(f"note: {note}", err=True)
    if json == opt.STDOUT:
        typer.echo(to_text(document), nl=False)
        return study.complete
    print_rollouts(rows, verdict, console())
    typer.echo()
    _print_about(scenario, settings)
    if json is not None:
        typer.echo(f"results: {json}")
    if html is not None:
        typer.echo(f"page: {html}")
    return study.complete


def _is_baseline(scenario: Scenario, record: Any) -> bool:
    return bool(record.role == "candidate" and record.candidate == scenario.baseline)


def _measured(scenario: Scenario) -> str:
    """Return what was measured of a file's prompts; empty if there is none."""
    from sojourn.sim.rollout.measured import measured_text

    measured = scenario.world.prompts.measured
    return "" if measured is None else measured_text(measured)


def _note(scenario: Scenario) -> str:
    """Return what the user should know of measured prompts; empty if nothing."""
    from sojourn.sim.rollout.measured import cut_text

    measured = scenario.world.prompts.measured
    return "" if measured is None else cut_text(measured, scenario.world.plan.tokens_max)


def _print_about(scenario: Scenario, settings: Mapping[str, Any]) -> None:
    """Print what was run on what."""
    engines, plan = settings["engines"], settings["plan"]
    on = engines["gpu"] or f"the step times of {engines['cost']}"
    model = engines["model"] or "a measured model"
    typer.echo(
        f"{scenario.name}: {engines['count']} × {model} on {on}, "
        f"{engines['kv_cache_tokens']} tokens of KV cache each; batches of "
        f"{plan['batch_groups']} × {plan['rollouts_per_group']}, at most {plan['tokens_max']} "
        f"tokens a rollout; {settings['steps']} steps, the first {settings['warmup_steps']} not "
        f"counted; {len(scenario.seeds)} seeds"
    )
    if measured := _measured(scenario):
        typer.echo(measured)
