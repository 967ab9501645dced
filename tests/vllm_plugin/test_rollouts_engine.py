"""The rollout adapter over a real engine: what is kept, resumed, tagged and counted."""

from __future__ import annotations

import asyncio

import pytest

from sojourn.errors import UserError
from sojourn.rollout.events import (
    LENGTH,
    Aborted,
    EngineUp,
    Finished,
    Progress,
    WeightsLive,
    WeightsPending,
)
from sojourn.rollout.needs import RolloutNeed


def greedy(place, host, prompt, count):
    """Return the likeliest tokens behind a prompt, uninterrupted, and their log-probabilities."""
    found = []

    async def test(heard):
        heard.submit(0, prompt, count)
        await heard.over(0)
        found.extend(zip(heard.output[0], heard.logprobs[0], strict=True))

    place.check(test)
    return found


def test_an_abort_keeps_the_output_and_a_resume_goes_on_as_if_nothing_had_been(place, host):
    prompt = host.prompts(1, seed=1)[0]
    expected, logprobs = zip(*greedy(place, host, prompt, host.LONG), strict=True)

    async def test(heard):
        heard.submit(7, prompt, host.LONG, report_at=(20, 30))
        await heard.until(lambda: any(isinstance(one, Progress) for one in heard.events))
        heard.engine.abort(7, 1)
        heard.engine.abort(7, 1)  # a second abort is none
        await heard.over(7)
        [end] = heard.ends(7)
        assert isinstance(end, Aborted)
        partial = list(heard.output[7])
        assert 20 <= len(partial) < host.LONG
        assert partial == list(expected[: len(partial)])
        assert await heard.place.llm.reset_prefix_cache()
        heard.submit(7, prompt, host.LONG - len(partial), attempt=2)
        await heard.over(7)
        assert heard.output[7] == list(expected)
        assert heard.logprobs[7] == pytest.approx(logprobs, abs=1e-3)
        assert heard.ends(7)[1].reason == LENGTH

    place.check(test)


def test_progress_is_told_where_it_was_asked_for(place, host):
    async def test(heard):
        heard.submit(1, [5, 6, 7], host.LONG, report_at=(10, 25, 999))
        await heard.over(1)
        told = [one for one in heard.events if isinstance(one, Progress)]
        assert 1 <= len(told) <= 2
        assert told[0].start < 10 <= told[0].start + told[0].pieces[0].tokens
        assert told[-1].start < 25 <= told[-1].start + told[-1].pieces[0].tokens < host.LONG

    place.check(test)


@pytest.mark.parametrize("mode", ["keep", "abort", "wait"])
def test_tokens_carry_the_version_that_sampled_them(place, host, weights, mode):
    async def test(heard):
        await heard.engine.update(1, weights.old)
        for rid in range(4):
            heard.submit(rid, [20 + rid, 3, 9], host.LONG, report_at=(8,))
        await heard.until(lambda: sum(isinstance(one, Progress) for one in heard.events) == 4)
        await heard.engine.update(2, weights.new, mode)
        live = next(
            at
            for at, one in enumerate(heard.events)
            if isinstance(one, WeightsLive) and one.version == 2
        )
        ended = sum(isinstance(one, Aborted | Finished) for one in heard.events[:live])
        assert ended == (0 if mode == "keep" else 4)
        if mode == "abort":
            assert all(isinstance(heard.ends(rid)[0], Aborted) for rid in range(4))
            for rid in range(4):
                left = host.LONG - len(heard.output[rid])
                heard.submit(rid, [20 + rid, 3, 9], left, attempt=2)
        await heard.over(*range(4))
        for rid in range(4):
            versions = [version for version, _ in heard.versions[rid]]
            assert versions == sorted(versions)
            assert set(versions) == ({1} if mode == "wait" else {1, 2})
            assert len(heard.output[rid]) == host.LONG
        assert sum(isinstance(one, WeightsPending) for one in heard.events) == 2

    place.check(test)


@pytest.mark.parametrize("clear_cache", [True, False])
def test_what_is_kept_over_an_update_sees_new_weights_and_perhaps_old_context(
    place, host, weights, clear_cache
):
    """With a cleared cache it goes on exactly as a new request would under the new weights."""

    async def test(heard):
        await heard.engine.update(1, weights.old)
        heard.submit(0, [7, 8, 9, 10], host.LONG, report_at=(40,))
        await heard.until(lambda: any(isinstance(one, Progress) for one in heard.events))
        await heard.engine.update(2, weights.new, "keep", clear_cache)
        await heard.over(0)
        before = sum(tokens for version, tokens in heard.versions[0] if version == 1)
        after = heard.output[0][before:]
        assert before >= 40
        assert after
        heard.output[1] = heard.output[0][:before]
        heard.submit(1, [7, 8, 9, 10], len(after))
        await heard.over(1)
        assert (heard.output[1][before:] == after) is clear_cache
        heard.output[1] = heard.output[1][before:]  # what was given to it is not its own

    place.check(test)


def test_a_resumed_context_at_its_end_is_over(place, host):
    async def test(heard):
        heard.output[1] = [5] * 508
        heard.submit(1, [1, 2, 3, 4], 10)
        await heard.over(1)
        [end] = heard.ends(1)
        assert (end.reason, end.pieces) == (LENGTH, ())
        heard.output[1] = []

    place.check(test)


def test_the_engine_says_what_it_is(place, host):
    async def test(heard):
        up = heard.events[0]
        assert isinstance(up, EngineUp)
        assert (up.seats, up.kv_tokens) == (8, 48 * 32)
        assert RolloutNeed.PRIORITY not in heard.engine.offers
        assert RolloutNeed.ABORT_KEEP in heard.engine.offers

    place.check(test)


def test_logprobs_of_another_distribution_are_refused(place, host):
    mode = place.llm.vllm_config.model_config
    mode.logprobs_mode = "raw_logprobs"
    try:
        with pytest.raises(UserError, match="processed_logprobs"):
            host.Heard(place)  # greedy: not what raw log-probabilities are of
        host.Heard(place, host.Sampling())
    finally:
        mode.logprobs_mode = "processed_logprobs"


def test_what_is_preempted_for_memory_loses_nothing(place, host):
    asked = [list(range(20 + rid, 60 + rid)) for rid in range(8)]
    expected = greedy(place, host, asked[7], 200)

    async def test(heard):
        before = place.counts.preemptions
        for rid in range(8):
            heard.submit(rid, asked[rid], 200)
        await heard.until(lambda: place.counts.preemptions > before)
        heard.engine.abort(0, 1)
        await heard.over(*range(8))
        assert [len(heard.output[rid]) for rid in range(1, 8)] == [200] * 7
        assert heard.output[7] == [token for token, _ in expected]

    place.check(test)


def test_weights_can_come_by_vllms_own_transfer(host):
    """Only the calls: every backend of vLLM's needs a GPU."""
    made = []

    class Engine:
        async def start_weight_update(self):
            made.append("start")

        async def update_weights(self, request):
            made.append(request.update_info)

        async def finish_weight_update(self):
            made.append("finish")

    chunks = ({"names": ["a"]}, {"names": ["b"]})
    asyncio.run(host.Transfer(chunks).load(Engine()))
    assert made == ["start", *chunks, "finish"]


def test_a_vllm_that_has_changed_inside_is_refused(host, monkeypatch):
    host.compat.check()
    monkeypatch.setitem(host.compat.METHODS, "abort", ("request_id", "politely"))
    monkeypatch.setitem(host.compat.METHODS, "stop_gently", ())
    with pytest.raises(
        UserError, match=r"abort\(\) takes no politely; AsyncLLM has no stop_gently"
    ):
        host.compat.check()
