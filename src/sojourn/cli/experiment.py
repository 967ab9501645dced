"""What the verbs that simulate have in common: the workload, the recipes and their rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import typer

from sojourn.cli.engine import Engine
from sojourn.cli.limits_text import print_limits as print_limits
from sojourn.cli.options import Traffic
from sojourn.cli.streams import console, plain
from sojourn.errors import UserError

if TYPE_CHECKING:
    from sojourn.recipes import Recipe
    from sojourn.recipes.parameters import Filled
    from sojourn.sim.capacity import Capacity, Probe
    from sojourn.sim.study import Fleet, Task
    from sojourn.sim.workload import Workload
    from sojourn.steplog.record import SloClass
    from sojourn.trace import Trace

INTERRUPTED: Final = 130
CAPACITY_FRACTIONS: Final = "fractions of the capacity"
RATE_FACTORS: Final = "factors on the trace's own rate"


@dataclass(slots=True)
class Experiment:
    """A workload, a fleet, and what is to be said about them.

    Attributes:
        trace: Name of the trace.
        workload: The workload.
        fleets: What runs it; of several the first is what others are held against.
        model: Name of the model.
        gpu: Name of the GPU.
        seed: Seed of the class assignment and of the bootstrap.
        limits: Every resolved limit and setting, by name; JSON values.
        notices: Sentences for the user.
        quiet: Whether notices and progress are withheld.
    """

    trace: str
    workload: Workload
    fleets: tuple[Fleet, ...]
    model: str
    gpu: str
    seed: int
    limits: dict[str, Any]
    notices: list[str]
    quiet: bool

    @property
    def fleet(self) -> Fleet:
        """The first fleet."""
        return self.fleets[0]

    @property
    def about(self) -> dict[str, Any]:
        """What a document of results says of the experiment."""
        return {
            "trace": self.trace,
            "model": self.model,
            "gpu": self.gpu,
            "seed": self.seed,
            "limits": self.limits,
            "notes": self.notices,
        }

    def notice(self, sentence: str) -> None:
        """Take up a sentence for the user, and print it."""
        self.notices.append(sentence)
        if not self.quiet:
            typer.echo(f"note: {sentence}", err=True)

    def tell(self) -> None:
        """Print the notices on standard error."""
        if not self.quiet:
            for notice in self.notices:
                typer.echo(f"note: {notice}", err=True)


def prepare(traffic: Traffic, engine: Engine, params: Sequence[str]) -> Experiment:
    """Read the trace and return the experiment.

    Raises:
        UserError: For a trace that cannot be read and for malformed SLO classes.
    """
    from sojourn.cli.slo import DEFAULT, describe, parse_slo_classes

    given = parse_slo_classes(traffic.slo_texts) if traffic.slo_texts else ()
    notices = list(engine.notices)
    trace, workload = _read(traffic, given)
    notices += trace.notices
    if not given:
        names = ", ".join(one.name for one in workload.classes)
        notices.append(
            f"no --slo-class was given: {names} is judged by {DEFAULT.partition(':')[2]} seconds"
        )
    elif trace.slo_class is not None:
        notices.append("the trace says which class each request has: shares are not used")
    fleets = tuple(
        replace(one.with_blocks_of(workload.block_tokens), seed=traffic.seed)
        for one in engine.fleets
    )
    for fleet in fleets:
        found = _too_long(workload, fleet.limits.max_model_len) + _out_of_reach(workload, fleet)
        of = f"fleet {fleet.label}: " if fleet.label else ""
        notices += [f"{of}{notice}" for notice in found]
    limits = {
        **engine.limits,
        "open_loop": traffic.open_loop,
        "slo_classes": [describe(one) for one in workload.classes],
    }
    if params:
        limits["param"] = list(params)
    experiment = Experiment(
        trace=trace.name,
        workload=workload,
        fleets=fleets,
        model=engine.model,
        gpu=engine.gpu,
        seed=traffic.seed,
        limits=limits,
        notices=notices,
        quiet=traffic.quiet,
    )
    experiment.tell()
    return experiment


def _read(traffic: Traffic, given: Sequence[SloClass]) -> tuple[Trace, Workload]:
    """Return the trace and its workload; without classes given, the default bounds hold."""
    from sojourn.cli.slo import default_classes
    from sojourn.sim.workload import make_workload
    from sojourn.trace import read_trace

    trace = read_trace(traffic.source, format=traffic.format, limit=traffic.limit)
    named = trace.slo_classes if trace.slo_class is not None else ()
    classes = given or default_classes(named)
    return trace, make_workload(trace, classes, traffic.seed, traffic.open_loop)


def _too_long(workload: Workload, max_model_len: int) -> list[str]:
    """Return what to say about requests that the engine refuses or cuts."""
    count = len(workload)
    over = sum(1 for prompt in workload.prompt if prompt >= max_model_len)
    cut = sum(
        1
        for prompt, output in zip(workload.prompt, workload.output, strict=True)
        if prompt < max_model_len < prompt + output
    )
    notices = []
    if over:
        notices.append(
            f"{over} of {count} prompts do not fit in max_model_len ({max_model_len} tokens): "
            "they are shed, and their sessions end there"
        )
    if cut:
        notices.append(
            f"{cut} of {count} answers are cut short at max_model_len ({max_model_len} tokens)"
        )
    return notices


def _out_of_reach(workload: Workload, fleet: Fleet) -> list[str]:
    """Return what to say about bounds that a request misses even with the engine to itself."""
    from sojourn.decide.clock import to_seconds

    token = to_seconds(fleet.cost.step(0, 0, 0, 0, 1, 1))
    notices = []
    for index, one in enumerate(workload.classes):
        if one.tpot_seconds is not None and one.tpot_seconds < token:
            notices.append(
                f"class {one.name}: a TPOT of {one.tpot_seconds:g} s is below the {token:.3g} s "
                "that one token takes alone here: no scheduler can meet it; another GPU, more "
                "of them (--tensor-parallel-size) or a smaller model can"
            )
        if one.ttft_seconds is None:
            continue
        prompts = [
            p for p, of in zip(workload.prompt, workload.slo_class, strict=True) if of == index
        ]
        over = sum(
            to_seconds(fleet.cost.step(p, p * (p + 1) // 2, 0, 1, 0, 0)) > one.ttft_seconds
            for p in prompts
        )
        if over > len(prompts) // 100:
            notices.append(
                f"class {one.name}: {over} of {len(prompts)} prompts take longer than its TTFT of "
                f"{one.ttft_seconds:g} s even alone and uncached"
            )
    return notices


def load_recipes(
    names: Sequence[str],
    host: str,
    params: Sequence[str],
    route: str | None = None,
    others: Sequence[tuple[str, Filled]] = (),
) -> list[Recipe]:
    """Return the recipes with their overrides.

    Args:
        names: Names, or paths.
        host: What they run on.
        params: `slot.parameter=value` texts.
        route: The router of all of them; None leaves each its own.
        others: Who else has slots that the texts may mean, by name.

    Raises:
        UserError: For an unknown recipe, parameter or value.
    """
    from sojourn.recipes import load_recipe
    from sojourn.recipes.load import all_filled
    from sojourn.recipes.parameters import overridden, parse_parameters

    recipes = [load_recipe(name, host) for name in names]
    check_names(names, recipes)
    if route is not None:
        recipes = [recipe.routed(route) for recipe in recipes]
    if not params:
        return recipes
    overrides = parse_parameters(params, [*all_filled(recipes), *others])
    made = [load_recipe(name, host, overrides) for name in names]
    return [
        replace(one, fleet=overridden(before.fleet, overrides))
        for one, before in zip(made, recipes, strict=True)
    ]


def check_names(given: Sequence[str], recipes: Sequence[Recipe]) -> None:
    """Refuse recipes that a report could not tell apart.

    Raises:
        UserError: Naming two that have one name.
    """
    seen: dict[str, str] = {}
    for text, recipe in zip(given, recipes, strict=True):
        other = seen.setdefault(recipe.name, text)
        if other != text:
            raise UserError(
                f"recipes {other!r} and {text!r} would both be called {recipe.name!r}: rename one "
                "of the files"
            )


def plan_tasks(
    experiment: Experiment,
    recipes: Sequence[Recipe],
    factors: Sequence[float],
    stock: Recipe | None,
) -> tuple[list[Task], float | None]:
    """Return the runs, loads outermost, and the capacity in requests per second.

    Args:
        experiment: The workload and the fleets.
        recipes: Recipes to run on each of them.
        factors: Fractions of the capacity of `stock`, or factors on the trace's rate.
        stock: The recipe whose capacity loads are fractions of; None scales the trace's rate.
    """
    from sojourn.report.units import RateFactor
    from sojourn.sim.study import Task

    if stock is None:
        experiment.limits["loads_are"] = RATE_FACTORS
        # A single run at the trace's own rate is "as traced"; other factors must be told apart.
        loads: list[float | None] = [RateFactor(factor) for factor in factors]
        if list(factors) == [1.0]:
            loads = [None]
        scales = list(factors)
        found = None
    else:
        measured = measure_capacity(experiment, stock)
        experiment.limits["loads_are"] = f"{CAPACITY_FRACTIONS} of {row_name(experiment, stock)}"
        loads = list(factors)
        scales = [factor * measured.rate_scale for factor in factors]
        found = measured.requests_per_second
    experiment.limits["rate_scales"] = scales
    tasks = [
        Task(recipe, scale, load, fleet)
        for load, scale in zip(loads, scales, strict=True)
        for fleet in experiment.fleets
        for recipe in (recipes[:1] if fleet.is_fixed else recipes)
    ]
    return tasks, found


def row_name(experiment: Experiment, recipe: Recipe) -> str:
    """Return the name of the row of a recipe on the first fleet."""
    return experiment.fleet.name_of(recipe)


def note_routers(experiment: Experiment, recipes: Sequence[Recipe]) -> None:
    """Check that every fleet can run every recipe, and take note of the routers."""
    routers = [
        fleet.design_of(recipe).route[0]
        for fleet in experiment.fleets
        for recipe in recipes
        if not fleet.is_alone(recipe)
    ]
    named = list(dict.fromkeys(routers))
    own = [one.name for one in recipes if "route" in one.fleet]
    if own and any(fleet.route is not None for fleet in experiment.fleets):
        experiment.notice(f"--route takes the place of the routers of {', '.join(own)}")
    if named:
        experiment.limits["route"] = named[0] if len(named) == 1 else named
    blind = [] if experiment.workload.prefix else [name for name in named if _reads_prefixes(name)]
    if blind:
        experiment.notice(
            f"the trace has no prefix ids, so nothing is found in prefix caches, and "
            f"{', '.join(blind)} cannot gain from them"
        )
    if all(fleet.size == 1 for fleet in experiment.fleets):
        above = [one.name for one in recipes if one.fleet]
        if above:
            experiment.notice(
                "there is one replica at the start, so nothing is to be decided above it: "
                f"{', '.join(above)}"
            )


def _reads_prefixes(router: str) -> bool:
    from sojourn.policies.tables import SLOTS

    return bool(getattr(SLOTS["route"][router][1], "reads_prefixes", False))


def measure_capacity(experiment: Experiment, stock: Recipe) -> Capacity:
    """Return the capacity of the stock recipe on the first fleet, telling how the search goes.

    Faults are left out: they come once, at their own times, whatever the rate.
    """
    from sojourn.fleet.design import Design
    from sojourn.fleet.views import DECODE
    from sojourn.sim.capacity import capacity

    name, setup = row_name(experiment, stock), experiment.fleet.built(stock)
    if isinstance(setup, Design):
        setup = replace(setup, faults=())
        decoding = [group.count for group in setup.groups if group.role == DECODE]
        if decoding and not any(decoding):
            raise UserError(
                f"the capacity of {name} cannot be measured, as nobody decodes at the start: raise "
                "a count, or give --rate-scale instead of --load"
            )
    with (
        status(f"measuring the capacity of {name}", experiment.quiet) as tell,
        told_of_interrupts(f"while the capacity of {name} was measured"),
    ):

        def told(probe: Probe) -> None:
            grows = "too high" if probe.grows else "sustained"
            tell(f"capacity of {name}: {probe.requests_per_second:.4g} req/s is {grows}, searching")

        found = capacity(experiment.workload, setup, told)
    if not experiment.quiet:
        typer.echo(f"note: {capacity_sentence(name, found)}", err=True)
    return found


@contextmanager
def told_of_interrupts(when: str) -> Iterator[None]:
    """Say what Ctrl-C cut off where nothing has come out yet, and end the command."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"interrupted {when}: nothing had run, and nothing is reported", err=True)
        raise typer.Exit(INTERRUPTED) from None


def capacity_sentence(name: str, found: Capacity) -> str:
    """Return a sentence on a capacity."""
    return (
        f"the capacity of {name} is {found.requests_per_second:.4g} requests per second, "
        f"{found.rate_scale:.4g} times the trace's rate ({len(found.probes)} rates tried)"
    )


@contextmanager
def status(text: str, quiet: bool) -> Iterator[Any]:
    """Show on a terminal that work is going on; yields a function that changes the text."""
    made = console(err=True)
    if quiet or not made.is_terminal:
        yield lambda _: None
        return
    with made.status(plain(text)) as shown:
        yield lambda text: shown.update(plain(text))
