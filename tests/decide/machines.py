"""A machine with scripted admission, and requests brought into any state by events."""

from __future__ import annotations

from sojourn.cost import Coefficients, Fitted
from sojourn.decide import events
from sojourn.decide import states as st
from sojourn.decide.actions import DelayUntil, Reject
from sojourn.decide.limits import EngineLimits
from sojourn.decide.machine import Machine, Policies
from sojourn.decide.request import Request
from sojourn.decide.slots import Mode, Services, Yield
from sojourn.policies.tables import SLOTS

LIMITS = EngineLimits(num_gpu_blocks=1000, block_size=1, max_num_seqs=64, max_model_len=1000)
HOLD = 50


class Scripted:
    """Admits as told: verdicts are used up one by one, then everything is accepted."""

    needs = frozenset()

    def __init__(self):
        self.verdicts = []

    def admit(self, request, _queued, _now):
        return self.verdicts.pop(0)(request) if self.verdicts else None


class HoldPrograms:
    """Holds requests of a program for HOLD picoseconds."""

    needs = frozenset()

    def until(self, request, now):
        return now + HOLD if request.program >= 0 else now


def a_machine(order="fcfs", compose="contest", victim="lowest_rank", limits=LIMITS):
    """Return a machine and its scripted admission; where seats are contested the order must too."""
    machine = Machine(limits)
    services = Services(machine, Fitted(Coefficients(fixed=1.0)))
    made = {
        slot: SLOTS[slot][name][1](SLOTS[slot][name][0](), services)
        for slot, name in (("order", order), ("compose", compose), ("victim", victim))
    }
    machine.install(Policies(admit=Scripted(), retain=HoldPrograms(), **made))
    return machine


def arrive(machine, id=0, prompt=4, now=0, **fields):
    """Let a request arrive; return it."""
    request = Request(id, now, prompt, **fields)
    machine.handle(events.Arrival(now, request))
    return request


def to_prefill(machine, request, now=1):
    machine.seat(request, now)


def to_decode(machine, request, now=2):
    to_prefill(machine, request)
    grant = (request, request.target - request.computed)
    machine.handle(events.StepEnd(now, 1, machine.decodes > 0, (grant,)))


def to_paused(machine, request):
    to_decode(machine, request)
    machine.unseat(Yield(request, Mode.KEEP), 3)


def to_swapping_out(machine, request):
    to_paused(machine, request)
    machine.unseat(Yield(request, Mode.SWAP), 4)


def to_swapped(machine, request):
    to_swapping_out(machine, request)
    machine.handle(events.SwapDone(5, request))


def to_swapping_in(machine, request):
    to_swapped(machine, request)
    machine.fetch(request, 6)


def to_held(machine, request):
    request.program = 3
    to_decode(machine, request)
    machine.handle(events.Finish(3, request))


def to_finished(machine, request):
    to_decode(machine, request)
    machine.handle(events.Finish(3, request))


def to_cancelled(machine, request):
    machine.handle(events.Cancel(1, request))


AFTER_ARRIVAL = {
    st.WAITING: lambda _machine, _request: None,
    st.PREFILL: to_prefill,
    st.DECODE: to_decode,
    st.PAUSED: to_paused,
    st.SWAPPING_OUT: to_swapping_out,
    st.SWAPPED: to_swapped,
    st.SWAPPING_IN: to_swapping_in,
    st.HELD: to_held,
    st.FINISHED: to_finished,
    st.CANCELLED: to_cancelled,
}
"""How an accepted request gets into each state."""


def in_state(machine, state, **fields):
    """Return a request in a state, brought there by events."""
    if state == st.NEW:
        return Request(0, 0, 4, **fields)
    if state in (st.DELAYED, st.REJECTED):
        kind = {st.DELAYED: delayed(10), st.REJECTED: rejected}[state]
        machine.policies.admit.verdicts.append(kind)
        return arrive(machine, **fields)
    request = arrive(machine, **fields)
    AFTER_ARRIVAL[state](machine, request)
    assert request.state == state
    return request


def delayed(until):
    return lambda request: DelayUntil(request, until)


def rejected(request):
    return Reject(request, "because")


def snapshot(machine, request):
    """Return all that a refused move must leave as it was."""
    fields = {name: getattr(request, name) for name in Request.__slots__}
    return (
        fields,
        list(machine.queue.live),
        list(machine.seated),
        list(machine.partials),
        list(machine.held),
        list(machine.paused.live),
        list(machine.parked.live),
        machine.decodes,
        machine.steps,
        machine.ticks,
        machine.seatings,
        list(machine.story),
    )
