"""A view of no run, for policies that choose prompts and numbers of rollouts."""

import json
from dataclasses import dataclass, field

from sojourn.rollout.beliefs import BeliefRules, BeliefStore
from sojourn.rollout.model import Group, GroupResult, Prompt, Rollout
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Setting
from sojourn.rollout.states import FINISHED
from sojourn.rollout.streams import Stream

PLAN = Plan(batch_groups=8, rollouts_per_group=8)


def make_prompts(count=200):
    """Prompts of two domains whose embedding says how hard they are."""
    return tuple(
        Prompt(at, "ab"[at % 2], meta={"embedding": [3.0 * at / count, 1.0, -0.5]})
        for at in range(count)
    )


@dataclass
class StubView:
    plan: Plan = PLAN
    prompts: tuple = field(default_factory=make_prompts)
    beliefs: BeliefStore = field(default_factory=lambda: BeliefStore(BeliefRules()))
    version: int = 0
    step: int = 1
    open: set = field(default_factory=set)
    rewards: dict = field(default_factory=dict)

    def is_open(self, prompt_id):
        return prompt_id in self.open

    def reward(self, rid):
        return self.rewards.get(rid)

    def setting(self, seed=3):
        return Setting(self.plan, self.prompts, Stream(seed, "choice"))


@dataclass
class StubGroup:
    uid: int
    prompt_id: int
    rids: list
    rounds: int = 1

    @property
    def budget_spent(self):
        return len(self.rids)


def result_of(prompt_id, values, uid=0, version=0):
    rollouts = [Rollout(at, uid, prompt_id, 0, 99, status=FINISHED) for at in range(len(values))]
    return GroupResult(Group(uid, prompt_id, version, 1, 0), rollouts, list(values))


def tell(policy, view, prompt_id, values, uid=0):
    """Settle a group as the machine does: beliefs, then the policy; return what it keeps."""
    result = result_of(prompt_id, values, uid, view.version)
    view.beliefs.observe(prompt_id, sum(values), len(values), view.version)
    policy.observe(result, view)
    return policy.keep(result, view) if hasattr(policy, "keep") else True


def probed(view, outcomes):
    """Groups whose first rounds gave some rewards, one list for each."""
    groups, rid = [], len(view.rewards)
    for at, values in enumerate(outcomes):
        rids = list(range(rid, rid + len(values)))
        view.rewards.update(zip(rids, map(float, values), strict=True))
        rid += len(values)
        groups.append(StubGroup(at, at, rids))
    return groups


def through_json(state):
    return json.loads(json.dumps(state))
