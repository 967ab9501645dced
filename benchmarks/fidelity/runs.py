"""Runs of the real engine and of the simulator, in the same numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, Final

import numpy as np

from benchmarks.fidelity.pace import Beats, Clock, Floats, Probe
from benchmarks.fidelity.traffic import Mix, burst, workload
from benchmarks.vllm_gain.serving import Asked, Flags, Server
from sojourn.cli.calibrate import decision_seconds
from sojourn.cli.recording import engine_of
from sojourn.cost.calibration import calibrate
from sojourn.cost.samples import Samples, joined, samples
from sojourn.decide.clock import SECOND
from sojourn.recipes import Recipe, load_recipe
from sojourn.sim.loop import Simulation
from sojourn.sim.study import Fleet
from sojourn.steplog.read import read_source, read_steplog

MEASURES: Final = ("mean TTFT", "mean TPOT", "mean E2E", "makespan", "throughput")
CAPACITY_REQUESTS: Final = 800
RATE: Final = "rate.json"
PROBE_SECONDS_MAX: Final = 15.0
LONGEST_FACTOR: Final = 2.0
"""A run that takes this many times what its arrivals do is cut."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """A run in numbers: seconds, and tokens a second."""

    ttft: float
    tpot: float
    e2e: float
    makespan: float
    throughput: float

    def of(self, measure: str) -> float:
        """Return a number by its name in `MEASURES`."""
        values = (self.ttft, self.tpot, self.e2e, self.makespan, self.throughput)
        return values[MEASURES.index(measure)]


def numbers(rows: Sequence[tuple[float, float, float, int]]) -> Numbers:
    """Return a run in numbers, from (sent, first token, last token, tokens) of each request."""
    streams = [(last - first) / (n - 1) for _, first, last, n in rows if n > 1]
    makespan = max(row[2] for row in rows) - min(row[0] for row in rows)
    return Numbers(
        ttft=sum(first - sent for sent, first, _, _ in rows) / len(rows),
        tpot=sum(streams) / len(streams),
        e2e=sum(last - sent for sent, _, last, _ in rows) / len(rows),
        makespan=makespan,
        throughput=sum(row[3] for row in rows) / makespan,
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """A run of the real engine.

    Attributes:
        asked: Its requests.
        recipe: Its recipe; empty for stock's order.
        moments: Of each request when it was sent, its first and its last token, as
            `time.perf_counter` has them (n x 3).
        tokens: Tokens of each answer.
        begun, log_begun: When its arrivals and when the times of its step log begin.
        probe: How fast the machine was.
        logs: Files of its step log.
    """

    asked: list[Asked]
    recipe: str
    moments: Floats
    tokens: list[int]
    begun: float
    log_begun: float
    probe: Beats
    logs: list[Path]

    def save(self, path: Path) -> None:
        """Write it to a file; what prompts say is left out."""
        document = {
            "asked": [(one.at, len(one.prompt), one.output) for one in self.asked],
            "recipe": self.recipe,
            "moments": self.moments.tolist(),
            "tokens": self.tokens,
            "begun": self.begun,
            "log_begun": self.log_begun,
            "probe": asdict(self.probe),
            "logs": [log.name for log in self.logs],
        }
        path.write_text(json.dumps(document), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Seen:
        """Read it from a file."""
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            [Asked(at, [0] * prompt, output) for at, prompt, output in document["asked"]],
            document["recipe"],
            np.array(document["moments"]),
            document["tokens"],
            document["begun"],
            document["log_begun"],
            Beats(**document["probe"]),
            [path.with_suffix("") / name for name in document["logs"]],
        )

    def numbers(self, clock: Clock) -> Numbers:
        """Return it in numbers."""
        times = clock.at(self.moments).tolist()
        return numbers([(*row, count) for row, count in zip(times, self.tokens, strict=True)])

    def sent(self, clock: Clock) -> list[Asked]:
        """Return its requests with the moments at which they were sent."""
        moments = clock.at([self.begun + one.at for one in self.asked]) - clock.at(self.begun)
        return [replace(one, at=at) for one, at in zip(self.asked, moments.tolist(), strict=True)]

    def steps(self, clock: Clock) -> Samples:
        """Return its steps."""
        record = read_steplog(self.logs)
        begins = self.log_begun + record.steps.start / SECOND
        start = clock.at(begins) - clock.at(self.log_begun)
        end = clock.at(begins + record.steps.duration / SECOND) - clock.at(self.log_begun)
        told = replace(
            record.steps,
            start=np.rint(start * SECOND).astype(np.int64),
            duration=np.rint((end - start) * SECOND).astype(np.int64),
        )
        return samples(told, str(self.logs[0]), decision_seconds(record.recipe)[0])


class Bench:
    """The real engine, and what a fit to some of its runs says.

    Attributes:
        server: The engine.
        flags: Its seats and budget.
        folder: Where step logs go.
        tell: Called with progress.
    """

    def __init__(
        self, server: Server, flags: Flags, folder: Path, tell: Callable[[str], None]
    ) -> None:
        self.server = server
        self.flags = flags
        self.folder = folder
        self.tell = tell

    def probe(self, asked: Sequence[Asked]) -> float:
        """Return the requests a second that stock serves of a backlog."""
        self.server.install(self.flags)
        self.server.warm()
        served = self.server.run(asked, PROBE_SECONDS_MAX)
        ends = [one.finish for one in served if one.finish >= 0]
        if not ends:
            raise RuntimeError(f"no request was answered in {PROBE_SECONDS_MAX:.0f} s")
        rate = len(ends) / max(ends)
        self.tell(f"probe: {rate:.1f} requests/s")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / RATE).write_text(json.dumps(rate), encoding="utf-8")
        return rate

    def serve(self, name: str, asked: list[Asked], recipe: str = "") -> Seen:
        """Serve requests with a recipe, or in stock's order, and return what clients saw.

        Every run is recorded, so that none is slower for it than another.

        Raises:
            RuntimeError: If the run took far longer than its arrivals.
        """
        settings: dict[str, Any] = {
            "recipe": recipe or "vllm",
            "mode": "act" if recipe else "off",
            "step_log": str(self.folder / name),
        }
        self.server.install(
            Flags(self.flags.seats, self.flags.budget, settings=settings, name=name)
        )
        probe = Probe()
        self.server.between = probe.beat
        limit = LONGEST_FACTOR * asked[-1].at + 30.0
        served = self.server.run(asked, limit)
        self.server.between = None
        if errors := self.server.errors():
            raise RuntimeError(f"run {name}: the recipe failed: {errors}")
        if self.server.cut:
            raise RuntimeError(f"run {name} was not done after {limit:.0f} s: the load is too high")
        log_begun = self.server.core.scheduler.begun + perf_counter() - monotonic()
        self.server.install(self.flags)  # which ends the step log
        seen = Seen(
            asked,
            recipe,
            self.server.begun + np.array([(one.sent, one.first, one.finish) for one in served]),
            [len(one.tokens) for one in served],
            self.server.begun,
            log_begun,
            probe.beats,
            sorted((self.folder / name).iterdir()),
        )
        seen.save(self.folder / f"{name}.json")
        found = seen.numbers(Clock(seen.probe, None))
        self.tell(
            f"run {name}: {len(asked)} requests in {found.makespan:.1f} s, mean TTFT "
            f"{found.ttft * 1e3:.1f} ms, TPOT {found.tpot * 1e3:.2f} ms, E2E {found.e2e:.3f} s; "
            f"probe {np.mean(seen.probe.took) * 1e3:.2f} ms"
        )
        return seen


class Recorded:
    """What an earlier call measured, in the place of a `Bench`: to predict it anew.

    Attributes:
        folder: Where it kept its logs.
        tell: Called with progress.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self.tell = tell

    def rounds(self, last: str) -> int:
        """Return how many rounds it holds, each of which ends with the run of a name."""
        return len(list(self.folder.glob(f"{last}-*.json"))) - 1

    def probe(self, asked: Sequence[Asked]) -> float:
        """Return the rate that was found; whatever is asked now."""
        del asked
        return float(json.loads((self.folder / RATE).read_text(encoding="utf-8")))

    def serve(self, name: str, asked: list[Asked], recipe: str = "") -> Seen:
        """Return the run of a name, whatever is asked now."""
        del asked, recipe
        return Seen.load(self.folder / f"{name}.json")


def fit(runs: Sequence[Seen], usual: float | None) -> Prediction:
    """Return what recorded runs let us predict, in plain seconds or in even ones (see `Clock`)."""
    found = calibrate(joined([run.steps(Clock(run.probe, usual)) for run in runs]))
    logs = runs[-1].logs
    cost = logs[0].parent.with_suffix(".toml")
    cost.write_text(found.coefficients.to_toml(), encoding="utf-8")
    _, fleet, _ = engine_of(read_steplog(logs), read_source(logs), cost, logs, load_recipe("vllm"))
    error = found.overall.held_out.median
    return Prediction(fleet, f"held-out median error {error:.1%} over {len(found.samples):,} rows")


@dataclass(frozen=True, slots=True)
class Prediction:
    """A simulated engine with fitted step times.

    Attributes:
        fleet: The engine.
        where: What the step times come from, with the held-out error.
    """

    fleet: Fleet
    where: str

    def simulate(self, asked: Sequence[Asked], recipe: str = "") -> Numbers:
        """Predict a run from when its requests are sent and how long they are."""
        chosen: Recipe = load_recipe(recipe or "vllm")
        done = Simulation(workload(asked), self.fleet.setup(chosen)).run().requests
        second = 1e12
        columns = (done.arrival / second, done.first_token / second, done.finish / second)
        return numbers(list(zip(*columns, done.output_tokens.tolist(), strict=True)))

    def capacity(self, mix: Mix) -> float:
        """Return the requests a second of a mix that the simulated engine serves of a backlog."""
        asked = burst(mix, CAPACITY_REQUESTS, seed=9)
        return len(asked) / self.simulate(asked).makespan
