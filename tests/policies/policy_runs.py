"""Small whole runs for hand-worked policy examples: one second a step unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.clock import NEVER, SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.decide.request import Request
from sojourn.decide.slots import Services
from sojourn.recipes.load import DEFAULTS, Recipe
from sojourn.recipes.parameters import make_config
from sojourn.sim.check import Invariants
from sojourn.sim.loop import Setup, Simulation
from sojourn.sim.workload import Workload
from sojourn.steplog.record import SloClass

SECOND_A_STEP = Fitted(Coefficients(fixed=1.0))
"""Every step takes one second, whatever it computes."""


def a_recipe(**slots):
    """Return a recipe of policies by slot: a name, or (name, {parameter: value})."""
    filled = {}
    for slot, default in DEFAULTS.items():
        wanted = slots.pop(slot, default)
        name, values = wanted if isinstance(wanted, tuple) else (wanted, {})
        filled[slot] = (name, make_config(slot, name, values, "test"))
    assert not slots, f"no such slot: {slots}"
    return Recipe("test", "test", "", "", "policy", filled)


def limits(**changed):
    """Return roomy limits with one-token blocks, so that blocks are tokens."""
    values = {
        "num_gpu_blocks": 1000,
        "block_size": 1,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 1000,
        "enable_prefix_caching": False,
    }
    values.update(changed)
    values.setdefault("max_model_len", values["num_gpu_blocks"] * values["block_size"])
    return EngineLimits(**values)


def rows_of(*rows, classes=(), slo=None, following=None, gap=None, program=None, prefix=()):
    """Return a workload of (arrival seconds, prompt, output[, tenant]) rows."""
    count = len(rows)
    following = following or [-1] * count
    arrival = [round(row[0] * SECOND) for row in rows]
    for row in following:
        if row >= 0:
            arrival[row] = -1
    return Workload(
        name="hand-worked",
        arrival=arrival,
        prompt=[row[1] for row in rows],
        output=[row[2] for row in rows],
        tenant=[row[3] if len(row) > 3 else 0 for row in rows],
        slo_class=slo or [0] * count,
        program=program or [-1] * count,
        turn=[0] * count,
        gap=[round(g * SECOND) for g in gap] if gap else [0] * count,
        following=following,
        prefix=list(prefix),
        tenants=("a", "b", "c"),
        classes=tuple(classes) or (SloClass("all"),),
        block_tokens=1 if prefix else 0,
        span=SECOND,
    )


@dataclass
class Outcome:
    """What happened, with times in seconds.

    Attributes:
        finish, first: Moment of the last and of the first token of each row.
        moves: (second, row, state) in order.
        steps: (start, prefill tokens, decodes) of each step, one by one.
    """

    record: object
    finish: list[float]
    first: list[float]
    moves: list[tuple[float, int, str]]
    steps: list[tuple[float, int, int]]

    def entered(self, state):
        """Return the rows that entered a state, in order."""
        return [row for _, row, name in self.moves if name == state]

    @property
    def total(self):
        """Return the sum of the times from arrival to the last token."""
        requests = self.record.requests
        return float((requests.finish - requests.arrival).sum() / SECOND)

    @property
    def mean(self):
        """Return the mean time from arrival to the last token."""
        return self.total / len(self.finish)


def simulate(
    workload,
    recipe=None,
    cost=SECOND_A_STEP,
    swap=0.0,
    until=NEVER,
    check=None,
    max_horizon=1,
    **changed,
):
    """Run with invariants asserted, step by step unless told otherwise; return what happened."""
    invariants = check or Invariants()
    setup = Setup(
        recipe=recipe or a_recipe(),
        limits=limits(**changed),
        step_time=cost,
        swap_block_seconds=swap,
        trace_states=True,
        max_horizon=max_horizon,
        check=invariants,
    )
    record = Simulation(workload, setup).run(until=until)
    requests, moves, steps = record.requests, record.transitions, record.steps
    return Outcome(
        record=record,
        finish=[t / SECOND for t in requests.finish.tolist()],
        first=[t / SECOND for t in requests.first_token.tolist()],
        moves=[
            (time / SECOND, row, record.states[state])
            for time, row, state in zip(
                moves.time.tolist(), moves.request.tolist(), moves.state.tolist(), strict=True
            )
        ],
        steps=[
            (start / SECOND, tokens, decodes)
            for start, tokens, decodes in zip(
                steps.start.tolist(),
                steps.prefill_tokens.tolist(),
                steps.decodes.tolist(),
                strict=True,
            )
        ],
    )


@dataclass
class View:
    """A replica as a policy sees it; tests set the fields."""

    limits: EngineLimits
    steps: int = 0
    ticks: int = 0
    decodes: int = 0


class Lengths:
    """True lengths by request id."""

    def __init__(self, lengths):
        self.lengths = lengths

    def output_tokens(self, request):
        return self.lengths[request.id]


def services(cost=SECOND_A_STEP, lengths=None, **changed):
    """Return services with a view whose fields can be set."""
    truth = None if lengths is None else Lengths(lengths)
    return Services(View(limits(**changed)), cost, truth)


def a_request(id, arrival=0.0, prompt=1, **fields):
    """Return a request that arrived at a second."""
    return Request(id, round(arrival * SECOND), prompt, **fields)
