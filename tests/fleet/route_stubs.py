"""Routers on a fleet that a test writes down number by number."""

from __future__ import annotations

from dataclasses import dataclass, field

from sojourn.decide.clock import SECOND
from sojourn.decide.request import Request
from sojourn.fleet.views import Load
from sojourn.policies.tables import SLOTS


class TokenTime:
    """A step takes a millisecond for each prompt token and nothing else."""

    def step(self, tokens, *_):
        return tokens * SECOND // 1000


@dataclass
class Replica:
    """A replica that says whatever a test wants."""

    index: int
    open: int = 0
    prompt_tokens: int = 0
    open_tokens: int = 0
    waiting: int = 0
    seated: int = 0
    free_blocks: int = 100
    reported: int = 0
    room: bool = True
    asked: int = 0
    kind: str = "replica"
    role: str = "mixed"
    status: str = "up"
    blocks: int = 100
    block_size: int = 16
    seats: int = 8
    step_time: TokenTime = field(default_factory=TokenTime)

    @property
    def load(self):
        return Load(self.reported, self.waiting, self.seated, free_blocks=self.free_blocks)

    def has_room(self, _):
        self.asked += 1
        return self.room


class Fleet:
    """Some replicas, ids of 16 tokens, and draws in the order given (else 0)."""

    def __init__(self, *replicas, draws=(), block_tokens=16):
        self.replicas = list(replicas)
        self.draws = list(draws)
        self.block_tokens = block_tokens

    @property
    def entries(self):
        return [one for one in self.replicas if one.status == "up" and one.role != "decode"]

    def draw(self, bound):
        drawn = self.draws.pop(0) if self.draws else 0
        assert 0 <= drawn < bound
        return drawn

    def transfer_time(self, _source, _target, tokens):
        return tokens * SECOND // 10_000


def build(name, fleet, **parameters):
    """Return a router that has been told of every replica."""
    config, policy = SLOTS["route"][name]
    router = policy(config(**parameters), fleet)
    for replica in fleet.replicas:
        router.changed(replica, 0)
    return router


def request(number=0, prompt=64, prefix=(), program=-1, deadline=None):
    made = Request(number, 0, prompt, program=program, prefix=tuple(prefix))
    if deadline is not None:
        made.ttft_deadline = deadline
    return made
