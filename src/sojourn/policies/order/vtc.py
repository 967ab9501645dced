"""Virtual token counter: the tenant that has been served least goes first.

Source: Sheng et al., "Fairness in serving large language models", OSDI 2024, algorithms 1 and 2;
    released code at 192c2e2.
Reads: tenant, prompt, drops, decoded.
Memory: for each tenant its counter, how many of its requests decode, how many are queued.
Needs: nothing.
Deviations: a tenant's counter is lifted also when nobody is queued, as the paper has it and the
    released code has not (`lift_when_idle`). Admission checks memory as the engine does, not the
    paper's peak over all future lengths. Work done again after a drop is not charged twice.
Fails when: one tenant's requests are far larger than the others': the head of the line blocks all,
    and the gap between tenants is bounded by the largest request only.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import ClassVar, Final

from sojourn.decide.clock import NEVER, Time
from sojourn.decide.queues import Key
from sojourn.decide.request import RequestView
from sojourn.decide.slots import Changes, Services
from sojourn.decide.states import DECODE, DELAYED, NEW, PREFILL, WAITING
from sojourn.errors import UserError
from sojourn.policies.order.steady import Steady

UNIT: Final = 1000
"""Counter units in a token at price 1, so that prices stay whole numbers."""


@dataclass(frozen=True, slots=True)
class Config:
    """Parameters of the counters; the defaults are the paper's.

    Attributes:
        input_price: Service that one prompt token counts for.
        output_price: Service that one generated token counts for.
        lift_when_idle: Whether a tenant that comes when nobody is queued is lifted to the counter
            of the tenant that left the queue last.
    """

    input_price: float = 1.0
    output_price: float = 2.0
    lift_when_idle: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("input_price", "output_price"):
            if not getattr(self, name) >= 0:
                raise UserError(f"order.{name} is {getattr(self, name)}; it must be 0 or more")


@dataclass(slots=True)
class Account:
    """What is remembered of one tenant.

    Attributes:
        served: Service counted up to tick `at`.
        at: Tick of the last settlement.
        decodes: Requests that decode: the counter rises by these each tick.
        queued: Requests queued.
    """

    served: int = 0
    at: int = 0
    decodes: int = 0
    queued: int = 0


class Vtc(Steady):
    """Least served tenant first, FIFO inside a tenant."""

    changes: ClassVar[Changes] = "worsens"
    minds_arrivals: ClassVar[bool] = True

    def __init__(self, config: Config, services: Services) -> None:
        super().__init__()
        self.view = services.view
        self.input_price = round(config.input_price * UNIT)
        self.output_price = round(config.output_price * UNIT)
        self.lift_when_idle = config.lift_when_idle
        self.accounts: dict[int, Account] = {}
        self.busy: dict[int, Account] = {}
        self.last_left: Account | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> Vtc:
        """Return a twin with counters of its own: shadow mode asks for one when it would admit."""
        twin = copy(self)
        accounts = {tenant: copy(account) for tenant, account in self.accounts.items()}
        busy = {tenant: accounts[tenant] for tenant in self.busy}
        vars(twin).update(accounts=accounts, busy=busy)
        return twin

    def key(self, request: RequestView, now: Time) -> Key:
        """Rank by the tenant's counter."""
        return self.group_key(request.tenant, now)

    def group(self, request: RequestView) -> int:
        """Group by tenant."""
        return request.tenant

    def group_key(self, group: int, now: Time) -> Key:
        """Rank by counter."""
        return (self._served(self.accounts[group]),)

    def moved(self, request: RequestView, start: int, finish: int, now: Time) -> None:
        """Count service, and lift a tenant that comes back."""
        if finish == WAITING:
            self._queue(request, start in (NEW, DELAYED))
        account = self.accounts.get(request.tenant)
        if account is None:
            return
        if start == WAITING:
            account.queued -= 1
            if account.queued == 0:
                del self.busy[request.tenant]
                self.last_left = account
            if finish == PREFILL and not request.drops:
                account.served += request.prompt * self.input_price
        if finish == DECODE:
            self._settle(account)
            account.served += self.output_price
            account.decodes += 1
        elif start == DECODE:
            self._settle(account)
            account.decodes -= 1

    def holds(self, request: RequestView, now: Time) -> tuple[int, Time]:
        """Count the steps until another queued tenant's counter may be the lower one."""
        mine = self.accounts[request.tenant]
        served = self._served(mine)
        steps = NEVER
        for account in self.busy.values():
            faster = (mine.decodes - account.decodes) * self.output_price
            if faster > 0:
                steps = min(steps, (self._served(account) - served) // faster)
        return steps, NEVER

    def _queue(self, request: RequestView, arrives: bool) -> None:
        account = self.accounts.setdefault(request.tenant, Account(at=self.view.ticks))
        if arrives and account.queued == 0:
            self._settle(account)
            if self.busy:
                least = min(self._served(other) for other in self.busy.values())
                account.served = max(account.served, least)
            elif self.lift_when_idle and self.last_left is not None:
                account.served = max(account.served, self._served(self.last_left))
        account.queued += 1
        self.busy[request.tenant] = account

    def _served(self, account: Account) -> int:
        ticks = self.view.ticks - account.at
        return account.served + ticks * account.decodes * self.output_price

    def _settle(self, account: Account) -> None:
        account.served = self._served(account)
        account.at = self.view.ticks
