"""A vLLM engine as the rollout machine sees it: submissions and aborts in, events out.

Every submission is a request of its own with its own name, never one of several siblings, so that
each can be aborted alone. A rollout goes on from token ids, never from text. Nothing that the
engine hands out is lost:

* An abort first reaches the engine core, then waits until all output that was on its way has
  arrived, and only then ends the request. Cancelling the task that waits for a request, or
  aborting it in the front end alone, would throw that output away.
* When an engine dies, what had arrived for each request is told before the loss.
* Tokens are tagged with the version of the weights that sampled them, as vLLM itself counts it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from logging import getLogger
from time import monotonic_ns
from typing import Any, Final, Literal, TypeVar

from sojourn.decide.clock import SECOND, Time
from sojourn.rollout import events
from sojourn.rollout.actions import Submit
from sojourn.rollout.events import Event, Pieces
from sojourn.rollout.model import Piece
from sojourn.rollout.needs import VLLM_ROLLOUTS, RolloutNeed
from sojourn.vllm import compat_engine as compat
from sojourn.vllm.compat_engine import AsyncLLM, EngineCounts, EngineDeadError
from sojourn.vllm.sampling import Sampling
from sojourn.vllm.weights import Weights

logger = getLogger("sojourn.vllm")

Result = TypeVar("Result")
PauseMode = Literal["abort", "wait", "keep"]

PICOSECONDS_EACH: Final = 1000  # in a nanosecond
REASONS: Final = {"stop": events.STOP, "repetition": events.STOP, "length": events.LENGTH}
"""What vLLM's reasons mean; any other but an abort is an error."""


class EngineGone(Exception):
    """An engine died while it was asked for something."""


def clock() -> Time:
    """Return a time that never goes back."""
    return monotonic_ns() * PICOSECONDS_EACH


@dataclass(slots=True)
class Flight:
    """A submission that an engine has.

    Attributes:
        submit: What was asked.
        sampled: Sampled tokens of the rollout before it.
        name, internal: Its request's name, and vLLM's own name of it once it has one.
        ids, logprobs: Output that vLLM has handed over.
        told: How many tokens of it events have told.
        reports: Totals of sampled tokens at which progress is still to be told.
        is_doomed: Whether an abort was asked for.
        task: What waits for the output.
    """

    submit: Submit
    sampled: int
    name: str
    reports: list[int]
    internal: str = ""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    told: int = 0
    is_doomed: bool = False
    task: asyncio.Task[None] | None = None


def pieces(output: compat.Output, told: int) -> Pieces:
    """Return output from a token on, cut where the weights changed."""
    ends = [*(start for _, start in output.starts[1:]), len(output.ids)]
    made = []
    for (version, start), end in zip(output.starts, ends, strict=False):  # no output, no start
        begin = max(start, told)
        if begin < end:
            ids, logprobs = tuple(output.ids[begin:end]), tuple(output.logprobs[begin:end])
            made.append(Piece(end - begin, version, ids, logprobs))
    assert sum(one.tokens for one in made) == len(output.ids) - told, "every token has a version"
    return tuple(made)


class RolloutEngine:
    """One `AsyncLLM` and the rollouts that it has.

    Attributes:
        llm, counts: vLLM's engine and its own counts, as `compat_engine.start_llm` makes them.
        index: Its number in events.
        tell: Takes every event, in order.
        sampling: How tokens are sampled.
        load_seconds: Least time between two reports of load.
        version: Of its weights.
        flights: Submissions that it has, by rollout.
        told_tokens: Tokens in all events so far.
        is_lost: Whether it died.
    """

    def __init__(
        self,
        llm: AsyncLLM,
        counts: EngineCounts,
        tell: Callable[[Event], None],
        index: int = 0,
        sampling: Sampling | None = None,
        load_seconds: float = 0.1,
    ) -> None:
        self.llm = llm
        self.counts = counts
        self.index = index
        self.tell = tell
        self.sampling = sampling or Sampling()
        self.load_seconds = load_seconds
        self.version = 0
        self.flights: dict[int, Flight] = {}
        self.told_tokens = 0
        self.is_lost = False
        self._is_closed = False
        self._gone = asyncio.Event()
        self._doomed: list[Flight] = []
        self._reaper: asyncio.Task[None] | None = None
        self._reported: Time = 0
        self._counted_before = 0
        compat.check_config(llm, self.sampling)

    @property
    def offers(self) -> frozenset[RolloutNeed]:
        """What policies may need of it; priorities only if vLLM was told to heed them.

        The one feature of a running rollout is the mean log-probability of its tokens so far.
        """
        without = frozenset() if compat.serves_priorities(self.llm) else {RolloutNeed.PRIORITY}
        return (VLLM_ROLLOUTS | {RolloutNeed.FEATURES}) - without

    async def start(self, version: int = 0) -> None:
        """Label the weights that it has, and tell that it is up."""
        self.version = version
        self._counted_before = self.counts.generated - self.told_tokens
        await self.llm.update_weight_version(str(version))
        compat.on_end(self.llm, self._lose)
        self.counts.changed = self._report
        seats, kv = compat.seats(self.llm), compat.kv_tokens(self.llm)
        self.tell(events.EngineUp(clock(), self.index, version, seats, kv))

    def submit(self, submit: Submit, prompt: Sequence[int], sampled: int = 0) -> None:
        """Send a rollout, to go on behind its prompt and all it has.

        Args:
            submit: The machine's action.
            prompt: Ids of the prompt.
            sampled: Sampled tokens that it has already; `report_at` counts them.
        """
        assert submit.rid not in self.flights, "a rollout is in one place"
        if self.is_lost:
            return  # the machine has not read of the loss yet, which takes the rollout back
        flight = Flight(
            submit=submit,
            sampled=sampled,
            name=f"rollout-{submit.rid}-{submit.attempt}",
            reports=sorted(at for at in submit.report_at if at > sampled),
        )
        self.flights[submit.rid] = flight
        flight.task = asyncio.ensure_future(self._fly(flight, [*prompt, *submit.prefix]))

    def abort(self, rid: int, attempt: int) -> None:
        """Stop a submission; the answer has all its output. A second time, or late: nothing."""
        flight = self.flights.get(rid)
        if flight is None or flight.submit.attempt != attempt or flight.is_doomed:
            return
        flight.is_doomed = True
        if flight.internal:  # else as soon as vLLM has it
            self._doom(flight)

    async def update(
        self, version: int, weights: Weights, mode: PauseMode = "keep", clear_cache: bool = True
    ) -> None:
        """Load new weights.

        Args:
            version: Their version, above the present one.
            weights: Where they come from.
            mode: What happens to requests meanwhile: `keep` lets them go on under the new weights,
                `abort` gives them back with their output, `wait` lets them end first.
            clear_cache: Whether KV of the old weights is dropped. With `keep`, what runs is then
                computed anew under the new weights; without, its context stays as it was.

        Raises:
            EngineGone: If it dies meanwhile; that is told too.
            Exception: What `weights` raise. The engine then counts as lost: it has told all output,
                and is only good for being closed.
        """
        assert version > self.version, "versions only go up"
        self.tell(events.WeightsPending(clock(), version, self.index))
        await self._unless_gone(self.llm.pause_generation(mode=mode, clear_cache=clear_cache))
        await self._unless_gone(self._settle())
        try:
            await self._unless_gone(weights.load(self.llm))
        except BaseException:
            self._lose()  # nobody knows which weights it has; it stays paused
            raise
        await self._unless_gone(self.llm.update_weight_version(str(version)))
        await self._unless_gone(self.llm.resume_generation())
        self.version = version
        self.tell(events.WeightsLive(clock(), version, self.index))

    async def close(self) -> None:
        """Stop what runs, tell its output, and shut the engine down."""
        for flight in list(self.flights.values()):
            self.abort(flight.submit.rid, flight.submit.attempt)
        tasks = [one.task for one in self.flights.values() if one.task is not None]
        if tasks:
            await asyncio.wait(tasks)
        self._is_closed = True
        self.llm.shutdown()

    def check_balance(self) -> None:
        """Refuse a difference between what vLLM counted and what events told; when idle."""
        assert not self.flights, "tokens are still on their way"
        counted = self.counts.generated - self._counted_before
        assert counted == self.told_tokens, f"vLLM counts {counted}, events told {self.told_tokens}"

    async def _fly(self, flight: Flight, ids: list[int]) -> None:
        """See one submission through."""
        submit = flight.submit
        if len(ids) >= compat.context_tokens_max(self.llm):
            self._end(flight, (), events.LENGTH)
            return
        params = compat.parameters(submit.max_new, bool(flight.reports), self.sampling)
        try:
            queue = await self.llm.add_request(
                flight.name, {"prompt_token_ids": ids}, params, priority=submit.priority
            )
            flight.internal = queue.request_id
            self.tell(events.Started(clock(), submit.rid, submit.attempt))
            if flight.is_doomed:
                self._doom(flight)
            finished = False
            while not finished:
                output = queue.get_nowait() or await queue.get()
                finished = output.finished
                self._take(flight, output.outputs[0], finished)
        except EngineDeadError:
            self._lose()
        except Exception:  # whatever it is, the others go on
            if self.llm.errored:
                self._lose()
                return
            logger.exception("sojourn: rollout %d cannot go on", submit.rid)
            left = compat.so_far(self.llm, flight.internal)
            await self.llm.abort(flight.name)
            self._end(flight, pieces(left, flight.told) if left else (), events.ERROR)

    def _take(self, flight: Flight, completion: Any, finished: bool) -> None:
        """Take in what vLLM hands over, and tell it if it is due."""
        ids, logprobs = compat.new_output(completion)
        flight.ids += ids
        flight.logprobs += logprobs
        if finished:
            starts = compat.starts(completion)
            told = pieces(compat.Output(flight.ids, flight.logprobs, starts), flight.told)
            self._end(flight, told, completion.finish_reason)
            return
        total = flight.sampled + len(flight.ids)
        if flight.reports and flight.reports[0] <= total:
            known = compat.so_far(self.llm, flight.internal)
            if known is not None:  # else its end is on the way
                total = flight.sampled + len(known.ids)
                flight.reports = [at for at in flight.reports if at > total]
                self._tell_progress(flight, known)

    def _tell_progress(self, flight: Flight, output: compat.Output) -> None:
        made, submit = pieces(output, flight.told), flight.submit
        if made:
            start = submit.prefix_tokens + flight.told
            flight.told = len(output.ids)
            self.told_tokens += sum(one.tokens for one in made)
            mean = sum(output.logprobs) / len(output.logprobs)
            self.tell(events.Progress(clock(), submit.rid, submit.attempt, start, made, (mean,)))

    def _end(self, flight: Flight, made: Pieces, reason: str) -> None:
        """Tell the end of a submission, with what had not been told."""
        submit = flight.submit
        if self.flights.get(submit.rid) is flight:
            del self.flights[submit.rid]
        start = submit.prefix_tokens + flight.told
        self.told_tokens += sum(one.tokens for one in made)
        if reason == "abort":
            self.tell(events.Aborted(clock(), submit.rid, submit.attempt, start, made))
        else:
            word = REASONS.get(reason, events.ERROR)
            self.tell(events.Finished(clock(), submit.rid, submit.attempt, start, made, word))

    def _doom(self, flight: Flight) -> None:
        self._doomed.append(flight)
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.ensure_future(self._reap())

    async def _reap(self) -> None:
        """Abort what is doomed, all of it at once, without losing output that is on its way."""
        while self._doomed and not self.is_lost:
            doomed, self._doomed = self._doomed, []
            try:
                await compat.abort_in_core(self.llm, [one.internal for one in doomed])
                await self._arrived()
                await self.llm.abort([one.name for one in doomed])
            except EngineDeadError:
                self._lose()

    async def _arrived(self) -> None:
        """Wait until output of everything asked so far is here: an answer comes behind it."""
        await self.llm.get_weight_version()
        await compat.drained(self.llm)

    async def _settle(self) -> None:
        """Let what a pause has ended be told before the weights change."""
        await self._arrived()
        over = [
            one.task
            for one in self.flights.values()
            if one.task is not None and one.internal and not compat.is_known(self.llm, one.internal)
        ]
        if over:
            await asyncio.wait(over)

    async def _unless_gone(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for something of which a dead engine would never answer."""
        asked = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                return asked.result()
        except EngineDeadError:
            self._lose()
        finally:
            gone.cancel()
            asked.cancel()
        raise EngineGone(f"engine {self.index} died")

    def _lose(self) -> None:
        """Tell all output that had arrived, and then that the engine is gone."""
        if self.is_lost or self._is_closed:
            return
        self.is_lost = True
        self._gone.set()
        if self._reaper is not None and self._reaper is not asyncio.current_task():
            self._reaper.cancel()
        for flight in self.flights.values():
            left = compat.so_far(self.llm, flight.internal)
            if left is not None:
                self._tell_progress(flight, left)
            if flight.task is not None and flight.task is not asyncio.current_task():
                flight.task.cancel()  # its output is told
        self.flights.clear()
        self.tell(events.EngineLost(clock(), self.index))

    def _report(self) -> None:
        """Tell the load, not too often."""
        now, counts = clock(), self.counts
        if now - self._reported >= self.load_seconds * SECOND and not self.is_lost:
            self._reported = now
            self.tell(
                events.EngineLoad(
                    now, self.index, counts.kv, counts.running, counts.waiting, counts.preemptions
                )
            )
