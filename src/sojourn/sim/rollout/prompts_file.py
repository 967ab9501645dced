"""Files of measured prompts: CSV, JSON lines or Parquet, a row for each rollout or each prompt."""

from __future__ import annotations

import csv
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from sojourn.errors import UserError, shown, unknown
from sojourn.sim.rollout.lengths import TOKENS_MAX
from sojourn.sim.rollout.measured import Measured, MeasuredPrompt, fit
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

Row = tuple[str, Mapping[str, Any]]
"""Where a row stands, and its values by the file's names."""


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
    path: Path, columns: Mapping[str, str], reward_low: float, reward_high: float
) -> Measured:
    """Return the measured prompts of a file, with the laws fitted to them.

    Args:
        path: The file; text may be compressed (.gz, .bz2, .zst).
        columns: The file's names of columns that it does not call as `NAMES` does.
        reward_low: Reward of a failure.
        reward_high: Reward of a success.

    Raises:
        UserError: With one sentence that says what is wrong in which line.
    """
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path}: no rows in it")
    names = _names(path, tuple(first[1]), columns)
    take = _taker(names, reward_low, reward_high)
    tallies: dict[str, Tally] = {}
    take(*first, tallies)
    for count, row in enumerate(rows, start=2):
        if count > ROWS_MAX:
            raise UserError(f"{path} has more than {ROWS_MAX:,} rows; give a part of it")
        take(*row, tallies)
    return fit([one.prompt() for one in tallies.values()])


def _rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file, by what it begins with."""
    if not path.is_file():
        raise UserError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
        yield from _parquet_rows(path) if magic == b"PAR1" else _text_rows(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file, so neither CSV nor JSON lines") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    count = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                count += 1
                yield f"{path}: row {count}", row


def _text_rows(path: Path) -> Iterator[Row]:
    lines = lines_of(path)
    first = next(lines, b"").removeprefix(BOM_UTF8)
    while first and not first.strip():
        first = next(lines, b"")
    if first.lstrip().startswith(b"{"):
        yield from _json_rows(path, first, lines)
        return

    def decoded() -> Iterator[str]:
        yield first.decode()
        for line in lines:
            yield line.decode()

    text = first.decode()
    reader = csv.reader(decoded(), delimiter=max(",;\t", key=text.count))
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in header:
            if name and header.count(name) > 1:
                raise UserError(f"{path}: the header names {name} twice")
        for row in reader:
            where = f"{path}: line {reader.line_num}"
            if row and len(row) != len(header):
                few = "fewer" if len(row) < len(header) else "more"
                raise UserError(f"{where}: {few} fields than the header names")
            if row:
                yield where, {name: value.strip() for name, value in zip(header, row, strict=True)}
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: not readable as CSV ({error})") from None


def _json_rows(path: Path, first: bytes, rest: Iterator[bytes]) -> Iterator[Row]:
    number = 0
    for line in (line for part in ([first], rest) for line in part):
        number += 1
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
            f"them; it has {', '.join(found)}"
        )
    for ours in OF_ROLLOUT if kinds == ["reward"] else OF_PROMPT:
        if ours not in names:
            raise UserError(
                f"{path} lacks the column {ours}; if it has another name there, say so: "
                f'prompts.columns = {{ {ours} = "..." }}; it has {", ".join(found)}'
            )
    return names


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
        if found is None or not least <= found <= most:
            raise UserError(
                f"{where}: {names[ours]} is {shown(given)}; it must be from {least:g} to {most:g}"
                + (", as plan.reward_low and reward_high say" if ours == "reward" else "")
            )
        return found

    def whole(where: str, row: Mapping[str, Any], ours: str, most: int) -> int:
        found = number(where, row, ours, 1, most)
        if found != int(found):
            raise UserError(f"{where}: {names[ours]} is {found:g}; it must be a whole number")
        return int(found)

    def take(where: str, row: Mapping[str, Any], tallies: dict[str, Tally]) -> None:
        name = str(value(where, row, "prompt"))
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
            domain = str(value(where, row, "domain"))
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
