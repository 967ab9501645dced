"""The comparison of training runs as one HTML page that needs no network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from sojourn import __version__
from sojourn.files import write_text
from sojourn.report import units
from sojourn.report.page_parts import asset, script_json
from sojourn.report.rollouts import CANDIDATE, ORACLE, RolloutRow, RolloutVerdict, gain_text
from sojourn.report.rollouts_table import LEARNING, SPEED, TOKENS, Column

SCHEMA: Final = "sojourn/rollout-compare/1"
BY_THE_TRUTH: Final = {"policy": "by the truth"}
"""How the selector of the oracle is called, which is no policy that a scenario could name."""


def rollouts_document(
    name: str,
    settings: Mapping[str, Any],
    rows: Sequence[RolloutRow],
    verdict: RolloutVerdict,
    complete: bool,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return all results as JSON values; `notes` are what the user should know, as sentences."""
    return {
        "schema": SCHEMA,
        "sojourn": __version__,
        "scenario": name,
        "complete": complete,
        "verdict": {
            "text": verdict.text,
            "overall": verdict.overall,
            "recommended": verdict.recommended,
        },
        "notes": list(notes),
        "candidates": [row.to_json() | {"policies": policies_of(row)} for row in rows],
        "settings": dict(settings),
    }


def policies_of(row: RolloutRow) -> dict[str, Any]:
    """Return policy and parameters of each slot; the oracle's selector is no policy."""
    found = dict(row.policies)
    return found | {"select": BY_THE_TRUTH} if row.role == ORACLE else found


def write_rollouts_html(
    path: str | Path,
    name: str,
    settings: Mapping[str, Any],
    rows: Sequence[RolloutRow],
    verdict: RolloutVerdict,
    notes: Sequence[str] = (),
) -> None:
    """Write the page to a file, whole or not at all."""
    write_text(path, render_rollouts(name, settings, rows, verdict, notes))


def render_rollouts(
    name: str,
    settings: Mapping[str, Any],
    rows: Sequence[RolloutRow],
    verdict: RolloutVerdict,
    notes: Sequence[str] = (),
) -> str:
    """Return the page as text; the same inputs give the same page."""
    from plotly.offline import get_plotlyjs

    page = Template(asset("rollouts.html"))
    reasons = "".join(f"<li>{escape(units.bound(one))}</li>" for one in verdict.reasons)
    return page.substitute(
        title=escape(f"Sojourn: {name}"),
        style=asset("page.css"),
        plotly=get_plotlyjs(),
        script=asset("rollouts.js"),
        name=escape(name),
        version=__version__,
        notes="".join(f'<p class="note">{escape(one)}</p>' for one in notes),
        overall=escape(units.bound(verdict.overall)),
        reasons=f"<ul>{reasons}</ul>" if reasons else "",
        speed=_table(rows, SPEED),
        tokens=_table(rows, TOKENS),
        learning=_table(rows, LEARNING),
        policies="".join(map(_policies, rows)),
        settings=_settings(settings),
        data=script_json(_data(rows)),
    )


def _data(rows: Sequence[RolloutRow]) -> list[dict[str, Any]]:
    """Return what the charts are drawn from."""
    return [
        {
            "name": row.name,
            "bound": row.role != CANDIDATE,
            "gain": gain_text(row.gain),
            "rate": row.value("effective_per_second"),
            "interval": _interval(row, "effective_per_second"),
            "steps": {
                name: [float(f"{value:.5g}") for value in values]
                for name, values in row.steps.items()
            },
            "lengths": {name: list(values) for name, values in row.lengths.items()},
            "tokens": [row.value(one) for one in ("trained", "carried", "discarded")],
        }
        for row in rows
    ]


def _interval(row: RolloutRow, measure: str) -> list[float] | None:
    found = row.estimates[measure]
    return None if found is None or found.interval is None else [*found.interval]


def _table(rows: Sequence[RolloutRow], columns: Sequence[Column]) -> str:
    """Return a table of all rows."""
    heads = "".join(
        f'<th class="number">{escape(column.heading).replace(chr(10), " ")}</th>'
        for column in columns
    )
    body = "".join(
        f'<tr class="{"" if row.role == CANDIDATE else "simulated"}"><th>{escape(row.name)}</th>'
        + "".join(f'<td class="number">{escape(column.cell(row))}</td>' for column in columns)
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr><th>candidate</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _policies(row: RolloutRow) -> str:
    text = json.dumps(policies_of(row), ensure_ascii=False)
    return f"<tr><th>{escape(row.name)}</th><td>{escape(text)}</td></tr>"


def _settings(settings: Mapping[str, Any]) -> str:
    return "".join(
        f"<tr><th>{escape(str(key))}</th><td>{escape(_plain(value))}</td></tr>"
        for key, value in settings.items()
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
