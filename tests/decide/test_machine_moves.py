"""The machine as events in, actions out: every legal move happens, no other does."""

import pytest
from machines import (
    AFTER_ARRIVAL,
    HOLD,
    a_machine,
    arrive,
    delayed,
    in_state,
    rejected,
    snapshot,
    to_decode,
    to_prefill,
)

from sojourn.decide import events
from sojourn.decide import states as st
from sojourn.decide.actions import (
    DelayUntil,
    Drop,
    HoldUntil,
    Pause,
    Reject,
    Release,
    Swap,
)
from sojourn.decide.machine import IllegalMove
from sojourn.decide.slots import Mode, Yield
from sojourn.decide.states import NAMES, TRANSITIONS

MOVES = {}


def story(*moves):
    """Say which moves a test shows to happen; the last test compares them with the table."""

    def mark(test):
        MOVES.update(dict.fromkeys(moves, test.__name__))
        return test

    return mark


def made(machine):
    return [(start, finish) for _, _, start, finish in machine.story]


def contested(**slots):
    """A machine whose order has standings, so that seats may be contested."""
    return a_machine(order="skip_join_mlfq", victim="proactive_swap", **slots)


@story(
    (st.NEW, st.WAITING),
    (st.WAITING, st.PREFILL),
    (st.PREFILL, st.DECODE),
    (st.DECODE, st.FINISHED),
)
def test_a_request_is_queued_seated_computed_and_finished():
    machine = contested()
    request = arrive(machine, prompt=4)
    assert machine.seat(request, 1) == ()
    assert machine.handle(events.StepEnd(2, 1, False, ((request, 3),))) == []
    assert (request.computed, request.decoded, request.state) == (3, 0, st.PREFILL)
    machine.handle(events.StepEnd(3, 1, False, ((request, 1),)))
    assert (request.computed, request.decoded, machine.decodes) == (4, 1, 1)
    machine.handle(events.StepEnd(9, 5, True, ()))
    assert list(machine.handle(events.Finish(9, request))) == [Release(request, 9)]
    assert (request.decoded, machine.decodes, machine.ticks, machine.steps) == (6, 0, 5, 7)
    assert made(machine) == [(0, 2), (2, 3), (3, 4), (4, 10)]


@story((st.NEW, st.DELAYED), (st.DELAYED, st.DELAYED), (st.DELAYED, st.WAITING))
def test_an_arrival_put_off_is_asked_about_again_when_the_moment_comes():
    machine = contested()
    machine.policies.admit.verdicts += [delayed(10), delayed(20)]
    request = arrive(machine)
    assert request.state == st.DELAYED
    assert len(machine.queue) == 0
    assert machine.next_alarm() == 10
    assert machine.handle(events.Timer(9)) == []
    assert machine.handle(events.Timer(10)) == [DelayUntil(request, 20)]
    assert machine.next_alarm() == 20
    assert machine.handle(events.Timer(25)) == []
    assert request.state == st.WAITING
    assert made(machine) == [(0, 1), (1, 1), (1, 2)]


@story((st.NEW, st.REJECTED), (st.DELAYED, st.REJECTED))
def test_an_arrival_may_be_shed_at_once_or_later():
    machine = contested()
    machine.policies.admit.verdicts += [rejected, delayed(10), rejected]
    first = in_state(machine, st.NEW)
    assert machine.handle(events.Arrival(0, first)) == (Reject(first, "because"),)
    later = arrive(machine, 1)
    assert machine.handle(events.Timer(10)) == [Reject(later, "because")]
    assert made(machine) == [(0, 11), (0, 1), (1, 11)]


@story((st.PREFILL, st.PAUSED), (st.PAUSED, st.PREFILL))
def test_a_begun_prompt_is_paused_and_resumed():
    machine = contested()
    request = in_state(machine, st.PREFILL)
    assert machine.unseat(Yield(request, Mode.KEEP), 2) == Pause(request)
    assert (len(machine.paused), len(machine.parked), len(machine.queue)) == (1, 1, 1)
    machine.seat(request, 3)
    assert (request.state, request.pauses) == (st.PREFILL, 1)
    assert (len(machine.paused), len(machine.parked), len(machine.queue)) == (0, 0, 0)


@story((st.DECODE, st.PAUSED), (st.PAUSED, st.DECODE))
def test_a_stream_is_paused_and_resumed_with_its_tokens_settled():
    machine = contested()
    request = in_state(machine, st.DECODE)
    machine.handle(events.StepEnd(3, 7, True, ()))
    assert machine.unseat(Yield(request, Mode.KEEP), 3) == Pause(request)
    assert (request.computed, request.decoded) == (4 + 7, 1 + 7)
    machine.seat(request, 4)
    assert (request.state, machine.decodes, request.joined) == (st.DECODE, 1, machine.ticks)


@story((st.PREFILL, st.WAITING), (st.DECODE, st.WAITING), (st.PAUSED, st.WAITING))
@pytest.mark.parametrize("state", [st.PREFILL, st.DECODE, st.PAUSED])
def test_a_drop_gives_all_tokens_back_and_computes_the_output_again(state):
    machine = contested()
    request = in_state(machine, state)
    tokens, decoded = request.computed, request.decoded
    assert machine.unseat(Yield(request, Mode.DROP), 9) == Drop(request, tokens)
    assert (request.state, request.computed, request.drops) == (st.WAITING, 0, 1)
    assert request.target == request.prompt + decoded
    assert request.peak == tokens


def test_tokens_computed_again_are_counted_up_to_the_peak_only():
    # 4 prompt tokens and 3 more computed, dropped: of the 4 + 4 of the new target 7 are repeats.
    machine = contested()
    request = in_state(machine, st.DECODE)
    machine.handle(events.StepEnd(3, 3, True, ()))
    machine.unseat(Yield(request, Mode.DROP), 3)
    machine.seat(request, 4)
    machine.handle(events.StepEnd(5, 1, False, ((request, 5),)))
    machine.handle(events.StepEnd(6, 1, False, ((request, 3),)))
    assert (request.recomputed, request.computed, request.decoded) == (7, 8, 5)


@story(
    (st.PAUSED, st.SWAPPING_OUT),
    (st.SWAPPING_OUT, st.SWAPPED),
    (st.SWAPPED, st.SWAPPING_IN),
    (st.SWAPPING_IN, st.PAUSED),
)
def test_a_paused_request_is_swapped_out_and_back():
    machine = contested()
    request = in_state(machine, st.PAUSED)
    assert machine.unseat(Yield(request, Mode.SWAP), 4) == Swap(request)
    assert len(machine.queue) == 0
    assert machine.handle(events.SwapDone(5, request)) == ()
    assert (request.state, len(machine.queue)) == (st.SWAPPED, 1)
    machine.fetch(request, 6)
    assert (request.state, len(machine.queue)) == (st.SWAPPING_IN, 0)
    machine.handle(events.SwapDone(7, request))
    assert (request.state, len(machine.queue), request.pauses) == (st.PAUSED, 1, 1)


def test_a_copy_that_ends_after_a_cancellation_changes_nothing():
    machine = contested()
    request = in_state(machine, st.SWAPPING_OUT)
    machine.handle(events.Cancel(5, request))
    assert machine.handle(events.SwapDone(6, request)) == ()
    assert request.state == st.CANCELLED


@story((st.DECODE, st.HELD), (st.HELD, st.FINISHED))
def test_held_kv_expires():
    machine = contested()
    request = in_state(machine, st.DECODE, program=3)
    assert machine.handle(events.Finish(3, request)) == (HoldUntil(request, 3 + HOLD),)
    assert machine.next_alarm() == 3 + HOLD
    assert machine.handle(events.Timer(2 + HOLD)) == []
    assert machine.handle(events.Timer(3 + HOLD)) == [Release(request, 4)]
    assert (request.state, machine.held) == (st.FINISHED, {})


def test_held_kv_is_released_by_force_before_anybody_yields():
    machine = contested()
    held = in_state(machine, st.HELD)
    running = arrive(machine, 1)
    to_decode(machine, running)
    assert machine.handle(events.MemoryPressure(9, running)) == (Release(held, 4),)
    assert (held.state, running.state) == (st.FINISHED, st.DECODE)
    assert machine.handle(events.Timer(99)) == []  # its expiry is void


def test_the_oldest_held_kv_is_released_first():
    machine = contested()
    first, second = (arrive(machine, id, program=id) for id in (0, 1))
    for request in (second, first):
        to_decode(machine, request)
        machine.handle(events.Finish(3, request))
    assert machine.handle(events.MemoryPressure(9, None)) == (Release(second, 4),)


def test_held_kv_is_released_when_the_next_turn_gets_its_seat():
    machine = contested()
    held = in_state(machine, st.HELD)
    other, mine = arrive(machine, 1, program=4), arrive(machine, 2, program=3)
    assert list(machine.seat(other, 5)) == []
    assert list(machine.seat(mine, 5)) == [Release(held, 4)]


def test_under_pressure_the_victim_slot_is_asked():
    machine = a_machine(order="skip_join_mlfq")
    first, second = (arrive(machine, id) for id in (0, 1))
    for request in (first, second):
        to_decode(machine, request)
    (drop,) = machine.handle(events.MemoryPressure(9, first))
    assert drop == Drop(second, second.peak)


class Nobody:
    """A victim policy that names nobody."""

    needs = frozenset()
    keep_free = 0

    def victim(self, _pressure, _wants, _now):
        return None

    def prepare(self, _pressure, _free_blocks):
        return None


def test_if_the_policy_names_nobody_the_last_seated_makes_room_for_a_seated_one():
    machine = contested()
    machine.policies.victim = Nobody()
    first, second = (arrive(machine, id) for id in (0, 1))
    for request in (first, second):
        to_prefill(machine, request)
    machine.granted.add(second.id)
    assert machine.handle(events.MemoryPressure(9, first)) == (Drop(first, 0),)
    machine.granted.clear()
    assert machine.handle(events.MemoryPressure(9, second)) == (Drop(second, 0),)


def test_if_the_policy_names_nobody_the_worst_paused_makes_room_for_a_paused_one_only():
    machine = contested()
    machine.policies.victim = Nobody()
    first, second = (arrive(machine, id) for id in (0, 1))
    for request in (first, second):
        to_decode(machine, request)
        machine.unseat(Yield(request, Mode.KEEP), 3)
    newcomer = arrive(machine, 2)
    assert machine.handle(events.MemoryPressure(9, newcomer)) == ()
    (drop,) = machine.handle(events.MemoryPressure(9, first))
    assert drop == Drop(second, second.peak)


def test_nobody_makes_room_for_itself_or_for_a_newcomer_beside_seated_ones():
    machine = contested()
    machine.policies.victim = Nobody()
    paused = in_state(machine, st.PAUSED)
    assert machine.handle(events.MemoryPressure(9, paused)) == ()
    seated, newcomer = arrive(machine, 1), arrive(machine, 2)
    to_prefill(machine, seated)
    assert machine.handle(events.MemoryPressure(9, newcomer)) == ()


def swap_everybody(machine):
    """Let the victim slot propose to swap the worst paused request out."""

    class Swapper(Nobody):
        def victim(self, pressure, _wants, _now):
            return Yield(pressure.worst_paused(), Mode.SWAP)

    machine.policies.victim = Swapper()


def test_a_swap_that_does_not_fit_into_host_memory_is_not_made():
    # 4 tokens in blocks of one.
    machine = contested()
    swap_everybody(machine)
    paused, newcomer = in_state(machine, st.PAUSED), arrive(machine, 1)
    running = arrive(machine, 2)
    to_prefill(machine, running)
    machine.swap_room = 3
    assert machine.handle(events.MemoryPressure(9, newcomer)) == ()
    machine.swap_room = 4
    assert machine.handle(events.MemoryPressure(9, newcomer)) == (Swap(paused),)


MOVABLE = tuple(range(st.DELAYED, st.HELD))


@story(*((state, st.NEW) for state in MOVABLE))
@pytest.mark.parametrize("state", MOVABLE, ids=lambda state: NAMES[state])
def test_a_request_can_go_to_another_replica_with_its_tokens(state):
    machine, other = contested(), contested()
    request = in_state(machine, state)
    resident = state in (st.PREFILL, st.DECODE, st.PAUSED, st.SWAPPING_OUT, st.SWAPPING_IN)
    tokens = request.computed
    assert list(machine.handle(events.Depart(9, request))) == [
        Release(request, tokens if resident else 0)
    ]
    assert request.state == st.NEW
    assert (request.computed, request.peak) == (0, tokens)
    assert request.target == request.prompt + request.decoded
    assert not machine.seated
    assert not machine.partials
    assert len(machine.queue) == len(machine.paused) == len(machine.parked) == 0
    other.handle(events.Arrival(9, request))
    assert machine.handle(events.Timer(10**6)) == []
    assert request.state == st.WAITING


CANCELLABLE = tuple(range(st.NEW, st.HELD))


@story(*((state, st.CANCELLED) for state in CANCELLABLE))
@pytest.mark.parametrize("state", CANCELLABLE, ids=lambda state: NAMES[state])
def test_a_request_can_be_cancelled_in_every_state_before_its_end(state):
    machine = contested()
    request = in_state(machine, state)
    resident = state in (st.PREFILL, st.DECODE, st.PAUSED, st.SWAPPING_OUT, st.SWAPPING_IN)
    tokens = request.computed if resident else 0
    assert list(machine.handle(events.Cancel(9, request))) == [Release(request, tokens)]
    assert request.state == st.CANCELLED
    assert not machine.seated
    assert not machine.partials
    assert machine.decodes == 0
    assert len(machine.queue) == len(machine.paused) == len(machine.parked) == 0
    assert machine.handle(events.Timer(10**6)) == []


def test_a_cancelled_stream_gives_back_also_the_tokens_it_has_decoded():
    machine = contested()
    request = in_state(machine, st.DECODE)
    machine.handle(events.StepEnd(3, 7, True, ()))
    assert list(machine.handle(events.Cancel(9, request))) == [Release(request, 4 + 7)]


@pytest.mark.parametrize("state", [st.HELD, st.FINISHED, st.REJECTED, st.CANCELLED])
def test_a_cancellation_after_the_end_changes_nothing(state):
    machine = contested()
    request = in_state(machine, state)
    before = snapshot(machine, request)
    assert machine.handle(events.Cancel(9, request)) == ()
    assert snapshot(machine, request) == before


def test_every_legal_move_is_shown_to_happen():
    assert set(MOVES) == set(TRANSITIONS)


@pytest.mark.parametrize("start", range(len(NAMES)), ids=NAMES)
def test_any_other_move_is_refused_with_the_story_and_changes_nothing(start):
    for finish in range(len(NAMES)):
        if (start, finish) in TRANSITIONS:
            continue
        machine = contested()
        request = in_state(machine, start)
        before = snapshot(machine, request)
        with pytest.raises(IllegalMove) as refusal:
            machine._move(request, finish, 9)
        told = str(refusal.value)
        assert told.startswith(f"request 0: {NAMES[start]} -> {NAMES[finish]} after [")
        for time, _, came, went in machine.story:
            assert f"{NAMES[came]} -> {NAMES[went]} at {time}" in told
        assert snapshot(machine, request) == before


ILLEGAL = {
    "arrive twice": (st.WAITING, lambda m, r: m.handle(events.Arrival(9, r))),
    "finish while queued": (st.WAITING, lambda m, r: m.handle(events.Finish(9, r))),
    "pause while queued": (st.WAITING, lambda m, r: m.unseat(Yield(r, Mode.KEEP), 9)),
    "swap while seated": (st.DECODE, lambda m, r: m.unseat(Yield(r, Mode.SWAP), 9)),
    "drop while queued": (st.WAITING, lambda m, r: m.unseat(Yield(r, Mode.DROP), 9)),
    "drop while held": (st.HELD, lambda m, r: m.unseat(Yield(r, Mode.DROP), 9)),
    "fetch while paused": (st.PAUSED, lambda m, r: m.fetch(r, 9)),
    "seat twice": (st.PREFILL, lambda m, r: m.seat(r, 9)),
    "seat before arrival": (st.NEW, lambda m, r: m.seat(r, 9)),
    "seat while swapped": (st.SWAPPED, lambda m, r: m.seat(r, 9)),
}


@pytest.mark.parametrize("name", list(ILLEGAL))
def test_an_illegal_demand_is_refused_and_changes_nothing(name):
    state, demand = ILLEGAL[name]
    machine = contested()
    request = in_state(machine, state)
    before = snapshot(machine, request)
    with pytest.raises(IllegalMove):
        demand(machine, request)
    assert snapshot(machine, request) == before


def test_each_state_can_be_brought_about():
    assert {*AFTER_ARRIVAL, st.NEW, st.DELAYED, st.REJECTED} == set(range(len(NAMES)))
