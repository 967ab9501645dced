"""The designs under study: 16 GPUs of one kind, as 16 replicas or as fewer of several GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sojourn.catalog import load_gpu, load_model
from sojourn.cost import Roofline, kv_blocks
from sojourn.decide.clock import from_seconds
from sojourn.decide.limits import EngineLimits
from sojourn.fleet.design import Design, Group, Link
from sojourn.policies.tables import SLOTS
from sojourn.recipes import load_recipe

MODEL: Final = "llama-3.1-8b"
GPU: Final = "h100-sxm"
GPUS: Final = 16
SEATS: Final = 256
TOKENS: Final = 2048
BASELINE: Final = "round robin"
STOCK: Final = (BASELINE, "vLLM data parallel")
"""What needs nothing but vLLM and a plain balancer; the better of them is what is to be beaten."""
LINK: Final = Link("rdma", bytes_per_second=50e9, latency=from_seconds(2e-5))
"""A 400 Gbit/s port for each GPU."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A design before it is built.

    Attributes:
        name: What to call it.
        route, place: Policies.
        prefills: Replicas that only compute prompts; 0 where all do both.
        tensor: GPUs of each replica.
        parameters: Of the router, where they are not its defaults.
    """

    name: str
    route: str
    place: str = "least_loaded"
    prefills: int = 0
    tensor: int = 1
    parameters: Mapping[str, Any] = field(default_factory=dict)


SHAPES: Final = (
    Shape(BASELINE, "round_robin"),
    Shape("vLLM data parallel", "vllm_data_parallel"),
    Shape("power of two", "power_of_two"),
    Shape("shortest in tokens", "join_shortest_tokens"),
    Shape("sticky sessions", "session_sticky"),
    Shape("sticky until saturated", "sticky_until_saturated"),
    Shape("prefix-aware (SGLang)", "prefix_aware"),
    Shape("Preble E2", "preble_e2"),
    Shape("Conductor (Mooncake)", "mooncake_conductor"),
    Shape("the same, fetching", "mooncake_conductor", parameters={"fetches": True}),
    Shape("Llumnix", "llumnix", "llumnix"),
    Shape("split 4 : 12", "join_shortest_tokens", prefills=4),
    Shape("split 8 : 8", "join_shortest_tokens", prefills=8),
    Shape("split 10 : 6", "join_shortest_tokens", prefills=10),
    Shape("split 12 : 4", "join_shortest_tokens", prefills=12),
    Shape("split 14 : 2", "join_shortest_tokens", prefills=14),
    Shape("8 of two GPUs", "join_shortest_tokens", tensor=2),
    Shape("8 of two GPUs, SGLang", "prefix_aware", tensor=2),
)


def build(shape: Shape, block_tokens: int, dollars_per_hour: float) -> Design:
    """Return a design, ready to run a workload with so many tokens behind a prefix id."""
    model, gpu = load_model(MODEL), load_gpu(GPU)
    blocks = kv_blocks(
        model,
        gpu,
        shape.tensor,
        gpu_memory_utilization=0.9,
        block_size=16,
        max_num_batched_tokens=TOKENS,
        max_num_seqs=SEATS,
    )
    usable = blocks - 1
    limits = EngineLimits(
        num_gpu_blocks=usable,
        block_size=16,
        max_num_seqs=SEATS,
        max_num_batched_tokens=TOKENS,
        max_model_len=min(model.max_positions or usable * 16, usable * 16),
        block_tokens=block_tokens,
    )
    like: dict[str, Any] = {
        "recipe": load_recipe("vllm"),
        "limits": limits,
        "step_time": Roofline(model, gpu, shape.tensor),
        "kv_token_bytes": shape.tensor * model.kv_token_bytes(shape.tensor),
        "gpus": shape.tensor,
        "dollars_per_hour": shape.tensor * dollars_per_hour,
        "hardware": GPU,
    }
    count = GPUS // shape.tensor
    groups: tuple[Group, ...] = (Group(name="replica", count=count, **like),)
    if shape.prefills:
        groups = (
            Group(name="prefill", count=shape.prefills, role="prefill", **like),
            Group(name="decode", count=count - shape.prefills, role="decode", **like),
        )
    slots = {"route": shape.route, "place": shape.place, "scale": "fixed"}
    given = {"route": shape.parameters}
    named = {
        slot: (name, SLOTS[slot][name][0](**given.get(slot, {}))) for slot, name in slots.items()
    }
    return Design(shape.name, groups, **named, default_link=LINK)  # type: ignore[arg-type]
