"""A request as the decide layer knows it, and the read-only view that policies get.

Neither holds the true output length: a host that knows it keeps it to itself, and only policies
that declare `Need.TRUTH` are handed a `ClairvoyantView`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sojourn.decide.clock import NEVER, Time
from sojourn.decide.states import NEW


class RequestView(Protocol):
    """What a policy may read of a request; all of it current whenever a policy is called.

    Attributes:
        id, arrival: Number in order of arrival at the host, and the moment of it.
        tenant, slo_class: Indices of the client account and of the SLO class.
        program: Index of the conversation or agent run; -1 for none.
        turn, last_turn: Which call of the program it is, from 0, and whether it is known to end it.
        priority: The client's own priority, lower first (vLLM's meaning).
        ttft_deadline, deadline: When its first and its last token are due; NEVER if not asked for.
        state, since: One of `decide.states`, and when it was entered.
        computed: Tokens whose KV exists, on the GPU or in host memory.
        target: Tokens that must be computed before the next token can be sampled.
        prompt, decoded: Prompt tokens, and tokens generated.
        drops, pauses: Times its KV was dropped; times it lost its seat and kept its KV.
    """

    @property
    def id(self) -> int: ...
    @property
    def arrival(self) -> Time: ...
    @property
    def prompt(self) -> int: ...
    @property
    def tenant(self) -> int: ...
    @property
    def program(self) -> int: ...
    @property
    def turn(self) -> int: ...
    @property
    def last_turn(self) -> bool: ...
    @property
    def slo_class(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def ttft_deadline(self) -> Time: ...
    @property
    def deadline(self) -> Time: ...
    @property
    def state(self) -> int: ...
    @property
    def since(self) -> Time: ...
    @property
    def computed(self) -> int: ...
    @property
    def target(self) -> int: ...
    @property
    def decoded(self) -> int: ...
    @property
    def drops(self) -> int: ...
    @property
    def pauses(self) -> int: ...


@dataclass(slots=True, eq=False)
class Request:
    """The mutable record behind the view; only the machine and its host's engine write to it.

    Beyond the view's fields:
        prefix: Ids of the prompt's full trace blocks, front to back.
        joined: Tick at which `computed` and `decoded` of a decoding request were last settled.
        seat: Number of the seat, counted up at each seating: the order of vLLM's running list.
        phase: Tick, modulo the block size, at which it needs a new block while it decodes.
        peak: Most tokens ever computed; what lies below and is computed again is recomputation.
        cached: Prompt tokens found in the prefix cache at first admission; -1 before.
        recomputed: Tokens computed again after drops.
        admitted, first_token, token_time, finish: Moments; -1 for not yet.
        gap: Longest pause so far between two of its tokens.
        gap_tick: Tick after which pauses are still to be looked up.
        finish_tick: Tick at which the host will see it finish, while it decodes; else -1.
    """

    id: int
    arrival: Time
    prompt: int
    tenant: int = 0
    program: int = -1
    turn: int = 0
    last_turn: bool = True
    slo_class: int = 0
    priority: int = 0
    ttft_deadline: Time = NEVER
    deadline: Time = NEVER
    prefix: tuple[int, ...] = ()
    state: int = NEW
    since: Time = 0
    computed: int = 0
    target: int = 0
    decoded: int = 0
    drops: int = 0
    pauses: int = 0
    joined: int = 0
    seat: int = -1
    phase: int = 0
    peak: int = 0
    cached: int = -1
    recomputed: int = 0
    admitted: Time = -1
    first_token: Time = -1
    token_time: Time = -1
    finish: Time = -1
    gap: Time = 0
    gap_tick: int = 0
    finish_tick: int = -1

    def __post_init__(self) -> None:
        """Set what follows from the rest."""
        assert self.prompt > 0, "a prompt has at least one token"
        self.target = self.prompt


class ClairvoyantView(Protocol):
    """What only a simulator can know, for reference policies that say so in their name."""

    def output_tokens(self, request: RequestView) -> int:
        """Return the number of tokens that the request will have generated when it finishes."""
