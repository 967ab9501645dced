"""The trace formats: one file each, and the table of their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from sojourn.trace.formats import azure, blocks, burstgpt, mooncake, parquet, table
from sojourn.trace.model import Trace

Reader = Callable[[Path, int | None], Trace]

READERS: Final[dict[str, Reader]] = {
    "parquet": parquet.read,
    "csv": table.read,
    "azure": azure.read,
    "burstgpt": burstgpt.read,
    "mooncake": mooncake.read,
    "blocks": blocks.read,
}
"""Each format's reader: the file and the largest number of its rows to read."""
