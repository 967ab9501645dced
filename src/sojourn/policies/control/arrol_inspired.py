"""Prunes the rollouts of a group at a checkpoint towards a mix of successes and failures.

Source: after ARRoL, 2026, arXiv 2603.24840, of which only the abstract was at hand and whose
    repository has no code: a head learns P(correct | prefix) online, survivors are balanced.
    Here siblings are sorted by it and the j highest and k - j lowest kept, j such that the
    successes expected among all that is kept are nearest to the target share.
Reads: features[0] of progress reports, states and rewards of siblings, beliefs of the prompt.
Memory: scores at the checkpoint; a calibrator over the latest rollouts and groups.
Needs: reports at a token count, with a feature.
Deviations: checkpoint, shares and gate are ours. Nothing is pruned unless the scores have been
    right: calibration error and concordance within groups gate it. A random share of the groups
    to be pruned is kept whole, with its propensity on record.
Fails when: siblings start far apart: a group waits for its last. Long rollouts are the wrong
    ones: what is pruned for its score is pruned for its length. Rewards are all or nothing by
    prompt: there is no mix to keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.policies.control.checkpoints import Checkpoints, choose
from sojourn.rollout.actions import Abort, Extend, Proposal
from sojourn.rollout.calibration import Calibrator
from sojourn.rollout.corrections import KEPT_AT_RANDOM
from sojourn.rollout.events import Aborted, Finished, Heard, Progress, Rewarded, Settled
from sojourn.rollout.memory import Passive
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Setting, State, Stretch
from sojourn.rollout.views import RolloutView, View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of checkpoint, rule and gate.

    Attributes:
        check_tokens: Sampled tokens at which a rollout is scored.
        keep_share: Share of the rollouts at the checkpoint that is kept.
        target_share: Successes wanted among what is kept.
        random_share: Share of the groups to be pruned that is kept whole.
        calibration_error_max: Mean gap of prediction and outcome that is tolerated.
        concordance_min: How often siblings must be ordered right, with 95 % confidence.
        rollouts_min: Finished rollouts to be seen first; the last four times as many count.
        groups_min: Mixed groups left whole to be seen first; the last three times as many count.
    """

    check_tokens: int = 512
    keep_share: float = 0.5
    target_share: float = 0.5
    random_share: float = 0.1
    calibration_error_max: float = 0.1
    concordance_min: float = 0.7
    rollouts_min: int = 128
    groups_min: int = 16

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("check_tokens", "rollouts_min", "groups_min"):
            if getattr(self, name) < 1:
                raise UserError(f"control.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("keep_share", "target_share", "random_share"):
            if not 0.0 < getattr(self, name) <= 1.0:
                share = getattr(self, name)
                raise UserError(f"control.{name} is {share}; it must be above 0, at most 1")


class ArrolInspired(Passive):
    """Marks, then prunes once all live siblings are marked, if the gate is open."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset({RolloutNeed.REPORT, RolloutNeed.FEATURES})

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.stream = setting.stream
        self.known = Calibrator(4 * config.rollouts_min, 3 * config.groups_min, bins=5)
        self.points = Checkpoints(setting.plan, self.known)
        self.counts = {"groups_gated": 0, "groups_spared": 0, "pruned": 0}

    def stretch(self, rollout: RolloutView, view: View) -> Stretch:
        """Ask for a report at the checkpoint."""
        return Stretch(report_at=(self.config.check_tokens,))

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Learn, mark, or decide."""
        if isinstance(event, Rewarded):
            self.points.learn(event)
        elif isinstance(event, Settled):
            self.points.close(event.group)
        elif isinstance(event, Progress | Finished | Aborted):
            rollout = view.rollout(event.rid)
            if rollout is None:
                return ()
            reached = rollout.sampled >= self.config.check_tokens
            if isinstance(event, Progress) and event.features and reached:
                self.points.mark(rollout, event.features[0], view)
            return self._decide(rollout.group, view)
        return ()

    def is_open(self) -> bool:
        """Return whether the scores may be acted on."""
        config, known = self.config, self.known
        return (
            len(known.seen) >= config.rollouts_min
            and len(known.groups) >= config.groups_min
            and known.error() <= config.calibration_error_max
            and known.concordance_low() >= config.concordance_min
            and known.recent_concordance() >= config.concordance_min
        )

    def _decide(self, uid: int, view: View) -> Sequence[Proposal]:
        live = self.points.due(uid, view)
        if not live:
            return ()
        config, opened, share = self.config, self.is_open(), self.config.random_share
        keep = ceil(config.keep_share * len(live))
        given = self.points.given(uid, view)
        kept = choose(self.points.chances(live), given, keep, config.target_share)
        gone = [one.rid for at, one in enumerate(live) if at not in kept]
        spared = opened and self.stream.uniform() < share
        self.points.decide(uid, whole=spared or not opened)
        self.counts["groups_gated"] += not opened
        self.counts["groups_spared"] += spared
        if not opened:
            return ()
        if spared:
            return [Extend(rid, reason=KEPT_AT_RANDOM, propensity=share) for rid in gone]
        self.counts["pruned"] += len(gone)
        return [Abort(rid, False, "unlike the mix wanted", 1.0 - share) for rid in gone]

    def metrics(self) -> Metrics:
        """Return the gate and its two measures, and what was pruned."""
        measures = {"error": self.known.error(), "concordance": self.known.concordance()}
        return {"open": float(self.is_open()), **measures, **self.counts}

    def state_dict(self) -> State:
        """Return marks and calibration, stream and counts."""
        counts, stream = dict(self.counts), self.stream.state_dict()
        return {"points": self.points.state_dict(), "stream": stream, "counts": counts}

    def load_state_dict(self, state: State) -> None:
        """Take them over."""
        self.points.load_state_dict(state["points"])
        self.stream.load_state_dict(state["stream"])
        self.counts = dict(state["counts"])
