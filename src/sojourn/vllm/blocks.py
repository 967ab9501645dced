"""vLLM's KV blocks as a draft sees them: what is free, less what the draft has promised."""

from __future__ import annotations

from typing import Any

from sojourn.decide.request import Request
from sojourn.vllm import compat
from sojourn.vllm.requests import live


class LiveBlocks:
    """The `engine.draft.Blocks` of a running engine; nothing is taken before vLLM does so itself.

    Attributes:
        block_size: Tokens in a block.
        groups: Blocks that so many tokens take, over all kinds of layers.
        promised: Free blocks that the draft has promised.
        resident: Requests with KV, which fill the model runner's rows.
        rows: Rows that the model runner has.
        found: What the prefix cache holds of the waiting requests that this draft has looked up.
        touched: Free blocks in it that are promised already.
        coming: Hashes of the blocks that this step will put into the prefix cache.
        dropped: Requests dropped by this draft, which vLLM cannot run again in the same step.
        landed: Always empty: no KV comes from another engine.
    """

    def __init__(self, scheduler: Any, rows: int) -> None:
        self.scheduler = scheduler
        self.pool = scheduler.kv_cache_manager.block_pool
        self.block_size: int = scheduler.block_size
        self.groups = compat.block_groups(scheduler)
        self.rows = rows
        self.resident = 0
        self.promised = 0
        self.found: dict[int, tuple[int, list[Any]]] = {}
        self.touched: set[int] = set()
        self.coming: set[Any] = set()
        self.caching: bool = scheduler.kv_cache_manager.enable_caching
        self.dropped: set[int] = set()
        self.landed: dict[int, tuple[Request, int]] = {}

    def begin(self, resident: int) -> None:
        """Forget what the last draft promised; vLLM has done or refused it."""
        self.promised = 0
        self.resident = resident
        self.found.clear()
        self.touched.clear()
        self.coming.clear()
        self.dropped.clear()

    @property
    def free(self) -> int:
        """Blocks that can still be promised."""
        return int(self.pool.get_num_free_blocks()) - self.promised

    def take(self, blocks: int) -> None:
        """Promise blocks."""
        self.promised += blocks

    def blocks_at(self, request: Request, tokens: int) -> int:
        """Return the blocks that `tokens` computed tokens occupy."""
        del request
        return -(-tokens // self.block_size) * self.groups

    def phase(self, request: Request) -> int:
        """Return the tick, modulo the block size, at which a decoding request needs a block."""
        return (request.joined - request.computed) % self.block_size

    def lacking(self, request: Request) -> int:
        """Return the blocks that a waiting request needs, if nothing of it is found."""
        return self.blocks_at(request, request.target)

    def find(self, request: Request) -> tuple[int, object, int]:
        """Return the tokens that the prefix cache holds or will hold when vLLM looks, and blocks.

        vLLM publishes a block when it allocates it, so what an earlier request of this very draft
        computes is found by the next one.
        """
        mine = live(request).vllm
        found = self.found.get(request.id)
        if found is None:
            tokens, blocks = compat.cached(self.scheduler, mine)
            found = self.found[request.id] = (tokens, list(blocks))
        tokens = found[0]
        if self.coming and tokens % self.block_size == 0:
            last = (request.target - 1) // self.block_size
            at = tokens // self.block_size
            hashes = mine.block_hashes
            while at < last and hashes[at] in self.coming:
                at += 1
            tokens = at * self.block_size
        return tokens, found[1], 0

    def admit(self, request: Request, tokens: int, reserve: int) -> int:
        """Promise the blocks of a first chunk; -1 if the whole prompt's are not free.

        The rule is vLLM's: blocks for everything that must be computed, and its own watermark
        unless nothing runs. With the second model runner a request also needs a row.
        """
        mine = live(request)
        if self.resident >= self.rows or mine.id in self.dropped or compat.stale(mine.vllm):
            return -1
        found = self.find(request)[0]
        blocks = self.found[request.id][1]
        have = self.blocks_at(request, found)
        idle = [b for b in blocks if b.ref_cnt == 0 and b.block_id not in self.touched]
        whole = self.blocks_at(request, request.target) - have + len(idle)
        watermark = self.scheduler.kv_cache_manager.watermark_blocks if self.resident else 0
        if found + tokens > request.target or whole + reserve + watermark > self.free:
            return -1
        self.touched.update(b.block_id for b in idle)
        self.take(self.blocks_at(request, found + tokens) - have + len(idle))
        self.publish(request, found + tokens)
        self.resident += 1
        return found

    def publish(self, request: Request, tokens: int) -> None:
        """Note the blocks that `tokens` computed tokens fill: vLLM will publish them."""
        if self.caching:
            self.coming.update(live(request).vllm.block_hashes[: tokens // self.block_size])

    def restore(self, request: Request) -> int:  # noqa: ARG002 - the draft's protocol
        """Never asked: this host does not offer to swap."""
        raise AssertionError("vLLM does not swap")

    def unland(self, request: Request) -> None:  # noqa: ARG002 - the draft's protocol
        """Never asked: nothing comes from another engine."""
        raise AssertionError("nothing has landed")
