"""One result row: what a recipe at a load did to the requests and to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sojourn.decide.clock import SECOND
from sojourn.report.bootstrap import block_length, goodput_interval
from sojourn.report.fairness import max_gap_tokens
from sojourn.report.fleet_row import FleetRow, fleet_row, up_times
from sojourn.report.numbers import Spread, ratio, spread
from sojourn.report.served import BoolArray, Served, causes, replicas, served
from sojourn.steplog.record import CANCELLED, IntArray, RunRecord, SloClass


@dataclass(frozen=True, slots=True)
class EngineTime:
    """Seconds of engine time by what the steps did, summed over replicas.

    Attributes:
        decode_seconds: Steps that only decoded.
        prefill_seconds: Steps that only computed prompts.
        mixed_seconds: Steps that did both.
        idle_seconds: No tokens were computed, from the first step to the last moment.
        recomputed_share: Recomputed tokens over all prompt tokens computed.
        queue_share: Time before the first grant over E2E time, of finished requests.
        paused_share: Time without a seat but with KV kept, over E2E time of finished requests.
    """

    decode_seconds: float
    prefill_seconds: float
    mixed_seconds: float
    idle_seconds: float
    recomputed_share: float | None
    queue_share: float | None
    paused_share: float | None

    @property
    def idle_share(self) -> float | None:
        """Idle time over all engine time."""
        busy = self.decode_seconds + self.prefill_seconds + self.mixed_seconds
        return ratio(self.idle_seconds, busy + self.idle_seconds)

    @property
    def prefilling_share(self) -> float | None:
        """Time in steps with prompt tokens over the busy time."""
        busy = self.decode_seconds + self.prefill_seconds + self.mixed_seconds
        return ratio(self.prefill_seconds + self.mixed_seconds, busy)

    def to_json(self) -> dict[str, float | None]:
        """Return all fields by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Row:
    """The numbers of one run; a number that does not exist is None, never NaN.

    Attributes:
        recipe: Name of the recipe.
        load: Fraction of the stock capacity offered, or a `RateFactor`; None as traced.
        rate_scale: Factor by which the trace's arrivals were scaled.
        deployable: Whether the run needed only what the vLLM host offers.
        requests: Requests that arrived.
        finished: Those whose last token was delivered.
        shed: Those rejected.
        goodput_rps: Requests per second that met every SLO they had; see `offered_rate`.
        goodput_interval: Its 95 % block-bootstrap interval.
        slo_attainment: Share of each class's requests, shed ones included, that met its SLOs.
        throughput_tps: Output tokens of finished requests per second, from the first arrival to
            the last finish.
        ttft_seconds: Arrival to first token, of every request not shed that got one.
        tpot_seconds: Time per output token after the first, of finished requests.
        e2e_seconds: Arrival to last token, of finished requests.
        queue_seconds: Arrival to first grant, of every request not shed; one that never had a
            grant counts with the time until the run ended.
        stream_gap_seconds_p99: Over streams, the 99th percentile of the longest pause in each.
        preemptions: Seats lost.
        recomputed_tokens: Tokens computed again.
        kv_use_mean: Share of KV blocks in use, weighted by the steps' durations.
        prefix_hit_share: Cached over all prompt tokens of admitted requests.
        fairness_max_gap_tokens: See `sojourn.report.fairness.max_gap_tokens`.
        steps: Forward passes.
        simulated_seconds: From the first arrival to the last moment of the record.
        wall_seconds: Wall clock of the run; not reproducible.
        decision_microseconds_mean: CPU time of one plan; not reproducible.
        cancelled: Requests withdrawn by their user; they met no SLO.
        unfinished: Requests still in the system when the run ended; they met no SLO.
        offered_rps: Requests offered per second.
        complete: False if the run was interrupted.
        missed: Requests that missed an SLO, by cause; see `sojourn.report.served.causes`.
        shed_reasons: Shed requests by the reason given.
        engine: Where the engine's time went.
        fleet: What a fleet cost, moved and lost; None of a run without one.
    """

    recipe: str
    load: float | None
    rate_scale: float
    deployable: bool
    requests: int
    finished: int
    shed: int
    goodput_rps: float | None
    goodput_interval: tuple[float, float] | None
    slo_attainment: Mapping[str, float | None]
    throughput_tps: float | None
    ttft_seconds: Spread
    tpot_seconds: Spread
    e2e_seconds: Spread
    queue_seconds: Spread
    stream_gap_seconds_p99: float | None
    preemptions: int
    recomputed_tokens: int
    kv_use_mean: float | None
    prefix_hit_share: float | None
    fairness_max_gap_tokens: float | None
    steps: int
    simulated_seconds: float
    wall_seconds: float
    decision_microseconds_mean: float | None
    cancelled: int
    unfinished: int
    offered_rps: float | None
    complete: bool
    missed: Mapping[str, int]
    shed_reasons: Mapping[str, int]
    engine: EngineTime
    fleet: FleetRow | None = None

    @property
    def missed_share(self) -> float | None:
        """Share of the requests that missed an SLO, shed and unfinished ones included."""
        return ratio(sum(self.missed.values()), self.requests)

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values; only `timing` differs between runs of one input."""
        interval, fleet = self.goodput_interval, self.fleet
        return {
            "recipe": self.recipe,
            "load": self.load,
            "deployable": self.deployable,
            "requests": self.requests,
            "finished": self.finished,
            "shed": self.shed,
            "goodput_rps": self.goodput_rps,
            "goodput_interval": None if interval is None else list(interval),
            "slo_attainment": dict(self.slo_attainment),
            "throughput_tps": self.throughput_tps,
            "ttft_seconds": self.ttft_seconds.to_json(),
            "tpot_seconds": self.tpot_seconds.to_json(),
            "e2e_seconds": self.e2e_seconds.to_json(),
            "queue_seconds": self.queue_seconds.to_json(),
            "stream_gap_seconds": {"p99": self.stream_gap_seconds_p99},
            "preemptions": self.preemptions,
            "recomputed_tokens": self.recomputed_tokens,
            "kv_use_mean": self.kv_use_mean,
            "prefix_hit_share": self.prefix_hit_share,
            "fairness_max_gap_tokens": self.fairness_max_gap_tokens,
            "steps": self.steps,
            "simulated_seconds": self.simulated_seconds,
            "timing": {
                "wall_seconds": self.wall_seconds,
                "decision_microseconds_mean": self.decision_microseconds_mean,
            }
            | ({} if fleet is None else fleet.timing()),
            "cancelled": self.cancelled,
            "unfinished": self.unfinished,
            "offered_rps": self.offered_rps,
            "complete": self.complete,
            "missed": dict(self.missed),
            "shed_reasons": dict(self.shed_reasons),
            "rate_scale": self.rate_scale,
            "fleet": None if fleet is None else fleet.to_json(),
            "engine_time": self.engine.to_json(),
        }


def measure(record: RunRecord, facts: Served | None = None, *, seed: int = 0) -> Row:
    """Return the result row of one run.

    Args:
        record: The run.
        facts: What `served` returns for it, if already at hand.
        seed: Seed of the bootstrap; the same seed gives the same interval.
    """
    facts = served(record) if facts is None else facts
    rows, steps = record.requests, record.steps
    requests = int(facts.arrived.sum())
    offered = offered_rate(record, facts)
    e2e = spread(facts.e2e)
    met = facts.met[arrival_order(record, facts)]
    interval = None
    if offered is not None:
        block = block_length(requests, offered, e2e.mean)
        interval = goodput_interval(met, offered, block, seed)
    last = int(rows.finish[facts.finished].max()) if facts.finished.any() else facts.begin
    decisions = record.decisions
    gaps = spread(facts.gap)
    admitted = facts.arrived & (rows.admitted >= 0)
    cancelled = int((facts.arrived & (rows.outcome == CANCELLED)).sum())
    finished, shed = int(facts.finished.sum()), int(facts.shed.sum())
    return Row(
        recipe=record.recipe,
        load=record.load,
        rate_scale=record.rate_scale,
        deployable=record.deployable,
        requests=requests,
        finished=finished,
        shed=shed,
        goodput_rps=None if offered is None else float(met.mean()) * offered,
        goodput_interval=interval,
        slo_attainment={
            one.name: ratio(int((facts.met & mine).sum()), int(mine.sum()))
            for one, mine in class_masks(record, facts)
        },
        throughput_tps=ratio(
            int(rows.output_tokens[facts.finished].sum()), (last - facts.begin) / SECOND
        ),
        ttft_seconds=spread(facts.ttft),
        tpot_seconds=spread(facts.tpot),
        e2e_seconds=e2e,
        queue_seconds=spread(facts.queue),
        stream_gap_seconds_p99=gaps.p99,
        preemptions=int(rows.preemptions.sum()),
        recomputed_tokens=int(rows.recomputed_tokens.sum()),
        kv_use_mean=_kv_use(record),
        prefix_hit_share=ratio(
            int(rows.cached_tokens[admitted].sum()), int(rows.prompt_tokens[admitted].sum())
        ),
        fairness_max_gap_tokens=max_gap_tokens(record, facts),
        steps=int(steps.steps.sum()),
        simulated_seconds=(facts.end - facts.begin) / SECOND,
        wall_seconds=float(record.wall_seconds),
        decision_microseconds_mean=ratio(1e6 * record.decision_seconds, decisions),
        cancelled=cancelled,
        unfinished=requests - finished - shed - cancelled,
        offered_rps=offered,
        complete=record.complete,
        missed=causes(record, facts),
        shed_reasons=_shed_reasons(record, facts),
        engine=engine_time(record, facts),
        fleet=fleet_row(record, facts),
    )


def offered_rate(record: RunRecord, facts: Served) -> float | None:
    """Return the requests offered per second: the n − 1 gaps over the span of the n arrivals.

    Goodput is the share that met their SLOs times this rate, so its denominator is the time in
    which requests came, not the time the recipe took to work them off. A recipe that leaves a
    long tail behind cannot hide it by dividing by more time, one that sheds the tail cannot gain
    by dividing by less, and recipes given the same trace differ in the numerator alone.

    In a closed loop the last turn is sent long before it is answered and no rate is offered from
    outside, so the rate is n over the whole run (`notes["closed_loop"]`); so it is when all
    requests arrive at once. None without requests or without any span.
    """
    requests = int(facts.arrived.sum())
    if not requests:
        return None
    span = int(record.requests.arrival[facts.arrived].max()) - facts.begin
    if span > 0 and not record.notes.get("closed_loop"):
        return (requests - 1) * SECOND / span
    return ratio(requests * SECOND, facts.end - facts.begin)


def arrival_order(record: RunRecord, facts: Served) -> IntArray:
    """Return the rows of the requests that arrived, in order of arrival, ties by row."""
    rows = np.flatnonzero(facts.arrived)
    return rows[np.argsort(record.requests.arrival[rows], kind="stable")]


def class_masks(record: RunRecord, facts: Served) -> list[tuple[SloClass, BoolArray]]:
    """Return each SLO class with the mask of its requests that arrived."""
    column = record.requests.slo_class
    return [(one, facts.arrived & (column == index)) for index, one in enumerate(record.classes)]


def engine_time(record: RunRecord, facts: Served) -> EngineTime:
    """Return where the engine's time went; a step without tokens counts as idle."""
    rows, steps = record.requests, record.steps
    long = steps.duration / SECOND
    prefills, decodes = steps.prefill_tokens > 0, steps.decodes > 0
    decode = float(long[~prefills & decodes].sum())
    prefill = float(long[prefills & ~decodes].sum())
    mixed = float(long[prefills & decodes].sum())
    # An engine's log may begin while requests run: it was no more idle before than they were.
    begin = max(facts.begin, int(steps.start.min())) if steps.start.size else facts.begin
    span = replicas(record) * (facts.end - begin) / SECOND
    if record.fleet is not None:
        span = float(up_times(record, facts.begin, facts.end).sum())
    recomputed = int(rows.recomputed_tokens.sum())
    e2e = float(np.nansum(facts.e2e))
    return EngineTime(
        decode_seconds=decode,
        prefill_seconds=prefill,
        mixed_seconds=mixed,
        idle_seconds=max(0.0, span - decode - prefill - mixed),
        recomputed_share=ratio(recomputed, max(int(steps.prefill_tokens.sum()), recomputed)),
        queue_share=ratio(float(np.nansum(facts.queue[facts.finished])), e2e),
        paused_share=ratio(float((steps.paused * long).sum()), e2e),
    )


def kv_blocks(record: RunRecord) -> IntArray:
    """Return the KV blocks that requests can use, of each replica."""
    blocks = np.full(replicas(record), max(1, record.kv_blocks), dtype=np.int64)
    for unit in record.fleet.units if record.fleet is not None else ():
        blocks[unit.index] = unit.blocks or blocks[unit.index]
    return blocks


def _kv_use(record: RunRecord) -> float | None:
    """Return the mean share of KV blocks in use over the steps, weighted by duration."""
    steps = record.steps
    weight = steps.duration / SECOND
    held = float((steps.kv_used * weight).sum())
    return ratio(held, float((kv_blocks(record)[steps.replica] * weight).sum()))


def _shed_reasons(record: RunRecord, facts: Served) -> dict[str, int]:
    """Return how many requests were shed for each reason, in the record's order of reasons."""
    given = record.requests.reason[facts.shed]
    counts = {text: int((given == index).sum()) for index, text in enumerate(record.reasons)}
    return {text: number for text, number in counts.items() if number}
