"""Reading a trace of any known format, found by the file's ending and header."""

from __future__ import annotations

from codecs import BOM_UTF8
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from sojourn.errors import UserError, unknown
from sojourn.trace.formats import READERS, azure, blocks, burstgpt
from sojourn.trace.formats.text import csv_header, first_object, lines_of, trace_name
from sojourn.trace.model import Trace
from sojourn.trace.spellings import ARRIVAL, REQUIRED, readable

SAMPLE: Final = "sample"
"""The name that stands for the bundled sample: ten minutes of Azure's 2023 conversations."""

_PARQUET_MAGIC: Final = b"PAR1"

ROWS_MAX: Final = 2**62
"""A limit above it says nothing: no file has as many rows."""


def read_trace(path: str | Path, *, format: str = "auto", limit: int | None = None) -> Trace:
    """Return the trace in a file; `sample` names the bundled one.

    Args:
        path: The file, or `sample`; CSV and JSON lines may be compressed (.gz, .bz2, .zst).
        format: One of `READERS`, or "auto" to go by the file's ending and header.
        limit: Read at most that many requests, the first ones in the file.

    Raises:
        UserError: With one sentence that says what is wrong, and in which row of which file.
    """
    if format != "auto" and format not in READERS:
        raise unknown("trace format", format, ("auto", *READERS))
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit}; it must be at least 1")
    if limit is not None:
        limit = min(limit, ROWS_MAX)
    if str(path) == SAMPLE:
        with as_file(files("sojourn.trace") / "sample.parquet") as sample:
            return READERS["parquet"](sample, limit)
    file = Path(path)
    _check_readable(file)
    return READERS[detect_format(file) if format == "auto" else format](file, limit)


def detect_format(path: Path) -> str:
    """Return the name of the format a file is written in.

    Raises:
        UserError: If neither its ending nor its first line belongs to a known format.
    """
    endings = {ending.lower() for ending in path.suffixes}
    if endings & {".parquet", ".pq"}:
        return "parquet"
    with path.open("rb") as stream:
        if stream.read(4) == _PARQUET_MAGIC:
            return "parquet"
    header = csv_header(path)
    first = next((line for line in lines_of(path) if not line.isspace()), b"")
    first = first.removeprefix(BOM_UTF8).lstrip()
    if endings & {".jsonl", ".json"} or first.startswith(b"{"):
        is_blocks = blocks.IDS.encode() in first or b'"prompt_tokens"' in first
        is_blocks |= any(readable(name)[0] in REQUIRED for name in first_object(path))
        return "blocks" if is_blocks or ".blocks" in endings else "mooncake"
    return _csv_format(path, header)


def _csv_format(path: Path, header: tuple[str, ...]) -> str:
    """Return the CSV format that lacks the fewest of its columns in the header."""
    ours = [readable(name)[0] for name in header]
    # How many of the names it needs are lacking, and how many of its own are there.
    fits = {
        name: (sum(one not in header for one in columns), sum(one in header for one in columns))
        for name, columns in (("azure", azure.REQUIRED), ("burstgpt", burstgpt.REQUIRED))
    }
    lengths = sum(one in ours for one in REQUIRED)
    fits["csv"] = (len(REQUIRED) - lengths, lengths + (ARRIVAL in header))
    known = [name for name, (_, own) in fits.items() if own > 0]
    if known:
        return min(known, key=lambda name: (fits[name][0], -fits[name][1]))
    if {".csv", ".tsv"} & {ending.lower() for ending in path.suffixes}:
        return "csv"
    raise UserError(
        f"{path}: not a trace that Sojourn knows; it reads {', '.join(READERS)}"
        " (name one with --format)"
    )


def _check_readable(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path}: a directory; name one trace file")
    if not path.exists():
        near = ""
        if path.parent.is_dir():
            stem = trace_name(path)
            same = sorted(p.name for p in path.parent.iterdir() if trace_name(p) == stem)
            near = f"; did you mean {same[0]!r}?" if same else ""
        raise UserError(f"{path}: no such file{near}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty")
