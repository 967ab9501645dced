"""The page of the rollout bars: for each its settings, verdicts, analysis and other numbers."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.rollout_bars.rows import Row

HEAD: Final = ("measured", "setting", "seeds", "number [95 %]", "bar", "verdict")
INTRO: Final = (
    "# Rollout bars\n\n"
    "What partial rollouts, placement, selection, allocation and pruning give, and whether that is"
    " what was asked for. Intervals are 95 % bootstraps over paired seeds, on which nothing was"
    " tuned. A bar is met if the whole interval is on its right side. Made again by"
    " `python -m benchmarks.rollout_bars --write`; the numbers are also in"
    " `docs/reference/rollout-bars.json`.\n"
)


class Text(NamedTuple):
    """Heading of a bar, the bar in a few words, how it is measured, why it came out so."""

    title: str
    bar: str
    settings: str
    analysis: str


def texts() -> dict[str, Text]:
    """Return what the page says around the numbers, by bar."""
    stored = tomllib.loads(Path(__file__).with_name("texts.toml").read_text(encoding="utf-8"))
    return {name: Text(**one) for name, one in stored.items()}


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    every = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(one)} |\n" for one in every)


def verdict(rows: Sequence[Row]) -> str:
    """Return how many of the bars in some rows are met."""
    judged = [one.met for one in rows if one.met is not None]
    if not judged:
        return "not measured"
    if all(judged):
        return "met"
    return f"**not met**: {judged.count(False)} of {len(judged)}"


def write(bars: Mapping[str, Sequence[Row]]) -> str:
    """Return the page."""
    every = texts()
    summary = [(one.title, one.bar, verdict(bars.get(name, ()))) for name, one in every.items()]
    parts = [INTRO, table(("", "bar", "verdict"), summary)]
    for name, text in every.items():
        rows = bars.get(name, ())
        judged = [one.cells() for one in rows if one.met is not None]
        others = [one.cells()[:4] for one in rows if one.met is None]
        parts.append(f"## {text.title}\n\n{text.settings.strip()}\n")
        if judged:
            parts.append(table(HEAD, judged))
        if text.analysis.strip():
            parts.append(f"{text.analysis.strip()}\n")
        if others:
            parts.append("Also measured:\n")
            parts.append(table(HEAD[:4], others))
    return "\n".join(parts)
