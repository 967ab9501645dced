"""Aborts at every moment: in the queue, before vLLM has the request, at its end, in an update."""

from __future__ import annotations

import asyncio
import random

import pytest

from sojourn.rollout.events import Aborted, EngineLoad, EngineLost, Finished, Progress


def test_an_abort_in_the_queue_answers_without_output(place, host):
    async def test(heard):
        for rid in range(12):  # eight seats
            heard.submit(rid, [10 + rid, 11, 12], host.LONG)
        await heard.until(lambda: place.counts.waiting > 0)
        for rid in range(12):
            heard.engine.abort(rid, 1)
        await heard.over(*range(12))
        ends = [heard.ends(rid) for rid in range(12)]
        assert all(len(one) == 1 and isinstance(one[0], Aborted) for one in ends)
        assert any(not heard.output[rid] for rid in range(12))
        assert any(heard.output[rid] for rid in range(12))

    place.check(test)


def test_an_abort_before_vllm_has_the_request_still_ends_it(place, host):
    async def test(heard):
        heard.submit(1, [1, 2, 3], host.LONG)
        heard.engine.abort(1, 1)
        assert not heard.engine.flights[1].internal
        await heard.over(1)
        assert isinstance(heard.ends(1)[0], Aborted)

    place.check(test)


def test_an_abort_that_comes_late_or_for_another_attempt_changes_nothing(place):
    async def test(heard):
        heard.submit(1, [1, 2, 3], 8)
        heard.engine.abort(1, 2)
        await heard.over(1)
        heard.engine.abort(1, 1)
        heard.engine.abort(99, 1)
        [end] = heard.ends(1)
        assert isinstance(end, Finished)
        assert len(heard.output[1]) == 8

    place.check(test)


def test_an_abort_of_what_has_just_finished_is_answered_once(place):
    """All end in one step; when the end of the first is told, the others' are here but not told."""

    async def test(heard):
        engine, late = heard.engine, []

        def hear(event):
            heard.hear(event)
            if isinstance(event, Finished):
                late.extend(engine.flights)
                for rid in engine.flights:
                    engine.abort(rid, 1)

        engine.tell = hear
        await place.llm.pause_generation(mode="keep", clear_cache=False)
        for rid in range(8):
            heard.submit(rid, [1, 2, 3], 4, report_at=(4,) if rid % 2 else ())
        await heard.until(lambda: all(one.internal for one in engine.flights.values()))
        await engine._arrived()
        await place.llm.resume_generation()
        await heard.over(*range(8))
        assert len({*late}) == 7
        for rid in range(8):
            [end] = heard.ends(rid)
            assert isinstance(end, Finished)
            assert len(heard.output[rid]) == 4

    place.check(test)


def test_two_hundred_aborts_at_random_lose_nothing(place, host):
    """Twenty rollouts at a time go on after each abort until they end; then come others."""
    source = random.Random(3)
    asked = host.prompts(50, seed=3)
    goal = 40

    async def test(heard):
        taken = iter(range(10_000))
        asks = 0

        async def moment(rid):
            known = len(heard.events)
            chosen = source.choice(("now", "soon", "later", "started", "progress"))
            if chosen in ("soon", "later"):
                await asyncio.sleep(source.uniform(0.0, 0.01 if chosen == "soon" else 0.3))
            elif chosen != "now":
                kind = Progress if chosen == "progress" else tuple
                await heard.until(
                    lambda: (
                        rid not in heard.engine.flights
                        or any(
                            isinstance(one, kind) and one[1] == rid for one in heard.events[known:]
                        )
                    )
                )

        async def one_after_another():
            nonlocal asks
            while asks < 200:
                rid, attempt = next(taken), 0
                prompt = asked[rid % len(asked)]
                while len(heard.output.get(rid, ())) < goal:
                    attempt += 1
                    done = len(heard.output.get(rid, ()))
                    heard.submit(rid, prompt, goal - done, attempt, report_at=(done + 3,))
                    await moment(rid)
                    if asks < 200 and rid in heard.engine.flights:
                        asks += 1
                        for _ in range(source.choice((1, 2))):
                            heard.engine.abort(rid, attempt)
                    await heard.over(rid)
                    assert len(heard.ends(rid)) == attempt

        await asyncio.gather(*(one_after_another() for _ in range(20)))
        ends = [one for one in heard.events if isinstance(one, Aborted | Finished)]
        aborted = [one for one in ends if isinstance(one, Aborted)]
        assert asks == 200
        assert len(aborted) > 150
        assert sum(bool(one.pieces) for one in aborted) > 10
        assert sum(not one.pieces for one in aborted) > 10
        assert {len(output) for output in heard.output.values()} == {goal}
        assert any(isinstance(one, EngineLoad) for one in heard.events)

    place.check(test)


class Held:
    """vLLM's front end while it takes no output, until shortly after the core has answered."""

    def __init__(self, llm, monkeypatch):
        self.goes = asyncio.Event()
        self.core = llm.engine_core
        get, ask = self.core.get_output_async, llm.get_weight_version

        async def late():
            await self.goes.wait()
            return await get()

        async def answered():
            found = await ask()
            asyncio.get_running_loop().call_later(0.02, self.goes.set)
            return found

        monkeypatch.setattr(self.core, "get_output_async", late)
        monkeypatch.setattr(llm, "get_weight_version", answered)

    async def has_piled_up(self):
        while self.core.outputs_queue.qsize() < 3:
            await asyncio.sleep(0.005)


def test_output_that_has_piled_up_before_the_front_end_is_waited_for(place, host, monkeypatch):
    async def test(heard):
        for rid in range(6):
            heard.submit(rid, [7, 8, 9 + rid], host.LONG, report_at=(3,) if rid % 2 else ())
        await heard.until(lambda: sum(isinstance(one, Progress) for one in heard.events) == 3)
        await Held(place.llm, monkeypatch).has_piled_up()
        for rid in range(6):
            heard.engine.abort(rid, 1)
        await heard.over(*range(6))
        assert all(heard.output[rid] for rid in range(6))

    place.check(test)


def test_what_a_pause_aborts_is_told_before_the_weights_change(place, host, weights, monkeypatch):
    async def test(heard):
        told_before = []

        async def happens():
            told_before.extend(rid for rid in range(4) if heard.ends(rid))

        for rid in range(4):
            heard.submit(rid, [7, 8, 9 + rid], host.LONG, report_at=(3,))
        await heard.until(lambda: sum(isinstance(one, Progress) for one in heard.events) == 4)
        await Held(place.llm, monkeypatch).has_piled_up()
        await heard.engine.update(1, Meanwhile(weights.old, happens), "abort")
        assert told_before == [0, 1, 2, 3]

    place.check(test)


class Meanwhile:
    """Weights during whose loading something else happens."""

    def __init__(self, weights, happens):
        self.weights = weights
        self.happens = happens

    async def load(self, llm):
        await self.happens()
        await self.weights.load(llm)


@pytest.mark.parametrize("clear_cache", [True, False])
def test_aborts_and_submissions_in_an_update_are_answered(place, host, weights, clear_cache):
    async def test(heard):
        async def happens():
            heard.engine.abort(0, 1)
            await heard.over(0)
            heard.submit(0, [7, 8, 9], 20, attempt=2)
            heard.submit(2, [7, 8, 9], 20)
            heard.submit(3, [7, 8, 9], 20)
            await asyncio.sleep(0.05)
            heard.engine.abort(3, 1)
            await heard.over(3)

        await heard.engine.update(1, weights.old)
        for rid in (0, 1):
            heard.submit(rid, [7, 8, 9], host.LONG, report_at=(5,))
        await heard.until(lambda: sum(isinstance(one, Progress) for one in heard.events) == 2)
        await heard.engine.update(2, Meanwhile(weights.new, happens), "keep", clear_cache)
        await heard.over(0, 1, 2)
        versions = {rid: [version for version, _ in heard.versions[rid]] for rid in (0, 1, 2)}
        assert versions[0][0] == 1
        assert versions[0][-1] == 2
        assert {*versions[1]} == {1, 2}
        assert versions[2] == [2]
        assert heard.output[3] == []
        assert len(heard.output[1]) == host.LONG

    place.check(test)


def test_weights_that_cannot_be_loaded_lose_the_engine_and_no_token(place, host):
    async def fails():
        raise OSError("no such folder")

    async def test(heard):
        for rid in range(10):  # two of them in the queue
            heard.submit(rid, [7, 8, 9 + rid], host.LONG, report_at=(5,) if rid else ())
        await heard.until(lambda: any(isinstance(one, Progress) for one in heard.events))
        names = [one.name for one in heard.engine.flights.values()]
        with pytest.raises(OSError, match="no such folder"):
            await heard.engine.update(1, Meanwhile(None, fails))
        assert heard.engine.is_lost
        assert isinstance(heard.events[-1], EngineLost)
        assert heard.output[0], "nobody watched it"
        assert await place.llm.is_paused()
        await place.llm.abort(names)  # so that other tests can use it
        await place.llm.resume_generation()

    place.check(test)
