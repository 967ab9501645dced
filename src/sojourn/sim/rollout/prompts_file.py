"""Files of measured prompts: CSV, JSON lines or Parquet, a row for each rollout or each prompt."""

from __future__ import annotations

import csv
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from sojourn.errors import UserError, shown, unknown
from sojourn.sim.rollout.lengths import TOKENS_MAX, LengthPlan
from sojourn.sim.rollout.measured import USUAL, Measured, MeasuredPrompt, fit
from sojourn.trace.formats.text import lines_of

OF_ROLLOUT: Final = ("prompt", "reward")
OF_PROMPT: Final = ("prompt", "pass_rate", "rollouts")
NAMES: Final = (
    *("prompt", "reward", "response_tokens"),
    *("pass_rate", "rollouts"),
    *("prompt_tokens", "domain"),
)
ROWS_MAX: Final = 2_000_000
ROLLOUTS_MAX: Final = 1_000_000
PROMPT_TOKENS_MAX: Final = 1_000_000
BATCH_ROWS: Final = 4096
"""Rows of a Parquet file that are in memory at a time."""
ENDINGS: Final = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".pq")
COMPRESSED: Final = (".gz", ".bz2", ".zst")

Row = tuple[str, Mapping[str, Any]]
"""Where a row stands, and its values by the file's names."""
Rows = Callable[[Sequence[str]], Iterator[Row]]
"""Returns the rows of a file; columns beside those asked for need not be read."""


@dataclass(slots=True)
class Tally:
    """What was read of a prompt so far."""

    successes: float = 0.0
    rollouts: int = 0
    tokens: int = 0
    domain: str = ""
    lengths: list[tuple[int, bool]] = field(default_factory=list)

    def prompt(self) -> MeasuredPrompt:
        """Return what was measured of it."""
        return MeasuredPrompt(
            self.successes, self.rollouts, self.tokens, self.domain, tuple(self.lengths)
        )


def read_prompts(
    path: Path,
    columns: Mapping[str, str],
    reward_low: float,
    reward_high: float,
    usual: LengthPlan = USUAL,
) -> Measured:
    """Return the measured prompts of a file, with the laws fitted to them.

    Args:
        path: The file; text may be compressed (.gz, .bz2, .zst).
        columns: The file's names of columns that it does not call as `NAMES` does.
        reward_low: Reward of a failure.
        reward_high: Reward of a success.
        usual: Has the laws of lengths that hold where the file does not tell them.

    Raises:
        UserError: With one sentence that says what is wrong in which line.
    """
    tallies: dict[str, Tally] = {}
    with _readable(path):
        found, rows = _opened(path)
        names = _names(path, found, columns)
        take = _taker(names, reward_low, reward_high)
        for count, row in enumerate(rows(list(dict.fromkeys(names.values()))), start=1):
            if count > ROWS_MAX:
                raise UserError(f"{path} has more than {ROWS_MAX:,} rows; give a part of it")
            take(*row, tallies)
    if not tallies:
        raise _no_rows(path)
    measured = fit([one.prompt() for one in tallies.values()], usual)
    if not measured.repeated:
        other = "" if "pass_rate" in names else "give pass rates with their numbers of rollouts, "
        raise UserError(
            f"{path}: no prompt in it has two rollouts, and one does not tell its pass rate from "
            f"chance; roll each prompt out at least twice, {other}or leave prompts.file out and "
            "set [truth]"
        )
    return measured


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say in a sentence that a file cannot be read."""
    if not path.is_file():
        raise UserError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)})") from None
    except UnicodeDecodeError:
        raise _no_text(path) from None


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _no_rows(path: Path) -> UserError:
    return UserError(f"{path}: no rows in it{_allowed(path)}")


def _no_text(path: Path) -> UserError:
    return UserError(f"{path}: not a text file, so neither CSV nor JSON lines{_allowed(path)}")


def _allowed(path: Path) -> str:
    """Return what a file may be, for one whose ending is of no such file; else nothing."""
    endings = [one.lower() for one in path.suffixes]
    if endings and endings[-1] in COMPRESSED:
        endings.pop()
    if not endings or endings[-1] in ENDINGS:
        return ""
    return "; it must be CSV (.csv, .tsv), JSON Lines (.jsonl) or Parquet (.parquet)"


def _opened(path: Path) -> tuple[tuple[str, ...], Rows]:
    """Return the names of a file's columns and what reads its rows, by what it begins with."""
    with path.open("rb") as stream:
        magic = stream.read(4)
    return _opened_parquet(path) if magic == b"PAR1" else _opened_text(path)


def _refuse_twins(path: Path, names: Sequence[str]) -> None:
    """Refuse a name that two columns have; unnamed ones are passed over."""
    seen: set[str] = set()
    for name in filter(None, names):
        if name in seen:
            raise UserError(f"{path}: the header names {name} twice")
        seen.add(name)


def _opened_parquet(path: Path) -> tuple[tuple[str, ...], Rows]:
    with pq.ParquetFile(path) as file:
        found = tuple(file.schema_arrow.names)
    _refuse_twins(path, found)

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        count = 0
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(wanted)):
                columns = [
                    _values(
                        f"{path}: row", count, name, batch.column(batch.schema.names.index(name))
                    )
                    for name in wanted
                ]
                for values in zip(*columns, strict=True):
                    count += 1
                    yield f"{path}: row {count}", dict(zip(wanted, values, strict=True))

    return found, rows


def _values(where: str, before: int, name: str, column: pa.Array) -> list[Any]:
    """Return the values of a part of a column that has so many rows before it."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError, LookupError):
        for number, one in enumerate(column, start=before + 1):
            try:
                one.as_py()
            except (ValueError, OverflowError, LookupError) as error:
                raise UserError(
                    f"{where} {number}: {name} is of type {column.type} and cannot be read "
                    f"({_reason(error)})"
                ) from None
        raise


def _opened_text(path: Path) -> tuple[tuple[str, ...], Rows]:
    lines = lines_of(path)
    first, number = next(lines, b"").removeprefix(BOM_UTF8), 1
    while first and not first.strip():
        first, number = next(lines, b""), number + 1
    if not first:
        raise _no_rows(path)
    begins = first.strip()
    if b"\0" in first:
        raise _no_text(path)
    if begins.startswith(b"{"):
        return _opened_json(path, chain([first], lines), number)
    if begins.startswith(b"[") and begins[1:].lstrip()[:1] in (b"", b"{", b"[", b"]"):
        raise UserError(
            f"{path}: a JSON array; give one object a line instead, without brackets and commas "
            "around them (JSON Lines)"
        )
    return _opened_csv(path, first.decode(), lines, number)


def _opened_csv(
    path: Path, first: str, rest: Iterable[bytes], number: int
) -> tuple[tuple[str, ...], Rows]:
    """Return the columns and rows of a CSV file whose header is the line of that number."""
    lines = chain([first], (line.decode() for line in rest))
    reader = csv.reader(lines, delimiter=max(",;\t", key=first.count))

    def where() -> str:
        return f"{path}: line {reader.line_num + number - 1}"

    def fields_of_rows() -> Iterator[list[str]]:
        try:
            yield from reader
        except csv.Error as error:
            raise UserError(f"{where()}: not readable as CSV ({error})") from None

    rows_left = fields_of_rows()
    header = tuple(name.strip() for name in next(rows_left, []))
    _refuse_twins(path, header)

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        places = [(name, header.index(name)) for name in wanted]
        for row in rows_left:
            if row and len(row) != len(header):
                few = "fewer" if len(row) < len(header) else "more"
                raise UserError(f"{where()}: {few} fields than the header names")
            if row:
                yield where(), {name: row[at].strip() for name, at in places}

    return header, rows


def _opened_json(path: Path, lines: Iterable[bytes], number: int) -> tuple[tuple[str, ...], Rows]:
    """Return the columns and rows of JSON lines, the first of which has that number."""
    objects = _objects(path, lines, number)
    first = next(objects)

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        del wanted  # A line is read as a whole.
        return chain([first], objects)

    return tuple(first[1]), rows


def _objects(path: Path, lines: Iterable[bytes], first: int) -> Iterator[Row]:
    for number, line in enumerate(lines, start=first):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{where}: not valid JSON") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: it must be a JSON object")
        yield where, row


def _names(path: Path, found: tuple[str, ...], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the file's name of each of our columns that it has."""
    for ours, theirs in columns.items():
        if theirs not in found:
            raise unknown(f"column of {path} in prompts.columns.{ours}: name", theirs, found)
    names = {ours: columns.get(ours, ours) for ours in NAMES}
    names = {ours: theirs for ours, theirs in names.items() if theirs in found}
    kinds = [one for one in ("reward", "pass_rate") if one in names]
    if len(kinds) != 1:
        said = "both reward and pass_rate" if kinds else "neither reward nor pass_rate"
        raise UserError(
            f"{path} has {said}; a row is either a rollout (prompt, reward, response_tokens) or a "
            f"prompt (prompt, pass_rate, rollouts), and prompts.columns says what the file calls "
            f"them; it has {_listed(found)}"
            + ("" if kinds else _nearest(("reward", "pass_rate"), found))
        )
    for ours in OF_ROLLOUT if kinds == ["reward"] else OF_PROMPT:
        if ours not in names:
            raise UserError(
                f"{path} lacks the column {ours}; if it has another name there, say so: "
                f'prompts.columns = {{ {ours} = "..." }}; it has {_listed(found)}'
                + _nearest((ours,), [name for name in found if name not in names.values()])
            )
    return names


def _listed(found: Sequence[str]) -> str:
    return ", ".join(found).encode(errors="backslashreplace").decode()


def _nearest(wanted: Sequence[str], found: Sequence[str]) -> str:
    """Return the question whether one of a file's names was meant to be one of ours."""
    lowered = {name.lower(): name for name in found}
    for ours in wanted:
        for near in get_close_matches(ours, lowered, n=1, cutoff=0.7):
            return f"; did you mean {ours} by {shown(lowered[near])}?"
    return ""


def _taker(
    names: Mapping[str, str], low: float, high: float
) -> Callable[[str, Mapping[str, Any], dict[str, Tally]], None]:
    """Return what takes a row into the tallies."""

    def value(where: str, row: Mapping[str, Any], ours: str) -> Any:
        found = row.get(names[ours])
        if found is None or found == "":
            raise UserError(f"{where}: {names[ours]} is empty")
        return found

    def number(where: str, row: Mapping[str, Any], ours: str, least: float, most: float) -> float:
        given = value(where, row, ours)
        found = _number(given)
        or_truth = " (or true or false)" if (least, most) == (0.0, 1.0) else ""
        if found is None or not least <= found <= most:
            raise UserError(
                f"{where}: {names[ours]} is {shown(given)}; it must be a number from "
                f"{least:g} to {most:,.12g}{or_truth}"
                + (", as plan.reward_low and reward_high say" if ours == "reward" else "")
            )
        return found

    def text(where: str, row: Mapping[str, Any], ours: str) -> str:
        found = str(value(where, row, ours))
        try:
            found.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{where}: {names[ours]} is {shown(found)}; it holds half of a surrogate pair, "
                "which is no character"
            ) from None
        return found

    def whole(where: str, row: Mapping[str, Any], ours: str, most: int) -> int:
        found = number(where, row, ours, 1, most)
        if found != int(found):
            raise UserError(f"{where}: {names[ours]} is {found:g}; it must be a whole number")
        return int(found)

    def take(where: str, row: Mapping[str, Any], tallies: dict[str, Tally]) -> None:
        name = text(where, row, "prompt")
        known = tallies.setdefault(name, Tally())
        if "pass_rate" in names:
            if known.rollouts:
                raise UserError(f"{where}: prompt {shown(name)} stands there a second time")
            known.rollouts = whole(where, row, "rollouts", ROLLOUTS_MAX)
            known.successes = number(where, row, "pass_rate", 0.0, 1.0) * known.rollouts
        else:
            share = (number(where, row, "reward", low, high) - low) / (high - low)
            known.rollouts += 1
            known.successes += share
            if "response_tokens" in names:
                tokens = whole(where, row, "response_tokens", TOKENS_MAX)
                known.lengths.append((tokens, share >= 0.5))
        if "prompt_tokens" in names:
            known.tokens = known.tokens or whole(where, row, "prompt_tokens", PROMPT_TOKENS_MAX)
        if "domain" in names:
            domain = text(where, row, "domain")
            if known.domain not in ("", domain):
                raise UserError(
                    f"{where}: prompt {shown(name)} is of domain {shown(domain)}, but before it "
                    f"was of {shown(known.domain)}"
                )
            known.domain = domain

    return take


def _number(given: Any) -> float | None:
    """Return a value as a finite number; truth values are 0 and 1, and None is none."""
    if isinstance(given, str):
        word = given.lower()
        if word in ("true", "false"):
            return float(word == "true")
        try:
            given = float(given)
        except ValueError:
            return None
    if isinstance(given, bool | int | float):
        try:
            found = float(given)
        except OverflowError:
            return None
        return found if isfinite(found) else None
    return None
