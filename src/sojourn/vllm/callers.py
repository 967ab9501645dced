"""From names to numbers: the tenant, class, program and deadlines of a request for the policies."""

from __future__ import annotations

import time
from logging import getLogger
from typing import Any, Final

from sojourn.decide.clock import NEVER, Time, from_seconds
from sojourn.steplog.record import SloClass
from sojourn.vllm import compat
from sojourn.vllm.identity import Identity, identify
from sojourn.vllm.requests import LiveRequest
from sojourn.vllm.rules import Rules

logger = getLogger("sojourn.vllm")

NAMES_MAX: Final = 100_000
"""Programs and tenants remembered; the oldest are forgotten, and numbered anew if they return."""


class Names:
    """Numbers for names, in order of appearance."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}
        self.last = -1

    def number(self, name: Any) -> int:
        """Return the number of a name."""
        found = self.known.get(name)
        if found is None:
            self.last += 1
            found = self.known[name] = self.last
            if len(self.known) > NAMES_MAX:
                del self.known[next(iter(self.known))]
        return found


class Callers:
    """Who sends requests, by the server's rules.

    Attributes:
        warnings: Client values that were ignored so far.
    """

    def __init__(self, rules: Rules, key: bytes) -> None:
        self.rules = rules
        self.key = key
        self.tenants = Names()
        self.classes = Names()
        self.programs = Names()
        self.warnings = 0
        for name in rules.classes:
            self.classes.number(name)

    def slo_classes(self) -> tuple[SloClass, ...]:
        """Return the classes for the step log."""
        return tuple(
            SloClass(
                name=one.name,
                ttft_seconds=one.ttft_seconds,
                tpot_seconds=one.tpot_seconds,
                e2e_seconds=one.e2e_seconds,
            )
            for one in self.rules.classes.values()
        )

    def who(self, request: compat.Request) -> Identity:
        """Return whose a request is."""
        params = request.sampling_params
        said = getattr(params, "extra_args", None)
        session = getattr(request, "session_id", None)
        try:
            found = identify(said, request.priority, self.rules, self.key, session)
        except Exception:  # no client's value may end the engine
            logger.exception("sojourn: a request's identity cannot be read; it is nobody's")
            found = identify({}, None, self.rules)
            self.warnings += 1
        self.warnings += len(found.warnings)
        return found

    def sent(self, request: compat.Request, now: Time) -> Time:
        """Return when a request reached the server; below 0 if before the engine's clock began."""
        return now - from_seconds(max(0.0, time.time() - request.arrival_time))

    def mark(self, request: LiveRequest, caller: Identity, now: Time) -> None:
        """Write an identity into a request; deadlines count from its arrival at the server."""
        request.tenant = self.tenants.number(caller.tenant)
        request.slo_class = self.classes.number(caller.slo_class)
        if caller.program is not None:
            request.program = self.programs.number((caller.tenant, caller.program))
            request.turn = caller.turn
            request.last_turn = caller.last_turn
        request.priority = caller.priority
        start = self.sent(request.vllm, now)
        if caller.ttft_seconds is not None:
            request.ttft_deadline = _due(start, caller.ttft_seconds)
        if caller.e2e_seconds is not None:
            request.deadline = _due(start, caller.e2e_seconds)


def _due(start: Time, seconds: float) -> Time:
    return min(max(0, start + from_seconds(seconds)), NEVER)
