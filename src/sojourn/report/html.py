"""The comparison as one HTML page that needs no network: verdict, charts and tables.

The page holds plotly's script, its own style and script (in `page/`) and the data as JSON.
Everything that came from the user is escaped, and a content security policy in the page itself
refuses every request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Final

from sojourn.files import write_text
from sojourn.report import html_fleet, html_tables, units
from sojourn.report.limits_text import fleet_text, limit_texts
from sojourn.report.page_parts import asset, script_json
from sojourn.report.served import FloatArray
from sojourn.report.summary import RunSummary
from sojourn.report.verdict import LoadVerdict, Verdict

PAGE_BYTES_MAX: Final = 8_000_000
THINNINGS: Final = (1, 2, 4, 8, 16)
"""Keep each so manieth point and tenant, tried in turn until the page is small enough."""


def write_html(
    path: str | Path, document: Mapping[str, Any], runs: Sequence[RunSummary], verdict: Verdict
) -> None:
    """Write the page to a file, whole or not at all; see `render_html`."""
    write_text(path, render_html(document, runs, verdict))


def render_html(document: Mapping[str, Any], runs: Sequence[RunSummary], verdict: Verdict) -> str:
    """Return the page as text; the same inputs give the same page.

    With very many runs curves and tenants are thinned to stay within `PAGE_BYTES_MAX`.

    Args:
        document: What `compare_document` returns, for the facts on the page's head and foot.
        runs: The runs, in the order to be shown.
        verdict: What `judge` says about them.
    """
    from plotly.offline import get_plotlyjs

    page = Template((files(__package__) / "page" / "page.html").read_text(encoding="utf-8"))
    fleets = any(run.picture is not None for run in runs)
    notes = (*verdict.notes, *document.get("notes", ()))
    fixed = {
        "command": "report" if "recorded" in document else "compare",
        "title": escape(f"Sojourn: {document.get('trace', '')}"),
        "style": asset("page.css"),
        "script": asset("page.js"),
        "plotly": get_plotlyjs(),
        "facts": _facts(document),
        "overall": escape(units.bound(verdict.overall)),
        "notes": "".join(f'<p class="note">{escape(note)}</p>' for note in notes),
        "verdicts": "".join(_load_card(one) for one in verdict.by_load),
        "loads": _load_options(runs),
        "load_label": units.load_heading([run.row.load for run in runs]).capitalize(),
        "rows": html_tables.results([run.row for run in runs]),
        "fleet": asset("fleet.html") if fleets else "",
        "fleet_terms": html_fleet.TERMS if fleets else "",
        "fleet_style": asset("fleet.css") if fleets else "",
        "fleet_script": f"<script>{asset('fleet.js')}</script>" if fleets else "",
        "limits": _limits(document.get("limits", {})),
    }
    text = ""
    for thinning in THINNINGS:
        text = page.substitute(
            fixed,
            classes=html_tables.classes(runs),
            tenants=_tenants(html_tables.tenants(runs, thinning)),
            data=script_json(_data(runs, verdict, thinning)),
        )
        if len(text.encode()) <= PAGE_BYTES_MAX:
            break
    return text


def _data(runs: Sequence[RunSummary], verdict: Verdict, thinning: int) -> dict[str, Any]:
    """Return what the charts are drawn from."""
    loads = load_names(runs)
    recipes = list(dict.fromkeys(run.row.recipe for run in runs))
    only_simulated = {run.row.recipe for run in runs if not run.row.deployable}
    stock = {one.stock for one in verdict.by_load}
    return {
        "loads": loads,
        "at": list(dict.fromkeys(units.at_load(run.row.load) for run in runs)),
        "loadTitle": _load_title(runs),
        "recipes": [
            {"name": name, "deployable": name not in only_simulated, "stock": name in stock}
            for name in recipes
        ],
        "bounds": [{"name": one.name, **one.bounds} for one in (runs[0].classes if runs else ())],
        "runs": [_run(run, loads, recipes, thinning) for run in runs],
        "fleets": html_fleet.data(runs, thinning),
    }


def _run(run: RunSummary, loads: list[str], recipes: list[str], thinning: int) -> dict[str, Any]:
    """Return the curves and series of one run."""
    row, series = run.row, run.series
    return {
        "load": loads.index(units.load_name(row.load)),
        "at": row.load,
        "recipe": recipes.index(row.recipe),
        "goodput": row.goodput_rps,
        "interval": row.goodput_interval,
        "offered": row.offered_rps,
        "curves": {name: _thin(curve, thinning) for name, curve in run.curves.items()},
        "bin": series.bin_seconds * thinning,
        "kv": _thin_mean(series.kv_use, thinning),
        "waiting": _thin_mean(series.waiting, thinning),
        "running": _thin_mean(series.running, thinning),
    }


def _thin(curve: FloatArray, thinning: int) -> list[float]:
    """Return each so manieth quantile, the last always among them, to four digits."""
    if not curve.size:
        return []
    last = curve.size - 1
    points = max(2, curve.size // thinning)
    picked = [curve[round(last * place / (points - 1))] for place in range(points)]
    return [_short(float(value)) for value in (picked if curve.size > 1 else curve)]


def _thin_mean(values: FloatArray, thinning: int) -> list[float]:
    """Return the means of so many neighbouring bins each, to four digits."""
    whole = values[: values.size // thinning * thinning].reshape(-1, thinning)
    return [_short(float(value)) for value in whole.mean(axis=1)]


def _short(value: float) -> float:
    """Return a number to four significant digits, which is all that a chart can show."""
    return float(f"{value:.4g}")


def _load_title(runs: Sequence[RunSummary]) -> str:
    """Return the title of an axis of loads."""
    if units.load_heading([run.row.load for run in runs]) == "rate":
        return "rate, as a factor on the trace's own"
    return "load, as a fraction of stock's capacity"


def load_names(runs: Sequence[RunSummary]) -> list[str]:
    """Return the names of the loads in order of first appearance."""
    return list(dict.fromkeys(units.load_name(run.row.load) for run in runs))


def _load_options(runs: Sequence[RunSummary]) -> str:
    """Return the choices of the load selector; the highest load is selected at first."""
    loads = list(dict.fromkeys(run.row.load for run in runs))
    opened = html_tables.highest_load(loads)
    return "".join(
        f'<option value="{place}"{" selected" if place == opened else ""}>'
        f"{escape(units.load_name(load))}</option>"
        for place, load in enumerate(loads)
    )


def _tenants(tables: str) -> str:
    """Return the card of the tenants' tables; nothing without any."""
    if not tables:
        return ""
    return (
        '<section><h2>By tenant <span class="at-load"></span></h2>'
        f"<p>Service is prompt tokens plus twice the output tokens.</p>{tables}</section>"
    )


def _facts(document: Mapping[str, Any]) -> str:
    """Return the head's facts: trace, model, GPU, seed and capacity."""
    capacity = document.get("capacity_rps")
    facts = {
        "trace": document.get("trace"),
        "model": document.get("model"),
        "GPU": document.get("gpu"),
        "seed": document.get("seed"),
        "stock capacity": None if capacity is None else f"{units.rate(capacity)} req/s",
    }
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts.items()
        if value is not None
    )


def _load_card(one: LoadVerdict) -> str:
    """Return the verdict on a load: a heading and one item for each line of the reasons."""
    items = "".join(f"<li>{escape(units.bound(line))}</li>" for line in one.why.split("\n") if line)
    kind = "use" if one.difference and one.adequate else "keep"
    return (
        f'<article class="load {kind}"><h3>{escape(units.at_load(one.load))}</h3>'
        f'<p class="headline">{escape(units.bound(one.headline))}</p><ul>{items}</ul></article>'
    )


def _limits(limits: Mapping[str, Any]) -> str:
    """Return the resolved limits as table rows."""
    if not limits:
        return '<tr><td colspan="2">none were given</td></tr>'
    fleets = [fleet_text(one).partition(": ") for one in limits.get("fleets", ())]
    # Spaces that must not break are for a terminal; in a narrow cell words would break instead.
    told = ((name, text.replace("\u00a0", " ")) for name, _, text in fleets)
    rows = [*limit_texts(limits), *told]
    return "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows
    )
