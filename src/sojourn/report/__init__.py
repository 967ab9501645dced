"""From run records to metrics, a verdict, tables, JSON, an HTML page and a Perfetto timeline."""

from sojourn.report.bootstrap import Gain
from sojourn.report.fleet_row import FleetRow
from sojourn.report.html import render_html, write_html
from sojourn.report.json_report import compare_document, write_json
from sojourn.report.metrics import EngineTime, Row, measure
from sojourn.report.numbers import Spread
from sojourn.report.perfetto import Window, timeline
from sojourn.report.series import Series
from sojourn.report.summary import GroupRow, RunSummary, summarise
from sojourn.report.table import print_comparison
from sojourn.report.verdict import LoadVerdict, Verdict, judge

__all__ = [
    "EngineTime",
    "FleetRow",
    "Gain",
    "GroupRow",
    "LoadVerdict",
    "Row",
    "RunSummary",
    "Series",
    "Spread",
    "Verdict",
    "Window",
    "compare_document",
    "judge",
    "measure",
    "print_comparison",
    "render_html",
    "summarise",
    "timeline",
    "write_html",
    "write_json",
]
