"""Policies, operators and clients at their worst: the scheduler class serves on, loses nobody."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from random import Random
from threading import Thread
from types import SimpleNamespace

import pytest
from test_plugin_faults import (
    HOLDING,
    assert_nothing_left,
    each_step,
    make_engine,
    some_case,
)

from sojourn.policies.compose.stall_free import StallFree

pytestmark = [
    pytest.mark.skipif(
        find_spec("vllm") is None,
        reason="vllm is not installed here; its CPU build is enough to drive its scheduler",
    ),
    pytest.mark.filterwarnings("ignore"),  # vLLM's and PyTorch's own, not ours
]

both_ways = pytest.mark.parametrize("lag", [False, True], ids=["sync", "async"])


def counted(steps, act):
    """Return what calls `act(scheduler)` before one step of so many."""
    seen = []

    def acted(scheduler):
        seen.append(1)
        if len(seen) % steps == 0:
            act(scheduler)

    return acted


@both_ways
@pytest.mark.parametrize("recipe", ["vllm", "fastserve", "slo-edf"])
def test_prefix_cache_reset_drops_each_request_once(recipe, lag):
    """vLLM drops and admits them again within one step; they must not be dropped for it anew."""
    dropped = 0
    for seed in range(4):
        case = some_case(seed)
        engine = make_engine(case, {"recipe": recipe}, lag)
        scheduler = engine.scheduler
        schedule = scheduler.schedule
        steps = []

        def reset_before(*args, schedule=schedule, scheduler=scheduler, steps=steps):
            steps.append(1)
            if len(steps) != 30:
                return schedule(*args)
            kept = [*scheduler.running, *scheduler.parked.values()]
            before = {request: request.num_preemptions for request in kept}
            scheduler.reset_prefix_cache(reset_running_requests=True)
            output = schedule(*args)
            steps.extend(before)
            assert all(request.num_preemptions == n + 1 for request, n in before.items())
            running = {request.request_id for request in scheduler.running}
            assert set(output.num_scheduled_tokens) <= running
            return output

        scheduler.schedule = reset_before
        engine.run()
        dropped += sum(one != 1 for one in steps)
        assert not scheduler.counters.errors
        assert_nothing_left(engine, case)
    assert dropped > 3


@both_ways
def test_no_stream_is_shed_when_the_recipe_begins_anew(lag):
    """After a reset, a switch or a failure the recipe is told of all requests again."""
    shed = adopted = 0
    for seed in range(6):
        case = some_case(seed, "bursts")
        settings = {"recipe": "vllm-queue-limit", "params": ["admit.queued_max=2"]}
        engine = make_engine(case, settings, lag)
        scheduler = engine.scheduler
        refuse, adopt = scheduler._shed, scheduler._adopt_all
        gone = set()

        def watched(request, reason, refuse=refuse, gone=gone):
            assert not request.num_output_tokens, "an answer that had begun"
            assert not request.num_preemptions
            gone.add(int(request.request_id))
            refuse(request, reason)

        def adopted_all(host, adopt=adopt, gone=gone):
            before = set(gone)
            adopt(host)
            assert gone == before, "it had been accepted, or came while nobody was asked"

        scheduler._shed, scheduler._adopt_all = watched, adopted_all
        turns = []

        def disturb(scheduler, turns=turns):
            turns.append(1)
            if len(turns) % 2:
                scheduler.reset_prefix_cache(reset_running_requests=True)
            else:
                mode = scheduler.settings.mode
                mode.given = "off" if mode.given == "act" else "act"

        each_step(engine, counted(12, disturb))
        engine.run()
        shed += len(gone)
        adopted += len(turns)
        assert not scheduler.counters.errors
        assert_nothing_left(engine, case, gone)
    assert shed
    assert adopted > 12


class Unspeakable(Exception):
    """A policy's exception whose text cannot be had."""

    def __str__(self):
        raise ValueError("no text")


def test_a_failure_without_a_text_is_a_failure_like_others(monkeypatch):
    def fails(policy, draft):
        raise Unspeakable

    monkeypatch.setattr(StallFree, "compose", fails)
    case = some_case(1)
    engine = make_engine(case, {"recipe": "vllm"})
    engine.run()
    assert engine.scheduler.counters.errors == {"Unspeakable": 3}
    assert_nothing_left(engine, case)


def test_failures_that_name_what_failed_fill_neither_memory_nor_log(monkeypatch, caplog):
    calls = []
    real = StallFree.compose

    def fails(policy, draft):
        calls.append(1)
        if len(calls) % 2:
            raise ValueError(f"call {len(calls)} " + "x" * 10_000)
        return real(policy, draft)

    monkeypatch.setattr(StallFree, "compose", fails)
    case = some_case(1)
    engine = make_engine(case, {"recipe": "vllm"})
    engine.run()
    errors = engine.scheduler.counters.errors
    assert sum(errors.values()) > 200
    assert len(errors) == 65
    assert max(map(len, errors)) <= 500
    told = [r for r in caplog.records if "this step is in stock order" in r.getMessage()]
    assert len(told) == 65
    assert_nothing_left(engine, case)


def test_a_recipe_that_cannot_be_made_again_is_switched_off(monkeypatch):
    """A policy that fails in its making must not end the engine either."""
    case = some_case(1)
    engine = make_engine(case, {"recipe": "vllm"})
    scheduler = engine.scheduler

    def fails(services):
        raise ValueError("a bug in a policy")

    monkeypatch.setattr(type(scheduler.settings.recipe), "build", property(lambda _: fails))
    each_step(engine, counted(20, type(scheduler)._lose_host))
    engine.run()
    assert scheduler.mode == "off"
    assert scheduler.counters.errors == {"ValueError: a bug in a policy": 3}
    assert_nothing_left(engine, case)


def holding_engine(tmp_path):
    recipe = tmp_path / "holding.toml"
    recipe.write_text(HOLDING.format(order="fcfs", compose="stall_free", victim="last_in"))
    case = some_case(0, "chains")
    engine = make_engine(case, {"recipe": str(recipe)})
    who = engine.scheduler.callers.who

    def in_programs(request):
        caller = who(request)
        name = f"p{int(request.request_id) % 7}"
        return type(caller)(caller.tenant, caller.slo_class, program=name)

    engine.scheduler.callers.who = in_programs
    return case, engine


def test_held_kv_whose_release_fails_is_given_back(tmp_path, monkeypatch):
    case, engine = holding_engine(tmp_path)
    given = []

    def fails(host, now):
        raise ValueError("a bug in a policy")

    def reset(scheduler):
        if scheduler.holding:
            scheduler.reset_prefix_cache()
            assert not scheduler.holding
            given.append(1)

    monkeypatch.setattr(type(engine.scheduler.host), "let_go", fails)
    each_step(engine, reset)
    engine.run()
    assert given
    monkeypatch.undo()
    assert_nothing_left(engine, case, range(len(case.workload)))


def test_the_id_of_a_request_whose_kv_is_held_may_come_again(tmp_path):
    case, engine = holding_engine(tmp_path)
    again = []

    def send(scheduler):
        if scheduler.holding and not again:
            name = next(iter(scheduler.holding))
            again.append(name)
            engine._add(int(name))
            assert not scheduler.holding

    each_step(engine, send)
    engine.run()
    assert again
    assert not engine.scheduler.counters.errors
    assert_nothing_left(engine, case, range(len(case.workload)))


def test_an_identity_that_cannot_be_read_is_nobodys(monkeypatch):
    callers = import_module("sojourn.vllm.callers")
    real, calls = callers.identify, []

    def fails(args, *rest):
        calls.append(1)
        if len(calls) % 2:
            raise RuntimeError("a bug in reading identities")
        return real(args, *rest)

    monkeypatch.setattr(callers, "identify", fails)
    case = some_case(2)
    engine = make_engine(case, {"recipe": "vtc"})
    engine.run()
    assert engine.scheduler.callers.warnings == len(case.workload)
    assert not engine.scheduler.counters.errors
    assert_nothing_left(engine, case)


@pytest.mark.parametrize("state", ["PAUSED_NEW", "PAUSED_ALL"])
def test_a_pause_of_the_engine_strands_nobody(state):
    """Requests in flight go on or stand still, cancelled ones go, and all others end later."""
    paused = import_module("vllm.v1.core.sched.interface").PauseState[state]
    running = import_module("vllm.v1.core.sched.interface").PauseState.UNPAUSED
    for recipe in ("fastserve", "slo-edf"):
        for seed in range(4):
            case = some_case(seed, "mixed")
            engine = make_engine(case, {"recipe": recipe})
            random = Random(seed)

            def pause(scheduler, random=random):
                scheduler.set_pause_state(paused)
                for _ in range(random.randrange(40)):
                    if not scheduler.get_num_unfinished_requests():
                        break
                    take()
                if random.random() < 0.5:
                    scheduler.reset_prefix_cache(reset_running_requests=True)
                scheduler.set_pause_state(running)

            def take(engine=engine, step=engine._step):
                engine.clock = step(engine.clock)

            each_step(engine, counted(25, pause))
            engine.run()
            assert not engine.scheduler.counters.errors
            assert_nothing_left(engine, case)


def make_mode(file):
    mode = import_module("sojourn.vllm.mode").Mode("shadow", file)
    mode.next_look = -1.0
    return mode


def looked(mode):
    """Return the mode after a look at its file; fail if that takes long."""
    mode.next_look = -1.0
    found = []
    look = Thread(target=lambda: found.append(mode.now()), daemon=True)
    look.start()
    look.join(10)
    assert found, "the engine waits for its mode file"
    return found[0]


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff\xfe", b"ACT", b"act off", b"x" * 10**6])
def test_a_mode_file_of_garbage_changes_nothing(tmp_path, content):
    file = tmp_path / "mode"
    file.write_bytes(content)
    mode = make_mode(file)
    assert looked(mode) == "shadow"
    file.write_text("off\n")
    os.utime(file, ns=(1, 1))
    assert looked(mode) == "off"


def test_a_mode_file_that_is_no_file_stops_nobody(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, tmp_path, tmp_path / "gone" / "mode"):
        assert looked(make_mode(place)) == "shadow"
    endless = tmp_path / "endless"
    endless.symlink_to("/dev/zero")
    assert looked(make_mode(endless)) == "shadow"


def test_two_engines_of_a_server_keep_their_logs_apart(tmp_path):
    logs = import_module("sojourn.vllm.logs")
    scheduler = make_engine(some_case(1), {"step_log": str(tmp_path)}).scheduler
    names = [scheduler.recording.log.config.name]
    real = scheduler.vllm_config
    parallel = SimpleNamespace(data_parallel_rank=0, data_parallel_index=1)
    scheduler.vllm_config = SimpleNamespace(
        model_config=real.model_config, parallel_config=parallel
    )
    second = [logs.open_log(scheduler, 0), logs.open_log(scheduler, 3)]
    assert [log.run.replica for log in second] == [1, 1]
    names += [log.config.name for log in second]
    for log in second:
        log.close()
    assert names == ["steplog", "steplog-engine1", "steplog-engine1-3-act"]


def test_a_log_that_cannot_be_opened_again_stops_nobody(tmp_path, monkeypatch):
    logs = import_module("sojourn.vllm.logs")
    case = some_case(2)
    engine = make_engine(case, {"step_log": str(tmp_path / "log")})

    def fails(scheduler, number):
        raise OSError("no more threads")

    monkeypatch.setattr(logs, "open_log", fails)

    def switch(scheduler):
        scheduler.settings.mode.given = "shadow"

    each_step(engine, counted(20, switch))
    engine.run()
    assert engine.scheduler.recording.log is None
    assert engine.scheduler.differences.log is None
    assert_nothing_left(engine, case)
