"""vLLM's OpenAI server as a child process, stock or started by `sojourn serve`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

START_SECONDS_MAX = 180
STOP_SECONDS_MAX = 30
LOG_TAIL = 40
PARENT_DEATH_SIGNAL = 1
"""Linux's PR_SET_PDEATHSIG."""

STOCK = ("-P", "-m", "vllm.entrypoints.openai.api_server", "--model")
SOJOURN = ("-c", "from sojourn.cli.main import run; run()", "serve")
SMALL = (
    *("--served-model-name", "tiny", "--host", "127.0.0.1"),
    *("--dtype", "float32", "--enforce-eager", "--disable-uvicorn-access-log"),
    *("--max-model-len", "512", "--block-size", "32", "--num-gpu-blocks-override", "48"),
    *("--max-num-seqs", "8", "--max-num-batched-tokens", "256"),
)
"""Flags for the tiny model: so few seats and blocks that requests wait, and some are preempted.

float32, since a token must not depend on which others were in its batch.
"""

CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
"""One unbound thread, as pinned ones wait for each other on a shared machine; no C++ compiler."""


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    """Let the kernel end a server whose test run is killed; elsewhere than on Linux it stays."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)


class Server:
    """A server that is starting, running, or has ended.

    Attributes:
        port: Where it listens.
        log: File with what it printed.
        process: The child; `sojourn serve` has become vLLM in it.
    """

    def __init__(self, words: Sequence[str], folder: Path, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.log = folder / f"server-{self.port}.log"
        command = [sys.executable, *words, "--port", str(self.port)]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **CPU},
                start_new_session=True,
                preexec_fn=_end_with_parent,
                cwd=folder,
            )

    @property
    def url(self) -> str:
        """The root of its HTTP interface."""
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> Server:
        """Return once it answers; fail with the end of its log if it does not."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
                return self
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise AssertionError(f"the server did not start:\n{self.tail()}")

    def get(self, path: str) -> str:
        """Return the body of a page."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def metric(self, name: str, labels: str = "") -> float:
        """Return the sum of a metric over its labels, those with `labels` among them."""
        found = re.findall(
            rf"^{re.escape(name)}(\{{[^}}]*\}})? (\S+)$", self.get("/metrics"), re.MULTILINE
        )
        return sum(float(value) for shown, value in found if labels in shown)

    def tail(self) -> str:
        """Return the last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL:])

    def stop(self) -> int:
        """End it as an operator would, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"the server did not stop:\n{self.tail()}") from None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # an engine process that outlived it
        return code
