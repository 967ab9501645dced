"""Recipes written by hand: which policies stand side by side, and the names of rows."""

from __future__ import annotations

import pytest

from sojourn.errors import UserError
from sojourn.policies.tables import SLOTS
from sojourn.recipes import load_recipe

RANKED = ("skip_join_mlfq", "srpt_clairvoyant", "longest_clairvoyant")
CONTESTING = tuple(name for name, (_, one) in SLOTS["compose"].items() if one.contests)


@pytest.fixture
def written(tmp_path):
    def write(**policies):
        path = tmp_path / "mine.toml"
        path.write_text("".join(f'[{slot}]\npolicy = "{p}"\n' for slot, p in policies.items()))
        return str(path)

    return write


@pytest.mark.parametrize("compose", CONTESTING)
@pytest.mark.parametrize("order", SLOTS["order"])
def test_a_contest_needs_an_order_with_standing(written, order, compose):
    path = written(order=order, compose=compose, victim="lowest_rank")
    if order in RANKED:
        assert load_recipe(path).slots["order"][0] == order
        return
    sentence = f"contests seats by rank, for which order '{order}' has no standing; use skip_join"
    with pytest.raises(UserError, match=sentence):
        load_recipe(path)


@pytest.mark.parametrize("compose", SLOTS["compose"])
@pytest.mark.parametrize("victim", SLOTS["victim"])
def test_a_victim_by_rank_and_a_contest_go_together_only(written, victim, compose):
    path = written(order="skip_join_mlfq", compose=compose, victim=victim)
    contests, ranked = compose in CONTESTING, victim != "last_in"
    if contests == ranked:
        assert load_recipe(path, "ideal").slots["victim"][0] == victim
        return
    sentence = (
        f"victim '{victim}' does not go with a compose that contests seats; use lowest_rank or "
        "proactive_swap"
        if contests
        else f"victim '{victim}' does only go with a compose that contests seats; use last_in"
    )
    with pytest.raises(UserError, match=sentence):
        load_recipe(path, "ideal")


def test_there_is_a_contest_to_test():
    assert CONTESTING
