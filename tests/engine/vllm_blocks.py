"""A plain model of vLLM's block pool, block by block: what `BlockPool` counts in runs.

Free blocks are one queue. A released block that is full, and so can be found again by its hash,
goes to the back, the last block of a sequence first; any other goes to the front. Blocks are taken
from the front, and what they held is found no more.
"""

from __future__ import annotations


class Block:
    """One physical block."""

    def __init__(self):
        self.hash = None
        self.users = 0


class PlainPool:
    """All blocks, the queue of free ones, and who holds what."""

    def __init__(self, total, block_size):
        self.block_size = block_size
        self.blocks = [Block() for _ in range(total)]
        self.queue = list(self.blocks)
        self.held = {}
        self.by_hash = {}

    @property
    def free(self):
        return len(self.queue)

    def hashes(self, request, tokens):
        """Return the hashes of a request's full blocks; equal prompts have equal ones."""
        full = tokens // self.block_size
        own = [("own", request.id, index) for index in range(full)]
        return [*request.prefix[:full], *own[len(request.prefix[:full]) :]]

    def hits(self, request):
        """Return the blocks that hold the longest prefix of a request, its last token left."""
        found = []
        for hash in self.hashes(request, request.target - 1):
            if not self.by_hash.get(hash):
                break
            found.append(self.by_hash[hash][0])
        return found

    def admit(self, request, tokens):
        """Return the tokens found, or -1 if not all of the request's blocks are free."""
        found = self.hits(request)
        need = -(-request.target // self.block_size) - len(found)
        if need + sum(block.users == 0 for block in found) > self.free:
            return -1
        for block in found:
            if block.users == 0:
                self.queue.remove(block)
            block.users += 1
        self.held[request.id] = list(found)
        computed = len(found) * self.block_size
        self.grow(request, computed + tokens)
        return computed

    def grow(self, request, tokens):
        """Hold the blocks of so many tokens."""
        mine = self.held[request.id]
        while len(mine) < -(-tokens // self.block_size):
            block = self.queue.pop(0)
            self._forget(block)
            block.users = 1
            mine.append(block)
        for block, hash in zip(mine, self.hashes(request, tokens), strict=False):
            if block.hash is None:
                block.hash = hash
                self.by_hash.setdefault(hash, []).append(block)

    def release(self, request):
        """Give everything back, last block first."""
        freed = []
        for block in reversed(self.held.pop(request.id)):
            block.users -= 1
            if block.users == 0:
                freed.append(block)
        self.queue[:0] = [block for block in freed if block.hash is None]
        self.queue += [block for block in freed if block.hash is not None]

    def _forget(self, block):
        if block.hash is not None:
            self.by_hash[block.hash].remove(block)
            block.hash = None
