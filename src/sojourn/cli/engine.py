"""From vLLM's flags to the fleet that runs a workload, with every limit resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sojourn.cli.measured import NOT_GIVEN, engine_names, given_flags, with_measured
from sojourn.cli.options import RANGES, check_range
from sojourn.errors import UserError

if TYPE_CHECKING:
    from sojourn.catalog import Gpu, Model
    from sojourn.cost import Fitted, Roofline
    from sojourn.sim.engines import Hardware
    from sojourn.sim.study import Fleet

SWAP_SPACE_GIB: Final = 64.0
SWAP_GB_PER_SECOND: Final = 25.0
"""What copies over PCIe 4.0 x16 reach of its 31.5 GB/s."""
SWAP_GB_PER_SECOND_PCIE5: Final = 50.0
PCIE5: Final = frozenset({"h100-sxm", "h200", "rtx-pro-6000"})
"""GPUs of the catalogue whose data sheet says PCIe 5.0 x16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFlags:
    """The engine as asked for on the command line; None where the default depends on the rest."""

    model: str | None
    gpu: str | None
    cost: Path | None
    host: str
    tensor_parallel_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int | None
    block_size: int
    num_gpu_blocks_override: int | None
    gpu_memory_utilization: float
    enable_prefix_caching: bool
    replicas: int
    route: str | None
    fleet: list[Path] | None
    swap_space: float | None
    swap_bandwidth: float | None
    given: frozenset[str] = frozenset()


def engine_flags(values: Mapping[str, Any]) -> EngineFlags:
    """Return the flags among a command's values by parameter name."""
    names = [field.name for field in fields(EngineFlags) if field.name != "given"]
    return EngineFlags(**{name: values[name] for name in names}, given=given_flags(values))


@dataclass(frozen=True, slots=True)
class Engine:
    """A resolved engine, or several.

    Attributes:
        fleets: What runs the workload; of several the first is what others are held against.
        model: Name of the model.
        gpu: Name of the GPU.
        limits: Every resolved limit by vLLM's name; JSON values.
        notices: What was changed or ignored, one sentence each.
    """

    fleets: tuple[Fleet, ...]
    model: str
    gpu: str
    limits: dict[str, Any]
    notices: tuple[str, ...]


def resolve_engine(flags: EngineFlags, recipes: Sequence[str] = ()) -> Engine:
    """Return the engine that the flags describe, for recipes of these names.

    Raises:
        UserError: For an unknown name, a value out of range, or a model that does not fit.
    """
    from sojourn.catalog import load_gpu, load_model
    from sojourn.decide.limits import EngineLimits
    from sojourn.errors import unknown
    from sojourn.policies.tables import SLOTS
    from sojourn.recipes.hosts import HOSTS
    from sojourn.sim.study import Fleet

    if flags.host not in HOSTS:
        raise unknown("host", flags.host, HOSTS)
    if flags.route is not None and flags.route not in SLOTS["route"]:
        raise unknown("router in --route", flags.route, SLOTS["route"])
    for name in RANGES:
        if hasattr(flags, name):
            check_range(name, getattr(flags, name))
    flags, notices = with_measured(flags, flags.given)
    model = None if flags.model is None else load_model(flags.model)
    gpu = None if flags.gpu is None else load_gpu(flags.gpu)
    if gpu is None and flags.cost is None:
        raise UserError("give --gpu, such as --gpu h100-sxm, or --cost with fitted coefficients")
    cost, source = _cost(flags, model, gpu)
    blocks = _blocks(flags, model, gpu)
    # vLLM keeps one block for padding, which no request can use.
    usable = blocks - 1
    model_len = _model_len(flags, model, usable * flags.block_size, notices)
    _note_server_defaults(flags, gpu, recipes, notices)
    swap, swap_blocks, swap_seconds = _swap(flags, model, gpu, notices)
    limits = EngineLimits(
        num_gpu_blocks=usable,
        block_size=flags.block_size,
        max_num_seqs=flags.max_num_seqs,
        max_num_batched_tokens=flags.max_num_batched_tokens,
        max_model_len=model_len,
        enable_prefix_caching=flags.enable_prefix_caching,
        swap_blocks=swap_blocks,
    )
    names = engine_names(flags, model, gpu)
    hardware = hardware_of(model, names[1], flags.tensor_parallel_size)
    if flags.replicas > 1 and not hardware.dollars_per_hour:
        notices.append(
            f"the catalogue has no price for {_known(names[1])}: costs are left out; a fleet file "
            "(--fleet) takes price_per_hour"
        )
    fleet = Fleet(limits, cost, flags.replicas, swap_block_seconds=swap_seconds, hardware=hardware)
    resolved = {
        "tensor_parallel_size": flags.tensor_parallel_size,
        "max_num_seqs": limits.max_num_seqs,
        "max_num_batched_tokens": limits.max_num_batched_tokens,
        "max_model_len": limits.max_model_len,
        "block_size": limits.block_size,
        "num_gpu_blocks": blocks,
        "kv_cache_tokens": usable * limits.block_size,
        "gpu_memory_utilization": (
            flags.gpu_memory_utilization if flags.num_gpu_blocks_override is None else None
        ),
        "enable_prefix_caching": limits.enable_prefix_caching,
        "replicas": flags.replicas,
        "route": flags.route or "round_robin",
        "host": flags.host,
        **swap,
        "cost": source,
    }
    if flags.replicas > 1:
        resolved |= _shown(hardware)
    return Engine((fleet,), *names, resolved, tuple(notices))


def _shown(hardware: Hardware) -> dict[str, Any]:
    """Return what a fleet takes for granted of like replicas, as limits show it."""
    link = hardware.link
    return {
        "dollars_per_hour": hardware.dollars_per_hour or None,
        "link": f"{link.name}, {link.bytes_per_second / 1e9:g} GB/s a replica",
    }


def _known(gpu: str) -> str:
    """Return a GPU's name, or that there is none."""
    return gpu if gpu != NOT_GIVEN else "a GPU that was not given"


def hardware_of(model: Model | None, gpu: str, gpus: int, market: str = "on-demand") -> Hardware:
    """Return what the catalogue says of a replica: price, cold start, KV and its card."""
    from sojourn.catalog.cluster import gpu_price, load_link, start_seconds
    from sojourn.decide.clock import from_seconds
    from sojourn.fleet.design import Link
    from sojourn.sim.engines import Hardware

    card = load_link("rdma", [(gpu, gpus)], "the link")
    return Hardware(
        name=gpu,
        gpus=gpus,
        dollars_per_hour=(gpu_price(gpu, market) or 0.0) * gpus,
        start_time=0 if model is None else from_seconds(start_seconds(model.weights_bytes)),
        kv_token_bytes=0 if model is None else model.kv_token_bytes(),
        link=Link(card.name, card.bytes_per_second, from_seconds(card.latency_seconds)),
    )


def _cost(
    flags: EngineFlags, model: Model | None, gpu: Gpu | None
) -> tuple[Roofline | Fitted, str]:
    """Return the step times and where they come from."""
    from sojourn.cost import Floor, Roofline, load_fitted

    try:
        if flags.cost is not None:
            floor = None
            if model is not None and gpu is not None:
                floor = Floor(model, gpu, flags.tensor_parallel_size)
            return load_fitted(flags.cost, floor), f"fitted: {flags.cost.name}"
        assert model is not None and gpu is not None, "both, or fitted coefficients"  # noqa: PT018
        return Roofline(model, gpu, flags.tensor_parallel_size), "roofline, asynchronous scheduling"
    except OverflowError:
        what = f"coefficients of {str(flags.cost)!r}" if flags.cost else f"rates of {flags.gpu!r}"
        raise UserError(f"the {what} give times beyond any clock: are they in seconds?") from None


def _blocks(flags: EngineFlags, model: Model | None, gpu: Gpu | None) -> int:
    """Return the number of KV blocks as vLLM counts them."""
    from sojourn.cost import kv_blocks

    if flags.num_gpu_blocks_override is not None:
        return flags.num_gpu_blocks_override
    if gpu is None or model is None:
        raise UserError(
            "without --gpu the KV cache's size is unknown: give --num-gpu-blocks-override, the "
            "number that vLLM logs at start-up"
        )
    blocks = kv_blocks(
        model,
        gpu,
        flags.tensor_parallel_size,
        gpu_memory_utilization=flags.gpu_memory_utilization,
        block_size=flags.block_size,
        max_num_batched_tokens=flags.max_num_batched_tokens,
        max_num_seqs=flags.max_num_seqs,
    )
    return max(blocks, 2)


def _note_server_defaults(
    flags: EngineFlags, gpu: Gpu | None, recipes: Sequence[str], notices: list[str]
) -> None:
    """Say so where vLLM's server would start with more seats and tokens than 256 and 2,048.

    Source: vLLM 0.32, `EngineArgs.get_batch_defaults`, for its OpenAI-compatible server.
    """
    if gpu is None or (flags.max_num_seqs, flags.max_num_batched_tokens) != (256, 2048):
        return
    gibibytes = gpu.memory_bytes / 2**30
    if gibibytes < 70 or (gpu.name.startswith("a100") and gibibytes < 160):
        return
    tokens = 16384 if gibibytes >= 160 else 8192
    if f"vllm@1024x{tokens}" in recipes:
        return
    notices.append(
        f"vLLM's server starts with 1024 seats and {tokens} tokens per step on {gpu.name}; "
        f"to hold the others against that too, add the recipe vllm@1024x{tokens}"
    )


def _model_len(flags: EngineFlags, model: Model | None, capacity: int, notices: list[str]) -> int:
    """Return the longest request; the model's own length is cut to the KV cache."""
    if model is None:
        assert flags.max_model_len is not None, "the measured engine's, or given"
        return flags.max_model_len
    longest = model.max_positions or capacity
    if flags.max_model_len is not None:
        if flags.max_model_len > longest:
            raise UserError(
                f"--max-model-len is {flags.max_model_len}; {model.name} has {longest} positions"
            )
        return flags.max_model_len
    if longest > capacity:
        notices.append(
            f"max_model_len is cut from {longest} to {capacity} tokens, which the KV cache holds; "
            "vLLM refuses to start without --max-model-len here"
        )
        return capacity
    return longest


def _swap(
    flags: EngineFlags, model: Model | None, gpu: Gpu | None, notices: list[str]
) -> tuple[dict[str, Any], int, float]:
    """Return the limits of swapping, its blocks, and the seconds to copy one."""
    for name, value in (("space", flags.swap_space), ("bandwidth", flags.swap_bandwidth)):
        if value is not None and flags.host != "ideal":
            notices.append(f"--swap-{name} has no effect: host {flags.host!r} does not swap")
    if flags.host != "ideal":
        return {"swap_space_gib": 0, "swap_gb_per_second": None}, 0, 0.0
    assert model is not None, "only with a model's facts"
    space = flags.swap_space or SWAP_SPACE_GIB
    fast = gpu is not None and gpu.name in PCIE5
    rate = flags.swap_bandwidth or (SWAP_GB_PER_SECOND_PCIE5 if fast else SWAP_GB_PER_SECOND)
    block_bytes = flags.block_size * model.kv_token_bytes(flags.tensor_parallel_size)
    blocks = int(space * 2**30) // block_bytes
    limits = {"swap_space_gib": space, "swap_gb_per_second": rate}
    return limits, blocks, block_bytes / (rate * 1e9)
