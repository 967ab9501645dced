"""Seeded workloads and limits for the comparison, by family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from random import Random

from sojourn.cost import Coefficients, Fitted
from sojourn.decide.limits import EngineLimits
from sojourn.sim.workload import Workload
from sojourn.steplog.record import SloClass

COST = Fitted(
    Coefficients(
        fixed=1.7e-3,
        prefill_token=1.3e-5,
        pair=1.1e-9,
        prior_token=3e-8,
        prompt=2e-5,
        decode=3.1e-5,
        context_token=4.1e-8,
        mixed_context_token=1.3e-8,
    )
)
WHOLE = Fitted(Coefficients(fixed=1e-3))
"""Every step takes a millisecond, so that arrivals and step ends fall together."""

MILLISECOND = 10**9

LIMITS = tuple(
    (size, seats, tokens)
    for size, seats, tokens in product((16, 8), (4, 8, 16, 64), (32, 64, 128, 512))
    if tokens >= seats
)
"""Block size, seats, tokens in a step."""

MEMORY = ("minimal", "tight", "ample")

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A workload under limits, with a name that says how to make it again."""

    name: str
    workload: Workload
    limits: EngineLimits
    cost: Fitted = COST


@dataclass(frozen=True)
class Family:
    """How to draw one kind of workload.

    Attributes:
        requests: Number of requests.
        prompt, output: Bounds of the lengths in tokens.
        gap: Mean time between arrivals, picoseconds.
        burst: Requests that arrive at once, at most.
        room: KV memory where it is tight, in requests of the longest kind.
        prefixes: Draws the prefix ids of each request, if the family has them.
        whole: Whether arrivals and step ends are whole milliseconds.
    """

    requests: int
    prompt: tuple[int, int]
    output: tuple[int, int]
    gap: int
    burst: int = 1
    room: float = 3.0
    prefixes: Callable[[Random, list[int], int], list[Ids]] | None = None
    whole: bool = False


def chains(random: Random, prompts: list[int], block: int) -> list[Ids]:
    """Draw chains of ids from a tree: each request follows one for a while, then leaves it."""
    children: dict[int, list[int]] = {}
    used = 0
    found = []
    for prompt in prompts:
        ids: list[int] = []
        at = 0
        for _ in range(random.randint(0, prompt // block)):
            known = children.setdefault(at, [])
            if known and random.random() > (0.3 if at == 0 else 0.1):
                at = random.choice(known)
            else:
                used += 1
                known.append(used)
                at = used
            ids.append(at)
        found.append(tuple(ids))
    return found


def few_prompts(random: Random, prompts: list[int], block: int) -> list[Ids]:
    """Draw whole prompts from a few documents: full hits, and the same blocks computed twice."""
    documents = random.randint(1, 5)
    found = []
    for prompt in prompts:
        base = 1000 * random.randrange(documents) + 1
        found.append(tuple(range(base, base + prompt // block)))
    return found


FAMILIES = {
    "prefill-heavy": Family(60, (40, 700), (1, 8), 6 * MILLISECOND),
    "decode-heavy": Family(60, (1, 40), (20, 220), 8 * MILLISECOND),
    "mixed": Family(70, (1, 300), (1, 120), 9 * MILLISECOND, room=2.0),
    "preempting": Family(50, (10, 90), (60, 260), 2 * MILLISECOND, room=1.2),
    "chains": Family(70, (16, 400), (1, 60), 7 * MILLISECOND, room=1.5, prefixes=chains),
    "few-prompts": Family(70, (8, 260), (1, 90), 6 * MILLISECOND, room=1.5, prefixes=few_prompts),
    "bursts": Family(80, (1, 250), (1, 70), 80 * MILLISECOND, burst=24, room=2.0),
    "shared-bursts": Family(
        80, (8, 200), (1, 150), 60 * MILLISECOND, burst=30, room=1.1, prefixes=chains
    ),
    "ties": Family(
        70, (1, 150), (1, 60), 2 * MILLISECOND, burst=3, room=1.5, prefixes=chains, whole=True
    ),
}


def draw_arrivals(random: Random, kind: Family) -> list[int]:
    """Draw arrival times, in order."""
    arrival: list[int] = []
    time = 0
    while len(arrival) < kind.requests:
        arrival += [time] * random.randint(1, kind.burst)
        time += round(random.expovariate(1 / kind.gap))
        if kind.whole:
            time -= time % MILLISECOND
    return arrival[: kind.requests]


def make_case(
    family: str, seed: int, shape: tuple[int, int, int], memory: str, caching: bool
) -> Case:
    """Draw one case; equal arguments give the same case.

    Memory is ample, tight, or minimal: what the longest request alone fills. With every third
    seed the model's length limit cuts the longest outputs short.
    """
    kind = FAMILIES[family]
    size, seats, tokens = shape
    random = Random(f"{family} {seed}")
    arrival = draw_arrivals(random, kind)
    prompt = [random.randint(*kind.prompt) for _ in arrival]
    output = [random.randint(*kind.output) for _ in arrival]
    longest = max(p + o for p, o in zip(prompt, output, strict=True))
    if seed % 3 == 2:
        longest = max(kind.prompt[1] + 1, longest * 3 // 4)
    room = {"minimal": 1.0, "tight": kind.room, "ample": kind.requests}[memory]
    block_tokens = size if kind.prefixes is not None else 0
    workload = Workload(
        name=family,
        arrival=arrival,
        prompt=prompt,
        output=output,
        tenant=[0] * len(arrival),
        slo_class=[0] * len(arrival),
        program=[-1] * len(arrival),
        turn=[0] * len(arrival),
        gap=[0] * len(arrival),
        following=[-1] * len(arrival),
        prefix=kind.prefixes(random, prompt, size) if kind.prefixes else [],
        tenants=("all",),
        classes=(SloClass("all"),),
        block_tokens=block_tokens,
        span=arrival[-1],
    )
    limits = EngineLimits(
        num_gpu_blocks=round(-(-longest // size) * room),
        block_size=size,
        max_num_seqs=seats,
        max_num_batched_tokens=tokens,
        max_model_len=longest,
        enable_prefix_caching=caching,
        block_tokens=block_tokens,
    )
    cached = "cached" if caching else "uncached"
    name = f"{family}-{seed} {shape} {memory} {cached}"
    return Case(name, workload, limits, WHOLE if kind.whole else COST)


def cases(family: str, seeds: range, every: int = 1) -> Iterator[Case]:
    """Yield the cases of a family, one in `every` of the product of seeds and limits."""
    grid = product(seeds, LIMITS, MEMORY, (True, False))
    for index, (seed, shape, memory, caching) in enumerate(grid):
        if index % every == 0:
            yield make_case(family, seed, shape, memory, caching)


def odd_cases(family: str, seeds: range) -> Iterator[Case]:
    """Yield one case for each seed, under limits that nobody would choose."""
    for seed in seeds:
        random = Random(f"odd {family} {seed}")
        seats = random.choice((1, 2, 3, 7, 33))
        shape = (random.randint(1, 40), seats, seats + random.choice((0, 1, 5, 30, 3000)))
        yield make_case(family, seed, shape, random.choice(MEMORY), random.random() < 0.7)
