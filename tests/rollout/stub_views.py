"""Stand-ins for what rollout policies see, made from the real records."""

from types import SimpleNamespace

from sojourn.rollout.beliefs import BeliefRules, BeliefStore
from sojourn.rollout.model import Group, GroupResult, Prompt, Rollout
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Setting
from sojourn.rollout.streams import Stream

PROMPTS = tuple(Prompt(at, tokens=10) for at in range(100))


def setting(seed=0, **plan):
    return Setting(Plan(**plan), PROMPTS, Stream(seed, "test"))


class StubView:
    """One plan, some groups of rollouts whose states a test sets, and real beliefs."""

    def __init__(self, **plan):
        self.plan = Plan(**plan)
        self.prompts = PROMPTS
        self.beliefs = BeliefStore(BeliefRules())
        self.time = self.version = 0
        self.step = 1
        self.wanted = True
        self.need = self.plan.batch_groups
        self.usable = 0
        self.rollouts, self.open_groups, self.rewards = {}, {}, {}
        self.old = set()

    def add(self, uid, count, status="running", length=0):
        group = Group(uid, uid, 0, 1, 0, n_target=count, status="open", waiting=count)
        for _ in range(count):
            rid = len(self.rollouts)
            made = Rollout(rid, uid, uid, rid, 16384, turn_limit=self.plan.turns_max, status=status)
            made.sampled = made.length = length
            self.rollouts[rid] = made
            group.rids.append(rid)
        self.open_groups[uid] = group
        return [self.rollouts[rid] for rid in group.rids]

    @property
    def on_engines(self):
        return len(self.in_status("running"))

    def rollout(self, rid):
        return self.rollouts.get(rid)

    def members(self, uid):
        return [self.rollouts[rid] for rid in self.open_groups[uid].rids]

    def in_status(self, status):
        return [one for one in self.rollouts.values() if one.status == status]

    def reward(self, rid):
        return self.rewards.get(rid)

    def overdue(self, uid):
        return uid in self.old


def engine(number, in_flight=0, seats=0, kv_tokens=0, context_tokens=0, kv=0.0):
    return SimpleNamespace(
        id=number,
        in_flight=in_flight,
        seats=seats,
        kv_tokens=kv_tokens,
        context_tokens=context_tokens,
        kv=kv,
    )


def result_of(rewards, uid=0, version=0, features=(), prompt=0):
    """Return a group; None stands for a pruned rollout."""
    rollouts = [
        Rollout(
            100 * uid + at,
            uid,
            prompt,
            at,
            100,
            status="pruned" if one is None else "finished",
            features=features[at] if features else (),
        )
        for at, one in enumerate(rewards)
    ]
    return GroupResult(Group(uid, prompt, version, 1, 0), rollouts, list(rewards))
