"""Random fleets with random faults: all invariants after every event, and jumping equals stepping.

`python -m tests.fleet.explore --seeds N` runs as many more as one likes.
"""

import pytest
from fleet_runs import columns
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sojourn.policies.tables import SLOTS
from tests.fleet.fleet_cases import Dice, Drawn, check_case, fleet_case, registered, simulate

SETTINGS = settings(
    max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
HOSTILE = {
    "routes": ["round_robin", "least_load", "peeking", "fetching"],
    "places": ["noise", "least_loaded"],
    "scales": ["fixed", "noise"],
}


def test_nothing_breaks_fleets_of_many_seeds():
    with registered():
        for seed in range(1000, 1060):
            check_case(fleet_case(Dice(seed), **HOSTILE))


@SETTINGS
@given(data=st.data())
def test_nothing_breaks_a_fleet(data):
    with registered():
        check_case(fleet_case(Drawn(data, st), **HOSTILE))


@pytest.mark.parametrize("route", sorted(SLOTS["route"]))
def test_no_router_breaks_a_fleet(route):
    with registered():
        for seed in range(3):
            check_case(fleet_case(Dice(seed), **{**HOSTILE, "routes": [route]}))


@pytest.mark.parametrize("place", sorted(SLOTS["place"]))
def test_no_placer_breaks_a_fleet(place):
    with registered():
        for seed in range(100, 104):
            check_case(fleet_case(Dice(seed), **{**HOSTILE, "places": [place]}))


@pytest.mark.parametrize("scale", sorted(SLOTS["scale"]))
def test_no_scaler_breaks_a_fleet(scale):
    with registered():
        for seed in range(200, 204):
            check_case(fleet_case(Dice(seed), **{**HOSTILE, "scales": [scale]}))


@pytest.mark.parametrize("seed", [75, 239, 295, 302, 426, 654, 1373])
def test_cases_that_were_hard(seed):
    """Long runs under fine periods, hand-over of who migrates, stale pulls, fleets that die out."""
    with registered():
        check_case(fleet_case(Dice(seed), **HOSTILE))


def test_one_seed_gives_the_same_record():
    with registered():
        case = fleet_case(Dice(7), **HOSTILE)
        one, other = (columns(simulate(case)[1]) for _ in range(2))
    assert one == other
