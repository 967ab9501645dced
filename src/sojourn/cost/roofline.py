"""Step time from a model's shape and a GPU's measured shares of its data sheet.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 52(4),
2009, with three changes: the corner is rounded ((memory**p + compute**p)**(1/p)), every rate is
the share of the data sheet that vLLM's own kernels were measured to reach, and a batch that mixes
prompt chunks with decodes costs more than the two apart (see `docs/reference/cost-model.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

from sojourn.catalog.facts import Gpu, Model
from sojourn.cost.linear import LinearStep
from sojourn.errors import UserError

ACTIVATION_BYTES: Final = 2
"""Activations are bf16 whatever the weights are."""

PARALLEL: Final = (1, 2, 4, 8)
"""Tensor-parallel sizes: a GPU row has all-reduce times for these."""


@dataclass(frozen=True, slots=True)
class Host:
    """The engine's own time in a step, not hidden behind the GPU: per step and per sequence."""

    step_seconds: float = 0.0
    sequence_seconds: float = 0.0


OVERLAPPED: Final = Host()
"""Asynchronous scheduling, vLLM's default since 0.14: the host works while the GPU does."""

SYNCHRONOUS: Final = Host(step_seconds=1.4e-3, sequence_seconds=2.6e-5)
"""vLLM without asynchronous scheduling; fitted to half of the Qwen3-32B runs on vLLM 0.12.0
(aiconfigurator silicon_sample.csv), the other half being reported in the cost model's page."""


class Roofline(LinearStep):
    """A `StepTime` for one replica: `model` on `tensor_parallel` GPUs of one kind."""

    __slots__ = ("gpu", "host", "model", "tensor_parallel")

    def __init__(
        self, model: Model, gpu: Gpu, tensor_parallel: int = 1, host: Host = OVERLAPPED
    ) -> None:
        check_parallel(model, tensor_parallel)
        self.host = host
        self.model = model
        self.gpu = gpu
        self.tensor_parallel = tensor_parallel
        heads = model.heads // tensor_parallel
        kv_heads = max(model.kv_heads // tensor_parallel, 1)
        bandwidth = gpu.bandwidth_bytes_per_second
        moved = (2 * heads + 2 * kv_heads) * model.head_dim * ACTIVATION_BYTES
        flops = 4 * heads * model.head_dim  # query by key, then weight by value
        kv = model.kv_token_bytes(tensor_parallel) / (bandwidth * gpu.decode_bandwidth_share)
        group = heads // kv_heads
        super().__init__(
            prefill_launch=model.layers * gpu.prefill_launch_seconds,
            token=model.layers * moved / (bandwidth * gpu.prefill_bandwidth_share),
            pair=model.layers * flops / (gpu.flops_per_second * gpu.prefill_flops_share),
            earlier=model.layers * gpu.prior_token_seconds,
            decode_launch=model.layers * gpu.decode_launch_seconds,
            sequence=model.layers * gpu.decode_sequence_seconds,
            kv=kv,
            mixed_kv=kv * (group - 1) * gpu.mixed_reread_share,
            mixed_tile=model.layers * heads * gpu.mixed_tile_seconds,
        )

    def dense_seconds(self, tokens: int) -> float:
        """Return the layers' projections, experts, element-wise kernels, all-reduce, and host."""
        model, parallel = self.model, self.tensor_parallel
        heads = model.heads // parallel
        kv_heads = max(model.kv_heads // parallel, 1)
        query = heads * model.head_dim
        layer = self._linear(tokens, query + 2 * kv_heads * model.head_dim, model.hidden)
        layer += self._linear(tokens, model.hidden, query)
        if model.experts:
            layer += self._gemm(tokens, model.experts, model.hidden)
            layer += self._experts(tokens)
        else:
            inner = model.intermediate // parallel
            layer += self._linear(tokens, 2 * inner, model.hidden)
            layer += self._linear(tokens, model.hidden, inner)
        layer += self._elementwise(tokens)
        if parallel > 1:
            layer += 2 * self._all_reduce(tokens * model.hidden * ACTIVATION_BYTES)
        return self.host.step_seconds + model.layers * layer

    def head_seconds(self, sequences: int) -> float:
        """Return the output head, the gathering of logits over GPUs, and the sampler."""
        gpu, model = self.gpu, self.model
        time = self._gemm(sequences, model.vocab // self.tensor_parallel, model.hidden)
        if self.tensor_parallel > 1:
            # A gather moves half of what an all-reduce of the same result moves.
            time += self._all_reduce(sequences * model.vocab * ACTIVATION_BYTES // 2)
        each = gpu.sampler_sequence_seconds + self.host.sequence_seconds
        return time + gpu.sampler_seconds + sequences * each

    def _linear(self, m: int, n: int, k: int) -> float:
        """Return a projection's time with the model's weights: (m, k) by (k, n)."""
        if self.model.weight_bytes == ACTIVATION_BYTES:
            return self._gemm(m, n, k)
        gpu = self.gpu
        if not gpu.fp8_flops_per_second:
            # Weights are widened on the way in: fp8 bytes to read, bf16 arithmetic.
            return self._corner(
                gpu.gemm_launch_seconds,
                (n * k + (m * k + m * n) * ACTIVATION_BYTES)
                / (gpu.bandwidth_bytes_per_second * gpu.gemm_bandwidth_share),
                2.0 * m * n * k / (gpu.flops_per_second * gpu.gemm_flops_share),
                gpu.gemm_sharpness,
            )
        quantise = m * k * (ACTIVATION_BYTES + 1)
        quantise_rate = gpu.bandwidth_bytes_per_second * gpu.fp8_quantise_share
        return self._corner(
            gpu.fp8_launch_seconds + quantise / quantise_rate,
            (n * k + m * k + m * n * ACTIVATION_BYTES)
            / (gpu.bandwidth_bytes_per_second * gpu.fp8_bandwidth_share),
            2.0 * m * n * k / (gpu.fp8_flops_per_second * gpu.fp8_flops_share),
            gpu.fp8_sharpness,
        )

    def _gemm(self, m: int, n: int, k: int) -> float:
        """Return the time of a bf16 matrix product (m, k) by (k, n)."""
        gpu = self.gpu
        return self._corner(
            gpu.gemm_launch_seconds,
            (n * k + m * k + m * n)
            * ACTIVATION_BYTES
            / (gpu.bandwidth_bytes_per_second * gpu.gemm_bandwidth_share),
            2.0 * m * n * k / (gpu.flops_per_second * gpu.gemm_flops_share),
            gpu.gemm_sharpness,
        )

    def _experts(self, tokens: int) -> float:
        """Return one layer's experts: the weights of those touched, the FLOPs of those active."""
        gpu, model = self.gpu, self.model
        weights = model.mlp_weights / self.tensor_parallel
        touched = experts_touched(model.experts, model.experts_per_token, tokens)
        moved = touched * weights * model.weight_bytes
        return self._corner(
            gpu.moe_launch_seconds,
            moved / (gpu.bandwidth_bytes_per_second * gpu.moe_bandwidth_share),
            2.0
            * tokens
            * model.experts_per_token
            * weights
            / (gpu.flops_per_second * gpu.moe_flops_share),
            3.0,
        )

    def _elementwise(self, tokens: int) -> float:
        """Return one layer's norms, rotary embedding, gate and KV write."""
        gpu, model, parallel = self.gpu, self.model, self.tensor_parallel
        active = max(model.experts_per_token, 1)
        width = 8 * model.hidden + 3 * active * model.intermediate // parallel
        width += 4 * (model.heads + 2 * model.kv_heads) * model.head_dim // parallel
        rate = gpu.bandwidth_bytes_per_second * gpu.elementwise_bandwidth_share
        return gpu.elementwise_seconds + tokens * width * ACTIVATION_BYTES / rate

    def _all_reduce(self, message_bytes: int) -> float:
        index = PARALLEL.index(self.tensor_parallel) - 1
        latency = self.gpu.all_reduce_latency_seconds[index]
        ramp = self.gpu.all_reduce_root_seconds[index] * sqrt(message_bytes)
        return latency + ramp + message_bytes / self.gpu.all_reduce_bytes_per_second[index]

    @staticmethod
    def _corner(launch: float, memory: float, compute: float, sharpness: float) -> float:
        """Return launch + (memory**p + compute**p)**(1/p), never below either."""
        large, small = (memory, compute) if memory > compute else (compute, memory)
        ratio: float = (small / large) ** sharpness
        rounded: float = (1.0 + ratio) ** (1.0 / sharpness)
        return launch + large * rounded


def experts_touched(experts: int, per_token: int, tokens: int) -> float:
    """Return the expected number of distinct experts that `tokens` tokens use in one layer.

    experts * (1 - (1 - per_token / experts)**tokens): each token picks `per_token` of `experts`
    at random, independently of the others. Skewed routing touches fewer.
    """
    return float(experts * (1.0 - (1.0 - per_token / experts) ** tokens))


def check_parallel(model: Model, tensor_parallel: int) -> None:
    """Raise UserError unless `model` splits over `tensor_parallel` GPUs."""
    if tensor_parallel not in PARALLEL:
        raise UserError(f"tensor parallel size {tensor_parallel} is not one of 1, 2, 4, 8")
    if model.heads % tensor_parallel:
        fits = max(size for size in PARALLEL if model.heads % size == 0)
        raise UserError(
            f"{model.name} has {model.heads} attention heads, which do not split over "
            f"{tensor_parallel} GPUs; use {fits} or fewer"
        )
