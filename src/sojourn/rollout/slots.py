"""The slots of a rollout run: what may be decided, by whom, and when each is asked.

Policies are made with their configuration and a `Setting`. They are state machines without clock
or input of their own: they see a `View`, say what they want, and the machine, which may refuse,
carries it out. Each has its own random stream, and all that it remembers is in `state_dict`, as
JSON values, its stream included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from sojourn.rollout.actions import Proposal
from sojourn.rollout.events import Heard
from sojourn.rollout.model import GroupResult, Prompt, Reward, Subset
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.plan import Plan
from sojourn.rollout.streams import Stream
from sojourn.rollout.views import EngineView, GroupView, RolloutView, View

State: TypeAlias = dict[str, Any]
"""JSON values by name."""
Metrics: TypeAlias = dict[str, float]

UNLIMITED: int = 1 << 40
"""What a policy answers that has no limit of its own."""


class Setting(NamedTuple):
    """What a policy is made with beside its configuration."""

    plan: Plan
    prompts: Sequence[Prompt]
    stream: Stream


class Pick(NamedTuple):
    """A prompt that is to be rolled out, with the probability of choosing it and why."""

    prompt_id: int
    propensity: float = 1.0
    reason: str = ""


class Round(NamedTuple):
    """Rollouts that a group gets at once, perhaps behind a hint.

    Attributes:
        rollouts: How many.
        hint_tokens, hint_ids: What each begins with that it did not sample (exemplars, a part of
            a solution); stored as a segment of its own.
        propensity, reason: For the record.
    """

    rollouts: int
    hint_tokens: int = 0
    hint_ids: tuple[int, ...] = ()
    propensity: float = 1.0
    reason: str = ""


class Stretch(NamedTuple):
    """How far a rollout may go in one submission.

    Attributes:
        tokens: Sampled tokens at most; what is not over by then is parked.
        report_at: Totals of its sampled tokens at which a `Progress` is wanted.
    """

    tokens: int = UNLIMITED
    report_at: tuple[int, ...] = ()


class Policy(Protocol):
    """What the policies of all rollout slots have in common."""

    needs: ClassVar[frozenset[RolloutNeed]]

    def metrics(self) -> Metrics:
        """Return numbers about itself, by name."""

    def state_dict(self) -> State:
        """Return all that it remembers, as JSON values."""

    def load_state_dict(self, state: State) -> None:
        """Take over what another of its kind remembered."""


class Select(Policy, Protocol):
    """Chooses prompts, and says which groups were worth it."""

    def propose(self, count: int, view: View) -> Sequence[Pick]:
        """Return up to `count` different prompts, none of which is open; fewer if it must."""

    def keep(self, result: GroupResult, view: View) -> bool:
        """Return whether a settled group is trained; what is not is filtered and replaced."""

    def observe(self, result: GroupResult, view: View) -> None:
        """Take note of a settled group; the beliefs already hold it."""


class Allocate(Policy, Protocol):
    """Decides how many rollouts a group gets, at once or in rounds.

    Attributes:
        together: Whether `more` waits until all groups opened together have their rewards, and is
            asked about all of them; else each group is asked about on its own.
    """

    together: ClassVar[bool]

    def open(self, picks: Sequence[Pick], budget: int, view: View) -> Sequence[Round]:
        """Return the first round of each of several groups.

        `budget` is what all of them may have together, at least one each; what exceeds it is cut.
        """

    def more(self, groups: Sequence[GroupView], budget: int, view: View) -> Sequence[Round]:
        """Return another round for each group; where all are 0 they settle."""

    def observe(self, result: GroupResult, view: View) -> None:
        """Take note of a settled group."""


class Control(Policy, Protocol):
    """Decides when rollouts run: what is opened, stopped, kept, resumed, extended, forked.

    Several may be stacked: the least appetite holds, all must be ready, the shortest stretch and
    the strongest proposal about a rollout hold.
    """

    def appetite(self, view: View) -> int:
        """Return how many groups it would open now at most."""

    def ready(self, view: View) -> bool:
        """Return whether the batch may go to the trainer; asked when there are enough groups."""

    def stretch(self, rollout: RolloutView, view: View) -> Stretch:
        """Return how far a rollout may go in the submission that is about to be made."""

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Return what it wants done after an event, which the view already shows."""


class Dispatch(Policy, Protocol):
    """Decides which engine a rollout goes to, and in what order those that wait go."""

    def key(self, rollout: RolloutView, view: View) -> tuple[float, ...]:
        """Return a rollout's place among those that wait, lowest first; ties by order of coming.

        It is asked once when the rollout begins to wait, and again when `changed` names it.
        """

    def changed(self, event: Heard, view: View) -> Iterable[int]:
        """Return the waiting rollouts whose key is another one after an event."""

    def admit(self, view: View) -> int:
        """Return how many rollouts may be on engines now, in all."""

    def place(self, rollout: RolloutView, engines: Sequence[EngineView], view: View) -> int | None:
        """Return the engine that the first of those that wait goes to, of at least one given.

        None lets it wait, and all behind it, until the next event.
        """

    def priority(self, rollout: RolloutView, view: View) -> int:
        """Return its priority in the engine, lower first."""

    def on_event(self, event: Heard, view: View) -> Sequence[Proposal]:
        """Return what it wants done after an event, as a control may."""


class Replay(Policy, Protocol):
    """Keeps groups that were trained, to train on them again."""

    def fresh(self, view: View) -> int:
        """Return how many newly generated groups the coming batch takes, at least 1."""

    def put(self, result: GroupResult, view: View) -> None:
        """Take in a group that a batch has just trained on for the first time."""

    def sample(self, count: int, view: View) -> Sequence[GroupResult]:
        """Return up to `count` groups to train on again."""

    def evict(self, version: int) -> int:
        """Forget what is too old at a version; return how many groups that is."""

    def revise(self, reward: Reward) -> None:
        """Take note of a reward that changed after its group was trained."""


class Subsample(Policy, Protocol):
    """Chooses which rollouts of a group are trained."""

    def select(self, result: GroupResult, view: View) -> Subset:
        """Return a choice among the scored rollouts."""


class Advantage(Policy, Protocol):
    """Turns rewards into advantages; groups of different sizes are the normal case."""

    def compute(
        self, groups: Sequence[tuple[GroupResult, Subset]], view: View
    ) -> Sequence[Sequence[float | None]]:
        """Return for each group the advantage of each rollout of the subset, for all its tokens.

        None marks one that is not trained, such as a pivot.
        """


class Policies(NamedTuple):
    """One policy for each slot, several for control."""

    select: Select
    allocate: Allocate
    controls: tuple[Control, ...]
    dispatch: Dispatch
    replay: Replay
    subsample: Subsample
    advantage: Advantage
