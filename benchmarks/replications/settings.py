"""The settings of a replication, read from its TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sojourn.errors import UserError, unknown


@dataclass(frozen=True, slots=True)
class Published:
    """What the papers state."""

    throughput_ratio: float
    latency_ratio_mean: float
    seats: int
    swap_space_gib: float


@dataclass(frozen=True, slots=True)
class Engine:
    """The simulated engine."""

    model: str
    gpu: str
    max_num_batched_tokens: int
    swap_gb_per_second: float


@dataclass(frozen=True, slots=True)
class Run:
    """Seeds, and the latencies at which a recipe's highest rate is read off."""

    seeds: list[int]
    thresholds_seconds: list[float]
    stated_threshold_seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """A workload: lengths from a file, or exponential with two means."""

    name: str
    title: str
    requests: int
    rates: list[float]
    lengths: str = ""
    prompt_mean: float = 0.0
    output_mean: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """A recipe in a configuration."""

    name: str
    title: str
    recipe: str
    seats: int
    host: str = "vllm"


@dataclass(frozen=True, slots=True)
class Claim:
    """One row is below another at a rate, in every seed."""

    workload: str
    rate: float
    lower: str
    higher: str


@dataclass(frozen=True, slots=True)
class Settings:
    """A replication."""

    published: Published
    engine: Engine
    run: Run
    workloads: tuple[Work, ...]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]

    def row(self, name: str) -> Row:
        """Return a row by name."""
        return next(row for row in self.rows if row.name == name)


def read(path: Path) -> Settings:
    """Return the settings in a file; unknown keys are refused."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    known = ("published", "engine", "run", "workload", "row", "must_hold")
    for key in document:
        if key not in known:
            raise unknown(f"table in {path}", key, known)
    return Settings(
        published=_make(Published, document["published"], path),
        engine=_make(Engine, document["engine"], path),
        run=_make(Run, document["run"], path),
        workloads=tuple(_make(Work, one, path) for one in document["workload"]),
        rows=tuple(_make(Row, one, path) for one in document["row"]),
        claims=tuple(_make(Claim, one, path) for one in document["must_hold"]),
    )


def _make(kind: Any, table: Mapping[str, Any], path: Path) -> Any:
    names = [field.name for field in fields(kind)]
    for key in table:
        if key not in names:
            raise unknown(f"key in {path}", key, names)
    try:
        return kind(**table)
    except TypeError as error:
        raise UserError(f"{path}: {error}") from error
