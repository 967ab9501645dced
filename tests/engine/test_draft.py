"""What a draft refuses: a refusal is a value and changes nothing."""

import pytest
from engine_hosts import Host

from sojourn.decide import states as st
from sojourn.decide.clock import NEVER
from sojourn.decide.request import Request
from sojourn.decide.slots import Mode, Refusal


class Composer:
    """Runs a test's own steps, one function a plan; decodes when there are none left."""

    needs = frozenset()
    contests = False
    alarm_step = NEVER

    def __init__(self, plans):
        self.plans = list(plans)
        self.answers = []

    def compose(self, draft):
        if self.plans:
            self.answers.append(self.plans.pop(0)(draft))
        else:
            draft.decode()


def answers(*plans, requests=((4, 9),), recipe="vllm"):
    """Return what each plan's function returned; all requests arrive at once."""
    host = Host(recipe)
    composer = Composer(plans)
    host.replica.machine.policies.compose = composer
    for id, (prompt, output) in enumerate(requests):
        host.submit(Request(id, 0, prompt), output)
    for _ in plans:
        host.step()
    return composer.answers


def seat(draft):
    head = draft.peek()
    return draft.grant(head, draft.remaining(head))


def test_more_tokens_than_the_step_has_left_are_refused():
    # A step has 16 tokens, the prompt 40.
    plan = lambda d: (d.grant(d.peek(), 17), d.grant(d.peek(), 16))  # noqa: E731
    assert answers(plan, requests=((40, 9),)) == [(Refusal.TOKENS, None)]


@pytest.mark.parametrize("tokens", [0, -1])
def test_no_tokens_are_refused(tokens):
    assert answers(lambda d: (d.grant(d.peek(), tokens), seat(d)))[0] == (Refusal.TOKENS, None)


def test_without_a_free_seat_a_newcomer_is_refused():
    # Three seats.
    refused = answers(lambda d: [seat(d) for _ in range(4)], requests=((2, 9),) * 4)
    assert refused == [[None, None, None, Refusal.SEAT]]


def test_without_blocks_a_newcomer_is_refused_and_the_draft_is_blocked():
    # 60 blocks of 2 tokens: the first chunk takes 4, and the other prompt needs 58.
    def plan(draft):
        first = draft.grant(draft.peek(), 8)
        return first, draft.grant(draft.peek(), 8), draft.blocked, draft.seats

    assert answers(plan, requests=((100, 9), (115, 1))) == [(None, Refusal.BLOCKS, True, 2)]


def test_only_a_paused_request_is_resumed_and_only_a_swapped_one_fetched():
    assert answers(lambda d: (d.resume(d.peek()), d.fetch(d.peek()), seat(d))) == [
        (Refusal.BUSY, Refusal.BUSY, None)
    ]


@pytest.mark.parametrize("mode", list(Mode))
def test_a_queued_request_has_no_seat_to_lose(mode):
    assert answers(lambda d: (d.unseat(d.peek(), mode), seat(d))) == [(Refusal.BUSY, None)]


def test_a_request_that_was_granted_tokens_keeps_its_seat_in_this_step():
    def plan(draft):
        head = draft.peek()
        return seat(draft), draft.unseat(head, Mode.KEEP), head.state

    assert answers(plan) == [(None, Refusal.BUSY, st.PREFILL)]


def test_a_decoding_request_is_granted_nothing():
    def later(draft):
        (request,) = draft.machine.seated.values()
        return draft.grant(request, 1), draft.decode()

    assert answers(seat, later) == [None, (Refusal.TOKENS, 1)]


def test_a_prompt_is_found_in_the_cache_less_its_last_token():
    host = Host("vllm")
    first = Request(0, 0, 4, prefix=(7, 8))
    second = Request(1, 0, 4, prefix=(7, 8))
    host.submit(first, 9)
    host.step()
    host.submit(second, 9)
    assert host.replica.draft.remaining(second) == 2


def test_more_than_there_is_to_compute_is_refused():
    assert answers(lambda d: (d.grant(d.peek(), 5), seat(d))) == [(Refusal.TOKENS, None)]


def test_a_second_grant_in_a_step_is_refused():
    def plan(draft):
        head = draft.peek()
        return draft.grant(head, 2), draft.grant(head, 2)

    assert answers(plan) == [(None, Refusal.TOKENS)]


def test_a_stream_is_resumed_only_if_its_next_token_has_a_block():
    def pause(draft):
        (request,) = draft.machine.seated.values()
        draft.unseat(request, Mode.KEEP)
        kept = draft.pool.free
        draft.pool.take(kept)
        refused = draft.resume(request), request.state, draft.blocked
        draft.pool.give(1)
        resumed = draft.resume(request)
        draft.pool.give(kept - 1)
        return refused, resumed, draft.decode()

    assert answers(seat, pause, recipe="fastserve") == [
        None,
        ((Refusal.BLOCKS, st.PAUSED, True), None, 1),
    ]


def test_a_paused_stream_is_resumed_not_granted_tokens():
    def pause(draft):
        (request,) = draft.machine.seated.values()
        draft.unseat(request, Mode.KEEP)
        return draft.grant(request, 1), request.state, draft.resume(request), draft.decode()

    assert answers(seat, pause, recipe="fastserve") == [None, (Refusal.TOKENS, st.PAUSED, None, 1)]


def test_decodes_without_tokens_for_all_of_them_are_not_granted():
    def full(draft):
        return draft.grant(draft.peek(), 16), draft.decode()

    assert answers(seat, full, requests=((4, 9), (30, 9))) == [None, (None, 0)]
