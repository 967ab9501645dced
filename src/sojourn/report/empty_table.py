"""The look of all result tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def empty_table(title: str, apart: int = 1) -> Table:
    """Return a table without columns yet, which will stand so far apart."""
    from rich import box
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, apart, 0, 0),
        pad_edge=False,
    )
