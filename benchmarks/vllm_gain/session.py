"""A case from probe to verdict: sweep stock's flags, run the best ones and the recipes in full."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any, Final

from benchmarks.vllm_gain.cases import Case
from benchmarks.vllm_gain.outcome import LOWER_IS_BETTER, Outcome, outcome
from benchmarks.vllm_gain.serving import Asked, Flags, Server

SEATS: Final = (16, 64, 256)
DEFAULT: Final = Flags(256, 2048)
SEEDS: Final = {"probe": 1, "sweep": 2, "full": 3}
PROBE_REQUESTS: Final = 512
SWEEP_SHARE: Final = 0.3
"""Length of a run of the sweep beside that of a full one."""

PROBE_SECONDS: Final = 12.0
WARM_SECONDS: Final = 0.4
ROOM: Final = 0.8
"""Share of a case's time that is given out, since poor flags take longer."""

LEAST_SECONDS: Final = 2.0
SLOWEST: Final = 2.0
"""A run that takes this many times what it should is cut."""

ALLOWED: Final = 0.05
"""How much throughput and stream gap may be worse for a gain to be claimed."""

ROUNDS: Final = 3
"""Runs of each configuration that is judged."""

Tell = Callable[[str], None]


@dataclass(slots=True)
class Result:
    """What a case gave.

    Attributes:
        case, title, headline: Of the case.
        rate: Requests a second that were sent.
        sweep: Short runs of stock's flags.
        stock: Full runs of the best of them, a run in each round.
        recipes: Full runs of ours, in the same rounds.
        sentences: One for each recipe.
    """

    case: str
    title: str
    headline: str
    rate: float = 0.0
    sweep: list[Outcome] = field(default_factory=list)
    stock: list[list[Outcome]] = field(default_factory=list)
    recipes: list[list[Outcome]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @property
    def best(self) -> list[Outcome]:
        """The full runs of the best stock: that with the best median."""
        return min(self.stock, key=lambda runs: median(one.cost(self.headline) for one in runs))

    @property
    def noise(self) -> float:
        """By how much the best stock's own rounds differ, from the worst to the best."""
        values = [one.value(self.headline) for one in self.best]
        return max(values) / min(values) - 1.0 if min(values) > 0 else 0.0


def gain(name: str, one: Outcome, other: Outcome) -> float:
    """Return by what share `one` is better than `other`; negative if it is worse."""
    ours, theirs = one.value(name), other.value(name)
    if LOWER_IS_BETTER[name]:
        ours, theirs = theirs, ours
    return ours / theirs - 1.0 if theirs else (0.0 if ours == theirs else float("inf"))


class Session:
    """Runs cases on one server, within a time for each.

    Attributes:
        server: The engine.
        seconds: For one case.
        tell: Called with progress.
        save: Called with the result whenever there is more of it.
    """

    def __init__(
        self, server: Server, seconds: float, tell: Tell, save: Callable[[Result], None]
    ) -> None:
        self.server = server
        self.seconds = seconds
        self.tell = tell
        self.save = save

    def run(self, case: Case) -> Result:
        """Measure a case."""
        self.server.priorities = dict(case.priorities)
        result = Result(case.name, case.title, case.headline)
        result.rate = case.load * self._capacity(case)
        full = self._length(case)
        self.tell(f"{case.name}: {result.rate:.1f} requests/s, full runs of about {full:.0f} s")
        candidates = self._sweep(case, result, full) if case.sweep else [DEFAULT]
        asked = self._draw(case, result.rate, full, "full")
        result.stock = [[] for _ in candidates]
        ours = [
            replace(flags, settings=settings, name=name)
            for flags in candidates
            if flags.policy == "fcfs"
            for name, settings in case.recipes.items()
        ]
        result.recipes = [[] for _ in ours]
        entrants = list(zip([*candidates, *ours], [*result.stock, *result.recipes], strict=True))
        for number in range(ROUNDS):
            self.tell(f"  round {number + 1} of {ROUNDS}")
            # The machine's speed drifts: nobody is always first, and rounds are compared in pairs.
            for flags, runs in (
                entrants[number % len(entrants) :] + entrants[: number % len(entrants)]
            ):
                runs.append(self._measure(case, flags, asked, full))
                self.save(result)
        result.sentences = [sentence(result, runs) for runs in result.recipes]
        self.save(result)
        return result

    def _length(self, case: Case) -> float:
        """Return how long a full run may be, with room for slow ones."""
        sweeps = len(SEATS) * len(case.budgets) if case.sweep else 0
        finalists = 2 if case.sweep else 1
        fulls = ROUNDS * (finalists * (1 + len(case.recipes)) + bool(case.priorities))
        fixed = PROBE_SECONDS + (sweeps + fulls) * (case.tail_seconds + WARM_SECONDS)
        spread = SWEEP_SHARE * sweeps + fulls
        return max(ROOM * (case.weight * self.seconds - fixed) / spread, LEAST_SECONDS)

    def _capacity(self, case: Case) -> float:
        """Return the requests a second that stock's default flags serve of a backlog."""
        asked = self._backlog(case)
        self.server.install(replace(DEFAULT, blocks=case.blocks))
        self.server.warm()
        served = self.server.run(asked, 30.0)
        done = [one.finish for one in served if one.finish >= 0]
        return len(done) / max(done)

    def _backlog(self, case: Case) -> list[Asked]:
        """Return requests that all come at once; of programs, each turn for itself."""
        draw = random.Random(SEEDS["probe"])
        asked = case.make(draw, 1.0, float(PROBE_REQUESTS))[:PROBE_REQUESTS]
        context: list[int] = []
        flat = []
        for one in asked:
            context = (context if one.follows >= 0 else []) + one.prompt
            flat.append(replace(one, at=0.0, prompt=list(context), follows=-1, program=""))
        return flat

    def _draw(self, case: Case, rate: float, seconds: float, seed: str) -> list[Asked]:
        """Return requests for a run of so many seconds; above load 1 they come sooner."""
        window = seconds / max(case.load, 1.0)
        return case.make(random.Random(SEEDS[seed]), rate, window)

    def _sweep(self, case: Case, result: Result, full: float) -> list[Flags]:
        """Return the two best of stock's flags, and with classes the best with priorities."""
        seconds = SWEEP_SHARE * full
        asked = self._draw(case, result.rate, seconds, "sweep")
        grid = [Flags(seats, budget) for seats in SEATS for budget in case.budgets]
        for flags in grid:
            result.sweep.append(self._measure(case, flags, asked, seconds))
            self.save(result)
        order = sorted(range(len(grid)), key=lambda at: result.sweep[at].cost(case.headline))
        chosen = [grid[at] for at in order[:2]]
        if case.priorities:
            chosen.append(replace(chosen[0], policy="priority"))
        return chosen

    def _measure(self, case: Case, flags: Flags, asked: Sequence[Asked], seconds: float) -> Outcome:
        """Return a run under some flags."""
        server = self.server
        server.install(replace(flags, blocks=case.blocks))
        server.warm()
        served = server.run(asked, SLOWEST * seconds + case.tail_seconds + 1.0)
        if errors := server.errors():
            raise RuntimeError(f"{flags.label()}: the recipe failed: {errors}")
        found = outcome(flags.label(), asked, served, case.objectives)
        cut = f", cut: {found.unfinished} unfinished" if found.unfinished else ""
        self.tell(
            f"  {found.label}: {len(asked)} requests in {found.makespan:.1f} s, "
            f"{case.headline} {found.value(case.headline):.3g}{cut}"
        )
        return found


def sentence(result: Result, ours: Sequence[Outcome]) -> str:
    """Return in plain words what a recipe is worth beside the best stock.

    Each round gives a pair; a gain has to be there in all of them.
    """
    best, name, label = result.best, result.headline, ours[0].label
    cut = [sum(one.unfinished for one in runs) for runs in (ours, best)]
    if any(cut):
        return (
            f"{label}: not judged: {cut[0]} of its requests and {cut[1]} of {best[0].label}'s were "
            "cut off; give more --minutes."
        )
    pairs = list(zip(ours, best, strict=True))
    gains = sorted(gain(name, one, other) for one, other in pairs)
    rate = median(one.throughput / other.throughput for one, other in pairs) - 1.0
    pause = median(one.gap / other.gap if other.gap else 1.0 for one, other in pairs) - 1.0
    values = (
        f"{name} {median(one.value(name) for one in ours):.3g} against "
        f"{median(one.value(name) for one in best):.3g} of {best[0].label}, better by "
        f"{gains[0]:+.0%} to {gains[-1]:+.0%} in {len(gains)} rounds"
    )
    sides = f"throughput {rate:+.0%}, p99 stream gap {pause:+.0%}"
    if gains[-1] < -ALLOWED:
        return f"{label}: worse: keep stock ({values}; {sides})."
    if gains[0] <= ALLOWED:
        return f"{label}: no difference shown: keep stock ({values}; {sides})."
    if rate < -ALLOWED or pause > ALLOWED:
        return (
            f"{label}: no gain is claimed: {values}, but at a price beyond {ALLOWED:.0%} ({sides})."
        )
    return f"{label}: gain: {values} ({sides})."
