"""The invariants of a replica, asserted after every step in tests; a program apart from the engine.

Each INV-n is listed in docs/reference/invariants.md.
"""

from __future__ import annotations

from sojourn.decide.request import Request
from sojourn.decide.states import (
    DECODE,
    HELD,
    NAMES,
    PAUSED,
    PREFILL,
    SWAPPED,
    SWAPPING_IN,
    SWAPPING_OUT,
    WAITING,
)
from sojourn.engine.blocks import Run
from sojourn.engine.replica import Replica

QUEUED = (WAITING, PAUSED, SWAPPED)
RESIDENT = (PREFILL, DECODE, PAUSED, SWAPPING_OUT, SWAPPING_IN, HELD)


class Invariants:
    """Checks one replica again and again; remembers what must never go back.

    Attributes:
        requests: Every request that the replica was seen to have, until it ended.
    """

    def __init__(self) -> None:
        self.requests: dict[int, Request] = {}
        self.steps = 0
        self.decoded: dict[int, int] = {}

    def __call__(self, replica: Replica) -> None:
        """Assert all invariants."""
        self._collect(replica)
        self._queues(replica)
        self._seats(replica)
        self._blocks(replica)
        self._clock(replica)
        self._plan(replica)

    def _collect(self, replica: Replica) -> None:
        machine = replica.machine
        seen = [*machine.queue.requests(), *machine.seated.values()]
        seen += [request for request, _ in machine.held.values()]
        seen += [copy[2] for copy in replica.host.copies]
        self.requests.update((request.id, request) for request in seen)
        here = (*QUEUED, *RESIDENT)
        ended = [
            id
            for id, request in self.requests.items()
            if request.state not in here or (id not in replica.outputs and id not in machine.held)
        ]
        for id in ended:  # or left: what it does elsewhere is checked there
            del self.requests[id]
            self.decoded.pop(id, None)

    def _queues(self, replica: Replica) -> None:
        """INV-1 and INV-2: each request is in exactly the containers that its state says."""
        machine = replica.machine
        queued = {request.id for request in machine.queue.requests()}
        for request in self.requests.values():
            state = NAMES[request.state]
            assert (request.id in queued) == (request.state in QUEUED), f"INV-1 queue: {state}"
            assert (request.id in machine.seated) == (request.state in (PREFILL, DECODE)), (
                f"INV-1 seat: {state}"
            )
            assert (request.id in machine.partials) == (request.state == PREFILL), "INV-1 partials"
            assert (request.id in machine.paused.live) == (request.state == PAUSED), "INV-1 paused"
            assert (request.id in machine.parked.live) == (request.state == PAUSED), "INV-1 parked"
            assert (request.id in machine.held) == (request.state == HELD), "INV-1 held"
            if machine.standings is not None:
                assert (request.id in machine.standings.live) == (request.state == DECODE), (
                    "INV-1 standing"
                )
        best = machine.queue.peek(replica.draft.now)
        assert (best is None) == (not queued), "INV-2: a queue with requests has a best one"

    def _seats(self, replica: Replica) -> None:
        """INV-3: seats are never overdrawn, and are numbered in order."""
        machine = replica.machine
        assert len(machine.seated) <= machine.limits.max_num_seqs, "INV-3: more than max_num_seqs"
        seats = [request.seat for request in machine.seated.values()]
        assert seats == sorted(seats), "INV-3: seat order"
        decodes = sum(request.state == DECODE for request in machine.seated.values())
        assert decodes == machine.decodes, "INV-3: decodes"

    def _blocks(self, replica: Replica) -> None:
        """INV-4 to INV-6: every block is counted once, leases have users, the cache is a tree."""
        pool, machine = replica.pool, replica.machine
        used = 0
        runs: dict[int, Run] = {}
        users: dict[int, int] = {}
        for request, tokens in replica.exports.values():
            lease = pool.leases.get(request.id)
            own = tokens - (lease.tokens if lease is not None else 0)
            used += -(-own // pool.block_size)
            for run in lease.runs if lease is not None else ():
                runs[id(run)] = run
                users[id(run)] = users.get(id(run), 0) + 1
        used += sum(pool.blocks_at(*landed) for landed in pool.landed.values())
        for request in self.requests.values():
            lease = pool.leases.get(request.id)
            if request.state not in RESIDENT:
                idle = lease is None or not lease.runs or request.id in replica.exports
                assert idle, "INV-5: a lease without KV"
                continue
            tokens = request.computed
            if request.state == DECODE:
                tokens += machine.ticks - request.joined
            tokens += _granted(replica, request)
            if lease is not None:
                tokens -= lease.tokens
                for run in lease.runs:
                    runs[id(run)] = run
                    users[id(run)] = users.get(id(run), 0) + 1
            used += -(-tokens // pool.block_size)
        used += sum(run.blocks for run in runs.values())
        assert used + pool.free == pool.total, (
            f"INV-4: {used} used + {pool.free} free is not {pool.total}"
        )
        assert pool.bare >= 0, "INV-4: bare"
        assert pool.cached == sum(run.blocks for run in pool.lru.values()), "INV-4: cached"
        for key, run in runs.items():
            assert run.users == users[key], "INV-5: users"
            assert run.serial == -1, "INV-5: a leased run in the LRU list"
        for run in pool.lru.values():
            assert run.users <= 0, "INV-5: users in the LRU list"
            assert run.blocks > 0, "INV-5: an empty run in the LRU list"
        for shelved, copies in pool.shelf.items():
            assert copies, "INV-6: an id without a copy"
            for copy in copies:
                assert copy.id == shelved, "INV-6: a copy on the wrong shelf"
                assert copy.blocks == pool.id_blocks, "INV-6: a copy that is not whole"

    def _clock(self, replica: Replica) -> None:
        """INV-7 and INV-8: closed forms agree with counting, and progress never goes back."""
        machine = replica.machine
        context = 0
        phases = [0] * replica.pool.block_size
        for request in machine.seated.values():
            if request.state != DECODE:
                continue
            progress = machine.ticks - request.joined
            context += request.computed + progress + 1
            phases[replica.pool.phase(request)] += 1
            left = replica.outputs[request.id] - request.decoded - progress
            assert left >= 0, "INV-7: a decode past its last token"
            assert request.finish_tick == machine.ticks + left, "INV-7: finish tick"
        assert context == replica.context, "INV-7: context"
        assert phases == replica.phases, "INV-7: block histogram"
        assert machine.steps >= self.steps, "INV-8: steps went back"
        self.steps = machine.steps
        for request in self.requests.values():
            decoded = request.decoded
            if request.state == DECODE:
                decoded += machine.ticks - request.joined
            assert decoded >= self.decoded.get(request.id, 0), "INV-8: tokens went back"
            self.decoded[request.id] = decoded

    def _plan(self, replica: Replica) -> None:
        """INV-9: a plan keeps to the token budget and grants no request twice."""
        if not replica.steps:
            return
        draft, limits = replica.draft, replica.machine.limits
        granted = [request.id for request, _ in draft.grants]
        assert len(granted) == len(set(granted)), "INV-9: granted twice"
        tokens = sum(n for _, n in draft.grants)
        decodes = replica.machine.decodes if draft.decoding else 0
        assert tokens + decodes <= limits.max_num_batched_tokens, "INV-9: over the token budget"
        assert tokens + decodes > 0, "INV-9: an empty step"
        for request, n in draft.grants:
            assert request.state == PREFILL, "INV-9: granted without a seat"
            assert 0 < n <= request.target - request.computed, "INV-9: granted too much"


def _granted(replica: Replica, request: Request) -> int:
    """Return the tokens that a plan in progress has taken blocks for beyond those computed."""
    if not replica.steps:
        return 0
    if request.state == DECODE:
        return 1 if replica.draft.decoding else 0
    return sum(n for r, n in replica.draft.grants if r is request)
