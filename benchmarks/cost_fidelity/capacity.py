"""KV capacities that real vLLM servers logged at start-up, beside those of `kv_blocks`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sojourn.catalog import load_gpu, load_model
from sojourn.cost import kv_blocks

GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Logged:
    """A "GPU KV cache size: N tokens" line and what it was logged for."""

    model: str
    gpu: str
    memory_gib: float
    """The card's total memory where it is not the catalogue's card; 0 otherwise."""
    card: str
    tensor_parallel: int
    utilization: float
    max_num_batched_tokens: int
    max_num_seqs: int
    tokens: int
    source: str

    def predicted(self) -> int:
        """Return the tokens that `kv_blocks` gives for it."""
        gpu = load_gpu(self.gpu)
        if self.memory_gib:
            gpu = replace(gpu, memory_bytes=int(self.memory_gib * GIB))
        return 16 * kv_blocks(
            load_model(self.model),
            gpu,
            self.tensor_parallel,
            gpu_memory_utilization=self.utilization,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_num_seqs=self.max_num_seqs,
        )


LOGGED: Final = (
    Logged(
        "llama-3.1-8b",
        "h100-sxm",
        0.0,
        "80 GB DGX",
        1,
        0.9,
        8192,
        1024,
        442_160,
        "vLLM issue log of 18 May 2025, NIXL_ERR_BACKEND; limits are the defaults of that version",
    ),
    Logged(
        "llama-3.1-8b",
        "l40s",
        47.5,
        "RTX A6000 48 GB",
        1,
        0.9,
        2048,
        256,
        216_624,
        "published engine log: 26.44 GiB for KV; default limits assumed",
    ),
    Logged(
        "qwen3-8b",
        "l40s",
        0.0,
        "L40S",
        1,
        0.9,
        2048,
        256,
        170_944,
        "published benchmark diary, September 2026; default limits assumed",
    ),
    Logged(
        "qwen3-32b",
        "rtx-pro-6000",
        0.0,
        "2 x RTX PRO 6000",
        2,
        0.426,
        2048,
        256,
        67_296,
        "published walk-through, vLLM 0.27.1: 8.22 GiB for KV",
    ),
)


def table() -> list[str]:
    """Return the comparison as a Markdown table."""
    lines = [
        "| model | card | TP | utilization | logged tokens | `kv_blocks` x 16 | error | log |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in LOGGED:
        ours = row.predicted()
        lines.append(
            f"| {row.model} | {row.card} | {row.tensor_parallel} | {row.utilization} "
            f"| {row.tokens:,} | {ours:,} | {(ours / row.tokens - 1) * 100:+.1f} % "
            f"| {row.source} |"
        )
    return lines
