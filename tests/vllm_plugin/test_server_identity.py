"""Who calls, from vLLM's own API server to its engine core, and decisions on `/metrics`."""

import pytest
from identity_server import serving

from sojourn.vllm.identity import SEAL
from sojourn.vllm.rules import digest

KEYS = {"acme": "k-acme", "bulk": "k-bulk"}
CONFIG = {
    "classes": {"interactive": {"ttft_seconds": 0.5}, "batch": {"priority": 10}},
    "default_class": "batch",
    "tenants": {
        "acme": {"class": "interactive", "key_sha256": digest(KEYS["acme"])},
        "bulk": {"class": "batch", "key_sha256": digest(KEYS["bulk"])},
    },
    "proxy": {"addresses": ["10.0.0.0/8"]},
}
MIDDLEWARE = ("--middleware", "sojourn.vllm.middleware.IdentityMiddleware")
SEVERAL = ("-m", "several_api_servers", "--model")


@pytest.fixture(scope="module")
def client(tiny, tmp_path_factory):
    flags = (*MIDDLEWARE, "--api-key", *KEYS.values())
    with serving(tiny.model, tmp_path_factory.mktemp("identity"), CONFIG, *flags) as client:
        yield client


def bearer(name):
    return {"Authorization": f"Bearer {KEYS.get(name, name)}"}


def test_vllm_refuses_strangers_itself(client):
    answer = client.complete(bearer("nobody"), vllm_xargs={"sojourn_turn": -1})
    assert (answer.status, answer.seen) == (401, [])


PROMPT = {"model": "tiny", "prompt": "to be", "max_tokens": 2}
MESSAGES = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
ROUTES = {
    "/v1/completions": PROMPT,
    "/v1/chat/completions": MESSAGES,
    "/v1/chat/completions/batch": {**MESSAGES, "messages": [MESSAGES["messages"]] * 2},
    "/v1/responses": {"model": "tiny", "input": "hi", "max_output_tokens": 2},
    "/v1/messages": MESSAGES,
    "/invocations": PROMPT,
}


@pytest.mark.parametrize("path", ROUTES)
def test_the_engine_core_knows_the_tenant_on_every_route(client, path):
    xargs = {"sojourn_program": "p", "sojourn_last_turn": True, "sojourn_ttft_seconds": 2}
    headers = {**bearer("acme"), "X-Sojourn-Turn": "4"}
    answer = client.post(path, {**ROUTES[path], "vllm_xargs": xargs}, headers)
    assert answer.status == 200
    assert len(answer.seen) == (2 if path.endswith("batch") else 1)
    for seen in answer.seen:
        assert (seen["tenant"], seen["slo_class"]) == ("acme", "interactive")
        assert (seen["program"], seen["turn"], seen["last_turn"]) == ("p", 4, True)
        assert seen["ttft_seconds"] == 2
        assert seen["warnings"] == []


def test_siblings_share_the_tenant_and_streams_stream(client):
    answer = client.complete(bearer("bulk"), n=3, stream=True, max_tokens=8)
    assert [seen["tenant"] for seen in answer.seen] == ["bulk"] * 3
    assert answer.text.count("data: ") > 8
    assert "sojourn" not in answer.text


def test_a_client_can_only_lower_itself(client):
    answer = client.complete(
        {**bearer("bulk"), "X-Vllm-Priority": "-3", "X-Llm-D-Inference-Fairness-Id": "acme"},
        vllm_xargs={"sojourn_class": "interactive", SEAL: "0::acme"},
    )
    (seen,) = answer.seen
    assert (seen["tenant"], seen["slo_class"], seen["priority"]) == ("bulk", "batch", 10)
    assert len(seen["warnings"]) == 3
    (seen,) = client.complete({**bearer("bulk"), "X-Vllm-Priority": "3"}).seen
    assert (seen["priority"], seen["warnings"]) == (13, [])


def test_malformed_values_do_not_reach_the_engine_which_lives_on(client):
    for xargs in ({"sojourn_turn": 10**30}, {"sojourn_program": "x" * 10**5}, {"sojourn_x": 1}):
        answer = client.complete(bearer("acme"), vllm_xargs=xargs)
        assert (answer.status, answer.seen) == (400, [])
    answer = client.complete({**bearer("acme"), "X-Vllm-Priority": "9" * 30})
    assert (answer.status, answer.seen) == (400, [])
    assert client.complete(bearer("acme")).status == 200


def test_decisions_stand_beside_vllms_own_metrics(client):
    before = counted(client)
    client.complete(bearer("acme"))
    assert counted(client) == before + 1
    assert "vllm:num_requests_running" in client.server.get("/metrics")


def counted(client):
    return client.server.metric("sojourn:decisions_total")


def test_every_one_of_several_api_servers_knows_the_tenant_and_shows_the_metrics(tiny, tmp_path):
    flags = (*MIDDLEWARE, "--api-server-count", "2")
    with serving(tiny.model, tmp_path, CONFIG, *flags, words=SEVERAL) as client:
        for _ in range(6):
            (seen,) = client.complete(bearer("acme")).seen
            assert seen["tenant"] == "acme"
        assert [counted(client) for _ in range(6)] == [6.0] * 6
