"""Run records for the report's tests: small ones row by row, larger ones from a seats queue."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from sojourn.decide.clock import SECOND
from sojourn.steplog.record import (
    FINISHED,
    SHED,
    RequestColumns,
    RunRecord,
    SloClass,
    StepColumns,
    TransitionColumns,
)

STATES = (
    "waiting", "prefill", "decode", "paused", "swapping-out", "swapped", "swapping-in",
    "held", "finished", "rejected", "cancelled",
)  # fmt: skip
WAITING, PREFILL, DECODE, PAUSED, DONE, REJECTED = 0, 1, 2, 3, 8, 9
TIMES = ("arrival", "admitted", "first_token", "finish", "gap")


def ps(seconds: float) -> int:
    return -1 if seconds < 0 else round(seconds * SECOND)


def requests(rows: Sequence[dict[str, float]]) -> RequestColumns:
    """Columns from rows; times in seconds, -1 for never."""
    usual = {
        "arrival": 0.0, "admitted": -1.0, "first_token": -1.0, "finish": -1.0,
        "prompt_tokens": 100, "output_tokens": 0, "outcome": FINISHED, "reason": -1, "gap": 0.0,
        "preemptions": 0, "recomputed_tokens": 0, "cached_tokens": 0, "tenant": 0, "slo_class": 0,
        "replica": 0, "program": -1, "turn": 0, "last_turn": 1, "priority": 0,
    }  # fmt: skip
    full = [{**usual, **row} for row in rows]
    return RequestColumns(
        **{
            name: np.array(
                [ps(row[name]) if name in TIMES else int(row[name]) for row in full], dtype=np.int64
            )
            for name in usual
        }
    )


def steps(rows: Sequence[dict[str, float]]) -> StepColumns:
    """Columns from rows; start and duration in seconds."""
    usual = {
        "start": 0.0, "duration": 1.0, "steps": 1, "prefill_tokens": 0, "prompts": 0,
        "decodes": 0, "waiting": 0, "paused": 0, "kv_used": 0, "replica": 0,
        "pairs": 0, "prior": 0, "context": 0,
    }  # fmt: skip
    full = [{**usual, **row} for row in rows]
    return StepColumns(
        **{
            name: np.array(
                [
                    ps(row[name]) if name in ("start", "duration") else int(row[name])
                    for row in full
                ],
                dtype=np.int64,
            )
            for name in usual
        }
    )


def record(
    request_rows: Sequence[dict[str, float]] = (),
    step_rows: Sequence[dict[str, float]] = (),
    **more: object,
) -> RunRecord:
    values: dict[str, object] = {
        "recipe": "vllm", "load": 0.9, "rate_scale": 1.0, "deployable": True, "complete": True,
        "kv_blocks": 100, "transitions": None, "tenants": ("only",),
        "classes": (SloClass("all", ttft_seconds=1.0, tpot_seconds=0.1),),
        **more,
    }  # fmt: skip
    return RunRecord(requests=requests(request_rows), steps=steps(step_rows), **values)  # type: ignore[arg-type]


CLASSES = (
    SloClass("interactive", share=0.7, ttft_seconds=0.5, tpot_seconds=0.05),
    SloClass("batch", share=0.3, e2e_seconds=60.0),
)


def queue(
    recipe: str = "vllm",
    n: int = 2_000,
    rate: float = 4.0,
    seats: int = 8,
    *,
    load: float | None = 0.9,
    order: str = "fcfs",
    deployable: bool = True,
    patience: float | None = None,
    tpot: float = 0.02,
    seed: int = 7,
    traced: bool = False,
    tenants: tuple[str, ...] = ("acme", "globex"),
    classes: tuple[SloClass, ...] = CLASSES,
    replicas: int = 1,
) -> RunRecord:
    """A queue with a number of seats: non-preemptive, in order of arrival, length or class.

    The requests depend on `n`, `rate` and `seed` alone, so runs of several recipes are paired.
    """
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1 / rate, n))
    prompt = rng.integers(50, 2_000, n)
    output = np.maximum(2, rng.geometric(1 / 60, n))
    klass = (rng.random(n) < 0.3).astype(np.int64) % len(classes)
    tenant = (rng.random(n) < 0.25).astype(np.int64) % len(tenants)
    prefill = prompt * 1e-4
    key = {"fcfs": arrival, "srpt": output, "class": klass * 1e9 + arrival, "ljf": -output}[order]
    free = [0.0] * seats
    waiting: list[tuple[float, int]] = []
    admitted = np.full(n, -1.0)
    coming = 0
    while coming < n or waiting:
        now = heapq.heappop(free)
        if not waiting and coming < n:
            now = max(now, arrival[coming])
        while coming < n and arrival[coming] <= now:
            heapq.heappush(waiting, (float(key[coming]), coming))
            coming += 1
        if not waiting:
            heapq.heappush(free, now)
            continue
        _, one = heapq.heappop(waiting)
        if patience is not None and now - arrival[one] > patience:
            heapq.heappush(free, now)
            continue
        admitted[one] = now
        heapq.heappush(free, now + prefill[one] + output[one] * tpot)
    kept = admitted >= 0
    first = np.where(kept, admitted + prefill, -1.0)
    finish = np.where(kept, first + (output - 1) * tpot, -1.0)
    made = RequestColumns(
        arrival=_ps(arrival), admitted=_ps(admitted), first_token=_ps(first), finish=_ps(finish),
        prompt_tokens=prompt.astype(np.int64), output_tokens=np.where(kept, output, 0),
        outcome=np.where(kept, FINISHED, SHED), reason=np.where(kept, -1, 0),
        gap=_ps(np.where(kept, tpot * 2, 0.0)), preemptions=np.zeros(n, dtype=np.int64),
        recomputed_tokens=np.zeros(n, dtype=np.int64), cached_tokens=(prompt // 4).astype(np.int64),
        tenant=tenant, slo_class=klass, replica=np.where(kept, np.arange(n) % replicas, -1),
        program=np.full(n, -1), turn=np.zeros(n, np.int64), last_turn=np.ones(n, np.int64),
        priority=np.zeros(n, np.int64),
    )  # fmt: skip
    return RunRecord(
        recipe=recipe, load=load, rate_scale=1.0, deployable=deployable, complete=True,
        kv_blocks=seats * 150, requests=made, steps=_steps(made, seats, replicas),
        transitions=_transitions(made) if traced else None, tenants=tenants, classes=classes,
        reasons=("deadline passed",), states=STATES, decisions=n, decision_seconds=n * 2e-6,
        wall_seconds=1.5,
    )  # fmt: skip


def _ps(seconds: np.ndarray) -> np.ndarray:
    return np.where(seconds < 0, -1, np.round(seconds * SECOND)).astype(np.int64)


def _steps(rows: RequestColumns, seats: int, replicas: int, width: float = 0.05) -> StepColumns:
    """A step each 50 ms on each replica while anything runs on it."""
    parts = []
    for replica in range(replicas):
        mine = (rows.replica == replica) & (rows.admitted >= 0)
        end = int(rows.finish.max())
        starts = np.arange(0, end, ps(width), dtype=np.int64)

        def alive(begin: np.ndarray, until: np.ndarray, starts: np.ndarray = starts) -> np.ndarray:
            came = np.searchsorted(np.sort(begin), starts + ps(width) - 1, side="right")
            return came - np.searchsorted(np.sort(until), starts, side="right")

        running = alive(rows.first_token[mine], rows.finish[mine])
        prompts = alive(rows.admitted[mine], rows.first_token[mine])
        stay = (rows.admitted >= 0) & ((rows.replica == replica) | (replicas == 1))
        waiting = alive(rows.arrival[stay], rows.admitted[stay])
        busy = running + prompts > 0
        zeros = np.zeros(int(busy.sum()), dtype=np.int64)
        parts.append({
            "start": starts[busy], "duration": zeros + ps(width), "steps": zeros + 1,
            "prefill_tokens": prompts[busy] * 256, "prompts": prompts[busy],
            "decodes": running[busy], "waiting": waiting[busy], "paused": zeros,
            "kv_used": np.minimum(seats * 150, (running + prompts)[busy] * 110),
            "replica": zeros + replica, "pairs": zeros, "prior": zeros, "context": zeros,
        })  # fmt: skip
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((merged["replica"], merged["start"]))
    return StepColumns(**{name: column[order] for name, column in merged.items()})


def _transitions(rows: RequestColumns) -> TransitionColumns:
    """Waiting, prefill, decode with a pause in the middle of long ones, finished; or rejected."""
    changes: list[tuple[int, int, int, int]] = []
    for row in range(rows.arrival.size):
        at = int(rows.replica[row])
        changes.append((int(rows.arrival[row]), row, WAITING, -1))
        if rows.outcome[row] == SHED:
            changes.append((int(rows.arrival[row]) + ps(1.0), row, REJECTED, -1))
            continue
        first, finish = int(rows.first_token[row]), int(rows.finish[row])
        changes.append((int(rows.admitted[row]), row, PREFILL, at))
        changes.append((first, row, DECODE, at))
        if rows.output_tokens[row] > 100:
            changes.append((first + (finish - first) // 3, row, PAUSED, at))
            changes.append((first + (finish - first) // 2, row, DECODE, at))
        changes.append((finish, row, DONE, at))
    changes.sort(key=lambda change: (change[0], change[1]))
    time, request, state, replica = (
        np.array(column, dtype=np.int64) for column in zip(*changes, strict=True)
    )
    return TransitionColumns(time=time, request=request, state=state, replica=replica)
