"""What the middleware puts into a request, and what it refuses."""

import asyncio
import json
import os
from types import SimpleNamespace

import pytest

from sojourn.vllm.identity import SEAL, identify, unseal
from sojourn.vllm.middleware import IdentityMiddleware, _address
from sojourn.vllm.plugin import KEY_VARIABLE
from sojourn.vllm.rules import Rules, digest

KEYS = {"acme": "k-acme", "bulk": "k-bulk", "gate": "k-gate"}
CONFIG = {
    "classes": {"interactive": {"ttft_seconds": 0.5}, "batch": {"priority": 10}},
    "default_class": "batch",
    "tenants": {
        "acme": {"class": "interactive", "key_sha256": digest(KEYS["acme"])},
        "bulk": {"class": "batch", "key_sha256": [digest(KEYS["bulk"])]},
    },
    "proxy": {"key_sha256": digest(KEYS["gate"]), "addresses": ["10.0.0.0/8"]},
}
BODY = {"model": "m", "prompt": "to be"}


def bearer(name):
    return {"Authorization": f"Bearer {KEYS.get(name, name)}"}


class Call:
    """One request through the middleware, and what the application behind it got."""

    def __init__(self, body, headers=None, config=CONFIG, chunk=7, **more):
        self.raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.sent = []
        self.app_scope = self.app_send = None
        self.received = b""
        self.reads = 0
        self.chunk = chunk
        self.left = self._messages()
        self.server = SimpleNamespace(
            state=SimpleNamespace(
                vllm_config=SimpleNamespace(additional_config={"sojourn": {"identity": config}}),
                args=SimpleNamespace(api_key=more.pop("api_key", None)),
            )
        )
        named = {"Content-Length": str(len(self.raw)), **(headers or {})}
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/completions",
            "root_path": "",
            "app": self.server,
            "client": ("1.2.3.4", 5),
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in named.items()],
            **more,
        }
        self.middleware = IdentityMiddleware(self._app)
        asyncio.run(self.middleware(self.scope, self._receive, self._send))

    def _messages(self):
        for at in range(0, len(self.raw) or 1, self.chunk):
            part = self.raw[at : at + self.chunk]
            yield {
                "type": "http.request",
                "body": part,
                "more_body": at + self.chunk < len(self.raw),
            }

    async def _receive(self):
        self.reads += 1
        return next(self.left, {"type": "http.disconnect"})

    async def _send(self, message):
        self.sent.append(message)

    async def _app(self, scope, receive, send):
        self.app_scope, self.app_send = scope, send
        if scope["type"] != "http":
            return
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break
            self.received += message["body"]
            more = message.get("more_body", False)
        self.then = await receive()

    @property
    def xargs(self):
        return json.loads(self.received).get("vllm_xargs")

    @property
    def opened(self):
        return unseal((self.xargs or {}).get(SEAL), os.environ[KEY_VARIABLE].encode())

    @property
    def refusal(self):
        assert self.app_scope is None
        start, body = self.sent
        assert start["status"] == 400
        return json.loads(body["body"])["error"]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "the key")
    monkeypatch.delenv("VLLM_API_KEY", raising=False)


def test_the_tenant_of_an_api_key_is_sealed_into_the_body():
    call = Call(BODY, bearer("acme"))
    assert call.opened == ("acme", "")
    assert {**BODY, "vllm_xargs": call.xargs} == json.loads(call.received)


def test_the_length_is_that_of_the_new_body():
    call = Call(BODY, bearer("acme"))
    assert dict(call.app_scope["headers"])[b"content-length"] == b"%d" % len(call.received)


def test_the_response_and_what_follows_the_body_pass_through():
    call = Call(BODY, bearer("acme"))
    assert call.app_send == call._send
    assert call.then == {"type": "http.disconnect"}
    assert call.reads == -(-len(call.raw) // call.chunk) + 1


def test_a_stranger_gets_no_seal_and_its_body_is_untouched():
    assert Call(BODY).received == json.dumps(BODY).encode()
    assert Call(BODY, bearer("nobody")).received == json.dumps(BODY).encode()


def test_a_clients_own_seal_is_replaced_and_its_other_values_are_kept():
    given = {SEAL: "0:interactive:acme", "sojourn_turn": 3, "other": [1, "é"]}
    call = Call({"vllm_xargs": given, **BODY}, bearer("bulk"))
    assert call.opened == ("bulk", "")
    assert call.xargs["sojourn_turn"] == 3
    assert call.xargs["other"] == [1, "é"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","vllm_xargs":{"other":1},"vllm_xargs":{"other":2}}',
        b'{"model":"m","x":NaN,"vllm_xargs":{"other":2}}',
        b'\xef\xbb\xbf{"model":"m","vllm_xargs":{"other":2}} \r\n',
        b'{"x":{"vllm_xargs":{"other":1}},"vllm_xargs":{"other":2}\n}',
    ],
)
def test_the_body_is_read_as_vllm_reads_it(body):
    call = Call(body, bearer("acme"))
    assert call.opened == ("acme", "")
    assert call.xargs["other"] == 2


@pytest.mark.parametrize(
    "body", [b"{}", b"{ }", b'{"prompt":"vllm_xargs"}', b'{"vllm_xargs":null}']
)
def test_odd_but_whole_bodies_get_the_seal(body):
    assert Call(body, bearer("acme")).opened == ("acme", "")


@pytest.mark.parametrize(
    "body",
    [b'{"prompt":"abc}', b'{"a":{"b":1}', b'{"vllm_xargs":{}', b'{"a":1}}', b'{"vllm_xargs":{},}'],
)
def test_a_body_that_is_no_json_does_not_become_json(body):
    call = Call(body, bearer("acme"))
    if call.app_scope is None:
        assert call.refusal["param"] == "body"
        return
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|Extra|delimiter|quotes"):
        json.loads(call.received)


@pytest.mark.parametrize("body", [b"", b"[1]", json.dumps(BODY).encode("utf-16-le")])
def test_a_body_that_nothing_can_be_put_into_is_refused(body):
    assert (
        Call(body, bearer("acme")).refusal["message"] == "the body must be a JSON object in UTF-8"
    )


def test_another_encoding_that_ends_alike_reaches_vllm_broken():
    call = Call(json.dumps(BODY).encode("utf-16-be"), bearer("acme"))
    with pytest.raises(ValueError, match=r"utf|codec|Expecting"):
        json.loads(call.received)


def test_xargs_of_a_wrong_type_are_left_for_vllm_to_refuse():
    body = json.dumps({"vllm_xargs": [1]}).encode()
    assert Call(body, bearer("acme")).received == body


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"sojourn_turn": -1}, "sojourn_turn is -1; it must be a whole number from 0 to 1000000"),
        ({"sojourn_ttft_seconds": "1"}, "it must be a number of seconds from 0.000001 to 1000000"),
        ({"sojourn_program": {"a": 1}}, "it must be a text of 1 to 128 printable letters"),
        ({"sojourn_class": "batsh"}, "unknown sojourn_class 'batsh': did you mean 'batch'?"),
        ({"sojourn_clas": "batch"}, "did you mean 'sojourn_class'?"),
    ],
)
@pytest.mark.parametrize("caller", ["acme", "nobody"])
def test_a_malformed_value_is_answered_400_with_a_sentence(given, sentence, caller):
    refusal = Call({**BODY, "vllm_xargs": given}, bearer(caller)).refusal
    assert sentence in refusal["message"]
    assert refusal["param"] == "vllm_xargs"
    assert (refusal["type"], refusal["code"]) == ("BadRequestError", 400)


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({"X-Slo-Ttft-Ms": "soon"}, "x-slo-ttft-ms is 'soon'; it must be milliseconds"),
        ({"X-Slo-Tpot-Ms": "-5"}, "sojourn_tpot_seconds is -0.005; it must be"),
        ({"X-Llm-D-Slo-Ttft-Ms": "nan"}, "it must be milliseconds"),
        ({"X-Sojourn-Turn": "1.5"}, "sojourn_turn is '1.5'"),
        ({"X-Sojourn-Turn": "9" * 5000}, "sojourn_turn is '999"),
        ({"X-Sojourn-Last-Turn": "maybe"}, "it must be true or false"),
        ({"X-Sojourn-Class": "batsh"}, "did you mean 'batch'?"),
        ({"X-Vllm-Priority": "first"}, "x-vllm-priority is 'first'; it must be a whole number"),
        ({"X-Vllm-Priority": "9" * 30}, "it must be a whole number"),
    ],
)
def test_a_malformed_header_is_answered_400_with_a_sentence(headers, sentence):
    message = Call(BODY, headers).refusal["message"]
    assert sentence in message
    assert len(message) < 400


def test_headers_say_what_xargs_say_and_xargs_go_first():
    headers = {
        "X-Sojourn-Class": "batch",
        "X-Sojourn-Program": "p",
        "X-Sojourn-Turn": "2",
        "X-Sojourn-Last-Turn": "true",
        "X-Sojourn-E2E-Seconds": "9",
        "X-Slo-Ttft-Ms": "1",
        "X-Llm-D-Slo-Ttft-Ms": "1500",
        "X-Slo-Tpot-Ms": "80",
        "X-Prediction-Based-Scheduling": "true",
    }
    call = Call({**BODY, "vllm_xargs": {"sojourn_program": "q"}}, headers)
    assert call.xargs == {
        "sojourn_class": "batch",
        "sojourn_program": "q",
        "sojourn_turn": 2,
        "sojourn_last_turn": True,
        "sojourn_e2e_seconds": 9.0,
        "sojourn_ttft_seconds": 1.5,
        "sojourn_tpot_seconds": 0.08,
    }


LLM_D = {"X-Llm-D-Inference-Fairness-Id": "zeta", "X-Llm-D-Inference-Objective": "interactive"}
OLDER = {"X-Gateway-Inference-Fairness-Id": "zeta", "X-Gateway-Inference-Objective": "interactive"}


@pytest.mark.parametrize("headers", [LLM_D, OLDER])
def test_the_proxy_names_tenant_and_class(headers):
    assert Call(BODY, {**headers, **bearer("gate")}).opened == ("zeta", "interactive")
    assert Call(BODY, headers, client=("10.9.9.9", 1)).opened == ("zeta", "interactive")


def test_the_proxy_may_leave_the_tenant_to_the_key():
    headers = {"X-Llm-D-Inference-Objective": "batch", **bearer("acme")}
    assert Call(BODY, headers, client=("10.9.9.9", 1)).opened == ("acme", "batch")


@pytest.mark.parametrize("caller", ["acme", "nobody"])
@pytest.mark.parametrize("headers", [LLM_D, OLDER])
def test_nobody_else_does(headers, caller):
    call = Call(BODY, {**headers, **bearer(caller)})
    found = identify(call.xargs, 0, Rules.from_config(CONFIG), b"the key")
    assert found.tenant == ("acme" if caller == "acme" else "default")
    assert "cannot say which tenant" in found.warnings[0]


@pytest.mark.parametrize(
    ("said", "client", "is_proxy"),
    [
        ("10.0.0.9", ("10.0.0.9", 0), False),
        ("10.0.0.9:4711", ("10.0.0.9", 4711), False),
        ("1.2.3.4, 10.0.0.9", ("10.0.0.9", 0), False),
        ("10.0.0.9, 127.0.0.1", ("10.0.0.9", 0), False),
        ("1.2.3.4", ("10.0.0.9", 4711), True),
        ("10.0.0.90, 110.0.0.9", ("10.0.0.9", 4711), True),
    ],
)
def test_an_address_that_the_client_wrote_itself_is_nobodys(said, client, is_proxy):
    """Uvicorn believes `X-Forwarded-For` of any process on its own machine."""
    headers = {"X-Llm-D-Inference-Fairness-Id": "acme", "X-Forwarded-For": said}
    opened = Call(BODY, headers, client=client).opened
    assert opened == (("acme", "") if is_proxy else None)


def test_it_is_read_as_uvicorn_reads_it():
    """A real proxy on this machine is known by its key; what it forwards is no address of its."""
    pytest.importorskip("uvicorn")
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    for said in ("10.0.0.9", "10.0.0.9:80", "[10.0.0.9]:80", "[10.0.0.9]", " 10.0.0.9 ,127.0.0.1"):
        seen = []

        async def app(scope, receive, send, seen=seen):
            seen.append((tuple(scope["client"]), _address(scope)))

        headers = [(b"x-forwarded-for", said.encode())]
        scope = {"type": "http", "client": ("127.0.0.1", 5), "headers": headers}
        asyncio.run(ProxyHeadersMiddleware(app)(scope, None, None))
        (client, address), *_ = seen
        assert client[0] == "10.0.0.9"
        assert address is None


def test_a_proxys_malformed_name_is_answered_400():
    headers = {"X-Llm-D-Inference-Objective": "a:b", **bearer("gate")}
    assert "without colon" in Call(BODY, headers).refusal["message"]


@pytest.mark.parametrize("api_key", [["k-acme"], None])
def test_the_body_of_whom_vllm_will_not_let_in_is_not_read(api_key, monkeypatch):
    if api_key is None:
        monkeypatch.setenv("VLLM_API_KEY", "k-acme")
    call = Call({"vllm_xargs": {"sojourn_turn": -1}}, bearer("bulk"), api_key=api_key)
    assert call.sent == []
    assert call.received == call.raw
    assert Call(BODY, bearer("acme"), api_key=api_key).opened == ("acme", "")


@pytest.mark.parametrize(
    "more", [{"path": "/v1/models"}, {"method": "GET"}, {"type": "websocket"}, {"path": "/metrics"}]
)
def test_what_is_not_a_generation_passes_through(more):
    call = Call(b"not json", bearer("acme"), **more)
    assert call.app_scope is call.scope
    assert call.sent == []


def test_a_root_path_is_taken_off():
    call = Call(BODY, bearer("acme"), path="/llm/v1/completions", root_path="/llm")
    assert call.opened == ("acme", "")


def test_a_client_that_leaves_amid_its_body_is_vllms_to_notice():
    call = Call(BODY, bearer("acme"), method="GET")
    call.left = iter([{"type": "http.request", "body": b'{"a', "more_body": True}])
    call.received, call.scope["method"] = b"", "POST"
    asyncio.run(call.middleware(call.scope, call._receive, call._send))
    assert call.received == b""
    assert call.then == {"type": "http.disconnect"}


def test_no_rules_change_nothing():
    call = Call(BODY, bearer("acme"), config={})
    assert call.received == call.raw


@pytest.mark.parametrize(
    ("config", "key", "sentence"),
    [
        ({"clases": {}}, "the key", "did you mean 'classes'"),
        (CONFIG, "", "name sojourn in VLLM_PLUGINS"),
    ],
)
def test_rules_that_cannot_be_end_the_servers_start(config, key, sentence, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, key)
    call = Call(b"", config=config, type="lifespan")
    (message,) = call.sent
    assert message["type"] == "lifespan.startup.failed"
    assert sentence in message["message"]
    assert call.app_scope is None


def test_a_prompt_of_100_000_ids_costs_little():
    body = json.dumps({"model": "m", "prompt": list(range(100_000))}).encode()
    call = Call(body, bearer("acme"), chunk=1 << 16)
    assert json.loads(call.received)["prompt"][-1] == 99_999
    assert call.opened == ("acme", "")
