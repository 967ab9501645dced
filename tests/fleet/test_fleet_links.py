"""Transfers that share ports, worked by hand: seconds and bytes are whole."""

import pytest

from sojourn.decide.clock import SECOND
from sojourn.fleet.design import Link
from sojourn.sim.fleet.links import Links

FAST = Link(bytes_per_second=100.0)


class Bench:
    """Links and a clock that rings what they ask for."""

    def __init__(self):
        self.calls, self.number, self.done = [], 0, {}
        self.links = Links(self.call)

    def call(self, time, what):
        self.number += 1
        self.calls.append((time, self.number, what))

    def at(self, seconds, what):
        self.call(round(seconds * SECOND), what)

    def start(self, name, seconds, source, target, size, link=FAST, blocks=0):
        def begin(now):
            ends = (source, "a"), (target, "b")
            done = lambda at: self.done.__setitem__(name, at / SECOND)  # noqa: E731
            self.done[name] = self.links.start(*ends, link, (size, blocks), now, done)

        self.at(seconds, begin)

    def run(self):
        while self.calls:
            self.calls.sort()
            time, _, what = self.calls.pop(0)
            what(time)
        assert not self.links.inside
        return self.done


def test_latency_setup_and_bytes_add_up():
    bench = Bench()
    link = Link(bytes_per_second=100.0, latency=SECOND, setup=2 * SECOND, block_setup=SECOND // 2)
    bench.start("a", 0, 0, 1, 300, link, blocks=4)
    assert bench.run() == {"a": 1 + 2 + 2 + 3}


def test_two_from_one_port_share_it_and_the_rest_is_fast():
    """Both at 50 from 0; `a` has 100 and ends at 2; `b` has 300 left of 400: 100 went, 5 in all."""
    bench = Bench()
    bench.start("a", 0, 0, 1, 100)
    bench.start("b", 0, 0, 2, 400)
    assert bench.run() == {"a": 2, "b": 5}


def test_strangers_share_nothing_but_the_whole_link():
    bench = Bench()
    bench.start("a", 0, 0, 1, 100)
    bench.start("b", 0, 2, 3, 100)
    assert bench.run() == {"a": 1, "b": 1}
    bench = Bench()
    tight = Link(bytes_per_second=100.0, total_bytes_per_second=120.0)
    bench.start("a", 0, 0, 1, 120, tight)
    bench.start("b", 1, 2, 3, 120, tight)  # a alone goes at 100: 20 are left at 1, and 60 each
    assert bench.run() == {"a": pytest.approx(4 / 3), "b": pytest.approx(1 + 1 / 3 + 1)}


def test_a_cut_keeps_the_bytes_that_went():
    bench = Bench()
    bench.start("a", 0, 0, 1, 100)
    bench.at(0.25, lambda now: bench.links.cut(("a", "b"), now))
    bench.at(0.5, lambda now: bench.links.cut(("a", "b"), now))
    bench.at(1.25, lambda now: bench.links.mend(("a", "b"), now))
    bench.at(2.25, lambda now: bench.links.mend(("a", "b"), now))
    assert bench.run() == {"a": 3.0}


def test_who_begins_during_a_cut_waits_and_who_is_cancelled_makes_room():
    bench = Bench()
    bench.start("a", 0.5, 0, 1, 100)
    bench.start("b", 0.5, 0, 2, 100)
    bench.at(0, lambda now: bench.links.cut(("a", "b"), now))
    bench.at(1, lambda now: bench.links.mend(("a", "b"), now))
    bench.at(2, lambda now: bench.links.cancel(bench.done["b"], now))  # 50 of each have gone
    assert bench.run()["a"] == 2.5


def test_a_transfer_of_nothing_ends_at_once():
    bench = Bench()
    bench.start("a", 3, 0, 1, 0)
    assert bench.run() == {"a": 3}
