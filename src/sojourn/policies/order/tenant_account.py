"""What virtual token counters remember of a tenant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Account:
    """What is remembered of one tenant.

    Attributes:
        served: Service counted up to tick `at`.
        at: Tick of the last settlement.
        decodes: Requests that decode: the counter rises by these each tick.
        queued: Requests queued.
    """

    served: int = 0
    at: int = 0
    decodes: int = 0
    queued: int = 0
