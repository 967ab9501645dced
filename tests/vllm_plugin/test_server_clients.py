"""The OpenAI SDK against real servers: what works on stock works, and says the same, on ours."""

from __future__ import annotations

import json
import time
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(
    find_spec("openai") is None, reason="the OpenAI SDK is not installed; vLLM brings it"
)

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Oslo", "Rome"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": SCHEMA, "strict": True},
}
NAMED = {"type": "function", "function": {"name": "weather"}}
HELLO = [{"role": "user", "content": "What is the weather like?"}]
SETTLE_SECONDS_MAX = 20


@pytest.fixture(scope="module")
def clients(pair):
    from openai import OpenAI

    made = {}
    for name, server in vars(pair).items():
        made[name] = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)
    yield made
    for client in made.values():
        client.close()


@pytest.fixture(params=["stock", "ours"])
def client(request, clients):
    return clients[request.param]


def both(clients, ask):
    stock, ours = ask(clients["stock"]), ask(clients["ours"])
    assert ours == stock
    return ours


def complete(client, **more):
    given = {"model": "tiny", "prompt": "Licensed under", "max_tokens": 24, "temperature": 0}
    return client.completions.create(**{**given, **more})


@pytest.fixture(scope="module")
def no_blanks(tiny):
    """A bias against white space, of which JSON may have any amount; a random model would."""
    vocabulary = json.loads((tiny.model / "tokenizer.json").read_text())["model"]["vocab"]
    # Byte-level BPE writes space, newline, tab and carriage return so.
    return {str(token): -100 for text, token in vocabulary.items() if set(text) <= set("ĠĊĉč")}


def chat(client, **more):
    given = {"model": "tiny", "messages": HELLO, "max_tokens": 64, "temperature": 0}
    return client.chat.completions.create(**{**given, **more})


def settled(server):
    """Return whether nothing runs, waits or holds KV, after giving it time."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
    while any(server.metric(f"vllm:{name}") for name in names):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_stream_equals_whole_answer(clients):
    whole = both(clients, lambda client: complete(client).choices[0].text)
    for client in clients.values():
        most = 0
        for _ in range(5):  # a busy server sends what it has together
            pieces = [piece.choices[0].text for piece in complete(client, stream=True)]
            assert "".join(pieces) == whole
            most = max(most, len(pieces))
        assert most > 1


def test_chat_stream_reports_usage(client):
    *pieces, last = chat(client, stream=True, stream_options={"include_usage": True})
    assert last.usage.completion_tokens == 64
    assert not last.choices
    assert pieces[-1].choices[0].finish_reason == "length"


def test_closing_a_stream_frees_everything(pair, clients):
    for name, server in vars(pair).items():
        running = 0
        for _ in range(10):  # on a busy machine the answer may be over before it is looked at
            stream = complete(clients[name], max_tokens=400, stream=True)
            next(iter(stream))
            running = max(running, server.metric("vllm:num_requests_running"))
            stream.close()
            assert settled(server), server.get("/metrics")
        assert running == 1


def test_several_answers(clients):
    def ask(client):
        return [one.text for one in complete(client, n=3, temperature=1, seed=5).choices]

    answers = both(clients, ask)
    assert len(set(answers)) == 3


def test_stop_text_ends_an_answer(clients):
    whole = complete(clients["stock"], max_tokens=40).choices[0].text
    stop = whole[10:12]

    def ask(client):
        choice = complete(client, max_tokens=40, stop=[stop]).choices[0]
        return choice.text, choice.finish_reason, choice.stop_reason

    text, reason, which = both(clients, ask)
    assert (reason, which) == ("stop", stop)
    assert text == whole[: whole.index(stop)]


def test_logprobs(clients):
    found = both(clients, lambda client: complete(client, logprobs=2).choices[0].logprobs)
    assert len(found.token_logprobs) == 24
    assert all(one <= 0 for one in found.token_logprobs)


def test_json_schema(clients):
    wanted = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA}}

    def ask(client):
        return chat(client, response_format=wanted).choices[0].message.content

    trip = json.loads(both(clients, ask))
    assert trip["city"] in ("Oslo", "Rome")
    assert 1 <= trip["days"] <= 9


def test_forced_tool_call(clients, no_blanks):
    def ask(client):
        asked = {"tools": [WEATHER], "tool_choice": NAMED, "logit_bias": no_blanks}
        calls = chat(client, max_tokens=100, **asked).choices[0].message.tool_calls
        return [(call.function.name, call.function.arguments) for call in calls]

    (name, arguments), *_ = both(clients, ask)
    assert name == "weather"
    assert json.loads(arguments).keys() == {"city", "days"}


def test_forced_tool_call_streamed(client, no_blanks):
    asked = {"tools": [WEATHER], "tool_choice": NAMED, "logit_bias": no_blanks}
    stream = chat(client, max_tokens=100, stream=True, **asked)
    calls = [call for piece in stream for call in piece.choices[0].delta.tool_calls or ()]
    assert [call.function.name for call in calls if call.function.name] == ["weather"]
    arguments = json.loads("".join(call.function.arguments or "" for call in calls))
    assert arguments["city"] in ("Oslo", "Rome")


def test_adapter_answers_in_its_own_way(clients):
    plain = complete(clients["stock"]).choices[0].text
    accent = both(clients, lambda client: complete(client, model="accent").choices[0].text)
    assert accent != plain


def test_mixed_requests_at_once_equal_stock(clients):
    from concurrent.futures import ThreadPoolExecutor

    # Adapters only: beside a request with one, the CPU build also applies it to one without.
    asks = [
        {"model": ("accent", "drawl")[at % 3 == 2], "prompt": "ab" * (at * 5 % 97 + 1)}
        | {"max_tokens": 10 + at * 7 % 50}
        for at in range(40)
    ]
    answers = {}
    for name, client in clients.items():
        with ThreadPoolExecutor(20) as pool:
            done = pool.map(lambda ask, client=client: complete(client, **ask), asks)
            answers[name] = [one.choices[0].text for one in done]
    assert answers["ours"] == answers["stock"]


def test_a_bad_request_is_the_clients_error(client):
    from openai import BadRequestError

    with pytest.raises(BadRequestError):
        complete(client, max_tokens=100_000)
    assert complete(client).choices[0].text
