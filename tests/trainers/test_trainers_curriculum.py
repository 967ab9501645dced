"""The interface of trainers: proposals, results, batches, losses, and going on after a save."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as hs
from trainer_cases import attempt, curriculum, results, step

from sojourn.errors import UserError
from sojourn.rollout.events import ERROR, LENGTH
from sojourn.rollout.needs import RolloutNeed
from sojourn.rollout.slots import Round
from sojourn.trainers.curriculum import DISCARDED, Attempt, Chosen, check_offered
from sojourn.trainers.names import parse


def test_a_step_goes_round():
    run = curriculum()
    assigned, batch = step(run)
    assert [one.rollouts for one in assigned] == [3] * 4
    assert len({one.prompt_id for one in assigned}) == 4
    assert [one.result.group.uid for one in batch.groups] == [one.group for one in assigned]
    assert [one.result.values for one in batch.groups] == [[0.0, 1.0, 0.0]] * 4
    for one in batch.groups:
        assert sum(one.advantages) == pytest.approx(0.0, abs=1e-9)
        assert one.advantages[1] > 0 > one.advantages[0]
    tokens = run.run.tokens
    assert (tokens.generated, tokens.trained, tokens.in_flight) == (60, 60, 0)
    assert run.run.beliefs.read(assigned[0].prompt_id, 1).trials == 3


def test_every_decision_has_a_record():
    run = curriculum()
    (one,) = run.propose(1)
    assert [decision.kind for decision in one.decisions] == ["select", "allocate"]
    assert one.propensity == one.decisions[0].propensity == pytest.approx(1 / 40)
    assert all(decision.inputs_digest for decision in one.decisions)


def test_names_say_group_and_sample_and_differ():
    run = curriculum()
    assigned = run.propose(4)
    names = [name for one in assigned for name in one.names]
    assert len(set(names)) == 12
    assert names[:3] == ["demo.g0.s0.t0", "demo.g0.s1.t0", "demo.g0.s2.t0"]
    assert parse(names[-1]) == ("demo", 3, 2, 0)
    assert not any("_" in name for name in names)


@pytest.mark.parametrize("name", ["", "demo.g1.s2", "demo.g1.s2.t3.", "de_mo.g1.s2.t3", "g1.s2.t3"])
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match=r"RUN\.g7\.s0\.t0"):
        parse(name)


def test_a_run_whose_name_would_break_names_is_refused():
    with pytest.raises(UserError, match="letters, digits and hyphens"):
        curriculum(run="my_run")


def test_open_prompts_are_not_proposed_again_and_staleness_limits_them():
    run = curriculum(plan={"staleness_versions": 1})
    first, second = run.propose(4), run.propose(4)
    assert not {one.prompt_id for one in first} & {one.prompt_id for one in second}
    assert run.propose(4) == []  # two batches are out, and one version may pass
    run.observe(results(first, lambda _, sample: 1.0 * sample))
    assert run.batch() is not None
    assert run.propose(4) == []
    run.advance(1)
    assert len(run.propose(9)) == 4


def test_a_failed_rollout_leaves_a_ragged_group():
    run = curriculum()
    assigned = run.propose(1)
    rids = assigned[0].rids
    run.observe([attempt(rids[0], 1.0), attempt(rids[1], 0.0), Attempt(rids[2], end=ERROR)])
    (group,) = run.batch().groups
    assert group.subset.indices == (0, 1)
    assert group.advantages == pytest.approx((0.7071, -0.7071), abs=1e-3)
    belief = run.run.beliefs.read(assigned[0].prompt_id, 0)
    assert (belief.trials, belief.alpha) == (2, 2.0)


def test_a_truncated_rollout_counts_and_says_so():
    run = curriculum()
    (one,) = run.propose(1)
    run.observe([attempt(rid, 0.5 * at, end=LENGTH) for at, rid in enumerate(one.rids)])
    (group,) = run.batch().groups
    assert [rollout.status for rollout in group.result.rollouts] == ["truncated"] * 3
    assert len(group.advantages) == 3


def test_discarded_tokens_are_accounted():
    run = curriculum()
    (one,) = run.propose(1)
    told = [attempt(rid, float(at)) for at, rid in enumerate(one.rids[:2])]
    run.observe([*told, attempt(one.rids[2], None, tokens=70, end=DISCARDED)])
    (group,) = run.batch().groups
    assert [rollout.status for rollout in group.result.rollouts] == ["finished"] * 2 + ["pruned"]
    tokens = run.run.tokens
    assert (tokens.generated, tokens.trained, tokens.discarded) == (80, 10, 70)


def test_a_reward_may_come_later_and_be_revised():
    run = curriculum()
    (one,) = run.propose(1)
    run.observe([attempt(rid, None) for rid in one.rids])
    assert run.batch() is None
    run.reward(one.rids[0], 0.0)
    run.reward(one.rids[1], 0.0)
    run.observe([attempt(one.rids[1], 0.5)])  # told again: the tokens count once
    run.reward(one.rids[2], 1.0)
    (group,) = run.batch().groups
    assert group.result.values == [0.0, 0.5, 1.0]
    assert run.run.tokens.generated == 15


def test_lost_groups_make_room_and_keep_what_had_ended():
    run = curriculum()
    assigned = run.propose(4)
    run.observe([attempt(rid, float(at)) for at, rid in enumerate(assigned[0].rids[:2])])
    run.lose(one.group for one in assigned)
    assert not run.run.open_groups
    assert len(run.propose(4)) == 3  # one group of this version's four was accepted
    run.lose([*run.run.open_groups])
    (group,) = run.batch().groups
    assert group.result.group.uid == assigned[0].group
    assert group.subset.indices == (0, 1)
    run.observe([attempt(assigned[1].rids[0], 1.0)])
    assert run.late == 1


def test_an_open_group_that_would_become_too_stale_holds_the_batch():
    run = curriculum()
    assigned = run.propose(2)
    run.observe(results(assigned[:1], lambda _, sample: float(sample)))
    assert run.batch() is None
    run.lose([assigned[1].group])
    assert [one.result.group.uid for one in run.batch().groups] == [assigned[0].group]


def test_a_pending_batch_never_goes_out_with_a_proposal():
    run = curriculum()
    assigned = run.propose(1)
    assert run.batch() is None
    run.observe(results(assigned, lambda _, sample: float(sample)))
    run.propose(1)
    assert run.run.usable == 1


def test_a_batch_can_wait_for_a_number_of_groups():
    run = curriculum(plan={"staleness_versions": 4})
    assigned = run.propose(3)
    run.observe(results(assigned[:2], lambda _, sample: float(sample)))
    assert run.batch(3) is None
    run.observe(results(assigned[2:], lambda _, sample: float(sample)))
    assert len(run.batch(3).groups) == 3


class MoreForTheUndecided:
    """Two rollouts first; two more where both failed."""

    together = False
    needs = frozenset()

    def open(self, picks, *_):
        return [Round(2)] * len(picks)

    def more(self, groups, _, view):
        undecided = [not any(view.reward(rid) for rid in one.rids) for one in groups]
        return [Round(2 if one else 0) for one in undecided]

    def observe(self, result, view):
        pass

    def metrics(self):
        return {}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_further_rounds_come_back_from_observe_within_the_budget():
    run = curriculum(rounds=True)
    run.machine.run.policies = run.run.policies._replace(allocate=MoreForTheUndecided())
    assigned = run.propose(4)
    assert [one.rollouts for one in assigned] == [2] * 4  # of a budget of 12
    more = run.observe(results(assigned, lambda at, _: float(at == 0)))
    assert [one.group for one in more] == [one.group for one in assigned[1:3]]
    assert more[0].names == ("demo.g1.s2.t0", "demo.g1.s3.t0")
    assert run.run.submitted == 12
    assert run.run.usable == 2  # the first, and the one that the budget left alone
    assert run.observe(results(more, lambda *_: 1.0)) == []
    sizes = [len(one.result.rollouts) for one in run.batch().groups]
    assert sizes == [2, 4, 4, 2]


def test_without_rounds_a_group_is_over_when_its_first_round_is():
    run = curriculum()
    run.machine.run.policies = run.run.policies._replace(allocate=MoreForTheUndecided())
    assigned = run.propose(4)
    assert run.observe(results(assigned, lambda *_: 0.0)) == []
    assert len(run.batch().groups) == 4


@pytest.mark.parametrize("halfway", [False, True])
def test_what_is_restored_goes_on_as_before(halfway):
    one = curriculum(plan={"staleness_versions": 2})
    for version in range(3):
        step(one, version=version)
    out = one.propose(4)
    if halfway:
        one.observe(results(out, lambda _, sample: float(sample))[:5])
    two = curriculum(plan={"staleness_versions": 2})
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    left = [
        attempt(rid, 1.0, version=3)
        for group in one.run.open_groups.values()
        for rid in group.rids
        if one.run.rollouts[rid].status == "running"
    ]
    assert left
    for run in (one, two):
        run.observe(left)
        run.batch()
        run.advance(4)
    assert one.propose(4) == two.propose(4)
    assert one.metrics() == two.metrics()
    assert json.dumps(one.state_dict()) == json.dumps(two.state_dict())


def test_policies_that_must_stop_rollouts_are_refused():
    run = curriculum()
    policies = run.run.policies

    class Stopper(MoreForTheUndecided):
        needs = frozenset({RolloutNeed.ABORT_KEEP})

    with pytest.raises(UserError, match="the allocate policy Stopper needs to abort a request"):
        check_offered(run_chosen(policies)._replace(allocate=Stopper()))


def run_chosen(policies):
    """Return the policies that a trainer lets decide."""
    return Chosen(policies.select, policies.allocate, policies.subsample, policies.advantage)


@given(
    sizes=hs.lists(hs.integers(1, 6), min_size=1, max_size=6),
    fates=hs.lists(hs.sampled_from(["good", "bad", "error", "discard", "late"]), min_size=1),
    loses=hs.booleans(),
)
def test_nothing_is_lost_whatever_becomes_of_rollouts(sizes, fates, loses):
    run = curriculum(plan={"staleness_versions": 8, "groups_max": 64}, count=80)
    told, at = 0, 0
    for version, size in enumerate(sizes):
        assigned = run.propose(size)
        assert len(assigned) == size
        for one in assigned:
            for rid in one.rids:
                fate, at = fates[at % len(fates)], at + 1
                if fate == "late":
                    continue
                told += 5
                reward = {"good": 1.0, "bad": 0.0}.get(fate)
                end = {"error": ERROR, "discard": DISCARDED}.get(fate, "stop")
                run.observe([attempt(rid, reward, version=version, end=end)])
        if loses:
            run.lose([*run.run.open_groups])
            assert not run.run.open_groups
        batch = run.batch()
        run.advance(version + 1)
        tokens = run.run.tokens
        tokens.check()
        assert tokens.generated == told
        assert run.run.submitted <= 3 * sum(sizes[: version + 1])
        if batch is not None:
            for group in batch.groups:
                assert len(group.advantages) == len(group.subset.indices)
