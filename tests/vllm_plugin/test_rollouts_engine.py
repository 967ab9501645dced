"""The rollout adapter over a real engine: what is kept, resumed, tagged and counted."""

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest

from sojourn.errors import UserError
from sojourn.rollout.events import (
    LENGTH,
    Aborted,
    EngineLoad,
    EngineLost,
    EngineUp,
    Finished,
    Progress,
    WeightsLive,
    WeightsPending,
)
from sojourn.rollout.needs import RolloutNeed

LONG = 160
"""Tokens of a rollout that an abort or an update catches on its way."""


def run(place, host, test, version=0):
    """Run a test with a fresh adapter over the engine, and then compare all counts."""

    async def whole():
        before = place.core_generated
        heard = host.Heard(place)
        await heard.engine.start(version)
        await test(heard)
        await heard.over(*heard.engine.flights)
        await heard.engine._arrived()
        heard.engine.check_balance()
        assert place.core_generated - before == heard.engine.told_tokens
        assert heard.engine.told_tokens == sum(map(len, heard.output.values()))

    place.run(whole())


def greedy(place, host, prompt, count):
    """Return the likeliest tokens behind a prompt, uninterrupted."""
    found = []

    async def test(heard):
        heard.submit(0, prompt, count)
        await heard.over(0)
        found.extend(heard.output[0])

    run(place, host, test)
    return found


def test_an_abort_keeps_the_output_and_a_resume_goes_on_as_if_nothing_had_been(place, host):
    prompt = host.prompts(1, seed=1)[0]
    expected = greedy(place, host, prompt, LONG)

    async def test(heard):
        heard.submit(7, prompt, LONG, report_at=(20, 30))
        await heard.until(lambda: any(isinstance(one, Progress) for one in heard.events))
        heard.engine.abort(7, 1)
        heard.engine.abort(7, 1)  # a second abort is none
        await heard.over(7)
        [end] = heard.ends(7)
        assert isinstance(end, Aborted)
        partial = list(heard.output[7])
        assert 20 <= len(partial) < LONG
        assert partial == expected[: len(partial)]
        assert await heard.place.llm.reset_prefix_cache()
        heard.submit(7, prompt, LONG - len(partial), attempt=2)
        await heard.over(7)
        assert heard.output[7] == expected
        assert heard.ends(7)[1].reason == LENGTH

    run(place, host, test)


def test_progress_is_told_where_it_was_asked_for(place, host):
    async def test(heard):
        heard.submit(1, [5, 6, 7], 40, report_at=(10, 25, 99))
        await heard.over(1)
        told = [one for one in heard.events if isinstance(one, Progress)]
        assert 1 <= len(told) <= 2
        assert told[0].start < 10 <= told[0].start + told[0].pieces[0].tokens
        assert told[-1].start < 25 <= told[-1].start + told[-1].pieces[0].tokens < 40

    run(place, host, test)


def test_an_abort_in_the_queue_answers_without_output(place, host):
    async def test(heard):
        for rid in range(12):  # eight seats
            heard.submit(rid, [10 + rid, 11, 12], LONG)
        await heard.until(lambda: place.counts.waiting > 0)
        for rid in range(12):
            heard.engine.abort(rid, 1)
        await heard.over(*range(12))
        ends = [heard.ends(rid) for rid in range(12)]
        assert all(len(one) == 1 and isinstance(one[0], Aborted) for one in ends)
        assert any(not heard.output[rid] for rid in range(12))
        assert any(heard.output[rid] for rid in range(12))

    run(place, host, test)


def test_an_abort_before_vllm_has_the_request_still_ends_it(place, host):
    async def test(heard):
        heard.submit(1, [1, 2, 3], LONG)
        heard.engine.abort(1, 1)
        assert not heard.engine.flights[1].internal
        await heard.over(1)
        assert isinstance(heard.ends(1)[0], Aborted)

    run(place, host, test)


def test_an_abort_that_comes_late_or_for_another_attempt_changes_nothing(place, host):
    async def test(heard):
        heard.submit(1, [1, 2, 3], 8)
        heard.engine.abort(1, 2)
        await heard.over(1)
        heard.engine.abort(1, 1)
        [end] = heard.ends(1)
        assert isinstance(end, Finished)
        assert len(heard.output[1]) == 8

    run(place, host, test)


def test_two_hundred_aborts_at_random_lose_nothing(place, host):
    source = random.Random(3)
    asked = host.prompts(200, seed=3)

    async def test(heard):
        attempts = dict.fromkeys(range(200), 1)

        async def one(rid):
            await asyncio.sleep(source.uniform(0.0, 4.0))
            heard.submit(rid, asked[rid], source.choice((1, 6, 24)))
            for _ in range(source.choice((0, 1, 1, 1, 2))):
                await asyncio.sleep(source.choice((0.0, 0.01, 0.1, 0.5)))
                heard.engine.abort(rid, attempts[rid])
                await heard.over(rid)
                if isinstance(heard.ends(rid)[-1], Finished):
                    return
                attempts[rid] += 1
                heard.submit(rid, asked[rid], source.choice((2, 12)), attempts[rid])
            await heard.over(rid)

        await asyncio.gather(*map(one, range(200)))
        ends = [heard.ends(rid) for rid in range(200)]
        assert [len(found) for found in ends] == list(attempts.values())
        aborted = sum(isinstance(one, Aborted) for found in ends for one in found)
        assert aborted > 100
        kept = sum(bool(one.pieces) for found in ends for one in found if isinstance(one, Aborted))
        assert kept > 10
        assert any(isinstance(one, EngineLoad) for one in heard.events)

    run(place, host, test)


@pytest.mark.parametrize("mode", ["keep", "abort", "wait"])
def test_tokens_carry_the_version_that_sampled_them(place, host, weights, mode):
    async def test(heard):
        await heard.engine.update(1, weights.old)
        for rid in range(4):
            heard.submit(rid, [20 + rid, 3, 9], 48, report_at=(8,))
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
                heard.submit(rid, [20 + rid, 3, 9], 48 - len(heard.output[rid]), attempt=2)
        await heard.over(*range(4))
        for rid in range(4):
            versions = [version for version, _ in heard.versions[rid]]
            assert versions == sorted(versions)
            assert set(versions) == ({1} if mode == "wait" else {1, 2})
            assert len(heard.output[rid]) == 48
        assert sum(isinstance(one, WeightsPending) for one in heard.events) == 2

    run(place, host, test)


@pytest.mark.parametrize("clear_cache", [True, False])
def test_what_is_kept_over_an_update_sees_new_weights_and_perhaps_old_context(
    place, host, weights, clear_cache
):
    """With a cleared cache it goes on exactly as a new request would under the new weights."""

    async def test(heard):
        await heard.engine.update(1, weights.old)
        heard.submit(0, [7, 8, 9, 10], LONG, report_at=(40,))
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

    run(place, host, test)


def test_a_resumed_context_at_its_end_is_over(place, host):
    async def test(heard):
        heard.output[1] = [5] * 508
        heard.submit(1, [1, 2, 3, 4], 10)
        await heard.over(1)
        [end] = heard.ends(1)
        assert (end.reason, end.pieces) == (LENGTH, ())
        heard.output[1] = []

    run(place, host, test)


def test_the_engine_says_what_it_is(place, host):
    async def test(heard):
        up = heard.events[0]
        assert isinstance(up, EngineUp)
        assert (up.seats, up.kv_tokens) == (8, 48 * 32)
        assert RolloutNeed.PRIORITY not in heard.engine.offers
        assert RolloutNeed.ABORT_KEEP in heard.engine.offers

    run(place, host, test)


def test_logprobs_of_another_distribution_are_refused(place, host):
    mode = place.llm.vllm_config.model_config
    mode.logprobs_mode = "raw_logprobs"
    try:
        with pytest.raises(UserError, match="processed_logprobs"):
            host.Heard(place)  # greedy: not what raw log-probabilities are of
        host.Heard(place, host.Sampling())
    finally:
        mode.logprobs_mode = "processed_logprobs"


def test_a_dead_engine_has_told_all_that_had_arrived(new_place, host):
    dying = new_place("dying")

    async def test():
        heard = host.Heard(dying)
        await heard.engine.start()
        for rid in range(10):
            heard.submit(rid, [30 + rid, 4, 5], LONG, report_at=(5,) if rid % 2 else ())
        await heard.until(lambda: sum(isinstance(one, Progress) for one in heard.events) >= 3)
        for process in dying.llm.engine_core.resources.engine_manager.processes:
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(host.EngineGone):
            await heard.engine.update(1, None)
        await heard.until(lambda: isinstance(heard.events[-1], EngineLost))
        assert not heard.engine.flights
        heard.submit(99, [1, 2], 5)  # late: the machine takes it back
        assert not heard.engine.flights
        heard.engine.check_balance()
        assert sum(map(len, heard.output.values())) == heard.engine.told_tokens
        assert any(heard.output.get(rid) for rid in range(0, 8, 2)), "nobody watched these"
        lost = dying.core_generated - heard.engine.told_tokens
        assert 0 <= lost <= 3 * 8  # what was between the processes when one was killed
        assert sum(isinstance(one, EngineLost) for one in heard.events) == 1

    dying.run(test())
