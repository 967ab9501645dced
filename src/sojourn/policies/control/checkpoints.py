"""The rollouts of each group at a token count: what their scores said, and how they ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from sojourn.rollout import states as st
from sojourn.rollout.calibration import Calibrator, Seen, logit
from sojourn.rollout.events import Rewarded
from sojourn.rollout.plan import Plan
from sojourn.rollout.views import RolloutView, View


class Mark(NamedTuple):
    """A rollout at its checkpoint: its group, score, the prompt's logit and the chance given."""

    group: int
    score: float
    prior: float
    chance: float


@dataclass(slots=True)
class Note:
    """A group at its checkpoint.

    Attributes:
        decided: Whether it has been decided on.
        whole: Whether that left it whole at random, or because nothing might be stopped.
        rids: Its marked rollouts.
        chances, outcomes: Of those that were rewarded since.
    """

    decided: bool = False
    whole: bool = False
    rids: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    outcomes: list[float] = field(default_factory=list)


class Checkpoints:
    """Marks of live rollouts, and a calibrator that learns from them.

    Attributes:
        marks: By rollout, until it is rewarded or its group settles.
        notes: By group, until it settles.
    """

    def __init__(self, plan: Plan, calibrator: Calibrator) -> None:
        self.plan = plan
        self.calibrator = calibrator
        self.marks: dict[int, Mark] = {}
        self.notes: dict[int, Note] = {}

    def mark(self, rollout: RolloutView, score: float, view: View) -> None:
        """Take note of a rollout's score, once, unless its group was decided on."""
        note = self.notes.setdefault(rollout.group, Note())
        if note.decided or rollout.rid in self.marks:
            return
        prior = logit(view.beliefs.read(rollout.prompt_id, view.version).mean)
        chance = self.calibrator.predict(score, prior)
        self.marks[rollout.rid] = Mark(rollout.group, score, prior, chance)
        note.rids.append(rollout.rid)

    def due(self, uid: int, view: View) -> list[RolloutView]:
        """Return the live rollouts of a group if all are marked and it is not decided on."""
        note = self.notes.get(uid)
        if note is None or note.decided:
            return []
        live = [one for one in view.members(uid) if one.status in st.LIVE]
        return live if all(one.rid in self.marks for one in live) else []

    def decide(self, uid: int, whole: bool) -> None:
        """Take note that a group was decided on, and whether it stays whole."""
        self.notes[uid].decided = True
        self.notes[uid].whole = whole

    def chances(self, rollouts: Sequence[RolloutView]) -> list[float]:
        """Return the chances that marked rollouts were given."""
        return [self.marks[one.rid].chance for one in rollouts]

    def given(self, uid: int, view: View) -> list[float]:
        """Return what is known of the rollouts of a group that have ended by themselves."""
        found: list[float] = []
        for one in view.members(uid):
            if one.status not in st.SCORED:
                continue
            reward, mark = view.reward(one.rid), self.marks.get(one.rid)
            if reward is not None:
                found.append(self.plan.success(reward))
            elif mark is not None:
                found.append(mark.chance)
            else:
                found.append(view.beliefs.read(one.prompt_id, view.version).mean)
        return found

    def learn(self, event: Rewarded) -> None:
        """Compare a rollout's reward with its score."""
        mark = self.marks.pop(event.rid, None) if event.final else None
        if mark is None:
            return
        outcome = self.plan.success(event.value)
        self.calibrator.observe(Seen(mark.score, mark.prior, mark.chance, outcome))
        note = self.notes[mark.group]
        note.chances.append(mark.chance)
        note.outcomes.append(outcome)

    def close(self, uid: int) -> None:
        """Learn from a group that has settled, and forget it."""
        note = self.notes.pop(uid, None)
        if note is None:
            return
        for rid in note.rids:
            self.marks.pop(rid, None)
        self.calibrator.observe_group(note.chances, note.outcomes, note.whole)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "marks": [[rid, *mark] for rid, mark in self.marks.items()],
            "notes": [[uid, asdict(note)] for uid, note in self.notes.items()],
            "calibrator": self.calibrator.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was saved."""
        self.marks = {rid: Mark(*mark) for rid, *mark in state["marks"]}
        self.notes = {uid: Note(**note) for uid, note in state["notes"]}
        self.calibrator.load_state_dict(state["calibrator"])


def choose(chances: Sequence[float], given: Sequence[float], keep: int, target: float) -> list[int]:
    """Return the indices of the highest and lowest chances, `keep` in all, with the best sum.

    That is the one nearest to the target share of successes, of which `given` are the chances of
    what is kept anyway. Ties go to the likeliest to be mixed.
    """
    order = sorted(range(len(chances)), key=lambda at: (-chances[at], at))
    found: list[tuple[float, float, list[int]]] = []
    for high in range(keep + 1):
        chosen = sorted(order[:high] + order[len(order) - (keep - high) :])
        wins = losses = 1.0
        total = -target * (keep + len(given))
        for chance in (*given, *(chances[at] for at in chosen)):
            total += chance
            wins *= chance
            losses *= 1.0 - chance
        found.append((round(abs(total), 9), wins + losses, chosen))
    return min(found)[2]
