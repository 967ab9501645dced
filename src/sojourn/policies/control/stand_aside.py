"""A rollout that has come far stands aside until all others of the step have begun.

Source: ours, after the divided rollout of Seer, 2025, arXiv 2511.14617. What ends last is what is
    long and began late. Who has used half of the tokens it may use can need only as many more, and
    lends its seat to those of whom nothing is known; then it goes on.
Reads: limits and lengths of rollouts, and whether any that has not begun waits; where a group is
    overdue, whether any of another such group does. Length beliefs: where siblings share most of
    their length, the order of waiting knows who is long, and nobody need stand aside.
Memory: who stood aside, by group; nobody does it twice.
Needs: abort and keep, resume from token ids, reports at a token count.
Deviations: none; it has no paper. The size of Seer's chunks is not known: `divided` has many, each
    of which costs a prefill, and here is one, taken only if somebody waits.
Fails when: groups are opened all the time: somebody always waits, and only staleness brings the
    long ones back. There are seats for all. Hardly any reach half of the limit: nothing was to be
    feared of the others, and those that waited end last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sojourn.errors import UserError
from sojourn.policies.dispatch.sibling_lengths import common_share
from sojourn.rollout import states as st
from sojourn.rollout.actions import Abort, Proposal, Resume
from sojourn.rollout.events import Heard, Progress, Settled
from sojourn.rollout.memory import Passive
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Metrics, Setting, State, Stretch
from sojourn.rollout.views import RolloutView, View


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of standing aside.

    Attributes:
        limit_share: Share of its token limit after which a rollout stands aside.
        common_share_max: How much of the variance of log lengths siblings may share at most; beyond
            it nobody stands aside.
    """

    limit_share: float = 0.5
    common_share_max: float = 0.6

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0.0 < self.limit_share < 1.0:
            share = self.limit_share
            raise UserError(f"control.limit_share is {share:g}; it must be above 0, below 1")
        if not 0.0 <= self.common_share_max <= 1.0:
            share = self.common_share_max
            raise UserError(f"control.common_share_max is {share:g}; it must be in [0, 1]")


class StandAside(Passive):
    """Parks who has come far while others have not begun, and resumes them after."""

    needs: ClassVar[frozenset[RolloutNeed]] = frozenset(
        {RolloutNeed.ABORT_KEEP, RolloutNeed.RESUME, RolloutNeed.REPORT}
    )

    def __init__(self, config: Config, setting: Setting) -> None:
        self.config = config
        self.aside: dict[int, dict[int, bool]] = {}  # by group and rollout: whether it is back
        self.stood = 0

    def stretch(self, rollout: RolloutView, view: View) -> Stretch:
        """Ask for a report at the length after which it stands aside."""
        return Stretch(report_at=(self._mark(rollout),))

    def _mark(self, rollout: RolloutView) -> int:
        return max(int(self.config.limit_share * rollout.token_limit), 1)

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Let one stand aside, or bring back those for whom nobody has to begin any more."""
        if isinstance(event, Settled):
            self.aside.pop(event.group, None)
        elif isinstance(event, Progress):
            rollout = view.rollout(event.rid)
            if rollout is not None and self._may_stand(rollout, view):
                self.aside.setdefault(rollout.group, {})[rollout.rid] = False
                self.stood += 1
                return [Abort(rollout.rid, True, "stands aside")]
        return self._return(view)

    def _may_stand(self, rollout: RolloutView, view: View) -> bool:
        return (
            rollout.status == st.RUNNING
            and rollout.sampled >= self._mark(rollout)
            and rollout.rid not in self.aside.get(rollout.group, {})
            and common_share(view.beliefs.length(rollout.prompt_id)) <= self.config.common_share_max
            and self._others_begin(view.overdue(rollout.group), view)
        )

    def _others_begin(self, overdue: bool, view: View) -> bool:
        """Return whether any waits to begin before whom one may have to stand aside."""
        waiting = (one for one in view.in_status(st.PENDING) if not one.sampled)
        return any(not overdue or view.overdue(one.group) for one in waiting)

    def _return(self, view: View) -> Sequence[Proposal]:
        back: list[Proposal] = []
        for uid, stood in self.aside.items():
            if all(stood.values()) or self._others_begin(view.overdue(uid), view):
                continue
            for rid, returned in stood.items():
                rollout = view.rollout(rid)
                if not returned and rollout is not None and rollout.status == st.PARKED:
                    stood[rid] = True
                    if rollout.sampled < rollout.token_limit:
                        back.append(Resume(rid))
        return back

    def metrics(self) -> Metrics:
        """Return how often one stood aside."""
        return {"stood_aside": float(self.stood)}

    def state_dict(self) -> State:
        """Return who stood aside, and the count."""
        aside = [[uid, [*stood.items()]] for uid, stood in self.aside.items()]
        return {"aside": aside, "stood": self.stood}

    def load_state_dict(self, state: State) -> None:
        """Take them over."""
        self.aside = {uid: dict(stood) for uid, stood in state["aside"]}
        self.stood = state["stood"]
