from __future__ import annotations

import pytest
from sim_workloads import make

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.errors import UserError
from sojourn.recipes import load_recipe
from sojourn.sim.capacity import REQUESTS_MIN, capacity, mean_rate, repeat
from sojourn.sim.study import Fleet, Task, run_study, with_decisions

STEP = Fitted(Coefficients(fixed=0.01))
"""Every step takes 10 ms, whatever it does."""


def fleet(replicas=1, seats=1, **more):
    limits = EngineLimits(num_gpu_blocks=1000, max_num_seqs=seats, max_model_len=4000, **more)
    return Fleet(limits, STEP, replicas)


def even(count=50, gap=1.0, output=5):
    return make([(place * gap, 8, output, 0) for place in range(count)])


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("gap", [0.02, 1.0])
def test_one_seat_serves_one_request_per_service_time(replicas, gap):
    # Five steps of 10 ms each: the first token comes with the prefill.
    setup = fleet(replicas).built(load_recipe("vllm"))
    told = []
    found = capacity(even(gap=gap), setup, told.append)
    assert found.requests_per_second == pytest.approx(20.0 * replicas, rel=0.03)
    assert found.rate_scale == pytest.approx(found.requests_per_second * gap)
    assert tuple(told) == found.probes
    assert len(found.probes) < 15
    sustained = [p.rate_scale for p in found.probes if not p.grows]
    too_high = [p.rate_scale for p in found.probes if p.grows]
    assert max(sustained) == found.rate_scale
    assert min(too_high) <= found.rate_scale * 1.0101


def test_bursts_do_not_lower_the_rate_at_which_the_queue_grows():
    rows = [(place // 25 * 25.0, 8, 5, 0) for place in range(100)]
    found = capacity(make(rows), fleet().built(load_recipe("vllm")))
    assert found.requests_per_second == pytest.approx(20.0, rel=0.05)


def test_seats_raise_the_capacity_of_short_traces_too():
    found = capacity(even(count=10), fleet(seats=64).built(load_recipe("vllm")))
    assert found.requests_per_second == pytest.approx(64 * 20.0, rel=0.1)


def test_turns_of_sessions_wait_for_the_turn_before():
    following = [place + 1 if place % 2 == 0 else -1 for place in range(60)]
    rows = [(place // 2 * 1.0, 8, 5, 0) for place in range(60)]
    workload = make(rows, following=following, gap=[SECOND // 10] * 60)
    found = capacity(workload, fleet().built(load_recipe("vllm")))
    assert found.requests_per_second == pytest.approx(20.0, rel=0.05)
    assert mean_rate(workload) == pytest.approx(2.0)


def test_few_long_sessions_count_by_session():
    # Of 1000 requests in 20 sessions 1 % would be half of all that can ever wait.
    following = [place + 1 if place % 50 != 49 else -1 for place in range(1000)]
    rows = [(place // 50 * 10.0, 8, 5, 0) for place in range(1000)]
    found = capacity(make(rows, following=following), fleet().built(load_recipe("vllm")))
    assert found.requests_per_second == pytest.approx(20.0, rel=0.1)


def test_the_queue_grows_by_more_than_a_hundredth_of_a_pass():
    found = capacity(even(count=400), fleet().built(load_recipe("vllm")))
    allowed = 400 * -(-REQUESTS_MIN // 400) // 100
    for probe in found.probes:
        if probe.waiting_second is None:
            assert probe.waiting_first <= allowed
            assert not probe.grows
        else:
            assert probe.grows == (probe.waiting_second - probe.waiting_first > allowed)


def test_copies_have_their_own_sessions_and_prefixes():
    following = [1, -1, -1]
    workload = make(
        [(5.0, 32, 2, 0), (5.0, 32, 2, 0), (9.0, 32, 2, 1)],
        following=following,
        prefix=[(1, 2), (1, 2), (7,)],
        block_tokens=16,
    )
    twice = repeat(workload, 2)
    assert twice.arrival == [0, -1, 4 * SECOND, 8 * SECOND, -1, 12 * SECOND]
    assert twice.following == [1, -1, -1, 4, -1, -1]
    assert twice.program == [0, 0, -1, 1, 1, -1]
    assert twice.prefix == [(1, 2), (1, 2), (7,), (9, 10), (9, 10), (15,)]
    assert twice.span == 12 * SECOND


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([(0.0, 8, 5, 0)], "has one arrival, hence no rate to scale: give --rate-scale"),
        ([(1.0, 8, 5, 0)] * 3, "all 3 requests of trace 'case' arrive at one moment"),
        ([(0.0, 9000, 5, 0), (1.0, 9000, 5, 0)], "no request of trace 'case' can run"),
    ],
)
def test_workloads_without_a_capacity_say_so(rows, sentence):
    with pytest.raises(UserError) as error:
        capacity(make(rows), fleet().built(load_recipe("vllm")))
    assert sentence in str(error.value)


def finished(record):
    return record.recipe, record.load, int(record.requests.finish.max())


def tasks():
    return [Task(load_recipe(name), 8.0, load) for load in (0.5, 1.5) for name in ("vllm", "worst")]


def test_a_study_is_the_same_in_one_process_and_in_two():
    here = run_study(even(), fleet(), tasks(), finished, jobs=1)
    apart = run_study(even(), fleet(), tasks(), finished, jobs=2)
    assert here == apart
    assert here.complete
    assert [one[:2] for one in here.results] == [(t.recipe.name, t.load) for t in tasks()]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_keeps_what_had_ended(jobs):
    ended = []

    def told(task):
        ended.append(task)
        if len(ended) == 2:
            raise KeyboardInterrupt

    found = run_study(even(), fleet(), tasks(), finished, jobs=jobs, told=told)
    assert not found.complete
    assert len(found.results) == 2


def failing(record):
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bug_is_not_hidden(jobs):
    with pytest.raises(ZeroDivisionError):
        run_study(even(), fleet(), tasks(), failing, jobs=jobs)


def test_decisions_lengthen_every_step_by_the_same_time():
    from sojourn.catalog import load_gpu, load_model
    from sojourn.cost import Roofline

    for cost in (STEP, Roofline(load_model("llama-3.1-8b"), load_gpu("h100-sxm"))):
        longer = with_decisions(cost, 0.001)
        for step in ((0, 0, 0, 0, 4, 400), (64, 2080, 0, 1, 0, 0), (64, 2080, 0, 1, 4, 400)):
            assert longer.step(*step) - cost.step(*step) == pytest.approx(SECOND // 1000, abs=1)
        assert with_decisions(cost, 0.0) is cost


def test_a_fleet_refuses_what_it_cannot_be():
    with pytest.raises(UserError, match="--replicas is 0"):
        fleet(0)
    with pytest.raises(UserError, match="did you mean 'least_load'"):
        Fleet(fleet().limits, STEP, 1, "least_loaded")


class Steps(Fitted):
    """Step times of any size, which no coefficients give."""

    def __init__(self, seconds):
        super().__init__(Coefficients(fixed=1.0))
        self.seconds = seconds

    def dense_seconds(self, tokens):
        del tokens
        return self.seconds


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [
        (1e-13, "a step of one decode takes less than 1e-12 s"),
        (1e7, "a step of one decode takes 2305843 s or more"),
        (1e300, "a step of one decode takes 2305843 s or more"),
    ],
)
def test_steps_that_the_clock_cannot_tell_are_refused(seconds, sentence):
    with pytest.raises(UserError, match=sentence):
        Fleet(EngineLimits(num_gpu_blocks=100), Steps(seconds))
