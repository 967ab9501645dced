"""What the verl adapter does, without verl: rows, reports, estimates, names, balancing."""

import asyncio
from inspect import signature

import pytest
from hypothesis import given
from hypothesis import strategies as hs
from trainer_cases import curriculum
from verl_contract import BALANCER
from verl_fakes import Client, OldClient, Server, rows

from sojourn.errors import UserError
from sojourn.trainers import verl
from sojourn.trainers.token_balancer import TokenBalancer
from sojourn.trainers.verl import Trajectory


def data_set(at):
    return {"raw_prompt": [{"role": "user", "content": f"prompt {at}"}], "index": at}


def came_back(taken, reward_of=lambda _, sample: float(sample % 2), version=0):
    """Return the trajectories of rows, as verl's buffer has them."""
    return [
        Trajectory(row[verl.GROUP], sample, 0, reward_of(at, sample), 5, version)
        for at, row in enumerate(taken)
        for sample in range(row[verl.ROLLOUTS])
    ]


def test_rows_carry_their_count_and_their_group():
    run = curriculum()
    taken = verl.rows(run, data_set, 4)
    assert [row[verl.ROLLOUTS] for row in taken] == [3] * 4
    assert [row[verl.GROUP] for row in taken] == [0, 1, 2, 3]
    assert all(row["index"] == row[verl.PROMPT] for row in taken)
    assert {row[verl.RUN] for row in taken} == {"demo"}


def test_too_few_prompts_are_refused_with_what_to_change():
    run = curriculum()
    verl.rows(run, data_set, 4)
    with pytest.raises(UserError, match=r"only 0 may be opened: raise plan\.staleness_versions"):
        verl.rows(run, data_set, 4)


def test_a_step_of_verl():
    run = curriculum()
    for step in range(1, 6):
        taken = verl.rows(run, data_set, 4)
        metrics = verl.end_step(run, came_back(taken, version=step - 1), step - 1, -1)
        assert metrics["sojourn/mixed_groups_mean"] == 1.0
        assert metrics["sojourn/tokens.trained"] == 60.0 * step
    assert run.run.beliefs.trials == 60
    assert all(isinstance(value, float) for value in metrics.values())


def test_missing_rollouts_failed_and_missing_groups_are_lost():
    run = curriculum()
    taken = verl.rows(run, data_set, 4)
    back = [one for one in came_back(taken) if one.group < 2 and (one.group, one.session) != (0, 1)]
    metrics = verl.end_step(run, back, 0, -1)
    assert not run.run.open_groups
    assert metrics["sojourn/rollouts.failed"] == 1.0
    assert metrics["sojourn/rollouts.pruned"] == 6.0
    assert metrics["sojourn/tokens.trained"] == 25.0
    assert len(verl.rows(run, data_set, 2)) == 2


def test_groups_that_may_still_come_are_kept_until_they_are_too_old():
    run = curriculum(plan={"staleness_versions": 3})
    first = verl.rows(run, data_set, 4)
    verl.rows(run, data_set, 4)
    verl.end_step(run, came_back(first), 0, 2)
    assert len(run.run.open_groups) == 4
    for version in (1, 2):
        verl.end_step(run, [], version, 2)
        assert len(run.run.open_groups) == 4
    verl.end_step(run, [], 3, 2)
    assert not run.run.open_groups


def test_a_trainer_that_ignores_the_count_is_found_out():
    run = curriculum(allocate={"policy": "fixed", "rollouts": 2})
    (row,) = verl.rows(run, data_set, 1)
    back = [Trajectory(row[verl.GROUP], sample, 0, 1.0, 5, 0) for sample in range(3)]
    with pytest.raises(UserError, match="does not read __rollout_n__"):
        verl.report(run, back)


def test_several_outputs_of_a_rollout_are_refused():
    run = curriculum()
    (row,) = verl.rows(run, data_set, 1)
    with pytest.raises(UserError, match="several outputs"):
        verl.report(run, [Trajectory(row[verl.GROUP], 0, 1, 1.0, 5, 0)])


def test_groups_of_another_life_are_late():
    run = curriculum()
    verl.report(run, [Trajectory(77, sample, 0, 1.0, 5, 0) for sample in range(3)])
    assert run.late == 3


def test_keys_are_split_as_verl_makes_them():
    assert verl.split_key("1b4e28ba-2fa1-11d2_3_0") == ("1b4e28ba-2fa1-11d2", 3, 0)


def test_the_estimator_takes_rows_in_any_order():
    run = curriculum()
    scores, mask = rows([1.0, 5.0, 0.0, 0.0, 1.0])
    advantages, returns = verl.estimate(run, scores, mask, ["a", "one", "b", "a", "b"])
    assert advantages is returns
    got = [row[0] for row in advantages.rows]
    assert got == pytest.approx([0.707, 0.0, -0.707, -0.707, 0.707], abs=1e-3)
    assert all(row == [row[0]] * 3 for row in advantages.rows)


def test_padding_and_rejected_rows_are_no_part_of_a_group():
    run = curriculum(advantage={"policy": "grpo", "divides": False})
    scores, mask = rows([100.0, 1.0, 0.0, 0.0], [False, True, True, False])
    got, _ = verl.estimate(run, scores, mask, ["a", "a", "a", "pad0"])
    assert [row[0] for row in got.rows] == [0.0, 0.5, -0.5, 0.0]


def test_estimates_are_multiplied_by_the_mask():
    run = curriculum(advantage={"policy": "grpo", "divides": False})
    scores, mask = rows([1.0, 0.0])
    mask.rows[0] = [1, 0, 1]  # a tool spoke in between
    got, _ = verl.estimate(run, scores, mask, ["a", "a"])
    assert got.rows == [[0.5, 0.0, 0.5], [-0.5] * 3]


@given(
    hs.lists(
        hs.tuples(hs.sampled_from("abcdef"), hs.sampled_from([0.0, 0.5, 1.0]), hs.booleans()),
        min_size=1,
        max_size=30,
    )
)
def test_estimates_depend_on_ones_own_group_alone(table):
    run = curriculum()
    names = [name for name, _, _ in table]
    scores, mask = rows([reward for _, reward, _ in table], [counted for _, _, counted in table])
    got = [row[0] for row in verl.estimate(run, scores, mask, names)[0].rows]
    for name in set(names):
        own = [at for at, other in enumerate(names) if other == name]
        counted = [table[at][1] for at in own if table[at][2]]
        alone = run.advantages([counted])[0]
        assert [got[at] for at in own if table[at][2]] == pytest.approx(alone)
        assert all(got[at] == 0.0 for at in own if not table[at][2])
        assert sum(got[at] for at in own) == pytest.approx(0.0, abs=1e-4)


def test_without_a_curriculum_the_estimator_says_what_to_set(monkeypatch):
    monkeypatch.setattr(verl, "_INSTALLED", [])
    with pytest.raises(UserError, match=r"set data\.custom_cls to pkg://sojourn"):
        verl.installed()
    run = curriculum()
    verl.install(curriculum())
    verl.install(run)
    assert verl.installed() is run


FIELDS = {verl.GROUP: 7, verl.RUN: "demo", "session_id": 2, "raw_prompt": []}


def generate(client, tokens=1):
    """Generate once in a session."""
    return client.generate("session", prompt_ids=[1] * tokens, sampling_params={}, image_data=None)


def test_requests_are_named_by_turn_and_stay_on_their_server():
    server = Server("first")
    client = Client([server])
    named = verl.named(client, FIELDS)

    async def two_turns():
        return [(await generate(named, turn + 1)).text for turn in range(2)]

    assert asyncio.run(two_turns()) == ["from first"] * 2
    assert [one["request_id"] for one in server.asked] == ["demo.g7.s2.t0", "demo.g7.s2.t1"]
    assert client.sessions == [("session", ["prompt_ids"])] * 2
    assert client.released == [("first", "session")] * 2
    assert named.config == "verl's"


def test_two_rollouts_of_one_client_do_not_share_names():
    server = Server("first")
    client = Client([server])
    both = [verl.named(client, {**FIELDS, "session_id": session}) for session in (0, 1)]

    async def at_once():
        await asyncio.gather(*(generate(one) for one in both))

    asyncio.run(at_once())
    assert {one["request_id"] for one in server.asked} == {"demo.g7.s0.t0", "demo.g7.s1.t0"}


def test_the_server_is_given_back_when_it_fails():
    async def fails(_):
        raise RuntimeError("out of memory")

    client = Client([Server("first", fails)])
    with pytest.raises(RuntimeError, match="out of memory"):
        asyncio.run(generate(verl.named(client, FIELDS)))
    assert client.released == [("first", "session")]


def test_a_running_request_is_aborted_by_name_and_keeps_the_cache():
    found = []

    async def aborts(_):
        found.extend(await named.abort())
        return "partial"

    server = Server("first", aborts)
    named = verl.named(Client([server]), FIELDS)
    assert asyncio.run(generate(named)) == "partial"
    assert server.aborted == [("demo.g7.s2.t0", False)]
    assert found == ["demo.g7.s2.t0"]
    assert asyncio.run(named.abort()) == []


@pytest.mark.parametrize("missing", [verl.GROUP, verl.RUN, "session_id"])
def test_rollouts_that_are_not_ours_keep_verls_client(missing):
    client = Client([])
    fields = {key: value for key, value in FIELDS.items() if key != missing}
    assert verl.named(client, fields) is client


def test_a_client_without_a_place_for_names_is_refused():
    with pytest.raises(UserError, match="names requests by itself"):
        verl.named(OldClient(), FIELDS)


def test_the_balancer_weighs_prompts_not_requests():
    balancer = TokenBalancer({"a": "A", "b": "B"}, {"answer_tokens": 100})
    assert balancer.acquire_server("long", [0] * 5000) == ("a", "A")
    assert [balancer.acquire_server(f"short{at}", [0] * 10)[0] for at in range(9)] == ["b"] * 9
    assert balancer.acquire_server("long", [0] * 6000)[0] == "a"  # a conversation stays
    for _ in range(3):
        balancer.release_server("a", "long")
    assert (balancer.tokens["a"], balancer.requests["a"]) == (0, 0)
    assert balancer.acquire_server("another", [0])[0] == "a"
    assert balancer.get_total_inflight() == 10


def test_releases_take_off_what_was_put_on():
    balancer = TokenBalancer({"a": "A"}, {"answer_tokens": 5})
    for length in (100, 300):
        balancer.acquire_server(f"s{length}", [0] * length)
    balancer.release_server("a", "s100")
    assert balancer.tokens["a"] == 305
    balancer.release_server("a")
    balancer.release_server("gone", "s300")
    assert balancer.tokens["a"] == 305


def test_servers_come_and_go():
    balancer = TokenBalancer({"a": "A"})
    balancer.acquire_server("one", [0])
    balancer.add_servers({"b": "B"})
    balancer.remove_servers(["a", "never"])
    balancer.release_server("a", "one")
    assert balancer.acquire_server("one", [0]) == ("b", "B")
    assert balancer.get_all_servers() == ["b"]
    assert balancer.get_status()["total_inflight"] == balancer.get_inflight_count("b") == 1
    assert balancer.clear_sticky_cache() == {"cleared_entries": 1, "server_loads": {"b": 1}}
    balancer.remove_servers(["b"])
    with pytest.raises(RuntimeError, match="No available servers in load balancer"):
        balancer.acquire_server("one", [0])


def test_sessions_are_bounded():
    balancer = TokenBalancer({"a": "A"}, {"sessions_max": 3, "router_class": "ours"})
    for at in range(9):
        balancer.acquire_server(f"s{at}")
    assert balancer.clear_sticky_cache()["cleared_entries"] == 3


@pytest.mark.parametrize(
    ("config", "sentence"),
    [({"answer": 3}, "did you mean 'answer_tokens'"), ({"answer_tokens": -1}, "at least 0")],
)
def test_wrong_options_of_the_balancer_are_refused(config, sentence):
    with pytest.raises(UserError, match=sentence):
        TokenBalancer({}, config)


def test_the_balancer_has_all_that_verl_calls():
    for name, parameters in BALANCER.items():
        own = list(signature(getattr(TokenBalancer, name)).parameters)
        wanted = [one for one in parameters if one != "extra"]
        assert own[: len(wanted)] == wanted, name
    fields = TokenBalancer({}).require_acquire_fields()
    assert set(fields) <= set(signature(TokenBalancer.acquire_server).parameters)
    assert set(TokenBalancer({}).require_release_fields()) <= set(BALANCER["release_server"])


def test_dropped_groups_are_observed_and_never_trained():
    run = curriculum()
    taken = verl.rows(run, data_set, 4)
    verl.drop(run, came_back(taken[:1], lambda *_: 1.0))
    assert run.run.beliefs.read(taken[0][verl.PROMPT], 0).trials == 3
    assert run.run.groups_over["discarded"] == 1
    (again,) = verl.rows(run, data_set, 1)  # verl fetches another in its place
    metrics = verl.end_step(run, came_back([*taken[1:], again]), 0, -1)
    assert metrics["sojourn/tokens.trained"] == 60.0
    assert metrics["sojourn/tokens.discarded"] == 15.0
