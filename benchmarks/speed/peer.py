"""The same traces through NVIDIA Dynamo's offline replay (Rust), in the same session.

Its step times are its own polynomial, which knows no model and no GPU; the requests, the rate, the
KV blocks and the limits are the same. Prefix ids never repeat, since none of the traces shares any.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.speed.child import run, sojourn
from benchmarks.speed.workloads import ENGINE, SEED, Workload
from sojourn.trace import read_trace

BLOCK_TOKENS: Final = 16
LOAD: Final = 0.5
"""Fraction of our capacity at which both simulators keep up with the traffic."""
LAWS: Final = ("--prompt", "lognormal:mean=600,sigma=1,cap=4096")
ANSWERS: Final = ("--answer", "lognormal:mean=200,sigma=1,cap=2048")


@dataclass(frozen=True, slots=True)
class Race:
    """One trace through both.

    Attributes:
        name: What the trace is.
        requests: How many.
        ours, theirs: CPU seconds of the whole commands.
        our_tpot, their_tpot: Mean seconds for each output token, to show that both were busy.
    """

    name: str
    requests: int
    ours: float
    theirs: float
    our_tpot: float
    their_tpot: float


def races(
    workloads: Iterable[Workload], python: str, folder: Path, requests: int
) -> Iterator[Race]:
    """Run the Poisson trace of all requests and the heads of the others through both."""
    poisson = folder / f"poisson_{requests}.parquet"
    if not poisson.is_file():
        arguments = ("--rate", "6", "--requests", str(requests), "--seed", SEED, *LAWS, *ANSWERS)
        sojourn("trace", "generate", "-o", str(poisson), *arguments)
    yield _race("Poisson, 600 / 200 tokens, 6 /s", poisson, requests, 1.0, python)
    for workload in workloads:
        count = round(requests * workload.kind.peer_share)
        scale = workload.scale * LOAD
        yield _race(f"{workload.kind.name}, load {LOAD:g}", workload.path, count, scale, python)


def _race(name: str, path: Path, count: int, scale: float, python: str) -> Race:
    results = path.with_name(f"{path.stem}_peer.json")
    flags: Sequence[str] = ("--limit", str(count), "--rate-scale", repr(scale), "-q")
    ours = sojourn("simulate", str(path), *ENGINE, *flags, "--json", str(results))
    document = json.loads(results.read_text(encoding="utf-8"))
    blocks = document["limits"]["num_gpu_blocks"]
    theirs = run([python, _SCRIPT, str(_mooncake(path, count, scale)), str(blocks)])
    said = json.loads(theirs.output.splitlines()[-1])
    assert said["completed_requests"] == count, "the peer did not finish all requests"
    return Race(
        name=name,
        requests=count,
        ours=ours.cpu_seconds,
        theirs=theirs.cpu_seconds,
        our_tpot=document["results"][0]["tpot_seconds"]["mean"],
        their_tpot=said["mean_tpot_ms"] / 1000,
    )


_SCRIPT: Final = str(Path(__file__).with_name("peer_replay.py"))


def _mooncake(path: Path, count: int, scale: float) -> Path:
    """Write the first requests of a trace in the peer's format, at a rate."""
    trace = read_trace(path, limit=count)
    target = path.with_suffix(".jsonl")
    used = 0
    with target.open("w", encoding="utf-8") as lines:
        columns = zip(
            (trace.arrival_seconds * (1000 / scale)).tolist(),
            trace.prompt_tokens.tolist(),
            trace.output_tokens.tolist(),
            strict=True,
        )
        for milliseconds, prompt, output in columns:
            blocks = -(-prompt // BLOCK_TOKENS)
            row = {
                "timestamp": milliseconds,
                "input_length": prompt,
                "output_length": output,
                "hash_ids": list(range(used, used + blocks)),
            }
            lines.write(json.dumps(row) + "\n")
            used += blocks
    return target


def table(found: Iterable[Race]) -> str:
    """Return the races as a Markdown table."""
    lines = [
        "| trace | requests | Sojourn, CPU s | peer, CPU s | Sojourn, requests / CPU s "
        "| peer, requests / CPU s | ratio | mean TPOT, Sojourn / peer |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {race.name} | {race.requests:,} | {race.ours:.2f} | {race.theirs:.2f} "
        f"| {race.requests / race.ours:,.0f} | {race.requests / race.theirs:,.0f} "
        f"| {race.theirs / race.ours:.2f} "
        f"| {race.our_tpot * 1000:.1f} / {race.their_tpot * 1000:.1f} ms |"
        for race in found
    ]
    return "\n".join(lines)
