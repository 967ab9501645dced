"""The record of one run: a row for each request and a row for each run of identical steps.

Times are int64 picoseconds; -1 stands for "did not happen".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sojourn.steplog.fleet import FleetRecord

IntArray = NDArray[np.int64]

FINISHED: Final = 0
SHED: Final = 1
CANCELLED: Final = 2
UNFINISHED: Final = 3
OUTCOMES: Final = ("finished", "shed", "cancelled", "unfinished")

WOULD_ADMIT: Final = 0
WOULD_NOT_ADMIT: Final = 1
WOULD_PAUSE: Final = 2
WOULD_RESUME: Final = 3
WOULD_DROP: Final = 4
OTHER_CHUNK: Final = 5
DIFFERENCES: Final = (
    "would admit",
    "would not admit",
    "would pause",
    "would resume",
    "would drop",
    "other chunk",
)


@dataclass(frozen=True, slots=True)
class SloClass:
    """A class of requests with the same service-level objectives; None means "not asked for".

    Attributes:
        name: The name, unique in a run.
        share: Part of the requests that belong to it, in 0..1.
        ttft_seconds: Bound on time to first token.
        tpot_seconds: Bound on the mean time per output token after the first.
        e2e_seconds: Bound on the time from arrival to the last token.
    """

    name: str
    share: float = 1.0
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    e2e_seconds: float | None = None


@dataclass(slots=True)
class RequestColumns:
    """One row for each request of the workload, in arrival-row order (int64 arrays, length n).

    Attributes:
        arrival: When the request reached the host (in a closed loop this depends on the run).
        admitted: When its first grant began.
        first_token: When its first token was delivered.
        finish: When its last token was delivered.
        prompt_tokens: Prompt length.
        output_tokens: Tokens generated.
        outcome: Index into OUTCOMES.
        reason: Index into `RunRecord.reasons`; -1 for none.
        gap: Longest pause between two consecutive tokens of the stream; 0 with one token.
        preemptions: Times it lost its seat (paused, swapped or dropped) after its first grant.
        recomputed_tokens: Tokens computed again because their KV had been dropped.
        cached_tokens: Prompt tokens found in the prefix cache at first admission.
        tenant: Index into `RunRecord.tenants`.
        slo_class: Index into `RunRecord.classes`.
        replica: Index of the replica that served it.
        program: Index of the conversation or agent run that it belongs to; -1 for none.
        turn: Which call of the program it is, from 0.
        last_turn: 1 if it was known to end its program, else 0.
        priority: The client's own priority; lower goes first.
    """

    arrival: IntArray
    admitted: IntArray
    first_token: IntArray
    finish: IntArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    outcome: IntArray
    reason: IntArray
    gap: IntArray
    preemptions: IntArray
    recomputed_tokens: IntArray
    cached_tokens: IntArray
    tenant: IntArray
    slo_class: IntArray
    replica: IntArray
    program: IntArray
    turn: IntArray
    last_turn: IntArray
    priority: IntArray


@dataclass(slots=True)
class StepColumns:
    """One row for each run of identical steps (int64 arrays).

    Attributes:
        start: When the first step of the run began.
        duration: How long the whole run took.
        steps: Number of steps in the run; only steps without prompt tokens are merged.
        prefill_tokens: Prompt tokens computed in the step.
        prompts: Chunks those belong to.
        decodes: Sequences that generated one token in each step.
        waiting: Requests queued while it ran.
        paused: Requests without a seat whose KV is kept.
        kv_used: KV blocks in use at its start.
        pairs: Query-key pairs of the chunks; this and the next two are what
            `decide.services.StepTime` takes.
        prior: KV tokens computed before that the chunks re-read.
        context: KV tokens that the decodes read in the run's first step; it grows by `decodes` with
            each further step.
        replica: Index of the replica.
    """

    start: IntArray
    duration: IntArray
    steps: IntArray
    prefill_tokens: IntArray
    prompts: IntArray
    decodes: IntArray
    waiting: IntArray
    paused: IntArray
    kv_used: IntArray
    pairs: IntArray
    prior: IntArray
    context: IntArray
    replica: IntArray


@dataclass(slots=True)
class TransitionColumns:
    """Each change of a request's state, in time order; only recorded when tracing is on.

    Attributes:
        time: When it happened.
        request: Row of the request.
        state: Index into `RunRecord.states`: the state entered.
        replica: Index of the replica; -1 before one was chosen.
    """

    time: IntArray
    request: IntArray
    state: IntArray
    replica: IntArray


@dataclass(slots=True)
class DifferenceColumns:
    """What a recipe in shadow mode would have done otherwise than the engine did, in time order.

    Attributes:
        time: When the step began.
        request: Row of the request.
        difference: Index into DIFFERENCES.
        tokens: Tokens that the recipe would have granted.
    """

    time: IntArray
    request: IntArray
    difference: IntArray
    tokens: IntArray


@dataclass(slots=True)
class RunRecord:
    """What one recipe did to one workload.

    Attributes:
        recipe: Name of the recipe.
        load: Fraction of the stock capacity offered, or None if not given that way.
        rate_scale: Factor by which arrivals were scaled.
        deployable: Whether the run needed only what the vLLM host offers.
        complete: False if the run was interrupted.
        kv_blocks: KV blocks that requests can use, for each replica.
        requests: Rows of requests.
        steps: Rows of steps.
        transitions: Changes of state, or None when tracing was off.
        tenants: Names that `RequestColumns.tenant` indexes.
        classes: SLO classes that `RequestColumns.slo_class` indexes.
        reasons: Texts that `RequestColumns.reason` indexes.
        states: State names that `TransitionColumns.state` indexes.
        decisions: How many plans were made.
        decision_seconds: CPU time that making them took (wall clock of this machine).
        wall_seconds: Wall clock of the whole run.
        notes: `closed_loop`: whether turns waited for one another; `policies`: the policy and
            parameters of each slot. JSON values.
        differences: What the recipe would have done otherwise; None unless it ran in shadow mode.
        prefix: Ids of the full blocks of each request's prompt, front to back; None if unknown.
        block_tokens: Tokens behind each id of `prefix`; 0 exactly if that is None.
        host: What ran the recipe: "simulator" or "vllm".
        engine: Name and version of the engine.
        started_unix_seconds: The moment that is time 0; None in virtual time.
        recorder_seconds: CPU time that recording took, of this machine; 0 if not measured.
        fleet: The fleet's side of the run; None of a single replica.
    """

    recipe: str
    load: float | None
    rate_scale: float
    deployable: bool
    complete: bool
    kv_blocks: int
    requests: RequestColumns
    steps: StepColumns
    transitions: TransitionColumns | None
    tenants: tuple[str, ...]
    classes: tuple[SloClass, ...]
    reasons: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    decisions: int = 0
    decision_seconds: float = 0.0
    wall_seconds: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)
    differences: DifferenceColumns | None = None
    prefix: list[tuple[int, ...]] | None = None
    block_tokens: int = 0
    host: str = "simulator"
    engine: str = ""
    started_unix_seconds: float | None = None
    recorder_seconds: float = 0.0
    fleet: FleetRecord | None = None
