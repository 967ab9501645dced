"""vLLM's engine in this process, and clients that send on their own schedule.

One engine serves every configuration: model, worker and KV memory stay, and each run gets a new
scheduler object, stock's class or ours, with an empty prefix cache. So configurations differ in
nothing but what is being compared, and none waits for a model to load. Clients live in the same
loop: what is due is sent between two steps, and tokens are timed when a step hands them out.
"""

from __future__ import annotations

import copy
import gc
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.tiny_model import Size, make_model

KEY: Final = "vllm-gain"
"""What tenants are sealed with, in the place of a middleware."""

SEATS_MAX: Final = 256
BUDGET_MAX: Final = 8192
LONGEST: Final = 4096
BLOCK: Final = 32
TOKENS: Final = (4, 500)
SPIN_SECONDS: Final = 5e-4


@dataclass(frozen=True, slots=True)
class Flags:
    """How the engine is configured.

    Attributes:
        seats, budget: `max_num_seqs` and `max_num_batched_tokens`.
        policy: Stock's `--scheduling-policy`.
        settings: Settings of our scheduler; None for stock's own class.
        blocks: KV blocks to use of those there are; None for all.
        name: What to call it besides seats and budget.
    """

    seats: int = 256
    budget: int = 2048
    policy: str = "fcfs"
    settings: Mapping[str, Any] | None = None
    blocks: int | None = None
    name: str = ""

    def label(self) -> str:
        """Return what to call the configuration."""
        base = self.name or ("stock" if self.policy == "fcfs" else f"stock {self.policy}")
        return f"{base}@{self.seats}x{self.budget}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, or a later turn of a program.

    Attributes:
        at: When it is sent, in seconds; of a later turn, the pause before it.
        prompt: Token ids; of a later turn, those that come after the turns before it.
        output: Tokens of the answer.
        tenant, group: Account and SLO class; empty for the default.
        program, turn, last: Name of the program, place in it, whether it ends it.
        follows: Row of the turn before it; -1 for none.
    """

    at: float
    prompt: list[int]
    output: int
    tenant: str = ""
    group: str = ""
    program: str = ""
    turn: int = 0
    last: bool = True
    follows: int = -1


@dataclass(slots=True)
class Served:
    """What its client saw; seconds from the run's start, -1 for never.

    Attributes:
        sent, first, finish: Moments.
        gap: Longest pause between two tokens.
        tokens: Token ids of the answer.
        prompt: Token ids that were sent.
    """

    sent: float = -1.0
    first: float = -1.0
    last: float = -1.0
    finish: float = -1.0
    gap: float = 0.0
    tokens: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)


class Server:
    """An engine and its clients.

    Attributes:
        priorities: Priority that a client states, by group, where stock's policy reads it.
        cut: Whether the last run was ended by its time limit.
        begun: When it began, as `time.perf_counter` has it.
        between: Called after every step.
    """

    def __init__(self, model: Path, priorities: Mapping[str, int] | None = None) -> None:
        os.environ.update(
            VLLM_ENABLE_V1_MULTIPROCESSING="0",
            HF_HUB_OFFLINE="1",
            VLLM_LOGGING_LEVEL="ERROR",
            SOJOURN_IDENTITY_KEY=KEY,
        )
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
        arguments = import_module("vllm.engine.arg_utils").EngineArgs(
            model=str(model),
            dtype="float32",
            enforce_eager=True,
            block_size=BLOCK,
            max_model_len=LONGEST,
            max_num_seqs=SEATS_MAX,
            max_num_batched_tokens=BUDGET_MAX,
            disable_log_stats=True,
            seed=0,
        )
        self.llm = import_module("vllm.v1.engine.llm_engine").LLMEngine.from_engine_args(arguments)
        self.core = self.llm.engine_core.engine_core
        self.kv = self.core.scheduler.kv_cache_config
        self.config = self.core.vllm_config
        self.priorities = dict(priorities or {})
        self.flags = Flags()
        self.names = 0
        self.cut = False
        self.begun = 0.0
        self.between: Callable[[], None] | None = None
        os.environ["SOJOURN_IDENTITY_KEY"] = KEY  # vLLM's plugins may have made one up

    @property
    def blocks(self) -> int:
        """KV blocks that requests can use."""
        return int(self.core.scheduler.kv_cache_manager.block_pool.num_gpu_blocks) - 1

    def install(self, flags: Flags) -> None:
        """Replace the scheduler; the engine must be idle."""
        old = self.core.scheduler
        self._settle()
        old.shutdown()
        config = copy.copy(self.config)
        limits = config.scheduler_config = copy.copy(self.config.scheduler_config)
        limits.max_num_seqs = flags.seats
        limits.max_num_batched_tokens = limits.max_num_scheduled_tokens = flags.budget
        limits.policy = flags.policy
        config.additional_config = {"sojourn": dict(flags.settings or {})}
        kv = copy.copy(self.kv)
        kv.num_blocks = min(self.kv.num_blocks, (flags.blocks or self.kv.num_blocks) + 1)
        # The number that the configuration states must agree, as a log copies it.
        config.cache_config = copy.copy(self.config.cache_config)
        config.cache_config.num_gpu_blocks = kv.num_blocks
        kind = limits.get_scheduler_cls()
        if flags.settings is not None:
            kind = import_module("sojourn.vllm.scheduler").Scheduler
        self.core.scheduler = kind(
            vllm_config=config,
            kv_cache_config=kv,
            structured_output_manager=self.core.structured_output_manager,
            include_finished_set=False,
            log_stats=False,
            block_size=old.block_size,
            hash_block_size=old.hash_block_size,
        )
        self.flags = flags

    def _settle(self) -> None:
        """Step until the worker knows of every request that ended."""
        for _ in range(1000):
            if not (self.llm.has_unfinished_requests() or self.core.scheduler.has_requests()):
                return
            self.llm.step()
        raise RuntimeError("the engine does not come to rest")

    def warm(self, requests: int = 8) -> None:
        """Serve some requests that nobody measures."""
        draw = random.Random(7)
        self.run([Asked(0.0, ids(draw, 8 + 9 * n), 8) for n in range(requests)], 60.0)

    def run(self, asked: Sequence[Asked], limit_seconds: float) -> list[Served]:
        """Serve requests to the end, or to the limit; return what their clients saw."""
        gc.collect()
        gc.freeze()
        self.cut = False
        served = [Served() for _ in asked]
        next_of = {one.follows: row for row, one in enumerate(asked) if one.follows >= 0}
        due = [(one.at, row) for row, one in enumerate(asked) if one.follows < 0]
        heapify(due)
        begin, wall = time.perf_counter(), time.time()
        self.begun = begin
        rows: dict[str, int] = {}
        while due or rows:
            now = time.perf_counter() - begin
            if now > limit_seconds:
                self.cut = True
                self.llm.abort_request(list(rows))
                break
            while due and due[0][0] <= now:
                at, row = heappop(due)
                served[row].sent = at
                rows[self._send(asked, served, row, wall + at)] = row
            if not rows:
                _wait_until(begin + min(due[0][0], limit_seconds + SPIN_SECONDS))
                continue
            outputs = self.llm.step()
            now = time.perf_counter() - begin
            for output in outputs:
                row = rows[output.request_id]
                _note(served[row], output, now)
                if output.finished:
                    del rows[output.request_id]
                    follower = next_of.get(row)
                    if follower is not None:
                        heappush(due, (now + asked[follower].at, follower))
            if self.between is not None:
                self.between()
        self._settle()
        gc.unfreeze()
        return served

    def _send(self, asked: Sequence[Asked], served: list[Served], row: int, wall: float) -> str:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        from sojourn.vllm.identity import SEAL, seal

        one = asked[row]
        prompt = one.prompt
        if one.follows >= 0:
            prompt = served[one.follows].prompt + served[one.follows].tokens + prompt
        served[row].prompt = prompt
        extra: dict[str, Any] = {}
        if one.tenant:
            extra[SEAL] = seal(KEY.encode(), one.tenant)
        if one.group:
            extra["sojourn_class"] = one.group
        if one.program:
            extra |= {
                "sojourn_program": one.program,
                "sojourn_turn": one.turn,
                "sojourn_last_turn": one.last,
            }
        params = SamplingParams(
            max_tokens=one.output,
            temperature=0.0,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args=extra or None,
        )
        self.names += 1
        name = f"r{self.names}"
        priority = self.priorities.get(one.group, 0) if self.flags.policy == "priority" else 0
        self.llm.add_request(
            name, {"prompt_token_ids": prompt}, params, arrival_time=wall, priority=priority
        )
        return name

    def errors(self) -> dict[str, int]:
        """Return the failures of the recipe's policies."""
        counters = getattr(self.core.scheduler, "counters", None)
        return dict(counters.errors) if counters is not None else {}

    def close(self) -> None:
        """Give everything back."""
        self.core.scheduler.shutdown()
        self.llm.engine_core.shutdown()


def _note(one: Served, output: Any, now: float) -> None:
    tokens = output.outputs[0].token_ids
    if tokens:
        if one.first < 0:
            one.first = now
        else:
            one.gap = max(one.gap, now - one.last)
        one.last = now
        one.tokens.extend(tokens)
    if output.finished:
        one.finish = now


def _wait_until(moment: float) -> None:
    left = moment - time.perf_counter()
    if left > SPIN_SECONDS:
        time.sleep(left - SPIN_SECONDS)
    while time.perf_counter() < moment:
        pass


def ids(draw: random.Random, length: int) -> list[int]:
    """Return a prompt of random token ids."""
    return draw.choices(range(*TOKENS), k=length)


def lengths(draw: random.Random, median: float, spread: float, low: int, high: int) -> int:
    """Return a length from a log-normal distribution, within bounds."""
    return int(min(max(draw.lognormvariate(0.0, spread) * median, low), high))


def model_folder(given: Path | None, scratch: Path) -> Path:
    """Return the model's folder: the given one, or a model of 256 x 8 made for the run."""
    if given is not None:
        return given
    return make_model(scratch / "model", Size(width=256, layers=8, positions=LONGEST))
