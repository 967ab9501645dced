"""Test placers that migrate: by a script, or at random; nobody should do either in earnest."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

from sojourn.decide.actions import Migrate
from sojourn.decide.needs import Need
from sojourn.policies import place


@dataclass(frozen=True)
class Script:
    """Moves as (time, request id, target); each is asked for once, as soon as it can be."""

    moves: tuple[tuple[int, int, int], ...] = ()
    period: int = 1_000_000_000


@dataclass(frozen=True)
class Chance:
    """How often, and with what chance of 8 each decoding request is asked to move anywhere."""

    period: int = 1_000_000_000
    eighths: int = 2


class _Base:
    needs = frozenset({Need.MIGRATE, Need.TRANSFER})

    def __init__(self, config, fleet):
        self.config = config
        self.fleet = fleet
        self.period = config.period
        self.done = set()

    def decoder(self, request, source, now):  # noqa: ARG002 - a slot's signature
        decoders = self.fleet.decoders
        return decoders[self.fleet.draw(len(decoders))].index if decoders else None

    def pulls(self, request, target, blocks):  # noqa: ARG002 - a slot's signature
        return True


class Scripted(_Base):
    def rebalance(self, now):
        found = []
        for number, (time, wanted, target) in enumerate(self.config.moves):
            if time > now or number in self.done:
                continue
            for replica in self.fleet.replicas:
                for request in replica.running():
                    if request.id == wanted:
                        self.done.add(number)
                        found.append(Migrate(request, target))
        return found


class Restless(_Base):
    def rebalance(self, now):  # noqa: ARG002 - a slot's signature
        replicas, draw = self.fleet.replicas, self.fleet.draw
        return [
            Migrate(request, draw(len(replicas)))
            for replica in replicas
            if replica.status != "down"
            for request in replica.running()
            if draw(8) < self.config.eighths
        ]


@contextmanager
def placers_for_tests():
    """Put both into the table of placers for a while."""
    names = {"scripted": (Script, Scripted), "restless": (Chance, Restless)}
    place.TABLE.update(names)
    try:
        yield
    finally:
        for name in names:
            del place.TABLE[name]
