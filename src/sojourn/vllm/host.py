"""The decide layer over one vLLM scheduler: vLLM's moves become events, plans become its view.

A plan is made on the machine's state, vLLM's own `schedule()` carries it out, and `observe` then
moves the machine to what vLLM really did. So a step that vLLM planned by itself, or in part
otherwise than planned, leaves the machine as true as any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any, Final, cast

from sojourn.decide.actions import Action, Drop, HoldUntil, Pause, Reject, Release
from sojourn.decide.clock import Time
from sojourn.decide.events import Arrival, Cancel, Finish, MemoryPressure, StepEnd, Timer
from sojourn.decide.limits import EngineLimits
from sojourn.decide.machine import Machine
from sojourn.decide.request import Request
from sojourn.decide.services import StepTime
from sojourn.decide.slots import Mode, Services, Yield
from sojourn.decide.states import DECODE, DELAYED, ENDED, HELD, PAUSED, PREFILL, WAITING
from sojourn.policies.admit.accept_all import AcceptAll
from sojourn.policies.admit.accept_all import Config as AcceptAllConfig
from sojourn.policies.retain.lru import Config as LruConfig
from sojourn.policies.retain.lru import Lru
from sojourn.recipes.load import Recipe
from sojourn.vllm import compat
from sojourn.vllm.blocks import LiveBlocks
from sojourn.vllm.draft import LiveDraft
from sojourn.vllm.requests import LiveRequest, live
from sojourn.vllm.shadow import Imagined, ImaginedDraft
from sojourn.vllm.steps import Body, Grant, Step, lagging_of, only_decodes

ACCEPT: Final = AcceptAll(AcceptAllConfig(), cast(Services, None))
"""In place of the recipe's admit slot for requests that vLLM serves whatever the recipe says."""

RELEASE: Final = Lru(LruConfig(), cast(Services, None))
"""In place of the recipe's retain slot where stock order is served, which holds nothing."""

NO_PHASE: Final = -1
"""The block phase of a decode that needs no more blocks."""

ASK_AGAIN_STEPS: Final = 32
"""Steps after which a request that vLLM would not admit (no adapter slot free) is offered anew."""


class Host:
    """A machine, its policies, and the requests of one vLLM scheduler.

    Attributes:
        acts: Whether vLLM serves as planned; else the recipe's refusals are only noted.
        by_id: Every unfinished request, by vLLM's id.
        compiling: Those whose grammar is being compiled: the machine has not heard of them.
        refused: Those that vLLM would not admit, and the step from which they are offered again.
        step: The step that vLLM runs, until its end is told.
        context: KV tokens that the next decode step reads.
        ends: Heap of (tick, number, request): when each decode reaches its token limit.
        followed: Whether vLLM did otherwise than planned, or planned by itself.
        ending: Decodes whose last token is on its way, by id.
    """

    def __init__(
        self,
        scheduler: Any,
        recipe: Recipe,
        limits: EngineLimits,
        step_time: StepTime,
        body: Body,
        rows: int,
        acts: bool,
    ) -> None:
        self.body = body
        self.acts = acts
        self.machine = Machine(limits)
        self.machine.install(recipe.build(Services(self.machine, step_time)))
        if not acts:
            self.machine.policies.retain = RELEASE
        self.blocks = LiveBlocks(scheduler, rows)
        self.phases = [0] * limits.block_size
        adapters_max = compat.adapters_max(scheduler)
        self.draft = LiveDraft(self.machine, self.blocks, self.phases, adapters_max)
        self.draft.carry_out = self._carry_out
        self.draft.join = self._join
        self.by_id: dict[str, LiveRequest] = {}
        self.compiling: dict[str, LiveRequest] = {}
        self.refused: dict[str, tuple[LiveRequest, int]] = {}
        self.step: Step | None = None
        self.context = 0
        self.ends: list[tuple[int, int, LiveRequest]] = []
        self.ending: dict[int, LiveRequest] = {}
        self.told_dropped = 0
        self.followed = False
        self.imagined = ImaginedDraft(self.machine, self.blocks, self.phases)

    def imagine(self, now: Time) -> Imagined:
        """Return what the recipe would do in the coming step, and change nothing."""
        self.settle(now)
        if self.compiling:
            self._take_compiled(now)
        if self.refused:
            self._offer_again(now)
        self._ring(now)
        return self.imagined.imagine(now)

    def _ring(self, now: Time) -> None:
        """Tell of time: what is held or put off may be due, and ranks may change."""
        machine = self.machine
        if machine.delayed or machine.expiries:
            for action in machine.handle(Timer(now)):
                self._carry_out(action)

    def arrive(self, request: LiveRequest, now: Time, accept: bool = False) -> None:
        """Take a new request; one whose grammar is not ready is told to the machine later."""
        self.by_id[request.vllm.request_id] = request
        if compat.grammar_pending(request.vllm):
            self.compiling[request.vllm.request_id] = request
            return
        self._tell(request, now, accept)

    def _tell(self, request: LiveRequest, now: Time, accept: bool = False) -> None:
        """Tell the machine of an arrival; one that vLLM serves anyhow is accepted anyhow."""
        policies = self.machine.policies
        admit = policies.admit
        if accept or not self.acts:
            policies.admit = ACCEPT
        for action in self.machine.handle(Arrival(now, request)):
            self._carry_out(action)
        policies.admit = admit

    def adopt(self, request: LiveRequest, now: Time, parked: bool) -> None:
        """Take a request that vLLM has already, in whatever state; it is never refused now."""
        machine, true = self.machine, request.vllm
        if true.status != compat.RequestStatus.RUNNING:
            request.prompt = true.num_prompt_tokens
            request.decoded = true.num_output_tokens
            self.arrive(request, now, accept=True)
            return
        self.by_id[true.request_id] = request
        self._tell(request, now, accept=True)
        computed = true.num_computed_tokens
        tokens = true.num_tokens + true.num_output_placeholders
        decoding = computed + 1 >= tokens and tokens > true.num_prompt_tokens
        request.prompt = true.num_prompt_tokens
        request.target = computed if decoding else tokens
        request.decoded = tokens - true.num_prompt_tokens - decoding
        machine.seat(request, now)
        if computed:
            machine.handle(StepEnd(now, 0, False, ((request, computed),)))
        if request.state == DECODE:
            self._join(request)
        if parked:
            machine.unseat(Yield(request, Mode.KEEP), now)
            self._leave(request, request.computed)

    def decide(self, now: Time) -> LiveDraft:
        """Plan the coming step; what it needs of vLLM's memory has been done on return."""
        machine, draft = self.machine, self.draft
        self.settle(now)
        if self.compiling:
            self._take_compiled(now)
        if self.refused:
            self._offer_again(now)
        self._ring(now)
        draft.begin(now)
        self.blocks.begin(len(machine.seated) + len(machine.paused))
        self.told_dropped = 0
        self._find_ending()
        prepare = machine.policies.victim.prepare
        while choice := machine.allowed(prepare(machine, self.blocks.free)):
            self._carry_out(machine.unseat(choice, now))
        machine.plan(draft)
        return draft

    def partials(self) -> Iterable[LiveRequest]:
        """Return the seated prompts."""
        return map(live, self.machine.partials.values())

    def name(self, request: Request) -> str:
        """Return vLLM's id of a request."""
        return str(live(request).vllm.request_id)

    def let_go(self, now: Time) -> None:
        """Give back all held KV."""
        while self.machine.held:
            for action in self.machine.handle(MemoryPressure(now, None)):
                self._carry_out(action)

    def _take_compiled(self, now: Time) -> None:
        for name, request in list(self.compiling.items()):
            if not compat.grammar_pending(request.vllm):
                del self.compiling[name]
                self._tell(request, now)

    def _offer_again(self, now: Time) -> None:
        for name, (request, step) in list(self.refused.items()):
            if self.machine.steps >= step and not compat.stale(request.vllm):
                del self.refused[name]
                self.machine.queue.push(request, now)

    def _find_ending(self) -> None:
        """Find the decodes whose last token by count is on its way: they need no more memory."""
        ends, ticks = self.ends, self.machine.ticks
        while ends and ends[0][0] <= ticks:
            _, _, request = heappop(ends)
            if not request.counted or request.phase == NO_PHASE:
                continue
            if compat.ending(request.vllm, self.machine.limits.max_model_len):
                self.phases[request.phase] -= 1
                request.phase = NO_PHASE
                self.ending[request.id] = request
            else:
                heappush(ends, (ticks + 1, request.id, request))
        self.draft.ending = list(self.ending.values()) if self.ending else []

    def observe(self, output: Any, planned: bool, now: Time) -> Step:
        """Take note of the step that vLLM planned; the machine follows where they differ."""
        machine, draft = self.machine, self.draft
        self.settle(now)
        scheduled: dict[str, int] = output.num_scheduled_tokens
        dropped = output.preempted_req_ids or ()
        expected = machine.decodes - len(draft.ending) if draft.decoding else 0
        lost = {self.by_id[name].id for name in dropped if name in self.by_id}
        self.followed = not (
            planned
            and len(scheduled) == expected + len(draft.grants)
            and len(dropped) == self.told_dropped
        )
        grants: list[Grant] = []
        admitted: set[int] = set()
        lagging: list[LiveRequest] = []
        if not planned and only_decodes(output, machine):
            decodes = machine.decodes
        elif self.followed:
            grants, decodes, admitted = self._follow(scheduled, dropped, planned, now)
            lagging = lagging_of(scheduled, machine) if decodes else []
        else:
            grants = [self._granted(live(request), scheduled) for request, _ in draft.grants]
            admitted = {request.id for request in draft.newcomers}
            decodes, lagging = expected, draft.ending
        context = self.context
        context -= sum(r.computed + machine.ticks - r.joined + 1 for r in lagging)
        context = context if decodes else 0
        self.step = Step(output, grants, decodes, context, lagging, admitted, lost)
        draft.decoding = False
        return self.step

    def _granted(self, request: LiveRequest, scheduled: dict[str, int]) -> Grant:
        """Return a grant as vLLM made it; what its prefix cache held is known only now."""
        tokens = scheduled[request.vllm.request_id]
        request.computed = request.vllm.num_computed_tokens - tokens
        return Grant(request, request.computed, tokens)

    def _follow(
        self, scheduled: dict[str, int], dropped: Iterable[str], planned: bool, now: Time
    ) -> tuple[list[Grant], int, set[int]]:
        """Move the machine to what vLLM did; return prompt chunks, decodes, and the admitted."""
        machine = self.machine
        admitted: set[int] = set()
        for name in dropped:
            request = None if name in scheduled else self.by_id.get(name)  # dropped and back
            if request is not None and request.state in (PREFILL, DECODE, PAUSED):
                self._carry_out(machine.unseat(Yield(request, Mode.DROP), now))
        for request in self.draft.newcomers if planned else ():
            name = request.vllm.request_id
            if name not in scheduled and request.state == PREFILL:
                self._take_back(request, now)
            else:
                admitted.add(request.id)
        grants: list[Grant] = []
        decodes = 0
        for name in scheduled:
            request = self.by_id[name]
            if request.state != DECODE and request.state != PREFILL:
                if request.state != PAUSED:
                    admitted.add(request.id)
                self._seat(request, now)
            if request.state == DECODE:
                decodes += 1
            else:
                grants.append(self._granted(request, scheduled))
        return grants, decodes, admitted

    def _seat(self, request: LiveRequest, now: Time) -> None:
        """Follow vLLM, which admitted or resumed a request by itself."""
        self.refused.pop(request.vllm.request_id, None)
        if self.compiling.pop(request.vllm.request_id, None) or request.state == DELAYED:
            self._tell(request, now, accept=True)
        assert request.state not in ENDED, "vLLM runs a request that has ended"
        for action in self.machine.seat(request, now):
            self._carry_out(action)
        if request.state == DECODE:
            self._join(request)

    def _take_back(self, request: LiveRequest, now: Time) -> None:
        """Undo the seat of a newcomer that vLLM did not admit; offered twice, it must wait."""
        self.machine.unseat(Yield(request, Mode.DROP), now)
        request.refusals += 1
        if request.refusals == 1:
            return
        request.refusals = 0
        self.machine.queue.discard(request)
        step = self.machine.steps + ASK_AGAIN_STEPS
        self.refused[request.vllm.request_id] = (request, step)

    def settle(self, now: Time, output: Any = None) -> None:
        """Tell the machine that the step has ended; `output` if only that step's end is known."""
        step, machine = self.step, self.machine
        if step is None or (output is not None and step.output is not output):
            return
        self.step = None
        grants = tuple((g.request, g.tokens) for g in step.grants if g.request.state == PREFILL)
        decodes = step.decodes > 0
        if decodes:
            self.context += machine.decodes
        machine.handle(StepEnd(now, 1, decodes, grants))
        for request in step.lagging:
            if request.state == DECODE:
                request.joined += 1
                self.context -= 1
                if request.phase != NO_PHASE:
                    self.phases[request.phase] -= 1
                    request.phase = self.blocks.phase(request)
                    self.phases[request.phase] += 1
        for granted, _ in grants:
            if granted.state == DECODE:
                self._join(granted)

    def end(self, vllm: compat.Request, now: Time) -> bool:
        """Take note that a request ended, however it did; return whether its KV is held."""
        request = self.by_id.pop(vllm.request_id, None)
        if request is None:
            return False
        self.compiling.pop(vllm.request_id, None)
        self.refused.pop(vllm.request_id, None)
        if self.refused:
            self.refused = {name: (r, 0) for name, (r, _) in self.refused.items()}
        aborted = vllm.status >= compat.RequestStatus.FINISHED_ABORTED
        finished = request.state == DECODE and not aborted
        event = Finish(now, request) if finished else Cancel(now, request)
        for action in self.machine.handle(event):
            self._carry_out(action)
        return request.state == HELD

    def _join(self, request: Any) -> None:
        """Add a request in decode to the phases, the context and the ends."""
        mine = live(request)
        mine.counted = True
        mine.phase = self.blocks.phase(mine)
        self.phases[mine.phase] += 1
        self.context += mine.computed + 1
        tokens = min(mine.vllm.max_tokens, self.machine.limits.max_model_len - mine.prompt)
        tick = self.machine.ticks + tokens - mine.decoded
        heappush(self.ends, (tick, mine.id, mine))

    def _leave(self, request: LiveRequest, tokens: int) -> None:
        """Take a request out of the decodes."""
        if not request.counted:
            return
        request.counted = False
        if request.phase == NO_PHASE:
            del self.ending[request.id]
        else:
            self.phases[request.phase] -= 1
        self.context -= tokens + 1
        if self.draft.took_growth(request):
            self.blocks.take(-1)

    def _carry_out(self, action: Action) -> None:
        """Do to the engine what the machine decided; nothing that vLLM has done already."""
        if isinstance(action, Drop):
            request = live(action.request)
            self._leave(request, action.tokens)
            self.blocks.dropped.add(request.id)
            if request.vllm.status == compat.RequestStatus.RUNNING:
                self.told_dropped += 1
                self.body.drop(request)
            self._hide_stale(request)
        elif isinstance(action, Pause):
            self._leave(live(action.request), action.request.computed)
            self.body.park(live(action.request))
        elif isinstance(action, HoldUntil):
            self._leave(live(action.request), action.request.computed)
        elif isinstance(action, Release):
            request = live(action.request)
            self._leave(request, action.tokens)
            if request.vllm.request_id not in self.by_id:
                self.body.free_held(request)
        elif isinstance(action, Reject):
            self.body.shed(live(action.request), action.reason)

    def _hide_stale(self, request: LiveRequest) -> None:
        """Keep a dropped request off the queue until the tokens on their way have come."""
        if compat.stale(request.vllm) and request.state == WAITING:
            self.machine.queue.discard(request)
            self.refused[request.vllm.request_id] = (request, 0)
