"""The replica that was sent most of the prompt before, unless loads are uneven.

Source: SGLang router (sgl-router/src/policies/cache_aware.rs at 026f853, tree.rs at 4d40eec).
    Loads are uneven if the most and the fewest open requests differ by more than a number and by
    more than a factor; then the least loaded gets the request. Else, if more than a share of the
    prompt was sent somewhere before, who got that last; else who was sent the least text.
Reads: prefix ids of the prompt, open requests of each replica; replicas are never asked.
Memory: the tree of all prompts sent, trimmed at intervals to a size for each replica; open
    requests and sizes in heaps. O(prefix ids + log n) for each arrival.
Needs: nothing.
Deviations: text is matched by whole prefix ids, so what lies behind the last full one never
    matches; sizes in characters are tokens times `characters_per_token`. Of several replicas
    with the longest match the latest is taken, SGLang takes any.
Fails when: one prefix is shared by all: it stays on one replica until loads are uneven, and the
    code's 32 requests are uneven only for large batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from sojourn.decide.clock import Time, from_seconds
from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import FleetView, ReplicaView, RoutedView
from sojourn.policies.route.load_index import LoadIndex
from sojourn.policies.route.prefix_tree import PrefixTree


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the rule; defaults are those of the code, `CLI` has those of its command line.

    Attributes:
        cache_threshold: Share of the prompt above which a match counts.
        balance_requests: Difference of open requests above which loads may be uneven.
        balance_factor: Factor above which they are, if the difference says so too.
        trim_seconds: Interval between two trims of the tree.
        most_characters: Text that the tree keeps for each replica at a trim.
        characters_per_token: Length of a token.
    """

    cache_threshold: float = 0.5
    balance_requests: int = 32
    balance_factor: float = 1.1
    trim_seconds: float = 30.0
    most_characters: int = 10_000
    characters_per_token: float = 4.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.cache_threshold <= 1:
            raise UserError(
                f"route.cache_threshold is {self.cache_threshold}; it must be in [0, 1]"
            )
        if self.balance_factor < 1:
            raise UserError(f"route.balance_factor is {self.balance_factor}; it must be at least 1")
        for name in ("balance_requests", "most_characters"):
            if getattr(self, name) < 0:
                raise UserError(f"route.{name} is {getattr(self, name)}; it must be at least 0")
        for name in ("trim_seconds", "characters_per_token"):
            if getattr(self, name) <= 0:
                raise UserError(f"route.{name} is {getattr(self, name)}; it must be above 0")


CLI: Final = Config(
    cache_threshold=0.3,
    balance_requests=64,
    balance_factor=1.5,
    trim_seconds=120.0,
    most_characters=2**26,
)
"""The defaults of SGLang's command line (sgl-router/src/main.rs)."""


class PrefixAware:
    """Longest match while loads are even, else fewest open requests."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    reads_prefixes: ClassVar[bool] = True
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.tree = PrefixTree()
        self.open = LoadIndex()
        self.most = LoadIndex()
        self.sizes = LoadIndex()
        self.most_tokens = round(config.most_characters / config.characters_per_token)
        self.trimmed: Time = 0

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Choose, and note what was sent where."""
        self._trim(now)
        replica = self._choose(request)
        if replica is not None:
            self.tree.insert(request, replica, self.fleet.block_tokens)
            self.sizes.put(self.fleet.replicas[replica], self.tree.tokens[replica])
        return replica

    def _choose(self, request: RoutedView) -> int | None:
        least, most = self.open.least(), self.most.least()
        if least is None or most is None:
            return None
        low, high = self.open.score[least], -self.most.score[most]
        config = self.config
        if high - low > config.balance_requests and high > config.balance_factor * low:
            return least
        depth = self.tree.depth(request.prefix)
        if depth * self.fleet.block_tokens > config.cache_threshold * request.prompt:
            return self.tree.latest(request.prefix, depth)
        return self.sizes.least()

    def _trim(self, now: Time) -> None:
        """Forget the least recent text, at intervals."""
        if now - self.trimmed < from_seconds(self.config.trim_seconds):
            return
        self.trimmed = now
        for replica in self.fleet.entries:
            self.tree.trim(replica.index, self.most_tokens)
            self.sizes.put(replica, self.tree.tokens.get(replica.index, 0))

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Count a replica's open requests anew; forget it if it takes no more arrivals."""
        if not self.open.put(replica, replica.open):
            return
        self.most.put(replica, -replica.open)
        if replica.index not in self.open.score:
            self.tree.remove(replica.index)
        self.sizes.put(replica, self.tree.tokens.get(replica.index, 0))
