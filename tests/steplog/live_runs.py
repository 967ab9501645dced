"""A live log fed by hand."""

from __future__ import annotations

from pathlib import Path

from sojourn.steplog.live import EndedRequest, LiveConfig, LiveLog, LiveRun
from sojourn.steplog.record import FINISHED, SloClass
from sojourn.steplog.write import Source

STATES = ("new", "waiting", "prefill", "decode", "finished")
MILLISECOND = 10**9
RUN = LiveRun(
    recipe="slo-edf",
    engine="vLLM 0.32.0",
    started_unix_seconds=1.7e9,
    source=Source("service", "tiny", "cpu", 0, {"max_num_seqs": 256}),
    kv_blocks=1000,
    block_tokens=16,
    classes=(SloClass("chat", ttft_seconds=0.5),),
    states=STATES,
)


def opened(folder: Path, **config) -> LiveLog:
    return LiveLog(LiveConfig(Path(folder), **config), RUN).open()


def decode(log: LiveLog, start: int, context: int, decodes: int = 3, **other) -> None:
    """Add a decode step of a millisecond; `start` in milliseconds."""
    row = {
        "prefill_tokens": 0, "prompts": 0, "decodes": decodes, "waiting": 2, "paused": 1,
        "kv_used": 40, "pairs": 0, "prior": 0, "context": context, "duration": MILLISECOND,
    }  # fmt: skip
    log.step(start=start * MILLISECOND, **{**row, **other})


def ended(number: int, **other) -> EndedRequest:
    row = EndedRequest(
        request=number,
        arrival=number * MILLISECOND,
        admitted=(number + 1) * MILLISECOND,
        first_token=(number + 2) * MILLISECOND,
        finish=(number + 50) * MILLISECOND,
        prompt_tokens=40,
        output_tokens=20,
        outcome=FINISHED,
        slo_class="chat",
    )
    return row._replace(**other)
