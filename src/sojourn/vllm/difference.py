"""What a recipe in shadow would have done otherwise than stock order did."""

from __future__ import annotations

from typing import Final

from sojourn.decide.clock import Time
from sojourn.decide.states import DECODE
from sojourn.steplog.live import LiveLog
from sojourn.steplog.record import DIFFERENCES
from sojourn.vllm.host import Host
from sojourn.vllm.shadow import Imagined
from sojourn.vllm.steps import Step

WOULD_ADMIT: Final = DIFFERENCES.index("would admit")
WOULD_NOT_ADMIT: Final = DIFFERENCES.index("would not admit")
WOULD_PAUSE: Final = DIFFERENCES.index("would pause")
WOULD_DROP: Final = DIFFERENCES.index("would drop")
OTHER_CHUNK: Final = DIFFERENCES.index("other chunk")

Found = dict[tuple[int, int], int]
"""Tokens by request and kind of difference."""


class Differences:
    """The differences of successive steps; each is logged when it begins, not at every step.

    Attributes:
        last: Those of the last step.
        steps: Steps that would have been planned otherwise.
    """

    def __init__(self, log: LiveLog | None) -> None:
        self.log = log
        self.last: Found = {}
        self.steps = 0

    def note(self, host: Host, imagined: Imagined, step: Step, now: Time) -> None:
        """Compare what would have been with what was."""
        found = _found(host, imagined, step)
        self.steps += bool(found)
        if self.log is not None:
            for (request, kind), tokens in found.items():
                if (request, kind) not in self.last:
                    self.log.difference(now, request, kind, tokens)
        self.last = found


def _found(host: Host, imagined: Imagined, step: Step) -> Found:
    found: Found = {}
    served = {grant.request.id: grant.tokens for grant in step.grants}
    newcomers = {grant.request.id for grant in step.grants if grant.request.id in step.admitted}
    for request, tokens in imagined.admitted.items():
        if request not in served:
            found[request, WOULD_ADMIT] = tokens
        elif served[request] != tokens:
            found[request, OTHER_CHUNK] = tokens
    for request in newcomers:
        if request not in imagined.admitted:
            found[request, WOULD_NOT_ADMIT] = 0
    for request, tokens in served.items():
        if request not in newcomers and imagined.chunks.get(request, 0) != tokens:
            found[request, OTHER_CHUNK] = imagined.chunks.get(request, 0)
    for request in imagined.paused:
        found[request, WOULD_PAUSE] = 0
    for request in imagined.dropped:
        if request not in step.dropped:
            found[request, WOULD_DROP] = 0
    if step.decodes and not imagined.decodes:
        for one in host.machine.seated.values():
            if one.state == DECODE:
                found[one.id, WOULD_PAUSE] = 0
    return found
