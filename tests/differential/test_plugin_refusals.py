"""What the scheduler class refuses: features at start-up, malformed settings, streaming input."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from test_plugin_faults import assert_nothing_left, make_engine, some_case

from sojourn.errors import UserError

pytestmark = [
    pytest.mark.skipif(
        find_spec("vllm") is None,
        reason="vllm is not installed here; its CPU build is enough to drive its scheduler",
    ),
    pytest.mark.filterwarnings("ignore"),  # vLLM's and PyTorch's own, not ours
]

FEATURES = {
    "speculative_config": (object(), "--speculative-config"),
    "kv_transfer_config": (object(), "--kv-transfer-config"),
    "ec_transfer_config": (object(), "--ec-transfer-config"),
    "parallel_config.pipeline_parallel_size": (2, "--pipeline-parallel-size above 1"),
    "scheduler_config.policy": ("priority", "--scheduling-policy priority"),
    "scheduler_config.enable_chunked_prefill": (False, "no chunked prefill"),
    "model_config.is_encoder_decoder": (True, "an encoder-decoder model"),
    "model_config.runner_type": ("pooling", "a pooling model"),
}


class Instead:
    """An object with some attributes in place of its own."""

    def __init__(self, real, **attributes):
        self.real = real
        self.__dict__.update(attributes)

    def __getattr__(self, name):
        return getattr(self.real, name)


def with_feature(config, place, value):
    """Return vLLM's configuration with one value changed, unchecked by vLLM itself."""
    part, _, name = place.rpartition(".")
    if not part:
        return Instead(config, **{name: value})
    return Instead(config, **{part: Instead(getattr(config, part), **{name: value})})


@pytest.fixture(scope="module")
def config():
    """A configuration of vLLM's own, as its engine has it."""
    return make_engine(some_case(1), {}).scheduler.vllm_config


def test_plain_configuration_is_served(config):
    import_module("sojourn.vllm.compat").check_config(config)


@pytest.mark.parametrize("place", FEATURES)
def test_feature_is_refused_with_one_sentence(config, place):
    value, named = FEATURES[place]
    with pytest.raises(UserError) as refused:
        import_module("sojourn.vllm.compat").check_config(with_feature(config, place, value))
    told = str(refused.value)
    assert told.startswith(f"sojourn.vllm does not serve with {named}: ")
    assert told.endswith("leave that out, or serve without --scheduler-cls")
    assert "\n" not in told


def test_refused_features_are_all_named(config):
    both = with_feature(config, "scheduler_config.policy", "priority")
    both = Instead(both, speculative_config=object())
    with pytest.raises(UserError, match="--speculative-config or --scheduling-policy priority"):
        import_module("sojourn.vllm.compat").check_config(both)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"step_log": 5}, "sojourn.step_log is 5; it must be a folder or a table"),
        ({"step_log": True}, "sojourn.step_log is True"),
        ({"step_log": []}, r"sojourn.step_log is \[\]"),
        ({"step_log": "a\0b"}, "sojourn.step_log is 'a.x00b'; it must be a path"),
        ({"step_log": {"folder": "a", "seconds_max": float("inf")}}, "seconds_max is inf"),
        ({"step_log": {"folder": "a", "rows_max": 10**30}}, "rows_max is 10+; .* whole number"),
        ({"step_log": {"folder": "a", "files_max": 1.5}}, "files_max is 1.5; .* whole number"),
        ({"params": 5}, "sojourn.params must be a list"),
        ({"params": {"order.x": 1}}, "sojourn.params must be a list"),
        ({"mode_file": 5}, "sojourn.mode_file is 5; it must be a path"),
        ({"mode_file": "a\0b"}, "sojourn.mode_file is 'a.x00b'"),
        ({"mode_file": {"a": 1}}, "sojourn.mode_file is {'a': 1}"),
        ({"mode": ["act"]}, "unknown mode"),
        ({"mode": None}, "unknown mode"),
        ({"recipe": None}, "unknown recipe 'None'"),
        ({"identity": []}, r"identity is \[\]; it must be a table"),
        ({"cost": 5}, "cannot read '5'"),
        ({5: 1}, "unknown key in additional-config sojourn '5'"),
    ],
)
def test_malformed_settings_are_refused_with_one_sentence(settings, told):
    kind = import_module("sojourn.vllm.settings").Settings
    with pytest.raises(UserError, match=told) as refused:
        kind.of(SimpleNamespace(additional_config={"sojourn": settings}))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("given", [None, 5, [], "act"])
def test_settings_that_are_no_table_are_refused(given):
    kind = import_module("sojourn.vllm.settings").Settings
    with pytest.raises(UserError, match=r"sojourn is .*; it must be a table"):
        kind.of(SimpleNamespace(additional_config={"sojourn": given}))


def streamed(engine, name, resumable):
    request = import_module("vllm.v1.request").Request
    params = import_module("vllm").SamplingParams(max_tokens=4, ignore_eos=True)
    return request(
        request_id=name,
        prompt_token_ids=[5] * 20,
        sampling_params=params,
        pooling_params=None,
        block_hasher=engine.hasher,
        resumable=resumable,
    )


def step(scheduler):
    """Run a step; return the reasons of those that ended with it, by id."""
    nothing = import_module("plugin_stub").NOTHING
    outputs = scheduler.update_from_output(scheduler.schedule(), nothing)
    ended = [one for outs in outputs.values() for one in outs.outputs if one.finish_reason]
    return {one.request_id: str(one.finish_reason) for one in ended}


def test_streaming_input_ends_with_an_error_and_leaves_nothing():
    engine = make_engine(some_case(1), {"recipe": "fastserve"})
    scheduler = engine.scheduler
    scheduler.add_request(streamed(engine, "900", resumable=True))
    assert scheduler.get_num_unfinished_requests() == 1
    assert step(scheduler) == {"900": "error"}
    assert scheduler.counters.shed == {"streaming input": 1}
    assert not scheduler.requests
    assert scheduler.get_request_counts() == (0, 0)


@pytest.mark.parametrize("more", [0, 2])
def test_what_comes_of_a_session_after_its_end_is_not_served(more):
    """vLLM would take it for a new request, that runs though nobody waits for it."""
    engine = make_engine(some_case(1), {"recipe": "fastserve"})
    scheduler = engine.scheduler
    scheduler.add_request(streamed(engine, "900", resumable=True))
    step(scheduler)
    for _ in range(more):
        scheduler.add_request(streamed(engine, "900", resumable=True))
        assert step(scheduler) == {"900": "error"}
    scheduler.add_request(streamed(engine, "900", resumable=False))
    assert step(scheduler) == {"900": "error"}
    assert not scheduler.requests
    assert not scheduler.sessions.known
    assert scheduler.counters.shed == {"streaming input": 1}
    assert not scheduler.counters.errors


def test_parts_that_come_before_the_refusal_are_dropped_with_it():
    engine = make_engine(some_case(1), {"recipe": "vllm"})
    scheduler = engine.scheduler
    for resumable in (True, True, False):
        scheduler.add_request(streamed(engine, "900", resumable))
    assert step(scheduler) == {"900": "error"}
    assert not scheduler.requests


def test_streaming_input_beside_others_harms_none_of_them():
    case = some_case(2)
    engine = make_engine(case, {"recipe": "fastserve"})
    steps = []
    taken = engine._step

    def acted(now):
        steps.append(now)
        if len(steps) % 20 == 0:
            engine.scheduler.add_request(streamed(engine, str(10**6 + len(steps)), resumable=True))
        if len(steps) % 20 == 5 and len(steps) > 20:
            engine.scheduler.add_request(
                streamed(engine, str(10**6 + len(steps) - 5), resumable=False)
            )
        return taken(now)

    engine._step = acted
    engine.run()
    assert engine.scheduler.counters.shed["streaming input"] >= 5
    assert not engine.scheduler.counters.errors
    while engine.scheduler.has_requests():
        step(engine.scheduler)
    assert_nothing_left(engine, case)


def test_sessions_that_never_say_that_they_end_are_forgotten(monkeypatch):
    streaming = import_module("sojourn.vllm.streaming")
    monkeypatch.setattr(streaming, "SESSIONS_MAX", 3)
    sessions = streaming.RefusedSessions()
    for number in range(5):
        sessions.refuse(SimpleNamespace(request_id=str(number)))
    assert list(sessions.known) == ["2", "3", "4"]
