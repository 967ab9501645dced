"""Live migration, worked by hand: stages, downtime, aborts, links that are shared or cut."""

from dataclasses import replace

import pytest
from fleet_runs import LIMITS, design, group, run
from moving_placers import Script, placers_for_tests

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import SECOND, to_seconds
from sojourn.fleet.design import CRASH, CUT, SPOT, Fault, Link
from sojourn.policies import place
from tests.sim.sim_workloads import MILLISECOND, WHOLE, make

SLOW_LINK = Link(bytes_per_second=4e6)
"""Four tokens of a kilobyte in each step of `WHOLE`, a millisecond."""

A10 = Fitted(Coefficients(fixed=0.027, prefill_token=1.9e-4, decode=1e-4, context_token=1e-6))
"""Steps of about LLaMA-7B on an A10."""


def moved(rows, moves, *, groups=None, **more):
    """Run with the moves that the script says; return the simulation and its record."""
    given = {"default_link": SLOW_LINK, "last_blocks": 1, **more}
    groups = groups or (group(count=2, step_time=WHOLE, kv_token_bytes=1000),)
    with placers_for_tests():
        return run(make(rows), design(*groups, place=("scripted", Script(tuple(moves))), **given))


ONE = [(0.0, 32, 100, 0)]
AT_TEN = [(10 * MILLISECOND, 0, 1)]


def test_two_stages_by_hand():
    """32 + k - 1 tokens after k ms; 2 full blocks at 10 ms take 8 ms, then one more is left."""
    sim, record = moved(ONE, AT_TEN)
    (move,) = sim.moves.past
    assert (move.outcome, move.stages) == ("done", 2)
    assert move.began == 10 * MILLISECOND
    assert move.left == 19 * MILLISECOND  # the boundary after the first copy ended, at 18 ms
    assert move.bytes == 50 * 1000  # each token once
    assert move.ended == 19 * MILLISECOND + 18 * MILLISECOND // 4
    (row,) = record.fleet.moves
    assert row.down == 18 * MILLISECOND // 4
    assert record.requests.gap[0] == row.down + MILLISECOND  # and one step at the target
    assert record.requests.finish[0] == 100 * MILLISECOND + row.down
    assert record.requests.replica[0] == 1
    assert record.requests.recomputed_tokens[0] == 0


def test_tokens_flow_while_a_stage_is_copied():
    slow = Link(bytes_per_second=1e6)
    sim, record = moved([(0.0, 320, 400, 0)], AT_TEN, default_link=slow, most_stages=1)
    (move,) = sim.moves.past
    first = 320 * MILLISECOND
    assert move.left > move.began + first
    while_it_was_copied = (move.left - move.began) // MILLISECOND
    assert record.requests.gap[0] < (while_it_was_copied + 40) * MILLISECOND
    assert record.requests.gap[0] > while_it_was_copied * MILLISECOND  # what it decoded meanwhile
    assert record.requests.output_tokens[0] == 400


def downtimes(lengths, **more):
    """Return the move's downtime, and the longest pause of the stream, of each length alone."""
    limits = replace(LIMITS, num_gpu_blocks=851, max_model_len=8000, max_num_batched_tokens=8000)
    found = []
    for length in lengths:
        _, record = moved(
            [(0.0, length, 300, 0)],
            [(3 * SECOND, 0, 1)],
            groups=(group(count=2, limits=limits, step_time=A10, kv_token_bytes=524_288),),
            default_link=Link(bytes_per_second=8e9, latency=5 * MILLISECOND),
            **{"last_blocks": 16, **more},
        )
        (row,) = record.fleet.moves
        assert row.outcome == "done"
        found.append((to_seconds(row.down), to_seconds(int(record.requests.gap[0])), row.bytes))
    return found


LENGTHS = (500, 2000, 6000)


def test_downtime_is_flat_in_length_and_the_bytes_are_not():
    staged = downtimes(LENGTHS)
    pauses = [pause for _, pause, _ in staged]
    assert max(pauses) < 1.05 * min(pauses)
    assert max(down for down, _, _ in staged) < 0.010
    assert staged[2][2] > 9 * staged[0][2]


def test_one_copy_and_recomputing_grow_with_length():
    staged, one_copy = downtimes(LENGTHS), downtimes(LENGTHS, most_stages=0)
    assert one_copy[0][0] > 5 * staged[0][0]
    assert one_copy[2][0] > 40 * staged[2][0]
    for length, (_, pause, _), (down, _, _) in zip(LENGTHS, staged, one_copy, strict=True):
        copied = (length + 100) * 524_288 / 8e9
        assert down == pytest.approx(copied, rel=0.2)
        recomputed = to_seconds(A10.step(length, length * length // 2, 0, 1, 0, 0))
        assert recomputed > pause * (2 if length == 500 else 10)


def test_two_moves_share_the_port_that_both_leave_by():
    """The smaller one goes at half the rate; the larger one has the port alone after it."""
    rows = [(0.0, 64, 300, 0), (0.0001, 64, 300, 0)]
    together = 200 * MILLISECOND
    script = [(50 * MILLISECOND, 1, 0), (together, 0, 1), (together, 1, 2)]
    three = (group(count=3, step_time=WHOLE, kv_token_bytes=1000),)
    sim, _ = moved(rows, script, groups=three, most_stages=0)
    lone, *pair = sim.moves.past
    assert to_seconds(lone.ended - lone.left) == pytest.approx(lone.bytes / 4e6, rel=1e-6)
    assert {one.left for one in pair} == {together + MILLISECOND}
    small, large = sorted(one.bytes for one in pair)
    assert [to_seconds(one.ended - one.left) for one in pair] == pytest.approx(
        [2 * small / 4e6, (small + large) / 4e6], rel=1e-6
    )


def test_a_request_that_finishes_ends_its_move_at_once():
    sim, record = moved([(0.0, 160, 30, 0)], AT_TEN, default_link=Link(bytes_per_second=1e5))
    (move,) = sim.moves.past
    assert move.outcome == "its request ended"
    assert move.ended == record.requests.finish[0] == 30 * MILLISECOND
    assert record.requests.replica[0] == 0
    assert record.fleet.moves[0].down == -1


def test_a_request_that_loses_its_seat_ends_its_move():
    """8 blocks hold two requests of 40 tokens until 64; the later one yields, and comes back."""
    tight = replace(LIMITS, num_gpu_blocks=8, max_model_len=128)
    rows = [(0.0, 40, 60, 0), (0.0001, 1, 1, 0), (0.0002, 40, 60, 0)]
    sim, record = moved(
        rows,
        [(10 * MILLISECOND, 2, 1)],
        groups=(group(count=2, limits=tight, step_time=WHOLE, kv_token_bytes=1000),),
        default_link=Link(bytes_per_second=1e6),
    )
    (move,) = sim.moves.past
    assert move.outcome == "its request lost its seat"
    assert record.requests.preemptions[2] >= 1
    assert record.requests.replica[2] == 0


def test_a_target_without_room_refuses_and_the_stream_goes_on_unhurt():
    tight = replace(LIMITS, num_gpu_blocks=10, max_model_len=150)
    rows = [(0.0, 100, 40, 0), (0.0001, 100, 40, 0)]
    fleet = (group(count=2, limits=tight, step_time=WHOLE, kv_token_bytes=1000),)
    sim, record = moved(rows, AT_TEN, groups=fleet)
    (move,) = sim.moves.past
    assert move.outcome == "no room at the target"
    assert record.requests.gap.tolist() == [MILLISECOND, MILLISECOND]


LEFT = 19 * MILLISECOND


@pytest.mark.parametrize("time", [12 * MILLISECOND, LEFT + MILLISECOND])
@pytest.mark.parametrize("lost", ["source", "target"])
def test_the_loss_of_either_end(lost, time):
    """Before it left, the loss of the target costs nothing; after, it goes back to its KV."""
    fault = Fault(CRASH, time, replica=("source", "target").index(lost))
    sim, record = moved(ONE, AT_TEN, faults=(fault,))
    (move,) = sim.moves.past
    assert move.outcome == "an end was lost"
    assert record.requests.output_tokens[0] == 100
    assert record.requests.replica[0] == (1 if lost == "source" else 0)
    computed_again = record.requests.recomputed_tokens[0]
    if lost == "source":
        assert computed_again > 0
    else:
        assert computed_again == 0
        gap = record.requests.gap[0]
        assert gap == (MILLISECOND if time < LEFT else time + 1 + MILLISECOND - LEFT)


def test_a_source_lost_between_a_failed_move_and_the_way_back():
    """Both ends are lost within a picosecond: the request is computed anew elsewhere."""
    time = LEFT + MILLISECOND
    faults = (Fault(CRASH, time, replica=1), Fault(CRASH, time, replica=0))
    three = (group(count=3, step_time=WHOLE, kv_token_bytes=1000),)
    sim, record = moved(ONE, AT_TEN, groups=three, faults=faults)
    assert record.requests.replica[0] == 2
    assert record.requests.output_tokens[0] == 100
    assert sim.fleet_record.lost_requests == 1


def test_a_cut_link_holds_the_copy_until_it_is_mended():
    cut = Fault(CUT, 12 * MILLISECOND, group="replica", other="replica", duration=SECOND // 50)
    whole, _ = moved(ONE, AT_TEN)
    late, record = moved(ONE, AT_TEN, faults=(cut,))
    assert late.moves.past[0].outcome == "done"
    assert late.moves.past[0].left > whole.moves.past[0].left + 19 * MILLISECOND
    assert record.requests.output_tokens[0] == 100


def test_requests_leave_a_replica_that_drains_and_it_goes():
    notice = Fault(SPOT, 5 * MILLISECOND, replica=0, notice=80 * MILLISECOND)
    sim, record = moved(ONE, AT_TEN, faults=(notice,))
    assert sim.moves.past[0].outcome == "done"
    assert sim.fleet_record.lost_requests == 0
    assert record.requests.recomputed_tokens[0] == 0


def test_nobody_moves_to_a_replica_that_takes_nothing():
    notice = Fault(SPOT, 5 * MILLISECOND, replica=1, notice=80 * MILLISECOND)
    sim, _ = moved(ONE, AT_TEN, faults=(notice,))
    assert not sim.moves.past
    prefill = (
        group("decode", 1, role="mixed", step_time=WHOLE, kv_token_bytes=1000),
        group("prefill", 1, role="prefill", step_time=WHOLE, kv_token_bytes=1000),
        group("rest", 1, role="decode", step_time=WHOLE, kv_token_bytes=1000),
    )
    sim, _ = moved(ONE, AT_TEN, groups=prefill)
    assert not sim.moves.past


def test_what_a_policy_reads_of_running_requests_is_current():
    """While an engine jumps over many steps its requests have had their tokens all the same."""
    seen = []

    class Spy(Script):
        pass

    with placers_for_tests():
        _, scripted = place.TABLE["scripted"]

        class Watching(scripted):
            def rebalance(self, now):
                seen.extend((now, one.computed, one.decoded) for one in _running(self.fleet))
                return []

        place.TABLE["scripted"] = (Spy, Watching)
        run(
            make(ONE),
            design(group(count=1, step_time=WHOLE), place=("scripted", Spy())),
        )
    assert len(seen) > 90
    for now, computed, decoded in seen:
        ended = now // MILLISECOND
        assert (computed, decoded) == (32 + ended - 1, ended)


def test_who_came_with_kv_goes_before_who_waits_for_blocks():
    """Two that came hold over 100 of 200 blocks; the one before them in the queue needs 125."""
    rows = [
        (0.0, 16, 2, 0),
        (0.0, 1300, 90, 0),  # runs on replica 1 until both have come
        (0.0, 16, 2, 0),
        (0.001, 1990, 5, 0),  # the head of its queue
        (0.002, 800, 400, 0),
        (0.003, 16, 5, 0),
        (0.004, 800, 400, 0),
    ]
    moves = [(50 * MILLISECOND, 4, 1), (50 * MILLISECOND, 6, 1)]
    _, record = moved(rows, moves, default_link=Link(bytes_per_second=1e9))
    assert [one.outcome for one in record.fleet.moves] == ["done", "done"]
    assert record.reasons == ()
    assert record.requests.replica.tolist() == [0, 1, 0, 1, 1, 1, 1]
    gaps = record.requests.gap[[4, 6]]
    assert (gaps < 5 * MILLISECOND).all(), "they did not join the batch at once"
    assert record.requests.first_token[3] > record.requests.finish[[4, 6]].min()


def _running(fleet):
    return [one for replica in fleet.replicas for one in replica.running()]
