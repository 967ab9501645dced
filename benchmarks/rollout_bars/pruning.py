"""Bar: pruning by score beats random pruning and smaller groups at equal tokens, or is off.

Run: python -m benchmarks.rollout_bars --bars pruning

Prompts have a success probability; a failure is longer than a success; a report at the checkpoint
has a score that ranks a success above a failure with the stated AUC. What counts is the share of
groups that come out mixed, once the gate has had time to open, against the tokens generated. Random
pruning (3 to 6 of 8 kept) and smaller groups (4 to 8) give a curve each, read off at the tokens
that pruning by score took: between two of its points one can always mix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, sqrt
from random import Random
from statistics import NormalDist, fmean
from typing import ClassVar, Final, NamedTuple

from benchmarks.rollout_bars.listing import Fate, Listing, Shape
from benchmarks.rollout_bars.paired import Interval, gain, interval
from benchmarks.rollout_bars.rows import Options, Row, of
from sojourn.policies.control.arrol_inspired import ArrolInspired, Config
from sojourn.recipes.rollouts import rollout_recipe
from sojourn.rollout import states as st
from sojourn.rollout.actions import Abort, Proposal
from sojourn.rollout.events import Finished, Heard, Progress
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.memory import Memoryless, Passive
from sojourn.rollout.model import Prompt, Rollout
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Control, Setting, Stretch
from sojourn.rollout.streams import Stream
from sojourn.rollout.views import RolloutView, View

SIZE: Final = 8
GROUPS: Final = 32
CHECK: Final = 512
AUCS: Final = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)
RUN: Final = (40, 15)
"""Batches, and those at the start that are not counted: the gate has yet to open."""
TURN: Final = 20
PAYS: Final = (0.8, 0.9)
"""AUCs at which pruning has to pay; .5 is where it has to be off."""
SAVED_MIN: Final = 30.0
PRUNED_MAX: Final = 0.02


@dataclass(frozen=True)
class World:
    """What is true.

    Attributes:
        auc: How often the score of a success is above that of a failure.
        later_auc: The same from `turns_at` on; the batch, or -1 for never.
        logit_mean, logit_spread: Of the prompts.
        median, spread: Of the lengths of successes.
        slower: By what the median of failures is multiplied.
    """

    auc: float = 0.8
    later_auc: float = 0.5
    turns_at: int = -1
    logit_mean: float = 0.0
    logit_spread: float = 2.0
    median: float = 2000.0
    spread: float = 0.6
    slower: float = 1.5

    def fate(self, seed: int, prompt: int, sibling: int, batch: int) -> Fate:
        logit = Random(f"{seed}/prompt/{prompt}").gauss(self.logit_mean, self.logit_spread)
        own = Random(f"{seed}/{prompt}/{sibling}/{batch}")
        success = own.random() < 1.0 / (1.0 + exp(-logit))
        centre = log(self.median * (1.0 if success else self.slower))
        length = int(exp(own.gauss(centre, self.spread))) + 1
        auc = self.later_auc if 0 <= self.turns_at <= batch else self.auc
        apart = sqrt(2.0) * NormalDist().inv_cdf(auc)
        return Fate(length, float(success), apart * success + own.gauss(0.0, 1.0))


class RandomPruned(Memoryless, Passive):
    """Prunes at the same moment as the policy under test, whom chance will."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset()

    def __init__(self, keep: int, setting: Setting) -> None:
        self.keep, self.stream = keep, setting.stream
        self.marked: set[int] = set()
        self.decided: set[int] = set()

    def stretch(self, rollout: RolloutView, view: View) -> Stretch:
        return Stretch(report_at=(CHECK,))

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        if not isinstance(event, Progress | Finished):
            return ()
        rollout = view.rollout(event.rid)
        if rollout is None or rollout.group in self.decided:
            return ()
        if isinstance(event, Progress):
            self.marked.add(event.rid)
        live = [one for one in view.members(rollout.group) if one.status in st.LIVE]
        if not live or not all(one.rid in self.marked for one in live):
            return ()
        self.decided.add(rollout.group)
        keep = -(-self.keep * len(live) // SIZE)
        gone = self.stream.sample(live, len(live) - keep)
        return [Abort(one.rid, False, "chance") for one in gone]


class Result(NamedTuple):
    """A run after the warm-up: mixed groups, tokens of a group, trained length; and the policy's.

    `switched` is how many groups were pruned after the score turned, if it did, by batch.
    """

    mixed: float
    tokens: float
    length: float
    pruned: float
    gate: Mapping[str, float]
    by_batch: tuple[float, ...]


def simulate(world: World, seed: int, batches: int, warm: int, kind: str, number: int) -> Result:
    """Return what a kind of pruning does: "score", "chance" keeping `number`, or "size"."""
    size = number if kind == "size" else SIZE
    plan = Plan(batch_groups=GROUPS, rollouts_per_group=size, tokens_max=16_384)
    prompts = tuple(Prompt(at) for at in range(GROUPS * batches))
    policies = rollout_recipe({"name": kind}, "bar").build(plan, prompts, seed)
    setting = Setting(plan, prompts, Stream(seed, "bar"))
    scored = ArrolInspired(Config(check_tokens=CHECK), setting)
    extra: tuple[Control, ...] = ()
    if kind != "size":
        extra = (scored if kind == "score" else RandomPruned(number, setting),)
    policies = policies._replace(controls=(*policies.controls, *extra))
    machine = RolloutMachine(plan, prompts, policies)

    def fate(rollout: Rollout) -> Fate:
        sibling = rollout.rid - machine.run.group(rollout.group).rids[0]
        return world.fate(seed, rollout.prompt_id, sibling, rollout.group // GROUPS)

    host = Listing(machine, Shape(engines=4, seats=64), fate).run(batches)
    groups = [one.result for batch in host.batches[warm:] for one in batch.groups]
    trained = [one.sampled for group in groups for one in group.rollouts if one.status in st.SCORED]
    every = [one for group in groups for one in group.rollouts]
    return Result(
        fmean(group.mixed for group in groups),
        sum(one.sampled for one in every) / len(groups),
        fmean(trained),
        fmean(one.status == st.PRUNED for one in every),
        scored.metrics(),
        tuple(
            fmean(
                one.status == st.PRUNED for group in batch.groups for one in group.result.rollouts
            )
            for batch in host.batches
        ),
    )


def read_off(curve: Sequence[Result], tokens: float) -> float:
    """Return the mixed share of a curve at so many tokens, between its two nearest points."""
    points = sorted((one.tokens, one.mixed) for one in curve)
    for (low, less), (high, more) in pairwise(points):
        if low <= tokens <= high:
            return less + (more - less) * (tokens - low) / (high - low)
    return points[0][1] if tokens < points[0][0] else points[-1][1]


def _job(job: tuple[World, int, int, int, str, int]) -> Result:
    return simulate(*job)


def sweep(options: Options) -> tuple[list[list[Result]], list[list[Result]]]:
    """Return two curves for each seed, of random pruning and of smaller groups.

    Neither looks at scores, so every AUC is held against the same ones.
    """

    def curves(kind: str, numbers: Sequence[int]) -> list[list[Result]]:
        jobs = [(World(), seed, *RUN, kind, number) for seed in options.range for number in numbers]
        with ProcessPoolExecutor(options.jobs) as pool:
            found = list(pool.map(_job, jobs))
        return [found[at * len(numbers) : (at + 1) * len(numbers)] for at in range(options.seeds)]

    sizes = curves("size", (4, 5, 6, 7, SIZE))
    options.say("smaller groups are done")
    chance = curves("chance", (3, 4, 5, 6))
    options.say("random pruning is done")
    return [[*one, size[-1]] for one, size in zip(chance, sizes, strict=True)], sizes


def rows(options: Options) -> list[Row]:
    """Return what pruning gives at each AUC, and whether it stops where scores say nothing."""
    chance, sizes = sweep(options)
    found: list[Row] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for auc in AUCS:
            jobs = [(World(auc=auc), seed, *RUN, "score", 0) for seed in options.range]
            found += _at(auc, list(pool.map(_job, jobs)), chance, sizes, options)
        jobs = [(World(auc=0.8, turns_at=TURN), seed, *RUN, "score", 0) for seed in options.range]
        turned = list(pool.map(_job, jobs))
    for first, last, met_below in ((TURN - 10, TURN, None), (TURN + 5, RUN[0], PRUNED_MAX)):
        share = interval([fmean(one.by_batch[first:last]) for one in turned])
        where = f"AUC .8, and .5 from batch {TURN} on; batches {first} to {last - 1}"
        options.say(f"{where}: pruned {share.text()}")
        bar = "" if met_below is None else f"≤ {met_below}"
        met = None if met_below is None else share.high <= met_below
        found.append(of(share, "share of rollouts pruned", where, options, bar, met))
    return found


def _at(
    auc: float,
    ours: Sequence[Result],
    chance: Sequence[Sequence[Result]],
    sizes: Sequence[Sequence[Result]],
    options: Options,
) -> list[Row]:
    """Return the rows of one AUC: gains at equal tokens, tokens saved, what is pruned."""
    where, mixed = f"AUC {auc}", [one.mixed for one in ours]
    pairs = list(zip(ours, [one[-1] for one in sizes], strict=True))
    saved = interval([100 * (1 - one.tokens / whole.tokens) for one, whole in pairs])
    pruned = interval([one.pruned for one in ours])
    barred = auc in PAYS
    rows = [
        of(pruned, "share of rollouts pruned", where, options, *_off(auc, pruned)),
        of(saved, "tokens saved, %", where, options, *_least(barred, saved, SAVED_MIN), 1),
        of(interval(mixed), "share of groups that are mixed", where, options),
    ]
    for label, curves in (("random pruning", chance), ("smaller groups", sizes)):
        theirs = [read_off(curve, one.tokens) for curve, one in zip(curves, ours, strict=True)]
        over = gain(mixed, theirs)
        what = f"mixed groups above {label} at equal tokens"
        bar, met = ("> 0", over.low > 0.0) if barred else ("", None)
        rows.append(of(over, what, where, options, bar, met))
    length = interval([one.length / whole.length for one, whole in pairs])
    rows.append(of(length, "trained length over that of whole groups", where, options))
    for one in rows:
        options.say(f"{one.setting}: {one.what} {one.value()}")
    return rows


def _off(auc: float, pruned: Interval) -> tuple[str, bool | None]:
    return (f"≤ {PRUNED_MAX}", pruned.high <= PRUNED_MAX) if auc == 0.5 else ("", None)


def _least(barred: bool, found: Interval, least: float) -> tuple[str, bool | None]:
    return (f"≥ {least:g}", found.low >= least) if barred else ("", None)
