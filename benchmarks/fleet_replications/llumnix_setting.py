"""The setting of Llumnix's evaluation: A10s with LLaMA-7B, power-law lengths, the systems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import SECOND, from_seconds
from sojourn.decide.limits import EngineLimits
from sojourn.fleet.design import Design, Group, Link
from sojourn.policies.tables import SLOTS
from sojourn.recipes import load_recipe
from sojourn.sim.workload import Workload
from sojourn.steplog.record import SloClass

CAPACITY_TOKENS: Final = 13_616
"""KV tokens of LLaMA-7B on an A10 (published)."""
KV_TOKEN_BYTES: Final = 2 * 32 * 4096 * 2
"""Keys and values of 32 layers of 4,096, two bytes each."""
LONGEST: Final = 6_144
A10: Final = Fitted(
    Coefficients(
        fixed=0.029,
        prefill_token=1.6e-4,
        pair=7.6e-9,
        decode=5e-5,
        context_token=2.7e-6,
    )
)
"""LLaMA-7B on an A10, from its data sheet: 13.5 GB of weights at 80 % of 600 GB/s and a
millisecond of host time; 13.5 GFLOP a token at 70 % of 125 TFLOPS less what the fixed part covers.
The price of a KV token is fitted to one published number: that 0.42 requests a second of mean
length 256 fill 62 % of one replica's memory."""
NETWORK: Final = Link("64 Gb/s", bytes_per_second=8e9, latency=SECOND // 1000)
LEAST: Final = {128: 20, 256: 8, 512: 4}
"""Shortest length of each power law: with the mean and the longest it fixes the law."""


@dataclass(frozen=True, slots=True)
class Case:
    """A workload: mean lengths, requests a second for each replica, arrivals and their number."""

    mean: int
    rate: float
    cv: float = 1.0
    requests: int = 10_000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class System:
    """What decides about the fleet: policies of the three slots with their parameters."""

    name: str
    route: str
    place: str = "least_loaded"
    scale: str = "fixed"
    parameters: tuple[tuple[str, str, Any], ...] = ()

    def slot(self, slot: str) -> tuple[str, Any]:
        """Return the policy of a slot and its configuration."""
        name = getattr(self, slot)
        given = {key: value for of, key, value in self.parameters if of == slot}
        return name, SLOTS[slot][name][0](**given)


SYSTEMS: Final = (
    System("round robin", "round_robin"),
    System("INFaaS++", "infaas"),
    System("Llumnix (paper)", "llumnix", "llumnix"),
    System("Llumnix (paper), dispatch only", "llumnix"),
    System("Llumnix (code, defaults)", "llumnix_code", "llumnix_code"),
    System(
        "Llumnix (code, migration on)",
        "llumnix_code",
        "llumnix_code",
        parameters=(("place", "routine_migration", True),),
    ),
)


def power_law(mean: int, count: int, rng: np.random.Generator) -> list[int]:
    """Return lengths with density x^-(a+1) from `LEAST` to `LONGEST`, a solved for the mean."""
    low, high = float(LEAST[mean]), float(LONGEST)

    def mean_of(a: float) -> float:
        weight = low**-a - high**-a
        return a / (1 - a) * (high ** (1 - a) - low ** (1 - a)) / weight

    below, above = 1e-3, 3.0
    for _ in range(100):
        a = (below + above) / 2
        below, above = (a, above) if mean_of(a + 1e-9) > mean else (below, a)
    weight = low**-a - high**-a
    drawn = (low**-a - rng.random(count) * weight) ** (-1 / a)
    return [int(x) for x in np.clip(np.rint(drawn), 1, LONGEST)]


def workload(case: Case, replicas: int) -> Workload:
    """Return the requests of a case for so many replicas."""
    rng = np.random.default_rng(case.seed)
    shape = 1 / case.cv**2
    gaps = rng.gamma(shape, 1 / (shape * case.rate * replicas), case.requests)
    arrival = [from_seconds(time) for time in np.cumsum(gaps)]
    count = case.requests
    return Workload(
        name=f"power law {case.mean}",
        arrival=arrival,
        prompt=power_law(case.mean, count, rng),
        output=power_law(case.mean, count, rng),
        tenant=[0] * count,
        slo_class=[0] * count,
        program=[-1] * count,
        turn=[0] * count,
        gap=[0] * count,
        following=[-1] * count,
        prefix=[],
        tenants=("all",),
        classes=(SloClass("all", 1.0, None, None),),
        block_tokens=0,
        span=arrival[-1] - arrival[0],
    )


def fleet(system: System, replicas: int, *, least: int = 0, recipe: str = "vllm-v0") -> Design:
    """Return a fleet of A10s."""
    limits = EngineLimits(
        num_gpu_blocks=CAPACITY_TOKENS // 16,
        max_num_seqs=256,
        max_num_batched_tokens=CAPACITY_TOKENS,
        max_model_len=CAPACITY_TOKENS,
        enable_prefix_caching=False,
    )
    group = Group(
        name="a10",
        count=replicas,
        recipe=load_recipe(recipe, "ideal"),
        limits=limits,
        step_time=A10,
        least=least,
        most=16,
        dollars_per_hour=1.0,
        start_time=30 * SECOND,
        kv_token_bytes=KV_TOKEN_BYTES,
        hardware="a10",
    )
    slots = {slot: system.slot(slot) for slot in ("route", "place", "scale")}
    return Design(system.name, (group,), **slots, default_link=NETWORK)
