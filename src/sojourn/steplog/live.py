"""The step log of a real engine: it takes rows in its loop, and a thread writes them to files.

Nothing here waits for a disk or raises into the engine: what cannot be written is counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from logging import getLogger
from multiprocessing.util import Finalize
from queue import Empty, Full, Queue
from secrets import token_hex
from threading import RLock, Thread
from time import monotonic, thread_time_ns
from typing import Any, Final

from sojourn.steplog.config import LiveConfig, LiveRun
from sojourn.steplog.record import RunRecord, SloClass
from sojourn.steplog.rotate import NumberedFiles
from sojourn.steplog.rows import EndedRequest, Rows
from sojourn.steplog.write import Part, table_of

__all__ = ["EndedRequest", "LiveConfig", "LiveLog", "LiveRun"]

SAMPLED: Final = 61
"""One call of so many is timed: a prime, so that it keeps no step with a batch's rhythm."""

NAMES_MAX: Final = 4096
"""Different tenants, classes or reasons that a log tells apart; further ones are one."""

OTHERS: Final = "(others)"
PARTS_WAITING_MAX: Final = 4
"""Files that may wait to be written; rows beyond are lost rather than kept in memory."""

CLOSE_SECONDS: Final = 10.0
"""How long the end of the engine waits for the last file."""

logger = getLogger("sojourn.steplog")


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows on their way to a file, with all that was known when they were complete."""

    rows: Rows
    number: int
    complete: bool
    names: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    decisions: int
    decision_seconds: float


class LiveLog:
    """The log of one engine: one thread adds rows, another writes the files.

    Attributes:
        decisions: Plans made so far; the engine counts.
        decision_seconds: CPU time that they took; the engine counts.
        caller_seconds: CPU time that the engine took to make rows; the engine counts. The files
            hold it as part of `recorder_seconds`.
        rows_lost: Rows that could not be taken or written.
        files_written: Files written so far.
    """

    def __init__(self, config: LiveConfig, run: LiveRun) -> None:
        self.config = config
        self.run = run
        self.decisions = 0
        self.decision_seconds = 0.0
        self.caller_seconds = 0.0
        self.rows_lost = 0
        self.files_written = 0
        self._files = NumberedFiles(config.folder, config.name, config.files_max)
        self._id = token_hex(8)
        self._process = os.getpid()
        self._lock = RLock()  # a signal may close the log in the middle of a call
        self._rows: Rows | None = None
        self._tenants: dict[str, int] = {}
        self._classes = {one.name: place for place, one in enumerate(run.classes)}
        self._reasons: dict[str, int] = {}
        self._batches: Queue[_Batch | None] = Queue(PARTS_WAITING_MAX)
        self._writer = Thread(target=self._write_all, name="sojourn-steplog", daemon=True)
        self._numbers = 0
        self._busy = 0
        self._opened = 0.0
        self._began = 0.0
        self._warned = False
        self._calls = 0
        self._countdown = SAMPLED
        self._samples = 0
        self._sampled_ns = 0
        self._exact_ns = 0
        self._writer_ns = 0

    def open(self) -> LiveLog:
        """Make the folder and begin to write; the log is closed at the process's end at latest.

        Raises:
            UserError: If the folder cannot be made.
        """
        # Imported now rather than in the writer, where it would take the interpreter from a
        # running engine for half a second.
        import_module("pyarrow.parquet")
        self._files.make_folder()
        self._rows = Rows()
        self._began = self._opened = monotonic()
        self._writer.start()
        # Unlike atexit this also runs at the end of a process that multiprocessing forked.
        self._finalizer = Finalize(None, self.close, exitpriority=10)
        return self

    def step(
        self,
        start: int,
        duration: int,
        prefill_tokens: int,
        prompts: int,
        decodes: int,
        waiting: int,
        paused: int,
        kv_used: int,
        pairs: int,
        prior: int,
        context: int,
    ) -> None:
        """Add a step; times in picoseconds (see `steplog.record.StepColumns`)."""
        row = (start, duration, prefill_tokens, prompts, decodes, waiting, paused)
        self._put(Rows.step, *row, kv_used, pairs, prior, context)

    def state(self, time: int, request: int, state: int) -> None:
        """Add that a request, by its number, entered a state of the run's `states`."""
        self._put(Rows.state, time, request, state)

    def difference(self, time: int, request: int, difference: int, tokens: int) -> None:
        """Add what the recipe would have done otherwise; an index into `record.DIFFERENCES`."""
        self._put(Rows.difference, time, request, difference, tokens)

    def request(self, row: EndedRequest, prefix: Sequence[int] | Sequence[bytes] = ()) -> None:
        """Add a request that ended, with the ids of its prompt's full blocks.

        Ids are int64, or hashes of at least eight bytes each, all of one length.
        """
        began = thread_time_ns()
        full = self._take(self._add_request, row, prefix)
        self._exact_ns += thread_time_ns() - began
        if full:
            self._rotate_timed()

    def close(self) -> None:
        """Write what is left, as the run's last file; rows that come later are lost."""
        if self._rows is None or os.getpid() != self._process:
            return
        self._finalizer.cancel()
        self._rotate(last=True)
        try:
            self._batches.put(None, timeout=CLOSE_SECONDS)
        except Full:
            return
        self._writer.join(CLOSE_SECONDS)

    @property
    def cpu_seconds(self) -> float:
        """CPU time that the log took so far, its writer included.

        Calls for requests are timed; of the others one in `SAMPLED` is and stands for the rest.
        Reading the clock is counted in, so that the number errs upwards.
        """
        scaled = self._sampled_ns * self._calls / max(self._samples, 1)
        return (scaled + self._exact_ns + self._writer_ns) / 1e9

    @property
    def step_seconds(self) -> float:
        """Sum of the durations of all steps so far."""
        rows = self._rows
        return (self._busy + (0 if rows is None else rows.busy)) / 1e12

    def _put(self, add: Callable[..., None], *row: Any) -> None:
        """Add a row; once in `SAMPLED` calls also time it."""
        self._calls += 1
        self._countdown -= 1
        if self._countdown:
            full = self._take(add, *row)
        else:
            began = thread_time_ns()
            full = self._take(add, *row)
            self._sampled_ns += thread_time_ns() - began
            self._samples += 1
            self._countdown = SAMPLED
        if full:
            self._rotate_timed()

    def _take(self, add: Callable[..., None], *row: Any) -> bool:
        """Add a row; return whether a new file must begin."""
        try:
            with self._lock:
                rows = self._rows
                if rows is None:
                    self.rows_lost += 1
                    return False
                add(rows, *row)
                return rows.size >= self.config.rows_max
        except Exception as error:
            # Whatever it is, the engine must go on.
            self._lose(1, error)
            return False

    def _rotate_timed(self) -> None:
        began = thread_time_ns()
        self._rotate()
        self._exact_ns += thread_time_ns() - began

    def _add_request(
        self, rows: Rows, row: EndedRequest, prefix: Sequence[int] | Sequence[bytes]
    ) -> None:
        reason = _index(self._reasons, row.reason) if row.reason else -1
        names = (_index(self._tenants, row.tenant), _index(self._classes, row.slo_class))
        rows.request(row, prefix, reason, *names)

    def _lose(self, rows: int, error: Exception) -> None:
        """Count rows that are lost, and say so the first time."""
        self.rows_lost += rows
        if not self._warned:
            self._warned = True
            logger.warning("sojourn: rows of the step log are lost: %s", error)

    def _rotate(self, last: bool = False) -> None:
        """Hand the rows to the writer and begin anew; without rows only at the end."""
        with self._lock:
            rows = self._rows
            if rows is None or not (rows.size or (last and self._numbers)):
                self._rows = None if last else rows
                return
            self._rows = None if last else Rows()
            self._busy += rows.busy
            self._began = monotonic()
            self._numbers += 1
            batch = _Batch(
                rows,
                self._numbers,
                last,
                (tuple(self._reasons), tuple(self._tenants), tuple(self._classes)),
                self.decisions,
                self.decision_seconds,
            )
        try:
            self._batches.put(batch, timeout=CLOSE_SECONDS if last else 0)
        except Full:
            self._lose(rows.size, OSError("the disk is too slow"))

    def _write_all(self) -> None:
        """Write batches until the log is closed; begin a new file when the time has come."""
        while True:
            try:
                due = self._began + self.config.seconds_max - monotonic()
                batch = self._batches.get(timeout=max(due, 0.0))
            except Empty:
                self._rotate()
                self._began = monotonic()
                self._writer_ns = thread_time_ns()
                continue
            if batch is None:
                return
            try:
                self._files.write(self._table(batch))
                self.files_written += 1
            except Exception as error:
                # A full disk today may have room tomorrow.
                self._lose(batch.rows.size, error)
            self._writer_ns = thread_time_ns()

    def _table(self, batch: _Batch) -> Any:
        """Return a batch as a table of the file's schema."""
        run, rows = self.run, batch.rows
        self._writer_ns = thread_time_ns()
        reasons, tenants, classes = batch.names
        numbers, requests = rows.request_columns(run.replica)
        record = RunRecord(
            recipe=run.recipe,
            load=None,
            rate_scale=1.0,
            deployable=run.deployable,
            complete=batch.complete,
            kv_blocks=run.kv_blocks,
            requests=requests,
            steps=rows.step_columns(run.replica),
            transitions=rows.transition_columns(run.replica),
            tenants=tenants,
            classes=(*run.classes, *map(SloClass, classes[len(run.classes) :])),
            reasons=reasons,
            states=run.states,
            decisions=batch.decisions,
            decision_seconds=batch.decision_seconds,
            wall_seconds=monotonic() - self._opened,
            notes=dict(run.notes),
            differences=rows.difference_columns(run.shadow),
            block_tokens=run.block_tokens,
            host=run.host,
            engine=run.engine,
            started_unix_seconds=run.started_unix_seconds,
            recorder_seconds=self.cpu_seconds + self.caller_seconds,
        )
        prefix = rows.prefixes() if run.block_tokens else None
        part = Part(self._id, batch.number, numbers, prefix, self.rows_lost)
        return table_of(record, run.source, part)


def _index(names: dict[str, int], name: str) -> int:
    """Return the index of a name, added if it is new and there is room."""
    if name not in names and len(names) >= NAMES_MAX:
        name = OTHERS
    return names.setdefault(name, len(names))
