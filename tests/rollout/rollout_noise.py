"""Policies that want nonsense at random: what they do must never break the records of a run."""

# ruff: noqa: ARG002 - a method has all arguments of its slot

from sojourn.rollout.actions import Abort, Close, Extend, Fork, Migrate, Resume
from sojourn.rollout.events import Finished, Tick
from sojourn.rollout.memory import Passive
from sojourn.rollout.slots import Pick, Round, Stretch
from sojourn.rollout.stored import result_from, result_state

KINDS = ("keep", "discard", "resume", "fork", "extend", "migrate", "close", "none", "none", "none")


class Remembers:
    """Has a stream and nothing else."""

    needs = frozenset()

    def __init__(self, setting):
        self.stream, self.plan = setting.stream, setting.plan

    def metrics(self):
        return {"drawn": float(self.stream.count)}

    def state_dict(self):
        return {"stream": self.stream.state_dict()}

    def load_state_dict(self, state):
        self.stream.load_state_dict(state["stream"])


class NoiseControl(Remembers, Passive):
    """Proposes anything about anybody, and resumes what is parked now and then."""

    def __init__(self, setting, share=0.3):
        super().__init__(setting)
        self.share = share

    def stretch(self, rollout, view):
        if self.stream.uniform() < 0.5:
            return Stretch()
        return Stretch(self.stream.below(8), (1, rollout.sampled + 3))

    def on_event(self, event, view):
        proposals = []
        while self.stream.uniform() < self.share:
            proposals.append(self.proposal(view))
        if isinstance(event, Finished) and self.stream.uniform() < self.share:
            proposals.append(Extend(event.rid, tokens=self.stream.below(5), turns=1))
        if isinstance(event, Finished) and self.stream.uniform() < self.share:
            proposals.append(Resume(event.rid))
        if isinstance(event, Tick) and self.stream.uniform() < 0.5:
            proposals += [Resume(one.rid) for one in view.in_status("parked")]
        return [one for one in proposals if one is not None]

    def proposal(self, view):
        draw = self.stream.below
        rid = draw(max(view.next_rid, 1) + 1)
        kind = KINDS[draw(len(KINDS))]
        if kind in ("keep", "discard"):
            return Abort(rid, kind == "keep", "noise", 0.5)
        if kind == "resume":
            return Resume(rid)
        if kind == "fork":
            return Fork(rid, draw(6), draw(3) - 1)
        if kind == "extend":
            return Extend(rid, draw(4), draw(2))
        if kind == "migrate":
            return Migrate(rid, draw(4))
        if kind == "close" and draw(8) == 0:
            return Close(draw(view.next_uid + 1), "noise")
        return None


class NoiseDispatch(Remembers):
    """Puts rollouts anywhere, in any order, or lets them wait."""

    def key(self, rollout, view):
        return (self.stream.uniform(), rollout.sampled)

    def changed(self, event, view):
        pending = [one.rid for one in view.in_status("pending")]
        return self.stream.sample([*pending, 10**6], 3)

    def admit(self, view):
        return 1 + self.stream.below(12)

    def place(self, rollout, engines, view):
        if self.stream.uniform() < 0.1:
            return None
        return engines[self.stream.below(len(engines))].id

    def priority(self, rollout, view):
        return self.stream.below(3)

    def on_event(self, event, view):
        return ()


class NoiseAllocate(Remembers):
    """Gives random rounds, sometimes far more than there is, and hints."""

    def __init__(self, setting, together):
        super().__init__(setting)
        self.together = together

    def open(self, picks, budget, view):
        return [self.round(self.stream.below(9)) for _ in picks]

    def round(self, rollouts):
        hint = self.stream.below(2)
        return Round(rollouts, hint, (9,) * hint)

    def more(self, groups, budget, view):
        assert budget > 0
        return [self.round(max(self.stream.below(9) - 5, 0)) for _ in groups]

    def observe(self, result, view):
        assert not result.group.waiting


class NoiseSelect(Remembers):
    """Draws prompts with replacement and filters some groups."""

    def propose(self, count, view):
        some = min(count, 1 + self.stream.below(4))
        return [Pick(self.stream.below(len(view.prompts)), 0.1, "noise") for _ in range(some)]

    def keep(self, result, view):
        return self.stream.uniform() < 0.8

    def observe(self, result, view):
        assert result.values


class NoiseReplay(Remembers):
    """Keeps the latest groups and gives some of them again, sometimes fewer than it said."""

    def __init__(self, setting):
        super().__init__(setting)
        self.kept = []

    def fresh(self, view):
        return view.plan.batch_groups // 2 if self.kept else view.plan.batch_groups

    def put(self, result, view):
        self.kept = [*self.kept, result_from(result_state(result))][-4:]

    def sample(self, count, view):
        return self.kept[: min(count, self.stream.below(4))]

    def evict(self, version):
        return 0

    def revise(self, reward):
        assert reward.revision == 1

    def state_dict(self):
        return {**super().state_dict(), "kept": [result_state(one) for one in self.kept]}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.kept = [result_from(one) for one in state["kept"]]
