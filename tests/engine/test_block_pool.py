"""Blocks counted in runs against vLLM's pool modelled block by block."""

from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_blocks import PlainPool

from sojourn.decide.limits import EngineLimits
from sojourn.decide.request import Request
from sojourn.engine.blocks import BlockPool

SETTINGS = settings(max_examples=250, deadline=None)


def limits(total, block_size, block_tokens=None):
    return EngineLimits(
        num_gpu_blocks=total,
        block_size=block_size,
        max_num_seqs=1,
        max_model_len=total * block_size,
        block_tokens=block_size if block_tokens is None else block_tokens,
    )


class Both:
    """The same requests in both pools; `tokens` are those computed by the resident ones."""

    def __init__(self, total, block_size, requests):
        self.counted = BlockPool(limits(total, block_size))
        self.plain = PlainPool(total, block_size)
        self.requests = requests
        self.resident = {}

    def admit(self, request, chunk):
        left = request.target - self.counted.find(request)[0]
        chunk = min(chunk, left)
        found = self.counted.admit(request, chunk, 0)
        assert found == self.plain.admit(request, chunk), "found"
        if found >= 0:
            request.computed = found + chunk
            self.resident[request.id] = request

    def grow(self, request, tokens):
        size = self.counted.block_size
        end = request.computed + tokens
        need = -(-end // size) - -(-request.computed // size)
        if need > self.counted.free:
            return
        self.counted.take(need)
        self.counted.publish(request, min(end, request.prompt))
        self.plain.grow(request, end)
        request.computed = end
        request.target = max(request.target, end + 1)

    def release(self, request, again):
        self.counted.release(request, request.computed, again=again)
        self.plain.release(request)
        del self.resident[request.id]
        request.computed = 0
        if not again:
            # A finished request never comes back: its own tokens are nobody's any more.
            self.requests.remove(request)

    def compare(self):
        assert self.counted.free == self.plain.free, "free"
        for request in self.requests:
            if request.id not in self.resident:
                hits = len(self.plain.hits(request)) * self.plain.block_size
                assert self.counted.find(request)[0] == hits, f"hits of {request.id}"


@st.composite
def crowds(draw):
    block_size = draw(st.sampled_from([1, 2, 3]))
    requests = []
    for id in range(draw(st.integers(2, 7))):
        prompt = draw(st.integers(1, 6 * block_size))
        family, shared = draw(st.integers(0, 1)), draw(st.integers(0, 6))
        prefix = tuple(
            family * 100 + i if i < shared else 1000 * (id + 1) + i
            for i in range(prompt // block_size)
        )
        requests.append(Request(id, 0, prompt, prefix=prefix))
    total = draw(st.integers(6, 16))
    size = block_size * 3
    steps = st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(1, size))
    return total, block_size, requests, draw(st.lists(steps, max_size=40))


@SETTINGS
@given(crowd=crowds())
def test_runs_give_the_same_free_counts_and_hits_as_single_blocks(crowd):
    total, block_size, requests, steps = crowd
    both = Both(total, block_size, requests)
    for which, what, tokens in steps:
        if not both.requests:
            break
        request = both.requests[which % len(both.requests)]
        if request.id not in both.resident:
            both.admit(request, tokens)
        elif what == 0:
            both.release(request, again=True)
        elif what == 1:
            both.release(request, again=False)
        else:
            both.grow(request, tokens)
        both.compare()
    for request in list(both.resident.values()):
        both.release(request, again=False)
    assert both.counted.free == total


def a_pool(total=10, block_size=4):
    return BlockPool(limits(total, block_size))


def test_a_shared_prefix_is_leased_not_taken_twice():
    # 2 blocks of prefix and 1 of its own each: 2 + 1 + 1 in use.
    pool = a_pool()
    one, two = Request(0, 0, 10, prefix=(7, 8)), Request(1, 0, 10, prefix=(7, 8))
    assert pool.admit(one, 10, 0) == 0
    assert pool.admit(two, 2, 0) == 8
    assert pool.free == 10 - 4


def test_the_last_token_is_always_left_to_compute():
    pool = a_pool()
    one, two = Request(0, 0, 8, prefix=(7, 8)), Request(1, 0, 8, prefix=(7, 8))
    pool.admit(one, 8, 0)
    assert pool.find(two)[0] == 4


def test_looking_changes_nothing():
    pool = a_pool()
    one, two = Request(0, 0, 10, prefix=(7, 8)), Request(1, 0, 10, prefix=(7, 8))
    pool.admit(one, 10, 0)
    pool.release(one, 10, again=False)
    before = (pool.bare, pool.cached, list(pool.lru), dict(pool.shelf))
    pool.find(two)
    assert (pool.bare, pool.cached, list(pool.lru), dict(pool.shelf)) == before


def test_the_end_of_a_sequence_is_evicted_before_its_beginning():
    pool = a_pool(total=4, block_size=1)
    one, two = Request(0, 0, 4, prefix=(5, 6, 7, 8)), Request(1, 0, 4, prefix=(5, 6, 7, 8))
    pool.admit(one, 4, 0)
    pool.release(one, 4, again=False)
    pool.take(2)
    assert pool.find(two)[0] == 2


def test_a_refused_admission_changes_nothing_and_counts_the_whole_request():
    # The chunk of 4 would fit into 2 free blocks; the prompt of 12 needs 3.
    pool = a_pool(total=4)
    pool.take(2)
    assert pool.admit(Request(0, 0, 12), 4, 0) == -1
    assert pool.free == 2


def test_an_admission_leaves_the_reserve():
    pool = a_pool(total=4)
    assert pool.admit(Request(0, 0, 12), 12, 2) == -1
    assert pool.admit(Request(0, 0, 12), 12, 1) == 0


def test_without_caching_nothing_is_found():
    pool = BlockPool(
        EngineLimits(
            num_gpu_blocks=10,
            block_size=4,
            max_num_seqs=1,
            max_model_len=40,
            enable_prefix_caching=False,
            block_tokens=4,
        )
    )
    one, two = Request(0, 0, 10, prefix=(7, 8)), Request(1, 0, 10, prefix=(7, 8))
    pool.admit(one, 10, 0)
    assert pool.admit(two, 10, 0) == 0
    assert pool.free == 4


def test_an_id_of_several_blocks_is_found_whole_or_not_at_all():
    # An id of 8 tokens is 2 blocks of 4; evicting one of them loses the id.
    pool = BlockPool(limits(4, 4, block_tokens=8))
    one, two = Request(0, 0, 16, prefix=(5, 6)), Request(1, 0, 16, prefix=(5, 6))
    pool.admit(one, 16, 0)
    pool.release(one, 16, again=False)
    assert pool.find(two)[0] == 8
    pool.take(1)
    assert pool.find(two)[0] == 8  # the second id went, and with it both its blocks' content
    pool.take(2)
    assert pool.find(two)[0] == 0


def test_swapped_kv_comes_back_into_as_many_blocks_and_can_be_found_again():
    pool = a_pool()
    one, two = Request(0, 0, 10, prefix=(7, 8)), Request(1, 0, 10, prefix=(7, 8))
    pool.admit(one, 10, 0)
    one.computed = 13
    pool.take(1)
    assert pool.free == 6
    pool.release(one, 13, again=False)
    pool.take(10)  # everything is evicted
    pool.give(10)
    assert pool.find(two)[0] == 0
    assert pool.restore(one) == 4
    assert pool.free == 6
    assert pool.find(two)[0] == 8
    pool.release(one, 13, again=False)
    assert pool.free == 10
