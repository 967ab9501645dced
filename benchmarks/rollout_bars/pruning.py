"""Bar: pruning by score beats random pruning and smaller groups at equal tokens, or is off.

Run: python -m benchmarks.rollout_bars.pruning [--seeds 8] [--batches 40]

Prompts have a success probability; a failure is longer than a success; a report at the checkpoint
has a score that ranks a success above a failure with the stated AUC. What counts is the share of
groups that come out mixed, once the gate has had time to open, against the tokens generated. Random
pruning (2 to 7 of 8 kept) and smaller groups (2 to 8) give a curve each, read off at the tokens
that pruning by score took: between two of its points one can always mix.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, sqrt
from random import Random
from statistics import NormalDist, fmean
from typing import Final, NamedTuple

from benchmarks.rollout_bars.listing import Fate, Listing, Shape
from benchmarks.rollout_bars.paired import gain, interval
from sojourn.policies.control.arrol_inspired import ArrolInspired, Config
from sojourn.recipes.rollouts import rollout_recipe
from sojourn.rollout import states as st
from sojourn.rollout.actions import Abort, Proposal
from sojourn.rollout.events import Finished, Heard, Progress
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.memory import Memoryless, Passive
from sojourn.rollout.model import Prompt, Rollout
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Setting, Stretch
from sojourn.rollout.streams import Stream
from sojourn.rollout.views import RolloutView, View

SIZE: Final = 8
GROUPS: Final = 32
CHECK: Final = 512
AUCS: Final = (0.5, 0.6, 0.7, 0.8, 0.9)


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

    needs = frozenset()

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
    extra = {"score": (scored,), "chance": (RandomPruned(number, setting),), "size": ()}[kind]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--warm", type=int, default=15)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    run = args.batches, args.warm
    seeds = range(args.seeds)
    with ProcessPoolExecutor(args.workers) as pool:
        world = World()  # whom chance prunes does not depend on scores

        def curves(kind: str, numbers: Sequence[int]) -> list[list[Result]]:
            jobs = [(world, seed, *run, kind, number) for seed in seeds for number in numbers]
            found = list(pool.map(_job, jobs))
            return [found[at * len(numbers) : (at + 1) * len(numbers)] for at in seeds]

        chance = curves("chance", (2, 3, 4, 5, 6, 7))
        sizes = curves("size", (2, 3, 4, 5, 6, 7, 8))
        whole = [one[-1] for one in sizes]
        chance = [[*one, all_] for one, all_ in zip(chance, whole, strict=True)]
        print(f"whole groups: mixed {interval([one.mixed for one in whole]).text()}")
        for auc in AUCS:
            jobs = [(World(auc=auc), seed, *run, "score", 0) for seed in seeds]
            show(f"AUC {auc}", list(pool.map(_job, jobs)), whole, chance, sizes)
        turn = args.batches // 2
        jobs = [(World(auc=0.8, turns_at=turn), seed, *run, "score", 0) for seed in seeds]
        turned = list(pool.map(_job, jobs))
        print(f"AUC .8, and .5 from batch {turn} on; share pruned by batch, mean over seeds:")
        shares = [fmean(one.by_batch[at] for one in turned) for at in range(args.batches)]
        print("  " + " ".join(f"{share:.2f}" for share in shares))


def show(
    name: str,
    ours: Sequence[Result],
    whole: Sequence[Result],
    chance: Sequence[Sequence[Result]],
    sizes: Sequence[Sequence[Result]],
) -> None:
    """Print savings, mixed share, and the gains over both curves at equal tokens."""
    pairs = list(zip(ours, whole, strict=True))
    saved = interval([100 * (1 - one.tokens / all_.tokens) for one, all_ in pairs])
    mixed = [one.mixed for one in ours]
    over = {
        label: gain(
            mixed,
            [read_off(curve, one.tokens) for curve, one in zip(curves, ours, strict=True)],
        )
        for label, curves in (("chance", chance), ("smaller groups", sizes))
    }
    open_ = fmean(one.gate["open"] for one in ours)
    print(
        f"{name}: tokens saved {saved.text(1)} %, mixed {interval(mixed).text()},"
        f" over chance {over['chance'].text()}, over smaller groups"
        f" {over['smaller groups'].text()}; pruned {fmean(one.pruned for one in ours):.2f},"
        f" gate open at the end {open_:.2f}, error {fmean(one.gate['error'] for one in ours):.3f},"
        f" concordance {fmean(one.gate['concordance'] for one in ours):.3f};"
        f" trained length {fmean(a.length / b.length for a, b in pairs):.2f} of whole",
        flush=True,
    )


if __name__ == "__main__":
    main()
