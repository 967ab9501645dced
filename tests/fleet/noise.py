"""Fleet policies that move, retype, add and drain at random: what they do must never break a fleet.

They draw only where a run asks as often when it steps as when it jumps.
"""

# ruff: noqa: ARG002 - a method has all arguments of its slot

from contextlib import contextmanager
from dataclasses import dataclass

from sojourn.decide.actions import Migrate, Scale, SetRole
from sojourn.fleet.slots import Fetch
from sojourn.fleet.views import ROLES, UP
from sojourn.policies.tables import SLOTS


@dataclass(frozen=True)
class PlaceConfig:
    period: int = 7_000_000_000
    roles: bool = False
    moves: int = 2


class NoisePlace:
    needs = frozenset()

    def __init__(self, config, fleet):
        self.config, self.fleet, self.period = config, fleet, config.period

    def decoder(self, request, source, now):
        found = self.fleet.decoders
        return found[self.fleet.draw(len(found))].index if found else None

    def pulls(self, request, target, blocks):
        return True

    def rebalance(self, now):
        draw, found = self.fleet.draw, []
        for _ in range(self.config.moves):
            source, target = (self.fleet.replicas[draw(len(self.fleet.replicas))] for _ in "ab")
            running = source.running()
            if running and source.status == UP:
                found.append(Migrate(running[draw(len(running))], target.index))
        if self.config.roles and draw(4) == 0:
            one = self.fleet.replicas[draw(len(self.fleet.replicas))]
            found.append(SetRole(one.index, ROLES[draw(3)]))
        return found


@dataclass(frozen=True)
class ScaleConfig:
    period: int = 7_000_000_000
    kinds: tuple = ("a",)


class NoiseScale:
    needs = frozenset()

    def __init__(self, config, fleet):
        self.config, self.fleet, self.period = config, fleet, config.period

    def scale(self, now):
        draw = self.fleet.draw
        kind = self.config.kinds[draw(len(self.config.kinds))]
        return [Scale(kind, (-2, -1, 1, 2)[draw(4)])]


class Peeking:
    """A router that reads the memory of every replica: the load that is hardest to keep exact."""

    needs = frozenset()
    minds_changes = False

    def __init__(self, config, fleet):
        self.fleet = fleet

    def route(self, request, now):
        def key(one):
            load = one.load
            return load.context - load.free_blocks, load.waiting, one.index

        return min(self.fleet.entries, key=key).index

    def changed(self, replica, now):
        pass


class Fetching(Peeking):
    """A router that fetches prefixes from anywhere, itself and replicas that are gone included."""

    def route(self, request, now):
        source = self.fleet.replicas[(5 * request.id + now) % len(self.fleet.replicas)]
        return Fetch(super().route(request, now), source.index)


@dataclass(frozen=True)
class NoConfig:
    pass


NOISE = {
    ("route", "peeking"): (NoConfig, Peeking),
    ("route", "fetching"): (NoConfig, Fetching),
    ("place", "noise"): (PlaceConfig, NoisePlace),
    ("scale", "noise"): (ScaleConfig, NoiseScale),
}


@contextmanager
def registered():
    """Have the tables list the noisy policies for a while."""
    for (slot, name), made in NOISE.items():
        SLOTS[slot][name] = made
    try:
        yield
    finally:
        for slot, name in NOISE:
            SLOTS[slot].pop(name, None)
