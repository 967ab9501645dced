"""Recipes that fill slots above the replicas: what they carry, need, and run as."""

from __future__ import annotations

import pytest

from sojourn.decide.needs import Need
from sojourn.errors import UserError
from sojourn.policies.tables import FLEET_SLOTS
from sojourn.recipes import fleet_recipe_names, load_recipe, recipe_names
from sojourn.recipes.deploy import deployable_names, load_deployable
from sojourn.recipes.load import ROLES, parse_overrides


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_for_one_engine_leave_the_fleet_alone(name):
    recipe = load_recipe(name, "ideal")
    assert not recipe.fleet
    assert [recipe.fleet_slot(slot)[0] for slot in FLEET_SLOTS] == [
        "round_robin",
        "least_loaded",
        "fixed",
    ]
    assert recipe.runs_as in ("deployable", "simulator only")


@pytest.mark.parametrize("name", fleet_recipe_names())
def test_recipes_for_fleets_say_what_they_are(name):
    recipe = load_recipe(name)
    assert recipe.fleet
    assert recipe.title
    assert recipe.summary.endswith(".")
    assert recipe.source
    beyond = recipe.needs & {Need.MIGRATE, Need.TRANSFER, Need.FETCH, Need.SCALE}
    assert (recipe.runs_as == "simulator only") == bool(beyond or ROLES in recipe.fleet)


def test_a_router_without_needs_stays_deployable_but_is_not_served_by_one_engine():
    recipe = load_recipe("least-load")
    assert recipe.deployable
    assert recipe.runs_as == "deployable behind a router"
    assert recipe.name not in deployable_names()
    with pytest.raises(UserError, match=r"decides between engines \(route\).*as 'vllm'"):
        load_deployable("least-load")


def test_migration_is_for_the_simulator_only_and_runs_on_every_host():
    for host in ("vllm", "ideal"):
        recipe = load_recipe("llumnix", host)
        assert Need.MIGRATE in recipe.needs
        assert recipe.runs_as == "simulator only"


def test_parameters_of_fleet_slots_can_be_set_in_the_file_and_over_it(written):
    path = written('[route]\npolicy = "least_load"\nwaiting_weight = 3\n')
    recipe = load_recipe(path)
    assert recipe.fleet["route"][1].waiting_weight == 3
    overrides = parse_overrides(["route.waiting_weight=5"], [recipe])
    changed = load_recipe(path, overrides=overrides)
    assert changed.parameters()["route"] == {
        "policy": "least_load",
        "waiting_weight": 5,
        "counts_own": False,
    }
    assert "route" not in load_recipe("vllm").parameters()


def test_another_router_replaces_a_recipes_own_with_its_defaults(written):
    recipe = load_recipe(written('[route]\npolicy = "least_load"\nwaiting_weight = 3\n'))
    assert recipe.routed("round_robin").fleet["route"][0] == "round_robin"
    assert recipe.routed("least_load").fleet["route"][1].waiting_weight == 4
    with pytest.raises(UserError, match="did you mean 'round_robin'"):
        recipe.routed("round-robin")


def test_a_split_recipe_has_another_recipe_where_prompts_are_computed():
    recipe = load_recipe("distserve")
    assert recipe.prefill is not None
    assert recipe.prefill.slots["compose"][0] == "prompt_batches"
    assert recipe.slots["compose"][0] == "stall_free"
    overrides = parse_overrides(
        ["compose.saturation_tokens=1024", "roles.prefill_share=0.25"], [recipe]
    )
    changed = load_recipe("distserve", overrides=overrides)
    assert changed.prefill.slots["compose"][1].saturation_tokens == 1024
    assert changed.fleet[ROLES][1].prefill_share == 0.25


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[rout]\npolicy = "x"\n', "unknown key in .*'rout': did you mean 'route'?"),
        ('[route]\npolicy = "round"\n', "unknown route policy in .*did you mean 'round_robin'?"),
        ("[route]\npolicy = 3\n", "route.policy is 3; it must be a text"),
        ("route = 3\n", r"route is 3; it must be a table, \[route\]"),
        ("[roles]\nprefill_share = 1.0\n", "prefill_share is 1; it must be between 0 and 1"),
        ("[roles]\nshare = 0.5\n", "unknown parameter roles.share"),
        ('[roles]\nprefill_recipe = "llumnix"\n', "'llumnix', which decides about fleets"),
        ('[roles]\nprefill_recipe = "nope"\n', "unknown recipe 'nope'"),
    ],
)
def test_what_a_recipe_cannot_say_is_refused(written, text, sentence):
    with pytest.raises(UserError, match=sentence):
        load_recipe(written(text))


def test_an_unknown_fleet_parameter_is_refused_with_the_nearest():
    recipe = load_recipe("llumnix")
    with pytest.raises(UserError, match="unknown slot in --param 'plac': did you mean 'place'"):
        parse_overrides(["plac.x=1"], [recipe])
    with pytest.raises(UserError, match="unknown route parameter of vllm 'x': allowed: none"):
        parse_overrides(["route.x=1"], [load_recipe("vllm")])
