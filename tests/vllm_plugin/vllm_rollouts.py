"""Real engines behind the rollout adapter, and the event loop that they live in."""

from __future__ import annotations

import asyncio
import gc
import random
import warnings
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm_counting import NUMBER, counted

from sojourn.rollout.actions import Submit
from sojourn.rollout.events import Aborted, Event, Finished, Progress
from sojourn.vllm import compat_engine as compat
from sojourn.vllm.compat_engine import start_llm
from sojourn.vllm.rollout_loop import Observation, RolloutLoop
from sojourn.vllm.rollouts import EngineGone, RolloutEngine
from sojourn.vllm.sampling import Sampling
from sojourn.vllm.weights import Checkpoint, Transfer

__all__ = [
    "Checkpoint",
    "EngineGone",
    "Observation",
    "RolloutLoop",
    "Sampling",
    "Transfer",
    "compat",
]

GREEDY = Sampling(temperature=0.0, ignores_end=True)
SMALL: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 512,
    "block_size": 32,
    "num_gpu_blocks_override": 48,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 128,
    "logprobs_mode": "processed_logprobs",
    "scheduler_cls": "vllm_counting.CountingScheduler",
    "seed": 0,
}
WAIT_SECONDS_MAX = 300.0
LONG = 160
"""Tokens of a rollout that an abort or an update catches on its way."""


class Place:
    """An engine and the event loop that it is used in, which may be that of another one."""

    def __init__(
        self, folder: Path, count_file: Path, beside: Place | None = None, **changed: Any
    ) -> None:
        self.owns_loop = beside is None
        self.loop = beside.loop if beside else asyncio.new_event_loop()
        self.count_file = count_file
        count_file.write_bytes(bytes(NUMBER.size))
        shared = {"additional_config": {"count_file": str(count_file)}}
        args = AsyncEngineArgs(model=str(folder), **{**SMALL, **shared, **changed})
        self.llm, self.counts = self.run(_start(args))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, WAIT_SECONDS_MAX))

    def check(self, test: Callable[[Heard], Coroutine[Any, Any, None]]) -> None:
        """Run a test with a fresh adapter over the engine, and then compare all counts."""

        async def whole() -> None:
            before = self.core_generated
            heard = Heard(self)
            await heard.engine.start()
            await test(heard)
            await heard.over(*heard.engine.flights)
            await heard.engine._arrived()
            heard.engine.check_balance()
            assert self.core_generated - before == heard.engine.told_tokens
            assert heard.engine.told_tokens == sum(map(len, heard.output.values()))

        self.run(whole())

    @property
    def core_generated(self) -> int:
        """What the engine core has generated, by its scheduler's own count."""
        return counted(self.count_file)

    def close(self) -> None:
        """Stop the engine; what vLLM leaves open goes now, and not as a warning somewhere else."""

        async def shut() -> None:
            self.llm.shutdown(timeout=0.5)
            await asyncio.sleep(0)

        self.run(shut())
        del self.llm, self.counts
        if self.owns_loop:
            self.loop.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


async def _start(args: AsyncEngineArgs) -> Any:
    return start_llm(args)


class Heard:
    """An engine under the adapter and everything it told."""

    def __init__(self, place: Place, sampling: Sampling = GREEDY) -> None:
        self.place = place
        self.events: list[Event] = []
        self.new = asyncio.Event()
        self.engine = RolloutEngine(place.llm, place.counts, self.hear, 0, sampling)
        self.output: dict[int, list[int]] = {}
        self.logprobs: dict[int, list[float]] = {}
        self.versions: dict[int, list[tuple[int, int]]] = {}

    def hear(self, event: Event) -> None:
        """Take in an event; output must come in order, none of it twice, each with a version."""
        self.events.append(event)
        self.new.set()
        if isinstance(event, Progress | Finished | Aborted):
            known = self.output.setdefault(event.rid, [])
            assert event.start == len(known), (event, len(known))
            for piece in event.pieces:
                assert len(piece.token_ids) == len(piece.logprobs) == piece.tokens
                assert all(logprob <= 0.0 for logprob in piece.logprobs)
                known += piece.token_ids
                self.logprobs.setdefault(event.rid, []).extend(piece.logprobs)
                self.versions.setdefault(event.rid, []).append((piece.weight_version, piece.tokens))

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something holds, looking again after each event."""
        while not is_so():
            self.new.clear()
            await self.new.wait()

    async def over(self, *rids: int) -> None:
        """Wait until some submissions have ended."""
        await self.until(lambda: not any(rid in self.engine.flights for rid in rids))

    def ends(self, rid: int) -> list[Event]:
        """Return how the submissions of a rollout ended."""
        return [
            one for one in self.events if isinstance(one, Finished | Aborted) and one.rid == rid
        ]

    def submit(
        self, rid: int, prompt: Sequence[int], max_new: int, attempt: int = 1, report_at: Any = ()
    ) -> None:
        """Send a rollout, to go on behind what was heard of it."""
        known = tuple(self.output.get(rid, ()))
        self.engine.submit(
            Submit(
                rid=rid,
                attempt=attempt,
                group=0,
                prompt_id=0,
                session=rid,
                engine=0,
                prefix_tokens=len(known),
                prefix=known,
                max_new=max_new,
                report_at=tuple(report_at),
            ),
            prompt,
            len(known),
        )


def prompts(count: int, seed: int) -> list[list[int]]:
    """Return random prompts of some lengths."""
    source = random.Random(seed)
    return [
        [source.randrange(4, 500) for _ in range(source.choice((3, 12, 40)))] for _ in range(count)
    ]
