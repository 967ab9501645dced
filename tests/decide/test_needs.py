"""What a recipe may ask of a host, and how a host says no."""

import pytest

from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.recipes import load_recipe
from sojourn.recipes.hosts import HOSTS, VLLM, check


def test_stock_vllm_cannot_swap_and_the_ideal_host_can():
    assert Need.SWAP not in VLLM
    assert HOSTS["ideal"] == VLLM | {Need.SWAP}


def test_a_recipe_within_the_hosts_abilities_passes():
    check("mine", frozenset({Need.DROP, Need.CHUNK}), "vllm", ["other"])


def test_a_missing_ability_is_named_with_the_host_and_what_to_do():
    with pytest.raises(UserError) as refusal:
        check("mine", frozenset({Need.SWAP, Need.DROP}), "vllm", ["vtc", "fcfs"])
    assert str(refusal.value) == (
        "recipe 'mine' needs to swap KV to host memory and back, which host 'vllm' does not "
        "offer; use --host ideal, or one of: fcfs, vtc"
    )


def test_all_missing_abilities_are_named_in_order():
    with pytest.raises(UserError, match="needs to migrate a live request and to swap KV to host"):
        check("mine", frozenset({Need.SWAP, Need.MIGRATE}), "vllm", [])


def test_knowing_true_lengths_is_allowed_in_any_simulated_host_but_never_deployable():
    check("mine", frozenset({Need.TRUTH}), "vllm", [])
    assert not load_recipe("srpt-clairvoyant").deployable


def test_a_recipe_fills_a_slot_differently_for_a_host_that_can_swap():
    assert load_recipe("fastserve", "vllm").slots["victim"][0] == "lowest_rank"
    assert load_recipe("fastserve", "ideal").slots["victim"][0] == "proactive_swap"


def test_an_unknown_host_is_refused_with_those_that_are():
    with pytest.raises(UserError, match="unknown host 'vlm': did you mean 'vllm'"):
        load_recipe("vtc", "vlm")
