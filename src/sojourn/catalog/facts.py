"""What a GPU and a model are to the cost model: plain numbers, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU: its data sheet, and the share of it that serving kernels were measured to reach.

    A `*_share` multiplies a data-sheet rate (above one where the level-2 cache serves
    activations); a `*_launch_seconds` is the fixed time of one kernel.
    `all_reduce_*` hold one value for 2, 4 and 8 GPUs. `sources` maps a field, or a prefix of
    fields, to where its numbers come from.
    """

    name: str
    aliases: tuple[str, ...]
    memory_bytes: int
    """What CUDA reports as total memory; a few per cent below the figure on the box."""
    bandwidth_bytes_per_second: float
    flops_per_second: float
    """Dense bf16 tensor-core FLOP/s, without sparsity."""
    fp8_flops_per_second: float
    """Dense fp8 FLOP/s; 0 where the GPU has none."""
    gemm_launch_seconds: float
    gemm_bandwidth_share: float
    gemm_flops_share: float
    gemm_sharpness: float
    """p of (memory**p + compute**p)**(1/p): how sharp the corner of the roofline is."""
    fp8_launch_seconds: float
    fp8_bandwidth_share: float
    fp8_flops_share: float
    fp8_sharpness: float
    fp8_quantise_share: float
    """Share of bandwidth at which activations are read in bf16 and written in fp8."""
    moe_launch_seconds: float
    moe_bandwidth_share: float
    moe_flops_share: float
    prefill_launch_seconds: float
    prefill_flops_share: float
    prefill_bandwidth_share: float
    prior_token_seconds: float
    """Added to one layer's prefill attention by each earlier token that a chunk reads again."""
    decode_launch_seconds: float
    decode_bandwidth_share: float
    decode_sequence_seconds: float
    mixed_reread_share: float
    """Share of a group's KV re-reads that reach memory when decodes run beside a chunk."""
    mixed_tile_seconds: float
    """Added to one layer by each (query head x chunk token x decode) of a mixed batch."""
    elementwise_seconds: float
    """Norms, rotary embedding, gate and KV write of one layer, at one token."""
    elementwise_bandwidth_share: float
    sampler_seconds: float
    sampler_sequence_seconds: float
    all_reduce_latency_seconds: tuple[float, float, float]
    all_reduce_root_seconds: tuple[float, float, float]
    """Times the square root of the message's bytes: the rate still rises with the message."""
    all_reduce_bytes_per_second: tuple[float, float, float]
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A decoder-only transformer with grouped-query attention, as its config.json describes it.

    `intermediate` is that of one expert where `experts` > 0. `weight_bytes` is the size of one
    weight of the linear layers (2 bf16, 1 fp8); embeddings and head stay at 2. `kv_bytes` is the
    size of one number of the KV cache.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_positions: int
    tie_word_embeddings: bool
    qkv_bias: bool
    qk_norm: bool
    experts: int
    experts_per_token: int
    weight_bytes: int
    kv_bytes: int
    source: str

    @property
    def attention_weights(self) -> int:
        """Weights of one layer's query, key, value and output projections, without biases."""
        return 2 * self.hidden * (self.heads + self.kv_heads) * self.head_dim

    @property
    def mlp_weights(self) -> int:
        """Weights of one layer's gate, up and down projections; of one expert if there are any."""
        return 3 * self.hidden * self.intermediate

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: projections, biases, norms, experts and their router."""
        small = 2 * self.hidden
        if self.qkv_bias:
            small += (self.heads + 2 * self.kv_heads) * self.head_dim
        if self.qk_norm:
            small += 2 * self.head_dim
        mlp = self.mlp_weights
        if self.experts:
            mlp = self.experts * (mlp + self.hidden)
        return self.attention_weights + mlp + small

    @property
    def parameters(self) -> int:
        """All parameters; equals the count that the checkpoint's safetensors headers give."""
        tables = 1 if self.tie_word_embeddings else 2
        return self.layers * self.layer_parameters + tables * self.vocab * self.hidden + self.hidden

    @property
    def weights_bytes(self) -> int:
        """Bytes of the whole checkpoint in memory, before any split over GPUs."""
        tables = (1 if self.tie_word_embeddings else 2) * self.vocab * self.hidden
        linear = self.attention_weights + max(self.experts, 1) * self.mlp_weights
        rest = self.parameters - tables - self.layers * linear
        return 2 * (tables + rest) + self.weight_bytes * self.layers * linear

    def kv_token_bytes(self, tensor_parallel: int = 1) -> int:
        """Bytes of one token's keys and values on each GPU; too few KV heads are replicated."""
        heads = max(self.kv_heads // tensor_parallel, 1)
        return 2 * self.layers * heads * self.head_dim * self.kv_bytes
