"""Our scheduler class without a model, in virtual time; and either class with a step of lag.

With asynchronous scheduling vLLM plans step k + 1 before it knows the tokens of step k. `LagEngine`
drives a scheduler in that order, as `EngineCore.step_with_batch_queue` does.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from plan_families import Case
from plan_rows import PlanRow
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler as StockScheduler
from vllm.v1.outputs import ModelRunnerOutput
from vllm_stub import FIRST_PRIVATE, StubEngine, make_scheduler

from sojourn.decide.clock import Time
from sojourn.vllm.scheduler import Scheduler


def make_ours(case: Case, settings: dict[str, Any]) -> Scheduler:
    """Return our scheduler class under a case's limits, with its cost model."""
    with NamedTemporaryFile("w", suffix=".toml", delete=False) as file:
        file.write(case.cost.coefficients.to_toml())
    try:
        return make_scheduler(case.limits, Scheduler, {"cost": file.name, **settings})
    finally:
        Path(file.name).unlink()


IDLE_STEPS_MAX = 200
"""Steps without a token in a whole run, after which it counts as stuck."""

IDLE_TIME = 10**9
"""A step without tokens takes a millisecond."""

NOTHING = ModelRunnerOutput(req_ids=[], req_id_to_index={}, sampled_token_ids=[])


class PluginEngine(StubEngine):
    """A stub engine whose scheduler reads the virtual clock."""

    def __init__(self, case: Case, settings: dict[str, Any]) -> None:
        ours = make_ours(case, settings)
        super().__init__(case.workload, case.limits, case.cost, ours)
        self.clock: Time = 0
        self.ours = ours
        self.idle = 0
        ours.now = lambda: self.clock

    def _step(self, now: Time) -> Time:
        self.clock = now
        if not self.ours.get_num_unfinished_requests():
            return now
        return super()._step(now)

    def _nothing_ran(self, output: SchedulerOutput, now: Time) -> Time:
        """Allow what a switch of the mode, or a request that is refused, may take."""
        self.idle += 1
        assert self.idle < IDLE_STEPS_MAX, "requests wait and nothing runs"
        self.scheduler.update_from_output(output, NOTHING)
        return now + IDLE_TIME

    def _duration(self, row: PlanRow) -> Time:
        duration = super()._duration(row)
        self.clock = row.start + duration
        return duration


class LagEngine(StubEngine):
    """A scheduler that learns the tokens of a step after it has planned the next one."""

    def __init__(self, case: Case, scheduler: StockScheduler) -> None:
        super().__init__(case.workload, case.limits, case.cost, scheduler)
        self.clock: Time = 0
        self.ended: Time = 0
        self.idle = 0
        self.flying: deque[tuple[Any, ModelRunnerOutput, PlanRow, Time]] = deque()
        if isinstance(scheduler, Scheduler):
            scheduler.now = lambda: self.clock

    def run(self) -> None:
        """Serve the whole workload."""
        starts = deque(self.workload.starts(1.0))
        while True:
            while starts and starts[0][0] <= self.clock:
                self._add(starts.popleft()[1])
            if self.scheduler.has_requests():
                ran = self._launch()
                self.idle = 0 if ran else self.idle + 1
                self.clock += 0 if ran or self.flying else IDLE_TIME
                assert self.idle < IDLE_STEPS_MAX, "requests wait and nothing runs"
                if len(self.flying) < 2 and (ran or self.scheduler.has_requests()):
                    continue
            elif not self.flying:
                if not starts:
                    return
                self.clock = starts[0][0]
                continue
            if self.flying:
                self._land()

    def _launch(self) -> bool:
        output = self.scheduler.schedule()
        row = PlanRow(self.clock)
        row.preempted = self._preempted(output)
        self.decoding.difference_update(row.preempted)
        row.scheduled = self._scheduled(output)
        row.free_planned = self.pool.get_num_free_blocks()
        row.duration = self._duration(row) if row.scheduled else 0
        row.start = max(self.clock, self.ended)
        self.ended = row.start + row.duration
        self.flying.append((output, self._sample(row), row, self.ended))
        if row.scheduled:
            self.rows.append(row)
        return bool(row.scheduled)

    def _sample(self, row: PlanRow) -> ModelRunnerOutput:
        ids, sampled = [], []
        for index, _, _ in row.scheduled:
            request = self.scheduler.requests[str(index)]
            complete = not request.is_prefill_chunk
            if complete:
                self.decoding.add(index)
            ids.append(request.request_id)
            sampled.append([FIRST_PRIVATE + index] if complete else [])
        return ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={id: place for place, id in enumerate(ids)},
            sampled_token_ids=sampled,
        )

    def _land(self) -> None:
        output, sampled, row, end = self.flying.popleft()
        self.clock = max(self.clock, end)
        self.scheduler.update_from_output(output, sampled)
        row.finished = [r for r, _, _ in row.scheduled if str(r) not in self.scheduler.requests]
        row.free_ended = self.pool.get_num_free_blocks()
        for finished in row.finished:
            self.finish[finished] = end
        self.decoding.difference_update(row.finished)


def stock_async(case: Case) -> LagEngine:
    """Run vLLM's asynchronous scheduler over a case."""
    engine = LagEngine(case, make_scheduler(case.limits, AsyncScheduler))
    engine.run()
    return engine
