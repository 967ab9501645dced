"""Groups of uneven sizes: what stock rules make of them, beside what ours do.

The stock rules are restated here from what the frameworks do, as of the versions named.
"""

from math import sqrt

import pytest
from trainer_cases import curriculum

from sojourn.errors import UserError

NOT_TRAINED = None


def mean(values):
    return sum(values) / len(values)


def deviation(values):
    """Return the unbiased standard deviation, as torch's."""
    centre = mean(values)
    return sqrt(sum((one - centre) ** 2 for one in values) / (len(values) - 1))


def slime(groups, fixed=8):
    """slime 624b824a8: unless every group has the fixed size, one mean over everything."""
    flat = [one for group in groups for one in group]
    parts = groups if all(len(group) == fixed for group in groups) else [flat]
    scaled = [(one - mean(part)) / (deviation(part) + 1e-6) for part in parts for one in part]
    return split(scaled, groups)


def verl(groups):
    """verl 0.9.1, `grpo`: a group of one has mean 0 and deviation 1."""
    made = []
    for group in groups:
        centre, spread = (0.0, 1.0) if len(group) == 1 else (mean(group), deviation(group))
        made.append([(one - centre) / (spread + 1e-6) for one in group])
    return made


def split(flat, groups):
    """Return a flat list in the shape of groups."""
    left = iter(flat)
    return [[next(left) for _ in group] for group in groups]


def ours(groups, **advantage):
    return curriculum(advantage={"policy": "grpo", **advantage}).advantages(groups)


def close(got, wanted):
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        assert one == pytest.approx(other, abs=2e-3)


def test_one_global_mean_rewards_easy_prompts_and_punishes_hard_ones():
    easy, hard = [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0]
    wrong = slime([easy, hard])
    close(wrong[0], [0.802, 0.802, 0.802, -1.069])
    close(wrong[1], [-1.069, -1.069, 0.802])
    right = ours([easy, hard])
    close(right[0], [0.5, 0.5, 0.5, -1.5])
    close(right[1], [-0.577, -0.577, 1.155])
    # The rarest success teaches most; under one mean it weighs as much as the commonest.
    assert wrong[1][2] == wrong[0][0]
    assert right[1][2] > 2 * right[0][0]
    assert sum(wrong[0]) > 1.3
    assert sum(right[0]) == pytest.approx(0.0, abs=1e-6)


def test_one_global_mean_trains_on_groups_that_teach_nothing():
    solved, hopeless = [1.0] * 5, [0.0] * 3
    wrong = slime([solved, hopeless])
    close(wrong, [[0.725] * 5, [-1.208] * 3])
    assert ours([solved, hopeless]) == [[0.0] * 5, [0.0] * 3]


def test_equal_groups_are_the_same_under_every_rule():
    groups = [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]
    close(slime(groups, fixed=3), ours(groups))
    close(verl(groups), ours(groups))


def test_a_group_of_one_gets_no_advantage_where_verl_gives_its_raw_reward():
    groups = [[1.0], [0.25], [1.0, 0.0]]
    close(verl(groups), [[1.0], [0.25], [0.707, -0.707]])
    close(ours(groups), [[0.0], [0.0], [0.707, -0.707]])
    close(ours(groups, divides=False), [[0.0], [0.0], [0.5, -0.5]])


def test_a_rejected_row_does_not_move_its_siblings():
    """The case of verl's pull request 6375, without division by the deviation."""
    stock = [[one - mean([100.0, 1.0]) for one in [100.0, 1.0]]]
    assert stock == [[49.5, -49.5]]  # the second row trains with -49.5
    assert ours([[NOT_TRAINED, 1.0]], divides=False) == [[None, 0.0]]


@pytest.mark.parametrize(
    ("divides", "stock", "right"),
    [
        (False, [0.5, -0.5, -0.5], [2 / 3, -1 / 3, -1 / 3]),
        (True, [0.866, -0.866, -0.866], [1.155, -0.577, -0.577]),
    ],
)
def test_a_masked_success_does_not_lower_the_value_of_another(divides, stock, right):
    """The case of NeMo-RL's pull request 3467: rewards 1, 1, 0, 0, the second one masked."""
    rewards = [1.0, 1.0, 0.0, 0.0]
    scale = deviation(rewards) if divides else 1.0
    counted = [(one - 0.5) / scale for at, one in enumerate(rewards) if at != 1]
    assert counted == pytest.approx(stock, abs=1e-3)
    got = ours([[1.0, NOT_TRAINED, 0.0, 0.0]], divides=divides)[0]
    assert got[1] is None
    assert [got[0], *got[2:]] == pytest.approx(right, abs=1e-3)


def test_groups_without_any_counted_row():
    assert ours([[], [None, None], [None, 0.5]]) == [[], [None, None], [None, 0.0]]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "1"])
def test_a_reward_that_is_no_number_is_refused(wrong):
    with pytest.raises(UserError, match="reward of rollout 1 of group 2 is"):
        ours([[1.0], [0.0], [1.0, wrong]])


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_sizes_and_order_of_other_groups_do_not_matter(factor):
    group = [0.0, factor, 0.25 * factor]
    alone = ours([group])[0]
    among = ours([[1.0], group, [0.0] * 9, [None, 3.0]])
    assert among[1] == alone
    assert sum(alone) == pytest.approx(0.0, abs=1e-4)
