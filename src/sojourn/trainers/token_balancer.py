"""The engine with the fewest tokens in flight: a load balancer that verl can load by name.

verl's own counts requests, so that an engine with a few long conversations looks as free as one
with as many short ones. This one weighs each request by its prompt and an expected answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sojourn.errors import UserError, unknown

ANSWER_TOKENS: Final = 1024
SESSIONS_MAX: Final = 10000
OPTIONS: Final = ("router_class", "answer_tokens", "sessions_max")


class TokenBalancer:
    """Sticky sessions, and new ones to the engine with the fewest tokens in flight.

    Attributes:
        tokens, requests: What is in flight at each server.
    """

    def __init__(self, servers: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> None:
        options = dict(config or {})
        for key in options:
            if key not in OPTIONS:
                raise unknown("option of the load balancer", str(key), OPTIONS)
        self.answer_tokens = int(options.get("answer_tokens", ANSWER_TOKENS))
        self.sessions_max = int(options.get("sessions_max", SESSIONS_MAX))
        if self.answer_tokens < 0 or self.sessions_max < 1:
            raise UserError(
                "the load balancer's answer_tokens must be at least 0 and its sessions_max at "
                f"least 1; they are {self.answer_tokens} and {self.sessions_max}"
            )
        self._servers: dict[str, Any] = dict(servers)
        self.tokens: dict[str, int] = dict.fromkeys(self._servers, 0)
        self.requests: dict[str, int] = dict.fromkeys(self._servers, 0)
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self._weights: dict[tuple[str, str], list[int]] = {}

    def require_acquire_fields(self) -> list[str]:
        """Return what verl is to send with an acquisition: the prompt, for its length."""
        return ["prompt_ids"]

    def require_release_fields(self) -> list[str]:
        """Return what verl is to send with a release: whose it was."""
        return ["request_id"]

    def acquire_server(
        self, request_id: str, prompt_ids: Sequence[int] | None = None
    ) -> tuple[str, Any]:
        """Return the server of a session, or the one with the fewest tokens; ties to the first."""
        server_id = self._sessions.get(request_id)
        if server_id is None or server_id not in self._servers:
            if not self._servers:
                raise RuntimeError("No available servers in load balancer")  # verl reads it
            server_id = min(self.tokens, key=lambda one: self.tokens[one])
        self._sessions[request_id] = server_id
        self._sessions.move_to_end(request_id)
        if len(self._sessions) > self.sessions_max:
            self._sessions.popitem(last=False)
        weight = (0 if prompt_ids is None else len(prompt_ids)) + self.answer_tokens
        self._weights.setdefault((server_id, request_id), []).append(weight)
        self.tokens[server_id] += weight
        self.requests[server_id] += 1
        return server_id, self._servers[server_id]

    def release_server(self, server_id: str, request_id: str | None = None) -> None:
        """Take a request of a session off a server; one that is not known changes nothing."""
        key = (server_id, request_id or "")
        weights = self._weights.get(key)
        if weights is None:
            return
        weight = weights.pop(0)
        if not weights:
            del self._weights[key]
        self.tokens[server_id] -= weight
        self.requests[server_id] -= 1

    def add_servers(self, servers: Mapping[str, Any]) -> None:
        """Register servers; those that are known begin anew."""
        self.remove_servers([*servers])
        for server_id, handle in servers.items():
            self._servers[server_id] = handle
            self.tokens[server_id] = 0
            self.requests[server_id] = 0

    def remove_servers(self, server_ids: Iterable[str]) -> None:
        """Forget servers; their sessions go elsewhere."""
        gone = frozenset(server_ids)
        for table in (self._servers, self.tokens, self.requests):
            for server_id in gone & table.keys():
                del table[server_id]
        self._weights = {key: one for key, one in self._weights.items() if key[0] not in gone}

    def get_inflight_count(self, server_id: str) -> int:
        """Return the requests in flight at a server."""
        return self.requests.get(server_id, 0)

    def get_total_inflight(self) -> int:
        """Return the requests in flight at all servers."""
        return sum(self.requests.values())

    def get_all_servers(self) -> list[str]:
        """Return the names of all servers."""
        return list(self._servers)

    def clear_sticky_cache(self) -> dict[str, Any]:
        """Forget all sessions, so that their next requests go where there is room."""
        cleared = len(self._sessions)
        self._sessions.clear()
        return {"cleared_entries": cleared, "server_loads": dict(self.requests)}

    def get_status(self) -> dict[str, Any]:
        """Return what is in flight, for logs."""
        return {
            "servers": dict(self.requests),
            "tokens": dict(self.tokens),
            "total_inflight": self.get_total_inflight(),
            "active_servers": len(self._servers),
            "registered_handles": list(self._servers),
        }
