"""Wrong versions of the source that the tests must notice: (name, file, old text, new text).

Aimed at what jumping over steps rests on (bounds of a run), at block accounting, at seat order and
at each policy's central rule. An old text occurs exactly once in its file.
"""

from typing import Final

REPLICA, DRAFT = "engine/replica.py", "engine/draft.py"
BLOCKS, MACHINE = "engine/blocks.py", "decide/machine.py"
MLFQ, VTC = "policies/order/skip_join_mlfq.py", "policies/order/vtc.py"
FLEET, LIFE = "sim/fleet/loop.py", "sim/fleet/lifecycle.py"
UNIT, LINKS = "sim/fleet/unit.py", "sim/fleet/links.py"
EDF, RECORDER = "policies/order/slo_edf.py", "sim/recorder.py"

MUTANTS: Final = (
    (
        "finish bound one late",
        REPLICA,
        "min(tick - machine.ticks,",
        "min(tick + 1 - machine.ticks,",
    ),
    (
        "no growth bound",
        REPLICA,
        "if decodes * (steps // self.pool.block_size + 1) > lasting:",
        "if False:",
    ),
    ("copies ignored", BLOCKS, "self.lasting = self._before_a_leased_copy(runs)", "pass"),
    ("copies ignored in the step of the refusal", REPLICA, " or lasting < 0:", ":"),
    ("growth bound one late", REPLICA, "steps = 1 + cycles * size", "steps = 2 + cycles * size"),
    ("no alarm time", REPLICA, "self.interrupt(min(alarm, until))", "self.interrupt(until)"),
    (
        "no alarm step",
        REPLICA,
        "order.alarm_step - machine.steps, self.max_horizon",
        "self.max_horizon",
    ),
    ("holds steps ignored", REPLICA, "steps = min(steps, max(hold_steps, 1))", "pass"),
    (
        "holds moment ignored",
        REPLICA,
        "hold_steps, until = order.holds",
        "hold_steps, _ = order.holds",
    ),
    (
        "arrivals never wake",
        REPLICA,
        "return idle or self.machine.queue.peek(now) is not self.head",
        "return idle",
    ),
    (
        "no new plan after a yield",
        REPLICA,
        "if draft.yielded or draft.unsettled or",
        "if draft.unsettled or",
    ),
    (
        "no new plan when unsettled",
        REPLICA,
        "if draft.yielded or draft.unsettled or",
        "if draft.yielded or",
    ),
    ("reserve bound ignored", REPLICA, "if len(machine.paused) and spare < free:", "if False:"),
    (
        "interrupted a step late",
        REPLICA,
        "self.steps = steps\n                self.duration",
        "self.steps = steps = steps + 1\n                self.duration",
    ),
    (
        "growth from the wrong tick",
        REPLICA,
        "self.pool.block_size, self.machine.ticks + 1",
        "self.pool.block_size, self.machine.ticks",
    ),
    ("context of one step", REPLICA, "self.context += decodes * steps", "self.context += decodes"),
    ("growth kept on leaving", REPLICA, "if self.draft.took_growth(request):", "if False:"),
    ("unsettled never set", DRAFT, "self.unsettled = self.unsettled or self.blocked", "pass"),
    ("granted may yield", DRAFT, "self.machine.granted.add(mine.id)", "pass"),
    (
        "resume without a block",
        DRAFT,
        "if decoding and self._reserve() + 1 > self.pool.free:",
        "if decoding and self._reserve() > self.pool.free:",
    ),
    (
        "no reserve for decodes",
        DRAFT,
        "return self.phases[self.machine.ticks % self.pool.block_size]",
        "return 0",
    ),
    (
        "most recently used evicted",
        BLOCKS,
        "run = next(iter(self.lru.values()))",
        "run = next(reversed(self.lru.values()))",
    ),
    (
        "beginning evicted first",
        BLOCKS,
        "for run in reversed(lease.runs):",
        "for run in lease.runs:",
    ),
    (
        "last token found",
        BLOCKS,
        "if runs and tokens >= request.target:",
        "if runs and tokens > request.target:",
    ),
    (
        "idle cached blocks count as free",
        BLOCKS,
        "leased = self.id_blocks * sum(run.users > 0 for run in runs)",
        "leased = self.id_blocks * len(runs)",
    ),
    ("own tail free at once", BLOCKS, "request.target) - leased", "request.target) - leased - own"),
    (
        "partial block found again",
        BLOCKS,
        "full = own // self.block_size if self.caching else 0",
        "full = -(-own // self.block_size) if self.caching else 0",
    ),
    (
        "phase ignores the lease",
        BLOCKS,
        "leased = lease.tokens if lease is not None else 0",
        "leased = 0",
    ),
    ("seats counted down", MACHINE, "self.seatings += 1", "self.seatings -= 1"),
    (
        "first seated yields",
        MACHINE,
        "for r in reversed(self.seated.values())",
        "for r in self.seated.values()",
    ),
    (
        "output forgotten in a drop",
        MACHINE,
        "request.target = request.prompt + request.decoded",
        "request.target = request.prompt",
    ),
    ("held KV never forced out", MACHINE, "if self.held:\n", "if False:\n"),
    (
        "stream not settled on a move",
        MACHINE,
        "if start == st.DECODE:\n            self.settle(request)",
        "if start == st.DECODE:",
    ),
    (
        "recomputation past the peak",
        MACHINE,
        "min(request.peak, request.computed) - start",
        "tokens",
    ),
    ("keys never worsen", "decide/queues.py", "if key > entry[0]:", "if False:"),
    (
        "returning to the tail",
        "decide/queues.py",
        "line.appendleft(request)",
        "line.append(request)",
    ),
    ("no lift", VTC, "account.served = max(account.served, least)", "pass"),
    ("lift lowers", VTC, "account.served = max(account.served, least)", "account.served = least"),
    (
        "charged again after a drop",
        VTC,
        "if finish == PREFILL and not request.drops:",
        "if finish == PREFILL:",
    ),
    (
        "holds a step too long",
        VTC,
        "(self._served(account) - served) // faster)",
        "(self._served(account) - served) // faster + 2)",
    ),
    ("no demotion", MLFQ, "job.level = min(job.level + 1, LEVELS_MAX - 1)", "pass"),
    ("demoted to the tail", MLFQ, "job.place = -self.places", "job.place = self.places"),
    ("joins a level late", MLFQ, "self.quanta[level] < alone", "self.quanta[level] <= alone"),
    ("quantum without the time used", MLFQ, "- job.used + 1", "+ 1"),
    (
        "infeasible earliest first",
        EDF,
        "return (1, -self.due(request))",
        "return (1, self.due(request))",
    ),
    (
        "infeasible a moment early",
        EDF,
        "if now <= self.latest_start(request):",
        "if now < self.latest_start(request):",
    ),
    ("slack holds for good", EDF, "latest + 1 if now <= latest else NEVER", "NEVER"),
    (
        "gap of the tick itself",
        "sim/gaps.py",
        "bisect_right(self.ticks, tick)",
        "bisect_right(self.ticks, tick - 1)",
    ),
    ("gap of a newcomer", RECORDER, "request.gap_tick = ticks + 1", "request.gap_tick = ticks"),
    ("gap inside a run", RECORDER, "self.gaps.push(ticks + steps, last)", "pass"),
    (
        "one drop too many",
        "policies/victim/lowest_rank.py",
        "worst.drops < self.voluntary_drops_max",
        "worst.drops <= self.voluntary_drops_max",
    ),
    (
        "decodes give up their tokens",
        "policies/compose/contest.py",
        "return draft.tokens - self.view.decodes",
        "return draft.tokens",
    ),
    ("admission after a yield", "policies/compose/stall_free.py", "if draft.yielded:", "if False:"),
    ("drained with a bridge", LIFE, "not unit.open and not unit.bridge", "not unit.open"),
    ("slow spells do not add up", LIFE, "slowness = prod(unit.slowness)", "slowness = factor"),
    (
        "lost replica woken",
        FLEET,
        "if self.units[index].status != DOWN:\n            super()",
        "if True:\n            super()",
    ),
    ("room not seen", FLEET, "any(map(gt, unit.room, room))", "False"),
    ("pull by an old report", FLEET, "said, unit.said = unit.said, None", "said = unit.said"),
    (
        "a long run is a standstill",
        FLEET,
        "return any(version == self.versions[index] for _, _, index, version in self.wakes)",
        "return False",
    ),
    (
        "a hearing keeps it alive",
        FLEET,
        "self._ring_at(now + self.design.report_age",
        "self.call(now + self.design.report_age",
    ),
    (
        "load before the step that ends now",
        UNIT,
        "return before, before + (end <= now)",
        "return before, before",
    ),
    (
        "growth of the next step",
        UNIT,
        "free += replica.phases[machine",
        "free += 0 * replica.phases[machine",
    ),
    (
        "a cut link carries on",
        LINKS,
        "0.0 if stream.pair in self.severed else min(shares)",
        "min(shares)",
    ),
    (
        "bytes forgotten",
        LINKS,
        "stream.left - stream.rate * (now - stream.since) / SECOND",
        "stream.left",
    ),
    (
        "full cache never lands",
        BLOCKS,
        "if blocks >= self.free and not blocks == self.free == self.total:",
        "if blocks >= self.free:",
    ),
)
