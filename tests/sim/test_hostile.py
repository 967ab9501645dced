"""Policies that propose noise: whatever is refused changes nothing, and every request ends."""

import random
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from sojourn.cost import Coefficients, Fitted
from sojourn.decide import states as st
from sojourn.decide.clock import NEVER, SECOND
from sojourn.decide.limits import EngineLimits
from sojourn.decide.needs import Need
from sojourn.decide.slots import Mode, Refusal, Yield
from sojourn.policies.order.steady import Steady
from sojourn.recipes import load_recipe
from sojourn.recipes.load import Recipe
from sojourn.sim.check import Invariants
from sojourn.sim.loop import Setup, Simulation
from sojourn.sim.workload import Workload
from sojourn.steplog.record import FINISHED, SloClass

COST = Fitted(Coefficients(fixed=0.01, prefill_token=0.001, decode=0.0001, context_token=1e-6))


class Noise(Steady):
    """Ranks at random, anew each time, and knows every request."""

    changes = "events"

    def __init__(self, rng):
        super().__init__()
        self.rng = rng
        self.known = {}

    def key(self, _request, _now):
        return (self.rng.randint(0, 5),)

    standing = key

    def moved(self, request, _start, _finish, _now):
        self.known[request.id] = request

    def holds(self, _request, _now):
        return 1, 0


class Vandal:
    """Yields whom it likes, or nobody; swaps paused requests out for no reason."""

    needs = frozenset({Need.DROP, Need.SWAP})

    def __init__(self, rng, heeds_room):
        self.rng = rng
        self.heeds_room = heeds_room
        self.keep_free = rng.randint(0, 3)

    def victim(self, pressure, _wants, _now):
        if self.rng.random() < 0.3:
            return None
        choices = [*pressure.seated_last_first()]
        if (paused := pressure.worst_paused()) is not None:
            choices.append(paused)
        return Yield(self.rng.choice(choices), Mode.DROP) if choices else None

    def prepare(self, pressure, _free_blocks):
        paused = pressure.worst_paused()
        if paused is None or self.rng.random() < 0.8:
            return None
        if self.heeds_room and paused.computed > pressure.swap_room:
            return None
        return Yield(paused, Mode.SWAP)


class Babbler:
    """Proposes noise in half of the steps, then composes honestly what is left to compose."""

    needs = frozenset({Need.CHUNK, Need.PAUSE, Need.DROP})
    alarm_step = NEVER

    def __init__(self, rng, order, contests, proposals):
        self.rng = rng
        self.order = order
        self.contests = contests
        self.proposals = proposals
        self.said = dict.fromkeys((None, *Refusal), 0)

    def compose(self, draft):
        draft.secure()
        if self.rng.random() < 0.5:
            for _ in range(self.rng.randint(1, 12)):
                self.babble(draft)
        self.honest(draft)

    def babble(self, draft):
        """Propose something about anybody, ended requests included."""
        about = self.rng.choice(list(self.order.known.values()) or [draft.peek()])
        proposal = self.rng.choice(self.proposals)
        before = state_of(draft)
        pressed = draft.yielded
        answer = proposal(self.rng, draft, about)
        self.said[answer] += 1
        if answer is not None and draft.yielded == pressed:
            assert state_of(draft) == before, f"{proposal.__name__}: a refusal that changed things"

    def honest(self, draft):
        """Decode, continue what has begun, and let the best in."""
        view = draft.machine
        while (head := draft.peek()) is not None and head.state == st.SWAPPED:
            if draft.fetch(head) is not None:
                break
        for partial in draft.partials():
            tokens = min(draft.remaining(partial), draft.tokens - view.decodes)
            if partial.id not in view.granted:
                draft.grant(partial, tokens)
        for parked in (False, True):
            head = draft.peek(parked)
            if head is None or head.state == st.SWAPPED or draft.seats <= 0:
                continue
            if head.state == st.PAUSED and head.computed >= head.target:
                if draft.tokens > view.decodes:
                    draft.resume(head)
            elif not draft.grants:
                draft.make_room(head)
                tokens = min(draft.remaining(head), draft.tokens - view.decodes)
                draft.grant(head, tokens)
        draft.decode()


def propose_wild_grant(rng, draft, about):
    """Grant any number of tokens, whether there are so many or not, and again."""
    return draft.grant(about, rng.randint(-2, draft.tokens + 3))


def propose_grant(rng, draft, about):
    """Grant anybody some of what is left to compute, once, and leave the decodes their tokens."""
    room = min(draft.remaining(about), draft.tokens - draft.machine.decodes)
    if about.id in draft.machine.granted or room <= 0:
        return draft.grant(about, rng.randint(-2, 0))
    return draft.grant(about, rng.randint(0, room))


def propose_resume(_rng, draft, about):
    """Seat anybody, if another decode would have its token."""
    return draft.resume(about) if draft.tokens > draft.machine.decodes else None


def propose_fetch(_rng, draft, about):
    return draft.fetch(about)


def propose_unseat(rng, draft, about):
    return draft.unseat(about, rng.choice(list(Mode)))


TAME = (propose_grant, propose_resume, propose_fetch, propose_unseat)
WILD = (*TAME, propose_wild_grant)


def state_of(draft):
    """Return everything that a refusal must leave as it was."""
    machine, pool = draft.machine, draft.pool
    return (
        draft.tokens,
        draft.seats,
        list(draft.grants),
        (draft.pairs, draft.prior, draft.decoding),
        (pool.bare, pool.cached, list(pool.lru), list(pool.leases)),
        (list(machine.queue.live), list(machine.seated), list(machine.partials)),
        (list(machine.paused.live), list(machine.held), machine.decodes, machine.seatings),
        len(machine.story),
    )


@dataclass(frozen=True)
class Hostile(Recipe):
    """A recipe whose policies are noise."""

    seed: int = 0
    contests: bool = False
    proposals: tuple = TAME
    heeds_room: bool = True
    built: object = None

    def build(self, services):
        rng = random.Random(self.seed)
        order = Noise(rng)
        self.built.babbler = Babbler(rng, order, self.contests, self.proposals)
        return replace(
            Recipe.build(self, services),
            order=order,
            compose=self.built.babbler,
            victim=Vandal(rng, self.heeds_room),
        )


def hostile(seed, **noise):
    fields = load_recipe("vllm")
    named = {name: getattr(fields, name) for name in Recipe.__slots__}
    return Hostile(**named, seed=seed, built=SimpleNamespace(), **noise)


def a_workload(rng):
    count = rng.randint(1, 20)
    prompt = [rng.randint(1, 40) for _ in range(count)]
    size = rng.choice([1, 4])
    prefix = [
        tuple(i if i < 4 else 100 * (row + 1) + i for i in range(tokens // size))
        for row, tokens in enumerate(prompt)
    ]
    workload = Workload(
        name="hostile",
        arrival=sorted(round(rng.random() * SECOND) for _ in range(count)),
        prompt=prompt,
        output=[rng.randint(1, 30) for _ in range(count)],
        tenant=[rng.randint(0, 2) for _ in range(count)],
        slo_class=[0] * count,
        program=[-1] * count,
        turn=[0] * count,
        gap=[0] * count,
        following=[-1] * count,
        prefix=prefix,
        tenants=("a", "b", "c"),
        classes=(SloClass("all"),),
        block_tokens=size,
        span=SECOND,
    )
    blocks = rng.randint(80 // size, 240 // size)
    limits = EngineLimits(
        num_gpu_blocks=blocks,
        block_size=size,
        max_num_seqs=(seats := rng.choice([1, 2, 4, 16])),
        max_num_batched_tokens=max(seats, rng.choice([4, 16, 64])),
        max_model_len=blocks * size,
        swap_blocks=rng.choice([0, 20, 1000]),
        block_tokens=size,
    )
    return workload, limits


def run(seed, **noise):
    """Run a workload under noise with invariants asserted after every step."""
    workload, limits = a_workload(random.Random(f"workload {seed}"))
    recipe = hostile(seed, **noise)
    invariants = Invariants()

    def check(replica):
        invariants(replica)
        assert 0 <= replica.host.used <= replica.host.blocks, "host memory overdrawn"

    setup = Setup(
        recipe=recipe,
        limits=limits,
        step_time=COST,
        swap_block_seconds=0.001,
        check=check,
    )
    simulation = Simulation(workload, setup)
    record = simulation.run(until=10_000 * SECOND)
    return simulation, record, recipe.built.babbler.said


@pytest.mark.parametrize("contests", [False, True], ids=["queue", "contest"])
def test_noise_breaks_no_invariant_and_every_request_ends(contests):
    said = {}
    for seed in range(40):
        simulation, record, answers = run(seed, contests=contests)
        requests = record.requests
        assert (requests.outcome == FINISHED).all(), f"seed {seed}"
        assert requests.output_tokens.tolist() == simulation.workload.output
        pool = simulation.replicas[0].pool
        assert pool.free == pool.total, f"seed {seed}"
        for answer, count in answers.items():
            said[answer] = said.get(answer, 0) + count
    assert all(said.values()), f"answers never given: {said}"


@pytest.mark.parametrize("contests", [False, True], ids=["queue", "contest"])
def test_grants_of_any_size_break_no_invariant(contests):
    for seed in range(40):
        assert (run(seed, contests=contests, proposals=WILD)[1].requests.outcome == FINISHED).all()


def test_a_victim_policy_cannot_overdraw_host_memory():
    for seed in range(40):
        run(seed, contests=True, heeds_room=False)
