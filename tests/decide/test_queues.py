"""The heaps behind an order, against sorting at every step."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.decide.limits import STALE_ENTRIES
from sojourn.decide.queues import GroupedQueue, RankedQueue
from sojourn.decide.request import Request

ids = st.integers(0, 6)
steps = st.lists(
    st.tuples(st.sampled_from(["push", "discard", "worsen", "peek"]), ids, st.integers(0, 5)),
    min_size=10,
    max_size=60,
)
SETTINGS = settings(max_examples=150, deadline=None)


def requests(count=10):
    """Ten requests; arrivals tie in pairs."""
    return [Request(id, id // 2, 1, tenant=id % 3) for id in range(count)]


@SETTINGS
@given(steps=steps)
def test_a_heap_whose_keys_worsen_by_themselves_agrees_with_sorting(steps):
    keys = dict.fromkeys(range(10), 0)
    everybody, inside = requests(), {}
    queue = RankedQueue(lambda request, _now: (keys[request.id],), worsens=True)
    for what, id, amount in steps:
        request = everybody[id]
        if what == "push":
            queue.push(request, 0)
            inside[id] = request
        elif what == "discard":
            queue.discard(request)
            inside.pop(id, None)
        elif what == "worsen":
            keys[id] += amount
        expected = min(inside.values(), key=lambda r: (keys[r.id], r.arrival, r.id), default=None)
        assert queue.peek(0) is expected
        assert len(queue) == len(inside)


@SETTINGS
@given(steps=steps)
def test_a_heap_of_keys_that_move_on_events_agrees_with_sorting(steps):
    keys = dict.fromkeys(range(10), 0)
    everybody, inside = requests(), {}
    queue = RankedQueue(lambda request, _now: (keys[request.id],))
    for what, id, amount in steps:
        request = everybody[id]
        if what == "push":
            keys[id] = amount  # better or worse: whoever is pushed again gets a new key
            queue.push(request, 0)
            inside[id] = request
        elif what == "discard":
            queue.discard(request)
            inside.pop(id, None)
        expected = min(inside.values(), key=lambda r: (keys[r.id], r.arrival, r.id), default=None)
        assert queue.peek(0) is expected


@SETTINGS
@given(steps=steps)
def test_a_grouped_queue_is_the_best_group_first_and_fifo_inside(steps):
    keys = dict.fromkeys(range(3), 0)
    everybody, lines = requests(), {group: [] for group in range(3)}
    queue = GroupedQueue(lambda r: r.tenant, lambda group, _now: (keys[group],))
    for what, id, amount in steps:
        request = everybody[id]
        line = lines[request.tenant]
        if what == "push" and request not in line:
            queue.push(request, 0)
            line.insert(0 if request.admitted >= 0 else len(line), request)
            request.admitted = 0  # if it is pushed again, it comes back after running
        elif what == "discard":
            queue.discard(request)
            if request in line:
                line.remove(request)
        elif what == "worsen":
            keys[request.tenant] += amount
        groups = [group for group in range(3) if lines[group]]
        best = min(groups, key=lambda group: (keys[group], group), default=None)
        assert queue.peek(0) is (None if best is None else lines[best][0])
        assert len(queue) == sum(map(len, lines.values()))


def test_a_key_that_worsened_is_believed_only_when_it_reaches_the_top():
    asked = []
    keys = {0: 0, 1: 1, 2: 9}

    def key(request, now):
        asked.append(request.id)
        return (keys[request.id],)

    queue = RankedQueue(key, worsens=True)
    for request in requests(3):
        queue.push(request, 0)
    asked.clear()
    keys[0] = 5
    assert queue.peek(0).id == 1
    assert asked == [0, 1]  # the third one was not looked at


def test_a_request_pushed_again_leaves_no_ghost():
    keys = {0: 0, 1: 1}
    queue = RankedQueue(lambda request, _now: (keys[request.id],))
    first, second = requests(2)
    queue.push(first, 0)
    queue.push(second, 0)
    keys[0] = 2
    queue.push(first, 0)
    assert queue.peek(0) is second
    queue.discard(second)
    assert queue.peek(0) is first
    queue.discard(first)
    assert queue.peek(0) is None


def test_stale_entries_are_bounded():
    # One request pushed 10,000 times, always better: its old entries sink and are never popped.
    keys = [0]
    queue = RankedQueue(lambda _request, _now: (keys[0],))
    (request,) = requests(1)
    for _ in range(10_000):
        keys[0] -= 1
        queue.push(request, 0)
        assert len(queue.heap) <= 2 * len(queue) + STALE_ENTRIES
    assert queue.peek(0) is request


def test_stale_entries_of_a_heap_that_empties_are_bounded_by_what_it_held():
    queue = RankedQueue(lambda request, _now: (-request.id,))
    everybody = [Request(id, 0, 1) for id in range(500)]
    for request in everybody:
        queue.push(request, 0)
    for request in everybody[:-1]:
        queue.discard(request)
    assert len(queue.heap) <= 500
    assert queue.peek(0) is everybody[-1]


def test_a_request_that_comes_back_after_running_goes_to_the_front_of_its_group():
    queue = GroupedQueue(lambda _r: 0, lambda _group, _now: (0,))
    first, second, third = requests(3)
    queue.push(first, 0)
    queue.push(second, 0)
    queue.discard(first)
    first.admitted = 5
    queue.push(third, 0)
    queue.push(first, 0)
    order = []
    while (head := queue.peek(0)) is not None:
        order.append(head.id)
        queue.discard(head)
    assert order == [0, 1, 2]


def test_a_pushed_request_of_a_group_is_not_queued_twice():
    queue = GroupedQueue(lambda r: r.tenant, lambda _group, _now: (0,))
    (request,) = requests(1)
    queue.push(request, 0)
    queue.push(request, 0)
    queue.discard(request)
    assert queue.peek(0) is None
    assert len(queue) == 0


def test_discarding_what_is_not_there_does_nothing():
    request = requests(1)[0]
    ranked = RankedQueue(lambda _r, _now: ())
    grouped = GroupedQueue(lambda r: r.tenant, lambda _group, _now: ())
    for queue in (ranked, grouped):
        queue.discard(request)
        assert queue.peek(0) is None
