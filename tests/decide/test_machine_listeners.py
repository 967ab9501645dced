"""Fleet and rollout events reach those that subscribe; what they ask for reaches the host."""

import pytest
from machines import a_machine, arrive, in_state

from sojourn.decide import events
from sojourn.decide import states as st
from sojourn.decide.actions import Abort, Migrate, Release, Scale, SetRole, Submit
from sojourn.decide.request import Request

SOMEBODY = Request(77, 0, 4)
FLEET = [
    events.ToolReturn(9, 3),
    events.TransferDone(9, SOMEBODY, 0, 1),
    events.ReplicaUp(9, 1, "mixed"),
    events.ReplicaDown(9, 1, 5),
    events.RoleChanged(9, 1, "prefill"),
    events.LoadReport(9, 8, 1, 2, 3, 400, 5),
    events.WeightsPending(9, 2),
    events.WeightsLive(9, 2),
    events.GroupClosed(9, 6),
    events.FirstToken(9, SOMEBODY),
]


def machine():
    return a_machine(order="skip_join_mlfq")


@pytest.mark.parametrize("event", FLEET, ids=lambda event: type(event).__name__)
def test_a_fleet_event_reaches_its_subscribers_and_their_actions_the_host(event):
    mine, heard = machine(), []
    answer = Migrate(SOMEBODY, 2)

    def listen(told):
        heard.append(told)
        return [answer]

    mine.subscribe(type(event), listen)
    assert mine.handle(event) == [answer]
    assert heard == [event]


@pytest.mark.parametrize("event", FLEET, ids=lambda event: type(event).__name__)
def test_a_fleet_event_without_subscribers_asks_for_nothing(event):
    assert list(machine().handle(event)) == []


def test_only_events_of_the_kind_subscribed_to_are_heard():
    mine, heard = machine(), []
    mine.subscribe(events.ReplicaDown, lambda event: heard.append(event) or ())
    mine.handle(events.ReplicaUp(9, 1, "mixed"))
    assert heard == []


def test_listeners_answer_in_order_of_subscription():
    mine = machine()
    mine.subscribe(events.GroupClosed, lambda _event: [Abort(SOMEBODY, True)])
    mine.subscribe(events.GroupClosed, lambda _event: [Scale("h100", -1)])
    assert mine.handle(events.GroupClosed(9, 6)) == [Abort(SOMEBODY, True), Scale("h100", -1)]


def test_a_listener_also_hears_what_the_machine_acts_on_itself():
    mine = machine()
    request = in_state(mine, st.DECODE)
    mine.subscribe(events.Finish, lambda _event: [SetRole(0, "decode")])
    assert mine.handle(events.Finish(9, request)) == [Release(request, 4), SetRole(0, "decode")]


def test_the_first_token_is_announced_once():
    mine, heard = machine(), []
    mine.subscribe(events.FirstToken, lambda event: heard.append(event) or [Submit(SOMEBODY, 1, 0)])
    request = arrive(mine)
    mine.seat(request, 1)
    actions = mine.handle(events.StepEnd(2, 1, False, ((request, 4),)))
    assert heard == [events.FirstToken(2, request)]
    assert actions == [Submit(SOMEBODY, 1, 0)]
    mine.handle(events.StepEnd(3, 1, True, ()))
    assert len(heard) == 1
