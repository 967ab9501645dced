"""Cancelling at step boundaries, in whatever state, gives everything back."""

import random
from collections import Counter

import pytest

from sojourn.cost import Coefficients, Fitted
from sojourn.decide import states as st
from sojourn.decide.clock import NEVER, SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.decide.machine import Machine
from sojourn.decide.request import Request
from sojourn.decide.slots import Services
from sojourn.engine.replica import Replica
from sojourn.recipes import load_recipe
from sojourn.sim.check import Invariants
from sojourn.sim.recorder import RunRecorder

COST = Fitted(Coefficients(fixed=0.01, prefill_token=0.001))
LIMITS = EngineLimits(
    num_gpu_blocks=60,
    block_size=2,
    max_num_seqs=3,
    max_num_batched_tokens=16,
    max_model_len=120,
    swap_blocks=200,
    block_tokens=2,
)


class Lengths:
    def __init__(self, replica):
        self.replica = replica

    def output_tokens(self, request):
        return self.replica.outputs[request.id]


class Host:
    """A replica driven step by step by a test, with invariants asserted."""

    def __init__(self, recipe, host="vllm"):
        self.now = 0
        self.ended = {}
        self.open = []
        machine = Machine(LIMITS)
        self.truth = Lengths(None)
        machine.install(load_recipe(recipe, host).build(Services(machine, COST, self.truth)))
        self.replica = Replica(0, machine, COST, self.end, RunRecorder(), SECOND // 200, 1)
        self.truth.replica = self.replica
        self.check = Invariants()

    def end(self, request, _now, reason):
        assert request.id not in self.ended, "ended twice"
        self.ended[request.id] = reason
        self.open.remove(request)

    def submit(self, request, output):
        self.open.append(request)
        self.replica.submit(request, output, self.now)

    def step(self, cancel=()):
        """Go to the next boundary, cancel there, and plan again."""
        if self.replica.steps:
            self.now = self.replica.advance()
        for request in cancel:
            if request in self.open:
                self.replica.cancel(request, self.now)
                self.check(self.replica)
        again = self.replica.begin(self.now)
        self.check(self.replica)
        if not self.replica.steps and again < NEVER:
            self.now = again


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
    for seed in range(12):
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
    assert {st.WAITING, st.PREFILL, st.DECODE} <= set(states)


def test_a_cancelled_request_is_reported_once_with_the_reason():
    host = Host("vllm")
    request = Request(0, 0, 4)
    host.submit(request, 50)
    host.step()
    host.step([request])
    host.step([request])
    assert host.ended == {0: "client gone"}
