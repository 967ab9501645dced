"""What Preble remembers of the last minutes: prefixes, who serves them, and what that costs."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sojourn.decide.clock import Time
from sojourn.fleet.views import ReplicaView
from sojourn.policies.route.prompt_queue import prefill_time


class Routed(NamedTuple):
    """A request in the window."""

    time: Time
    group: int
    prompt: int
    missed: int


class Wait(NamedTuple):
    """The TTFT that a request was estimated to have when it was sent."""

    time: Time
    replica: int
    ttft: Time


@dataclass(slots=True)
class Group:
    """A prefix that somebody explored, and all requests that begin with it.

    Attributes:
        tokens: Tokens that the explorer brought.
        prefill: Time to compute them.
        replicas: Who serves it.
        count, prompt, missed: Requests in the window, their prompt tokens, and those that no
            replica had been sent before.
        share: What it adds to the cost of each of its replicas.
        waits: TTFT estimates of the requests in the window.
    """

    tokens: int
    prefill: Time
    replicas: dict[int, None] = field(default_factory=dict)
    count: int = 0
    prompt: int = 0
    missed: int = 0
    share: Time = 0
    waits: deque[Wait] = field(default_factory=deque)

    @property
    def cost(self) -> Time:
        """Expected time of recomputing it: miss rate x requests x its prefill."""
        return self.missed * self.count * self.prefill // self.prompt if self.prompt else 0

    def slower(self, replica: int, now: Time, window: Time, factor: float) -> bool:
        """Return whether TTFTs on a replica rose by a factor from one half window to the next."""
        waits = [one for one in self.waits if one.replica == replica and now - one.time <= window]
        late = [one.ttft for one in waits if now - one.time <= window // 2]
        early = [one.ttft for one in waits if now - one.time > window // 2]
        if not late or not early:
            return False
        return sum(late) * len(early) >= factor * sum(early) * len(late)


@dataclass(slots=True)
class Window:
    """The prefixes of the requests that were routed in the last minutes.

    Attributes:
        length: How long a request is remembered.
        groups: By number.
        routed: Requests in the window, the oldest first.
        costs: By replica, the sum of its groups' shares.
        served: By replica, its groups.
        made, added: Groups and requests so far.
    """

    length: Time
    groups: dict[int, Group] = field(default_factory=dict)
    routed: deque[Routed] = field(default_factory=deque)
    costs: dict[int, Time] = field(default_factory=dict)
    served: dict[int, dict[int, None]] = field(default_factory=dict)
    made: int = 0
    added: int = 0

    def open(self, tokens: int, prior: int, replica: ReplicaView) -> int:
        """Make a group of tokens after known ones that a replica serves; return its number."""
        self.made += 1
        self.groups[self.made] = Group(tokens, prefill_time(replica, tokens, prior))
        self.serve(self.made, replica.index)
        return self.made

    def serve(self, number: int, replica: int) -> None:
        """Let another replica serve a group too."""
        group = self.groups[number]
        self._charge(group, 0)
        group.replicas[replica] = None
        self.served.setdefault(replica, {})[number] = None
        self._settle(group)

    def leave(self, number: int, replica: int) -> None:
        """Let a replica serve a group no more."""
        group = self.groups[number]
        self._charge(group, 0)
        del group.replicas[replica]
        del self.served[replica][number]
        self._settle(group)

    def drop(self, replica: int) -> None:
        """Forget a replica that is gone."""
        for number in list(self.served.get(replica, ())):
            self.leave(number, replica)
        self.served.pop(replica, None)
        self.costs.pop(replica, None)

    def add(self, routed: Routed, wait: Wait) -> None:
        """Note a request."""
        group = self.groups[routed.group]
        group.count += 1
        group.prompt += routed.prompt
        group.missed += routed.missed
        group.waits.append(wait)
        self.routed.append(routed)
        self.added += 1
        self._settle(group)

    def expire(self, now: Time) -> dict[int, None]:
        """Forget what is too old; return the replicas whose cost is another now."""
        touched: dict[int, None] = {}
        while self.routed and now - self.routed[0].time > self.length:
            _, number, prompt, missed = self.routed.popleft()
            group = self.groups[number]
            touched.update(group.replicas)
            group.count -= 1
            group.prompt -= prompt
            group.missed -= missed
            group.waits.popleft()
            self._settle(group)
            if not group.count:
                for replica in group.replicas:
                    del self.served[replica][number]
                del self.groups[number]
        return touched

    def find(self, prefix: Sequence[int], labels: Mapping[int, int]) -> int:
        """Return the group of the longest prefix that somebody serves; 0 for none."""
        for one in reversed(prefix):
            group = self.groups.get(labels.get(one, 0))
            if group is not None and group.replicas:
                return labels[one]
        return 0

    def loss(self, path: Mapping[int, int], labels: Mapping[int, int], tokens: int) -> Time:
        """Return the cost of evicting so many tokens of a path, its first ids first."""
        cost = 0
        for one, size in path.items():
            if tokens <= 0:
                break
            tokens -= size
            group = self.groups.get(labels.get(one, 0))
            if group is not None:
                cost += group.cost * size // group.tokens
        return cost

    def spread(
        self, most: int, least: int, high: float, low: float, now: Time, slower: float
    ) -> None:
        """Move the cheapest groups of one replica to another until their costs, given, would cross.

        A single group is served by both instead, if its TTFT rose by the factor `slower`.
        """
        groups = self.groups
        served = [one for one in self.served.get(most, ()) if groups[one].count > 1]
        if len(served) == 1:
            if groups[served[0]].slower(most, now, self.length, slower):
                self.serve(served[0], least)
            return
        for number in sorted(served, key=lambda one: (groups[one].share, one)):
            share = groups[number].share
            if high < low + share:
                break
            high, low = high - share, low + share
            self.leave(number, most)
            self.serve(number, least)

    def _settle(self, group: Group) -> None:
        """Charge the group's replicas what it costs now."""
        if group.replicas:
            self._charge(group, group.cost // len(group.replicas))

    def _charge(self, group: Group, share: Time) -> None:
        for replica in group.replicas:
            self.costs[replica] = self.costs.get(replica, 0) + share - group.share
        group.share = share
