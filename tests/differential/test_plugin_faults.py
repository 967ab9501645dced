"""Whatever a policy, a client or an operator does, our scheduler class serves on."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from random import Random
from types import SimpleNamespace

import pytest
from plan_families import FAMILIES, make_case

from sojourn.decide.states import DECODE
from sojourn.policies.compose.stall_free import StallFree
from sojourn.recipes import load_recipe, recipe_names

pytestmark = [
    pytest.mark.skipif(
        find_spec("vllm") is None,
        reason="vllm is not installed here; its CPU build is enough to drive its scheduler",
    ),
    pytest.mark.filterwarnings("ignore"),  # vLLM's and PyTorch's own, not ours
]

RECIPES = [name for name in recipe_names() if load_recipe(name).deployable]
SHAPES = ((16, 4, 32), (8, 8, 64), (16, 16, 128))
HOLDING = """
summary = "Holds what returns"
[order]
policy = "{order}"
[compose]
policy = "{compose}"
[victim]
policy = "{victim}"
[retain]
policy = "fixed_ttl"
hold_seconds = 0.05
"""


def some_case(seed, family=None):
    random = Random(f"faults {seed}")
    kind = family or random.choice(list(FAMILIES))
    memory = random.choice(("minimal", "tight", "ample"))
    return make_case(kind, seed, random.choice(SHAPES), memory, random.random() < 0.8)


def make_engine(case, settings, lag=False):
    stub = import_module("plugin_stub")
    if lag:
        return stub.LagEngine(case, stub.make_ours(case, settings))
    return stub.PluginEngine(case, settings)


def each_step(engine, act):
    """Call `act(scheduler)` before each step."""
    name = "_launch" if hasattr(engine, "flying") else "_step"
    step = getattr(engine, name)

    def acted(*args):
        act(engine.scheduler)
        return step(*args)

    setattr(engine, name, acted)


def assert_nothing_left(engine, case, gone=()):
    """Assert that every request ended once and every block is free."""
    scheduler = engine.scheduler
    unserved = [row for row, end in enumerate(engine.finish) if end < 0 and row not in gone]
    assert not unserved
    scheduler._free_all_held()
    assert not scheduler.requests
    assert engine.pool.get_num_free_blocks() == case.limits.num_gpu_blocks
    assert not scheduler.parked
    assert not scheduler.holding
    assert not scheduler.shed
    assert not len(scheduler.waiting)
    assert scheduler.get_request_counts() == (0, 0)
    assert not scheduler.recording.lives
    assert not scheduler.recording.prompts
    if scheduler.host is not None:
        machine = scheduler.host.machine
        assert not scheduler.host.by_id
        assert not machine.seated
        assert not machine.decodes
        assert not len(machine.queue)
        assert not len(machine.paused)
        assert scheduler.host.context == 0
        assert not any(scheduler.host.phases)


@pytest.mark.parametrize("lag", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_cancelled_at_random_moments(recipe, lag):
    for seed in range(8):
        case = some_case(seed)
        engine = make_engine(case, {"recipe": recipe}, lag)
        random = Random(seed)
        gone = set()

        def cancel(scheduler, random=random, gone=gone):
            if scheduler.requests and random.random() < 0.15:
                name = random.choice(list(scheduler.requests))
                status = import_module("vllm.v1.request").RequestStatus.FINISHED_ABORTED
                if scheduler.finish_requests(name, status):
                    gone.add(int(name))

        each_step(engine, cancel)
        engine.run()
        assert gone
        assert not engine.scheduler.counters.errors
        assert_nothing_left(engine, case, gone)


@pytest.fixture
def glances(monkeypatch):
    """Look at each request of the steps that the host takes in at a glance; return how many."""
    host, steps, seen = *map(import_module, ("sojourn.vllm.host", "sojourn.vllm.steps")), []

    def looked(output, machine):
        told = steps.only_decodes(output, machine)
        if told:
            scheduled = output.num_scheduled_tokens
            decoding = [one for one in machine.seated.values() if one.state == DECODE]
            assert {one.vllm.request_id for one in decoding} == set(scheduled)
            assert set(scheduled.values()) <= {1}
            assert steps.lagging_of(scheduled, machine) == []
        seen.append(told)
        return told

    monkeypatch.setattr(host, "only_decodes", looked)
    return seen


@pytest.mark.parametrize("lag", [False, True], ids=["sync", "async"])
def test_modes_switch_while_serving(lag, glances):
    for seed in range(12):
        case = some_case(seed)
        engine = make_engine(case, {"recipe": RECIPES[seed % len(RECIPES)]}, lag)
        random = Random(seed)

        def switch(scheduler, random=random):
            if random.random() < 0.1:
                scheduler.settings.mode.given = random.choice(("act", "shadow", "off"))

        each_step(engine, switch)
        engine.run()
        assert not engine.scheduler.counters.errors
        assert len(engine.scheduler.counters.steps) == 3
        assert_nothing_left(engine, case)
    assert sum(glances) > 50
    assert sum(glances) < len(glances)


@pytest.mark.parametrize("lag", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("slot", "method"),
    [
        ("order", "key"),
        ("order", "moved"),
        ("order", "ring"),
        ("compose", "compose"),
        ("victim", "victim"),
        ("retain", "until"),
        ("admit", "admit"),
    ],
)
def test_a_failing_policy_never_stops_serving(slot, method, lag):
    failed = 0
    for seed in range(6):
        case = some_case(seed, "preempting" if method == "victim" else None)
        engine = make_engine(case, {"recipe": ("fastserve", "vllm")[seed % 2]}, lag)
        random = Random(seed)

        def sabotage(scheduler, random=random):
            host = scheduler.host
            if host is None or getattr(host, "sabotaged", False):
                return
            host.sabotaged = True
            policy = getattr(host.machine.policies, slot)
            real = getattr(policy, method)

            def fails(*args):
                if random.random() < 0.02:
                    raise ValueError("a bug in a policy")
                return real(*args)

            setattr(policy, method, fails)
            scheduler.failures = 0

        each_step(engine, sabotage)
        engine.run()
        failed += sum(engine.scheduler.counters.errors.values())
        assert_nothing_left(engine, case)
    assert failed or method in ("ring", "until")


def test_a_policy_that_always_fails_is_switched_off(caplog, monkeypatch):
    def fails(policy, draft):
        raise ValueError("a bug in a policy")

    monkeypatch.setattr(StallFree, "compose", fails)
    case = some_case(1)
    engine = make_engine(case, {"recipe": "vllm"})
    engine.run()
    scheduler = engine.scheduler
    assert scheduler.mode == "off"
    assert sum(scheduler.counters.errors.values()) == 3
    told = [record.getMessage() for record in caplog.records]
    assert len([text for text in told if "this step is in stock order" in text]) == 1
    assert len([text for text in told if "switched off" in text]) == 1
    assert_nothing_left(engine, case)


@pytest.mark.parametrize("lag", [False, True], ids=["sync", "async"])
def test_held_kv_expires_and_gives_way(tmp_path, lag):
    held = 0
    for seed in range(6):
        contest = seed % 2
        recipe = tmp_path / f"holding{seed}.toml"
        recipe.write_text(
            HOLDING.format(
                order="skip_join_mlfq" if contest else "fcfs",
                compose="contest" if contest else "stall_free",
                victim="lowest_rank" if contest else "last_in",
            )
        )
        case = some_case(seed, "chains")
        engine = make_engine(case, {"recipe": str(recipe)}, lag)
        scheduler = engine.scheduler
        who = scheduler.callers.who

        def in_programs(request, who=who):
            caller = who(request)
            name = f"p{int(request.request_id) % 7}"
            return type(caller)(caller.tenant, caller.slo_class, program=name)

        scheduler.callers.who = in_programs
        peak = []
        each_step(engine, lambda s, peak=peak: peak.append(len(s.holding)))
        engine.run()
        held += max(peak)
        assert not scheduler.counters.errors
        # The stub takes a request for finished when vLLM forgets it, which a held one is not.
        assert_nothing_left(engine, case, range(len(case.workload)))
    assert held > 6


@pytest.mark.parametrize("lag", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("recipe", ["vllm", "fastserve"])
def test_prefix_cache_reset_while_serving(recipe, lag):
    for seed in range(4):
        case = some_case(seed)
        engine = make_engine(case, {"recipe": recipe}, lag)
        random = Random(seed)

        def reset(scheduler, random=random):
            if random.random() < 0.02:
                scheduler.reset_prefix_cache(reset_running_requests=True)

        each_step(engine, reset)
        engine.run()
        assert not engine.scheduler.counters.errors
        assert_nothing_left(engine, case)


def test_no_deadlock_with_no_free_block():
    """Paused requests own all memory again and again; everybody ends."""
    empty = pauses = 0
    for seed in range(10):
        case = make_case(("mixed", "bursts")[seed % 2], seed, (16, 4, 64), "tight", True)
        engine = make_engine(case, {"recipe": "fastserve"}, lag=bool(seed % 2))
        free = []
        pool = engine.pool
        each_step(engine, lambda _, free=free, pool=pool: free.append(pool.get_num_free_blocks()))
        engine.run()
        empty += sum(blocks == 0 for blocks in free)
        pauses += engine.scheduler.counters.pauses
        assert not engine.scheduler.counters.errors
        assert_nothing_left(engine, case)
    assert pauses > 50
    assert empty > 10


def test_shed_requests_end_with_an_error():
    case = some_case(3, "bursts")
    settings = {"recipe": "vllm-queue-limit", "params": ["admit.queued_max=2"]}
    engine = make_engine(case, settings)
    ended = {}
    update = engine.scheduler.update_from_output

    def watch(*args):
        outputs = update(*args)
        for one in outputs.values():
            for output in one.outputs:
                if output.finish_reason is not None:
                    ended[int(output.request_id)] = str(output.finish_reason)
        return outputs

    engine.scheduler.update_from_output = watch
    engine.run()
    shed = [row for row, reason in ended.items() if reason == "error"]
    assert len(shed) == sum(engine.scheduler.counters.shed.values()) > 5
    assert len(ended) == len(case.workload)
    assert_nothing_left(engine, case, shed)


@pytest.mark.parametrize(
    ("machine", "output", "wanted"),
    [
        ({}, {}, True),
        ({"decodes": 3}, {}, False),
        ({"partials": {1}}, {}, False),
        # One that stock order takes up again may stand in for a decode that is left out.
        ({"paused": {1}}, {}, False),
        ({}, {"preempted_req_ids": {"9"}}, False),
        ({}, {"scheduled_new_reqs": [SimpleNamespace(req_id="a")]}, False),
        ({}, {"scheduled_cached_reqs": SimpleNamespace(resumed_req_ids={"a"})}, False),
    ],
)
def test_a_glance_is_enough_where_nobody_comes_or_goes(machine, output, wanted):
    steps = import_module("sojourn.vllm.steps")
    known = {"decodes": 2, "partials": (), "paused": ()}
    planned = {
        "num_scheduled_tokens": {"a": 1, "b": 1},
        "preempted_req_ids": None,
        "scheduled_new_reqs": [],
        "scheduled_cached_reqs": SimpleNamespace(resumed_req_ids=set()),
    }
    found = steps.only_decodes(
        SimpleNamespace(**(planned | output)), SimpleNamespace(**(known | machine))
    )
    assert found is wanted
