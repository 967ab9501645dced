"""Random fleets with random faults, drawn by Hypothesis or from a seed, and their check."""

import random
from dataclasses import dataclass
from unittest.mock import patch

from sojourn.decide.clock import NEVER, SECOND
from sojourn.decide.limits import HORIZON_STEPS, EngineLimits
from sojourn.fleet.design import FAULTS, LOST, Design, Fault, Link
from sojourn.policies.tables import SLOTS
from sojourn.recipes import recipe_names
from sojourn.sim.check import Invariants
from sojourn.sim.fleet import loop
from sojourn.sim.fleet.check import FleetInvariants
from sojourn.sim.workload import Workload
from tests.fleet.fleet_runs import check_end, columns, group
from tests.fleet.noise import PlaceConfig, ScaleConfig, registered
from tests.sim.sim_workloads import COST, MILLISECOND, WHOLE, make

HOSTS = [(name, "vllm") for name in recipe_names()] + [("fastserve", "ideal")]


class Dice:
    """Draws from a seeded generator."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def number(self, least, most):
        return self.random.randint(least, most)

    def choice(self, values):
        return values[self.random.randrange(len(values))]


class Drawn:
    """Draws from Hypothesis, which shrinks what fails."""

    def __init__(self, data, strategies):
        self.data, self.st = data, strategies

    def number(self, least, most):
        return self.data.draw(self.st.integers(least, most))

    def choice(self, values):
        return self.data.draw(self.st.sampled_from(list(values)))


@dataclass
class FleetCase:
    workload: Workload
    design: Design


def fleet_case(dice, *, routes=None, places=None, scales=None):
    """Draw a fleet, a workload and faults; every limit varies."""
    block_size = dice.choice([1, 4, 16])
    longest = dice.choice([8, 40, 120])
    ties = dice.choice([False, False, True])
    block_tokens = dice.choice([0, 0, block_size, block_size + 1])
    workload = _workload(dice, longest, ties, block_tokens)
    groups = _groups(dice, block_size, longest, block_tokens, WHOLE if ties else COST)
    design = Design(
        "drawn",
        groups,
        route=_named(dice, "route", routes),
        place=_place(dice, places),
        scale=_scale(dice, groups, scales),
        links=_links(dice, groups),
        default_link=_link(dice),
        report_period=dice.choice([0, 0, 0, 2, 50]) * MILLISECOND,
        report_age=dice.choice([0, 1, 30]) * MILLISECOND,
        faults=_faults(dice, groups, workload.span + 200 * MILLISECOND, ties),
        lost=dice.choice(LOST),
        attempts=dice.choice([1, 3]),
        most_stages=dice.choice([0, 1, 3]),
        last_blocks=dice.choice([0, 1, 16]),
        seed=dice.number(0, 9),
    )
    return FleetCase(workload, design)


def _workload(dice, longest, ties, block_tokens):
    count, pace = dice.number(1, 24), dice.choice([0, 1, 5, 40])
    rows, prefix, time = [], [], 0
    for _ in range(count):
        time += dice.number(0, 2) * pace * MILLISECOND
        at = time if ties or not pace else time + dice.number(0, MILLISECOND)
        prompt = dice.number(1, longest)
        rows.append((at / SECOND, prompt, dice.number(1, longest), dice.number(0, 2)))
        if block_tokens:
            family, shared = dice.number(0, 2), dice.number(0, 6)
            own = 1000 * len(rows)
            ids = range(prompt // block_tokens)
            prefix.append(tuple(family * 100 + i if i < shared else own + i for i in ids))
    rows = sorted(rows, key=lambda row: row[0]) if not block_tokens else rows
    following, gap = [-1] * count, [0] * count
    if dice.choice([False, True]):
        for row in range(count - 1):
            if dice.choice([False, True]):
                following[row] = row + 1
                gap[row + 1] = dice.choice([0, 1, 3, 100]) * MILLISECOND
    return make(rows, block_tokens=block_tokens, prefix=prefix, following=following, gap=gap)


def _groups(dice, block_size, longest, block_tokens, cost):
    shape = dice.choice(
        [["mixed"], ["mixed", "mixed"], ["prefill", "decode"]] * 2
        + [["mixed", "prefill", "decode"]]
    )
    found = []
    for name, role in zip("abc", shape, strict=False):
        size = dice.choice([block_size, block_size, 3])
        blocks = dice.number(-(-2 * longest // size), -(-6 * longest // size))
        seats = dice.choice([1, 2, 5, 32])
        recipe, host = dice.choice(HOSTS)
        limits = EngineLimits(
            num_gpu_blocks=blocks,
            block_size=size,
            max_num_seqs=seats,
            max_num_batched_tokens=max(seats, dice.choice([1, 7, 64, 2048])),
            max_model_len=dice.choice([blocks * size, 2 * longest]),
            enable_prefix_caching=dice.choice([False, True]) or block_tokens > 0,
            swap_blocks=dice.choice([0, 10, 1000]),
            block_tokens=block_tokens,
        )
        most = dice.number(1, 3)
        found.append(
            group(
                name,
                dice.number(1, most),
                recipe=recipe,
                host=host,
                role=role,
                least=dice.number(0, 1),
                most=most,
                limits=limits,
                step_time=cost,
                start_time=dice.choice([0, 3, 80]) * MILLISECOND,
                swap_block_seconds=0.0005,
            )
        )
    return tuple(found)


def _link(dice):
    rate = dice.choice([1e7, 1e9, 1e12])
    return Link(
        bytes_per_second=rate,
        latency=dice.choice([0, MILLISECOND, 20 * MILLISECOND]),
        setup=dice.choice([0, MILLISECOND]),
        block_setup=dice.choice([0, MILLISECOND // 10]),
        total_bytes_per_second=dice.choice([0.0, rate, 1.5 * rate]),
    )


def _links(dice, groups):
    names = [one.name for one in groups]
    pairs = [(one, other) for one in names for other in names if one <= other]
    return {pair: _link(dice) for pair in pairs if dice.choice([False, True])}


def _named(dice, slot, names=None):
    name = dice.choice(names or sorted(SLOTS[slot]))
    return name, SLOTS[slot][name][0]()


def _place(dice, names):
    name, config = _named(dice, "place", names)
    if name != "noise":
        return name, config
    period = dice.choice([1, 7, 31]) * MILLISECOND + dice.number(0, 1) * 333
    return name, PlaceConfig(period, dice.choice([False, False, True]), dice.number(1, 4))


def _scale(dice, groups, names):
    name, config = _named(dice, "scale", names)
    if name != "noise":
        return name, config
    period = dice.choice([5, 50, 300]) * MILLISECOND
    return name, ScaleConfig(period, tuple(one.name for one in groups))


def _faults(dice, groups, span, ties):
    found, count = [], sum(one.count for one in groups)
    names = [one.name for one in groups]
    for _ in range(dice.choice([0, 1, 2, 5])):
        kind = dice.choice(FAULTS)
        time = dice.number(0, span // MILLISECOND) * MILLISECOND
        time = dice.choice([found[-1].time, time]) if found else time
        duration = dice.choice([NEVER, 0, 5 * MILLISECOND, 400 * MILLISECOND])
        if kind == "cut":
            found.append(
                Fault(
                    kind,
                    time,
                    group=dice.choice(names),
                    other=dice.choice(names),
                    duration=duration,
                )
            )
            continue
        replica = dice.number(-1, count)
        found.append(
            Fault(
                kind,
                time + (0 if ties else dice.choice([0, 1, 777])),
                replica=replica,
                group=dice.choice(["", *names]) if replica < 0 else "",
                duration=duration,
                notice=dice.choice([0, 30 * MILLISECOND]),
                factor=dice.choice([1.0, 1.3, 2.0, 7.5]),
            )
        )
    if dice.choice([False] * 5 + [True]):  # all are down for a while, or for good
        time, back = span // 2, dice.choice([NEVER, 50 * MILLISECOND])
        found += [Fault("crash", time, replica=one, duration=back) for one in range(count)]
    return tuple(found)


def simulate(case, *, max_horizon=HORIZON_STEPS, check=True):
    """Run a case with all invariants after every event; return the simulation and its record."""
    checks = {}

    def every_step(replica):
        checks.setdefault(replica.index, Invariants())(replica)

    sim = loop.FleetSimulation(
        case.workload,
        case.design,
        check=every_step if check else None,
        watch=FleetInvariants() if check else None,
        max_horizon=max_horizon,
        trace_states=True,
    )
    left = sim._leftovers

    def leftovers():
        check_left(sim)
        left()

    sim._leftovers = leftovers
    record = sim.run()
    check_end(sim, record)
    return sim, record


def check_left(sim):
    """Assert that whoever nobody served was really waiting for what there was not."""
    kept = {request.id for request in sim.kept}
    unplaced = {one.request.id for one in sim.unplaced}
    for id, (_, index) in sim.open.items():
        if id in kept:
            free = not sim.entries or sim.design.route[0] in KEEPERS
            assert free, f"request {id} was kept although replicas were up"
        elif id in unplaced:
            free = not sim.decoders or sim.design.place[0] not in ("noise", "least_loaded")
            assert free, f"request {id} was not decoded although replicas were up"
        else:
            move = sim.moves.live.get(id)
            if move is None:
                where = sim.units[index].replica
                coming = [one for one in where.pool.landed if one not in where.machine.queue.live]
                full = any(one in sim.open for one in (*where.exports, *coming))
                assert full, f"request {id} waits on replica {index} for ever"
                continue
            assert move.stream is not None, f"request {id} waits for room for ever"
            assert move.stream.pair in sim.links.severed, f"request {id} was never copied"


KEEPERS = ("on_demand", "pool_forward", "stochastic_balance")
"""Routers that may keep requests although somebody is up."""


def check_case(case):
    """Check a case in jumps and in steps."""
    with patch.object(loop, "IDLE_RINGS_MAX", 300), patch.object(loop, "LONE_RINGS_MAX", 6000):
        jumped = simulate(case)
        stepped = simulate(case, max_horizon=1)
    left, right = columns(jumped[1]), columns(stepped[1])
    for one, other in zip(left, right, strict=True):
        assert one == other, f"jumped {difference(one, other)}"
    return jumped


def difference(one, other):
    """Return where two records differ first."""
    if isinstance(one, dict):
        return next(f"{k}: {one[k]} != {other[k]}" for k in one if one[k] != other[k])
    pairs = zip(one, other, strict=False)
    return next((f"{a} != {b}" for a, b in pairs if a != b), f"{len(one)} != {len(other)}")


__all__ = ["Dice", "Drawn", "FleetCase", "check_case", "fleet_case", "registered", "simulate"]
