"""Sessions of streaming input, which are refused: what comes of them after their end."""

from __future__ import annotations

from typing import Final

from sojourn.vllm import compat

SESSIONS_MAX: Final = 10_000
"""Sessions remembered; a client that goes away never says that its session is over."""


class RefusedSessions:
    """Ids of refused sessions whose client may still send: more input, or that there is no more.

    vLLM tells a client's later words from a new request by the session's id alone, and a session
    that was refused has ended: they would be served, as requests that nobody waits for.
    """

    def __init__(self) -> None:
        self.known: dict[str, None] = {}

    def refuse(self, request: compat.Request) -> None:
        """Note the first request of a session."""
        self.known[request.request_id] = None
        if len(self.known) > SESSIONS_MAX:
            del self.known[next(iter(self.known))]

    def goes_on(self, request: compat.Request) -> bool:
        """Return whether a request is more of a refused session; its last word ends the memory."""
        if request.request_id not in self.known:
            return False
        if not request.resumable:
            del self.known[request.request_id]
        return True
