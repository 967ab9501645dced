"""Virtual token counter."""

import pytest
from policy_runs import a_recipe, a_request, rows_of, services, simulate

from sojourn.decide.clock import NEVER
from sojourn.decide.states import DECODE, FINISHED, NEW, PREFILL, WAITING
from sojourn.errors import UserError
from sojourn.policies.order.vtc import UNIT, Config, Vtc

A, B, C = 0, 1, 2


class Counters:
    """A policy driven by hand; `served` in tokens at price 1."""

    def __init__(self, **values):
        self.services = services()
        self.order = Vtc(Config(**values), self.services)
        self.count = 0

    def arrive(self, tenant, prompt=10):
        self.count += 1
        request = a_request(self.count, prompt=prompt, tenant=tenant)
        self.order.moved(request, NEW, WAITING, 0)
        return request

    def seat(self, request):
        self.order.moved(request, WAITING, PREFILL, 0)

    def speak(self, request):
        self.order.moved(request, PREFILL, DECODE, 0)

    def tick(self, steps=1):
        self.services.view.ticks += steps

    def served(self, tenant):
        (served,) = self.order.group_key(tenant, 0)
        return served / UNIT


def test_a_prompt_is_charged_at_admission_and_each_token_when_it_comes():
    # 10 prompt tokens at 1, then 2 for the first token and 2 for each of three more.
    counters = Counters()
    request = counters.arrive(A)
    assert counters.served(A) == 0
    counters.seat(request)
    assert counters.served(A) == 10
    counters.speak(request)
    assert counters.served(A) == 12
    counters.tick(3)
    assert counters.served(A) == 18
    counters.order.moved(request, DECODE, FINISHED, 0)
    counters.tick(5)
    assert counters.served(A) == 18


def test_prices_are_parameters():
    counters = Counters(input_price=0.5, output_price=1.5)
    request = counters.arrive(A)
    counters.seat(request)
    counters.speak(request)
    assert counters.served(A) == 6.5


def test_a_tenant_that_comes_back_is_lifted_to_the_least_counter_of_those_queued():
    # A is served 10 + 2 and has more queued. B comes, is lifted to 12 and served 40 + 2 more.
    # Then C comes: the queued tenants are at 12 and 54, so it starts at 12.
    counters = Counters()
    for tenant, prompt in ((A, 10), (B, 40)):
        request = counters.arrive(tenant, prompt)
        counters.seat(request)
        counters.speak(request)
        counters.order.moved(request, DECODE, FINISHED, 0)
        counters.arrive(tenant)
    counters.arrive(C)
    assert [counters.served(t) for t in (A, B, C)] == [12, 54, 12]


def test_a_lift_never_lowers_a_counter():
    counters = Counters()
    request = counters.arrive(A)
    counters.arrive(B)
    counters.seat(request)
    counters.arrive(A)
    assert (counters.served(A), counters.served(B)) == (10, 0)


def test_a_queued_tenant_is_not_lifted_again():
    counters = Counters()
    counters.arrive(A)
    running = counters.arrive(B)
    counters.seat(running)
    counters.arrive(B)
    counters.arrive(A)
    assert counters.served(A) == 0


def test_a_tenant_is_lifted_also_when_nobody_is_queued():
    # A left the queue with 10; C comes to an empty queue.
    counters = Counters()
    counters.seat(counters.arrive(A))
    counters.arrive(C)
    assert counters.served(C) == 10


def test_the_released_code_does_not_lift_when_nobody_is_queued():
    counters = Counters(lift_when_idle=False)
    counters.seat(counters.arrive(A))
    counters.arrive(C)
    assert counters.served(C) == 0


def test_work_done_again_after_a_drop_is_not_charged_twice():
    counters = Counters()
    request = counters.arrive(A)
    counters.seat(request)
    counters.speak(request)
    request.drops += 1
    counters.order.moved(request, DECODE, WAITING, 0)
    counters.seat(request)
    assert counters.served(A) == 12


def test_the_head_holds_until_another_counter_may_be_the_lower_one():
    # A has 12 and gains 2 a step; B, queued, has 0 + 13 and gains none: after floor(1/2) steps
    # A may be overtaken. The head with the slower counter holds for good.
    counters = Counters()
    request = counters.arrive(A)
    counters.arrive(B, 13)
    counters.seat(request)
    counters.speak(request)
    more_a = counters.arrive(A)
    counters.order.accounts[B].served = 33 * UNIT
    more_b = counters.arrive(B)
    assert counters.order.holds(more_a, 0) == ((33 - 12) // 2, NEVER)
    assert counters.order.holds(more_b, 0) == (NEVER, NEVER)


def test_two_tenants_alternate_by_service_on_one_seat():
    # Prompts of 10, 5 tokens each: a request costs 10 + 5 x 2 = 20. A sends four at 0, B two.
    # Counters (A, B): A first (0, 0) -> 20, B -> 20, tie to A -> 40, B -> 40, A, A.
    rows = rows_of(*((0, 10, 5, A),) * 4, *((0, 10, 5, B),) * 2)
    outcome = simulate(rows, a_recipe(order="vtc"), max_num_seqs=1)
    assert outcome.entered("prefill") == [0, 4, 1, 5, 2, 3]


def test_the_tenant_with_cheap_requests_gets_more_of_them():
    # A's request costs 10 + 2 = 12, B's 2 + 2 = 4. From (0, 0): A 12, B 4, B 8, B 12, then the
    # tie goes to A, 24.
    rows = rows_of(*((0, 10, 1, A),) * 2, *((0, 2, 1, B),) * 4)
    outcome = simulate(rows, a_recipe(order="vtc"), max_num_seqs=1)
    assert outcome.entered("prefill") == [0, 2, 3, 4, 1, 5]


def test_admission_checks_memory_as_the_engine_does():
    # 10 tokens of memory. Both prompts of 4 are admitted at 0, although at their last tokens they
    # will hold 4 + 4 each: the paper's peak over future lengths would have kept row 1 out.
    rows = rows_of((0, 4, 5, A), (0, 4, 5, B))
    outcome = simulate(rows, a_recipe(order="vtc"), num_gpu_blocks=10)
    assert [move for move in outcome.moves if move[0] == 0 and move[2] == "prefill"] == [
        (0.0, 0, "prefill"),
        (0.0, 1, "prefill"),
    ]
    assert outcome.record.requests.preemptions.tolist() == [0, 1]


def test_fails_when_the_head_of_the_line_blocks_all():
    # A's first request fills most of the memory; its second does not fit beside it. A is still
    # the least served when only its prompt counts: B's tiny request waits behind it.
    rows = rows_of((0, 60, 9, B), (1, 60, 1, A), (1.5, 1, 1, B))
    outcome = simulate(rows, a_recipe(order="vtc"), num_gpu_blocks=100)
    assert outcome.first[2] == outcome.first[1] == 10


def test_fails_when_the_gap_is_bounded_by_the_largest_request_only():
    # A's one request of 200 tokens is admitted on equal counters: a gap of 200 at once.
    counters = Counters()
    large = counters.arrive(A, 200)
    counters.arrive(B, 1)
    counters.seat(large)
    assert counters.served(A) - counters.served(B) == 200


@pytest.mark.parametrize("name", ["input_price", "output_price"])
def test_parameters_out_of_range_are_refused(name):
    with pytest.raises(UserError, match=rf"^order.{name} is -0.5; it must be 0 or more$"):
        Config(**{name: -0.5})
