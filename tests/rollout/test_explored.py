"""Some of the random scenarios that `python -m tests.rollout.explore` runs by the thousand."""

from collections import Counter

from tests.rollout.explored import ENDED, REFUSED, WHOLE, check_seed


def test_random_scenarios_hold_what_every_run_must():
    ends = Counter(check_seed(seed) for seed in range(10))
    assert ends[WHOLE] > 5
    assert set(ends) <= {WHOLE, ENDED, REFUSED}
