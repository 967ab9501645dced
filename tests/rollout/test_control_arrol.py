"""Pruning by score: the rule by hand, the gate, and what is put on record."""

import json
from itertools import combinations
from math import sqrt
from random import Random
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as some
from stub_views import StubView, setting

from sojourn.errors import UserError
from sojourn.policies.control.arrol_inspired import ArrolInspired, Config
from sojourn.policies.control.checkpoints import choose
from sojourn.rollout.actions import Abort, Extend
from sojourn.rollout.calibration import Calibrator, Seen, fit_logistic, logit, sigmoid
from sojourn.rollout.corrections import KEPT_AT_RANDOM
from sojourn.rollout.events import Finished, Progress, Rewarded, Settled


def test_the_rule_on_three_groups():
    even = [0.9, 0.7, 0.3, 0.1]
    assert choose(even, [], 2, 0.5) == [0, 3], "one from each end"
    assert choose([0.2, 0.1, 0.1, 0.05], [], 2, 0.5) == [0, 1], "hard: the likeliest successes"
    assert choose([0.9, 0.95, 0.9, 0.8], [], 2, 0.5) == [2, 3], "easy: the likeliest failures"


def test_the_rule_counts_what_is_kept_anyway():
    assert choose([0.9, 0.5, 0.1], [1.0, 1.0], 1, 0.5) == [2]
    assert choose([0.9, 0.5, 0.1], [0.0, 0.0], 1, 0.5) == [0]


@given(
    some.lists(some.floats(0.01, 0.99), min_size=1, max_size=7),
    some.integers(1, 7),
    some.floats(0.1, 0.9),
)
def test_the_rule_is_the_best_of_its_kind(chances, keep, target):
    keep = min(keep, len(chances))
    chosen = choose(chances, [], keep, target)
    assert len(chosen) == len(set(chosen)) == keep
    gap = abs(sum(chances[at] for at in chosen) - target * keep)
    ordered = sorted(chances, reverse=True)
    for high in range(keep + 1):
        other = ordered[:high] + ordered[len(ordered) - (keep - high) :]
        assert gap <= abs(sum(other) - target * keep) + 1e-8
    assert any(list(one) == chosen for one in combinations(range(len(chances)), keep))


class Course:
    """Feeds groups of eight with scores of a stated AUC to the policy."""

    def __init__(self, auc, seed=0, **config):
        self.apart = sqrt(2) * NormalDist().inv_cdf(auc)
        self.dice = Random(seed)
        self.policy = ArrolInspired(Config(check_tokens=10, **config), setting(seed))
        self.view = StubView()
        self.next = 0

    def group(self):
        """Run one group; return what was proposed about it."""
        view, policy, uid = self.view, self.policy, self.next
        self.next += 1
        view.rollouts.clear()
        view.open_groups.clear()
        members = view.add(uid % 100, 8, length=10)
        for one in members:
            one.rid += 8 * uid
        view.rollouts = {one.rid: one for one in members}
        view.open_groups[uid % 100].rids = [one.rid for one in members]
        share = self.dice.random()
        truth = {one.rid: float(self.dice.random() < share) for one in members}
        said = []
        for one in members:
            score = self.apart * truth[one.rid] + self.dice.gauss(0, 1)
            said += policy.on_event(Progress(0, one.rid, 1, 0, (), (score,)), view)
        for one in said:
            if isinstance(one, Abort):
                view.rollouts[one.rid].status = "pruned"
        for one in members:
            if one.status == "running":
                one.status = "finished"
                said += policy.on_event(Finished(0, one.rid, 1, 10, ()), view)
                view.rewards[one.rid] = truth[one.rid]
                said += policy.on_event(Rewarded(0, one.rid, truth[one.rid]), view)
        policy.on_event(Settled(0, uid % 100, "settled"), view)
        return said

    def pruned(self, groups):
        return sum(isinstance(one, Abort) for _ in range(groups) for one in self.group())


def test_nothing_is_pruned_before_scores_are_known_to_be_right():
    course = Course(0.85)
    assert course.pruned(16) == 0
    assert course.pruned(200) > 200 * 4 * 0.6


def test_scores_without_signal_prune_next_to_nothing():
    pruned = sum(Course(0.5, seed).pruned(200) for seed in range(5))
    assert pruned < 0.02 * 5 * 200 * 4


def test_the_gate_closes_when_scores_go_bad():
    for seed in range(3):
        course = Course(0.85, seed)
        course.pruned(200)
        assert course.policy.is_open()
        course.apart = 0.0
        course.pruned(200)
        assert course.pruned(50) < 50 * 4 * 0.1


def test_propensities_of_both_fates_are_on_record():
    course = Course(0.85, random_share=0.25)
    said = [one for _ in range(400) for one in course.group()]
    gone = [one for one in said if isinstance(one, Abort)]
    spared = [one for one in said if isinstance(one, Extend)]
    assert {one.propensity for one in gone} == {0.75}
    assert {(one.propensity, one.reason) for one in spared} == {(0.25, KEPT_AT_RANDOM)}
    assert not any(one.keep for one in gone)
    assert len(spared) / (len(spared) + len(gone)) == pytest.approx(0.25, abs=0.08)


def test_a_group_waits_for_its_last_sibling():
    policy, view = ArrolInspired(Config(check_tokens=10), setting()), StubView()
    policy.is_open = lambda: True
    first, second, third = view.add(0, 3, length=10)
    third.sampled = 4
    policy.on_event(Progress(0, first.rid, 1, 0, (), (1.0,)), view)
    assert policy.on_event(Progress(0, second.rid, 1, 0, (), (0.0,)), view) == ()
    third.status = "finished"
    view.rewards[third.rid] = 1.0
    said = policy.on_event(Finished(0, third.rid, 1, 0, ()), view)
    assert all(isinstance(one, Extend | Abort) for one in said)
    assert len(said) == 1, "two are live at the checkpoint, and one of them is kept"


def test_restored_it_prunes_alike():
    course, other = Course(0.85), Course(0.85)
    course.pruned(120)
    other.policy.load_state_dict(json.loads(json.dumps(course.policy.state_dict())))
    other.dice.setstate(course.dice.getstate())
    other.next = course.next
    assert [course.group() for _ in range(40)] == [other.group() for _ in range(40)]
    assert course.policy.metrics() == other.policy.metrics()


def test_it_reports_at_the_checkpoint():
    policy, view = ArrolInspired(Config(check_tokens=10), setting()), StubView()
    assert policy.stretch(view.add(0, 1)[0], view).report_at == (10,)


@pytest.mark.parametrize("wrong", [{"check_tokens": 0}, {"keep_share": 0.0}, {"random_share": 2.0}])
def test_values_out_of_range(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Config(**wrong)


def test_the_fit_finds_the_truth():
    dice = Random(1)
    rows = [(dice.gauss(0, 1), dice.gauss(0, 1)) for _ in range(4000)]
    outcomes = [float(dice.random() < sigmoid(0.3 + 0.8 * one + other)) for one, other in rows]
    assert fit_logistic(rows, outcomes, (0, 0, 1)) == pytest.approx([0.3, 0.8, 1.0], abs=0.12)


def test_the_fit_of_separable_data_is_finite():
    rows = [(float(at), 0.0) for at in range(-20, 20)]
    found = fit_logistic(rows, [float(one > 0) for one, _ in rows], (0, 0, 1))
    assert 0.3 < found[1] < 20
    assert fit_logistic(rows, [1.0] * 40, (0, 0, 1))[0] > 0


def test_error_and_concordance_by_hand():
    known = Calibrator(window=8, group_window=4, bins=2)
    for predicted, outcome in ((0.2, 0), (0.2, 1), (0.8, 1), (0.8, 1)):
        known.observe(Seen(0.0, 0.0, predicted, float(outcome)))
    assert known.error() == pytest.approx((0.6 + 0.4) / 4)
    known.observe_group([0.9, 0.5, 0.5], [1.0, 1.0, 0.0], whole=True)
    assert known.concordance() == 0.75
    known.observe_group([0.9, 0.1], [1.0, 1.0], whole=True)
    assert len(known.groups) == 1, "nothing to compare"
    known.observe_group([0.9, 0.1], [0.0, 1.0], whole=False)
    assert (known.concordance(), known.recent_concordance()) == (0.75, 0.5)
    assert known.concordance_low() == 0.0
    assert sigmoid(logit(0.3)) == pytest.approx(0.3)
