"""The settings file of a trainer."""

import pytest
from trainer_cases import curriculum, prompts, results

from sojourn.errors import UserError
from sojourn.policies.tables import SLOTS
from sojourn.trainers.settings import IN_ROUNDS, USUAL, load, make


def test_the_default_is_what_a_stock_trainer_does():
    run = make({}, prompts(64), "nothing")
    policies = run.run.policies
    assert [type(getattr(policies, slot)).__name__ for slot in USUAL] == [
        "Uniform",
        "Fixed",
        "WholeGroup",
        "Grpo",
    ]
    assert [one.rollouts for one in run.propose(32)] == [8] * 32


def test_a_file_sets_policies_and_their_parameters(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text(
        'run = "july"\n[plan]\nbatch_groups = 2\nrollouts_per_group = 5\n[beliefs]\n'
        'update_keep = 0.5\n[allocate]\npolicy = "fixed"\nrollouts = 4\n[advantage]\n'
        'policy = "grpo"\ndivides = false\n'
    )
    run = load(file, prompts())
    assert [one.rollouts for one in run.propose(2)] == [4, 4]
    assert run.run_name == "july"
    assert run.run.beliefs.rules.update_keep == 0.5
    assert run.run.plan.rounds_max == 1
    assert run.advantages([[1.0, 0.0, 0.0, 0.0]]) == [[0.75, -0.25, -0.25, -0.25]]
    assert load(file, prompts(), rounds=True).run.plan.rounds_max > 1


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({"selct": {}}, "unknown key in the test 'selct': did you mean 'select'"),
        ({"select": {"policy": "unifrom"}}, "did you mean 'uniform'"),
        ({"select": {"policy": 3}}, "select.policy in the test is 3; it must be a text"),
        ({"select": "uniform"}, "it must be a table"),
        ({"allocate": {"rollout": 3}}, "did you mean 'rollouts'"),
        ({"allocate": {"rollouts": "many"}}, "allocate.rollouts is 'many'"),
        ({"plan": {"batch_group": 3}}, "did you mean 'batch_groups'"),
        ({"plan": {"batch_groups": 41, "groups_max": 99}}, "the data set has 40 prompts"),
        ({"beliefs": {"window": 0}}, "beliefs.window is 0"),
        ({"run": 3}, "run in the test is 3; it must be a text"),
    ],
)
def test_mistakes_are_one_sentence(tables, sentence):
    with pytest.raises(UserError) as caught:
        curriculum(**tables)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[plan]\nbatch_groups = -1\n", "plan.batch_groups is -1; it must be at least 1"),
        ("[beliefs]\nwindow = 0\n", "beliefs.window is 0; it must be at least 1"),
        ('[select]\npolicy = "mopps"\npool = 0\n', "select.pool is 0; it must be at least 1"),
        ('[plan]\nbatch_groups = "2"\n', "plan.batch_groups is '2'; it must be a whole number"),
    ],
)
def test_what_is_out_of_range_names_the_file(tmp_path, text, sentence):
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load(file, prompts())
    assert str(caught.value) == f"{file}: {sentence}"


def test_the_file_is_named_once(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[selct]\n")
    with pytest.raises(UserError) as caught:
        load(file, prompts())
    assert str(caught.value).count(str(file)) == 1


@pytest.mark.parametrize("name", IN_ROUNDS)
def test_allocations_in_rounds_need_a_trainer_that_adds_rollouts(name):
    tables = {"allocate": {"policy": name}}
    with pytest.raises(UserError, match="decides in rounds"):
        curriculum(**tables)
    assert curriculum(rounds=True, **tables).propose(1)


def test_the_list_of_allocations_in_rounds_is_complete():
    for name in SLOTS["allocate"]:
        run = curriculum(rounds=True, plan={"rollouts_per_group": 16}, allocate={"policy": name})
        assigned = run.propose(4)
        more = run.observe(results(assigned, lambda at, sample: float(sample == 1 and at > 1)))
        assert bool(more) == (name in IN_ROUNDS), name
