"""The least time that a step can take on a GPU: what no coefficient may promise to beat."""

from __future__ import annotations

from typing import Final

from sojourn.catalog.facts import Gpu, Model
from sojourn.cost.roofline import check_parallel, experts_touched
from sojourn.decide.clock import Time, from_seconds
from sojourn.decide.services import StepTime
from sojourn.errors import UserError

PROBES: Final = (
    # tokens, pairs, prior, prompts, decodes, context
    (0, 0, 0, 0, 1, 1),
    (0, 0, 0, 0, 1, 8192),
    (0, 0, 0, 0, 64, 64 * 1024),
    (0, 0, 0, 0, 256, 256 * 4096),
    (512, 512 * 513 // 2, 0, 1, 0, 0),
    (2048, 2048 * 2049 // 2, 0, 1, 0, 0),
    (2048, 2048 * 8192 + 2048 * 2049 // 2, 8192, 1, 0, 0),
    (1920, 1920 * 1921 // 2, 0, 1, 128, 128 * 2048),
)
"""Steps at which coefficients are held against the floor."""


class Floor:
    """The larger of bytes over peak bandwidth and FLOPs over peak FLOP/s, at no overhead at all.

    Bytes: the weights that the step must read once and the KV of its decodes. FLOPs: two for
    each active weight and token, and the attention products of the prompts. Data-sheet rates;
    cached activations count as free, and so does communication.
    """

    __slots__ = ("gpu", "model", "tensor_parallel")

    def __init__(self, model: Model, gpu: Gpu, tensor_parallel: int = 1) -> None:
        check_parallel(model, tensor_parallel)
        self.model = model
        self.gpu = gpu
        self.tensor_parallel = tensor_parallel

    def step(
        self, tokens: int, pairs: int, prior: int, prompts: int, decodes: int, context: int
    ) -> Time:
        """Return the floor of one step in picoseconds; arguments as `StepTime.step` has them."""
        total = tokens + decodes
        if not total:
            return 0
        model, gpu = self.model, self.gpu
        experts, active = 1.0, 1
        if model.experts:
            experts = experts_touched(model.experts, model.experts_per_token, total)
            active = model.experts_per_token
        weights = model.layers * (model.attention_weights + experts * model.mlp_weights)
        read = weights * model.weight_bytes + 2 * model.vocab * model.hidden
        moved = read / self.tensor_parallel + context * model.kv_token_bytes(self.tensor_parallel)
        linear = 2.0 * model.layers * (model.attention_weights + active * model.mlp_weights)
        head = 2.0 * model.vocab * model.hidden * (prompts + decodes)
        attention = 4.0 * model.layers * model.heads * model.head_dim * (pairs + context)
        peak = gpu.flops_per_second
        fast = gpu.fp8_flops_per_second if model.weight_bytes == 1 else 0.0
        compute = linear * total / max(fast, peak) + (head + attention) / peak
        del prior  # read again from the cache of the same step: counted in `pairs`, not in bytes
        memory = moved / gpu.bandwidth_bytes_per_second
        return from_seconds(max(memory, compute / self.tensor_parallel))


def check_floor(cost: StepTime, floor: Floor, where: str) -> None:
    """Raise UserError if `cost` beats the floor at any of `PROBES`, naming the first such step."""
    for probe in PROBES:
        least, promised = floor.step(*probe), cost.step(*probe)
        if promised < least:
            tokens, _, _, _, decodes, context = probe
            raise UserError(
                f"{where} promises {promised / 1e9:.3g} ms for a step of {tokens} prompt tokens "
                f"and {decodes} decodes over {context} KV tokens, but {floor.model.name} on "
                f"{floor.tensor_parallel} x {floor.gpu.name} cannot take less than "
                f"{least / 1e9:.3g} ms: fit the coefficients again, or name the right model and GPU"
            )
