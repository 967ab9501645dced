"""Routers that count: examples worked by hand, and what each says of itself."""

import pytest
from route_stubs import Fleet, Replica, build, request

from sojourn.decide.actions import Reject
from sojourn.decide.clock import SECOND
from sojourn.errors import UserError
from sojourn.policies.route.load_index import LoadIndex
from sojourn.policies.tables import SLOTS


def fleet_of(*opens, **more):
    return Fleet(*(Replica(i, open=n) for i, n in enumerate(opens)), **more)


def tell(router, replica, now=0, **change):
    for name, value in change.items():
        setattr(replica, name, value)
    router.changed(replica, now)


def test_index_gives_the_lowest_and_drops_who_takes_no_arrivals():
    index, replicas = LoadIndex(), [Replica(i) for i in range(4)]
    for replica, score in zip(replicas, (3, 1, 1, 2), strict=True):
        index.put(replica, score)
    assert index.lowest(3) == [1, 2, 3]
    assert index.least() == 1
    replicas[1].status = "draining"
    replicas[2].role = "decode"
    index.put(replicas[1], 0)
    index.put(replicas[2], 0)
    assert index.lowest(9) == [3, 0]


def test_index_stays_small_and_right_under_many_changes():
    index, replicas = LoadIndex(), [Replica(i) for i in range(5)]
    for step in range(3000):
        index.put(replicas[step % 5], (step * 7919) % 11)
        best = min(index.score.items(), key=lambda one: (one[1], one[0]))[0]
        assert index.least() == best
        assert len(index.heap) <= 2 * 5 + 64 + 1


def test_index_draws_ties_where_it_is_told_to():
    draws = [5, 1, 3]
    index = LoadIndex(lambda _: draws.pop(0))
    for at in range(3):
        index.put(Replica(at), 0)
    assert index.lowest(3) == [1, 2, 0]


def test_two_choices_compare_only_what_was_drawn():
    replicas = [Replica(i, waiting=n) for i, n in enumerate((9, 4, 7, 0))]
    # Draw 0, then 1 of the rest (1, 2, 3), which is 2: loads 9 and 7. Replica 3 is never seen.
    assert build("power_of_two", Fleet(*replicas, draws=[0, 1])).route(request(), 0) == 2
    # 2, then 1 of (0, 1, 3): 7 and 4.
    assert build("power_of_two", Fleet(*replicas, draws=[2, 1])).route(request(), 0) == 1


def test_two_choices_never_draw_one_replica_twice():
    for first in range(3):
        for second in range(2):
            fleet = Fleet(
                *(Replica(i, waiting=i == first) for i in range(3)), draws=[first, second]
            )
            assert build("power_of_two", fleet).route(request(), 0) != first


def test_two_choices_read_the_report_or_the_own_count():
    replicas = [Replica(0, waiting=1, open=5), Replica(1, waiting=2, open=3)]
    assert build("power_of_two", Fleet(*replicas)).route(request(), 0) == 0
    assert build("power_of_two", Fleet(*replicas), own_counts=True).route(request(), 0) == 1


def test_two_choices_take_a_lone_replica():
    assert build("power_of_two", fleet_of(3)).route(request(), 0) == 0


def test_shortest_in_tokens_weighs_prompts_twice_until_they_are_computed():
    # 100 of 300 to be computed: 400; 0 of 390: 390; 200 of 200: 400.
    replicas = [Replica(0, 1, 100, 300), Replica(1, 9, 0, 390), Replica(2, 1, 200, 200)]
    router = build("join_shortest_tokens", Fleet(*replicas))
    assert router.route(request(), 0) == 1
    tell(router, replicas[1], open_tokens=401)
    assert router.route(request(), 0) == 0
    assert build("join_shortest_tokens", Fleet(*replicas), prompt_weight=0).route(request(), 0) == 2


def test_shortest_in_tokens_does_not_see_outputs_grow():
    replicas = [Replica(0, 1, 0, 10, free_blocks=0), Replica(1, 1, 0, 11, free_blocks=100)]
    assert build("join_shortest_tokens", Fleet(*replicas)).route(request(), 0) == 0


def test_a_session_stays_and_moves_only_when_its_replica_is_gone():
    fleet = fleet_of(2, 0, 1)
    router = build("session_sticky", fleet)
    assert router.route(request(program=7), 0) == 1
    tell(router, fleet.replicas[1], open=50)
    assert router.route(request(program=7), 0) == 1  # fails when one session is all the work
    assert router.route(request(program=8), 0) == 2
    assert router.route(request(), 0) == 2
    tell(router, fleet.replicas[1], status="draining")
    assert router.route(request(program=7), 0) == 2
    tell(router, fleet.replicas[1], status="up", open=0)
    assert router.route(request(program=7), 0) == 2


def test_the_session_used_least_recently_is_forgotten():
    fleet = fleet_of(0, 1)
    router = build("session_sticky", fleet, most_sessions=2)
    for program in (1, 2, 1, 3):  # 2 is forgotten
        assert router.route(request(program=program), 0) == 0
    tell(router, fleet.replicas[0], open=9)
    assert [router.route(request(program=p), 0) for p in (1, 3, 2)] == [0, 0, 1]


def test_budgets_are_used_in_proportion():
    replicas = [Replica(0, open=4, seats=8), Replica(1, open=6, seats=16), Replica(2, 1, seats=1)]
    fleet = Fleet(*replicas)
    router = build("stochastic_balance", fleet)  # 0.5, 0.375, 1
    assert router.route(request(), 0) == 1
    tell(router, replicas[1], open=9)  # 0.5625
    assert router.route(request(), 0) == 0
    tell(router, replicas[0], open=8)
    tell(router, replicas[1], open=16)
    assert router.route(request(), 0) is None
    tell(router, replicas[2], open=0)  # idle: always available
    assert router.route(request(), 0) == 2


def test_a_budget_of_tokens_counts_what_outputs_are_expected_to_be():
    # 1,600 tokens of KV: 500 + 0 x 100 against 300 + 3 x 100.
    replicas = [Replica(0, 0, 0, 500), Replica(1, 3, 0, 300)]
    more = {"budget": "tokens", "output_tokens": 100}
    assert build("stochastic_balance", Fleet(*replicas), **more).route(request(), 0) == 0
    more["output_tokens"] = 0
    assert build("stochastic_balance", Fleet(*replicas), **more).route(request(), 0) == 1
    more["budget_scale"] = 0.1
    assert build("stochastic_balance", Fleet(*replicas), **more).route(request(), 0) is None


def test_an_unknown_budget_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'tokens'"):
        SLOTS["route"]["stochastic_balance"][0](budget="token")


def test_on_demand_asks_in_order_of_open_streams_and_no_more_than_it_may():
    replicas = [Replica(i, open=n, room=False) for i, n in enumerate((4, 1, 3, 2, 5))]
    replicas[4].room = True
    fleet = Fleet(*replicas)
    assert build("on_demand", fleet, tries=3).route(request(), 0) is None
    assert [one.asked for one in replicas] == [0, 1, 1, 1, 0]
    assert build("on_demand", fleet, tries=5).route(request(), 0) == 4
    replicas[2].room = True
    assert build("on_demand", fleet, tries=3).route(request(), 0) == 2


def test_on_demand_never_reads_a_load_report():
    replicas = [Replica(0, open=1, waiting=99, free_blocks=0), Replica(1, open=2)]
    assert build("on_demand", Fleet(*replicas)).route(request(), 0) == 0


def test_on_demand_gives_up_after_the_ttft_deadline_unless_tokens_have_come():
    fleet = Fleet(Replica(0, open=1, room=False))
    late = request(deadline=SECOND)
    router = build("on_demand", fleet)
    assert router.route(late, SECOND) is None
    assert isinstance(router.route(late, SECOND + 1), Reject)
    late.decoded = 3  # it lost its replica after its first token
    assert router.route(late, SECOND + 1) is None
    assert router.route(request(), 10**6 * SECOND) is None  # no deadline: kept for ever


def test_an_idle_replica_always_accepts():
    assert build("on_demand", Fleet(Replica(0, room=False))).route(request(), 0) == 0


def test_controls():
    assert build("random_choice", fleet_of(0, 9, 0, draws=[1])).route(request(), 0) == 1
    assert build("most_loaded", fleet_of(3, 9, 9)).route(request(), 0) == 1


def test_least_load_counts_its_own_only_until_the_next_report():
    replicas = [Replica(0, seated=1), Replica(1, seated=7)]
    plain = build("least_load", Fleet(*replicas))
    assert [plain.route(request(), SECOND) for _ in range(4)] == [0, 0, 0, 0]
    router = build("least_load", Fleet(*replicas), counts_own=True)
    # 1, 5, 9 against 7: each of its own weighs 4.
    assert [router.route(request(), SECOND) for _ in range(4)] == [0, 0, 1, 0]
    tell(router, replicas[0], SECOND * 3, reported=2 * SECOND, seated=4)
    assert router.route(request(), SECOND * 3) == 0


def test_a_current_load_has_the_own_requests_already():
    replicas = [Replica(0, seated=1, reported=SECOND), Replica(1, seated=3, reported=SECOND)]
    router = build("least_load", Fleet(*replicas), counts_own=True)
    assert [router.route(request(), SECOND) for _ in range(3)] == [0, 0, 0]


def test_vllm_takes_the_greater_of_its_count_and_the_report():
    replicas = [Replica(0, open=6, seated=1), Replica(1, open=0, seated=5)]
    assert build("vllm_data_parallel", Fleet(*replicas)).route(request(), SECOND) == 1


def test_vllm_weighs_queues_where_kv_is_full():
    # 2 + 0 + 2 x 6 x (0.9 - 0.5) = 6.8 against 5; with KV to spare 2 against 5.
    replicas = [Replica(0, waiting=2, free_blocks=10), Replica(1, seated=5)]
    assert build("vllm_data_parallel", Fleet(*replicas)).route(request(), SECOND) == 1
    replicas[0].free_blocks = 60
    assert build("vllm_data_parallel", Fleet(*replicas)).route(request(), SECOND) == 0


def test_vllm_breaks_ties_in_turn_and_counts_its_own():
    router = build("vllm_data_parallel", fleet_of(0, 0, 0))
    assert [router.route(request(), SECOND) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


REFUSED = {
    "power_of_two": {"choices": 0},
    "join_shortest_tokens": {"kv_weight": -1.0},
    "session_sticky": {"most_sessions": 0},
    "stochastic_balance": {"budget_scale": 0.0},
    "on_demand": {"tries": 0},
    "vllm_data_parallel": {"kv_use": 1.5},
    "prefix_aware": {"balance_factor": 0.9},
    "sticky_until_saturated": {"affinity_threshold": 1.1},
    "mooncake_conductor": {"fetch_ratio": 0.5},
    "preble_e2": {"window_seconds": 0.0},
}


@pytest.mark.parametrize("name", REFUSED)
def test_values_out_of_range_are_refused_with_what_is_allowed(name):
    (field,) = REFUSED[name]
    with pytest.raises(UserError, match=rf"route\.{field} is .*; it must be"):
        SLOTS["route"][name][0](**REFUSED[name])
