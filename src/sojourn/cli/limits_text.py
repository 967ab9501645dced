"""Every resolved limit in a few lines."""

from __future__ import annotations

from typing import Any

import typer


def print_limits(limits: dict[str, Any]) -> None:
    """Print every resolved limit on a few lines."""
    from textwrap import fill

    from sojourn.report.limits_text import fleet_text, limit_texts

    # A name stays with its value when lines are folded.
    parts = [f"{name} {text}".replace(" ", "\u00a0") for name, text in limit_texts(limits)]
    fleets = [fleet_text(one) for one in limits.get("fleets", ())]
    for line in (f"Limits: {', '.join(parts)}", *fleets):
        folded = fill(line, 100, subsequent_indent="  ", break_on_hyphens=False)
        typer.echo(folded.replace("\u00a0", " "))
