"""vLLM's own `Scheduler` class without a model, in virtual time.

Only the forward pass is replaced: every request whose tokens are all computed samples one token,
and the step takes the time that a `StepTime` says. Admission, chunks, preemption, KV blocks and
the prefix cache are vLLM's. This is the only file of the comparison that imports vllm.
"""

from __future__ import annotations

import json
import logging
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from plan_families import Case
from plan_rows import (
    Comparison,
    PlanRow,
    cached_tokens,
    first_difference,
    simulate,
    simulate_jumping,
)
from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from sojourn.decide.clock import Time
from sojourn.decide.limits import EngineLimits
from sojourn.decide.services import StepTime
from sojourn.sim.workload import Workload

LONGEST_MODEL = 1 << 20
"""Positions of the stub model: more than any limit in these tests."""

FIRST_PRIVATE = 1 << 30
"""Token ids from here on belong to one request each; smaller ones are prefix ids."""

STUB_MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "num_hidden_layers": 1,
    "vocab_size": 128,
    "max_position_embeddings": LONGEST_MODEL,
    "torch_dtype": "float32",
}


@cache
def stub_model(max_model_len: int) -> ModelConfig:
    """Return the configuration of a model that is never loaded."""
    logging.getLogger("vllm").setLevel(logging.ERROR)
    init_none_hash(sha256)
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(STUB_MODEL), encoding="utf-8")
        return ModelConfig(
            model=folder, skip_tokenizer_init=True, dtype="float32", max_model_len=max_model_len
        )


def make_scheduler(
    limits: EngineLimits, kind: type[Scheduler] = Scheduler, settings: dict[str, Any] | None = None
) -> Scheduler:
    """Return a scheduler of vLLM's, or ours, under our limits; its null block comes on top."""
    blocks = limits.num_gpu_blocks + 1
    cache_config = CacheConfig(
        block_size=limits.block_size, enable_prefix_caching=limits.enable_prefix_caching
    )
    cache_config.num_gpu_blocks = blocks
    config = VllmConfig(
        model_config=stub_model(limits.max_model_len),
        cache_config=cache_config,
        scheduler_config=SchedulerConfig(
            max_num_seqs=limits.max_num_seqs,
            max_num_batched_tokens=limits.max_num_batched_tokens,
            max_model_len=limits.max_model_len,
            is_encoder_decoder=False,
            enable_chunked_prefill=True,
            async_scheduling=False,
        ),
        additional_config={"sojourn": settings or {}},
    )
    spec = FullAttentionSpec(
        block_size=limits.block_size, num_kv_heads=1, head_size=64, dtype=torch.float32
    )
    kv = KVCacheConfig(
        num_blocks=blocks,
        kv_cache_tensors=[],
        kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)],
    )
    return kind(
        vllm_config=config,
        kv_cache_config=kv,
        structured_output_manager=StructuredOutputManager(config),
        block_size=limits.block_size,
    )


def token_ids(workload: Workload, row: int) -> list[int]:
    """Return a prompt that shares blocks with others exactly where the prefix ids are equal."""
    ids = workload.prefix[row] if workload.prefix else ()
    tokens = [id for id in ids for _ in range(workload.block_tokens)]
    return tokens + [FIRST_PRIVATE + row] * (workload.prompt[row] - len(tokens))


class StubEngine:
    """vLLM's scheduler, its requests and a virtual clock.

    Attributes:
        decoding: Rows that sampled a token since they were last admitted.
        rows: One for each step so far.
        finish: Finish times by row.
    """

    def __init__(
        self,
        workload: Workload,
        limits: EngineLimits,
        step_time: StepTime,
        scheduler: Scheduler | None = None,
    ) -> None:
        self.workload = workload
        self.step_time = step_time
        self.scheduler = scheduler or make_scheduler(limits)
        self.pool = self.scheduler.kv_cache_manager.block_pool
        self.hasher = (
            get_request_block_hasher(limits.block_size, sha256)
            if limits.enable_prefix_caching
            else None
        )
        self.decoding: set[int] = set()
        self.rows: list[PlanRow] = []
        self.finish: list[Time] = [-1] * len(workload)

    def run(self) -> None:
        """Serve the whole workload."""
        starts = self.workload.starts(1.0)
        at, now = 0, 0
        while True:
            while at < len(starts) and starts[at][0] <= now:
                self._add(starts[at][1])
                at += 1
            if self.scheduler.get_num_unfinished_requests():
                now = self._step(now)
            elif at < len(starts):
                now = starts[at][0]
            else:
                return

    def _add(self, row: int) -> None:
        params = SamplingParams(max_tokens=self.workload.output[row], ignore_eos=True)
        self.scheduler.add_request(
            Request(
                request_id=str(row),
                prompt_token_ids=token_ids(self.workload, row),
                sampling_params=params,
                pooling_params=None,
                block_hasher=self.hasher,
            )
        )

    def _step(self, now: Time) -> Time:
        """Run one step of the scheduler; return when it ends."""
        output = self.scheduler.schedule()
        if not output.total_num_scheduled_tokens:
            return self._nothing_ran(output, now)
        row = PlanRow(now)
        row.preempted = self._preempted(output)
        self.decoding.difference_update(row.preempted)
        row.scheduled = self._scheduled(output)
        row.free_planned = self.pool.get_num_free_blocks()
        row.duration = self._duration(row)
        self.scheduler.update_from_output(output, self._sample(row))
        row.finished = [r for r, _, _ in row.scheduled if str(r) not in self.scheduler.requests]
        row.free_ended = self.pool.get_num_free_blocks()
        self.rows.append(row)
        end = now + row.duration
        for finished in row.finished:
            self.finish[finished] = end
        self.decoding.difference_update(row.finished)
        return end

    def _nothing_ran(self, output: SchedulerOutput, now: Time) -> Time:
        """Return when to plan again after a step without tokens."""
        raise AssertionError(f"requests wait and nothing runs at {now}: {output}")

    def _preempted(self, output: SchedulerOutput) -> list[int]:
        """Return the rows preempted while planning, in order: each went to the queue's front."""
        ids = output.preempted_req_ids or set()
        waiting = reversed(list(self.scheduler.waiting))
        return [int(request.request_id) for request in waiting if request.request_id in ids]

    def _scheduled(self, output: SchedulerOutput) -> list[tuple[int, int, int]]:
        requests = self.scheduler.requests
        return [
            (int(id), requests[id].num_computed_tokens - tokens, tokens)
            for id, tokens in output.num_scheduled_tokens.items()
        ]

    def _duration(self, row: PlanRow) -> Time:
        """Ask the step time, which sees a request as a prompt until it samples."""
        prompts = [(start, tokens) for r, start, tokens in row.scheduled if r not in self.decoding]
        reads = [start + 1 for r, start, _ in row.scheduled if r in self.decoding]
        return self.step_time.step(
            sum(tokens for _, tokens in prompts),
            sum(tokens * start + tokens * (tokens + 1) // 2 for start, tokens in prompts),
            sum(start for start, _ in prompts),
            len(prompts),
            len(reads),
            sum(reads),
        )

    def _sample(self, row: PlanRow) -> ModelRunnerOutput:
        """Give one token to each request whose tokens are all computed once the step ends."""
        ids: list[str] = []
        sampled: list[list[int]] = []
        for index, start, tokens in row.scheduled:
            request = self.scheduler.requests[str(index)]
            complete = start + tokens == request.num_tokens
            if complete:
                self.decoding.add(index)
            ids.append(request.request_id)
            sampled.append([FIRST_PRIVATE + index] if complete else [])
        order: dict[str, Any] = {id: place for place, id in enumerate(ids)}
        return ModelRunnerOutput(req_ids=ids, req_id_to_index=order, sampled_token_ids=sampled)


def drive(
    workload: Workload, limits: EngineLimits, step_time: StepTime
) -> tuple[list[PlanRow], list[Time]]:
    """Run vLLM's scheduler over a workload; return its plans and finish times by row."""
    engine = StubEngine(workload, limits, step_time)
    engine.run()
    return engine.rows, engine.finish


def compare(case: Case) -> Comparison:
    """Run a case on both sides and compare every plan and every finish time."""
    workload, limits, cost = case.workload, case.limits, case.cost
    theirs, finish = drive(workload, limits, cost)
    try:
        ours, our_finish = simulate(workload, limits, cost)
        told = first_difference(ours, theirs)
        if told is None and our_finish != finish:
            told = "finish times differ"
        if told is None and simulate_jumping(workload, limits, cost) != finish:
            told = "finish times differ when identical steps are jumped over"
    except AssertionError as error:
        told = f"{type(error).__name__}: {error}"
    preempted = sum(len(row.preempted) for row in theirs)
    cached = cached_tokens(theirs)
    return Comparison(1, len(theirs), preempted, cached, int(told is not None), told)
