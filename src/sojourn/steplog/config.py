"""What a live step log is told: where its files go, and what they say of the run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from sojourn.errors import UserError, unknown
from sojourn.steplog.record import SloClass
from sojourn.steplog.write import Source

MOST: Final = 10**9
"""Most rows, seconds (thirty years) or files; a wait for more is no wait to the system."""


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """Where a live log goes and how much of it is kept.

    Attributes:
        folder: Folder of the files, made if it is not there.
        name: What the files' names begin with.
        rows_max: Rows after which a new file begins; 16 prefix ids count as a row.
        seconds_max: Time after which a new file begins.
        files_max: Files kept; the oldest is deleted.
    """

    folder: Path
    name: str = "steplog"
    rows_max: int = 100_000
    seconds_max: float = 300.0
    files_max: int = 200

    def __post_init__(self) -> None:
        """Refuse what no log can be kept by."""
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", self.name):
            raise UserError(
                f"step log: name is {self.name!r}; it must be of letters, digits, '.', '_' and '-'"
            )
        for key, least in (("rows_max", 100), ("seconds_max", 0.01), ("files_max", 1)):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise UserError(f"step log: {key} is {value!r}; it must be at least {least}")
            if value > MOST or (key != "seconds_max" and value != int(value)):
                whole = "a number" if key == "seconds_max" else "a whole number"
                raise UserError(f"step log: {key} is {value!r}; it must be {whole} up to {MOST}")
            if key == "files_max":
                object.__setattr__(self, key, int(value))

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> LiveConfig:
        """Return the configuration that a table of settings describes.

        Raises:
            UserError: For an unknown key, a missing folder or a value out of range.
        """
        keys = [one.name for one in fields(cls)]
        for key in given:
            if key not in keys:
                raise unknown("key in step log", key, keys)
        folder, name = given.get("folder"), given.get("name", "steplog")
        if not isinstance(folder, str | Path) or not str(folder):
            raise UserError(f"step log: folder is {folder!r}; it must name a folder")
        if not isinstance(name, str):
            raise UserError(f"step log: name is {name!r}; it must be a text")
        return cls(**{**given, "folder": Path(folder)})


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What a live log's files say of the run.

    Attributes:
        recipe: Name of the recipe.
        engine: Name and version of the engine.
        started_unix_seconds: The moment that is time 0.
        source: Model, GPU and limits; the trace's name is that of the service.
        kv_blocks: KV blocks that requests can use.
        block_tokens: Tokens behind each prefix id; 0 if no ids are given.
        classes: SLO classes; others that requests name are added without bounds.
        states: Names that the states of `LiveLog.state` index.
        deployable: Whether the recipe needs only what the host offers.
        replica: Index of the engine among its fellows.
        notes: Further facts for the record's notes; JSON values.
        host: What runs the recipe.
        shadow: Whether the recipe only says what it would have done.
    """

    recipe: str
    engine: str
    started_unix_seconds: float
    source: Source
    kv_blocks: int
    block_tokens: int = 0
    classes: tuple[SloClass, ...] = ()
    states: tuple[str, ...] = ()
    deployable: bool = True
    replica: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)
    host: str = "vllm"
    shadow: bool = False
