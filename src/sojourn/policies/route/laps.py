"""Short prompts have prefill replicas of their own; one replica at a time changes sides.

Source: LAPS / PLA-Serve (MLSys 2026), spatial disaggregation and its controller.
Reads: prompt tokens outstanding, waiting and seated requests, step times; own deadlines.
Memory: which replicas serve short prompts; when one last changed; outstanding tokens in a heap for
    each side.
Needs: STEP_TIME.
Deviations: the boundary is fixed, where the paper may fit it to the GPU. A replica's queue is the
    time that its outstanding prompts take, in units of `slo_seconds`; its SLO error is what of that
    exceeds one. The weights, the interval, tau and the cool-down are not published; ours are. The
    waiting window of the short side (a replica's batching) is left out.
Fails when: replicas also decode: the streams, not the prompts, fill the steps then.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from sojourn.decide.clock import Time, from_seconds, to_seconds
from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import DECODE, UP, FleetView, ReplicaView, RoutedView
from sojourn.policies.route.load_index import LoadIndex


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the pools.

    Attributes:
        boundary_tokens: Longest short prompt.
        short_share: Part of the replicas that serve short prompts at the start.
        period_seconds: Time between two looks at the pressures.
        cool_down_seconds: Time without a further change after one.
        margin: One side takes a replica when its pressure exceeds the other's by this share (tau).
        least: Replicas that each side keeps.
        slo_seconds: Time to the first token by which pressures are measured.
        queue_weight: Of the queue in a replica's pressure.
        error_weight: Of its SLO error.
        utilisation_weight: Of its seats in use, which lower the pressure.
        quantile: Of the pressures of its replicas, that of a side.
    """

    boundary_tokens: int = 256
    short_share: float = 0.5
    period_seconds: float = 1.0
    cool_down_seconds: float = 5.0
    margin: float = 0.2
    least: int = 1
    slo_seconds: float = 0.4
    queue_weight: float = 1.0
    error_weight: float = 1.0
    utilisation_weight: float = 0.1
    quantile: float = 0.9

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("boundary_tokens", "period_seconds", "slo_seconds", "least"):
            if getattr(self, name) <= 0:
                raise UserError(f"route.{name} is {getattr(self, name)}; it must be above 0")
        for name in ("short_share", "quantile"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"route.{name} is {getattr(self, name)}; it must be in (0, 1]")
        weights = ("queue_weight", "error_weight", "utilisation_weight")
        for name in ("cool_down_seconds", "margin", *weights):
            if getattr(self, name) < 0:
                raise UserError(f"route.{name} is {getattr(self, name)}; it must be 0 or more")


class Laps:
    """Fewest outstanding prompt tokens on the prompt's side."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.STEP_TIME})
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.short: dict[int, bool] = {}
        self.sides = {True: LoadIndex(), False: LoadIndex()}
        self.looked: Time = 0
        self.moved: Time = 0

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the least loaded of the prompt's side; of the other where it has nobody."""
        if now - self.looked >= from_seconds(self.config.period_seconds):
            self.looked = now
            self._balance(now)
        short = request.prompt <= self.config.boundary_tokens
        found = self.sides[short].least()
        return self.sides[not short].least() if found is None else found

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Put a replica on a side when it is first seen; note its outstanding tokens."""
        index = replica.index
        if replica.status == UP and replica.role != DECODE and index not in self.short:
            wanted = ceil(self.config.short_share * (len(self.short) + 1))
            self.short[index] = sum(self.short.values()) < wanted
        elif replica.status != UP or replica.role == DECODE:
            self.short.pop(index, None)
        for side, heap in self.sides.items():
            if self.short.get(index) is side or index not in self.short:
                heap.put(replica, replica.prompt_tokens)

    def _balance(self, now: Time) -> None:
        """Let one replica change sides if the pressures differ enough."""
        if now - self.moved < from_seconds(self.config.cool_down_seconds):
            return
        pressures: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
        for index, side in self.short.items():
            pressures[side].append((self._pressure(self.fleet.replicas[index]), index))
        for poor in (True, False):
            rich = pressures[not poor]
            if len(rich) <= self.config.least or not pressures[poor]:
                continue
            if self._side(pressures[poor]) > (1 + self.config.margin) * self._side(rich):
                index = min(rich)[1]
                self.short[index] = poor
                self.sides[not poor].score.pop(index, None)
                self.changed(self.fleet.replicas[index], now)
                self.moved = now
                return

    def _pressure(self, replica: ReplicaView) -> float:
        config, tokens, load = self.config, replica.prompt_tokens, replica.load
        waiting = max(load.waiting + load.seated, 1)
        each = tokens // waiting
        pairs = waiting * each * (each + 1) // 2
        queue = to_seconds(replica.step_time.step(tokens, pairs, 0, waiting, 0, 0))
        queue /= config.slo_seconds
        used = load.seated / replica.seats
        error = config.error_weight * max(queue - 1, 0.0)
        return max(config.queue_weight * queue + error - config.utilisation_weight * used, 0.0)

    def _side(self, pressures: list[tuple[float, int]]) -> float:
        ordered = sorted(value for value, _ in pressures)
        return ordered[max(ceil(self.config.quantile * len(ordered)) - 1, 0)]
