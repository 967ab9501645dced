"""The comparison as one JSON document: same inputs, same bytes, but for `timing`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sojourn.files import write_text
from sojourn.report.summary import RunSummary
from sojourn.report.verdict import Verdict

SCHEMA: Final = "sojourn/compare/1"


def compare_document(
    runs: Sequence[RunSummary],
    verdict: Verdict,
    *,
    trace: str,
    model: str,
    gpu: str,
    seed: int,
    limits: Mapping[str, Any],
    capacity_rps: float | None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the document of a comparison, as JSON values in a fixed order.

    Args:
        runs: One summary for each recipe and load, in the order to be shown.
        verdict: What `judge` says about them.
        trace: Name of the trace.
        model: Name of the model.
        gpu: Name of the GPU.
        seed: Seed of the runs.
        limits: The resolved engine limits, by name; JSON values.
        capacity_rps: Capacity of stock in requests per second, to which loads refer.
        notes: What the user should know of the runs, one sentence each.
    """
    return {
        "schema": SCHEMA,
        "trace": trace,
        "model": model,
        "gpu": gpu,
        "seed": seed,
        "limits": dict(limits),
        "capacity_rps": capacity_rps,
        "notes": list(notes),
        "verdict": verdict.to_json(),
        "results": [run.to_json() for run in runs],
    }


def to_text(document: Mapping[str, Any]) -> str:
    """Return a document as strict JSON with a final newline.

    Keys keep their order and floats have the shortest form that reads back the same.

    Raises:
        ValueError: If the document holds a NaN or an infinity.
    """
    return json.dumps(document, allow_nan=False, ensure_ascii=False, indent=2) + "\n"


def write_json(path: str | Path, document: Mapping[str, Any]) -> None:
    """Write a document to a file: readers see the old content or the new, never a part."""
    write_text(path, to_text(document))
