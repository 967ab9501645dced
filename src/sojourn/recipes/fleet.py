"""Reading a fleet file: the replicas of a fleet, what joins them, and what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from sojourn.catalog import load_gpu
from sojourn.catalog.cluster import MARKETS, link_names
from sojourn.decide.needs import Need
from sojourn.errors import UserError, unknown
from sojourn.files import read_toml
from sojourn.fleet.design import CRASH, CUT, FAULTS, LOST, RESUME, SLOW, SPOT
from sojourn.fleet.views import DECODE, MIXED, PREFILL, ROLES
from sojourn.policies.tables import FLEET_SLOTS, SLOTS
from sojourn.recipes.fleet_tables import checked, one_table, pair, table_list, tidy
from sojourn.recipes.load import fleet_slots
from sojourn.recipes.parameters import PERIOD_MIN_SECONDS, Filled

TABLES: Final = (
    *("replicas", "links", "reports", "lost", "migration", "faults", "spot_log"),
    *FLEET_SLOTS,
)
UNBOUNDED: Final = 1_000_000
REPLICAS_MAX: Final = 20_000
"""Replicas of a fleet at the start: ten seconds to set up."""
BANDWIDTH_MIN: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """Like replicas, as a fleet file describes them; None leaves it to the command line.

    Attributes:
        name: Name of the group.
        count: Replicas at the start.
        least, most: Bounds for whoever adds and drains.
        role: `mixed`, `prefill` or `decode`.
        recipe: Recipe inside each replica; None for the recipe under comparison.
        gpu: A GPU of the catalogue, or the path of a TOML file.
        tensor_parallel: GPUs of each replica.
        max_num_seqs, max_num_batched_tokens, max_model_len, num_gpu_blocks: Engine limits.
        gpu_memory_utilization: Share of memory to use.
        price_per_hour: Dollars of each replica for an hour; None takes the catalogue's.
        market: `on-demand` or `spot`: which of the catalogue's prices.
        start_seconds: From being asked for to being up; None scales measured loading times.
    """

    name: str
    count: int
    least: int
    most: int = UNBOUNDED
    role: str = MIXED
    recipe: str | None = None
    gpu: str | None = None
    tensor_parallel: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    num_gpu_blocks: int | None = None
    gpu_memory_utilization: float | None = None
    price_per_hour: float | None = None
    market: str | None = None
    start_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPlan:
    """What joins two groups, or the replicas of one; None is what the catalogue says of its kind.

    Attributes:
        between: Names of the groups.
        kind: A kind of link of the catalogue.
        bandwidth_gb_per_second: Of each replica, in each direction.
        latency_seconds: Until the first byte of a transfer arrives.
        setup_seconds: Fixed time for each transfer.
        block_setup_seconds: Fixed time for each KV block of it.
        total_gb_per_second: Of all transfers of the link together; 0 for no such bound.
    """

    between: tuple[str, str]
    kind: str = "rdma"
    bandwidth_gb_per_second: float | None = None
    latency_seconds: float | None = None
    setup_seconds: float = 0.0
    block_setup_seconds: float = 0.0
    total_gb_per_second: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """Something that goes wrong at a moment; the fields are those of `fleet.design.Fault`."""

    kind: str
    at_seconds: float
    replica: int | None = None
    group: str | None = None
    between: tuple[str, str] | None = None
    for_seconds: float | None = None
    notice_seconds: float = 0.0
    factor: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotLogPlan:
    """Recorded spot interruptions that the fleet suffers; see `sim.fleet.spot.spot_faults`.

    Attributes:
        name: A bundled log, or one in `file`.
        file: A CSV file of logs; None for the bundled ones.
        group: Whose replicas are hit; None for all.
        notice_seconds: How long before a loss it is announced; None for AWS's.
        start_seconds: Moment of the log at which the run begins.
        speed: How many times as fast as in the log everything happens.
    """

    name: str
    file: str | None = None
    group: str | None = None
    notice_seconds: float | None = None
    start_seconds: float = 0.0
    speed: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """A fleet file, read and checked.

    Attributes:
        name: Name of the fleet.
        origin: The file.
        groups, links, faults, spot_log: See the plans.
        period_seconds, age_seconds: Of load reports; see `fleet.design.Design`.
        policy: What becomes of requests on a lost replica.
        attempts: How often a request may be lost before it fails.
        most_stages, last_blocks: Of a live migration.
        slots: The slots above the replicas that the file fills, in place of any recipe.
    """

    name: str
    origin: str
    groups: tuple[GroupPlan, ...]
    links: tuple[LinkPlan, ...] = ()
    faults: tuple[FaultPlan, ...] = ()
    spot_log: SpotLogPlan | None = None
    period_seconds: float = 0.0
    age_seconds: float = 0.0
    policy: str = RESUME
    attempts: int = 3
    most_stages: int = 3
    last_blocks: int = 16
    slots: Filled = field(default_factory=dict)

    @property
    def is_split(self) -> bool:
        """Whether prompts and answers are computed on separate replicas."""
        return any(group.role == PREFILL for group in self.groups)


REPORT_KEYS: Final = ("period_seconds", "age_seconds")
LOST_KEYS: Final = ("policy", "attempts")
MIGRATION_KEYS: Final = ("most_stages", "last_blocks")
FAULT_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    CRASH: ("replica", "group", "for_seconds"),
    SPOT: ("replica", "group", "for_seconds", "notice_seconds"),
    SLOW: ("replica", "group", "for_seconds", "factor"),
    CUT: ("between", "for_seconds"),
}
"""What each kind of fault takes, beside `kind` and `at_seconds`."""


def load_fleet(path: str | Path) -> FleetPlan:
    """Read a fleet file.

    Raises:
        UserError: For a file that cannot be read, and anything in it that cannot be.
    """
    origin = str(path)
    document = read_toml(path)
    for key in document:
        if key not in ("name", *TABLES):
            raise unknown(f"key in {origin}", key, ("name", *TABLES))
    name = tidy("name", document.get("name", Path(path).stem), "str", origin)
    groups = _groups(document, origin)
    names = [group.name for group in groups]
    more: dict[str, Any] = {}
    for table, keys in (
        ("reports", REPORT_KEYS),
        ("lost", LOST_KEYS),
        ("migration", MIGRATION_KEYS),
    ):
        found = one_table(document, table, origin)
        more |= checked(found, _kinds(FleetPlan, keys), origin, table)
    if more.get("policy", RESUME) not in LOST:
        raise unknown(f"lost.policy in {origin}", more["policy"], LOST)
    plan = FleetPlan(
        name=name,
        origin=origin,
        groups=groups,
        links=_links(document, names, origin),
        faults=_faults(document, groups, origin),
        spot_log=_spot_log(document, names, origin),
        slots=fleet_slots(
            {slot: document[slot] for slot in FLEET_SLOTS if slot in document}, origin
        ),
        **more,
    )
    _check(plan)
    return plan


def _kinds(plan: type[Any], keys: Sequence[str] = ()) -> dict[str, str]:
    """Return the type of each field of a plan, without the None that an absent key means."""
    return {
        one.name: str(one.type).removesuffix(" | None")
        for one in fields(plan)
        if not keys or one.name in keys
    }


def _groups(document: Mapping[str, Any], origin: str) -> tuple[GroupPlan, ...]:
    found: list[GroupPlan] = []
    for place, values in enumerate(table_list(document, "replicas", origin), 1):
        where = f"{origin}: replicas {values.get('name', place)!r}"
        given = checked(values, _kinds(GroupPlan), where)
        role = given.get("role", MIXED)
        if role not in ROLES:
            raise unknown(f"role in {where}", role, ROLES)
        name = given.setdefault("name", "replica" if role == MIXED else role)
        if name in [group.name for group in found]:
            raise UserError(f"{origin}: two groups of replicas are called {name!r}; rename one")
        count = given.setdefault("count", 1)
        given.setdefault("least", min(count, 1))
        _check_group(given, count, where)
        found.append(GroupPlan(**given))
    if not found:
        raise UserError(f"{origin} has no replicas: write a [[replicas]] table with a count")
    return tuple(found)


def _check_group(given: Mapping[str, Any], count: int, where: str) -> None:
    market, gpu = given.get("market"), given.get("gpu")
    if market is not None and market not in MARKETS:
        raise unknown(f"market in {where}", market, MARKETS)
    if market is not None and "price_per_hour" in given:
        raise UserError(
            f"{where}: price_per_hour is the price, so market has no effect; give one of them"
        )
    if gpu is not None:
        try:
            load_gpu(gpu)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    least, most = given["least"], given.get("most", UNBOUNDED)
    if not least <= count <= most:
        raise UserError(
            f"{where}: count is {count}; it must be between least, {least}, and most, {most}"
        )


def _links(document: Mapping[str, Any], names: Sequence[str], origin: str) -> tuple[LinkPlan, ...]:
    found: dict[tuple[str, str], LinkPlan] = {}
    for place, values in enumerate(table_list(document, "links", origin), 1):
        where = f"{origin}: links {place}"
        between = pair(values, names, where)
        given = checked(values, _kinds(LinkPlan), where)
        if given.get("kind", "rdma") not in link_names():
            raise unknown(f"kind in {where}", given["kind"], link_names())
        if 0 < given.get("total_gb_per_second", 0.0) < BANDWIDTH_MIN:
            raise UserError(
                f"{where}: total_gb_per_second is {given['total_gb_per_second']}; it must be 0 for "
                f"none, or at least {BANDWIDTH_MIN:g}"
            )
        if between in found:
            raise UserError(f"{where}: there is a link between {' and '.join(between)} already")
        found[between] = LinkPlan(between=between, **given)
    return tuple(found.values())


def _faults(
    document: Mapping[str, Any], groups: Sequence[GroupPlan], origin: str
) -> tuple[FaultPlan, ...]:
    names, replicas = [group.name for group in groups], sum(group.count for group in groups)
    found = []
    for place, values in enumerate(table_list(document, "faults", origin), 1):
        where = f"{origin}: faults {place}"
        kind = values.get("kind")
        if kind not in FAULTS:
            raise unknown(f"kind in {where}", str(kind), FAULTS)
        allowed = ("kind", "at_seconds", *FAULT_KEYS[kind])
        for key in values:
            if key not in allowed:
                raise unknown(f"key of a {kind} fault in {where}", key, allowed)
        between = pair(values, names, where) if kind == CUT else None
        given = checked(values, _kinds(FaultPlan), where)
        if "at_seconds" not in given:
            raise UserError(f"{where}: at_seconds is missing; say when the {kind} happens")
        _check_victim(given, names, replicas, where)
        if kind == SLOW and given.get("factor", 1.0) <= 1:
            raise UserError(f"{where}: factor must be given, above 1: how much longer steps take")
        found.append(FaultPlan(between=between, **given))
    return tuple(found)


def _spot_log(document: Mapping[str, Any], names: Sequence[str], origin: str) -> SpotLogPlan | None:
    if "spot_log" not in document:
        return None
    found = one_table(document, "spot_log", origin)
    given = checked(found, _kinds(SpotLogPlan), origin, "spot_log")
    if "name" not in given:
        raise UserError(f"{origin}: spot_log.name is missing; name the log, such as aws_g4dn")
    if given.get("group", names[0]) not in names:
        raise unknown(f"group in {origin}: spot_log", given["group"], names)
    return SpotLogPlan(**given)


def _check_victim(
    given: Mapping[str, Any], names: Sequence[str], replicas: int, where: str
) -> None:
    replica, group = given.get("replica"), given.get("group")
    if replica is not None and group is not None:
        raise UserError(f"{where}: give replica, or the group to draw one from, not both")
    if group is not None and group not in names:
        raise unknown(f"group in {where}", group, names)
    if replica is not None and replica >= replicas:
        raise UserError(
            f"{where}: replica is {replica}; the fleet begins with {replicas}, 0 to {replicas - 1}"
        )


def _check(plan: FleetPlan) -> None:
    """Refuse fleets that could not serve, and policies that would have nothing to decide."""
    origin, roles = plan.origin, [group.role for group in plan.groups]
    for one, other in ((PREFILL, DECODE), (DECODE, PREFILL)):
        if one in roles and other not in roles:
            raise UserError(
                f"{origin}: there are {one} replicas and no {other} replicas; add a group with "
                f'role = "{other}", or make the others mixed'
            )
    if not any(group.count for group in plan.groups if group.role != DECODE):
        raise UserError(f"{origin}: no replica takes arrivals at the start; raise a count")
    replicas = sum(group.count for group in plan.groups)
    if replicas > REPLICAS_MAX:
        raise UserError(
            f"{origin}: {replicas:,} replicas at the start; at most {REPLICAS_MAX:,} can be run"
        )
    if 0 < plan.period_seconds < PERIOD_MIN_SECONDS:
        raise UserError(
            f"{origin}: reports.period_seconds is {plan.period_seconds:g}; it must be 0 for exact "
            f"and current loads, or at least {PERIOD_MIN_SECONDS:g}"
        )
    if plan.age_seconds and not plan.period_seconds:
        raise UserError(
            f"{origin}: reports.age_seconds needs reports.period_seconds; without a period loads "
            "are exact and current"
        )
    place = plan.slots.get("place")
    if place is None or plan.is_split:
        return
    needs = SLOTS["place"][place[0]][1].needs
    if Need.TRANSFER in needs and Need.MIGRATE not in needs:
        raise UserError(
            f"{origin}: place {place[0]!r} chooses who decodes what others prefilled, but all "
            "replicas are mixed; give roles, or leave [place] out"
        )
