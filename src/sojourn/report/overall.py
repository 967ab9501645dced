"""The verdict over all loads in one sentence: use a recipe, keep stock, or neither will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sojourn.report.standing import above, best_stock, goodput
from sojourn.report.summary import RunSummary
from sojourn.report.units import at_loads, load_name

if TYPE_CHECKING:
    from sojourn.report.verdict import LoadVerdict


def over_all(
    groups: Mapping[float | None, list[RunSummary]],
    by_load: Sequence[LoadVerdict],
    stock: str,
) -> tuple[str | None, str]:
    """Return the recipe to use at every load, if one will do, and the sentence that says so.

    Args:
        groups: The runs of each load.
        by_load: The verdict on each load, in the same order.
        stock: The name that was asked for as stock; each load names the row that stands for it.
    """
    if all(one.best_deployable is None for one in by_load):
        return None, "no recipe that ran can be deployed."
    if any(one.stock is None for one in by_load):
        return None, f"no stock row ({stock}) at some load, so nothing is recommended."
    kept = best_stock([run for group in groups.values() for run in group], stock)
    fine = [one for one in by_load if one.adequate]
    collapsed = [one for one in by_load if not one.adequate]
    if all(len(group) == 1 for group in groups.values()):
        text = f"only stock ({kept}) was run: there is nothing to compare"
        if not fine:
            return None, (
                "no recipe is adequate at any load that was run: add capacity or shed; "
                f"only stock ({kept}) was run, nothing to compare."
            )
        return kept, text + (f"; it is not adequate {_where(collapsed)}." if collapsed else ".")
    names = _stock_names(by_load)
    same = "" if any(one.difference for one in by_load) else "no difference: "
    if not fine:
        keep = f"{same}keep stock ({names}); " if same else ""
        return kept if same else None, (
            f"{keep}no recipe is adequate at any load that was run: add capacity or shed; "
            f"{_loses_least(collapsed)}."
        )
    ending = _ending(collapsed)
    wins = [one for one in fine if one.difference]
    if not wins:
        if collapsed:
            text = f"{same}keep stock ({names}): no recipe is clearly better where SLOs can be met"
            return kept, text + ending
        return kept, f"no difference: keep stock ({names}); no deployable recipe is clearly better."
    return _use(groups, by_load, wins, ending)


def _use(
    groups: Mapping[float | None, list[RunSummary]],
    by_load: Sequence[LoadVerdict],
    wins: Sequence[LoadVerdict],
    ending: str,
) -> tuple[str | None, str]:
    """Return what to use when some recipe is clearly better at an adequate load."""
    fine = [one for one in by_load if one.adequate]
    name = _safest(groups, by_load)
    if name is not None:
        better = [one for one in fine if _is_better(groups[one.load], name, one.stock)]
        same = [load_name(one.load) for one in fine if one not in better]
        tail = f"; no worse than stock at {', '.join(same)}" if same else ""
        where = f"better than stock ({_stock_names(by_load)}) {_where(better, ', ')}"
        return name, f"use {name}: {where}{tail}{ending}"
    parts = [f"{one.best_deployable} {_where([one])}" for one in wins]
    rest = [one for one in fine if not one.difference]
    tail = f", stock ({_stock_names(rest)})" if rest else ""
    if len({one.stock for one in rest}) == 1:
        tail += f" at {', '.join(load_name(one.load) for one in rest)}"
    return None, f"no single recipe is best throughout: use {', '.join(parts)}{tail}{ending}"


def _safest(
    groups: Mapping[float | None, list[RunSummary]], by_load: Sequence[LoadVerdict]
) -> str | None:
    """Return the recipe clearly better at some adequate load and nowhere clearly worse than stock.

    Each load's own stock row is what it is compared with. Of several, the one with the most
    goodput summed over the loads.
    """
    totals: dict[str, float] = {}
    fit: dict[str, int] = {}
    better: set[str] = set()
    for one in by_load:
        base = next(run for run in groups[one.load] if run.row.recipe == one.stock)
        for run in groups[one.load]:
            name = run.row.recipe
            if not run.row.deployable or above(base, run):
                continue
            fit[name] = fit.get(name, 0) + 1
            totals[name] = totals.get(name, 0.0) + goodput(run)
            if one.adequate and above(run, base):
                better.add(name)
    names = [name for name, number in fit.items() if number == len(groups) and name in better]
    return max(names, key=lambda name: totals[name], default=None)


def _is_better(group: Sequence[RunSummary], name: str, stock: str | None) -> bool:
    """Return whether a recipe is clearly better than stock among the runs of a load."""
    by_name = {run.row.recipe: run for run in group}
    return name in by_name and stock in by_name and above(by_name[name], by_name[stock])


def _ending(collapsed: Sequence[LoadVerdict]) -> str:
    """Return what ends the sentence: what holds at the loads where nothing is adequate."""
    if not collapsed:
        return "."
    return f"; {_where(collapsed)} nothing is adequate, and {_loses_least(collapsed)}."


def _loses_least(collapsed: Sequence[LoadVerdict]) -> str:
    """Return which recipe loses least at each load, the load named where they differ."""
    least: dict[str, list[LoadVerdict]] = {}
    for one in collapsed:
        if one.difference:
            text = f"{one.best_deployable} loses least"
        elif one.best_deployable == one.stock:
            text = "stock loses least"
        else:
            text = "no recipe loses clearly less than stock"
        least.setdefault(text, []).append(one)
    if len(least) == 1:
        return next(iter(least))
    return ", ".join(f"{text} {_where(loads)}" for text, loads in least.items())


def _stock_names(by_load: Sequence[LoadVerdict]) -> str:
    """Return the row that stood for stock; with their loads if there were several."""
    rows: dict[str, list[LoadVerdict]] = {}
    for one in by_load:
        if one.stock is not None:
            rows.setdefault(one.stock, []).append(one)
    if len(rows) == 1:
        return next(iter(rows))
    return ", ".join(
        f"{name} at {' and '.join(load_name(one.load) for one in loads)}"
        for name, loads in rows.items()
    )


def _where(loads: Sequence[LoadVerdict], between: str = " and ") -> str:
    """Return the loads as part of a sentence."""
    return at_loads([one.load for one in loads], between)
