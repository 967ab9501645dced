"""A simulated run whose every batch is looked at, and the ways in which it must come out alike."""

import json
import random
from pathlib import Path

from sojourn.errors import UserError
from sojourn.rollout import actions
from sojourn.rollout.machine import RolloutMachine
from sojourn.sim.rollout.loop import RolloutSimulation
from sojourn.sim.rollout.scenario import scenario_of
from tests.rollout.random_scenarios import scenario
from tests.rollout.rollout_checks import check
from tests.rollout.rollout_host import assert_alike
from tests.rollout.sim_worlds import comparable

EVENTS_MAX = 400_000
"""A run of these sizes that hears of more is going in a circle."""
CHECKED = 300
"""Events after each of which everything is counted anew; later every hundredth."""
RESTARTS_MAX = 20
REFUSED = "refused"
ENDED = "ended by a sentence"
WHOLE = "ran to its end"


class Watched(RolloutSimulation):
    """A run that is checked as it goes, or whose machine is saved and restored at random."""

    def __init__(self, found, restarts=None, **more):
        self.recipe, self.restarts = found.candidates[0], restarts
        self.events = self.restarted = 0
        self.groups, self.rollouts = set(), set()
        super().__init__(found.world, self.recipe, found.seeds[0], **more)

    def handle(self, event):
        self.events += 1
        assert self.events < EVENTS_MAX, "it goes in a circle"
        wanted = self.machine.handle(event)
        if self.restarts is None:
            if self.events < CHECKED or self.events % 100 == 0:
                check(self.machine.run)
            for one in wanted:
                if isinstance(one, actions.Train):
                    self.look(one)
        elif self.restarted < RESTARTS_MAX and self.restarts.random() < 0.02:
            self.restart()
        for one in wanted:
            self._carry_out[type(one)](one)

    def restart(self):
        """Go on with another machine, to which this one's state was given as JSON."""
        self.restarted += 1
        policies = self.recipe.build(self.plan, self.truth.prompts, self.seed)
        other = RolloutMachine(self.plan, self.truth.prompts, policies, self.world.beliefs)
        state = json.loads(json.dumps(self.machine.state_dict()))
        other.load_state_dict(state)
        assert json.loads(json.dumps(other.state_dict())) == state
        assert_alike(self.machine.run, other.run)
        self.machine = other

    def look(self, batch):
        """Check a training batch: its size, its age, and that nothing is in it twice."""
        assert len(batch.groups) == self.plan.batch_groups
        for one in batch.groups:
            assert all(0.0 < share <= 1.0 + 1e-9 for share in one.subset.inclusion)
            assert len(one.advantages) == len(one.subset.indices)
            assert all(value is None or value == value for value in one.advantages), "NaN"
            if one.replayed:
                continue
            group, chosen = one.result.group, [one.result.rollouts[i] for i in one.subset.indices]
            assert group.uid not in self.groups, "a group is trained twice"
            self.groups.add(group.uid)
            assert batch.version - group.opened_at_version <= self.plan.staleness_versions
            for rollout in chosen:
                assert rollout.rid not in self.rollouts, "a rollout is trained twice"
                self.rollouts.add(rollout.rid)
                for version, _ in rollout.spans():
                    assert 0 <= batch.version - version <= self.plan.staleness_versions


def outcome(simulation):
    """Return the record of a run as values, or the sentence that ended it."""
    try:
        return comparable(simulation.run())
    except UserError as error:
        return str(error)


def check_seed(seed):
    """Run the scenario of a seed, with restarts, and step by step; return how it ended."""
    try:
        found = scenario_of(scenario(seed), f"seed {seed}", Path())
    except UserError:
        return REFUSED
    record = outcome(Watched(found))
    assert outcome(Watched(found, restarts=random.Random(seed))) == record, "restarts show"
    if seed % 3 == 0:
        stepped = outcome(Watched(found, restarts=random.Random(0), max_horizon=1))
        assert stepped == record, "jumps are not steps"
    if isinstance(record, str):
        return ENDED
    tokens = record["tokens"]
    held = ("trained", "carried", "discarded", "in_flight")
    assert tokens["generated"] == sum(tokens[name] for name in held)
    assert tokens["trained"] == sum(row["tokens"] for row in record["steps"])
    return WHOLE
