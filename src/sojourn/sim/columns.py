"""Filling the columns of a run record while requests end."""

from __future__ import annotations

from array import array
from dataclasses import fields
from typing import Final

import numpy as np

from sojourn.decide.request import Request
from sojourn.sim.recorder import ROW_FIELDS
from sojourn.sim.workload import Workload
from sojourn.steplog.record import (
    IntArray,
    RequestColumns,
    StepColumns,
    TransitionColumns,
)

FIELDS: Final = (
    "arrival",
    "admitted",
    "first_token",
    "finish",
    "output_tokens",
    "outcome",
    "reason",
    "gap",
    "preemptions",
    "recomputed_tokens",
    "cached_tokens",
    "replica",
)


class RequestRows:
    """One growing row for each request of the workload, written when the request ends."""

    def __init__(self, count: int) -> None:
        self.columns = {name: array("q", [-1]) * count for name in FIELDS}
        self.reasons: dict[str, int] = {}

    def write(self, row: int, request: Request, outcome: int, reason: str, replica: int) -> None:
        """Write the row of a request that ended, or was cut off."""
        columns = self.columns
        columns["arrival"][row] = request.arrival
        columns["admitted"][row] = request.admitted
        columns["first_token"][row] = request.first_token
        columns["finish"][row] = request.finish
        columns["output_tokens"][row] = request.decoded
        columns["outcome"][row] = outcome
        columns["reason"][row] = (
            self.reasons.setdefault(reason, len(self.reasons)) if reason else -1
        )
        columns["gap"][row] = request.gap
        columns["preemptions"][row] = request.drops + request.pauses
        columns["recomputed_tokens"][row] = request.recomputed
        columns["cached_tokens"][row] = max(request.cached, 0)
        columns["replica"][row] = replica

    def finish(self, workload: Workload) -> RequestColumns:
        """Return the columns as arrays, with what the workload said of each row."""
        made = {
            name: np.frombuffer(column, dtype=np.int64) for name, column in self.columns.items()
        }
        return RequestColumns(
            **made,
            prompt_tokens=np.array(workload.prompt, dtype=np.int64),
            tenant=np.array(workload.tenant, dtype=np.int64),
            slo_class=np.array(workload.slo_class, dtype=np.int64),
            program=np.array(workload.program, dtype=np.int64),
            turn=np.array(workload.turn, dtype=np.int64),
            last_turn=(np.array(workload.following, dtype=np.int64) < 0).astype(np.int64),
            priority=np.zeros(len(workload), dtype=np.int64),
        )


def step_columns(rows: list[array[int]]) -> StepColumns:
    """Return the step rows of all replicas, in order of start, then replica."""
    tables = [
        np.pad(
            np.frombuffer(part, dtype=np.int64).reshape(-1, ROW_FIELDS),
            ((0, 0), (0, 1)),
            constant_values=index,
        )
        for index, part in enumerate(rows)
        if part
    ]
    width = len(fields(StepColumns))
    table = np.concatenate(tables) if tables else np.empty((0, width), dtype=np.int64)
    if len(tables) > 1:
        table = table[np.lexsort((table[:, -1], table[:, 0]))]
    columns = np.ascontiguousarray(table.T)
    return StepColumns(*columns)


def transition_columns(
    logs: list[list[tuple[int, int, int]]], row_of: list[int]
) -> TransitionColumns:
    """Return the state changes of all replicas in order of time."""
    tables = [
        np.column_stack([np.array(log, dtype=np.int64), np.full(len(log), index)])
        for index, log in enumerate(logs)
        if log
    ]
    table = np.concatenate(tables) if tables else np.empty((0, 4), dtype=np.int64)
    table = table[np.argsort(table[:, 0], kind="stable")]
    rows: IntArray = np.array(row_of, dtype=np.int64)
    return TransitionColumns(
        time=table[:, 0].copy(),
        request=rows[table[:, 1]] if len(table) else table[:, 1].copy(),
        state=table[:, 2].copy(),
        replica=table[:, 3].copy(),
    )
