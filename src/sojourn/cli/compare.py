"""`sojourn compare`: several recipes on one trace, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from sojourn.cli import options as opt
from sojourn.cli.engine import engine_flags
from sojourn.cli.experiment import INTERRUPTED as INTERRUPTED
from sojourn.cli.experiment import (
    Experiment,
    check_names,
    load_recipes,
    note_routers,
    plan_tasks,
    prepare,
    print_limits,
    row_name,
)
from sojourn.cli.fleets import files_of, read_fleets, resolve
from sojourn.cli.outputs import timeline_line
from sojourn.cli.progress import runs_bar
from sojourn.cli.streams import console

if TYPE_CHECKING:
    from sojourn.report import RunSummary
    from sojourn.sim.study import Study, Task

DEFAULT_RECIPES: Final = "vllm,vllm-v0,fastserve,slo-edf,vtc,srpt-clairvoyant"
STOCK: Final = "vllm"


EXAMPLES: Final = """\
\b
Try:
  sojourn compare sample --model llama-3.1-8b --gpu h100-sxm

\b
  sojourn compare trace.parquet --model llama-3.1-8b --gpu h100-sxm \\
    --recipes vllm,fastserve,slo-edf --load 0.8,1.2 \\
    --slo-class interactive:share=0.7,ttft=0.5,tpot=0.05 \\
    --slo-class batch:share=0.3,e2e=60 \\
    --json out.json --html out.html --timeline out.perfetto.json

\b
  sojourn compare sample --model llama-3.1-8b --gpu h100-sxm \\
    --recipes vllm,vllm@1024x8192,vllm-queue-limit,slo-edf

\b
  sojourn compare sample --model llama-3.1-8b --gpu l4 --replicas 8 \\
    --recipes vllm,join-shortest-tokens,distserve,llumnix --rate-scale 1.15

\b
  sojourn compare sample --model llama-3.1-8b \\
    --fleet today.toml --fleet other.toml --recipes vllm,least-load --load 0.9
"""


def compare(
    context: typer.Context,
    source: opt.Trace,
    model: opt.Model = None,
    gpu: opt.Gpu = None,
    recipes: opt.Recipes = DEFAULT_RECIPES,
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
    jobs: opt.Jobs = None,
    json: opt.JsonFile = None,
    html: opt.HtmlFile = None,
    timeline: opt.TimelineFile = None,
    quiet: opt.Quiet = False,
) -> None:
    """Compare schedulers on a trace and say which to use.

    Each recipe runs at each load; without --load or --rate-scale at 0.7, 0.9 and 1.1 of the
    capacity of stock, the highest rate at which its queue does not grow. The output is a verdict,
    tables and every limit; files hold more.

    A fleet is --replicas of one kind, or what a --fleet file describes; several files are compared
    with each other, each with every recipe. Rows of fleets carry their cost.
    """
    flags = engine_flags(locals())
    names = opt.split_names("--recipes", recipes)
    factors = opt.load_texts(load, rate_scale, opt.DEFAULT_LOADS)
    outputs = {"--json": json, "--html": html, "--timeline": timeline}
    opt.check_outputs(outputs, source, model, gpu, cost, stock_recipe, *names, *(fleet or ()))
    opt.check_jobs(jobs)
    plans = read_fleets(flags)
    opt.check_outputs(outputs, source, *files_of(plans))
    others = [(plan.name, plan.slots) for plan in plans]
    router = route if plans or replicas > 1 else None
    chosen = load_recipes(names, host, param or (), router, others)
    at = names.index(stock_recipe) if stock_recipe in names else None
    stock = load_recipes([stock_recipe], host, (), router)[0] if at is None else chosen[at]
    check_names([*names, stock_recipe], [*chosen, stock])
    traffic = opt.Traffic(source, slo_class or (), format, limit, open_loop, seed, quiet)
    experiment = prepare(traffic, resolve(flags, plans, names, chosen, param or ()), param or ())
    note_routers(experiment, chosen)
    tasks, capacity = plan_tasks(experiment, chosen, factors, stock if rate_scale is None else None)
    study = _run(experiment, tasks, jobs)
    if not _deliver(experiment, tasks, study, row_name(experiment, stock), capacity, outputs):
        raise typer.Exit(INTERRUPTED)


def _run(experiment: Experiment, tasks: Sequence[Task], jobs: int | None) -> Study[RunSummary]:
    """Run the tasks, with a bar on a terminal."""
    from sojourn.report import summarise
    from sojourn.sim.study import run_study

    with runs_bar(len(tasks), experiment.quiet) as told:
        return run_study(
            experiment.workload,
            experiment.fleet,
            tasks,
            partial(summarise, seed=experiment.seed),
            jobs=jobs,
            told=told,
        )


def _deliver(
    experiment: Experiment,
    tasks: Sequence[Task],
    study: Study[RunSummary],
    stock: str,
    capacity: float | None,
    outputs: Mapping[str, Path | None],
) -> bool:
    """Write the files, print the verdict and tables; return whether nothing was interrupted."""
    from sojourn.report import (
        compare_document,
        judge,
        print_comparison,
        write_html,
        write_json,
    )

    runs = study.results
    if not study.complete:
        typer.echo(f"interrupted: {len(runs)} runs had ended and are reported", err=True)
        if not runs:
            raise typer.Exit(INTERRUPTED)
    verdict = judge(runs, stock=stock, seed=experiment.seed)
    document = compare_document(
        runs,
        verdict,
        capacity_rps=capacity,
        **experiment.about,
    )
    if not study.complete:
        document["complete"] = False
    # Files first: a terminal that goes away must not cost the results.
    if outputs["--json"] is not None:
        write_json(outputs["--json"], document)
    if outputs["--html"] is not None:
        write_html(outputs["--html"], document, runs, verdict)
    complete, traced = study.complete, ""
    if outputs["--timeline"] is not None and complete:
        traced = _write_timeline(experiment, tasks, study, outputs["--timeline"])
        complete = bool(traced)
    print_comparison(runs, verdict, console())
    typer.echo()
    print_about(experiment, stock, capacity)
    if outputs["--json"] is not None:
        typer.echo(f"results: {outputs['--json']}")
    if outputs["--html"] is not None:
        typer.echo(f"page: {outputs['--html']}")
    if traced:
        typer.echo(traced)
    return complete


def print_about(experiment: Experiment, stock: str, capacity: float | None) -> None:
    """Print what was run on what: the capacity if measured, then every limit."""
    about = f"{experiment.trace} on {experiment.model}, {experiment.gpu}, seed {experiment.seed}"
    typer.echo(about)
    if capacity is not None:
        typer.echo(
            f"Capacity of {stock}: {capacity:.4g} req/s, the highest rate at which its queue "
            "does not grow"
        )
    print_limits(experiment.limits)


def slowest(tasks: Sequence[Task], runs: Sequence[RunSummary]) -> Task:
    """Return the task with the worst p99 of E2E among deployable recipes; the first of equals."""
    pairs = list(zip(tasks, runs, strict=True))
    allowed = [pair for pair in pairs if pair[1].row.deployable] or pairs
    return max(allowed, key=lambda pair: pair[1].row.e2e_seconds.p99 or 0.0)[0]


def _write_timeline(
    experiment: Experiment, tasks: Sequence[Task], study: Study[RunSummary], path: Path
) -> str:
    """Run the slowest task again with tracing on, write its timeline and return what to say.

    Nothing is written, and the text is empty, if Ctrl-C ends it.
    """
    from sojourn.cli.experiment import status
    from sojourn.report import timeline
    from sojourn.report.units import at_load
    from sojourn.sim.study import run_task

    task = slowest(tasks, study.results)
    with status(f"tracing {task.recipe.name} {at_load(task.load)}", experiment.quiet):
        record = run_task(experiment.workload, experiment.fleet, task, trace_states=True)
        if not record.complete:
            typer.echo("interrupted: no timeline was written", err=True)
            return ""
        window = timeline(record, path)
    about = f"{record.recipe} {at_load(task.load)}, the worst p99 of E2E"
    return timeline_line(path, window, about)
