"""Words that cross each other: abort, finish, resume, engine loss, rewards."""

import pytest
from rollout_bench import Bench, kinds

from sojourn.policies.allocate import fixed
from sojourn.rollout import actions as ac
from sojourn.rollout import events as ev
from sojourn.rollout import states as st
from sojourn.rollout.machine import RolloutMachine
from sojourn.rollout.model import Piece
from sojourn.rollout.plan import Plan
from sojourn.rollout.slots import Setting


def test_a_rollout_from_submission_to_training():
    bench = Bench(rollouts=2)
    assert kinds(bench.first) == ["Submit", "Submit"]
    assert (bench.first[0].rid, bench.first[0].attempt, bench.first[0].max_new) == (0, 1, 16384)
    bench.output(ev.Progress, 5)
    assert kinds(bench.output(ev.Finished, 3)) == ["End"]
    bench.output(ev.Finished, 4, rid=1)
    assert bench.tell(ev.Rewarded, 0, 1.0) == []
    train, over = bench.tell(ev.Rewarded, 1, 0.0)
    assert over == ac.GroupOver(0, "trained")
    group = train.groups[0]
    assert group.result.rewards == [1.0, 0.0]
    assert group.advantages[0] == -group.advantages[1] == pytest.approx(2**-0.5, rel=1e-5)
    assert bench.run.tokens.trained == bench.run.tokens.generated == 12


def test_finish_crosses_an_abort_that_keeps():
    bench = Bench()
    assert kinds(bench.want(ac.Abort(0, keep=True))) == ["Abort"]
    bench.output(ev.Finished, 5)
    assert bench.status() == st.FINISHED
    bench.output(ev.Aborted, 0)
    assert bench.status() == st.FINISHED
    assert bench.run.stale_events == 1


def test_finish_crosses_an_abort_that_discards():
    bench = Bench(rollouts=2)
    bench.want(ac.Abort(0, keep=False))
    bench.output(ev.Finished, 5)
    assert bench.status() == st.PRUNED
    assert bench.run.tokens.discarded == 5


def test_a_resume_before_the_abort_is_answered():
    bench = Bench()
    bench.want(ac.Abort(0, keep=True))
    assert bench.want(ac.Resume(0)) == []
    (again,) = bench.output(ev.Aborted, 7)
    assert (again.attempt, again.prefix_tokens, again.max_new) == (2, 7, 16384 - 7)


def test_discard_beats_keep_whichever_comes_first():
    for order in ((True, False), (False, True)):
        bench = Bench(rollouts=2)
        assert kinds(bench.want(ac.Abort(0, order[0]))) == ["Abort"]
        assert bench.want(ac.Abort(0, order[1])) == [], "the engine is asked once"
        bench.output(ev.Aborted, 3)
        assert bench.status() == st.PRUNED


def test_the_strongest_of_several_proposals_holds():
    bench = Bench(rollouts=2, engines=2)
    bench.want(ac.Extend(0, tokens=5), ac.Migrate(0, 1), ac.Abort(0, True), ac.Abort(0, False))
    assert bench.run.rollouts[0].stop == "discard"
    assert bench.run.rollouts[0].token_limit == 16384
    bench.want(ac.Extend(1, tokens=5), ac.Migrate(1, 0), ac.Abort(1, True))
    assert bench.run.rollouts[1].stop == "keep"
    assert bench.run.rollouts[1].destination == -1
    assert bench.run.rollouts[1].token_limit == 16389, "a limit may be moved beside parking"


def test_migration_is_abort_and_resume_elsewhere():
    bench = Bench(engines=2)
    assert bench.first[0].engine == 0
    assert kinds(bench.want(ac.Migrate(0, 1))) == ["Abort"]
    (again,) = bench.output(ev.Aborted, 4)
    assert (again.engine, again.prefix_tokens) == (1, 4)
    assert bench.want(ac.Migrate(0, 1)) == []
    assert bench.run.refused == 1, "it is there already"


def test_an_abort_nobody_asked_for_loses_nothing():
    bench = Bench()
    (again,) = bench.output(ev.Aborted, 4)
    assert again.prefix_tokens == 4
    assert bench.run.tokens.in_flight == 4


def test_an_engine_is_lost_with_what_it_never_told():
    bench = Bench(engines=2)
    bench.output(ev.Progress, 6)
    (again,) = bench.tell(ev.EngineLost, 0, 9)
    assert (again.engine, again.prefix_tokens, again.attempt) == (1, 6, 2)
    tokens = bench.run.tokens
    assert (tokens.generated, tokens.in_flight, tokens.discarded) == (15, 6, 9)
    bench.output(ev.Finished, 8, attempt=1)
    assert bench.status() == st.RUNNING, "a late word of the first attempt"
    assert (tokens.generated, tokens.discarded, tokens.late) == (23, 17, 17)
    bench.output(ev.Finished, 1)
    assert bench.status() == st.FINISHED


def test_an_engine_is_lost_while_an_abort_is_under_way():
    for keep, status in ((True, st.PARKED), (False, st.PRUNED)):
        bench = Bench(rollouts=2)
        bench.want(ac.Abort(0, keep))
        bench.tell(ev.EngineLost, 0)
        assert bench.status() == status
        assert bench.status(1) == st.PENDING


def test_without_engines_rollouts_wait_for_one():
    bench = Bench()
    assert bench.tell(ev.EngineLost, 0) == []
    (again,) = bench.tell(ev.EngineUp, 1)
    assert again.engine == 1
    assert bench.run.rollouts[0].waited == 1


def test_an_engine_that_loads_weights_takes_nothing():
    bench = Bench()
    bench.tell(ev.WeightsPending, 1)
    assert bench.output(ev.Aborted, 2) == []
    (again,) = bench.tell(ev.WeightsLive, 1)
    assert again.prefix_tokens == 2


def test_weights_change_in_flight_and_spans_say_so():
    bench = Bench()
    bench.output(ev.Progress, 4)
    bench.tell(ev.WeightsPending, 1)
    bench.tell(ev.WeightsLive, 1)
    bench.tell(ev.Finished, 0, 1, 4, (Piece(2, 0), Piece(3, 1)), "stop")
    assert bench.run.rollouts[0].spans() == [(0, 6), (1, 3)]
    (train, _) = bench.tell(ev.Rewarded, 0, 1.0)
    assert train.stale_tokens == 6


def test_a_rollout_never_goes_back_to_older_weights():
    bench = Bench(engines=2)
    bench.tell(ev.WeightsLive, 1, 0)
    bench.output(ev.Progress, 4, version=1)
    bench.tell(ev.EngineLost, 0)
    assert bench.status() == st.PENDING, "engine 1 has older weights"
    (again,) = bench.tell(ev.WeightsLive, 1, 1)
    assert again.engine == 1
    with pytest.raises(AssertionError, match="versions only go up"):
        bench.output(ev.Progress, 1, version=0)


def test_output_is_told_once_and_whole():
    for start in (0, 9):
        bench = Bench()
        bench.output(ev.Progress, 4)
        with pytest.raises(AssertionError, match="output from"):
            bench.tell(ev.Progress, 0, 1, start, (Piece(1, 0),))


def test_closing_keeps_what_has_ended():
    bench = Bench(rollouts=3)
    bench.output(ev.Finished, 5)
    bench.tell(ev.Rewarded, 0, 1.0)
    assert kinds(bench.want(ac.Close(0, "enough"))) == ["Abort", "Abort"]
    bench.output(ev.Aborted, 2, rid=1)
    done = bench.output(ev.Aborted, 3, rid=2)
    assert kinds(done) == ["End", "Train", "GroupOver"]
    tokens = bench.run.tokens
    assert (tokens.trained, tokens.discarded, tokens.in_flight) == (5, 5, 0)
    train = done[1]
    assert train.groups[0].subset.indices == (0,)
    assert train.groups[0].advantages == (0.0,), "a group of one teaches nothing"


def test_a_group_without_rewards_is_given_up_and_replaced():
    bench = Bench(rollouts=2)
    bench.output(ev.Finished, 5, "error")
    done = bench.output(ev.Finished, 5, "error", rid=1)
    assert kinds(done) == ["End", "GroupOver", "Submit", "Submit"]
    assert bench.run.ledger.accepted == 0
    assert bench.run.tokens.discarded == 10


def test_a_reward_before_the_end_and_one_after_training():
    bench = Bench()
    bench.tell(ev.Rewarded, 0, 0.5, False)
    assert bench.output(ev.Finished, 5) == [ac.End(0, "finished")], "the reward is not final"
    assert kinds(bench.tell(ev.Rewarded, 0, 1.0)) == ["Train", "GroupOver"]
    assert bench.tell(ev.Rewarded, 0, 0.0) == []
    assert bench.run.stale_events == 0
    bench.tell(ev.Rewarded, 99, 0.0)
    assert bench.run.stale_events == 1


def test_a_revised_reward_holds_until_the_group_is_trained():
    bench = Bench(rollouts=2)
    bench.output(ev.Finished, 5)
    bench.tell(ev.Rewarded, 0, 1.0)
    bench.tell(ev.Rewarded, 0, 0.25)
    bench.output(ev.Finished, 5, rid=1)
    train = bench.tell(ev.Rewarded, 1, 0.0)[0]
    assert train.groups[0].result.rewards == [0.25, 0.0]


def test_a_fork_shares_tokens_and_pays_from_the_budget():
    bench = Bench(rollouts=2)
    bench.output(ev.Finished, 6)
    assert bench.want(ac.Fork(0, 4, 77)) == []
    assert bench.run.refused == 1, "the budget is spent"
    bench.run.budget += 1
    bench.run.plan = Plan(rollouts_per_group=3, batch_groups=1, staleness_versions=3)
    (child,) = bench.want(ac.Fork(0, 4, 77))
    assert (child.rid, child.prefix_tokens, child.max_new) == (2, 5, 16384 - 5)
    segments = bench.run.rollouts[2].segments
    assert [(one.kind, one.tokens, one.chosen) for one in segments] == [
        ("forked", 4, []),
        ("forked", 1, [0]),
    ]
    assert segments[1].trainable_mask() == [False]
    assert segments[1].chosen_mask() == [True]
    assert bench.run.tokens.generated == 6, "shared tokens are generated once"


def test_proposals_about_nobody_are_refused():
    bench = Bench()
    bench.want(
        ac.Abort(9, True), ac.Resume(8), ac.Fork(7, 0), ac.Extend(6), ac.Migrate(5, 0), ac.Close(4)
    )
    assert bench.run.refused == 6
    bench.want(ac.Resume(0), ac.Migrate(0, 7), ac.Extend(0, tokens=-1))
    assert bench.run.refused == 9


def test_illegal_moves_are_bugs():
    bench = Bench()
    with pytest.raises(st.IllegalMove, match="from running to truncated"):
        bench.run.enter(bench.run.rollouts[0], st.TRUNCATED)
    with pytest.raises(st.IllegalMove, match="from open to trained"):
        bench.run.enter_group(bench.run.groups[0], st.TRAINED)


def test_time_only_goes_forward():
    bench = Bench()
    with pytest.raises(AssertionError, match="forward"):
        bench.machine.handle(ev.Tick(0))


def test_a_run_begins_where_training_stood():
    bench = Bench(groups_max=50, staleness_versions=0, batch_groups=3)
    other = RolloutMachine(bench.plan, bench.run.prompts, bench.run.policies)
    other.begin_at(7)
    assert (other.run.version, other.run.step, other.run.admission) == (7, 7, 3)


def test_parking_a_rollout_that_was_to_migrate():
    bench = Bench(engines=2)
    bench.want(ac.Migrate(0, 1))
    assert bench.want(ac.Abort(0, keep=True)) == []
    assert bench.output(ev.Aborted, 4) == []
    assert bench.status() == st.PARKED
    assert bench.run.rollouts[0].destination == -1


def test_young_groups_do_not_take_the_places_of_slow_ones():
    """η = 2 and one group a batch: of three opened at version 0 one is due at 0, 1 and 2 each."""
    bench = Bench(staleness_versions=2)
    bench.script.eager = True
    assert [one.rid for one in bench.want()] == [1, 2]
    bench.output(ev.Finished, 5)
    assert kinds(bench.tell(ev.Rewarded, 0, 1.0)) == ["Train", "GroupOver"]
    assert [one.rid for one in bench.tell(ev.WeightsLive, 1)] == [3]
    bench.tell(ev.BatchWanted)
    bench.output(ev.Finished, 5, rid=3)
    assert bench.tell(ev.Rewarded, 3, 1.0) == [], "two older ones and two batches are left"
    bench.output(ev.Finished, 5, rid=2)
    train = bench.tell(ev.Rewarded, 2, 1.0)[0]
    assert [one.result.group.uid for one in train.groups] == [2]


class Together(fixed.Fixed):
    """Asks about groups that were opened together only when all of them have ended."""

    together = True


@pytest.mark.parametrize("closes", [True, False])
def test_groups_that_are_asked_about_together_settle_together(closes):
    bench = Bench(batch_groups=2)
    allocate = Together(fixed.Config(), Setting(bench.plan, bench.run.prompts, None))
    bench.run.policies = bench.run.policies._replace(allocate=allocate)
    bench.output(ev.Finished, 5)
    bench.tell(ev.Rewarded, 0, 1.0)
    assert not bench.run.usable, "the other one has not ended"
    if closes:
        bench.want(ac.Close(1))
        bench.output(ev.Aborted, 3, rid=1)
        assert bench.run.usable == 1
        assert len(bench.run.open_groups) == 1, "one that replaces the closed one"
    else:
        bench.output(ev.Finished, 5, rid=1)
        assert kinds(bench.tell(ev.Rewarded, 1, 0.0)) == ["Train", "GroupOver", "GroupOver"]
