"""vLLM's own API server with the probe scheduler and our middleware, in processes of its own."""

import json
import os
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from vllm_server import SMALL, STOCK, Server

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, the body as text, and who the engine core thought it was, request by request."""

    status: int
    text: str
    seen: list[dict]


class Client:
    """What calls a server and reads what the probe saw meanwhile."""

    def __init__(self, server, probe_file):
        self.server = server
        self.probe_file = probe_file

    def post(self, path, body, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.server.url + path, data, {"Content-Type": "application/json", **(headers or {})}
        )
        self.probe_file.write_text("", encoding="utf-8")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        lines = self.probe_file.read_text(encoding="utf-8").splitlines()
        return Answer(status, text, [json.loads(line) for line in lines])

    def complete(self, headers=None, **fields):
        body = {"model": "tiny", "prompt": "to be", "max_tokens": 2, **fields}
        return self.post("/v1/completions", body, headers)


@contextmanager
def serving(model, folder, config, *flags, words=STOCK):
    """Run a server until the block ends; yield its client."""
    probe_file = folder / "seen.jsonl"
    probe_file.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBE_FILE", str(probe_file))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
        ours = ("--scheduler-cls", "identity_probe.Probe", "--additional-config")
        rules = json.dumps({"sojourn": {"identity": config}})
        server = Server((*words, str(model), *SMALL, *ours, rules, *flags), folder)
    try:
        yield Client(server.wait(), probe_file)
    finally:
        server.stop()
