"""Routers that remember prefixes: the tree, and examples worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from route_stubs import Fleet, Replica, build, request

from sojourn.decide.actions import Reject
from sojourn.decide.clock import SECOND
from sojourn.decide.states import DECODE, FINISHED, PREFILL
from sojourn.fleet.slots import Fetch
from sojourn.policies.route.prefix_aware import CLI, Config
from sojourn.policies.route.prefix_tree import PrefixTree
from sojourn.policies.route.prompt_queue import PromptQueue


def tree_of(*sent):
    tree = PrefixTree()
    for number, (replica, prefix) in enumerate(sent):
        tree.insert(request(number, 16 * len(prefix), prefix), replica, 16)
    return tree


def test_tree_matches_from_the_front():
    tree = tree_of((0, [1, 2, 3]), (1, [1, 2]), (2, [1, 9]))
    assert tree.depth([1, 2, 3, 4]) == 3
    assert tree.depth([5]) == 0
    assert [tree.own([1, 2, 3, 4], replica) for replica in range(4)] == [3, 2, 1, 0]
    assert tree.latest([1, 2], 2) == 1
    assert tree.matches([1, 2, 3], 9) == {0: 3, 1: 2, 2: 1}
    assert tree.matches([1, 2, 3], 2) == {0: 3, 1: 2}


def test_tree_forgets_ends_of_prompts_first_and_the_least_recent_replica_of_none():
    tree = tree_of((0, [1, 2, 3]), (0, [7, 8]), (0, [1, 2]))
    assert tree.tokens[0] == 80
    tree.trim(0, 48)  # 3, then 8: 1 and 2 were used last
    assert [tree.own(p, 0) for p in ([1, 2, 3], [7, 8])] == [2, 1]
    tree.remove(0)
    assert not tree.holders
    assert not tree.paths


def test_what_follows_the_last_full_id_counts_but_never_matches():
    tree = PrefixTree()
    tree.insert(request(3, 16 + 5, [1]), 0, 16)
    assert tree.tokens[0] == 21
    tree.trim(0, 16)
    assert tree.own([1], 0) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 6), st.integers(0, 200)),
        max_size=40,
    )
)
def test_tree_is_consistent(sent):
    tree, labels = PrefixTree(), {}
    for number, (replica, family, length, most) in enumerate(sent):
        prefix = [10 * family + at for at in range(length)]
        tree.insert(request(number, 16 * length + 3, prefix), replica, 16)
        for one in prefix:
            tree.labels[one] = labels[one] = family
        tree.trim(replica, most)
        assert tree.tokens[replica] == sum(tree.paths[replica].values()) <= most
        for other, path in tree.paths.items():
            for one in path:
                assert one < 0 or other in tree.holders[one]
                assert one < 0 or one % 10 == 0 or one - 1 in path, "a child without its parent"
        for one, holders in tree.holders.items():
            assert holders
            assert all(one in tree.paths[other] for other in holders)
        assert set(tree.labels) <= set(tree.holders)
        for family in range(4):
            prompt = [10 * family + at for at in range(6)]
            by_hand = {}
            for other, path in tree.paths.items():
                own = next((at for at, one in enumerate(prompt) if one not in path), 6)
                assert tree.own(prompt, other) == own
                if own:
                    by_hand[other] = own
            assert tree.matches(prompt, 99) == by_hand
            assert tree.depth(prompt) == max(by_hand.values(), default=0)


def test_prompts_count_until_their_first_token():
    queue, sent = PromptQueue(), [request(i) for i in range(3)]
    for one, tokens in zip(sent, (10, 20, 30), strict=True):
        queue.add(one, 0, tokens)
    sent[0].state = PREFILL
    assert queue.settle(0) == 60
    sent[0].state, sent[0].decoded = DECODE, 1
    assert queue.settle(0) == 50
    sent[2].state = FINISHED  # it overtook: it counts until the one before it is done
    assert queue.settle(0) == 50
    sent[1].state = FINISHED
    assert queue.settle(0) == 0


def aware(*opens, **parameters):
    fleet = Fleet(*(Replica(i, open=n) for i, n in enumerate(opens)))
    return build("prefix_aware", fleet, **parameters), fleet


def test_sglang_constants():
    code = (0.5, 32, 1.1, 30.0, 10_000)
    names = ("cache_threshold", "balance_requests", "balance_factor", "trim_seconds")
    for config, values in ((Config(), code), (CLI, (0.3, 64, 1.5, 120.0, 2**26))):
        assert tuple(getattr(config, n) for n in (*names, "most_characters")) == values


def test_sglang_sends_matches_to_their_holder_and_others_to_the_smallest_tree():
    router, _ = aware(0, 0, 0)
    assert router.route(request(0, 64, [1, 2, 3, 4]), 0) == 0
    assert router.route(request(1, 32, [5, 6]), 0) == 1
    assert router.route(request(2, 16, [9]), 0) == 2
    assert router.route(request(3, 64, [1, 2, 3, 7]), 0) == 0  # 48 of 64 match
    assert router.route(request(4, 64, [5, 6, 10, 11]), 0) == 2  # 32 of 64: not above a half
    assert router.route(request(5, 64, [5, 6, 10, 12]), 0) == 2  # 48 of 64


def test_sglang_balances_only_where_difference_and_factor_say_so():
    for opens, balanced in (((33, 0), False), ((32, 0), True), ((433, 400), True)):
        router, fleet = aware(0, 0)
        assert router.route(request(0, 16, [1]), 0) == 0
        for replica, count in zip(fleet.replicas, opens, strict=True):
            replica.open = count
            router.changed(replica, 0)
        assert router.route(request(1, 16, [1]), 0) == (0 if balanced else 1)


def test_sglang_notes_where_it_balanced_to():
    router, fleet = aware(40, 0)
    assert router.route(request(0, 16, [1]), 0) == 1
    fleet.replicas[0].open = 0
    router.changed(fleet.replicas[0], 0)
    assert router.route(request(1, 16, [1]), 0) == 1


def test_sglang_trims_at_intervals_to_a_size_in_characters():
    router, _ = aware(0, most_characters=128)  # 32 tokens
    router.route(request(0, 64, [1, 2, 3, 4]), 0)
    router.route(request(1, 16, [1]), 29 * SECOND)
    assert router.tree.tokens[0] == 64
    router.route(request(2, 16, [1]), 30 * SECOND)
    assert router.tree.tokens[0] == 32
    assert router.tree.own([1, 2, 3], 0) == 2


def test_sglang_forgets_a_replica_that_is_gone():
    router, fleet = aware(0, 0)
    router.route(request(0, 64, [1, 2, 3, 4]), 0)
    fleet.replicas[0].status = "down"
    router.changed(fleet.replicas[0], 0)
    assert router.route(request(1, 64, [1, 2, 3, 4]), 0) == 1


def test_sglang_fails_on_a_prefix_that_all_share():
    router, fleet = aware(0, 0)
    for number in range(33):
        assert router.route(request(number, 16, [1]), 0) == 0
        fleet.replicas[0].open += 1
        router.changed(fleet.replicas[0], 0)
    assert router.route(request(99, 16, [1]), 0) == 1


def sticky(count=2, **parameters):
    fleet = Fleet(*(Replica(i) for i in range(count)))
    return build("sticky_until_saturated", fleet, **parameters), fleet


LONG = list(range(100, 110))
"""A prompt of ten ids, 160 tokens, 0.16 s."""


def test_llm_d_sticks_from_four_fifths_on_whatever_the_load():
    router, _ = sticky()
    assert router.route(request(0, 160, LONG), 0) == 0
    assert router.route(request(1, 160, [*LONG[:8], 1, 2]), 0) == 0
    # 7 of 10 are not enough: 160 + 32 in flight and 48 to add, against 160.
    assert router.route(request(2, 160, [*LONG[:7], 3, 4, 5]), 0) == 1


def test_llm_d_counts_what_is_cached_as_less_load():
    router, fleet = sticky()
    first = request(0, 160, LONG)
    assert router.route(first, 0) == 0
    first.state = FINISHED
    router.changed(fleet.replicas[0], 0)
    router.route(request(1, 40), 0)  # drawn: replica 0 or 1
    assert router.route(request(2, 160, [*LONG[:5], 1, 2, 3, 4, 5]), 0) == 0


def test_llm_d_lets_go_of_a_saturated_replica():
    more = {"prefill_tokens_per_second": 1000.0}
    for penalty, chosen in ((0.33, 0), (0.30, 1), (0.0, 0)):
        router, _ = sticky(most_ttft_penalty_seconds=penalty, **more)
        assert router.route(request(0, 160, LONG), 0) == 0
        router.queue.add(request(1), 0, 160)  # 0.32 s in flight at 0, none at 1
        router.index.put(router.fleet.replicas[0], router.queue.settle(0))
        assert router.route(request(2, 160, LONG), 0) == chosen


def test_llm_d_measures_the_throughput_on_the_step_times():
    router, _ = sticky()
    router.route(request(0, 160, LONG), 0)
    assert router._ttft(0) == pytest.approx(0.16)
    router, _ = sticky(prefill_tokens_per_second=15_928.0)
    router.route(request(0, 160, LONG), 0)
    assert router._ttft(0) == pytest.approx(160 / 15_928)


def test_llm_d_explores_by_chance():
    router, fleet = sticky(exploration_probability=0.5)
    router.route(request(0, 160, LONG), 0)
    fleet.draws = [499_999, 0]
    assert router.route(request(1, 160, [*LONG[:8], 1, 2]), 0) == 1  # 160 + 32 against 160


def conductor(count=2, **parameters):
    fleet = Fleet(*(Replica(i) for i in range(count)))
    return build("mooncake_conductor", fleet, **parameters), fleet


def test_conductor_takes_the_least_of_queue_and_own_match():
    router, _ = conductor()
    assert router.route(request(0, 160, LONG), 0) == 0
    # Queue 160 and 16 to compute (8 ids cached: 32 left), against all 160 at once.
    assert router.route(request(1, 160, [*LONG[:8], 1, 2]), 0) == 1
    # Both hold 8 now: 160 + 32 against 160 + 32; the tie goes to who got it last.
    assert router.route(request(2, 160, [*LONG[:8], 3, 4]), 0) == 1


def test_conductor_prefers_its_cache_once_the_queue_is_gone():
    router, fleet = conductor()
    first = request(0, 160, LONG)
    router.route(first, 0)
    first.state = FINISHED
    router.changed(fleet.replicas[0], 0)
    assert router.route(request(1, 160, LONG), 0) == 0


def test_conductor_fetches_where_the_best_match_is_far_above_its_own():
    # At 1 fetching 8 ids takes 12.8 ms, computing them 128: 12.8 + 32 against 160 + 32 at 0.
    router, _ = conductor(fetches=True)
    assert router.route(request(0, 160, LONG), 0) == 0
    second = request(1, 160, [*LONG[:8], 1, 2])
    found = router.tree.matches(second.prefix, 9)
    assert found == {0: 8}
    milli = SECOND // 1000
    assert router._ttft(second, 0, 8, 0, 8) == (160 + 32) * milli
    assert router._ttft(second, 1, 0, 0, 8) == 12_800 * milli // 1000 + 32 * milli
    assert router._ttft(second, 1, 4, 0, 8) == 96 * milli  # 8 is not above 2 x 4
    assert router.route(second, 0) == Fetch(1, 0)
    assert router.queue.tokens[1] == 32  # what it fetches it need not compute


def test_conductor_rejects_only_if_told_to():
    late = request(0, 160, LONG, deadline=SECOND // 10)
    assert conductor()[0].route(late, 0) == 0
    verdict = conductor(reject=True)[0].route(late, 0)
    assert isinstance(verdict, Reject)
    assert conductor(reject=True)[0].route(request(1, 99, deadline=SECOND // 10), 0) == 0


def preble(count=2, **parameters):
    fleet = Fleet(*(Replica(i, blocks=1000) for i in range(count)))
    return build("preble_e2", fleet, **parameters), fleet


def test_preble_exploits_above_a_half_and_explores_below():
    router, _ = preble()
    assert router.route(request(0, 160, LONG), 0) == 0  # a miss: it costs 0.16 s there
    assert router.route(request(1, 160, [*LONG[:6], 1, 2, 3, 4]), 0) == 0
    assert router.route(request(2, 160, [*LONG[:5], 5, 6, 7, 8, 9]), 0) == 1


def test_preble_adds_decoding_of_active_requests():
    router, fleet = preble()
    fleet.replicas[0].open = 1  # 45 tokens x 0.15 s
    router.changed(fleet.replicas[0], 0)
    assert router.index.score[0] == 6.75 * SECOND
    assert router.route(request(0, 160, LONG), 0) == 1
    # 160 missed of 160, once: 1 x 1 x 0.16 s. Then 64 of 320 new: 0.7 x 2 x 0.16 s.
    assert router.window.costs[1] == 0.16 * SECOND
    router.route(request(1, 160, [*LONG[:6], 1, 2, 3, 4]), 0)
    assert router.window.costs[1] == pytest.approx(0.7 * 2 * 0.16 * SECOND)


def test_preble_forgets_after_three_minutes():
    router, _ = preble()
    router.route(request(0, 160, LONG), 0)
    router.route(request(1, 16, [1]), 180 * SECOND)
    assert router.window.costs[0] == 0.16 * SECOND
    router.route(request(2, 16, [2]), 181 * SECOND)
    assert router.window.costs[0] <= 0.016 * SECOND
    assert len(router.window.groups) == 2


def test_preble_weighs_what_must_be_evicted():
    # 10 x 16 of 160 tokens are used at 0, so a new prompt evicts them: 0.16 s more.
    for counts, chosen in ((True, 1), (False, 0)):
        router, fleet = preble(counts_eviction=counts, output_tokens=10)
        fleet.replicas[0].blocks = 10
        router.route(request(0, 160, LONG), 0)
        router.window.costs[1] = 0.2 * SECOND  # as if others had used 1
        router._score(1)
        assert router.route(request(1, 160, range(10)), 0) == chosen


def test_preble_moves_the_cheapest_prefixes_without_crossing():
    router, _ = preble(rebalance_after=1)
    for number, family in enumerate((1, 1, 2, 2, 3, 3)):
        start = 100 * family
        router.route(request(number, 160, range(start, start + 10)), 0)
    window = router.window
    shares = {one: group.share for one, group in window.groups.items()}
    for number in list(window.groups):
        for replica in list(window.groups[number].replicas):
            window.leave(number, replica)
        window.serve(number, 0)
    high = sum(shares.values())
    window.spread(0, 1, high, 0, 0, 2.0)
    # Three alike: one moves (3 -> 2 against 1); a second (2 >= 1 + 1) moves too; then 1 < 2 + 1.
    assert sorted(len(window.served[replica]) for replica in (0, 1)) == [1, 2]


def test_preble_serves_a_single_prefix_twice_if_it_slowed():
    for late, replicas in ((0.3, [0, 1]), (0.19, [0])):
        router, fleet = preble(rebalance_after=1, output_tokens=0)
        for number, (at, backlog) in enumerate(((1, 0.1), (2, 0.1), (170, late), (171, late))):
            fleet.replicas[0].prompt_tokens = round(backlog * 1000)
            router.route(request(number, 160, LONG), at * SECOND)
        group = router.window.groups[1]
        group.waits[0] = group.waits[0]._replace(ttft=SECOND // 10)
        router.balanced = 0
        router._rebalance(172 * SECOND)
        assert list(group.replicas) == replicas


def test_preble_forgets_a_replica_that_is_gone():
    router, fleet = preble()
    router.route(request(0, 160, LONG), 0)
    fleet.replicas[0].status = "down"
    router.changed(fleet.replicas[0], 0)
    assert router.route(request(1, 160, LONG), 0) == 1
    assert router.route(request(2, 160, LONG), 0) == 1
    assert router.window.served.keys() == {1}
