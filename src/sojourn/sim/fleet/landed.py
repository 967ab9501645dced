"""Requests whose KV has come from elsewhere, in the queue of a replica.

They hold blocks while they wait, so nobody may keep them waiting who waits for blocks: where the
first come are the first served, they go first. (Llumnix lets a migrated request join the batch at
once.) Where nobody can be seated for want of blocks that such requests hold, the last of them gives
its KV up and is computed anew.
"""

from __future__ import annotations

from sojourn.decide.clock import Time
from sojourn.decide.queues import Key, RankedQueue
from sojourn.decide.request import Request
from sojourn.engine.replica import Replica
from sojourn.policies.order.fcfs import Fcfs


class LandedFirst:
    """The key of a replica's queue, with those whose KV has landed before all others."""

    def __init__(self, replica: Replica, queue: RankedQueue) -> None:
        self.key = queue.key
        self.landed = replica.pool.landed

    def __call__(self, request: Request, now: Time) -> Key:
        """Return the key of a request."""
        return (0 if request.id in self.landed else 1, *self.key(request, now))


def put_first(replica: Replica, now: Time) -> None:
    """Let a replica's queue put those first whose KV has landed; once is enough.

    Only first come first served is changed so. Under other orders a place in the queue is the
    policy's own business: those who run may give way to it, or groups take turns.
    """
    queue = replica.machine.queue
    if not isinstance(replica.machine.policies.order, Fcfs) or not isinstance(queue, RankedQueue):
        return
    if not isinstance(queue.key, LandedFirst):
        queue.key = LandedFirst(replica, queue)
        for request in queue.requests():
            queue.push(request, now)


def unblock(replica: Replica) -> bool:
    """Let the last that waits with its KV give it up, where a plan seats nobody, now or later.

    Returns whether one did: then the replica is to plan again.
    """
    landed, queued = replica.pool.landed, replica.machine.queue.live
    if replica.steps or not landed:
        return False
    waiting = [one for one, _ in landed.values() if one.id in queued]
    if not waiting or len(waiting) < len(landed):  # who is still on its way may make the room
        return False
    replica.pool.unland(max(waiting, key=lambda one: (one.arrival, one.id)))
    return True
