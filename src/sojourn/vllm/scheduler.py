"""The scheduler class for stock vLLM: `--scheduler-cls sojourn.vllm.Scheduler`.

It shows vLLM's own `schedule()` the requests that a plan chose and lets it do the rest. It holds
what vLLM does not know of: requests without a seat whose KV is kept, and finished requests whose KV
is held. Whatever goes wrong in a policy, the step is served in stock order.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from logging import getLogger
from typing import Any, Final

from sojourn.decide.clock import Time, from_seconds
from sojourn.decide.limits import EngineLimits
from sojourn.vllm import compat
from sojourn.vllm.callers import Callers
from sojourn.vllm.chunks import ASKED, ChunkLimits, chunk_limits
from sojourn.vllm.counters import Counters, gauges
from sojourn.vllm.difference import Differences
from sojourn.vllm.draft import LiveDraft
from sojourn.vllm.host import Host
from sojourn.vllm.learned import LearnedStepTime
from sojourn.vllm.logs import open_log, reopen_log
from sojourn.vllm.metrics import DecisionMetrics
from sojourn.vllm.plugin import identity_key
from sojourn.vllm.recording import Life, Recording
from sojourn.vllm.requests import LiveRequest
from sojourn.vllm.settings import Settings
from sojourn.vllm.shadow import Imagined
from sojourn.vllm.steps import Body, Step
from sojourn.vllm.streaming import RefusedSessions
from sojourn.vllm.tallies import Tallies
from sojourn.vllm.waiting import OfferedQueue

logger = getLogger("sojourn.vllm")

PUBLISH_SECONDS: Final = 1.0
"""How often numbers go to `/metrics`."""

FAILURES_MAX: Final = 3
"""Failures of a recipe without a good step between them, after which it is switched off."""


class Scheduler(compat.AsyncScheduler):
    """vLLM's scheduler, in the order that a recipe decides.

    Attributes:
        parked: Running requests without a seat, KV kept, by id; vLLM's running list lacks them.
        holding: Finished requests whose KV is held, by id.
        shed: Waiting requests that the recipe refused; the coming output ends them.
        sessions: Refused sessions of streaming input, of which more may come.
        mode, wanted: The mode in force, which is `off` after too many failures, and the one that
            was last asked for.
        host: The decide layer; None when switched off, or to be made anew.
    """

    def __init__(self, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        compat.check()
        compat.check_config(vllm_config)
        self.settings = Settings.of(vllm_config)
        super().__init__(vllm_config, *args, **kwargs)
        self.waiting: OfferedQueue = OfferedQueue()
        self.parked: OrderedDict[str, compat.Request] = OrderedDict()
        self.holding: dict[str, compat.Request] = {}
        self.shed: dict[str, compat.Request] = {}
        self.sessions = RefusedSessions()
        self.host: Host | None = None
        self.failures = 0
        self.numbers = 0
        self.begun = time.monotonic()
        self.counters = Counters()
        self.tallies = Tallies()
        self.metrics = DecisionMetrics.of(vllm_config)
        self.next_publish = 0.0
        self.callers = Callers(self.settings.rules, identity_key())
        self.limits = EngineLimits(
            num_gpu_blocks=compat.usable_blocks(self),
            block_size=self.block_size,
            max_num_seqs=self.max_num_active_reqs,
            max_num_batched_tokens=self.max_num_scheduled_tokens,
            max_model_len=self.max_model_len,
            enable_prefix_caching=self.cache_config.enable_prefix_caching,
        )
        self.mode = self.wanted = self.settings.mode.now()
        times = self.settings.step_time
        learn = times.learn if isinstance(times, LearnedStepTime) else None
        self.recording = Recording(open_log(self, 0), learn, self.hash_block_size)
        self.differences = Differences(self.recording.log)
        self.switches = 0
        self._make_host()
        self._publish()

    def now(self) -> Time:
        """Return the time since the scheduler was made."""
        return from_seconds(time.monotonic() - self.begun)

    def schedule(self, throttle_prefills: bool = False) -> compat.SchedulerOutput:
        """Plan a step as the recipe decides; in stock order where it does not."""
        start = self.now()
        began = time.perf_counter()
        self._switch()
        self._make_host_again()
        draft = imagined = None
        if self.pause_state == compat.PauseState.UNPAUSED:
            if self.mode == "act":
                draft = self._guarded(self._plan)
            elif self.mode == "shadow":
                imagined = self._guarded(Host.imagine, self.now())
        if draft is None:
            self._show_stock()
        decided = time.perf_counter()
        output = super().schedule(throttle_prefills)
        planned = time.perf_counter()
        self.waiting.offer = None
        self._limit_chunks(None)
        step = self._guarded(self._observe, output, draft is not None, imagined)
        ended = time.perf_counter()
        self.counters.step(self.mode, decided - began + ended - planned)
        self._record(output, start, None if step is None else step.context)
        if ended >= self.next_publish:
            self.next_publish = ended + PUBLISH_SECONDS
            self._publish()
        return output

    def _record(self, output: compat.SchedulerOutput, start: Time, context: int | None) -> None:
        used = self.limits.num_gpu_blocks - self.kv_cache_manager.block_pool.get_num_free_blocks()
        state = (len(self.waiting), len(self.parked), used)
        self.recording.planned(output, start, context, self.requests, state)

    def _publish(self) -> None:
        """Show the numbers so far on `/metrics` and to the step log."""
        self.counters.differences = self.differences.steps
        self.metrics.publish(self.counters.numbers(self.mode, gauges(self)))
        self.tallies.tell(self.recording.log, self.counters, self.recording.own_seconds)

    def _publish_at_rest(self) -> None:
        """Show what is left when nobody is: no step will come to do it."""
        if self.get_num_unfinished_requests() == 0:
            self._publish()

    def _plan(self, host: Host) -> LiveDraft:
        """Let the recipe plan, and put before vLLM what it chose."""
        draft = host.decide(self.now())
        for request in draft.resumed:
            self._unpark(request)
        self.waiting.offer = compat.fitting(
            self, [r.vllm for r in draft.newcomers if r.vllm.request_id in self.waiting.queued]
        )
        self._limit_chunks(chunk_limits(host, draft))
        return draft

    def _show_stock(self) -> None:
        """Put everything before vLLM, in its own order, within its limits."""
        self.waiting.offer = None
        self._limit_chunks(None)
        for name, request in list(self.parked.items()):
            if len(self.running) >= self.max_num_active_reqs:
                return
            if compat.adapter_fits(self, request):
                self.running.append(self.parked.pop(name))
                self.recording.joined(name, self.now())
                self.counters.resumes += 1

    def _observe(
        self,
        host: Host,
        output: compat.SchedulerOutput,
        planned: bool,
        imagined: Imagined | None,
    ) -> Step:
        now = self.now()
        step = host.observe(output, planned, now)
        if imagined is not None:
            self.differences.note(host, imagined, step, now)
        elif planned:
            self.differences.steps += host.followed
        self.failures = 0
        return step

    def _limit_chunks(self, limits: ChunkLimits | None) -> None:
        """Have `schedule()` cut chunks to what the plan gives, or do as it does by itself."""
        if limits is None:
            self.__dict__.pop(ASKED, None)
        else:
            self.__dict__[ASKED] = limits.around(super()._reserve_prefill_lookahead)

    def update_from_output(
        self, scheduler_output: compat.SchedulerOutput, model_runner_output: Any
    ) -> Any:
        """Take the sampled tokens; end the requests that the recipe refused."""
        self._guarded(Host.settle, self.now(), scheduler_output)
        if self.shed:
            self.grammar_compile_error_reqs.update(self.shed)
            self.shed.clear()
        self.recording.landed(scheduler_output, self.now())
        result = super().update_from_output(scheduler_output, model_runner_output)
        self.recording.rest(self.get_num_unfinished_requests() > 0)
        self._publish_at_rest()
        return result

    def add_request(self, request: compat.Request) -> None:
        """Take a new request, or more of a session of streaming input."""
        if request.request_id in self.holding:
            self._free_all_held()  # it ended: its id may come again
        known = request.request_id in self.requests
        super().add_request(request)
        if known:
            return
        if self.sessions.goes_on(request):
            self._end_refused(request)
            return
        self.numbers += 1
        caller = self.callers.who(request)
        mirror = LiveRequest(self.numbers, self.now(), request)
        self.callers.mark(mirror, caller, mirror.arrival)
        start = max(0, self.callers.sent(request, mirror.arrival))
        life = Life(self.numbers, start, caller, mirror.program)
        self.recording.arrived(request, life)
        if request.resumable:
            self.sessions.refuse(request)
            self._shed(request, "streaming input")
            return
        self._guarded(Host.arrive, mirror, mirror.arrival)

    def _free_request(
        self, request: compat.Request, delay_free_blocks: bool = False
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Let a finished request go, or hold its KV if the recipe says so."""
        self.parked.pop(request.request_id, None)
        self.shed.pop(request.request_id, None)
        held = bool(self._guarded(Host.end, request, self.now())) and not delay_free_blocks
        if held:
            self.holding[request.request_id] = request
        self.recording.ended(request, self.now())
        result: tuple[Any, Any] = super()._free_request(request, delay_free_blocks or held)
        self._publish_at_rest()
        return result

    def get_request_counts(self) -> tuple[int, int]:
        """Return how many requests run, paused ones included, and how many wait."""
        running, waiting = super().get_request_counts()
        return running + len(self.parked), waiting + len(self.shed)

    def reset_prefix_cache(
        self, reset_running_requests: bool = False, reset_connector: bool = False
    ) -> bool:
        """Empty the prefix cache; held KV is given back for it, paused requests are dropped."""
        self._free_all_held()
        if reset_running_requests:
            self.running.extend(self.parked.values())
            self.parked.clear()
            self.host = None
        return bool(super().reset_prefix_cache(reset_running_requests, reset_connector))

    def _body(self) -> Body:
        return Body(self._drop, self._park, self._unpark, self._free_held, self._shed_live)

    def _drop(self, request: LiveRequest) -> None:
        name = request.vllm.request_id
        if self.parked.pop(name, None) is None:
            self.running.remove(request.vllm)
        self.recording.dropping(request.vllm)
        compat.preempt(self, request.vllm, time.monotonic())
        self.counters.drops += 1

    def _park(self, request: LiveRequest) -> None:
        self.running.remove(request.vllm)
        self.parked[request.vllm.request_id] = request.vllm
        self.recording.parked(request.vllm.request_id, self.now())
        self.counters.pauses += 1

    def _unpark(self, request: LiveRequest) -> None:
        if self.parked.pop(request.vllm.request_id, None) is not None:
            self.running.append(request.vllm)
            self.recording.joined(request.vllm.request_id, self.now())
            self.counters.resumes += 1

    def _free_held(self, request: LiveRequest) -> None:
        held = self.holding.pop(request.vllm.request_id, None)
        if held is not None:
            self._free_blocks(held)

    def _free_all_held(self) -> None:
        self._guarded(Host.let_go, self.now())
        for name in list(self.holding):
            self._free_blocks(self.holding.pop(name))

    def _shed_live(self, request: LiveRequest, reason: str) -> None:
        self._shed(request.vllm, reason)

    def _end_refused(self, request: compat.Request) -> None:
        self.waiting.remove_requests((request,))
        self.deferred_waiting.discard(request)
        self.shed[request.request_id] = request

    def _shed(self, request: compat.Request, reason: str) -> None:
        self._end_refused(request)
        self.recording.lives[request.request_id].shed = reason
        self.counters.shed[reason] = self.counters.shed.get(reason, 0) + 1

    def _switch(self) -> None:
        """Follow the mode file; a switch makes the host anew from vLLM's state."""
        wanted = self.settings.mode.now()
        if wanted != self.wanted:
            logger.warning("sojourn: mode %s -> %s", self.mode, wanted)
            self.mode = self.wanted = wanted
            self.failures = 0
            self.switches += 1
            self._lose_host()
            self._publish()
            self.recording.log = self.differences.log = reopen_log(self, self.recording.log)

    def _lose_host(self) -> None:
        """Forget the decide layer; what only it knew of is given back."""
        self.host = None
        self._free_all_held()

    def _make_host(self) -> None:
        """Make the decide layer anew and tell it of every request that vLLM has."""
        if self.mode == "off":
            return
        host = Host(
            self,
            self.settings.recipe,
            self.limits,
            self.settings.step_time,
            self._body(),
            compat.rows(self),
            self.mode == "act",
        )
        self.host = host
        self._guarded(self._adopt_all)

    def _make_host_again(self) -> None:
        """Make the decide layer anew if it was lost; what fails in that is a recipe's failure."""
        if self.host is None:
            try:
                self._make_host()
            except Exception as error:
                self._failed(error)

    def _adopt_all(self, host: Host) -> None:
        now = self.now()
        for request in [*self.parked.values(), *self.running, *self.waiting]:
            life = self.recording.lives[request.request_id]
            mirror = LiveRequest(life.number, now, request)
            self.callers.mark(mirror, life.caller, now)
            host.adopt(mirror, now, request.request_id in self.parked)

    def _guarded(self, act: Any, *args: Any) -> Any:
        """Call something of the recipe's; if it fails, vLLM goes on without it."""
        if self.host is None:
            return None
        try:
            return act(self.host, *args)
        except Exception as error:
            self._failed(error)
            return None

    def _failed(self, error: Exception) -> None:
        host = self.host
        self.failures += 1
        if self.counters.failed(error) and host is not None:
            past = list(host.machine.story)[-8:]
            logger.exception("sojourn: the recipe failed; this step is in stock order; %s", past)
        self._lose_host()
        if self.failures >= FAILURES_MAX:
            logger.error(
                "sojourn: the recipe failed %d times in a row and is switched off; "
                "switch the mode to try it again",
                self.failures,
            )
            self.mode = "off"

    def shutdown(self) -> None:
        """End the step log and the metrics, then vLLM's own parts."""
        self._publish()
        self.metrics.close()
        if self.recording.log is not None:
            self.recording.log.close()
        super().shutdown()
