"""What rollouts rely on inside vLLM's `AsyncLLM`: with `compat` the one place that knows vLLM.

None of it is a stable interface. `check` looks for every name before an engine is used and says
which is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import vllm
from vllm import envs
from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import OutputProcessor, RequestState
from vllm.v1.metrics.loggers import StatLoggerBase

from sojourn.errors import UserError
from sojourn.vllm.compat import methods_missing
from sojourn.vllm.sampling import Sampling

__all__ = ["AsyncEngineArgs", "AsyncLLM", "EngineDeadError"]

TESTED: Final = ("0.32.0",)

METHODS: Final = {
    "add_request": ("request_id", "prompt", "params", "priority"),
    "abort": ("request_id",),
    "pause_generation": ("mode", "clear_cache"),
    "resume_generation": (),
    "update_weight_version": ("new_version",),
    "get_weight_version": (),
    "collective_rpc": ("method", "kwargs"),
    "start_weight_update": (),
    "update_weights": ("request",),
    "finish_weight_update": ("weight_version",),
}
"""Methods of `AsyncLLM` that are called, and the parameters that they must have."""

STATE_FIELDS: Final = ("detokenizer", "logprobs_processor", "weight_version_starts")
"""What the state of a request must hold, so that no output is lost with an engine."""


class Output(NamedTuple):
    """The output of a request so far.

    Attributes:
        ids, logprobs: Of each token.
        starts: Weight versions and the offset at which each begins.
    """

    ids: Sequence[int]
    logprobs: Sequence[float]
    starts: Sequence[tuple[int, int]]


def check() -> None:
    """Refuse a vLLM that lacks something rollouts rely on.

    Raises:
        UserError: Naming what changed, the version, and the versions that are known to work.
    """
    missing = list(_missing())
    if missing:
        raise UserError(
            f"vllm {vllm.__version__} has changed inside: {'; '.join(missing)}; "
            f"rollouts are tested with {', '.join(TESTED)}: install one of these"
        )


def _missing() -> Iterable[str]:
    yield from methods_missing(AsyncLLM, METHODS, "AsyncLLM")
    for name in STATE_FIELDS:
        if name not in RequestState.__init__.__code__.co_names:
            yield f"the state of a request has no {name}"
    if "request_states" not in OutputProcessor.__init__.__code__.co_names:
        yield "the output processor has no request_states"


def check_config(llm: AsyncLLM, sampling: Sampling) -> None:
    """Refuse an engine whose output could not be accounted for, or not be trained on.

    Raises:
        UserError: Naming the flag and what to do.
    """
    config = llm.vllm_config
    refused = {
        "--data-parallel-size above 1": config.parallel_config.data_parallel_size > 1,
        "--max-num-queued-reqs": config.scheduler_config.max_num_queued_reqs is not None,
        "--max-num-queued-tokens": config.scheduler_config.max_num_queued_tokens is not None,
        "a pooling model": config.model_config.runner_type != "generate",
    }
    found = [name for name, is_set in refused.items() if is_set]
    if found:
        raise UserError(
            f"rollouts do not run on an engine with {' or '.join(found)}: start one engine for "
            "each replica, without limits of its own on what may wait"
        )
    mode = config.model_config.logprobs_mode
    if mode != "processed_logprobs" and not (sampling.is_plain and mode == "raw_logprobs"):
        raise UserError(
            f"the engine returns {mode}, which are not the log-probabilities that tokens are "
            "sampled with here: start it with --logprobs-mode processed_logprobs, or sample with "
            "temperature 1, top_p 1 and top_k 0"
        )


def serves_priorities(llm: AsyncLLM) -> bool:
    """Return whether a request's priority has any effect; vLLM's default ignores it."""
    return bool(llm.vllm_config.scheduler_config.policy == "priority")


def seats(llm: AsyncLLM) -> int:
    """Return how many requests an engine runs at once."""
    return int(llm.vllm_config.scheduler_config.max_num_seqs)


def kv_tokens(llm: AsyncLLM) -> int:
    """Return how many tokens the KV cache of an engine holds."""
    cache = llm.vllm_config.cache_config
    return int((cache.num_gpu_blocks or 0) * cache.block_size)


def context_tokens_max(llm: AsyncLLM) -> int:
    """Return the longest context, prompt and output, in tokens."""
    return int(llm.vllm_config.model_config.max_model_len)


def parameters(max_new: int, streams: bool, sampling: Sampling) -> SamplingParams:
    """Return vLLM's parameters of a request: token ids and the log-probability of each.

    A request that nobody watches says everything at its end; its state holds it until then.
    """
    return SamplingParams(
        max_tokens=max_new,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        stop_token_ids=list(sampling.stop_ids),
        ignore_eos=sampling.ignores_end,
        seed=sampling.seed,
        logprobs=0,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA if streams else RequestOutputKind.FINAL_ONLY,
    )


def update_request(chunk: Mapping[str, Any]) -> Any:
    """Return what `AsyncLLM.update_weights` takes for a chunk of weights."""
    return WeightTransferUpdateRequest(update_info=dict(chunk))


def new_output(completion: Any) -> tuple[list[int], list[float]]:
    """Return what a completion of vLLM adds: token ids and the log-probability of each."""
    ids = list(completion.token_ids)
    return ids, _sampled(ids, completion.logprobs)


def starts(completion: Any) -> list[tuple[int, int]]:
    """Return the weight versions of a finished completion, and where each begins."""
    return [(int(one.version), one.start) for one in completion.weight_versions or ()]


def so_far(llm: AsyncLLM, internal: str) -> Output | None:
    """Return all output of a request that has not ended, whether it was handed over or not.

    None for one that vLLM does not know, or no longer.
    """
    state = llm.output_processor.request_states.get(internal)
    if state is None:
        return None
    ids = list(state.detokenizer.output_token_ids)
    found = [(int(version), start) for version, start in state.weight_version_starts]
    logprobs = _sampled(ids, state.logprobs_processor.logprobs)
    return Output(ids[: len(logprobs)], logprobs, found)


def _sampled(ids: Sequence[int], logprobs: Any) -> list[float]:
    places = zip(ids, logprobs or (), strict=False)
    return [float(place[token].logprob) for token, place in places]


def is_known(llm: AsyncLLM, internal: str) -> bool:
    """Return whether vLLM still has a request."""
    return internal in llm.output_processor.request_states


async def abort_in_core(llm: AsyncLLM, internals: Sequence[str]) -> None:
    """Let the engine core drop requests while the front end still takes their output.

    `AsyncLLM.abort` alone forgets the request first, so that output on its way is thrown away.
    """
    await llm.engine_core.abort_requests_async(list(internals))


async def drained(llm: AsyncLLM) -> None:
    """Wait until the front end has worked through all output that has reached this process.

    vLLM's own task takes one bundle of outputs at a time, in slices with a pause after each.
    """
    slices = seats(llm) // max(int(envs.VLLM_V1_OUTPUT_PROC_CHUNK_SIZE), 1) + 2
    calm = 0
    while calm < slices:
        calm = calm + 1 if llm.engine_core.outputs_queue.empty() else 0
        await asyncio.sleep(0)


def on_end(llm: AsyncLLM, call: Callable[[], None]) -> None:
    """Call back when no more output can come, because the engine died or was shut down."""
    llm._run_output_handler()
    assert llm.output_handler is not None
    llm.output_handler.add_done_callback(lambda _: call())


@dataclass(slots=True)
class EngineCounts:
    """What an engine says of itself, beside its outputs.

    Attributes:
        generated: Tokens by vLLM's own count, that of `vllm:generation_tokens`.
        preemptions: Since the start.
        running, waiting, kv: At the latest step.
        changed: Called after each update.
    """

    generated: int = 0
    preemptions: int = 0
    running: int = 0
    waiting: int = 0
    kv: float = 0.0
    changed: Callable[[], None] = field(default=lambda: None)

    def logger(self, *_: Any, **__: Any) -> StatLoggerBase:
        """Return what vLLM is to report to; a factory as `stat_loggers` takes them."""
        return _Logger(self)


class _Logger(StatLoggerBase):
    """vLLM's reports, added to the counts."""

    def __init__(self, counts: EngineCounts) -> None:
        self.counts = counts

    def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
        """Take note of one step."""
        counts = self.counts
        if iteration_stats is not None:
            counts.generated += iteration_stats.num_generation_tokens
            counts.preemptions += iteration_stats.num_preempted_reqs
        if scheduler_stats is not None:
            counts.running = scheduler_stats.num_running_reqs
            counts.waiting = scheduler_stats.num_waiting_reqs
            counts.waiting += scheduler_stats.num_skipped_waiting_reqs
            counts.kv = scheduler_stats.kv_cache_usage
        counts.changed()

    def log_engine_initialized(self) -> None:
        """Say nothing."""


def start_llm(args: AsyncEngineArgs) -> tuple[AsyncLLM, EngineCounts]:
    """Return a running engine and its counts; must be called inside an event loop.

    Raises:
        UserError: For a vLLM that has changed inside.
    """
    check()
    counts = EngineCounts()
    return AsyncLLM.from_engine_args(args, stat_loggers=[counts.logger]), counts
