"""How many KV blocks a replica gets: vLLM's memory profiling, as arithmetic.

vLLM loads the weights, runs one step of the largest size, and gives what is left of
`total * gpu_memory_utilization` to the KV cache (`vllm/v1/worker/gpu_worker.py`,
`determine_available_memory`). The step's peak is not published as a formula; the terms below are
its largest tensors, and `OVERHEAD_BYTES` is what start-up logs show beyond them.
"""

from __future__ import annotations

from typing import Final

from sojourn.catalog.facts import Gpu, Model
from sojourn.cost.roofline import PARALLEL, check_parallel
from sojourn.errors import UserError

OVERHEAD_BYTES: Final = 1 << 30
"""CUDA context, library workspaces, attention metadata, captured graphs: 0.9 to 1.1 GiB in the
start-up logs of the comparison in the cost model's page."""

COMMUNICATION_BYTES: Final = {1: 0, 2: 358_612_992, 4: 411_041_792, 8: 411_041_792}
"""NCCL's buffers by tensor-parallel size (aiconfigurator @ 095f58a5, systems/*.yaml, nccl_mem)."""

LOGIT_BYTES: Final = 10
"""The sampler's peak for one logit: bf16, its fp32 copy, and a sorted or masked fp32 copy."""


def kv_blocks(
    model: Model,
    gpu: Gpu,
    tensor_parallel: int = 1,
    *,
    gpu_memory_utilization: float = 0.9,
    block_size: int = 16,
    max_num_batched_tokens: int = 2048,
    max_num_seqs: int = 256,
) -> int:
    """Return the number of KV blocks of `block_size` tokens, the same on each GPU.

    (memory * utilization - weights / tp - peak activations - overhead) / bytes of a block on each
    GPU; fewer KV heads than GPUs are replicated. Prefer `num_gpu_blocks` from a real start-up log
    where there is one: this is within a few per cent of those compared (see the cost model's page).

    Raises:
        UserError: an argument out of range, or a model that does not fit; the message then
            names the smallest tensor-parallel size that does.
    """
    check_parallel(model, tensor_parallel)
    if not 0 < gpu_memory_utilization <= 1:
        raise UserError(
            f"gpu_memory_utilization is {gpu_memory_utilization}; it must be above 0 and at most 1"
        )
    for name, value in (
        ("block_size", block_size),
        ("max_num_batched_tokens", max_num_batched_tokens),
        ("max_num_seqs", max_num_seqs),
    ):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be at least 1")
    blocks = [
        _free_bytes(model, gpu, size, gpu_memory_utilization, max_num_batched_tokens, max_num_seqs)
        // (block_size * model.kv_token_bytes(size))
        for size in PARALLEL
    ]
    found = blocks[PARALLEL.index(tensor_parallel)]
    if found >= 1:
        return found
    enough = [
        size
        for size, count in zip(PARALLEL, blocks, strict=True)
        if count >= 1 and model.heads % size == 0
    ]
    advice = (
        f"a tensor parallel size of {enough[0]} would do"
        if enough
        else f"not even {PARALLEL[-1]} GPUs would do"
    )
    raise UserError(
        f"{model.name} does not fit on {tensor_parallel} x {gpu.name}: "
        f"{model.weights_bytes / tensor_parallel / 2**30:.1f} GiB of weights on each GPU, "
        f"{gpu.memory_bytes * gpu_memory_utilization / 2**30:.1f} GiB usable; {advice}"
    )


def activation_bytes(
    model: Model, tensor_parallel: int, max_num_batched_tokens: int, max_num_seqs: int
) -> int:
    """Return the peak of the profiling step: the MLP's tensors or the sampler's, if larger.

    The MLP holds gate and up, their product, the residual stream and its copies; the sampler
    holds `max_num_seqs` rows of logits, whole on each GPU.
    """
    active = max(model.experts_per_token, 1)
    width = 3 * active * model.intermediate // tensor_parallel + 4 * model.hidden
    return max(max_num_batched_tokens * width * 2, max_num_seqs * model.vocab * LOGIT_BYTES)


def _free_bytes(
    model: Model,
    gpu: Gpu,
    tensor_parallel: int,
    utilization: float,
    max_num_batched_tokens: int,
    max_num_seqs: int,
) -> int:
    usable = int(gpu.memory_bytes * utilization)
    peak = activation_bytes(model, tensor_parallel, max_num_batched_tokens, max_num_seqs)
    rest = OVERHEAD_BYTES + COMMUNICATION_BYTES[tensor_parallel]
    return usable - model.weights_bytes // tensor_parallel - peak - rest
