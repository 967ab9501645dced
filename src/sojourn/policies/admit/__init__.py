"""Admit slot: accept an arrival, put it off, or shed it."""

from typing import Any, Final

from sojourn.policies.admit import accept_all, queue_limit

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "accept_all": (accept_all.Config, accept_all.AcceptAll),
    "queue_limit": (queue_limit.Config, queue_limit.QueueLimit),
}
