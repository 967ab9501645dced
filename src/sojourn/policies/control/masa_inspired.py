"""Stops rollouts that are far longer than a correct one is expected to be.

Source: after MASA, 2025, of which only the abstract and code without the cut-off were at hand: a
    model predicts its own length and pass rate, and rollouts beyond a multiple of the predicted
    length of a correct answer are cut.
Reads: lengths and rewards of finished rollouts, reports of running ones.
Memory: lengths of correct rollouts, by prompt around the pool; the point at which each is judged.
Needs: reports at a token count.
Deviations: lengths come from what was seen, with prompts leaning on the pool, not from the model's
    own word; the multiple is unknown, so sweep it. Some siblings are always left, and a random
    share goes on, with its propensity on record.
Fails when: correct answers get longer in training: nothing long is left to learn that from but the
    random share. The wrong ones are the long ones: negative examples go missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.rollout import states as st
from sojourn.rollout.actions import Abort, Extend, Proposal
from sojourn.rollout.corrections import KEPT_AT_RANDOM
from sojourn.rollout.events import Heard, Progress, Rewarded, Settled
from sojourn.rollout.lengths import Lengths
from sojourn.rollout.memory import Passive
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import UNLIMITED, Metrics, Setting, State, Stretch
from sojourn.rollout.views import RolloutView, View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the cut.

    Attributes:
        multiple: Expected lengths of a correct rollout after which one is stopped.
        random_share: Share of those that goes on all the same.
        correct_min: Correct rollouts seen before anything is stopped.
        siblings_min: Rollouts of a group that are never stopped.
        success_min: Reward, as a share of a success, that counts as correct.
    """

    multiple: float = 2.0
    random_share: float = 0.1
    correct_min: int = 64
    siblings_min: int = 2
    success_min: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.multiple <= 0.0:
            raise UserError(f"control.multiple is {self.multiple}; it must be above 0")
        if not 0.0 < self.random_share <= 1.0:
            raise UserError(
                f"control.random_share is {self.random_share}; it must be above 0, at most 1"
            )
        for name in ("correct_min", "siblings_min"):
            if getattr(self, name) < 0:
                raise UserError(f"control.{name} is {getattr(self, name)}; it must be at least 0")


class MasaInspired(Passive):
    """Judges each rollout once, where its expected length is exceeded."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset({RolloutNeed.REPORT})

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.plan = setting.plan
        self.stream = setting.stream
        self.correct = Lengths(keep=0.9, prior_mean=6.0, prior_sd=1.0)
        self.cuts: dict[int, dict[int, int]] = {}
        self.counts = {"correct": 0, "stopped": 0, "spared": 0}

    def stretch(self, rollout: RolloutView, view: View) -> Stretch:
        """Ask for a report at the point where it is judged."""
        if self.counts["correct"] < self.config.correct_min:
            return Stretch()
        cuts = self.cuts.setdefault(rollout.group, {})
        if rollout.rid not in cuts:
            expected = self.correct.read(rollout.prompt_id).mean()
            cuts[rollout.rid] = int(self.config.multiple * expected) + 1
        return Stretch(report_at=(cuts[rollout.rid],))

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Learn from rewards, judge at reports."""
        if isinstance(event, Settled):
            self.cuts.pop(event.group, None)
        elif isinstance(event, Rewarded | Progress):
            rollout = view.rollout(event.rid)
            if rollout is None:
                return ()
            if isinstance(event, Progress):
                return self._judge(rollout, view)
            correct = self.plan.success(event.value) >= self.config.success_min
            if correct and event.final and rollout.status == st.FINISHED:
                self.correct.observe(rollout.prompt_id, rollout.sampled)
                self.counts["correct"] += 1
        return ()

    def _judge(self, rollout: RolloutView, view: View) -> Sequence[Proposal]:
        cuts = self.cuts.get(rollout.group, {})
        if rollout.sampled < cuts.get(rollout.rid, UNLIMITED):
            return ()
        left = [
            one
            for one in view.members(rollout.group)
            if one.status not in (st.PRUNED, st.FAILED) and one.stop != "discard"
        ]
        if len(left) <= self.config.siblings_min:
            return ()
        cuts[rollout.rid] = UNLIMITED  # judged, whatever comes of it
        share = self.config.random_share
        if self.stream.uniform() < share:
            self.counts["spared"] += 1
            return [Extend(rollout.rid, reason=KEPT_AT_RANDOM, propensity=share)]
        self.counts["stopped"] += 1
        return [Abort(rollout.rid, False, "hopelessly long", 1.0 - share)]

    def metrics(self) -> Metrics:
        """Return how many were stopped, and how many might have been."""
        return {name: float(count) for name, count in self.counts.items()}

    def state_dict(self) -> State:
        """Return lengths, points, stream and counts."""
        return {
            "correct": self.correct.state_dict(),
            "cuts": [[uid, [*cuts.items()]] for uid, cuts in self.cuts.items()],
            "stream": self.stream.state_dict(),
            "counts": dict(self.counts),
        }

    def load_state_dict(self, state: State) -> None:
        """Take them over."""
        self.correct.load_state_dict(state["correct"])
        self.cuts = {uid: dict(cuts) for uid, cuts in state["cuts"]}
        self.stream.load_state_dict(state["stream"])
        self.counts = dict(state["counts"])
