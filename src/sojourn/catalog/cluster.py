"""What a fleet needs to know beside its GPUs: prices, links between replicas, and cold starts."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import median
from typing import Any, Final

from sojourn.catalog.load import load_model
from sojourn.errors import UserError, unknown

ON_DEMAND: Final = "on-demand"
SPOT: Final = "spot"
MARKETS: Final = (ON_DEMAND, SPOT)


@dataclass(frozen=True, slots=True)
class LinkKind:
    """What joins two replicas, as the catalogue knows it.

    Attributes:
        name: Its name.
        bytes_per_second: Of a replica, in each direction.
        latency_seconds: Until the first byte of a transfer arrives.
        source: Where the numbers come from.
    """

    name: str
    bytes_per_second: float
    latency_seconds: float
    source: str


def gpu_price(gpu: str, market: str = ON_DEMAND) -> float | None:
    """Return the dollars that a GPU costs for an hour; None if the catalogue has no price."""
    row = _table("prices.toml").get(gpu, {})
    prices = [one["dollars"] for one in row.get("on_demand", ())]
    if not prices:
        return None
    price = float(median(prices))
    return price if market == ON_DEMAND else price * (1 - row["spot_saving"]["share"])


def price_sources(gpu: str) -> Mapping[str, str]:
    """Return where a GPU's price on demand and its saving on spot come from."""
    sources: Mapping[str, str] = _table("prices.toml").get(gpu, {}).get("sources", {})
    return sources


def link_names() -> tuple[str, ...]:
    """Return the kinds of links in the catalogue."""
    return tuple(_table("links.toml"))


def load_link(name: str, ends: Sequence[tuple[str, int]], where: str) -> LinkKind:
    """Return a kind of link between two replicas.

    Args:
        name: The kind.
        ends: Name and number of the GPUs of each replica. The replica with fewer of them, or with
            the slower ones, bounds the rate. None where the rate is known already.
        where: What to call the link in errors.

    Raises:
        UserError: For an unknown kind, and a GPU that has no such port.
    """
    table = _table("links.toml")
    if name not in table:
        raise unknown(f"kind of {where}", name, table)
    row = table[name]
    rate = row.get("replica_gb_per_second")
    if rate is None:
        ports = row["gpu_gb_per_second"]
        rate = min((_port(name, ports, gpu, where) * n for gpu, n in ends), default=0.0)
    return LinkKind(name, rate * 1e9, row["latency_seconds"], row["source"])


def _port(name: str, rates: float | Mapping[str, float], gpu: str, where: str) -> float:
    """Return the rate of one GPU's port in GB/s."""
    if not isinstance(rates, Mapping):
        return rates
    if gpu not in rates:
        raise UserError(
            f"{where} is {name}, whose rate on {gpu} is unknown (known for {', '.join(rates)}): "
            "give bandwidth_gb_per_second, or another kind"
        )
    return rates[gpu]


def start_seconds(weights_bytes: int) -> float:
    """Return how long a replica takes from an empty GPU to its first answer.

    Measured times, in proportion to the bytes of the weights; `load_times.toml` says of what.
    """
    trials = _table("load_times.toml")
    seconds: float = sum(
        one["load_seconds"] + one["first_answer_seconds"] for one in trials.values()
    )
    return weights_bytes * seconds / sum(load_model(name).weights_bytes for name in trials)


@cache
def _table(file: str) -> Mapping[str, Any]:
    text = resources.files("sojourn.catalog").joinpath(file).read_text(encoding="utf-8")
    return tomllib.loads(text)
