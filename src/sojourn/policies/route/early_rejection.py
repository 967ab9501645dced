"""An arrival is refused at once if prefill, or in two of three variants decode, is overloaded.

Source: Mooncake (Qin et al., FAST 2025, arXiv 2407.00079), overload-oriented scheduling: baseline,
    early rejection, early rejection based on prediction.
Reads: prompt tokens outstanding on prefill replicas; open requests and their prompt tokens on
    decode replicas; step times.
Memory: outstanding tokens in a heap; the open requests of decode replicas; when the prefills of
    the last `decode_seconds` end; means of what arrived.
Needs: REJECT, STEP_TIME.
Deviations: prefill goes to the replica with the fewest outstanding tokens, without the prefix
    matches of Conductor. KV of decodes is counted by their prompts. The published duration of a
    decode is not known; ours is. With the `baseline` variant only the place slot looks at decode,
    after the prompt has been computed; `decode_limit` does, with any variant.
Fails when: outputs differ greatly: one duration for all says little about who has ended.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass
from typing import ClassVar, Final

from sojourn.decide.actions import Reject
from sojourn.decide.clock import Time, from_seconds, to_seconds
from sojourn.decide.needs import Need
from sojourn.decide.request import Request
from sojourn.errors import UserError, unknown
from sojourn.fleet.slots import Verdict
from sojourn.fleet.views import DECODE, UP, FleetView, ReplicaView, RoutedView
from sojourn.policies.route.load_index import LoadIndex

BASELINE: Final = "baseline"
EARLY: Final = "early"
PREDICTED: Final = "predicted"
VARIANTS: Final = (BASELINE, EARLY, PREDICTED)

OVER_TTFT: Final = "prefill overloaded at arrival"
OVER_TBT: Final = "decode overloaded at arrival"


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the rejection.

    Attributes:
        variant: `baseline` looks at prefill alone, `early` at decode too as it is now, `predicted`
            at decode as it will be when the prompt has been computed.
        ttft_slo_seconds: Longest predicted time to the first token.
        tbt_slo_seconds: Longest predicted step of a decode replica.
        decode_seconds: How long each decode is taken to last.
    """

    variant: str = PREDICTED
    ttft_slo_seconds: float = 30.0
    tbt_slo_seconds: float = 0.1
    decode_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.variant not in VARIANTS:
            raise unknown("value of route.variant", self.variant, VARIANTS)
        for name in ("ttft_slo_seconds", "tbt_slo_seconds", "decode_seconds"):
            if getattr(self, name) <= 0:
                raise UserError(f"route.{name} is {getattr(self, name)}; it must be above 0")


@dataclass(slots=True)
class Seen:
    """What has arrived so far: requests, their prompt tokens, and the time to compute each."""

    requests: int = 0
    tokens: int = 0
    seconds: float = 0.0


class EarlyRejection:
    """Earliest first token, if the loads of both phases allow it."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.REJECT, Need.STEP_TIME})
    minds_changes: ClassVar[bool] = True

    def __init__(self, config: Config, fleet: FleetView) -> None:
        self.config = config
        self.fleet = fleet
        self.index = LoadIndex()
        self.decoding: dict[int, int] = {}
        self.decoding_sum = 0
        self.ends: list[Time] = []
        self.seen = Seen()

    def route(self, request: RoutedView, now: Time) -> Verdict:
        """Take the least loaded prefill replica, or refuse."""
        target = self.index.least()
        if target is None:
            return None
        ttft = self._ttft(self.fleet.replicas[target], request.prompt)
        end = now + from_seconds(ttft)
        reason = OVER_TTFT if ttft > self.config.ttft_slo_seconds else ""
        if not reason and self._decode_load(now, end) > 1:
            reason = OVER_TBT
        if reason:
            assert isinstance(request, Request)
            return Reject(request, reason)
        insort(self.ends, end)
        return target

    def changed(self, replica: ReplicaView, now: Time) -> None:
        """Note a replica's outstanding prompt tokens, or its decodes."""
        self.index.put(replica, replica.prompt_tokens)
        up = replica.status == UP and replica.role == DECODE
        self.decoding_sum -= self.decoding.pop(replica.index, 0)
        if up:
            self.decoding[replica.index] = replica.open
            self.decoding_sum += replica.open

    def _ttft(self, replica: ReplicaView, prompt: int) -> float:
        """Return the seconds until a prompt that is sent there gives its first token."""
        pairs = prompt * (prompt + 1) // 2
        own = to_seconds(replica.step_time.step(prompt, pairs, 0, 1, 0, 0))
        seen = self.seen
        seen.requests += 1
        seen.tokens += prompt
        seen.seconds += own
        return own + replica.prompt_tokens * seen.seconds / seen.tokens

    def _decode_load(self, now: Time, end: Time) -> float:
        """Return the step time of an average decode replica over its bound; 0 if not asked for."""
        if self.config.variant == BASELINE or not self.decoding:
            return 0.0
        count = self.decoding_sum if self.config.variant == EARLY else self._decoding_at(now, end)
        count += 1
        each = -(-count // len(self.decoding))
        context = each * self.seen.tokens // self.seen.requests
        step_time = self.fleet.replicas[next(iter(self.decoding))].step_time
        step = to_seconds(step_time.step(0, 0, 0, 0, each, context))
        return step / self.config.tbt_slo_seconds

    def _decoding_at(self, now: Time, end: Time) -> int:
        """Return how many will decode at `end`, when those that began before `end` - t_d are gone.

        Of those that decode now no more are left than there are; who has ended early is known.
        """
        duration = from_seconds(self.config.decode_seconds)
        del self.ends[: bisect_right(self.ends, now - duration)]
        begun = bisect_right(self.ends, now)
        gone = bisect_right(self.ends, end - duration)
        left = max(min(self.decoding_sum, begun) - gone, 0)
        return left + bisect_right(self.ends, end) - max(begun, gone)
