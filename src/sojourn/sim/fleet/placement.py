"""DistServe's placement searches: which parallelism for each phase gives most goodput per GPU.

Source: DistServe (Zhong et al., OSDI 2024), algorithms 1 and 2; LLMServe/DistServe @ 82831f1,
`simdistserve/benchmarks`. Where a network joins all GPUs well (high affinity), the phases are
searched apart: prefill alone against TTFT, decode alone against TPOT. Where only a node's own
links are fast (low affinity), prefill and decode of the same pipeline segment must share a node.

A pipeline of `pp` stages is run as `pp` replicas that each hold a share of the KV and whose steps
take as long as a micro-batch takes through all stages: a stage that is free takes the next batch,
and as many are under way as there are stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Final

import numpy as np

from sojourn.cost.fitted import Coefficients, Fitted
from sojourn.decide.clock import SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.decide.services import StepTime
from sojourn.errors import UserError
from sojourn.fleet.design import Design, Group, Link
from sojourn.fleet.views import DECODE, MIXED, PREFILL
from sojourn.policies.tables import SLOTS
from sojourn.recipes.load import Recipe, load_recipe
from sojourn.sim.fleet.loop import FleetSimulation
from sojourn.sim.workload import Workload, make_workload
from sojourn.steplog.record import FINISHED, RunRecord
from sojourn.trace.model import build_trace

DEGREES: Final = (1, 2, 4, 8, 16)
"""Parallel degrees that are tried."""
BLOCK: Final = 16
"""Tokens in a KV block."""
NVLINK: Final = Link("nvlink", 300e9)
"""What joins the A100s of a node."""


@dataclass(frozen=True, slots=True, order=True)
class Parallel:
    """Tensor and pipeline parallel degrees of one instance."""

    tensor: int
    pipeline: int

    @property
    def gpus(self) -> int:
        """GPUs of an instance."""
        return self.tensor * self.pipeline


@dataclass(frozen=True, slots=True, order=True)
class Placement:
    """An instance of each phase; in each of `segments` nodes one segment of both pipelines.

    Attributes:
        segments: Nodes that the pipelines cross.
        prefill, decode: Degrees inside a segment.
    """

    segments: int
    prefill: Parallel
    decode: Parallel

    @property
    def gpus(self) -> int:
        """GPUs of both instances."""
        return self.segments * (self.prefill.gpus + self.decode.gpus)

    def whole(self, part: Parallel) -> Parallel:
        """Return the degrees of an instance over all segments."""
        return Parallel(part.tensor, self.segments * part.pipeline)


@dataclass(frozen=True, slots=True)
class Engine:
    """A model on a kind of GPU, at any degree of parallelism.

    Attributes:
        step_time: Step times by (tensor, pipeline) degrees, of a micro-batch through all stages.
        kv_tokens: KV tokens that an instance holds; 0 where the model does not fit.
        kv_token_bytes: Bytes of KV of a token.
        prefill, decode: Recipes of the replicas of each phase.
        prefill_tokens: Most tokens of a prefill step.
        max_model_len: Prompt and output tokens of a request.
        prefill_seats, decode_seats: Most requests of a step, of the released code.
        link: What carries KV from prefill to decode under low affinity.
    """

    step_time: Callable[[int, int], StepTime]
    kv_tokens: Callable[[int, int], int]
    kv_token_bytes: int
    prefill: Recipe
    decode: Recipe
    prefill_tokens: int = 8192
    max_model_len: int = 2048
    prefill_seats: int = 128
    decode_seats: int = 1024
    link: Link = NVLINK

    def fits(self, parallel: Parallel) -> bool:
        """Return whether each stage can hold at least one request of full length."""
        tokens = self.kv_tokens(parallel.tensor, parallel.pipeline)
        return tokens // parallel.pipeline >= self.max_model_len + BLOCK

    def group(self, name: str, role: str, parallel: Parallel) -> Group:
        """Return the replicas that stand for one instance of a phase."""
        first = role != DECODE
        seats = self.prefill_seats if first else self.decode_seats
        tokens = self.kv_tokens(parallel.tensor, parallel.pipeline) // parallel.pipeline
        return Group(
            name=name,
            count=parallel.pipeline,
            recipe=self.prefill if first else self.decode,
            limits=EngineLimits(
                num_gpu_blocks=tokens // BLOCK,
                block_size=BLOCK,
                max_num_seqs=seats,
                max_num_batched_tokens=max(self.prefill_tokens, seats),
                max_model_len=self.max_model_len,
            ),
            step_time=self.step_time(parallel.tensor, parallel.pipeline),
            role=role,
            gpus=parallel.tensor,
            kv_token_bytes=self.kv_token_bytes,
        )


@dataclass(frozen=True, slots=True)
class Objective:
    """What a rate must meet: this share of requests within each bound."""

    ttft_seconds: float
    tpot_seconds: float
    share: float = 0.9


@dataclass(frozen=True, slots=True)
class Bisection:
    """How goodput is looked for; the defaults are the released code's.

    Attributes:
        requests: Of each simulation, with Poisson arrivals.
        most: Highest rate per GPU.
        tolerance: Rates per GPU closer than this are not told apart.
        seed: Of the draws of lengths and arrivals.
    """

    requests: int = 1000
    most: float = 16.0
    tolerance: float = 0.5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate tried: requests per second and GPU, both quantiles in seconds, and the verdict."""

    per_gpu: float
    ttft_seconds: float
    tpot_seconds: float
    met: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """One placement, or one degree of a phase searched alone.

    Attributes:
        config: What was tried.
        gpus: Its GPUs.
        per_gpu: Highest rate tried that met the objective, in requests per second and GPU; 0 if
            none did.
        probes: The rates tried, in order.
    """

    config: Placement | Parallel
    gpus: int
    per_gpu: float
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The outcome of a search.

    Attributes:
        best: The trial with the highest goodput per GPU; of equals the one with fewer GPUs.
        replicas: How many of it the demand takes.
        trials: All trials, in the order in which they were made.
    """

    best: Trial
    replicas: int
    trials: tuple[Trial, ...]

    @property
    def gpus(self) -> int:
        """GPUs of all replicas."""
        return self.replicas * self.best.gpus


@dataclass(frozen=True, slots=True)
class Search:
    """A search for the placement of an engine.

    Attributes:
        engine: What is placed.
        lengths: Prompt and output tokens of requests to draw from.
        objective: What a rate must meet.
        demand: Requests per second that the replicas must carry.
        nodes, node_gpus: The cluster.
        bisection: How goodput is looked for.
        told: Called after each trial.
    """

    engine: Engine
    lengths: Sequence[tuple[int, int]]
    objective: Objective
    demand: float
    nodes: int = 1
    node_gpus: int = 4
    bisection: Bisection = Bisection()
    told: Callable[[Trial], None] | None = None

    def high_affinity(self) -> tuple[Choice, Choice]:
        """Return the choice for prefill and that for decode, each searched alone.

        Raises:
            UserError: If no degree meets the objective of its phase at any rate tried.
        """
        degrees = list(self._degrees(self.nodes * self.node_gpus))
        prefill = self._drawn(outputs=False)
        decode = self._drawn(outputs=True)
        return (
            self._choose(
                [self._trial(one, one.gpus, prefill, self._alone(one)) for one in degrees]
            ),
            self._choose([self._trial(one, one.gpus, decode, self._fed(one)) for one in degrees]),
        )

    def low_affinity(self) -> Choice:
        """Return the choice among placements whose segments each fit into a node.

        Raises:
            UserError: If no placement meets the objective at any rate tried.
        """
        workload = self._drawn(outputs=True)
        return self._choose(
            [self._trial(one, one.gpus, workload, self._pair(one)) for one in self._placements()]
        )

    def goodput(self, placement: Placement) -> Trial:
        """Return the trial of one placement."""
        return self._trial(
            placement, placement.gpus, self._drawn(outputs=True), self._pair(placement)
        )

    def _degrees(self, most: int) -> Iterator[Parallel]:
        for tensor, pipeline in product(DEGREES, DEGREES):
            one = Parallel(tensor, pipeline)
            if one.gpus <= most and self.engine.fits(one):
                yield one

    def _placements(self) -> Iterator[Placement]:
        inside = [
            Parallel(*one) for one in product(DEGREES, DEGREES) if one[0] * one[1] < self.node_gpus
        ]
        for segments, prefill, decode in product(DEGREES, inside, inside):
            one = Placement(segments, prefill, decode)
            if segments > self.nodes or prefill.gpus + decode.gpus > self.node_gpus:
                continue
            if self.engine.fits(one.whole(prefill)) and self.engine.fits(one.whole(decode)):
                yield one

    def _alone(self, parallel: Parallel) -> Design:
        return _design((self.engine.group("prefill", MIXED, parallel),))

    def _fed(self, parallel: Parallel) -> Design:
        """Return decode replicas whose prompts come out of nothing, at once."""
        decode = self.engine.group("decode", DECODE, parallel)
        source = Group(
            name="source",
            count=1,
            recipe=load_recipe("vllm"),
            limits=EngineLimits(
                num_gpu_blocks=1 << 24,
                max_num_seqs=self.engine.max_model_len,
                max_num_batched_tokens=self.engine.max_model_len,
                max_model_len=self.engine.max_model_len,
            ),
            step_time=Fitted(Coefficients(fixed=1 / SECOND)),
            role=PREFILL,
        )
        return _design((source, decode), Link("none", 1e18))

    def _pair(self, placement: Placement) -> Design:
        prefill, decode = placement.whole(placement.prefill), placement.whole(placement.decode)
        groups = (
            self.engine.group("prefill", PREFILL, prefill),
            self.engine.group("decode", DECODE, decode),
        )
        return _design(groups, self.engine.link)

    def _drawn(self, *, outputs: bool) -> Workload:
        """Return requests at a mean of one per second; without `outputs` each gives one token."""
        rng = np.random.default_rng(self.bisection.seed)
        count = self.bisection.requests
        table = np.array(self.lengths, dtype=np.int64)
        picks = table[rng.integers(0, len(table), count)]
        trace = build_trace(
            name="drawn",
            prompt_tokens=picks[:, 0],
            output_tokens=picks[:, 1] if outputs else np.ones(count, dtype=np.int64),
            arrival_seconds=np.cumsum(rng.exponential(1.0, count)),
        )
        return make_workload(trace)

    def _trial(
        self, config: Placement | Parallel, gpus: int, workload: Workload, design: Design
    ) -> Trial:
        """Bisect the rate per GPU."""
        low, high = 0.0, self.bisection.most
        probes = []
        while high - low > self.bisection.tolerance:
            rate = (low + high) / 2
            record = FleetSimulation(workload, design, rate * gpus).run()
            ttft, tpot = quantiles(record, self.objective.share)
            met = ttft < self.objective.ttft_seconds and tpot < self.objective.tpot_seconds
            probes.append(Probe(rate, ttft, tpot, met))
            low, high = (rate, high) if met else (low, rate)
        trial = Trial(config, gpus, low, tuple(probes))
        if self.told is not None:
            self.told(trial)
        return trial

    def _choose(self, trials: list[Trial]) -> Choice:
        best = max(trials, key=lambda one: (one.per_gpu, -one.gpus), default=None)
        if best is None or not best.per_gpu:
            wanted = self.objective
            raise UserError(
                f"no placement meets {wanted.ttft_seconds:g} s to the first token and "
                f"{wanted.tpot_seconds:g} s a token for {wanted.share:.0%} of requests at any rate "
                f"of {self.bisection.tolerance:g} a second and GPU or more: allow more time, more "
                "GPUs or a finer tolerance"
            )
        replicas = ceil(self.demand / (best.per_gpu * best.gpus))
        return Choice(best, replicas, tuple(trials))


def _design(groups: tuple[Group, ...], link: Link | None = None) -> Design:
    """Return a fleet as DistServe dispatches: shortest queue, then the least loaded decoder."""
    return Design(
        name="placement",
        groups=groups,
        route=("least_load", SLOTS["route"]["least_load"][0](waiting_weight=1)),
        place=("least_loaded", SLOTS["place"]["least_loaded"][0]()),
        scale=("fixed", SLOTS["scale"]["fixed"][0]()),
        default_link=link or Link(),
    )


def quantiles(record: RunRecord, share: float) -> tuple[float, float]:
    """Return the quantiles of TTFT and of TPOT in seconds; what did not finish counts as never."""
    rows = record.requests
    ended = rows.outcome == FINISHED
    ttft = np.where(ended, (rows.first_token - rows.arrival) / SECOND, np.inf)
    each = (rows.finish - rows.first_token) / SECOND / np.maximum(rows.output_tokens - 1, 1)
    tpot = np.where(ended, each, np.inf)
    found = [float(np.quantile(one, share, method="higher")) for one in (ttft, tpot)]
    return found[0], found[1]
