"""What a fleet is made of: groups of like replicas, links, reports and faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sojourn.decide.clock import NEVER, Time
from sojourn.decide.limits import EngineLimits
from sojourn.decide.services import StepTime
from sojourn.fleet.views import MIXED

RETRY: Final = "retry"
RESUME: Final = "resume"
FAIL: Final = "fail"
LOST: Final = (RESUME, RETRY, FAIL)

CRASH: Final = "crash"
SPOT: Final = "spot"
SLOW: Final = "slow"
CUT: Final = "cut"
FAULTS: Final = (CRASH, SPOT, SLOW, CUT)


@dataclass(frozen=True, slots=True)
class Group:
    """Like replicas.

    Attributes:
        name: What to call the kind.
        count: Replicas at the start.
        most, least: Bounds for whoever scales.
        role: `mixed`, `prefill` or `decode`.
        recipe: What decides inside each replica (`recipes.load.Recipe`).
        limits: Engine limits of each.
        step_time: Step times of each, with the time that its recipe's decisions add.
        gpus: GPUs of each.
        dollars_per_hour: Price of each.
        start_time: Time from being asked for to being up.
        swap_block_seconds: Time to copy one KV block over the link to host memory.
        kv_token_bytes: Bytes of KV of a token.
        hardware: Name of the GPU.
    """

    name: str
    count: int
    recipe: Any
    limits: EngineLimits
    step_time: StepTime
    role: str = MIXED
    least: int = 0
    most: int = 1_000_000
    gpus: int = 1
    dollars_per_hour: float = 0.0
    start_time: Time = 0
    swap_block_seconds: float = 0.0
    kv_token_bytes: int = 1
    hardware: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """What carries KV between two groups; its transfers share it.

    Attributes:
        name: NVLink, PCIe, RDMA, Ethernet or what it is called.
        bytes_per_second: Of each replica's own port, in each direction.
        latency: Until the first byte arrives.
        setup: Fixed time for each transfer, and for each block of it where KV is not contiguous.
        block_setup: See `setup`.
        total_bytes_per_second: Of all transfers of the link together; 0 for no such bound.
    """

    name: str = "rdma"
    bytes_per_second: float = 25e9
    latency: Time = 0
    setup: Time = 0
    block_setup: Time = 0
    total_bytes_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong at a moment.

    Attributes:
        kind: `crash`, `spot`, `slow` or `cut`.
        time: When.
        replica: Its index; of a cut, one end; -1 draws one that is up.
        other: Of a cut, the name of the group at the other end.
        group: Of a cut, the name of the group at this end; of others, whom to draw from.
        duration: Until it is over: a crashed replica starts anew then, NEVER for not at all.
        notice: Of `spot`, how long before the loss it is announced; the replica drains meanwhile.
        factor: Of `slow`, by how much steps take longer.
    """

    kind: str
    time: Time
    replica: int = -1
    group: str = ""
    other: str = ""
    duration: Time = NEVER
    notice: Time = 0
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Design:
    """A fleet, ready to run.

    Attributes:
        name: What to call it.
        groups: Its replicas.
        route, place, scale: Policy name and configuration of each fleet slot.
        links: By pair of group names in alphabetical order; `default_link` holds for the others.
        report_period, report_age: Replicas report each period (0: at every change), and the router
            gets it so much later.
        faults: What goes wrong.
        lost: What becomes of requests on a lost replica: `resume`, `retry` or `fail`.
        attempts: How often a request may be lost before it fails.
        most_stages, last_blocks: Of a live migration: copies before the last, and the blocks that
            are few enough for it.
        seed: Of the policies' random streams and of drawn faults.
    """

    name: str
    groups: tuple[Group, ...]
    route: tuple[str, Any]
    place: tuple[str, Any]
    scale: tuple[str, Any]
    links: Mapping[tuple[str, str], Link] = field(default_factory=dict)
    default_link: Link = Link()
    report_period: Time = 0
    report_age: Time = 0
    faults: tuple[Fault, ...] = ()
    lost: str = RESUME
    attempts: int = 3
    most_stages: int = 3
    last_blocks: int = 16
    seed: int = 0

    @property
    def seats(self) -> int:
        """Seats of all replicas that are there from the start."""
        return sum(group.count * group.limits.max_num_seqs for group in self.groups)

    def link(self, one: str, other: str) -> Link:
        """Return what joins two groups."""
        return self.links.get((min(one, other), max(one, other)), self.default_link)
