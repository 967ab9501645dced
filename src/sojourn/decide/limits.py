"""Engine limits under vLLM's own names, and the bounds of our own loops and queues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STORY_LENGTH: Final = 4096  # state changes remembered for the story of an illegal move
STALE_ENTRIES: Final = 64  # stale heap entries tolerated before half of a heap may be stale
HORIZON_STEPS: Final = 1 << 20  # most steps that one plan may cover
VICTIMS_PER_STEP: Final = 4096  # most requests that may yield in a step; more never makes room


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What one engine instance may hold and run; the fields are vLLM's flags.

    Attributes:
        num_gpu_blocks: KV blocks that requests can use (vLLM's count less its null block).
        block_size: Tokens in a KV block.
        max_num_seqs, max_num_batched_tokens: Seats, and tokens that one step may compute.
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
