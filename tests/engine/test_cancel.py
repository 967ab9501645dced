"""Cancelling at step boundaries, in whatever state, gives everything back."""

import random
from collections import Counter

import pytest
from engine_hosts import Host

from sojourn.decide import states as st
from sojourn.decide.request import Request


def a_crowd(rng, count=16):
    for id in range(count):
        prompt = rng.randint(1, 40)
        shared = rng.randint(0, 6)
        prefix = tuple(i if i < shared else 100 * (id + 1) + i for i in range(prompt // 2))
        yield Request(id, 0, prompt, tenant=id % 3, prefix=prefix), rng.randint(1, 30)


RECIPES = [
    ("vllm", "vllm"),
    ("vllm-v0", "vllm"),
    ("slo-edf", "vllm"),
    ("fastserve", "vllm"),
    ("fastserve", "ideal"),
    ("srpt-clairvoyant", "vllm"),
    ("worst", "vllm"),
    ("vtc", "vllm"),
]


@pytest.mark.parametrize(("recipe", "name"), RECIPES)
def test_cancelling_everybody_gives_everything_back(recipe, name):
    states = Counter()
    for seed in range(30):
        rng = random.Random(seed)
        host = Host(recipe, name)
        for request, output in a_crowd(rng):
            host.submit(request, output)
        for _ in range(rng.randint(1, 40)):
            gone = [r for r in host.open if rng.random() < 0.03]
            states.update(request.state for request in gone)
            host.step(gone)
        states.update(request.state for request in host.open)
        host.step(list(host.open))
        while host.replica.host.copies:
            host.step()
        replica = host.replica
        assert len(host.ended) == 16
        assert replica.pool.free == replica.pool.total
        assert (replica.host.used, replica.host.outgoing) == (0, 0)
        assert replica.context == 0
        assert not any(replica.phases)
    swaps = {st.PAUSED, st.SWAPPING_OUT, st.SWAPPED, st.SWAPPING_IN}
    expected = {st.WAITING, st.PREFILL, st.DECODE} | (swaps if name == "ideal" else set())
    assert expected <= set(states)


def test_a_cancelled_request_is_reported_once_with_the_reason():
    host = Host("vllm")
    request = Request(0, 0, 4)
    host.submit(request, 50)
    host.step()
    host.step([request])
    host.step([request])
    assert host.ended == {0: "client gone"}


def test_the_output_length_of_a_cancelled_request_is_forgotten():
    host = Host("vllm")
    request = Request(0, 0, 4)
    host.submit(request, 50)
    host.step()
    host.step([request])
    assert host.replica.outputs == {}


def test_a_request_can_be_cancelled_before_the_machine_has_heard_of_it():
    # Under vtc an arrival inside a step waits for the boundary, where it is cancelled.
    host = Host("vtc")
    first, second = Request(0, 0, 4), Request(1, 0, 4)
    host.submit(first, 50)
    host.step()
    host.submit(second, 5)
    host.step([second])
    assert host.ended == {1: "client gone"}


def test_blocks_of_a_cancelled_copy_are_not_counted_twice():
    for seed in range(40):
        rng = random.Random(seed)
        host = Host("fastserve", "ideal")
        for request, output in a_crowd(rng):
            host.submit(request, output)
        for _ in range(40):
            host.step([r for r in host.open if r.state == st.SWAPPING_OUT and rng.random() < 0.3])
            pool, memory = host.replica.pool, host.replica.host
            leaving = [copy[2] for copy in memory.copies if copy[2].state == st.SWAPPING_OUT]
            assert memory.outgoing == sum(pool.blocks_at(r, r.computed) for r in leaving)
