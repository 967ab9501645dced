"""From fleet files to fleets that run a workload, with every replica's engine resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sojourn.cli.engine import Engine, EngineFlags, resolve_engine
from sojourn.errors import UserError

if TYPE_CHECKING:
    from sojourn.fleet.design import Fault, Group, Link
    from sojourn.recipes import Recipe
    from sojourn.recipes.fleet import FaultPlan, FleetPlan, GroupPlan, LinkPlan
    from sojourn.sim.study import Fleet


def read_fleets(flags: EngineFlags) -> list[FleetPlan]:
    """Return the fleets of `--fleet`, in order; none without it.

    Raises:
        UserError: For a file that is no fleet, two fleets of one name, and flags that a fleet file
            takes the place of.
    """
    from sojourn.recipes.fleet import load_fleet

    plans = [load_fleet(path) for path in flags.fleet or ()]
    if plans and "replicas" in flags.given:
        raise UserError("--fleet says how many replicas there are; leave --replicas out")
    for place, plan in enumerate(plans):
        for other in plans[:place]:
            if plan.name == other.name:
                raise UserError(
                    f"fleets {other.origin!r} and {plan.origin!r} are both called {plan.name!r}; "
                    "give one another name"
                )
    return plans


def files_of(plans: Sequence[FleetPlan]) -> list[str]:
    """Return the files that fleet files name: recipes, GPUs and spot logs."""
    named = [name for plan in plans for one in plan.groups for name in (one.recipe, one.gpu)]
    logs = [plan.spot_log.file for plan in plans if plan.spot_log is not None]
    return [name for name in (*named, *logs) if name]


def resolve(
    flags: EngineFlags,
    plans: Sequence[FleetPlan],
    names: Sequence[str],
    recipes: Sequence[Recipe],
    params: Sequence[str],
) -> Engine:
    """Return what runs the workload: replicas as the flags say, or the fleets of the plans.

    Args:
        flags: The engine asked for; of a fleet, what its file leaves open.
        plans: The fleets; none for like replicas.
        names: The recipes as given.
        recipes: The recipes under comparison.
        params: `slot.parameter=value` texts.
    """
    if not plans:
        return resolve_engine(flags, names)
    from sojourn.recipes.load import all_filled
    from sojourn.recipes.parameters import overridden, parse_parameters

    own = [(plan.name, plan.slots) for plan in plans]
    overrides = parse_parameters(params, [*all_filled(recipes), *own])
    fleets: list[Fleet] = []
    engines: list[Engine] = []
    described = []
    for plan in plans:
        slots = dict(overridden(plan.slots, overrides))
        if flags.route is not None:
            slots.pop("route", None)
        _check_recipes(plan, recipes)
        found = [_engine(flags, plan, group, names) for group in plan.groups]
        label = plan.name if len(plans) > 1 else ""
        fleet = _fleet(replace(plan, slots=slots), found, flags.host)
        fleets.append(replace(fleet, label=label))
        engines += found
        described.append(_describe(plan, fleet))
    return Engine(
        fleets=tuple(fleets),
        model=engines[0].model,
        gpu=" + ".join(dict.fromkeys(one.gpu for one in engines)),
        limits={**_alike(engines), "fleets": described},
        notices=_notices(plans, engines),
    )


def _check_recipes(plan: FleetPlan, recipes: Sequence[Recipe]) -> None:
    """Refuse a recipe with limits of its own where the file sets them too."""
    for recipe in recipes:
        for group in plan.groups:
            given = (group.max_num_seqs, group.max_num_batched_tokens)
            if group.recipe is None and recipe.max_num_seqs and given != (None, None):
                raise UserError(
                    f"recipe {recipe.name!r} has seats and tokens of its own, which replicas "
                    f"{group.name!r} of {plan.origin} set too; leave one of them out"
                )


def _engine(flags: EngineFlags, plan: FleetPlan, group: GroupPlan, names: Sequence[str]) -> Engine:
    """Return one replica of a group."""
    where = f"{plan.origin}: replicas {group.name!r}"
    if flags.cost is not None and group.gpu is not None:
        raise UserError(
            f"{where}: gpu is {group.gpu!r}, but --cost gives the step times of one engine; leave "
            "one of them out"
        )
    asked = {
        "gpu": group.gpu,
        "tensor_parallel_size": group.tensor_parallel,
        "max_num_seqs": group.max_num_seqs,
        "max_num_batched_tokens": group.max_num_batched_tokens,
        "max_model_len": group.max_model_len,
        "num_gpu_blocks_override": group.num_gpu_blocks,
        "gpu_memory_utilization": group.gpu_memory_utilization,
    }
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    alone = replace(flags, fleet=None, route=None, replicas=1, given=flags.given | set(given))
    if group.gpu is None and flags.gpu is None and flags.cost is None and flags.model is not None:
        raise UserError(
            f"{where}: there is no gpu; give one there, or --gpu for all that have none"
        )
    try:
        return resolve_engine(replace(alone, **given), names)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _fleet(plan: FleetPlan, engines: Sequence[Engine], host: str) -> Fleet:
    """Return a described fleet; its limits are those of the tightest replica."""
    from sojourn.decide.clock import from_seconds
    from sojourn.fleet.design import Design
    from sojourn.policies.tables import FLEET_SLOTS
    from sojourn.recipes.load import FLEET_DEFAULTS
    from sojourn.recipes.parameters import make_config

    groups = [
        _group(plan, group, engine, host)
        for group, engine in zip(plan.groups, engines, strict=True)
    ]
    slots = {
        slot: plan.slots.get(slot) or (name, make_config(slot, name, {}, plan.origin))
        for slot, name in FLEET_DEFAULTS.items()
    }
    design = Design(
        name=plan.name,
        groups=tuple(groups),
        route=slots["route"],
        place=slots["place"],
        scale=slots["scale"],
        links={link.between: _link(plan, link, groups) for link in plan.links},
        default_link=engines[0].fleets[0].hardware.link,
        report_period=from_seconds(plan.period_seconds),
        report_age=from_seconds(plan.age_seconds),
        faults=(*map(_fault, plan.faults), *_spot_losses(plan)),
        lost=plan.policy,
        attempts=plan.attempts,
        most_stages=plan.most_stages,
        last_blocks=plan.last_blocks,
    )
    fleets = [engine.fleets[0] for engine in engines]
    tightest = min(
        fleets,
        key=lambda one: (
            one.limits.max_model_len,
            one.limits.num_gpu_blocks * one.limits.block_size,
        ),
    )
    own = tuple(slot for slot in FLEET_SLOTS if slot in plan.slots)
    return replace(tightest, replicas=1, design=design, own=own)


def _group(plan: FleetPlan, group: GroupPlan, engine: Engine, host: str) -> Group:
    """Return a group of a design; without a recipe where the one under comparison fills it."""
    from sojourn.decide.clock import from_seconds
    from sojourn.fleet.design import Group
    from sojourn.recipes import load_recipe
    from sojourn.sim.engines import own_limits

    fleet = engine.fleets[0]
    hardware = fleet.hardware
    if group.market is not None:
        from sojourn.catalog.cluster import gpu_price

        price = gpu_price(hardware.name, group.market)
        if price is None:
            raise UserError(
                f"{plan.origin}: replicas {group.name!r}: the catalogue has no price for "
                f"{hardware.name}; give price_per_hour instead of market"
            )
        hardware = replace(hardware, dollars_per_hour=price * hardware.gpus)
    if group.price_per_hour is not None:
        hardware = replace(hardware, dollars_per_hour=group.price_per_hour)
    if group.start_seconds is not None:
        hardware = replace(hardware, start_time=from_seconds(group.start_seconds))
    limits, cost, recipe = fleet.limits, fleet.cost, None
    if group.recipe is not None:
        where = f"{plan.origin}: replicas {group.name!r}"
        try:
            recipe = load_recipe(group.recipe, host)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        own = recipe.max_num_seqs
        if own and (group.max_num_seqs, group.max_num_batched_tokens) != (None, None):
            raise UserError(
                f"{where}: recipe {recipe.name!r} has seats and tokens of its own; leave "
                "max_num_seqs and max_num_batched_tokens out"
            )
        limits = own_limits(limits, recipe)
        if recipe.fleet:
            raise UserError(
                f"{plan.origin}: replicas {group.name!r}: recipe {recipe.name!r} decides about the "
                f"whole fleet ({', '.join(recipe.fleet)}): name it in --recipes, or a recipe for "
                "one engine here"
            )
    return Group(
        name=group.name,
        count=group.count,
        recipe=recipe,
        limits=limits,
        step_time=cost,
        role=group.role,
        least=group.least,
        most=group.most,
        gpus=hardware.gpus,
        dollars_per_hour=hardware.dollars_per_hour,
        start_time=hardware.start_time,
        swap_block_seconds=fleet.swap_block_seconds,
        kv_token_bytes=hardware.kv_token_bytes,
        hardware=hardware.name,
    )


def _link(plan: FleetPlan, link: LinkPlan, groups: Sequence[Group]) -> Link:
    """Return a link with what its kind says wherever the file does not."""
    from sojourn.catalog.cluster import load_link
    from sojourn.decide.clock import from_seconds
    from sojourn.fleet.design import Link

    by_name = {group.name: group for group in groups}
    ends = [(by_name[name].hardware, by_name[name].gpus) for name in link.between]
    rate, latency = link.bandwidth_gb_per_second, link.latency_seconds
    if rate is None or latency is None:
        where = f"{plan.origin}: the link between {' and '.join(link.between)}"
        card = load_link(link.kind, ends if rate is None else [], where)
        rate = card.bytes_per_second / 1e9 if rate is None else rate
        latency = card.latency_seconds if latency is None else latency
    return Link(
        name=link.kind,
        bytes_per_second=rate * 1e9,
        latency=from_seconds(latency),
        setup=from_seconds(link.setup_seconds),
        block_setup=from_seconds(link.block_setup_seconds),
        total_bytes_per_second=link.total_gb_per_second * 1e9,
    )


def _fault(fault: FaultPlan) -> Fault:
    from sojourn.decide.clock import NEVER, from_seconds
    from sojourn.fleet.design import Fault

    one, other = fault.between or (fault.group or "", "")
    return Fault(
        kind=fault.kind,
        time=from_seconds(fault.at_seconds),
        replica=-1 if fault.replica is None else fault.replica,
        group=one,
        other=other,
        duration=NEVER if fault.for_seconds is None else from_seconds(fault.for_seconds),
        notice=from_seconds(fault.notice_seconds),
        factor=fault.factor,
    )


def _spot_losses(plan: FleetPlan) -> tuple[Fault, ...]:
    """Return the losses of the log that a fleet suffers; none without one."""
    from sojourn.sim.fleet.spot import (
        NOTICE_SECONDS,
        bundled_spot_log,
        read_spot_log,
        spot_faults,
    )

    log = plan.spot_log
    if log is None:
        return ()
    try:
        changes = (
            bundled_spot_log(log.name)
            if log.file is None
            else read_spot_log(Path(log.file), log.name)
        )
    except UserError as error:
        raise UserError(f"{plan.origin}: spot_log: {error}") from None
    return spot_faults(
        changes,
        group=log.group or "",
        notice_seconds=NOTICE_SECONDS if log.notice_seconds is None else log.notice_seconds,
        start_seconds=log.start_seconds,
        speed=log.speed,
    )


def _alike(engines: Sequence[Engine]) -> dict[str, Any]:
    """Return the limits that all replicas share; the fleets say the others."""
    first = engines[0].limits
    return {
        name: value
        for name, value in first.items()
        if all(one.limits[name] == value for one in engines) and name != "replicas"
    }


def _notices(plans: Sequence[FleetPlan], engines: Sequence[Engine]) -> tuple[str, ...]:
    """Return what was changed or ignored; what holds for all replicas once."""
    groups = [(plan, group) for plan in plans for group in plan.groups]
    found: dict[str, list[str]] = {}
    for (plan, group), engine in zip(groups, engines, strict=True):
        hardware = engine.fleets[0].hardware
        said = list(engine.notices)
        if group.price_per_hour is None and not hardware.dollars_per_hour:
            said.append(f"the catalogue has no price for {engine.gpu}: give price_per_hour")
        for notice in said:
            found.setdefault(notice, []).append(f"{plan.name} {group.name}")
    return tuple(
        notice if len(where) == len(groups) else f"{notice} ({', '.join(where)})"
        for notice, where in found.items()
    )


def _describe(plan: FleetPlan, fleet: Fleet) -> dict[str, Any]:
    """Return a fleet with every number resolved, as JSON values."""
    from sojourn.decide.clock import to_seconds

    design = fleet.design
    assert design is not None, "a described fleet"
    return {
        "name": plan.name,
        "file": plan.origin,
        "replicas": [_describe_group(group) for group in design.groups],
        "links": [_describe_link(pair, link) for pair, link in design.links.items()],
        "link": _describe_link(None, design.default_link),
        "report_period_seconds": to_seconds(design.report_period),
        "report_age_seconds": to_seconds(design.report_age),
        "lost": design.lost,
        "attempts": design.attempts,
        "most_stages": design.most_stages,
        "last_blocks": design.last_blocks,
        "faults": [_describe_fault(fault) for fault in plan.faults],
        "spot_log": None if plan.spot_log is None else asdict(plan.spot_log),
        "spot_losses": len(design.faults) - len(plan.faults),
        "slots": {slot: getattr(design, slot)[0] for slot in fleet.own},
    }


def _describe_group(group: Group) -> dict[str, Any]:
    from sojourn.decide.clock import to_seconds

    return {
        "name": group.name,
        "count": group.count,
        "role": group.role,
        "recipe": None if group.recipe is None else group.recipe.name,
        "gpu": group.hardware,
        "tensor_parallel_size": group.gpus,
        "max_num_seqs": group.limits.max_num_seqs,
        "max_num_batched_tokens": group.limits.max_num_batched_tokens,
        "max_model_len": group.limits.max_model_len,
        "kv_cache_tokens": group.limits.num_gpu_blocks * group.limits.block_size,
        "dollars_per_hour": group.dollars_per_hour or None,
        "start_seconds": to_seconds(group.start_time),
        "least": group.least,
        "most": group.most,
    }


def _describe_link(pair: tuple[str, str] | None, link: Link) -> dict[str, Any]:
    from sojourn.decide.clock import to_seconds

    return {
        "between": None if pair is None else list(pair),
        "kind": link.name,
        "gb_per_second": link.bytes_per_second / 1e9,
        "latency_seconds": to_seconds(link.latency),
        "setup_seconds": to_seconds(link.setup),
        "block_setup_seconds": to_seconds(link.block_setup),
        "total_gb_per_second": link.total_bytes_per_second / 1e9 or None,
    }


def _describe_fault(fault: FaultPlan) -> Mapping[str, Any]:
    return {key: value for key, value in asdict(fault).items() if value is not None}
