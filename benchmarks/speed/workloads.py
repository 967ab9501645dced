"""The two kinds of traffic, made once, and the rates at which they are run."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.speed.child import sojourn

SEED: Final = "1"
HEAD: Final = 5_000
"""Requests on which the capacity is measured."""
LOADS: Final = (0.3, 0.9, 1.2)
"""Fractions of the capacity of the `vllm` recipe."""
ENGINE: Final = ("--model", "llama-3.1-8b", "--gpu", "h100-sxm")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of traffic.

    Attributes:
        name: What it is called here.
        lengths: File that prompt and output lengths are drawn from, in pairs.
        rate: Requests per second of that file.
        cv: Coefficient of variation of its arrival gaps.
        slowest: The recipe that takes the longest on it (`--all` shows).
        peer_share: Share of the requests that the peer is given, which works by the token.
    """

    name: str
    lengths: str
    rate: float
    cv: float
    slowest: str
    peer_share: float


KINDS: Final = (
    Kind("ServeGen R1", "servegen_deepseek_r1.parquet", 12.6, 1.63, "fastserve", 0.1),
    Kind("Azure conv", "azure23_conv.parquet", 5.62, 1.07, "fastserve", 1.0),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """A generated trace.

    Attributes:
        kind: What it is like.
        path: The Parquet file.
        requests: How many it has.
        capacity: The highest rate that the `vllm` recipe sustains on its head, requests per second.
        scale: That rate as a factor on the trace's own.
    """

    kind: Kind
    path: Path
    requests: int
    capacity: float
    scale: float

    def sentence(self) -> str:
        """Say how long it is and what its loads are fractions of."""
        head = min(HEAD, self.requests)
        return (
            f"{self.kind.name}: {self.requests:,} requests; the capacity of `vllm` on the first "
            f"{head:,} is {self.capacity:.2f} requests per second."
        )


def make(kind: Kind, data: Path, folder: Path, requests: int) -> Workload:
    """Generate the trace of a kind and measure the capacity on its head."""
    path = folder / f"{kind.lengths.partition('.')[0]}_{requests}.parquet"
    if not path.is_file():
        sojourn(
            *("trace", "generate", "-o", str(path), "--seed", SEED),
            *("--rate", str(kind.rate), "--requests", str(requests)),
            *("--arrivals", f"gamma:cv={kind.cv}", "--lengths-from", str(data / kind.lengths)),
        )
    results = folder / f"{path.stem}_capacity.json"
    head = ("--limit", str(min(HEAD, requests)), "--load", "1")
    sojourn("simulate", str(path), *ENGINE, *head, "--json", str(results), "-q")
    found = json.loads(results.read_text(encoding="utf-8"))
    scale = found["limits"]["rate_scales"][0]
    return Workload(kind, path, requests, found["capacity_rps"], scale)


def make_all(data: Path, folder: Path, requests: int, jobs: int) -> list[Workload]:
    """Generate the traces of all kinds; those whose lengths are not there are skipped."""
    kinds = []
    for kind in KINDS:
        if (data / kind.lengths).is_file():
            kinds.append(kind)
        else:
            print(f"skipped: {kind.name}, for {data / kind.lengths} does not exist")
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda kind: make(kind, data, folder, requests), kinds))
