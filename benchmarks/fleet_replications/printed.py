"""How a replication is printed and kept: a Markdown table, and all its numbers as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sojourn.policies.tables import SLOTS

DATA: Final = Path(__file__).resolve().parents[3] / "shared" / "data"


def arguments(description: str | None) -> argparse.Namespace:
    """Return what every replication is given: the data's folder, and where to write."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with lengths/ and traces/")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser.parse_args()


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def keep(out: Path | None, numbers: dict[str, Any]) -> None:
    """Write the numbers, if they are wanted."""
    if out is not None:
        out.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def policy(slot: str, name: str, **parameters: Any) -> tuple[str, Any]:
    """Return the name and the configuration of a fleet policy."""
    return name, SLOTS[slot][name][0](**parameters)
