"""The rollouts that wait for an engine, in the order that the dispatch slot gives them."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any, Final, TypeAlias

from sojourn.rollout import states as st
from sojourn.rollout.actions import Submit
from sojourn.rollout.model import Rollout
from sojourn.rollout.records import Engine, Run
from sojourn.rollout.slots import Stretch

Key: TypeAlias = tuple[float, ...]
Entry: TypeAlias = tuple[Key, int, int]

STALE_ENTRIES: Final = 64  # entries out of date tolerated before half of the heap may be so


class Waiting:
    """A heap of pending rollouts; rollouts of overdue groups go before all others.

    Attributes:
        entries: Key, order of coming and number of each; those that do not match `current` are
            out of date and are skipped.
        current: Key and order of coming of every pending rollout.
        serial: Order of coming of the next one.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.current: dict[int, tuple[Key, int]] = {}
        self.serial = 0

    def take_in(self, run: Run) -> None:
        """Queue the rollouts that have become pending."""
        for rid in list(run.woken):
            self._put(run, run.rollouts[rid], self.serial)
            self.serial += 1
        run.woken.clear()

    def renew(self, run: Run, rids: list[int]) -> None:
        """Ask for the keys of some rollouts again; those that are not pending are left out."""
        for rid in rids:
            known = self.current.get(rid)
            rollout = run.rollouts.get(rid)
            if known is not None and rollout is not None and rollout.status == st.PENDING:
                self._put(run, rollout, known[1])

    def _drop_stale(self, run: Run) -> None:
        """Leave out what no longer waits, once it is most of the heap."""
        pending = run.by_status[st.PENDING]
        if len(self.entries) > STALE_ENTRIES + 2 * len(pending):
            self.entries = [one for one in self.entries if self._holds(run, one)]
            heapify(self.entries)
            self.current = {rid: one for rid, one in self.current.items() if rid in pending}

    def send(self, run: Run) -> None:
        """Send as many as the dispatch slot lets, first those that come first."""
        self._drop_stale(run)
        dispatch = run.policies.dispatch
        aside: list[Entry] = []
        while self.entries:
            entry = self.entries[0]
            if not self._holds(run, entry):
                heappop(self.entries)
                continue
            if run.on_engines >= dispatch.admit(run):
                break
            rollout = run.rollouts[entry[2]]
            engines = _engines(run, rollout)
            if not engines:
                aside.append(heappop(self.entries))  # no engine is up, or new enough, for it
                continue
            place = dispatch.place(rollout, engines, run)
            if place is None:
                break
            assert any(one.id == place for one in engines), "placed on an engine not offered"
            heappop(self.entries)
            del self.current[rollout.rid]
            _submit(run, rollout, run.engines[place])
        for entry in aside:
            heappush(self.entries, entry)

    def _put(self, run: Run, rollout: Rollout, serial: int) -> None:
        urgent = 0.0 if run.overdue(rollout.group) else 1.0
        key = (urgent, *run.policies.dispatch.key(rollout, run))
        if self.current.get(rollout.rid) != (key, serial):
            self.current[rollout.rid] = (key, serial)
            heappush(self.entries, (key, serial, rollout.rid))

    def _holds(self, run: Run, entry: Entry) -> bool:
        """Return whether an entry is that of a pending rollout, with the key it has now."""
        key, serial, rid = entry
        rollout = run.rollouts.get(rid)
        if rollout is None or rollout.status != st.PENDING:
            return False
        return self.current.get(rid) == (key, serial)

    def state_dict(self, run: Run) -> dict[str, Any]:
        """Return the queue as JSON values."""
        pending = run.by_status[st.PENDING]
        return {
            "current": [
                [rid, list(key), serial]
                for rid, (key, serial) in sorted(self.current.items(), key=lambda one: one[1][1])
                if rid in pending
            ],
            "serial": self.serial,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a queue that was saved."""
        self.current = {rid: (tuple(key), serial) for rid, key, serial in state["current"]}
        self.serial = state["serial"]
        self.entries = [(key, serial, rid) for rid, (key, serial) in self.current.items()]
        heapify(self.entries)


def _engines(run: Run, rollout: Rollout) -> list[Engine]:
    """Return the engines that may have a rollout: only that of a migration, if it is up."""
    fit = [
        one
        for one in run.engines.values()
        if not one.loading and one.version >= rollout.newest_version
    ]
    wanted = [one for one in fit if one.id == rollout.destination]
    return wanted or fit


def _submit(run: Run, rollout: Rollout, engine: Engine) -> None:
    """Send a rollout to an engine, as far as the controls let it go."""
    stretches = [control.stretch(rollout, run) for control in run.policies.controls]
    stretch = Stretch(
        min(one.tokens for one in stretches),
        tuple(sorted({at for one in stretches for at in one.report_at if at > rollout.sampled})),
    )
    left = rollout.token_limit - rollout.sampled
    assert left > 0, "a rollout at its limit is not sent"
    tokens = min(left, max(stretch.tokens, 1))
    rollout.attempt += 1
    rollout.goal = rollout.sampled + tokens
    rollout.capped = tokens < left
    rollout.engine = engine.id
    rollout.destination = -1
    run.enter(rollout, st.RUNNING)
    run.actions.append(
        Submit(
            rid=rollout.rid,
            attempt=rollout.attempt,
            group=rollout.group,
            prompt_id=rollout.prompt_id,
            session=rollout.session,
            engine=engine.id,
            prefix_tokens=rollout.length,
            prefix=tuple(rollout.token_ids()),
            max_new=tokens,
            priority=run.policies.dispatch.priority(rollout, run),
            report_at=tuple(at for at in stretch.report_at if at < rollout.goal),
        )
    )
