"""A bar on a terminal while the runs of a study end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sojourn.cli.streams import console


@contextmanager
def runs_bar(runs: int, quiet: bool) -> Iterator[Callable[[object], None]]:
    """Show on a terminal how many runs have ended; yields what to call after each."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    made = console(err=True)
    if quiet or not made.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=made, transient=True) as progress:
        bar = progress.add_task("running", total=runs)
        yield lambda _: progress.advance(bar)
