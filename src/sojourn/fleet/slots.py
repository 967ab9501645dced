"""The slots above the replicas: who gets an arrival, who decodes it, and what the fleet is.

Policies are made with their configuration and the fleet's view. What they say is carried out by
the host (simulator or gateway), which may find it impossible by then: a move to a replica that has
gone is dropped, and the policy is asked again at the next occasion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol, TypeAlias

from sojourn.decide.actions import Migrate, Reject, Scale, SetRole
from sojourn.decide.clock import Time
from sojourn.decide.needs import Need
from sojourn.decide.request import RequestView
from sojourn.fleet.views import ReplicaView, RoutedView


class Fetch(NamedTuple):
    """Send a request to a replica that first copies what another has cached of its prompt.

    Attributes:
        replica: Index of the replica that computes the rest.
        source: Index of the one whose prefix cache is read.
    """

    replica: int
    source: int


Verdict: TypeAlias = int | Reject | None
"""Index of a replica; a refusal; or None to keep the request until a replica changes."""


class Route(Protocol):
    """Chooses the replica of an arrival.

    Attributes:
        minds_changes: Whether `changed` is to be called; routers that read loads through an index
            of their own say so, all others read what they need when they are asked.

    What it keeps waits in one line. A router may have several, so that nobody waits behind those
    of another pool: it then also has `lines`, how many there are, and `line(request)`.
    """

    needs: ClassVar[frozenset[Need]]
    minds_changes: ClassVar[bool]

    def route(self, request: RoutedView, now: Time) -> Verdict | Fetch:
        """Return what becomes of an arrival."""

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Take note of a replica that came, went, reported, got a request or ended one."""


class Place(Protocol):
    """Chooses who decodes what others prefilled, and moves requests and roles.

    Attributes:
        period: Time between two calls of `rebalance`; NEVER for none.

    A policy to which a fleet without requests is nothing may say so by `idles = True`: it is not
    asked meanwhile.
    """

    needs: ClassVar[frozenset[Need]]
    period: Time

    def decoder(self, request: RequestView, source: ReplicaView, now: Time) -> Verdict:
        """Return who decodes a request that `source` has prefilled, or a refusal.

        None asks again when a replica has changed.
        """

    def pulls(self, request: RequestView, target: ReplicaView, blocks: int) -> bool:
        """Return whether a decode replica fetches KV of so many blocks now, if they are free."""

    def rebalance(self, now: Time) -> Sequence[Migrate | SetRole]:
        """Return which requests move and which replicas change their role."""


class ScaleSlot(Protocol):
    """Adds and drains replicas.

    Attributes:
        period: Time between two calls; NEVER for none.
    """

    needs: ClassVar[frozenset[Need]]
    period: Time

    def scale(self, now: Time) -> Sequence[Scale]:
        """Return how many replicas of which kind to add, or to drain."""
