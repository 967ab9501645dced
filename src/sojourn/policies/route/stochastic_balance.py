"""The replica whose budget is used least, in expectation and relative to its size.

Source: StochasticBalance: Mehta and Panigrahi, Online Matching with Stochastic Rewards, FOCS 2012;
    with capacities, Albers and Schubert, Online b-Matching with Stochastic Rewards,
    arXiv 2411.16947: an arrival goes to the available server with the least expected load over
    capacity, where a request adds its chance of success to the load.
Reads: open requests of each replica and their prompt tokens, seats, KV blocks.
Memory: the relative load of each replica, in a heap: O(log n) for each change.
Needs: nothing.
Deviations: every request is certain to use what it is worth (all chances are 1), since a router
    knows no other chance; budgets are given back when a request ends; where no budget is left, a
    request waits at the router instead of being lost.
Fails when: requests differ greatly in output: what they will use is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.errors import UserError, unknown
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView
from sojourn.policies.route.load_index import LoadIndex

BUDGETS = ("requests", "tokens")


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the budget.

    Attributes:
        budget: What a replica has a limited amount of: `requests` in flight, as many as its seats,
            or `tokens` of KV, as many as its blocks hold.
        budget_scale: Budget over seats or KV tokens.
        output_tokens: Of a budget of tokens, what a request is expected to add to its prompt.
    """

    budget: str = "requests"
    budget_scale: float = 1.0
    output_tokens: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.budget not in BUDGETS:
            raise unknown("route.budget", self.budget, BUDGETS)
        if self.budget_scale <= 0:
            raise UserError(f"route.budget_scale is {self.budget_scale}; it must be above 0")
        if self.output_tokens < 0:
            raise UserError(f"route.output_tokens is {self.output_tokens}; it must be at least 0")


class StochasticBalance:
    """Least expected load over budget, ties to the lowest index; None where every budget is used.

    Whoever has some budget left takes one more, so an idle replica is always available.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.index = LoadIndex()

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the replica whose budget is used least, if any of it is left."""
        least = self.index.least()
        return None if least is None or self.index.score[least] >= 1 else least

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Relate a replica's expected load to its budget anew."""
        config = self.config
        if config.budget == "requests":
            load, budget = replica.open, replica.seats
        else:
            load = replica.open_tokens + config.output_tokens * replica.open
            budget = replica.blocks * replica.block_size
        self.index.put(replica, load / (config.budget_scale * budget))
