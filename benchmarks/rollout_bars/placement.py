"""Bar: group-aware placement closes half of the makespan gap to clairvoyant longest-first.

Run: python -m benchmarks.rollout_bars --bars placement

Lengths are log-normal; the share of the variance of their logarithm that siblings have in common is
swept. At .5 at least half of the gap from least in flight to longest first, with true lengths, is
to be closed; at 0 the batch may take 2 % longer at most. Two baselines: least in flight as verl has
it, with queues in the engines, and the same with one queue before them, which takes away what
Seer's rule gains by waiting in one place. Bounds that no policy has: the true length of everyone,
and what siblings truly have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import exp, log, sqrt
from random import Random
from statistics import fmean
from typing import Any, Final, NamedTuple

from benchmarks.rollout_bars.listing import Fate, Listing, Shape
from benchmarks.rollout_bars.paired import RESAMPLES, Interval, interval
from benchmarks.rollout_bars.rows import Options, Row, of
from sojourn.policies.dispatch import seer_inspired
from sojourn.recipes.rollouts import rollout_recipe
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.model import Prompt, Rollout
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Setting
from sojourn.rollout.streams import Stream
from sojourn.rollout.views import View

MEDIAN: Final = 2000
SPREAD: Final = 1.0
TOKENS_MAX: Final = 16_384
CORRELATIONS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


class Case(NamedTuple):
    """A setting of the bar.

    Attributes:
        name: What the page calls it.
        shape: Engines.
        groups, rollouts: Of a batch.
        spread: Standard deviation of the logarithm of lengths.
        again: Whether every batch has the prompts of the first, as in training for several epochs.
    """

    name: str
    shape: Shape
    groups: int = 64
    rollouts: int = 8
    spread: float = SPREAD
    again: bool = False


BASE: Final = Case("4 engines, 16 seats", Shape(seats=16))
AGAIN: Final = BASE._replace(name="the same prompts again", again=True)
LIGHT: Final = BASE._replace(name="lighter tails, spread .6", spread=0.6)
OTHERS: Final = (
    Case("4 engines, 8 seats", Shape(seats=8)),
    Case("4 engines, 32 seats", Shape(seats=32)),
    Case("4 engines, 64 seats", Shape(seats=64)),
    Case("8 engines, 8 seats", Shape(engines=8, seats=8)),
    Case("2 engines, 32 seats", Shape(engines=2, seats=32)),
    Case("4 engines, 16 seats, steep steps", Shape(seats=16, step_each=0.0005)),
    Case("4 engines, 16 seats, 32 groups of 16", Shape(seats=16), 32, 16),
)
"""How many waves there are is rollouts over seats."""


class Truth:
    """Lengths of all rollouts, the same under every policy."""

    def __init__(self, case: Case, correlation: float, seed: int) -> None:
        self.case, self.correlation, self.seed = case, correlation, seed

    def shared(self, rollout: Rollout) -> float:
        """Return what a rollout has in common with its siblings, and with them at other times."""
        what = f"prompt/{rollout.prompt_id}" if self.case.again else f"group/{rollout.group}"
        return Random(f"{self.seed}/{what}").gauss(0.0, 1.0)

    def fate(self, rollout: Rollout, view: Any) -> Fate:
        """Return how long a rollout is, and its reward."""
        sibling = rollout.rid - view.group(rollout.group).rids[0]
        own = Random(f"{self.seed}/rollout/{(rollout.group, sibling)}")
        shared, correlation = self.shared(rollout), self.correlation
        mixed = sqrt(correlation) * shared + sqrt(1.0 - correlation) * own.gauss(0.0, 1.0)
        length = max(int(exp(log(MEDIAN) + self.case.spread * mixed)), 1)
        return Fate(length, float(own.random() < 0.5), shared)


class LongestClairvoyant(seer_inspired.SeerInspired):
    """Longest first, with the truth; placed like the policy under test."""

    truth: Truth

    def key(self, rollout: Any, view: View) -> tuple[float, ...]:
        return (-float(min(self.truth.fate(rollout, view).length, TOKENS_MAX)),)


class GroupsClairvoyant(LongestClairvoyant):
    """Longest first by what siblings have in common, without knowing any rollout's own part."""

    def key(self, rollout: Any, view: View) -> tuple[float, ...]:
        return (-self.truth.shared(rollout),)


ASIDE: Final = ["synchronous", "stand_aside"]
CHUNKS: Final = ["synchronous", {"policy": "divided", "chunk_tokens": 4096}]
POLICIES: Final[Mapping[str, dict[str, Any]]] = {
    "least in flight": {"dispatch": "least_in_flight"},
    "one queue": {"dispatch": "least_in_flight"},
    "one queue, stand_aside": {"dispatch": "least_in_flight", "control": ASIDE},
    "seer_inspired": {"dispatch": "seer_inspired"},
    "seer_inspired, chunks of 4096": {"dispatch": "seer_inspired", "control": CHUNKS},
    "seer_inspired, stand_aside": {"dispatch": "seer_inspired", "control": ASIDE},
    "groups known": {"dispatch": "seer_inspired"},
    "longest first": {"dispatch": "seer_inspired"},
}
LEAST, LONGEST, KNOWN = "least in flight", "longest first", "groups known"
OURS: Final = "seer_inspired, stand_aside"
BARRED: Final = ("seer_inspired", OURS)
SHORT: Final = (LEAST, "seer_inspired", OURS, KNOWN, LONGEST)
CLOSED_MIN: Final = 0.5
LONGER_MAX: Final = 2.0


def makespans(
    case: Case, correlation: float, seed: int, batches: int, names: Sequence[str] = tuple(POLICIES)
) -> dict[str, list[float]]:
    """Return the seconds of each batch under each policy, on the same rollouts."""
    found: dict[str, list[float]] = {}
    for name in names:
        plan = Plan(
            batch_groups=case.groups, rollouts_per_group=case.rollouts, tokens_max=TOKENS_MAX
        )
        prompts = tuple(Prompt(at) for at in range(case.groups * (1 if case.again else batches)))
        wanted = {"name": name, **POLICIES[name]}
        if name.startswith("one queue"):
            seats = case.shape.seats
            wanted["dispatch"] = {"policy": "least_in_flight", "engine_rollouts_max": seats}
        policies = rollout_recipe(wanted, "bar").build(plan, prompts, seed)
        truth = Truth(case, correlation, seed)
        if name in (LONGEST, KNOWN):
            kind = LongestClairvoyant if name == LONGEST else GroupsClairvoyant
            bound = kind(seer_inspired.Config(), Setting(plan, prompts, Stream(seed, "bar")))
            bound.truth = truth
            policies = policies._replace(dispatch=bound)
        machine = RolloutMachine(plan, prompts, policies)

        def fate(rollout: Rollout, truth: Truth = truth, machine: RolloutMachine = machine) -> Fate:
            return truth.fate(rollout, machine.run)

        found[name] = Listing(machine, case.shape, fate).run(batches).makespans
    return found


def closed(base: Sequence[float], ours: Sequence[float], bound: Sequence[float]) -> Interval:
    """Return the share of the gap of the means that is closed, with a bootstrap over seeds."""
    dice = Random("bootstrap")
    seeds = range(len(base))

    def share(chosen: Sequence[int]) -> float:
        gap = sum(base[at] - bound[at] for at in chosen)
        return sum(base[at] - ours[at] for at in chosen) / gap if gap else 0.0

    drawn = sorted(share(dice.choices(seeds, k=len(base))) for _ in range(RESAMPLES))
    return Interval(share(seeds), drawn[RESAMPLES // 40], drawn[-RESAMPLES // 40])


def _job(job: tuple[Case, float, int, int, Sequence[str]]) -> dict[str, list[float]]:
    return makespans(*job)


def compare(
    case: Case, correlation: float, options: Options, names: Sequence[str], batches: int = 2
) -> list[Row]:
    """Return the rows of a case: of its first batch, in which nothing is known, and of the last."""
    jobs = [(case, correlation, seed, batches, names) for seed in options.range]
    with ProcessPoolExecutor(options.jobs) as pool:
        runs = list(pool.map(_job, jobs))
    waves = case.groups * case.rollouts / (case.shape.engines * case.shape.seats)
    shown = [(0, "first batch")] if not case.again else []
    if batches > 1:
        shown.append((batches - 1, "second visit" if case.again else "next batch"))
    rows = []
    for at, batch in shown:
        base = [one[LEAST][at] for one in runs]
        bound = [one[LONGEST][at] for one in runs]
        for name in names:
            if name in (LEAST, LONGEST):
                continue
            ours = [one[name][at] for one in runs]
            share = closed(base, ours, bound)
            longer = interval([100 * (a / b - 1) for a, b in zip(ours, base, strict=True)])
            where = f"{name}; {case.name}, {waves:.0f} waves, correlation {correlation}, {batch}"
            barred = name in BARRED and case is BASE and not at
            rows += _judged(share, longer, where, options, correlation, barred)
            options.say(
                f"{where}: {fmean(base):.0f} s, {fmean(ours):.0f} s, at best {fmean(bound):.0f} s;"
                f" closed {share.text(2)}, longer by {longer.text(1)} %"
            )
    return rows


def _judged(
    share: Interval,
    longer: Interval,
    where: str,
    options: Options,
    correlation: float,
    barred: bool,
) -> list[Row]:
    """Return the gap closed, and where siblings share nothing how much longer a batch takes."""
    met, bar = None, ""
    if barred and correlation == 0.5:
        met, bar = share.low >= CLOSED_MIN, f"≥ {CLOSED_MIN}"
    rows = [of(share, "share of the gap closed", where, options, bar, met, 2)]
    if barred and correlation == 0.0:
        met, bar = longer.high <= LONGER_MAX, f"≤ {LONGER_MAX:g}"
        rows.append(of(longer, "longer than least in flight, %", where, options, bar, met, 1))
    return rows


def rows(options: Options) -> list[Row]:
    """Return the sweep over correlations, and what else may decide, some on fewer seeds."""
    found = []
    for correlation in CORRELATIONS:
        names = tuple(POLICIES) if correlation == 0.5 else SHORT
        found += compare(BASE, correlation, options, names)
    found += compare(AGAIN, 0.5, options, SHORT)
    found += compare(LIGHT, 0.5, options, SHORT)
    few = options._replace(seeds=max(options.seeds // 3, 2))
    for case in OTHERS:
        found += compare(case, 0.5, few, SHORT, batches=1)
    return found
