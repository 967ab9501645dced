"""vLLM's scheduler classes, stock's and ours, without a model: every sampled token is made up.

Only the forward pass is missing. Queues, chunks, KV blocks, the prefix cache and the output path
are vLLM's own, so the times of `schedule()` and `update_from_output()` are those of serving.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import thread_time_ns
from typing import Any, Final

import torch
from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler as SyncScheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from sojourn.vllm.identity import SEAL, seal
from sojourn.vllm.scheduler import Scheduler

KEY: Final = "decision-cost"
"""What tenants are sealed with; the engine reads it from the environment."""

SEATS: Final = 256
BLOCK: Final = 16
BLOCKS: Final = 100_000
BUDGET: Final = 8192
LONGEST: Final = 1 << 16
OUTPUT: Final = 20_000
"""Tokens of an answer: more than any measurement has steps, so that nobody finishes."""

TENANTS: Final = 16
WARM_STEPS_MAX: Final = 400
TOKEN: Final = 7

MODEL: Final = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "num_hidden_layers": 1,
    "vocab_size": 128,
    "max_position_embeddings": LONGEST,
    "torch_dtype": "float32",
}

IDENTITY: Final = {
    "classes": {
        "interactive": {"priority": 0, "ttft_seconds": 1.0},
        "batch": {"priority": 1, "ttft_seconds": 60.0},
    },
    "default_class": "interactive",
}


@cache
def stub_model() -> ModelConfig:
    """Return the configuration of a model that is never loaded."""
    logging.getLogger("vllm").setLevel(logging.ERROR)
    init_none_hash(sha256)
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(MODEL), encoding="utf-8")
        return ModelConfig(
            model=folder, skip_tokenizer_init=True, dtype="float32", max_model_len=LONGEST
        )


def make_scheduler(settings: dict[str, Any] | None, asynchronous: bool) -> SyncScheduler:
    """Return our scheduler with settings, or stock's if there are none."""
    cache_config = CacheConfig(block_size=BLOCK, enable_prefix_caching=True)
    cache_config.num_gpu_blocks = BLOCKS
    given = {} if settings is None else {"sojourn": {"identity": IDENTITY, **settings}}
    config = VllmConfig(
        model_config=stub_model(),
        cache_config=cache_config,
        scheduler_config=SchedulerConfig(
            max_num_seqs=SEATS,
            max_num_batched_tokens=BUDGET,
            max_model_len=LONGEST,
            is_encoder_decoder=False,
            enable_chunked_prefill=True,
            async_scheduling=asynchronous,
        ),
        additional_config=given,
    )
    spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=64, dtype=torch.float32)
    stock = AsyncScheduler if asynchronous else SyncScheduler
    kind = stock if settings is None else Scheduler
    return kind(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(BLOCKS, [], [KVCacheGroupSpec(["layer"], spec)]),
        structured_output_manager=StructuredOutputManager(config),
        block_size=BLOCK,
    )


def make_request(number: int, output: int) -> Request:
    """Return a request; tenants and classes alternate, and no two share a prefix."""
    prompt = [1 + number] + [TOKEN] * (48 + number * 37 % 80)
    extra: dict[str, Any] = {SEAL: seal(KEY.encode(), f"tenant-{number % TENANTS}")}
    if number % 2:
        extra["sojourn_class"] = "batch"
    return Request(
        request_id=str(number),
        prompt_token_ids=prompt,
        sampling_params=SamplingParams(max_tokens=output, ignore_eos=True, extra_args=extra),
        pooling_params=None,
        block_hasher=get_request_block_hasher(BLOCK, sha256),
    )


class Engine:
    """A scheduler whose seats are all decoding, with a queue behind them.

    Attributes:
        schedule, update: CPU time of each call, in nanoseconds.
        running: Requests in each step.
        changes: Requests that got or gave up a seat in each step.
    """

    def __init__(
        self,
        settings: dict[str, Any] | None,
        waiting: int,
        asynchronous: bool,
        output: int = OUTPUT,
    ) -> None:
        self.scheduler = make_scheduler(settings, asynchronous)
        self.lag = 1 if asynchronous else 0
        self.flying: deque[Any] = deque()
        self.forget()
        for number in range(SEATS + waiting):
            self.scheduler.add_request(make_request(number, output))
        for _ in range(WARM_STEPS_MAX):
            if self.step():
                break
        self.forget()

    def forget(self) -> None:
        """Begin to measure."""
        self.schedule: list[int] = []
        self.update: list[int] = []
        self.running: list[int] = []
        self.changes: list[int] = []

    @property
    def moves(self) -> int:
        """Requests that were paused, resumed or dropped so far."""
        counters: Any = getattr(self.scheduler, "counters", None)  # stock's class has none
        return 0 if counters is None else counters.pauses + counters.resumes + counters.drops

    def step(self) -> bool:
        """Plan a step and land one; return whether every seat decodes."""
        before = self.moves
        began = thread_time_ns()
        output = self.scheduler.schedule()
        ended = thread_time_ns()
        self.changes.append(self.moves - before + len(output.scheduled_new_reqs))
        self.schedule.append(ended - began)
        scheduled = output.num_scheduled_tokens
        self.running.append(len(scheduled))
        self.flying.append((output, self._sample(scheduled)))
        if len(self.flying) > self.lag:
            landed, sampled = self.flying.popleft()
            began = thread_time_ns()
            self.scheduler.update_from_output(landed, sampled)
            self.update.append(thread_time_ns() - began)
        return len(scheduled) == SEATS == output.total_num_scheduled_tokens

    def _sample(self, scheduled: dict[str, int]) -> ModelRunnerOutput:
        """Return a token for each request whose tokens are all computed once the step ends."""
        requests, asynchronous = self.scheduler.requests, bool(self.lag)
        names, tokens = list(scheduled), []
        for name in names:
            one = requests[name]
            chunk = (
                one.is_prefill_chunk if asynchronous else one.num_computed_tokens < one.num_tokens
            )
            tokens.append([] if chunk else [TOKEN])
        places = {name: place for place, name in enumerate(names)}
        return ModelRunnerOutput(req_ids=names, req_id_to_index=places, sampled_token_ids=tokens)
