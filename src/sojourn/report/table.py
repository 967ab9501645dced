"""The comparison in a terminal: the verdict first, then goodput, latency and engine tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from statistics import median
from textwrap import wrap
from typing import TYPE_CHECKING, Final, Literal

from sojourn.report import units
from sojourn.report.empty_table import empty_table
from sojourn.report.fleet_figures import FIGURES, figures
from sojourn.report.metrics import Row
from sojourn.report.numbers import Spread
from sojourn.report.summary import RunSummary
from sojourn.report.verdict import Verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

CLASS_COLUMNS_MAX: Final = 3
"""With more SLO classes their shares stand in one column, a line each."""
QUANTILES: Final = ("mean", "p50", "p90", "p99")
WIDTH_MIN: Final = 100
"""Columns that the widest table takes."""
WIDTH_PLAIN: Final = 120
"""Columns where there is no terminal to ask."""
RECIPE_WIDTH_MIN: Final = 16
DEPLOYABLE: Final = "deployable"
SIMULATOR_ONLY: Final = "simulator only"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, whether it holds numbers, and the cell of each row.

    Attributes:
        heading: Text above it; lines are separated by newlines.
        cell: The text for a row.
        number: Set right, and not to be folded.
        least: For a number whose heading may be folded, the width to keep; 0 for others.
    """

    heading: str
    cell: Callable[[Row], str]
    number: bool = True
    least: int = 0


def print_comparison(
    runs: Sequence[RunSummary], verdict: Verdict, console: Console | None = None
) -> None:
    """Print the verdict and the tables; without colour codes when not on a terminal."""
    from rich.console import Console
    from rich.text import Text

    if console is None:
        console = Console(highlight=False, markup=False, emoji=False)
        if not console.is_terminal:
            console = Console(highlight=False, markup=False, emoji=False, width=WIDTH_PLAIN)
    for place, line in enumerate(verdict.text.splitlines()):
        for part in _wrapped(line, console.width):
            console.print(Text(part, style="bold" if place == 0 else ""), no_wrap=True)
    for table in tables([run.row for run in runs]):
        console.print()
        # A narrow terminal folds the lines itself; cutting them would lose numbers.
        console.print(table, width=max(console.width, WIDTH_MIN), crop=False)


def _wrapped(line: str, width: int) -> list[str]:
    """Return a line's parts with the indent of the first; a number stays with its unit."""
    indent = " " * (len(line) - len(line.lstrip()))
    parts = wrap(
        units.bound(line.strip()),
        max(20, width),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return [part.replace("\u00a0", " ") for part in parts] or [""]


def to_text(runs: Sequence[RunSummary], verdict: Verdict, width: int = WIDTH_PLAIN) -> str:
    """Return what `print_comparison` prints, as plain text of at most `width` columns."""
    from rich.console import Console

    out = StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=False,
        color_system=None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    print_comparison(runs, verdict, console)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """Yield the goodput, latency, engine and fleet tables; loads are sections of each."""
    yield _table("Goodput and SLOs", rows, _goodput_columns(rows))
    yield _table("Latency", rows, _latency_columns(rows), apart=0)
    yield _table("Engine", rows, _engine_columns(rows), apart=0)
    for title in FIGURES:
        columns = [Column(one.heading, one.cell) for one in figures(rows, title)]
        if columns:
            yield _table(title, rows, columns)


def _table(title: str, rows: Sequence[Row], columns: Sequence[Column], apart: int = 1) -> Table:
    """Return a table with a section for each load and its columns so far apart."""
    from rich.text import Text

    table = empty_table(title, apart)
    many = len({row.load for row in rows}) > 1 or any(row.load is not None for row in rows)
    if many:
        heading = units.load_heading([row.load for row in rows])
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("recipe", overflow="fold", min_width=RECIPE_WIDTH_MIN)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.number else "left"
        table.add_column(
            column.heading,
            justify=justify,
            no_wrap=column.number and not column.least,
            min_width=column.least or None,
            overflow="fold",
        )
    previous: float | None = None
    for place, row in enumerate(rows):
        new = place == 0 or row.load != previous
        if new and place:
            table.add_section()
        head = [units.load_name(row.load) if new else ""] if many else []
        style = None if row.deployable else "dim"
        cells = [*head, row.recipe, *(column.cell(row) for column in columns)]
        table.add_row(*(Text(cell) for cell in cells), style=style)
        previous = row.load
    return table


def _goodput_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of the goodput table."""
    classes = list(dict.fromkeys(name for row in rows for name in row.slo_attainment))
    columns = [
        Column("runs as", lambda row: DEPLOYABLE if row.deployable else SIMULATOR_ONLY, False),
        Column("finished", lambda row: units.count(row.finished)),
        Column("shed", lambda row: units.count(row.shed)),
        Column(
            "goodput [95 %]\nreq/s",
            lambda row: units.rate_with_interval(row.goodput_rps, row.goodput_interval),
        ),
    ]
    if len(classes) <= CLASS_COLUMNS_MAX:
        columns += [Column(f"met:\n{name}", _met(name), least=7) for name in classes]
    else:
        columns.append(Column("met, by class", _met_by_class(classes), False))
    return columns


def _met(name: str) -> Callable[[Row], str]:
    """Return the cell of a class's attainment."""
    return lambda row: units.share(row.slo_attainment.get(name))


def _met_by_class(classes: Sequence[str]) -> Callable[[Row], str]:
    """Return the cell of all attainments, a line for each class."""
    cells = [(name, _met(name)) for name in classes]
    return lambda row: "\n".join(f"{name} {cell(row)}" for name, cell in cells)


def _latency_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of the latency table; each measure has one unit throughout."""
    measures: tuple[tuple[str, Callable[[Row], Spread]], ...] = (
        ("TTFT", lambda row: row.ttft_seconds),
        ("TPOT", lambda row: row.tpot_seconds),
        ("E2E", lambda row: row.e2e_seconds),
    )
    columns = []
    for name, measure in measures:
        scale, unit = _unit([measure(row).p50 for row in rows], [measure(row).p99 for row in rows])
        columns += [
            Column(
                f"{name}\n{unit}\n{quantile}" if quantile == "mean" else f"\n\n{quantile}",
                _quantile(measure, quantile, scale),
            )
            for quantile in QUANTILES
        ]
    gaps = [row.stream_gap_seconds_p99 for row in rows]
    scale, unit = _unit(gaps, gaps)
    columns.append(
        Column(f"gap\n{unit}\np99", lambda row: _scaled(row.stream_gap_seconds_p99, scale))
    )
    return columns


def _quantile(
    measure: Callable[[Row], Spread], quantile: str, scale: float
) -> Callable[[Row], str]:
    """Return the cell of one quantile of a measure."""
    return lambda row: _scaled(getattr(measure(row), quantile), scale)


def _engine_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of the engine table; the fairness gap only with several tenants."""
    columns = [
        Column("output\ntok/s", lambda row: units.count(row.throughput_tps)),
        Column("queue\nmean", lambda row: units.seconds(row.queue_seconds.mean)),
        Column("KV\nuse", lambda row: units.share(row.kv_use_mean)),
        Column("prefix\nhits", lambda row: units.share(row.prefix_hit_share)),
        Column("preemp-\ntions", lambda row: units.count(row.preemptions)),
        Column("recomputed\ntokens", lambda row: units.count(row.recomputed_tokens)),
        Column("with\nprefill", lambda row: units.share(row.engine.prefilling_share)),
        Column("idle", lambda row: units.share(row.engine.idle_share)),
    ]
    if any(row.fairness_max_gap_tokens is not None for row in rows):
        columns.append(
            Column("tenant gap\ntokens", lambda row: units.count(row.fairness_max_gap_tokens))
        )
    return columns


def _unit(usual: Sequence[float | None], most: Sequence[float | None]) -> tuple[float, str]:
    """Return factor and name of a column's unit, s or ms, from its usual and largest values."""
    known = [value for value in usual if value is not None]
    largest = max((value for value in most if value is not None), default=0.0)
    if known and median(known) < 0.3 and largest < 9.9995:
        return 1e3, "ms"
    return 1.0, "s"


def _scaled(value: float | None, factor: float) -> str:
    """Return a value in a column's unit, with at most three decimals."""
    if value is None:
        return units.NOTHING
    text = units.significant(value * factor)
    return text if len(text.partition(".")[2]) <= 3 else f"{value * factor:.3f}"
