"""Which replicas were sent which prefixes, as far as a router can know without asking them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from sojourn.fleet.views import RoutedView


class PrefixTree:
    """An approximate radix tree over prefix ids, with a bounded LRU for each replica.

    An id stands for its text and all text before it, so the tree is a table of ids, and the parent
    of an id is the one before it in any prompt. Whoever has an id has its parents: a prompt's end
    is always less recent than its beginning, so only leaves are evicted.

    Attributes:
        holders: By id, the replicas that were sent it, who got it last at the end.
        paths: By replica, the tokens behind each of its ids, the least recent id first. A prompt's
            tokens beyond its last full id count too, under an id of their own.
        tokens: By replica, the tokens of all its ids.
        labels: By id, what a policy notes of it; forgotten with the id.
    """

    def __init__(self) -> None:
        self.holders: dict[int, dict[int, None]] = {}
        self.paths: dict[int, OrderedDict[int, int]] = {}
        self.tokens: dict[int, int] = {}
        self.labels: dict[int, int] = {}

    def depth(self, prefix: Sequence[int]) -> int:
        """Return how many ids of a prompt, from its front, any replica has."""
        known = 0
        for one in prefix:
            if one not in self.holders:
                break
            known += 1
        return known

    def own(self, prefix: Sequence[int], replica: int) -> int:
        """Return how many ids of a prompt, from its front, one replica has."""
        path = self.paths.get(replica)
        if not path:
            return 0
        low, high = 0, len(prefix)
        while low < high:
            middle = (low + high) // 2
            if prefix[middle] in path:
                low = middle + 1
            else:
                high = middle
        return low

    def latest(self, prefix: Sequence[int], depth: int) -> int:
        """Return who got the first `depth` ids of a prompt last."""
        return next(reversed(self.holders[prefix[depth - 1]]))

    def matches(self, prefix: Sequence[int], count: int) -> dict[int, int]:
        """Return how many ids of a prompt replicas have, for the `count` who have most."""
        found: dict[int, int] = {}
        for depth in range(self.depth(prefix), 0, -1):
            holders = self.holders[prefix[depth - 1]]
            if len(holders) == len(found):
                continue  # whoever has an id has its parents: these are the same
            for replica in reversed(holders):
                if found.setdefault(replica, depth) == depth and len(found) == count:
                    return found
        return found

    def insert(self, request: RoutedView, replica: int, block_tokens: int) -> None:
        """Note that a replica is sent a prompt."""
        path = self.paths.setdefault(replica, OrderedDict())
        total = self.tokens.get(replica, 0)
        rest = request.prompt - len(request.prefix) * block_tokens
        own = -1 - request.id
        if rest > 0 and own not in path:
            path[own] = rest
            total += rest
        for one in reversed(request.prefix):
            if one in path:
                path.move_to_end(one)
            else:
                path[one] = block_tokens
                total += block_tokens
            holders = self.holders.setdefault(one, {})
            holders.pop(replica, None)
            holders[replica] = None
        self.tokens[replica] = total

    def trim(self, replica: int, tokens: int) -> None:
        """Forget a replica's least recent ids until no more than `tokens` are left."""
        path = self.paths.get(replica)
        while path and self.tokens[replica] > tokens:
            one, size = path.popitem(last=False)
            self.tokens[replica] -= size
            self._forget(one, replica)

    def remove(self, replica: int) -> None:
        """Forget a replica that is gone."""
        for one in self.paths.pop(replica, ()):
            self._forget(one, replica)
        self.tokens.pop(replica, None)

    def _forget(self, one: int, replica: int) -> None:
        holders = self.holders.get(one)
        if holders is None:
            return
        holders.pop(replica, None)
        if not holders:
            del self.holders[one]
            self.labels.pop(one, None)
