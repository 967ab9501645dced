"""The tables of the HTML page: results, SLO classes and tenants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, TypeAlias

from sojourn.report import units
from sojourn.report.fleet_figures import FIGURES, Figure, figures
from sojourn.report.metrics import Row
from sojourn.report.numbers import Spread
from sojourn.report.summary import TENANT_ROWS_MAX, GroupRow, RunSummary

Cell: TypeAlias = tuple[str, float | str | None]
"""What is shown and what is sorted by."""

NUMBER: Final = ' class="number"'
_TEXT_HEADS: Final = ("recipe", "runs as", "class", "SLO", "tenant")
_SPREAD_HEADS: Final = ("mean", "p50", "p90", "p99")


def results(rows: Sequence[Row]) -> str:
    """Return the table of all runs, with a row of groups above the headings."""
    classes = list(dict.fromkeys(name for row in rows for name in row.slo_attainment))
    titles = {title: figures(rows, title) for title in FIGURES}
    fleet = [one for some in titles.values() for one in some]
    groups: list[tuple[str, tuple[str, ...]]] = [
        ("", ("recipe", units.load_heading([row.load for row in rows]), "runs as")),
        ("goodput, req/s", ("mean", "95 %")),
        ("SLOs met", tuple(classes)),
        ("requests", ("finished", "shed")),
        ("TTFT", _SPREAD_HEADS),
        ("TPOT", _SPREAD_HEADS),
        ("E2E", _SPREAD_HEADS),
        ("stalls", ("queue mean", "stream gap p99")),
        (
            "engine",
            ("output tok/s", "KV use", "prefix hits", "preemptions", "recomputed", "idle"),
        ),
        ("tenants", ("largest gap",)),
        *((t.lower(), tuple(_flat(one.heading) for one in some)) for t, some in titles.items()),
    ]
    body = "".join(
        _row(_result(row, classes, fleet), "" if row.deployable else "simulated") for row in rows
    )
    return _table([group for group in groups if group[1]], body)


def classes(runs: Sequence[RunSummary]) -> str:
    """Return a table of SLO classes for each load."""
    heads = ("class", "SLO", "recipe", "requests", "shed", "SLOs met")
    tables = []
    for place, group in enumerate(_by_load(runs)):
        names = dict.fromkeys(one.name for run in group for one in run.classes)
        body = "".join(
            _row([(one.name, one.name), (_bounds(one), _bounds(one)), *_shared(run, one)])
            for name in names
            for run in group
            for one in run.classes
            if one.name == name
        )
        tables.append(_section(place, _opened(runs), [("", heads), *_LATENCY_GROUPS], body))
    return "".join(tables)


def tenants(runs: Sequence[RunSummary], thinning: int = 1) -> str:
    """Return a table of tenants for each load, most service first; of many, the first part.

    Nothing where no run had more than one tenant.
    """
    if all(len(run.tenants) < 2 for run in runs):
        return ""
    most = max(1, TENANT_ROWS_MAX // thinning)
    heads = ("tenant", "service, tokens", "recipe", "requests", "shed", "SLOs met")
    tables = []
    for place, group in enumerate(_by_load(runs)):
        service: dict[str, float] = {}
        for run in group:
            for one in run.tenants:
                service[one.name] = service.get(one.name, 0.0) + one.service_tokens
        names = sorted(service, key=lambda name: -service[name])[:most]
        rows = [
            (run, one) for name in names for run in group for one in run.tenants if one.name == name
        ]
        rows += [(run, run.rest) for run in group if run.rest is not None]
        body = "".join(
            _row([(one.name, one.name), _count(one.service_tokens), *_shared(run, one)])
            for run, one in rows
        )
        tables.append(_section(place, _opened(runs), [("", heads), *_LATENCY_GROUPS], body))
    return "".join(tables)


_LATENCY_GROUPS: Final = [(name, ("mean", "p99")) for name in ("TTFT", "TPOT", "E2E")]


def _by_load(runs: Sequence[RunSummary]) -> list[list[RunSummary]]:
    """Return the runs of each load, in order of first appearance."""
    groups: dict[float | None, list[RunSummary]] = {}
    for run in runs:
        groups.setdefault(run.row.load, []).append(run)
    return list(groups.values())


def highest_load(loads: Sequence[float | None]) -> int:
    """Return the place of the highest load, which the page opens with; 0 if none has a number."""
    known = [place for place, load in enumerate(loads) if load is not None]
    return max(known, key=lambda place: loads[place] or 0.0, default=0)


def _opened(runs: Sequence[RunSummary]) -> int:
    """Return the place of the load that the page opens with."""
    return highest_load(list(dict.fromkeys(run.row.load for run in runs)))


def _section(
    place: int, opened: int, groups: Sequence[tuple[str, tuple[str, ...]]], body: str
) -> str:
    """Return a table that is shown while its load is selected."""
    hidden = "" if place == opened else " hidden"
    return f'<div class="by-load" data-load="{place}"{hidden}>{_table(groups, body)}</div>'


def _result(row: Row, names: Sequence[str], fleet: Sequence[Figure]) -> list[Cell]:
    """Return the cells of a run."""
    interval = row.goodput_interval
    between = units.NOTHING if interval is None else " – ".join(map(units.rate, interval))
    engine = row.engine
    return [
        (row.recipe, row.recipe),
        (units.load_name(row.load), row.load),
        ("deployable" if row.deployable else "simulator only", int(row.deployable)),
        (units.rate(row.goodput_rps), row.goodput_rps),
        (between, None if interval is None else interval[0]),
        *(_share(row.slo_attainment.get(name)) for name in names),
        _count(row.finished),
        _count(row.shed),
        *_spread(row.ttft_seconds),
        *_spread(row.tpot_seconds),
        *_spread(row.e2e_seconds),
        _seconds(row.queue_seconds.mean),
        _seconds(row.stream_gap_seconds_p99),
        _count(row.throughput_tps),
        _share(row.kv_use_mean),
        _share(row.prefix_hit_share),
        _count(row.preemptions),
        _count(row.recomputed_tokens),
        _share(engine.idle_share),
        _count(row.fairness_max_gap_tokens),
        *((one.cell(row), one.key(row)) for one in fleet),
    ]


def _flat(heading: str) -> str:
    """Return a heading on one line."""
    return heading.replace("-\n", "").replace("\n", " ")


def _shared(run: RunSummary, one: GroupRow) -> list[Cell]:
    """Return the cells that classes and tenants have in common."""
    spreads = (one.ttft_seconds, one.tpot_seconds, one.e2e_seconds)
    return [
        (run.row.recipe, run.row.recipe),
        _count(one.requests),
        _count(one.shed),
        _share(one.attainment),
        *(_seconds(value) for spread in spreads for value in (spread.mean, spread.p99)),
    ]


def _bounds(one: GroupRow) -> str:
    """Return the bounds of a class in words."""
    asked = (f"{name.upper()} ≤ {units.seconds(bound)}" for name, bound in one.bounds.items())
    return ", ".join(asked) or "none"


def _spread(spread: Spread) -> Iterable[Cell]:
    """Return the cells of a spread."""
    return (_seconds(value) for value in spread.to_json().values())


def _seconds(value: float | None) -> Cell:
    """Return the cell of a duration."""
    return units.seconds(value), value


def _share(value: float | None) -> Cell:
    """Return the cell of a share."""
    return units.share(value), value


def _count(value: float | None) -> Cell:
    """Return the cell of a count."""
    return units.count(value), value


def _table(groups: Sequence[tuple[str, tuple[str, ...]]], body: str) -> str:
    """Return a scrolling, sortable table from its heads and the rows of its body."""
    above = "".join(
        f'<th colspan="{len(heads)}" scope="colgroup">{escape(name)}</th>' for name, heads in groups
    )
    below = "".join(
        f'<th scope="col"{"" if head in _TEXT_HEADS else NUMBER}>'
        f'<button type="button">{escape(head)}</button></th>'
        for _, heads in groups
        for head in heads
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="sortable"><thead>'
        f'<tr class="groups">{above}</tr><tr>{below}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(cells: Sequence[Cell], kind: str = "") -> str:
    """Return a table row; its first cell names it."""
    parts = []
    for place, (text, key) in enumerate(cells):
        tag = "th scope=row" if place == 0 else "td"
        number = not isinstance(key, str) and text not in ("deployable", "simulator only")
        sort = "" if key is None else escape(str(key))
        look = NUMBER if number else ""
        if place == 0:
            look += f' title="{escape(text)}"'  # long names are cut on narrow screens
        parts.append(f'<{tag} data-key="{sort}"{look}>{escape(text)}</{tag.split()[0]}>')
    return f'<tr class="{kind}">{"".join(parts)}</tr>' if kind else f"<tr>{''.join(parts)}</tr>"
