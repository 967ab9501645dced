"""Engine limits under vLLM's own names, and the bounds of our own loops and queues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sojourn.errors import UserError

STORY_LENGTH: Final = 4096
"""State changes that a machine remembers for the story of an illegal move."""

STALE_ENTRIES: Final = 64
"""Stale heap entries always tolerated; beyond them a heap is rebuilt when half of it is stale."""

HORIZON_STEPS: Final = 1 << 20
"""Most steps that one plan may cover."""

VICTIMS_PER_STEP: Final = 4096
"""Most requests that may yield in one step; more is a policy that never makes room."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What one engine instance may hold and run; the fields are vLLM's flags.

    Attributes:
        num_gpu_blocks: KV blocks that requests can use (vLLM's count less its null block).
        block_size: Tokens in a KV block.
        max_num_seqs: Seats: requests that may run in one step.
        max_num_batched_tokens: Tokens that one step may compute.
        max_model_len: Prompt and output tokens that one request may have.
        enable_prefix_caching: Whether full blocks can be found again after release.
        swap_blocks: KV blocks that host memory can hold, where the host offers swapping.
        block_tokens: Tokens behind each prefix id of the workload; 0 without ids.
    """

    num_gpu_blocks: int
    block_size: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int = 131072
    enable_prefix_caching: bool = True
    swap_blocks: int = 0
    block_tokens: int = 0

    def __post_init__(self) -> None:
        """Refuse what vLLM would refuse to start with."""
        for name in (
            "num_gpu_blocks",
            "block_size",
            "max_num_seqs",
            "max_num_batched_tokens",
            "max_model_len",
        ):
            value = getattr(self, name)
            if value < 1:
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} is {value}; it must be at least 1")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise UserError(
                f"--max-num-batched-tokens ({self.max_num_batched_tokens}) must be at least "
                f"--max-num-seqs ({self.max_num_seqs}): every seat decodes one token per step"
            )
        if self.max_model_len > self.num_gpu_blocks * self.block_size:
            raise UserError(
                f"--max-model-len ({self.max_model_len}) is more than the KV cache holds "
                f"({self.num_gpu_blocks} blocks of {self.block_size} tokens)"
            )
