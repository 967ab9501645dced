"""Each scenario decodes in its own pool, whose ratio of prefill to decode replicas follows load.

Source: P/D-Serve (Jin et al., 2024, arXiv 2408.08147): the share of prefill time in the E2E time
    tells which phase is short of replicas. Known from its abstract and summaries.
Reads: open requests of each replica; waiting and seated requests of prefill replicas; how long
    each request took to its first token.
Memory: for each pool, the requests prefilled in this period and the times to compare with.
Needs: TRANSFER.
Deviations: decode time is not reported to a router; it follows from Little's law: requests under
    way that are no longer in prefill, over requests prefilled per second. "Rising" is against a
    running mean of calm periods since the last change. No number of the rule is published.
Fails when: load changes within the cool-down, or a pool has too few replicas to give one away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from sojourn.decide.actions import Migrate, SetRole
from sojourn.decide.clock import Time, from_seconds, to_seconds
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.errors import UserError
from sojourn.fleet.pools import SLO_CLASS, Pools, check_scenario, pool_of
from sojourn.fleet.views import DECODE, PREFILL, UP, FleetView, ReplicaView

CALM_WEIGHT: Final = 0.25
"""Weight of the newest calm period in what is usual."""


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the ratio control.

    Attributes:
        scenario: What tells scenarios apart: `slo_class` or `tenant`.
        period_seconds: Time between two decisions.
        looks: How often in it the requests under way are counted.
        cool_down_seconds: Time without a further change after one.
        share_rise: By how much the share of prefill in the E2E time must have risen for another
            prefill replica.
        tolerance: By how much, in parts of what is usual, the decode time must have risen, with
            the share falling, for another decode replica.
        least: Replicas that either phase of a pool keeps.
        requests_min: Requests prefilled in a period without which nothing is concluded.
        waiting_share: A decode replica fetches only while the KV fetched for requests that have no
            seat yet is below this share of its blocks.
        control: Whether roles change at all.
    """

    scenario: str = SLO_CLASS
    period_seconds: float = 5.0
    looks: int = 10
    cool_down_seconds: float = 15.0
    share_rise: float = 0.05
    tolerance: float = 0.5
    least: int = 1
    requests_min: int = 10
    waiting_share: float = 0.05
    control: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        check_scenario("place.scenario", self.scenario)
        for name in self.__slots__:
            if name not in ("scenario", "control") and getattr(self, name) <= 0:
                raise UserError(f"place.{name} is {getattr(self, name)}; it must be above 0")
        if self.waiting_share > 1:
            raise UserError(f"place.waiting_share is {self.waiting_share}; it must be at most 1")


@dataclass(slots=True)
class Times:
    """This period's counts, and what a phase usually takes since the last change, in seconds."""

    looks: int = 0
    under_way: int = 0
    prefilled: int = 0
    waited: Time = 0
    prefill: float = 0.0
    decode: float = 0.0
    settled: Time = 0


class PdServe:
    """Least loaded decode replica of the pool; one change of a role at a time."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRANSFER})

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.period: Time = from_seconds(config.period_seconds / config.looks)
        self.pools = Pools(fleet, config.scenario)
        self.times: dict[str, Times] = {}

    def decoder(self, request: RequestView, source: ReplicaView, now: Time) -> int | None:
        """Take the decode replica of the source's pool with the fewest open requests."""
        pool = pool_of(source)
        members = [one for one in self.fleet.decoders if pool_of(one) == pool]
        if not members:
            return None
        times = self.times.setdefault(pool, Times())
        times.prefilled += 1
        times.waited += request.since - request.arrival
        return min(members, key=lambda one: (one.open, one.index)).index

    def pulls(self, request: RequestView, target: ReplicaView, blocks: int) -> bool:
        """Fetch while few fetched requests wait for a seat."""
        return target.load.landed_blocks < self.config.waiting_share * target.blocks

    def rebalance(self, now: Time) -> Sequence[Migrate | SetRole]:
        """Let at most one replica of each pool change its role."""
        if not self.config.control:
            return ()
        changes = []
        for pool in self.pools.names:
            members = [r for r in self.fleet.replicas if r.status == UP and pool_of(r) == pool]
            role = self._needed(self.times.setdefault(pool, Times()), members, now)
            others = [one for one in members if role and one.role not in (role, "mixed")]
            if len(others) > self.config.least:
                changes.append(SetRole(min(others, key=lambda r: (r.open, r.index)).index, role))
                self.times[pool] = Times(settled=now + from_seconds(self.config.cool_down_seconds))
        return changes

    def _needed(self, times: Times, members: list[ReplicaView], now: Time) -> str:
        """Return the role that a pool has too few of, if any."""
        inside = sum(r.load.waiting + r.load.seated for r in members if r.role == PREFILL)
        times.under_way += sum(one.open for one in members) - inside
        times.looks += 1
        if times.looks < self.config.looks or times.prefilled < self.config.requests_min:
            return ""
        prefill = to_seconds(times.waited) / times.prefilled
        decode = times.under_way * to_seconds(self.period) / times.prefilled
        times.looks = times.under_way = times.prefilled = times.waited = 0
        if now < times.settled:
            return ""
        if not times.decode:
            times.prefill, times.decode = prefill, decode
        usual = times.prefill / (times.prefill + times.decode)
        share = prefill / (prefill + decode)
        if share > usual + self.config.share_rise:
            return PREFILL
        if share < usual and decode > (1 + self.config.tolerance) * times.decode:
            return DECODE
        times.prefill += CALM_WEIGHT * (prefill - times.prefill)
        times.decode += CALM_WEIGHT * (decode - times.decode)
        return ""
