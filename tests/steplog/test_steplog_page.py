"""The reference page of the step log names exactly what a file holds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from live_runs import decode, ended, opened

from sojourn.steplog.config import LiveConfig
from sojourn.steplog.fleet import FleetEvent, FleetRecord, MoveRow, UnitRow
from sojourn.steplog.fleet_table import FLEET_TABLES
from sojourn.steplog.record import DIFFERENCES, OUTCOMES, DifferenceColumns
from sojourn.steplog.write import METADATA, SCHEMA, TABLES, TIMING, Source, write_steplog

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "step-log.md").read_text()
TYPES = {"int64": pa.int64(), "text": pa.string(), "list of int64": pa.list_(pa.int64()),
         "double": pa.float64()}  # fmt: skip
KINDS = (*TABLES, *FLEET_TABLES)


def section(heading):
    """Return the text under a heading, up to the next one."""
    return re.split(r"^##", PAGE.partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def described(heading):
    """Return the columns that a kind's table describes, with their types."""
    rows = re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", section(heading), flags=re.MULTILINE)
    return dict(rows)


@pytest.fixture
def table(sample_record, tmp_path):
    """Return a file with all kinds of rows."""
    one = np.array([1])
    record = replace(
        sample_record,
        differences=DifferenceColumns(one, one, one, one),
        prefix=[(1,)] * sample_record.requests.arrival.size,
        block_tokens=16,
        fleet=FleetRecord(
            "two",
            units=[UnitRow(0, "replica", "mixed", "h100", 1, 0, 1, 9, 0.5, 3, 10, 2)],
            moves=[MoveRow("migration", 0, 1, 0, 2, 5, 1, 64, 2, "done")],
            events=[FleetEvent(1, 0, "up")],
        ),
    )
    write_steplog(tmp_path / "all.parquet", record, Source("t", "m", "g", 0, {}))
    return pq.read_table(tmp_path / "all.parquet")


def test_every_column_is_described_and_no_other(table):
    kinds = [kind for kind in KINDS if f"### `{kind}`\n" in PAGE]
    assert kinds == list(KINDS)
    found = {"kind"}
    for kind in KINDS:
        rows = table.filter(pa.compute.equal(table["kind"].cast("string"), kind))
        assert rows.num_rows
        columns = described(f"### `{kind}`")
        found.update(columns)
        for name, type_name in columns.items():
            kept = table.schema.field(name).type
            assert getattr(kept, "value_type", kept) == TYPES[type_name] or (
                kept == TYPES[type_name]
            ), name
        filled = {name for name in rows.column_names if rows[name].null_count < rows.num_rows}
        assert filled <= {*columns, "kind"}, f"{kind} rows fill what is not described"
    assert found == set(table.column_names)


def test_every_key_of_the_metadata_is_described_and_no_other(table):
    for key, heading in ((METADATA, "Under `sojourn`:"), (TIMING, "Under `sojourn.timing`")):
        rows = PAGE.partition(heading)[2].partition("\n\n")[2].partition("\n\n")[0]
        cells = re.findall(r"^\| (`.*?`) \|", rows, flags=re.MULTILINE)
        assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(
            json.loads(table.schema.metadata[key])
        )


def test_names_and_defaults_are_as_described():
    assert f"`{SCHEMA}`" in PAGE
    for name in (*OUTCOMES, *DIFFERENCES):
        assert f"`{name}`" in PAGE
    config = LiveConfig(Path())
    text = f"after {config.rows_max:,} rows (16 prefix ids count as a row) or "
    assert f"{text}{config.seconds_max:g} s, and {config.files_max} files are kept" in PAGE


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
def test_the_lines_that_read_it_run(library, tmp_path, monkeypatch):
    imported = pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    log = opened(tmp_path / "logs")
    decode(log, 0, context=1)
    for number in range(3):
        log.request(ended(number))
    log.close()
    (tmp_path / "logs" / "steplog-000001.parquet").rename(tmp_path / "steps.parquet")
    (tmp_path / "logs" / "again.parquet").symlink_to(tmp_path / "steps.parquet")
    code = PAGE.partition(f"\n{library}:\n\n```python\n")[2].partition("```")[0]
    *lines, last = code.strip().splitlines()
    names = {library: imported}
    exec("\n".join(lines), names)
    found = eval(last, names)
    while not isinstance(found, float):
        found = found.item() if hasattr(found, "item") else found[0]
    assert found == pytest.approx(0.05)
