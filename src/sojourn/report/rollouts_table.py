"""The comparison of training runs in a terminal: the verdict first, then three tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Final, Literal

from sojourn.report import units
from sojourn.report.empty_table import empty_table
from sojourn.report.rollouts import CANDIDATE, RolloutRow, RolloutVerdict, gain_text
from sojourn.report.seeds import Estimate

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH_MIN: Final = 100
"""Columns that the widest table takes."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, and the cell of each row."""

    heading: str
    cell: Callable[[RolloutRow], str]


def with_interval(found: Estimate | None, form: Callable[[float], str] = units.rate) -> str:
    """Return a mean and its interval."""
    if found is None:
        return units.NOTHING
    if found.interval is None or found.interval[0] == found.interval[1]:
        return form(found.mean)
    return f"{form(found.mean)} [{form(found.interval[0])}, {form(found.interval[1])}]"


def _mean(measure: str, form: Callable[[float | None], str]) -> Callable[[RolloutRow], str]:
    def cell(row: RolloutRow) -> str:
        found = row.estimates[measure]
        return form(None if found is None else found.mean)

    return cell


def _whole(measure: str) -> Callable[[RolloutRow], str]:
    return lambda row: with_interval(row.estimates[measure])


def _plain(value: float | None) -> str:
    return units.NOTHING if value is None else f"{value:.2f}"


SPEED: Final = (
    Column("s per step", _whole("step_seconds")),
    Column("groups/s", _mean("groups_per_second", units.rate)),
    Column("with signal/s", _whole("effective_per_second")),
    Column("gain", lambda row: gain_text(row.gain)),
    Column("trainer\nwaits", _mean("waiting_share", units.share)),
    Column("engines\nbusy", _mean("busy_share", units.share)),
)
TOKENS: Final = (
    Column("generated", _mean("generated", units.count)),
    Column("trained", _mean("trained", units.count)),
    Column("carried", _mean("carried", units.count)),
    Column("discarded", _mean("discarded", units.count)),
    Column("of trained:\nolder weights", _mean("stale_share", units.share)),
    Column("mean lag,\nversions", _mean("lag_versions", _plain)),
    Column("oldest", _mean("lag_max", _plain)),
    Column("tokens/s", _mean("tokens_per_second", units.count)),
)
LEARNING: Final = (
    Column("groups\nwith signal", _mean("effective_ratio", units.share)),
    Column("uniform → oracle", lambda row: with_interval(row.gap_share, _plain)),
    Column("rollouts for\neach of them", _mean("rollouts_per_effective", units.rate)),
    Column("lengths:\ndistance", _mean("length_distance", _plain)),
    Column("trained /\noffered", _mean("length_ratio", _plain)),
    Column("success\nat the end", _mean("success", units.share)),
)


def print_rollouts(rows: Sequence[RolloutRow], verdict: RolloutVerdict, console: Console) -> None:
    """Print the verdict and the tables."""
    from rich.text import Text

    for place, line in enumerate(verdict.text.splitlines()):
        indent = " " * (len(line) - len(line.lstrip()))
        parts = wrap(
            units.bound(line.strip()),
            max(20, console.width),
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        for part in parts:
            text = part.replace("\u00a0", " ")
            console.print(Text(text, style="bold" if place == 0 else ""), no_wrap=True)
    for table in tables(rows):
        console.print()
        console.print(table, width=max(console.width, WIDTH_MIN), crop=False)


def tables(rows: Sequence[RolloutRow]) -> Iterator[Table]:
    """Yield the tables of speed, tokens and learning."""
    yield _table("Speed", rows, SPEED)
    yield _table("Tokens", rows, TOKENS)
    yield _table("What is trained", rows, LEARNING)


def _table(title: str, rows: Sequence[RolloutRow], columns: Sequence[Column]) -> Table:
    from rich.text import Text

    table = empty_table(title)
    right: Literal["right"] = "right"
    table.add_column("candidate", overflow="fold", min_width=12)
    for column in columns:
        table.add_column(column.heading, justify=right, no_wrap=True)
    for row in rows:
        name = row.name if row.role == CANDIDATE else f"({row.name})"
        cells = [name, *(column.cell(row) for column in columns)]
        table.add_row(
            *(Text(cell) for cell in cells), style=None if row.role == CANDIDATE else "dim"
        )
    return table
