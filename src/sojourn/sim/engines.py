"""What runs a recipe: one engine, or a fleet of them, complete but for the recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import floor
from typing import Any, TypeAlias, cast

from sojourn.cost import Fitted, Host, Roofline
from sojourn.decide.clock import Time, to_seconds
from sojourn.decide.limits import EngineLimits
from sojourn.decide.needs import Need
from sojourn.errors import UserError, unknown
from sojourn.fleet.design import Design, Group, Link
from sojourn.fleet.views import DECODE, MIXED, PREFILL
from sojourn.policies.tables import FLEET_SLOTS, SLOTS
from sojourn.recipes.hosts import VLLM
from sojourn.recipes.load import FLEET_DEFAULTS, ROLES, Recipe
from sojourn.sim.loop import Setup
from sojourn.sim.workload import LONGEST, LONGEST_SECONDS

Cost: TypeAlias = Roofline | Fitted


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a replica is, beside its limits and step times.

    Attributes:
        name: Name of its GPU.
        gpus: How many of them it has.
        dollars_per_hour: Its price; 0 if unknown.
        start_time: From being asked for to being up.
        kv_token_bytes: Bytes of KV of a token, over all its GPUs; 0 if unknown.
        link: What joins it to others.
    """

    name: str = ""
    gpus: int = 1
    dollars_per_hour: float = 0.0
    start_time: Time = 0
    kv_token_bytes: int = 0
    link: Link = field(default_factory=Link)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas of one engine and the router above them, or a described fleet.

    Attributes:
        limits: Engine limits of each replica; of a described fleet the tightest ones.
        cost: Step times, without the time that a recipe's decisions add.
        replicas: Number of replicas.
        route: Name of the router; None for the recipe's own.
        swap_block_seconds: Time to copy one block over the link to host memory.
        design: Of a described fleet, its groups and all else; groups without a recipe, and slots
            that are not in `own`, are for the recipe under comparison.
        own: Slots above the replicas that the design fills itself.
        hardware: Of replicas that no design describes.
        label: What stands before the recipe's name in the name of a row; empty for nothing.
        seed: Of the router's and the faults' random streams.
    """

    limits: EngineLimits
    cost: Cost
    replicas: int = 1
    route: str | None = None
    swap_block_seconds: float = 0.0
    design: Design | None = None
    own: tuple[str, ...] = ()
    hardware: Hardware = field(default_factory=Hardware)
    label: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a fleet of nothing, an unknown router, and steps that the clock cannot tell."""
        if self.replicas < 1:
            raise UserError(f"--replicas is {self.replicas}; it must be at least 1")
        if self.route is not None and self.route not in SLOTS["route"]:
            raise unknown("router in --route", self.route, SLOTS["route"])
        check_step_time(self.cost, self.limits)

    @property
    def size(self) -> int:
        """Replicas at the start."""
        groups = self.design.groups if self.design is not None else ()
        return sum(group.count for group in groups) or self.replicas

    def is_alone(self, recipe: Recipe) -> bool:
        """Return whether a recipe gets one engine, about which nothing is decided from above."""
        return self.replicas == 1 and self.design is None and not recipe.fleet

    @property
    def is_fixed(self) -> bool:
        """Whether a recipe has nothing left to fill."""
        return (
            self.design is not None
            and all(group.recipe is not None for group in self.design.groups)
            and set(self.own) == set(FLEET_SLOTS)
        )

    def name_of(self, recipe: Recipe) -> str:
        """Return the name of the row of a recipe on this fleet."""
        if self.is_fixed:
            assert self.design is not None, "nothing else is fixed"
            return self.design.name
        return f"{self.label}/{recipe.name}" if self.label else recipe.name

    def with_blocks_of(self, block_tokens: int) -> Fleet:
        """Return the fleet for a workload with so many tokens behind each prefix id."""
        design = self.design
        if design is not None:
            groups = [
                replace(one, limits=replace(one.limits, block_tokens=block_tokens))
                for one in design.groups
            ]
            design = replace(design, groups=tuple(groups))
        return replace(self, limits=replace(self.limits, block_tokens=block_tokens), design=design)

    def setup(self, recipe: Recipe, *, trace_states: bool = False) -> Setup:
        """Return what runs a recipe on one replica of this fleet."""
        return Setup(
            recipe=recipe,
            limits=own_limits(self.limits, recipe),
            step_time=with_decisions(self.cost, recipe.decision_seconds),
            swap_block_seconds=self.swap_block_seconds,
            trace_states=trace_states,
        )

    def built(self, recipe: Recipe) -> Setup | Design:
        """Return what runs a recipe: one replica, or a fleet."""
        return self.setup(recipe) if self.is_alone(recipe) else self.design_of(recipe)

    def design_of(self, recipe: Recipe) -> Design:
        """Return the fleet that a recipe runs on.

        Raises:
            UserError: If the recipe asks for replicas of other roles than there are.
        """
        design = self._alike(recipe) if self.design is None else self._filled(recipe)
        slots = {
            slot: getattr(design, slot) if slot in self.own else recipe.fleet_slot(slot)
            for slot in FLEET_SLOTS
        }
        if self.route is not None:
            slots["route"] = recipe.routed(self.route).fleet["route"]
        made = replace(
            design,
            route=slots["route"],
            place=slots["place"],
            scale=slots["scale"],
            seed=self.seed,
        )
        _check_moves(made, recipe)
        return made

    def _alike(self, recipe: Recipe) -> Design:
        """Return a fleet of like replicas, split by role if the recipe says so."""
        hardware = self.hardware
        group = Group(
            name="replica",
            count=self.replicas,
            recipe=None,
            limits=self.limits,
            step_time=self.cost,
            least=1,
            most=self.replicas,
            gpus=hardware.gpus,
            dollars_per_hour=hardware.dollars_per_hour,
            start_time=hardware.start_time,
            swap_block_seconds=self.swap_block_seconds,
            kv_token_bytes=hardware.kv_token_bytes,
            hardware=hardware.name,
        )
        groups: tuple[Group, ...] = (group,)
        if ROLES in recipe.fleet:
            groups = tuple(
                replace(group, name=role, role=role, count=count, most=count)
                for role, count in self._split(recipe).items()
            )
        return Design(
            name=f"{self.replicas} replica{'' if self.replicas == 1 else 's'}",
            groups=tuple(_with_recipe(group, recipe) for group in groups),
            route=recipe.fleet_slot("route"),
            place=recipe.fleet_slot("place"),
            scale=recipe.fleet_slot("scale"),
            default_link=hardware.link,
        )

    def _split(self, recipe: Recipe) -> dict[str, int]:
        """Return how many replicas get each role."""
        if self.replicas < 2:
            raise UserError(
                f"recipe {recipe.name!r} computes prompts and answers on separate replicas: give "
                "--replicas 2 or more"
            )
        wanted = floor(recipe.fleet[ROLES][1].prefill_share * self.replicas + 0.5)
        prefills = min(max(wanted, 1), self.replicas - 1)
        return {PREFILL: prefills, DECODE: self.replicas - prefills}

    def _filled(self, recipe: Recipe) -> Design:
        """Return the described fleet with the recipe where it leaves a gap."""
        design = self.design
        assert design is not None, "a described fleet"
        if ROLES in recipe.fleet and all(group.role == MIXED for group in design.groups):
            raise UserError(
                f"recipe {recipe.name!r} computes prompts and answers on separate replicas, but "
                f"all replicas of fleet {design.name!r} are mixed: give them roles, or run it "
                "with --replicas"
            )
        groups = [_with_recipe(group, recipe) for group in design.groups]
        return replace(design, groups=tuple(groups))

    def deployable(self, recipe: Recipe) -> bool:
        """Return whether stock engines behind a router can do what the recipe does here."""
        if self.is_alone(recipe):
            return recipe.deployable
        design = self.design_of(recipe)
        split = any(group.role != MIXED for group in design.groups)
        inside = all(VLLM.issuperset(_inside(group.recipe)) for group in design.groups)
        return inside and not split and VLLM.issuperset(_needs_above(design))

    def parameters(self, recipe: Recipe) -> dict[str, Any]:
        """Return the resolved policy and parameters of each slot, as JSON values."""
        if self.is_alone(recipe):
            return recipe.parameters()
        design = self.design_of(recipe)
        above = {slot: getattr(design, slot) for slot in FLEET_SLOTS}
        return replace(recipe, fleet={**recipe.fleet, **above}).parameters()


def _needs_above(design: Design) -> set[Need]:
    """Return what the slots above the replicas need; the usual placer of like replicas nothing."""
    needs: set[Need] = set()
    for slot in FLEET_SLOTS:
        name = getattr(design, slot)[0]
        idle = slot == "place" and name == FLEET_DEFAULTS["place"]
        needs |= set() if idle else SLOTS[slot][name][1].needs
    return needs


def _check_moves(design: Design, recipe: Recipe) -> None:
    """Refuse to move KV whose size is unknown."""
    moves = _needs_above(design) & {Need.MIGRATE, Need.TRANSFER}
    moves |= {Need.TRANSFER for group in design.groups if group.role != MIXED}
    if moves and not all(group.kv_token_bytes for group in design.groups):
        raise UserError(
            f"recipe {recipe.name!r} moves KV between replicas here, whose size only the model's "
            "facts tell: give --model"
        )


def _inside(recipe: Recipe) -> frozenset[Need]:
    """Return what a recipe needs inside a replica."""
    return replace(recipe, fleet={}).needs


def own_limits(limits: EngineLimits, recipe: Recipe) -> EngineLimits:
    """Return engine limits with those that a recipe brings along."""
    return replace(
        limits,
        max_num_seqs=recipe.max_num_seqs or limits.max_num_seqs,
        max_num_batched_tokens=recipe.max_num_batched_tokens or limits.max_num_batched_tokens,
    )


def _with_recipe(group: Group, compared: Recipe) -> Group:
    """Return a group with a recipe: its own, else the one under comparison, or its prefill half."""
    half = compared.prefill if group.role == PREFILL else None
    recipe = group.recipe or half or compared
    cost = cast("Cost", group.step_time)
    return replace(
        group,
        recipe=recipe,
        limits=own_limits(group.limits, recipe),
        step_time=with_decisions(cost, recipe.decision_seconds),
    )


def check_step_time(cost: Cost, limits: EngineLimits) -> None:
    """Refuse step times that are nothing on the clock, or more than all of it.

    Raises:
        UserError: Naming the step.
    """
    tokens, seats = limits.max_num_batched_tokens, limits.max_num_seqs
    context = limits.num_gpu_blocks * limits.block_size
    steps = {
        "one decode": (0, 0, 0, 0, 1, 1),
        f"{seats} decodes over {context} KV tokens": (0, 0, 0, 0, seats, context),
        f"{tokens} prompt tokens": (tokens, tokens * (tokens + 1) // 2, 0, 1, 0, 0),
    }
    for name, step in steps.items():
        try:
            time = cost.step(*step)
        except (OverflowError, ZeroDivisionError):
            time = LONGEST
        if time < 1 and name == "one decode":
            raise UserError(
                f"a step of {name} takes less than {to_seconds(1):g} s, the clock's resolution: "
                "the cost model's coefficients must be in seconds"
            )
        if time >= LONGEST:
            raise UserError(
                f"a step of {name} takes {LONGEST_SECONDS} s or more, the most that can be "
                "simulated: the cost model's coefficients must be in seconds"
            )


def with_decisions(cost: Cost, seconds: float) -> Cost:
    """Return step times that are longer by what deciding adds to each step."""
    if not seconds:
        return cost
    if isinstance(cost, Fitted):
        longer = replace(cost.coefficients, fixed=cost.coefficients.fixed + seconds)
        return Fitted(longer)
    host = Host(cost.host.step_seconds + seconds, cost.host.sequence_seconds)
    return Roofline(cost.model, cost.gpu, cost.tensor_parallel, host)
