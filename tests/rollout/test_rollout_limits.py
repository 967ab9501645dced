"""Where a rollout is at a limit: of tokens, of turns, of its stretch, of its engine."""

import pytest
from rollout_bench import Bench, kinds

from sojourn.errors import UserError
from sojourn.rollout import actions as ac
from sojourn.rollout import events as ev
from sojourn.rollout import states as st


def test_the_limit_of_tokens_and_its_extension():
    bench = Bench(tokens_max=10)
    assert bench.first[0].max_new == 10
    (again,) = bench.output(ev.Finished, 10, "length", want=[ac.Extend(0, tokens=5)])
    assert (again.max_new, again.prefix_tokens) == (5, 10)
    assert kinds(bench.output(ev.Finished, 5, "length")) == ["End"]
    assert bench.status() == st.TRUNCATED
    assert bench.run.rollouts[0].decisions[0].kind == "extend"


def test_an_engine_that_stops_short_truncates():
    bench = Bench(tokens_max=10)
    bench.output(ev.Finished, 7, "length")
    assert bench.run.rollouts[0].end_reason == "limit of the engine"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308, "right", None])
def test_a_reward_that_is_no_number_is_refused_and_changes_nothing(value):
    bench = Bench(rollouts=2, tokens_max=10)
    bench.output(ev.Finished, 7, "stop")
    with pytest.raises(UserError, match=r"the reward of rollout 0 is .* finite number"):
        bench.machine.handle(ev.Rewarded(bench.run.time, 0, value, True))
    assert not bench.run.rewards.get(0)
    bench.machine.handle(ev.Rewarded(bench.run.time, 0, 1.0, True))
    assert bench.run.rewards[0][0].value == 1.0


def go_on_proposals():
    return [[ac.Resume(0)], [ac.Migrate(0, 1)], [ac.Abort(0, keep=True)], [ac.Resume(0)] * 2]


@pytest.mark.parametrize("want", go_on_proposals())
@pytest.mark.parametrize("kind", [ev.Finished, ev.TurnEnd, ev.Aborted])
def test_what_is_at_its_limit_does_not_go_on(want, kind):
    bench = Bench(engines=2, tokens_max=10)
    if kind is ev.Aborted:
        bench.want(ac.Abort(0, keep=True))
    more = ("length",) if kind is ev.Finished else ()
    assert "Submit" not in kinds(bench.output(kind, 10, *more, want=want))
    assert bench.status() == st.TRUNCATED
    assert bench.run.rollouts[0].end_reason == "limit of tokens"


@pytest.mark.parametrize("want", [*go_on_proposals(), [ac.Extend(0, tokens=5)]])
def test_what_its_engine_stopped_short_does_not_go_on(want):
    bench = Bench(engines=2, tokens_max=10)
    assert kinds(bench.output(ev.Finished, 7, "length", want=want)) == ["End"]
    assert bench.run.rollouts[0].end_reason == "limit of the engine"
    assert bench.run.refused == len({type(one) for one in want})


@pytest.mark.parametrize("want", go_on_proposals())
def test_what_is_parked_at_its_limit_of_turns_does_not_go_on(want):
    bench = Bench(engines=2, turns_max=2)
    bench.output(ev.TurnEnd, 4)
    bench.tell(ev.ToolReturn, 0, 3)
    assert "Submit" not in kinds(bench.output(ev.TurnEnd, 4, want=want))
    assert bench.run.rollouts[0].end_reason == "limit of turns"


def test_a_stretch_that_ends_parks_until_it_is_resumed():
    bench = Bench(tokens_max=10)
    bench.script.tokens = 4
    bench.output(ev.Aborted, 0)
    assert bench.run.rollouts[0].goal == 4
    assert bench.output(ev.Finished, 4, "length") == []
    assert bench.status() == st.PARKED
    assert bench.run.tokens.carried == 4
    (again,) = bench.want(ac.Resume(0))
    assert (again.prefix_tokens, again.max_new) == (4, 4)


def test_reports_are_asked_for_within_the_stretch():
    bench = Bench(tokens_max=10)
    bench.script.report_at = (0, 3, 9, 10, 20)
    (again,) = bench.output(ev.Aborted, 1)
    assert again.report_at == (3, 9)


def test_parking_beats_going_on_after_an_extension():
    bench = Bench(tokens_max=10)
    want = [ac.Extend(0, tokens=5), ac.Abort(0, keep=True)]
    assert bench.output(ev.Finished, 10, "length", want=want) == []
    assert bench.status() == st.PARKED
    assert kinds(bench.want(ac.Resume(0))) == ["Submit"]


def test_an_abort_that_lands_on_the_limit_truncates():
    bench = Bench(tokens_max=10)
    bench.want(ac.Abort(0, keep=True))
    bench.output(ev.Aborted, 10)
    assert bench.status() == st.TRUNCATED


def test_turns_and_their_tools():
    bench = Bench(turns_max=3)
    assert bench.output(ev.TurnEnd, 5) == []
    assert bench.status() == st.ACTING
    (again,) = bench.tell(ev.ToolReturn, 0, 7)
    assert (again.prefix_tokens, again.max_new) == (12, 16384 - 5)
    assert bench.tell(ev.ToolReturn, 0, 7) == [], "told twice"
    bench.output(ev.TurnEnd, 1)
    bench.tell(ev.ToolReturn, 0, 2)
    assert kinds(bench.output(ev.TurnEnd, 1)) == ["End"]
    assert bench.run.rollouts[0].end_reason == "limit of turns"
    bench.tell(ev.ToolReturn, 0, 2)
    assert bench.run.rollouts[0].length == 5 + 7 + 1 + 2 + 1
    assert bench.run.tokens.generated == 7
    assert bench.run.stale_events == 2


def test_turns_are_extended_where_the_limit_is_met():
    bench = Bench(turns_max=1)
    assert bench.output(ev.TurnEnd, 5, want=[ac.Extend(0, turns=1)]) == []
    assert bench.status() == st.ACTING


def test_parking_while_the_tool_runs():
    bench = Bench()
    bench.output(ev.TurnEnd, 5)
    bench.want(ac.Abort(0, keep=True))
    assert bench.status() == st.PARKED
    bench.want(ac.Resume(0))
    assert bench.status() == st.ACTING, "its tool has not answered"
    bench.want(ac.Abort(0, keep=True))
    assert bench.tell(ev.ToolReturn, 0, 3) == []
    assert bench.status() == st.PARKED
    (again,) = bench.want(ac.Resume(0))
    assert again.prefix_tokens == 8


def test_an_environment_ends_or_fails():
    for done, failed, status in ((True, False, st.FINISHED), (False, True, st.FAILED)):
        bench = Bench(rollouts=2)
        bench.output(ev.TurnEnd, 5)
        bench.tell(ev.ToolReturn, 0, 0, (), done, failed)
        assert bench.status() == status
