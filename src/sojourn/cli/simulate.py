"""`sojourn simulate`: one recipe on one trace, in full detail."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sojourn.cli import completion
from sojourn.cli import options as opt
from sojourn.cli.compare import STOCK, print_about
from sojourn.cli.engine import engine_flags
from sojourn.cli.experiment import (
    INTERRUPTED,
    Experiment,
    check_names,
    load_recipes,
    note_routers,
    plan_tasks,
    prepare,
    row_name,
    status,
)
from sojourn.cli.fleets import files_of, read_fleets, resolve
from sojourn.cli.outputs import timeline_line
from sojourn.cli.streams import console
from sojourn.errors import UserError
from sojourn.files import replacing

if TYPE_CHECKING:
    from sojourn.report import RunSummary
    from sojourn.steplog.record import RunRecord

RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="A recipe; see `sojourn recipes`, or a TOML file.",
        autocompletion=completion.recipe,
    ),
]
StepLogFile = Annotated[
    Path | None,
    typer.Option(
        "--step-log",
        help="Write every step, request and change of state as Parquet.",
    ),
]


EXAMPLES: Final = """\
\b
Try:
  sojourn simulate sample --model llama-3.1-8b --gpu h100-sxm \\
    --step-log steps.parquet

\b
  sojourn simulate sample --model llama-3.1-8b --gpu h100-sxm \\
    --recipe fastserve --param order.quantum_base_seconds=0.02 \\
    --load 0.9 --timeline out.perfetto.json
"""


def simulate(
    context: typer.Context,
    source: opt.Trace,
    model: opt.Model = None,
    gpu: opt.Gpu = None,
    recipe: RecipeName = STOCK,
    stock_recipe: opt.Stock = STOCK,
    load: opt.Load = None,
    rate_scale: opt.RateScale = None,
    slo_class: opt.SloClasses = None,
    seed: opt.Seed = 0,
    limit: opt.Limit = None,
    open_loop: opt.OpenLoop = False,
    format: opt.Format = "auto",
    tensor_parallel_size: opt.TensorParallel = 1,
    max_num_seqs: opt.Seats = 256,
    max_num_batched_tokens: opt.BatchedTokens = 2048,
    max_model_len: opt.ModelLen = None,
    block_size: opt.BlockSize = 16,
    num_gpu_blocks_override: opt.BlocksOverride = None,
    gpu_memory_utilization: opt.Utilization = 0.9,
    enable_prefix_caching: opt.PrefixCaching = True,
    replicas: opt.Replicas = 1,
    fleet: opt.Fleets = None,
    route: opt.Router = None,
    host: opt.Host = "vllm",
    swap_space: opt.SwapSpace = None,
    swap_bandwidth: opt.SwapBandwidth = None,
    cost: opt.Cost = None,
    param: opt.Params = None,
    step_log: StepLogFile = None,
    json: opt.JsonFile = None,
    html: opt.HtmlFile = None,
    timeline: opt.TimelineFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """Run one recipe on a trace at one rate.

    The rate is the trace's own unless --load or --rate-scale says otherwise.
    """
    flags = engine_flags(locals())
    factors = opt.load_texts(load, rate_scale, None)
    if len(factors) > 1:
        raise UserError("simulate runs at one rate; `sojourn compare` takes several")
    outputs = {"--json": json, "--html": html, "--timeline": timeline, "--step-log": step_log}
    opt.check_outputs(outputs, source, model, gpu, cost, stock_recipe, recipe, *(fleet or ()))
    plans = read_fleets(flags)
    opt.check_outputs(outputs, source, *files_of(plans))
    if len(plans) > 1:
        raise UserError("simulate runs one fleet; `sojourn compare` takes several")
    others = [(plan.name, plan.slots) for plan in plans]
    router = route if plans or replicas > 1 else None
    chosen = load_recipes([recipe], host, param or (), router, others)
    same = recipe == stock_recipe
    stock = chosen[0] if same else load_recipes([stock_recipe], host, (), router)[0]
    check_names([recipe, stock_recipe], [chosen[0], stock])
    traffic = opt.Traffic(source, slo_class or (), format, limit, open_loop, seed, quiet)
    experiment = prepare(traffic, resolve(flags, plans, (), chosen, param or ()), param or ())
    note_routers(experiment, chosen)
    tasks, capacity = plan_tasks(experiment, chosen, factors, None if load is None else stock)
    from sojourn.sim.study import run_task

    with status(f"running {recipe}", quiet):
        traced = step_log is not None or timeline is not None
        record = run_task(experiment.workload, experiment.fleet, tasks[0], trace_states=traced)
    _deliver(experiment, record, row_name(experiment, stock), capacity, outputs)
    if not record.complete:
        raise typer.Exit(INTERRUPTED)


def _deliver(
    experiment: Experiment,
    record: RunRecord,
    stock: str,
    capacity: float | None,
    outputs: Mapping[str, Path | None],
) -> None:
    """Write the run's files and print its rows."""
    from sojourn.report import (
        compare_document,
        judge,
        summarise,
        timeline,
        write_html,
        write_json,
    )
    from sojourn.steplog.write import Source, write_steplog

    if not record.complete:
        typer.echo("interrupted: what had happened until then is reported", err=True)
    runs = [summarise(record, seed=experiment.seed)]
    verdict = judge(runs, stock=stock, seed=experiment.seed)
    document = compare_document(
        runs,
        verdict,
        capacity_rps=capacity,
        **experiment.about,
    )
    if not record.complete:
        document["complete"] = False
    # Files first: a terminal that goes away must not cost the results.
    told = []
    path = outputs["--json"]
    if path is not None:
        write_json(path, document)
        told.append(f"results: {path}")
    path = outputs["--html"]
    if path is not None:
        write_html(path, document, runs, verdict)
        told.append(f"page: {path}")
    path = outputs["--timeline"]
    if path is not None:
        told.append(timeline_line(path, timeline(record, path)))
    path = outputs["--step-log"]
    if path is not None:
        about = (experiment.trace, experiment.model, experiment.gpu, experiment.seed)
        with replacing(path) as part:
            write_steplog(part, record, Source(*about, experiment.limits))
        told.append(f"step log: {path}")
    _print_run(runs[0])
    print_about(experiment, stock, capacity)
    for line in told:
        typer.echo(line)


def _print_run(run: RunSummary) -> None:
    """Print what its requests missed and its row of each table."""
    from sojourn.report.reasons import what_it_missed
    from sojourn.report.table import tables

    sentence = what_it_missed(run.row)
    typer.echo(sentence[0].upper() + sentence[1:])
    made = console()
    for table in tables([run.row]):
        typer.echo()
        made.print(table, crop=False)
    typer.echo()
