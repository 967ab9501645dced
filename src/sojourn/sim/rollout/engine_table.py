"""The table of a scenario that says what the engines are, and the losses among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sojourn.catalog import load_gpu, load_model
from sojourn.cost import Fitted, Roofline, kv_blocks, load_fitted
from sojourn.decide.limits import EngineLimits
from sojourn.errors import UserError
from sojourn.recipes.load import DEFAULTS, Recipe, load_recipe
from sojourn.sim.engines import check_step_time
from sojourn.sim.limits import check_limits
from sojourn.sim.rollout.tables import made, table, tables
from sojourn.sim.rollout.world import EnginesPlan, Loss, check_ranges

LOAD_PERIOD_MIN: Final = 0.001


@dataclass(frozen=True, slots=True)
class EngineTable:
    """What `[engines]` may say; names are those of `sojourn compare`.

    Attributes:
        model, gpu: Of the catalogue, or paths.
        cost: A file of fitted step times; it needs `kv_cache_tokens`.
        recipe: Scheduler recipe inside each engine.
        count: Engines, all alike.
        kv_cache_tokens: Tokens that the KV cache of each holds; 0 computes it from the GPU.
        max_model_len: Tokens of a prompt and its rollout; 0 for what the KV cache holds.
        load_period_seconds: Time between the engines' reports of their load; 0 for none.
    """

    model: str = "llama-3.1-8b"
    gpu: str = "h100-sxm"
    cost: str = ""
    recipe: str = "vllm"
    count: int = 1
    tensor_parallel_size: int = 1
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int = 0
    block_size: int = 16
    gpu_memory_utilization: float = 0.9
    kv_cache_tokens: int = 0
    enable_prefix_caching: bool = True
    load_period_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        ranges = {
            "count": (1, 1024),
            "max_num_seqs": (1, 65536),
            "max_num_batched_tokens": (1, 1 << 20),
            "max_model_len": (0, 10**7),
            "block_size": (1, 4096),
            "kv_cache_tokens": (0, 10**9),
            "load_period_seconds": (0.0, 1e6),
        }
        check_ranges(self, "engines", ranges)


def engines_of(
    document: Mapping[str, Any], origin: str, folder: Path
) -> tuple[EnginesPlan, dict[str, Any]]:
    """Return the engines, and every number of theirs as JSON values."""
    given = made(EngineTable, table(document, "engines", origin), "engines", origin)
    where = f"{origin}: engines"
    try:
        if 0.0 < given.load_period_seconds < LOAD_PERIOD_MIN:
            raise UserError(
                f"load_period_seconds is {given.load_period_seconds:g}; it must be 0, or at least "
                f"{LOAD_PERIOD_MIN:g}"
            )
        cost: Roofline | Fitted
        if given.cost:
            if not given.kv_cache_tokens:
                raise UserError("with cost, give kv_cache_tokens: the KV cache's size is unknown")
            cost = load_fitted(folder / given.cost)
        else:
            cost = Roofline(
                load_model(given.model), load_gpu(given.gpu), given.tensor_parallel_size
            )
        limits = check_limits(_limits(given))
        check_step_time(cost, limits)
        recipe = _scheduler(given.recipe)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    losses = []
    for one in tables(document, "losses", origin):
        loss = made(Loss, one, "losses", origin)
        ranges = {"at_seconds": (0.0, 1e7), "engine": (0, 10**6), "for_seconds": (0.0, 1e7)}
        try:
            check_ranges(loss, "losses", ranges)
        except UserError as error:
            raise UserError(f"{origin}: {error}") from None
        losses.append(loss)
    for loss in losses:
        earlier = sum(one.at_seconds < loss.at_seconds for one in losses)
        if loss.engine >= given.count + earlier:  # each loss may bring one more
            raise UserError(
                f"{origin}: losses.engine is {loss.engine}, but engines.count is {given.count}; "
                "they are counted from 0"
            )
    plan = EnginesPlan(
        recipe=recipe,
        limits=limits,
        step_time=cost,
        count=given.count,
        load_period_seconds=given.load_period_seconds,
        losses=tuple(losses),
        gpus=given.tensor_parallel_size,
    )
    resolved = asdict(given) | {
        "max_model_len": limits.max_model_len,
        "kv_cache_tokens": limits.num_gpu_blocks * limits.block_size,
        "losses": [asdict(one) for one in losses],
    }
    if given.cost:
        resolved["model"] = resolved["gpu"] = None
    return plan, resolved


def _limits(given: EngineTable) -> EngineLimits:
    blocks = given.kv_cache_tokens // given.block_size
    if given.kv_cache_tokens and not blocks:
        raise UserError(
            f"kv_cache_tokens is {given.kv_cache_tokens}; it must be at least block_size, which "
            f"is {given.block_size}"
        )
    if not given.kv_cache_tokens:
        blocks = kv_blocks(
            load_model(given.model),
            load_gpu(given.gpu),
            given.tensor_parallel_size,
            gpu_memory_utilization=given.gpu_memory_utilization,
            block_size=given.block_size,
            max_num_batched_tokens=given.max_num_batched_tokens,
            max_num_seqs=given.max_num_seqs,
        )
        blocks = max(blocks - 1, 1)  # vLLM keeps one block for padding, which no request can use
    return EngineLimits(
        num_gpu_blocks=blocks,
        block_size=given.block_size,
        max_num_seqs=given.max_num_seqs,
        max_num_batched_tokens=given.max_num_batched_tokens,
        max_model_len=given.max_model_len or blocks * given.block_size,
        enable_prefix_caching=given.enable_prefix_caching,
        block_tokens=given.block_size,
    )


def _scheduler(name: str) -> Recipe:
    """Return the recipe inside the engines: one that sheds nothing and holds no KV."""
    recipe = load_recipe(name)
    for slot in ("admit", "retain"):
        if recipe.slots[slot][0] != DEFAULTS[slot]:
            raise UserError(
                f"recipe {recipe.name!r} has {slot} {recipe.slots[slot][0]!r}; engines of a "
                f"training run need {DEFAULTS[slot]!r}"
            )
    if recipe.fleet:
        raise UserError(f"recipe {recipe.name!r} decides about fleets; name one for an engine")
    return recipe
