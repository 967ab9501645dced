"""The check of engine limits before a simulation: what vLLM would refuse to start with."""

from __future__ import annotations

from sojourn.decide.limits import EngineLimits
from sojourn.errors import UserError


def check_limits(limits: EngineLimits) -> EngineLimits:
    """Return the limits, or refuse them.

    Raises:
        UserError: Naming the flag, its value and what is allowed.
    """
    sizes = ("num_gpu_blocks", "block_size", "max_num_seqs", "max_num_batched_tokens")
    for name in (*sizes, "max_model_len"):
        value = getattr(limits, name)
        if value < 1:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} is {value}; it must be at least 1")
    if limits.max_num_batched_tokens < limits.max_num_seqs:
        raise UserError(
            f"--max-num-batched-tokens ({limits.max_num_batched_tokens}) must be at least "
            f"--max-num-seqs ({limits.max_num_seqs}): every seat decodes one token per step"
        )
    if limits.max_model_len > limits.num_gpu_blocks * limits.block_size:
        raise UserError(
            f"--max-model-len ({limits.max_model_len}) is more than the KV cache holds "
            f"({limits.num_gpu_blocks} blocks of {limits.block_size} tokens)"
        )
    return limits
