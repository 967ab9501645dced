"""What the page's script draws fleets from, small enough for very large ones."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from sojourn.report import units
from sojourn.report.fleet_figures import thousand_met
from sojourn.report.fleet_picture import LINKS_MAX, Lane
from sojourn.report.fleet_row import DONE, FETCH, HANDOVER, MIGRATION, FleetRow
from sojourn.report.served import FloatArray
from sojourn.report.summary import RunSummary

NOBODY: Final = 255
"""The code of a bin in which no replica of the lane was up; the others are 0 to 250."""
LEVELS: Final = 250

TERMS: Final = (
    "<dt>Per 1k met</dt><dd>What the fleet cost until the last arrival, for each thousand "
    "requests that met every SLO they had.</dd>"
    "<dt>Imbalance</dt><dd>How unevenly like replicas worked: the standard deviation of their "
    "busy shares over the mean. 0 is even.</dd>"
    "<dt>Downtime of a migration</dt><dd>From the request losing its seat at the source to its KV "
    "being complete at the target.</dd>"
    "<dt>Resumed, failed</dt><dd>Of requests on a replica that was lost: sent on to another, or "
    "ended for want of one.</dd>\n"
)


def data(runs: Sequence[RunSummary], thinning: int) -> list[dict[str, Any] | None]:
    """Return for each run what its fleet is drawn from; None of a run without one."""
    return [
        None if run.picture is None or run.row.fleet is None else _fleet(run, thinning)
        for run in runs
    ]


def _fleet(run: RunSummary, thinning: int) -> dict[str, Any]:
    picture, row = run.picture, run.row.fleet
    assert picture is not None, "a fleet"
    assert row is not None, "a fleet"
    bins = picture.up.size // thinning
    outcomes = sorted({(arc.kind, arc.outcome) for arc in picture.arcs})
    links = list(dict.fromkeys(cut.between for cut in picture.cuts))
    rows = links if len(links) <= LINKS_MAX else [*links[: LINKS_MAX - 1], ""]
    return {
        "design": picture.design,
        "bin": picture.bin_seconds * thinning,
        "bins": bins,
        "lanes": [_lane(lane) for lane in picture.lanes],
        "heat": {name: _codes(heat, thinning) for name, heat in picture.heat.items()},
        "up": _short(_thin(picture.up[None, :], thinning)[0]),
        "starting": _short(_thin(picture.starting[None, :], thinning)[0]),
        "dollars": _short(picture.dollars[thinning - 1 : bins * thinning : thinning]),
        "moves": picture.moves,
        "arcs": [
            [
                _four(arc.began),
                _four(arc.ended),
                arc.source,
                arc.target,
                outcomes.index((arc.kind, arc.outcome)),
            ]
            for arc in picture.arcs[::thinning]
        ],
        "outcomes": [[kind, outcome, outcome == DONE] for kind, outcome in outcomes],
        "marks": [[_four(mark.time), mark.lane, mark.replica, mark.what] for mark in picture.marks],
        "links": rows,
        "cuts": [
            [
                _four(cut.began),
                None if cut.ended is None else _four(cut.ended),
                min(links.index(cut.between), len(rows) - 1),
                cut.between,
            ]
            for cut in picture.cuts
        ],
        "facts": [list(fact) for fact in _facts(row)],
    }


def _lane(lane: Lane) -> list[Any]:
    times = (lane.asked, lane.up, lane.draining, lane.ended)
    return [
        lane.first,
        lane.last,
        lane.count,
        lane.group,
        lane.role,
        *(None if time is None else _four(time) for time in times),
    ]


def _codes(heat: FloatArray, thinning: int) -> dict[str, Any]:
    """Return a measure as bytes in text, lane by lane, and what the highest of them stands for."""
    values = _thin(heat, thinning)
    known = np.isfinite(values)
    most = float(values[known].max()) if known.any() else 0.0
    most = float(f"{most:.4g}") or 1.0
    codes = np.full(values.shape, NOBODY, dtype=np.uint8)
    codes[known] = np.clip(np.rint(values[known] / most * LEVELS), 0, LEVELS).astype(np.uint8)
    return {"most": most, "codes": b64encode(codes.tobytes()).decode()}


def _thin(values: FloatArray, thinning: int) -> FloatArray:
    """Return the means of so many neighbouring bins each, of those that are known."""
    lanes, bins = values.shape[0], values.shape[1] // thinning
    parts = values[:, : bins * thinning].reshape(lanes, bins, thinning)
    known = np.isfinite(parts)
    counts = known.sum(axis=2)
    totals = np.where(known, parts, 0.0).sum(axis=2)
    means = np.full(counts.shape, np.nan)
    return np.asarray(np.divide(totals, counts, out=means, where=counts > 0))


def _short(values: FloatArray) -> list[float]:
    return [_four(float(value)) for value in values]


def _four(value: float) -> float:
    """Return a number to a tenth of a millisecond, or to five digits if that is finer."""
    return float(f"{value:.5g}") if abs(value) < 1 else round(value, 4)


def _facts(row: FleetRow) -> list[tuple[str, str]]:
    """Return the figures beside the picture, each with its name."""
    down, copied = row.migration_downtime_seconds, sum(row.transfer_bytes.values())
    lost = f"{units.count(row.lost_requests)}, {units.count(row.resumed)} resumed"
    facts = [
        ("cost", units.dollars(row.dollars) if row.dollars else ""),
        ("per 1k met", units.dollars(thousand_met(row)) if row.dollars else ""),
        ("GPU hours", units.rate(row.gpu_hours)),
        ("hand-overs", _moves(row, HANDOVER)),
        ("migrations", _moves(row, MIGRATION)),
        ("prefix fetches", _moves(row, FETCH)),
        (
            "downtime",
            f"{units.seconds(down.mean)}, p99 {units.seconds(down.p99)}" if down.p99 else "",
        ),
        ("KV copied", units.size(copied) if copied else ""),
        ("on lost replicas", lost if row.lost_requests else ""),
        ("imbalance", units.rate(row.imbalance)),
    ]
    return [(name, units.bound(text)) for name, text in facts if text]


def _moves(row: FleetRow, kind: str) -> str:
    """Return how many moves of a kind there were; nothing without any."""
    if kind not in row.moves:
        return ""
    given_up = row.given_up(kind)
    return units.count(row.done(kind)) + (f", {units.count(given_up)} given up" if given_up else "")
