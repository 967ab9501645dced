"""A machine with one scripted control, told its events one by one."""

# ruff: noqa: ARG002 - a method has all arguments of its slot

from rollout_checks import check

from sojourn.recipes.rollouts import rollout_recipe
from sojourn.rollout import events as ev
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.memory import Memoryless, Passive
from sojourn.rollout.model import Piece, Prompt
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Stretch


class Script(Memoryless, Passive):
    """Proposes what a test puts into it, at the next event."""

    needs = frozenset()

    def __init__(self):
        self.next, self.tokens, self.report_at, self.eager = [], 10**6, (), False

    def appetite(self, view):
        if self.eager:
            return 10**6
        return view.need - view.usable - len(view.open_groups) if view.wanted else 0

    def stretch(self, rollout, view):
        return Stretch(self.tokens, self.report_at)

    def on_event(self, event, view):
        said, self.next = self.next, []
        return said


class Bench:
    """One group of some rollouts on one engine, all sent."""

    def __init__(self, rollouts=1, engines=1, **plan):
        plan = {"batch_groups": 1, "staleness_versions": 3, **plan}
        self.plan = Plan(rollouts_per_group=rollouts, **plan)
        prompts = tuple(Prompt(at, tokens=10) for at in range(4))
        self.script = Script()
        policies = (
            rollout_recipe({}, "a test")
            .build(self.plan, prompts, 0)
            ._replace(controls=(self.script,))
        )
        self.machine = RolloutMachine(self.plan, prompts, policies)
        self.run = self.machine.run
        self.now = 0
        for engine in range(engines):
            self.tell(ev.EngineUp, engine)
        self.first = self.tell(ev.BatchWanted)

    def tell(self, kind, *values, want=()):
        self.now += 1
        self.script.next += want
        done = self.machine.handle(kind(self.now, *values))
        check(self.run)
        return done

    def want(self, *proposals):
        return self.tell(ev.Tick, want=proposals)

    def output(self, kind, tokens, *more, rid=0, version=0, attempt=None, want=()):
        rollout = self.run.rollout(rid)
        start = rollout.length if rollout else 0
        attempt = attempt or (rollout.attempt if rollout else 1)
        pieces = (Piece(tokens, version),) if tokens else ()
        return self.tell(kind, rid, attempt, start, pieces, *more, want=want)

    def status(self, rid=0):
        return self.run.rollouts[rid].status


def kinds(actions):
    return [type(one).__name__ for one in actions]
