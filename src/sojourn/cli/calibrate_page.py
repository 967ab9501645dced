"""The page of a calibration: measured against predicted steps, where they differ, and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from sojourn.cost.calibration import Calibration

POINTS_MAX: Final = 3000
"""Rows that are drawn; of more, evenly spaced ones."""

PAGE: Final = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<link rel="icon" href="data:,">
<title>Sojourn: calibration</title>
<style>$style
table { border-collapse: collapse; } td, th { padding: 3px 12px 3px 0; text-align: right; }
td:first-child, th:first-child { text-align: left; }</style>
</head>
<body>
<header><p class="name">Sojourn <span>calibrate</span></p></header>
<main>
<section><h1>$first</h1>$rest$warnings</section>
<section class="charts">
<figure class="wide"><figcaption><h2>Measured and predicted</h2><p>Milliseconds a step, held out: \
each is predicted by a fit that did not see its stretch of time. On the line both are equal.</p>\
</figcaption><div class="chart" id="against"></div></figure>
<figure class="wide"><figcaption><h2>Over the log</h2><p>Measured over predicted time, in order of \
the log; crosses were set aside.</p></figcaption><div class="chart" id="over"></div></figure>
</section>
<section><h2>Errors</h2>$errors</section>
<section><h2>Coefficients</h2>$coefficients</section>
</main>
<script>$plotly</script>
<script>
const data = $data;
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
const ink = dark ? "#e8ebef" : "#1b1f24", line = dark ? "#2d343d" : "#dfe3e8";
const axis = (title) => ({title: {text: title}, gridcolor: line, zerolinecolor: line,
  type: "log", exponentformat: "none"});
const layout = (x, y) => ({font: {color: ink}, paper_bgcolor: "rgba(0,0,0,0)",
  plot_bgcolor: "rgba(0,0,0,0)", margin: {l: 60, r: 10, t: 10, b: 45}, xaxis: x, yaxis: y,
  legend: {orientation: "h", y: 1.08}});
const options = {displayModeBar: false, responsive: true};
const dots = (group, x) => ({type: "scatter", mode: "markers", name: group.name,
  marker: {size: 4, opacity: 0.5, symbol: group.aside ? "x" : "circle"},
  x: group[x], y: group.predicted.map((p, i) => x === "place" ? group.measured[i] / p : p)});
const reach = [data.least, data.most];
Plotly.newPlot("against", [...data.groups.map((g) => dots(g, "measured")),
  {x: reach, y: reach, mode: "lines", line: {color: ink, width: 1}, showlegend: false}],
  layout(axis("measured, ms"), axis("predicted, ms")), options);
Plotly.newPlot("over", data.groups.map((g) => dots(g, "place")),
  layout({title: {text: "row of the log"}, gridcolor: line}, axis("measured / predicted")),
  options);
</script>
</body>
</html>
""")


def render(found: Calibration, document: Mapping[str, Any], sentences: Sequence[str]) -> str:
    """Return the page as text; it needs no network.

    Args:
        found: The calibration.
        document: What `calibration_document` returns for it.
        sentences: What is said first, one paragraph each.
    """
    from plotly.offline import get_plotlyjs

    first, *rest = sentences
    return PAGE.substitute(
        style=(files("sojourn.report") / "page" / "page.css").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        first=escape(first),
        rest="".join(f"<p>{escape(one)}</p>" for one in rest),
        warnings="".join(f'<p class="note">{escape(one)}</p>' for one in found.warnings),
        errors=_errors(document),
        coefficients=_table(
            ("", "seconds", "least", "most", "share of the time", "remark"),
            [
                (
                    f"{one.name}: {one.what}",
                    f"{one.seconds:.4g}",
                    f"{one.low:.4g}",
                    f"{one.high:.4g}",
                    f"{one.share:.2%}",
                    one.remark,
                )
                for one in found.estimates
            ],
        ),
        data=_script(_points(found)),
    )


def _points(found: Calibration) -> dict[str, Any]:
    """Return what the charts are drawn from, in milliseconds a step."""
    from sojourn.cost.samples import KINDS

    rows = found.samples
    measured = 1e3 * rows.seconds / rows.steps
    predicted = 1e3 * np.maximum(found.held_out, 0.0) / rows.steps
    thin = np.zeros(len(rows), dtype=bool)
    thin[:: max(1, -(-len(rows) // POINTS_MAX))] = True
    thin &= predicted > 0
    groups = []
    for name, mine, aside in [
        *((name, found.kept & (rows.kind == kind), False) for kind, name in enumerate(KINDS)),
        ("set aside", ~found.kept, True),
    ]:
        drawn = np.flatnonzero(mine & (predicted > 0) if aside else mine & thin)[:POINTS_MAX]
        if drawn.size:
            groups.append(
                {
                    "name": name,
                    "aside": aside,
                    "place": drawn.tolist(),
                    "measured": [float(f"{value:.5g}") for value in measured[drawn]],
                    "predicted": [float(f"{value:.5g}") for value in predicted[drawn]],
                }
            )
    return {"groups": groups, "least": float(measured.min()), "most": float(measured.max())}


def _errors(document: Mapping[str, Any]) -> str:
    """Return the table of errors."""
    rows = []
    named = [(one["steps"], one) for one in (document["errors"], *document["by_kind"])]
    named += [(f"{one['steps']} sequences", one) for one in document["by_sequences"]]
    for name, one in named:
        held, seen = one["held_out"], one["in_sample"]
        cells = [f"{held[key]:.2%} ({seen[key]:.2%})" for key in ("median", "mean", "p90", "bias")]
        rows.append((name, str(held["steps"]), f"{held['seconds']:.4g} s", *cells))
    head = ("", "steps", "time", "median", "mean", "p90", "total time")
    return f"<p>Held out, and in sample in brackets.</p>{_table(head, rows)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _script(data: Mapping[str, Any]) -> str:
    """Return JSON that may stand in a script element."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
