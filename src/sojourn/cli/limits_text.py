"""Every resolved limit in a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer


def print_limits(limits: dict[str, Any]) -> None:
    """Print every resolved limit on a few lines."""
    from textwrap import fill

    parts = []
    for name, value in limits.items():
        if name == "slo_classes":
            parts += [f"slo_class {_slo(one)}" for one in value]
        elif name == "fleets":
            continue
        elif name == "rate_scales":
            parts.append(f"rate_scales {' '.join(f'{scale:.4g}' for scale in value)}")
        else:
            parts.append(f"{name} {_plain(value)}")
    # A name stays with its value when lines are folded.
    text = ", ".join(part.replace(" ", "\u00a0") for part in parts)
    lines = [f"Limits: {text}", *(_fleet(one) for one in limits.get("fleets", ()))]
    for line in lines:
        folded = fill(line, 100, subsequent_indent="  ", break_on_hyphens=False)
        typer.echo(folded.replace("\u00a0", " "))


def _fleet(fleet: Mapping[str, Any]) -> str:
    """Return a fleet in a sentence; parts that belong together are not to be folded."""
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
