"""A log that a switch of the mode begins says what was decided since then, not since the start."""

from types import SimpleNamespace

from sojourn.vllm.counters import Counters
from sojourn.vllm.tallies import Tallies


def test_a_later_log_counts_from_its_own_beginning():
    counters, tallies = Counters(), Tallies()
    first, second = SimpleNamespace(), SimpleNamespace()
    for _ in range(5):
        counters.step("shadow", 0.25)
    tallies.tell(first, counters, 2.0)
    assert (first.decisions, first.decision_seconds, first.caller_seconds) == (5, 1.25, 2.0)
    tallies.begin()
    counters.step("act", 0.5)
    tallies.tell(second, counters, 2.5)
    assert (second.decisions, second.decision_seconds, second.caller_seconds) == (1, 0.5, 0.5)
    assert first.decisions == 5


def test_steps_in_which_nothing_is_decided_do_not_count():
    counters, tallies, log = Counters(), Tallies(), SimpleNamespace()
    counters.step("off", 0.0)
    counters.step("act", 0.1)
    tallies.tell(log, counters, 0.0)
    assert log.decisions == 1


def test_without_a_log_nothing_is_told():
    Tallies().tell(None, Counters(), 1.0)
