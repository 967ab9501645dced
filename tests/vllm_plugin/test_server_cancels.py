"""Clients that go away at random moments: whatever they held is free again."""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.request
from contextlib import suppress
from importlib.util import find_spec

import pytest
from test_server_clients import settled

from sojourn.cli.main import main

pytestmark = pytest.mark.skipif(
    find_spec("aiohttp") is None, reason="aiohttp is not installed; vLLM brings it"
)

CANCELS = 1000
AT_ONCE = 40
PATIENCE_SECONDS_MAX = (0.4, 0.8, 1.6, 3.2)
"""Tried in turn: on a busy machine clients in a hurry leave before an answer begins."""


async def go_away(session, url, source, slots, patience_max):
    """Send a request and leave, before or amid the answer; return whether it came to its end."""
    prompt = "the work " * source.choice((1, 10, 50))
    body = {"model": "tiny", "prompt": prompt, "ignore_eos": True}
    body |= {"max_tokens": source.choice((8, 200)), "n": source.choice((1, 1, 1, 3))}
    patience = source.random() ** 2 * patience_max
    async with slots:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                given = {"json": body | {"stream": True, "temperature": 1.0}}
                async with session.post(f"{url}/v1/completions", **given) as answer:
                    assert answer.status == 200
                    async for line in answer.content:
                        if line == b"data: [DONE]\n":
                            return True
    return False


async def cancel_many(url, patience_max):
    import aiohttp

    source, slots = random.Random(11), asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession() as session:
        going = [go_away(session, url, source, slots, patience_max) for _ in range(CANCELS)]
        return await asyncio.gather(*going)


def completion(server):
    body = {"model": "tiny", "prompt": "after", "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"{server.url}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["choices"][0]["text"]


def test_a_thousand_cancelled_requests_leave_nothing(pair):
    server = pair.ours
    generated = server.metric("vllm:generation_tokens_total")
    for patience_max in PATIENCE_SECONDS_MAX:
        finished = asyncio.run(cancel_many(server.url, patience_max))
        assert sum(finished) < CANCELS / 2, "hardly a request was cancelled"
        if server.metric("vllm:generation_tokens_total") > generated + CANCELS:
            break
    else:
        raise AssertionError("answers were cancelled before they began")
    assert settled(server), server.get("/metrics")
    for name in ("paused_requests", "held_requests", "held_blocks", "policy_errors_total"):
        assert server.metric(f"sojourn:{name}") == 0, name
    assert completion(server) == completion(pair.stock)


def test_mode_is_switched_while_it_serves(pair, capsys):
    server = pair.ours
    expected = completion(server)
    for mode in ("shadow", "off", "act"):
        assert main(["mode", mode, "--port", str(server.port)]) == 0
        assert main(["mode", "--port", str(server.port)]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == mode
        time.sleep(1.2)
        assert completion(server) == expected
