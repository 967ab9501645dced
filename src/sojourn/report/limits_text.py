"""Every resolved limit of a run as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def limit_texts(limits: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the limits, each with its name; fleets are not among them."""
    parts = []
    for name, value in limits.items():
        if name == "slo_classes":
            parts += [("slo_class", _slo(one)) for one in value]
        elif name == "rate_scales":
            parts.append((name, " ".join(f"{scale:.4g}" for scale in value)))
        elif name != "fleets":
            parts.append((name, _plain(value)))
    return parts


def fleet_text(fleet: Mapping[str, Any]) -> str:
    """Return a fleet in a sentence; parts that belong together are joined by unbroken spaces."""
    links = [one for one in fleet["links"] if one["between"]] or [fleet["link"]]
    parts = [*map(_group, fleet["replicas"]), *map(_link, links)]
    if fleet["report_period_seconds"]:
        parts.append(
            f"reports every {fleet['report_period_seconds']:g} s, "
            f"{fleet['report_age_seconds']:g} s old"
        )
    if fleet["spot_losses"]:
        parts.append(f"{fleet['spot_losses']} spot losses of {fleet['spot_log']['name']}")
    if fleet["faults"]:
        parts.append(
            f"{_several('fault', fleet['faults'])}, requests of lost replicas: {fleet['lost']}"
        )
    parts += [f"{slot} {policy}" for slot, policy in fleet["slots"].items()]
    text = "; ".join(part.replace(" ", "\u00a0") for part in parts)
    return f"Fleet {fleet['name']}: {text}"


def _group(group: Mapping[str, Any]) -> str:
    gpus, price = group["tensor_parallel_size"], group["dollars_per_hour"]
    each = group["gpu"] if gpus == 1 else f"{gpus}x{group['gpu']}"
    more = [] if group["role"] == "mixed" else [group["role"]]
    more += [group["recipe"]] if group["recipe"] else []
    more.append(f"{group['max_num_seqs']} seats")
    more.append(f"{group['kv_cache_tokens']} KV tokens")
    more.append("no price" if price is None else f"${price:.4g}/h each")
    return f"{group['name']} {group['count']} of {each} ({', '.join(more)})"


def _link(link: Mapping[str, Any]) -> str:
    ends = f" {'-'.join(link['between'])}" if link["between"] else ""
    total = link["total_gb_per_second"]
    bound = f", {total:g} GB/s in all" if total else ""
    return f"{link['kind']}{ends} {link['gb_per_second']:g} GB/s a replica{bound}"


def _several(noun: str, things: Sequence[Any]) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _slo(one: dict[str, Any]) -> str:
    bounds = ",".join(
        f"{key}={value:g}" for key, value in one.items() if key != "name" and value is not None
    )
    return f"{one['name']}:{bounds}"


def _plain(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(str(one) for one in value)
    return str(value)
