"""The cases: what traffic, how much memory, what is owed to whom, and which recipes try."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.vllm_gain.outcome import Objectives
from benchmarks.vllm_gain.serving import BLOCK, Asked, ids, lengths

Make = Callable[[random.Random, float, float], list[Asked]]
"""Draws the requests for a rate (requests per second) and a window (seconds)."""

HOLD_SECONDS: Final = 2.0
TURNS: Final = 5

CLASSES: Final = {
    "classes": {
        "interactive": {"priority": 0, "ttft_seconds": 0.5},
        "batch": {"priority": 1, "ttft_seconds": 30.0},
    },
    "default_class": "interactive",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A situation.

    Attributes:
        name, title: What to call it.
        make: Draws its requests.
        load: Arrivals as a multiple of what stock's default flags can serve.
        headline: The number that the case is about, which also chooses the best stock.
        recipes: Settings of our scheduler by what to call them.
        objectives: What counts for goodput.
        blocks: KV blocks; None for all there are.
        priorities: Priority by class, for stock's own priority scheduling.
        sweep: Whether stock's flags are searched; else its default is the baseline.
        budgets: Token budgets to search.
        tail_seconds: How much longer than its arrivals a run takes by the requests' own pauses.
        weight: Its share of the session beside another case's.
    """

    name: str
    title: str
    make: Make
    load: float
    headline: str
    recipes: Mapping[str, Mapping[str, Any]]
    objectives: Objectives
    blocks: int | None = None
    priorities: Mapping[str, int] = field(default_factory=dict)
    sweep: bool = True
    budgets: tuple[int, ...] = (512, 2048, 8192)
    tail_seconds: float = 0.0
    weight: float = 1.0


def _times(draw: random.Random, rate: float, seconds: float) -> list[float]:
    """Return the moments of a Poisson process, at least one."""
    found, now = [], 0.0
    while not found or now < seconds:
        found.append(now)
        now += draw.expovariate(rate)
    return found


def short_answers(draw: random.Random, rate: float, seconds: float) -> list[Asked]:
    """Return many small requests, some of which turn out long."""
    return [
        Asked(at, ids(draw, lengths(draw, 24, 0.5, 8, 128)), lengths(draw, 14, 1.1, 2, 400))
        for at in _times(draw, rate, seconds)
    ]


def long_contexts(draw: random.Random, rate: float, seconds: float) -> list[Asked]:
    """Return requests whose KV is large beside the memory."""
    return [
        Asked(at, ids(draw, lengths(draw, 160, 0.7, 16, 1000)), lengths(draw, 60, 0.9, 4, 500))
        for at in _times(draw, rate, seconds)
    ]


def two_classes(draw: random.Random, rate: float, seconds: float) -> list[Asked]:
    """Return short interactive requests among long batch prompts."""
    asked = []
    for at in _times(draw, rate, seconds):
        if draw.random() < 0.4:
            one = Asked(at, ids(draw, lengths(draw, 40, 0.5, 8, 200)), 16, "", "interactive")
        else:
            one = Asked(at, ids(draw, lengths(draw, 500, 0.5, 64, 2000)), 24, "", "batch")
        asked.append(one)
    return asked


def flood(draw: random.Random, rate: float, seconds: float) -> list[Asked]:
    """Return a tenant that sends nine tenths of the requests, and one that sends the rest."""
    return [
        Asked(
            at,
            ids(draw, lengths(draw, 60, 0.5, 8, 300)),
            lengths(draw, 24, 0.7, 2, 200),
            "polite" if draw.random() < 0.1 else "flooding",
        )
        for at in _times(draw, rate, seconds)
    ]


def agents(draw: random.Random, rate: float, seconds: float) -> list[Asked]:
    """Return programs whose turns come back, after a tool's pause, with all that went before."""
    asked: list[Asked] = []
    for number, at in enumerate(_times(draw, rate / TURNS, seconds)):
        program, follows = f"p{number}", -1
        for turn in range(TURNS):
            new = (
                lengths(draw, 300, 0.3, 100, 700) if turn == 0 else lengths(draw, 60, 0.4, 16, 200)
            )
            pause = at if turn == 0 else draw.uniform(0.2, 0.8)
            last = turn == TURNS - 1
            answer = lengths(draw, 24, 0.5, 4, 80)
            asked.append(Asked(pause, ids(draw, new), answer, "", "", program, turn, last, follows))
            follows = len(asked) - 1
    return asked


def mild(draw: random.Random, rate: float, seconds: float) -> list[Asked]:
    """Return requests of two tenants and two classes, of ordinary size."""
    return [
        Asked(
            at,
            ids(draw, lengths(draw, 80, 0.6, 8, 400)),
            lengths(draw, 40, 0.7, 4, 200),
            draw.choice(("polite", "flooding")),
            draw.choice(("interactive", "batch")),
        )
        for at in _times(draw, rate, seconds)
    ]


def write_holding_recipe(folder: Path) -> Path:
    """Write the recipe that is stock but for KV that is held while a tool runs."""
    path = folder / "vllm-hold.toml"
    path.write_text(
        'title = "Stock with held turns"\n'
        'summary = "Stock, but the KV of a program that goes on is held for a fixed time."\n'
        'source = "Continuum, arXiv 2511.02230: its static time-to-live"\nkind = "policy"\n\n'
        '[admit]\npolicy = "accept_all"\n\n[order]\npolicy = "fcfs"\n\n'
        '[compose]\npolicy = "stall_free"\n\n[victim]\npolicy = "last_in"\n\n'
        f'[retain]\npolicy = "fixed_ttl"\nhold_seconds = {HOLD_SECONDS}\n',
        encoding="utf-8",
    )
    return path


def all_cases(folder: Path) -> dict[str, Case]:
    """Return the cases by name; the folder takes a recipe's file."""
    relaxed = {"": (10.0, 0.2)}
    by_class = {"interactive": (0.5, 0.2), "batch": (30.0, 0.5)}
    hold = str(write_holding_recipe(folder))
    edf = {"recipe": "slo-edf", "identity": CLASSES}
    found = (
        Case("seats", "256 seats full, thousands waiting", short_answers, 8.0, "mean E2E",
             {"fastserve": {"recipe": "fastserve"}}, relaxed, weight=3.0),
        Case("memory", "KV memory full", long_contexts, 1.5, "mean E2E",
             {"fastserve": {"recipe": "fastserve"}}, relaxed, blocks=24_000 // BLOCK),
        Case("classes", "two SLO classes, overload", two_classes, 1.5, "goodput",
             {"slo-edf": edf}, by_class, priorities={"interactive": 0, "batch": 1}, weight=2.0),
        Case("tenants", "a flooding and a polite tenant", flood, 2.0, "polite mean E2E",
             {"vtc": {"recipe": "vtc"}}, {"": (2.0, 0.2)}),
        Case("programs", "agent programs that return", agents, 0.9, "mean JCT",
             {"vllm-hold": {"recipe": hold}}, {"": (2.0, 0.2)}, blocks=24_000 // BLOCK,
             budgets=(512, 2048), tail_seconds=4.0),
        Case("ample", "load 0.6, seats and memory to spare", mild, 0.6, "mean E2E",
             {"fastserve": {"recipe": "fastserve"}, "vtc": {"recipe": "vtc"}, "slo-edf": edf},
             by_class, sweep=False, weight=0.5),
    )  # fmt: skip
    return {case.name: case for case in found}
