"""KV blocks and the prefix cache, counted in runs of blocks rather than one by one.

It follows vLLM 0.32 (`v1/core/block_pool.py`, `kv_cache_manager.py`): a released block that is full
can be found again and waits in LRU order, the end of a sequence before its beginning; any other
released block is reused first. Which physical block is taken never matters, so counts suffice.

Prompts name their content by prefix ids of `block_tokens` tokens; an id stands for
ceil(block_tokens / block_size) blocks and for everything before it, and is found whole or not at
all (exact where both sizes are equal). What lies behind the last full id of a prompt, and generated
tokens, are found again only by their own request, after a drop.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from sojourn.decide.limits import EngineLimits
from sojourn.decide.request import Request


@dataclass(slots=True, eq=False)
class Run:
    """A stretch of full blocks that is leased together and evicted from its end.

    Attributes:
        id: Prefix id, or -1 for a private run.
        blocks: Blocks that it still has.
        users: Requests that lease it; with none (or -1: nobody ever will) it is in the LRU list.
        serial: Its key in the LRU list; -1 when it is not there.
    """

    id: int
    blocks: int
    users: int
    serial: int = -1


@dataclass(slots=True, eq=False)
class Lease:
    """What a request shares with others, and what a drop left of its own.

    Attributes:
        runs: Leased runs, front to back; the request's own blocks follow them.
        tokens: Tokens that they stand for.
        tail: After a drop, the request's own full blocks; else None.
        tail_start: Tokens before the tail.
    """

    runs: list[Run] = field(default_factory=list)
    tokens: int = 0
    tail: Run | None = None
    tail_start: int = 0


class BlockPool:
    """The KV blocks of one replica.

    Attributes:
        bare: Free blocks with nothing to be found again.
        cached: Free blocks in the LRU list.
        lru: Runs without users, the next to be evicted first.
        shelf: The runs that hold a prefix id, whole, the oldest first.
        leases: By request id; absent for a request that shares nothing.
        landed: Requests and tokens whose KV has come, or will, from another replica, by id; their
            blocks are taken.
        lasting: Free blocks that can be taken before somebody refused in this plan may need fewer.
    """

    def __init__(self, limits: EngineLimits) -> None:
        self.total = limits.num_gpu_blocks
        self.block_size = limits.block_size
        self.caching = limits.enable_prefix_caching
        self.id_tokens = limits.block_tokens
        self.id_blocks = -(-limits.block_tokens // limits.block_size)
        self.bare = self.total
        self.cached = 0
        self.serials = 0
        self.lru: OrderedDict[int, Run] = OrderedDict()
        self.shelf: dict[int, list[Run]] = {}
        self.leases: dict[int, Lease] = {}
        self.landed: dict[int, tuple[Request, int]] = {}
        self.lasting = self.total

    @property
    def free(self) -> int:
        """Blocks that can be taken."""
        return self.bare + self.cached

    def take(self, blocks: int) -> None:
        """Take free blocks, evicting the least recently used cached ones if need be."""
        self.lasting -= blocks
        short = max(blocks - self.bare, 0)
        assert short <= self.cached, "took more blocks than are free"
        self.bare -= blocks - short
        self.cached -= short
        while short:
            run = next(iter(self.lru.values()))
            if run.id >= 0:  # one of its blocks is being reused: it is found no more
                copies = self.shelf[run.id]
                copies.remove(run)
                if not copies:
                    del self.shelf[run.id]
                run.id = -1
            taken = min(run.blocks, short)
            run.blocks -= taken
            short -= taken
            if not run.blocks:
                del self.lru[run.serial]
                run.serial = -1

    def give(self, blocks: int) -> None:
        """Give back blocks with nothing to be found again."""
        self.bare += blocks
        assert self.bare + self.cached <= self.total, "gave back more blocks than there are"

    def blocks_at(self, request: Request, tokens: int) -> int:
        """Return the blocks that `tokens` computed tokens of a request occupy, leased or own."""
        if not self.caching or not request.prefix:
            return -(-tokens // self.block_size)
        ids = min(tokens // self.id_tokens, len(request.prefix))
        return ids * self.id_blocks + -(-(tokens - ids * self.id_tokens) // self.block_size)

    def phase(self, request: Request) -> int:
        """Return the tick, modulo the block size, at which a decoding request needs a block."""
        lease = self.leases.get(request.id)
        leased = lease.tokens if lease is not None else 0
        return (request.joined - request.computed + leased) % self.block_size

    def lacking(self, request: Request) -> int:
        """Return the blocks that a waiting request needs, if nothing of it is found."""
        landed = self.landed.get(request.id)
        need = self.blocks_at(request, request.target)
        return need - self.blocks_at(*landed) if landed is not None else need

    def find(self, request: Request) -> tuple[int, list[Run], int]:
        """Return the tokens found for a waiting request, their shared runs, and blocks of its tail.

        The last token is always left over: it must be computed for its logits.
        """
        if request.id in self.landed:
            return self.landed[request.id][1], [], 0
        runs: list[Run] = []
        for id in request.prefix:
            copies = self.shelf.get(id)
            if copies is None:
                break
            runs.append(copies[0])
        tokens = len(runs) * self.id_tokens
        if runs and tokens >= request.target:
            runs.pop()
            tokens -= self.id_tokens
        lease = self.leases.get(request.id)
        if lease is None or lease.tail is None or lease.tail_start != tokens:
            return tokens, runs, 0
        own = min(lease.tail.blocks, (request.target - 1 - tokens) // self.block_size)
        return tokens + own * self.block_size, runs, own

    def admit(self, request: Request, tokens: int, reserve: int) -> int:
        """Take the blocks of a waiting request's first chunk, reusing what the cache holds.

        As in vLLM, the blocks of everything it must compute have to be free, not only the chunk's;
        `reserve` free blocks are left over. Returns the tokens found in the cache, or -1 if the
        blocks are not free (then nothing changed).
        """
        if request.id in self.landed:
            return self._admit_landed(request, tokens, reserve)
        if not self.caching or (not request.prefix and request.id not in self.leases):
            if -(-request.target // self.block_size) + reserve > self.bare + self.cached:
                return -1
            self.take(-(-tokens // self.block_size))
            return 0
        found, runs, own = self.find(request)
        leased = self.id_blocks * sum(run.users > 0 for run in runs)
        need = self.blocks_at(request, request.target) - leased
        if found + tokens > request.target or need + reserve > self.free:
            self.lasting = self._before_a_leased_copy(runs)
            return -1
        self._lease(request, runs, own)
        have = len(runs) * self.id_blocks + own
        self.take(self.blocks_at(request, found + tokens) - have)
        self.publish(request, found + tokens)
        return found

    def land(self, request: Request, tokens: int) -> bool:
        """Take the blocks of `tokens` tokens whose KV comes from another replica, if they are free.

        One block is left over, so that the request can go on; if it fills the whole cache, its
        last block has room for that.
        """
        blocks = self.blocks_at(request, tokens)
        if blocks >= self.free and not blocks == self.free == self.total:
            return False
        self.take(blocks)
        self.landed[request.id] = (request, tokens)
        return True

    def unland(self, request: Request) -> None:
        """Give the blocks of KV from another replica back, unused."""
        if request.id in self.landed:
            self.give(self.blocks_at(*self.landed.pop(request.id)))

    def lend(self, request: Request) -> int:
        """Lease what is found of a request that queues elsewhere, to be read; return its tokens."""
        tokens, runs, _ = self.find(request)
        if runs:
            self._lease(request, runs, 0)
        return tokens

    def shelve(self, id: int) -> None:
        """Let whole prefix ids that landed from another replica be found by everybody."""
        request, tokens = self.landed.pop(id)
        self.leases[id] = Lease()
        self.publish(request, tokens)
        self.release(request, tokens, again=False)

    def _admit_landed(self, request: Request, tokens: int, reserve: int) -> int:
        """Take the further blocks of a request whose KV came from another replica."""
        found = self.landed[request.id][1]
        have = self.blocks_at(request, found)
        if self.lacking(request) + reserve > self.free:
            return -1
        del self.landed[request.id]
        self.take(self.blocks_at(request, found + tokens) - have)
        if self.caching and request.prefix:
            self.leases[request.id] = Lease()
            self.publish(request, found + tokens)
        return found

    def restore(self, request: Request) -> int:
        """Take the blocks of KV that comes back from host memory; return how many."""
        blocks = self.blocks_at(request, request.computed)
        self.take(blocks)
        if self.caching and request.prefix:
            self.leases[request.id] = Lease()
            self.publish(request, request.computed)
        return blocks

    def publish(self, request: Request, tokens: int) -> None:
        """Put the prefix ids that `tokens` computed tokens complete on the shelf."""
        if not self.caching or not request.prefix:
            return
        lease = self.leases[request.id]
        ids = min(tokens // self.id_tokens, len(request.prefix))
        for id in request.prefix[len(lease.runs) : ids]:
            run = Run(id, self.id_blocks, 1)
            lease.runs.append(run)
            lease.tokens += self.id_tokens
            self.shelf.setdefault(id, []).append(run)

    def release(self, request: Request, tokens: int, again: bool) -> None:
        """Give back the blocks of `tokens` computed tokens; `again` if it will need them anew."""
        lease = self.leases.pop(request.id, None)
        own = tokens - (lease.tokens if lease is not None else 0)
        assert own >= 0, "released less than it leases"
        full = own // self.block_size if self.caching else 0
        self.give(-(-own // self.block_size) - full)
        tail = self._shelve_tail(full, again) if full else None
        if lease is not None:
            for run in reversed(lease.runs):
                run.users -= 1
                if run.users == 0:
                    self._to_lru(run)
        if again and (tail is not None or request.prefix):
            self.leases[request.id] = Lease(tail=tail, tail_start=tokens - own)

    def _shelve_tail(self, blocks: int, again: bool) -> Run | None:
        """Put a request's own full blocks into the LRU list; nobody else's are ever found again."""
        last = next(reversed(self.lru.values()), None)
        if not again and last is not None and last.users < 0:
            last.blocks += blocks
            self.cached += blocks
            return None
        tail = Run(-1, blocks, 0 if again else -1)
        self._to_lru(tail)
        return tail

    def _to_lru(self, run: Run) -> None:
        self.serials += 1
        run.serial = self.serials
        self.lru[run.serial] = run
        self.cached += run.blocks

    def _before_a_leased_copy(self, runs: list[Run]) -> int:
        """Return the free blocks that can go before `find` meets a leased copy of one of `runs`."""
        hide = [r.serial for r in runs if not r.users and any(c.users for c in self.shelf[r.id])]
        ahead = (run.blocks for run in self.lru.values() if run.serial < min(hide))
        return self.bare + sum(ahead) if hide else self.total

    def _lease(self, request: Request, runs: list[Run], own: int) -> None:
        """Take what was found out of the LRU list."""
        old = self.leases.get(request.id)
        self.leases[request.id] = Lease(runs, len(runs) * self.id_tokens)
        for run in runs:
            if run.users == 0:
                del self.lru[run.serial]
                run.serial = -1
                self.cached -= run.blocks
            run.users += 1
        if own:
            assert old is not None and old.tail is not None  # noqa: PT018 - one fact: it was found
            old.tail.blocks -= own
            self.cached -= own
            if old.tail.blocks == 0:
                del self.lru[old.tail.serial]
