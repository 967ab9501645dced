"""What the plugin relies on inside vLLM: the one place that knows vLLM's internals.

`compat_engine` does the same for rollouts, which drive an engine from outside.

None of it is a stable interface. `check` looks for every name at start-up and says which is gone,
so that another version of vLLM is refused with a sentence and never serves wrongly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import signature
from typing import Any, Final

import vllm
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request, RequestStatus

from sojourn.errors import UserError

__all__ = [
    "AsyncScheduler",
    "PauseState",
    "Request",
    "RequestQueue",
    "RequestStatus",
    "SchedulerOutput",
]

TESTED: Final = ("0.32.0",)
"""Versions whose scheduler the tests have driven."""

METHODS: Final = {
    "schedule": ("throttle_prefills",),
    "add_request": ("request",),
    "finish_requests": ("request_ids", "finished_status"),
    "update_from_output": ("scheduler_output", "model_runner_output"),
    "reset_prefix_cache": ("reset_running_requests", "reset_connector"),
    "get_request_counts": (),
    "shutdown": (),
    "_reserve_prefill_lookahead": ("request", "num_computed_tokens", "num_new_tokens"),
    "_preempt_request": ("request", "timestamp", "drop_stale_output"),
    "_free_request": ("request", "delay_free_blocks"),
    "_free_blocks": ("request",),
}
"""Methods that are overridden or called, and the parameters that they must have."""

SCHEDULE_READS: Final = (
    "_reserve_prefill_lookahead",
    "running",
    "waiting",
    "max_num_active_reqs",
    "scheduler_reserve_full_isl",
)
"""Names that `schedule()` must read, or what is put there has no effect."""

REQUEST_FIELDS: Final = (
    "request_id",
    "arrival_time",
    "num_prompt_tokens",
    "max_tokens",
    "num_computed_tokens",
    "num_output_placeholders",
    "num_stale_output_tokens",
    "drop_stale_output",
    "block_hashes",
    "structured_output_request",
    "priority",
    "status",
    "resumable",
    "trace_headers",
)


def check() -> None:
    """Refuse a vLLM that lacks something the plugin relies on.

    Raises:
        UserError: Naming what changed, the version, and the versions that are known to work.
    """
    missing = list(_missing())
    if missing:
        raise UserError(
            f"vllm {vllm.__version__} has changed inside: {'; '.join(missing)}; "
            f"sojourn.vllm is tested with {', '.join(TESTED)}: install one of these, "
            "or serve without --scheduler-cls"
        )


def _missing() -> Iterable[str]:
    yield from methods_missing(AsyncScheduler, METHODS, "the scheduler")
    reads = _names(AsyncScheduler.schedule)
    for name in SCHEDULE_READS:
        if name not in reads:
            yield f"schedule() does not read {name}"
    assigned = _names(Request.__init__) | set(dir(Request))
    for name in REQUEST_FIELDS:
        if name not in assigned:
            yield f"a request has no {name}"


def methods_missing(
    kind: type[Any], methods: Mapping[str, Sequence[str]], what: str
) -> Iterable[str]:
    """Yield what a class lacks of some methods and their parameters."""
    for name, parameters in methods.items():
        method = getattr(kind, name, None)
        if method is None:
            yield f"{what} has no {name}()"
            continue
        lacking = [one for one in parameters if one not in signature(method).parameters]
        if lacking:
            yield f"{name}() takes no {' or '.join(lacking)}"


def _names(function: Any) -> set[str]:
    code = function.__code__
    return set(code.co_names)


def check_config(config: Any) -> None:
    """Refuse features of vLLM under which a plan would not be what it says.

    Raises:
        UserError: Naming the flag and what to do.
    """
    refused = {
        "--speculative-config": config.speculative_config is not None,
        "--kv-transfer-config": config.kv_transfer_config is not None,
        "--ec-transfer-config": config.ec_transfer_config is not None,
        "--pipeline-parallel-size above 1": config.parallel_config.pipeline_parallel_size > 1,
        "--scheduling-policy priority": config.scheduler_config.policy != "fcfs",
        "an encoder-decoder model": config.model_config.is_encoder_decoder,
        "a pooling model": config.model_config.runner_type != "generate",
        "no chunked prefill": not config.scheduler_config.enable_chunked_prefill,
    }
    found = [name for name, is_set in refused.items() if is_set]
    if found:
        raise UserError(
            f"sojourn.vllm does not serve with {' or '.join(found)}: how many tokens a step gives "
            "a request, or who owns its KV, would not be what the recipe decided; leave that out, "
            "or serve without --scheduler-cls"
        )


def engine_index(config: Any) -> int:
    """Return which engine of the server this is, from 0; `data_parallel_rank` says 0 in each.

    Engines of a model without experts know nothing of each other.
    """
    return int(config.parallel_config.data_parallel_index)


def usable_blocks(scheduler: Any) -> int:
    """Return the KV blocks that requests can use: all but the null block."""
    total: int = scheduler.kv_cache_manager.block_pool.num_gpu_blocks
    return total - 1


def block_groups(scheduler: Any) -> int:
    """Return how many blocks a stretch of `block_size` tokens takes, over all kinds of layers."""
    return len(scheduler.kv_cache_config.kv_cache_groups)


def adapter(request: Request) -> int:
    """Return the number of a request's LoRA adapter; 0 for none."""
    lora = request.lora_request
    return int(lora.lora_int_id) if lora is not None else 0


def adapters_max(scheduler: Any) -> int:
    """Return how many LoRA adapters a step may use; 0 for no limit."""
    return int(scheduler.lora_config.max_loras) if scheduler.lora_config else 0


def adapter_fits(scheduler: Any, request: Request) -> bool:
    """Return whether a request may run beside those in the running list."""
    most = adapters_max(scheduler)
    used = {adapter(other) for other in scheduler.running} if most else set()
    return not most or len((used | {adapter(request)}) - {0}) <= most


def fitting(scheduler: Any, requests: Sequence[Request]) -> deque[Request]:
    """Return who may get a seat by adapter, beside all that have one and beside each other.

    vLLM itself counts the adapters of the step only, and a seated request may sit a step out: then
    it admits one too many, and fails in the next step.
    """
    most = adapters_max(scheduler)
    used = {adapter(other) for other in scheduler.running} - {0} if most else set()
    found: deque[Request] = deque()
    for request in requests:
        together = used | ({adapter(request)} - {0}) if most else used
        if len(together) <= most:
            used = together
            found.append(request)
    return found


def admitted(output: SchedulerOutput) -> Iterator[str]:
    """Yield the ids of the requests that a step admits, anew or again."""
    for new in output.scheduled_new_reqs:
        yield new.req_id
    yield from output.scheduled_cached_reqs.resumed_req_ids


def rows(scheduler: Any) -> int:
    """Return how many requests with KV the model runner can have at once.

    The second model runner keeps a row for every request until it ends, also for one that is
    paused; the first only for those in the step.
    """
    if scheduler.use_v2_model_runner:
        return int(scheduler.max_num_running_reqs)
    return int(scheduler.kv_cache_manager.block_pool.num_gpu_blocks)


def cached(scheduler: Any, request: Request) -> tuple[int, Sequence[Any]]:
    """Return the tokens of a request that the prefix cache holds, and the blocks they are in."""
    blocks, tokens, _ = scheduler.kv_cache_manager.get_computed_blocks(request)
    return tokens, [block for group in blocks.blocks for block in group if not block.is_null]


def preempt(scheduler: Any, request: Request, seconds: float) -> None:
    """Take a running request's KV and queue it again, as vLLM itself does under pressure."""
    scheduler._preempt_request(request, seconds, drop_stale_output=scheduler.requires_kv_delivery)


def grammar_pending(request: Request) -> bool:
    """Return whether a request's grammar is still being compiled."""
    wanted = request.structured_output_request
    return (
        wanted is not None
        and request.status == RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
        and wanted.grammar is None
    )


def stale(request: Request) -> bool:
    """Return whether tokens sampled before a drop are still on their way to the scheduler."""
    return bool(request.num_stale_output_tokens) and not request.drop_stale_output


def ending(request: Request, max_model_len: int) -> bool:
    """Return whether the token that is on its way is the last that a request may have."""
    waiting = request.num_output_placeholders
    return bool(
        waiting > 0
        and (
            request.num_computed_tokens + 2 - waiting
            >= request.num_prompt_tokens + request.max_tokens
            or request.num_computed_tokens + 1 >= max_model_len
        )
    )
