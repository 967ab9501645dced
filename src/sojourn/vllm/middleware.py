"""Who calls, told by the API server to the engine core: `--middleware` of vLLM's server.

It knows the caller by the API key or by the trusted proxy's headers, refuses malformed values with
400 and one sentence, and writes what it found into the request's `vllm_xargs`, sealed. The body is
read once and not parsed unless the client wrote into `vllm_xargs` itself: JSON's last key wins, so
a second `vllm_xargs` is put before the closing brace. Responses pass through untouched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from functools import cache
from math import isfinite
from typing import Any, Final

from sojourn.errors import UserError, unknown
from sojourn.vllm.identity import SEAL, read_claim, read_claims, seal
from sojourn.vllm.plugin import KEY_VARIABLE, identity_key
from sojourn.vllm.rules import Rules, digest

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PATHS: Final = frozenset(
    {
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/chat/completions/batch",
        "/v1/responses",
        "/v1/messages",
        "/invocations",
    }
)
"""Routes whose JSON body has a `vllm_xargs`; requests of others are the default tenant's."""

XARGS: Final = "vllm_xargs"
PRIORITY_HEADER: Final = "x-vllm-priority"
HEADERS: Final[Mapping[str, str]] = {
    "x-sojourn-class": "sojourn_class",
    "x-sojourn-program": "sojourn_program",
    "x-sojourn-turn": "sojourn_turn",
    "x-sojourn-last-turn": "sojourn_last_turn",
    "x-sojourn-ttft-seconds": "sojourn_ttft_seconds",
    "x-sojourn-tpot-seconds": "sojourn_tpot_seconds",
    "x-sojourn-e2e-seconds": "sojourn_e2e_seconds",
}
"""Headers that say what a name in `vllm_xargs` says, which goes before them."""

MILLISECOND_HEADERS: Final[Mapping[str, str]] = {
    "x-llm-d-slo-ttft-ms": "sojourn_ttft_seconds",
    "x-llm-d-slo-tpot-ms": "sojourn_tpot_seconds",
    "x-slo-ttft-ms": "sojourn_ttft_seconds",
    "x-slo-tpot-ms": "sojourn_tpot_seconds",
}
"""llm-d's headers for objectives, the names in force before the deprecated ones."""

ALIASES: Final[Mapping[str, str]] = {
    "x-llm-d-inference-fairness-id": "x-gateway-inference-fairness-id",
    "x-llm-d-inference-objective": "x-gateway-inference-objective",
}
"""Deprecated names of the headers in which llm-d's gateway names tenant and class."""


class Refused(Exception):
    """A value that the client must mend: a sentence, and the field that it is in."""

    def __init__(self, sentence: str, field: str) -> None:
        super().__init__(sentence)
        self.field = field


class IdentityMiddleware:
    """The middleware; vLLM makes it with the application that it stands before.

    Attributes:
        app: What answers.
        rules: From vLLM's own `--additional-config`, once the server starts.
        key: What the seals are made with.
        accepted: SHA-256 of the keys that vLLM accepts; None if it accepts anybody.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.rules: Rules | None = None
        self.key = b""
        self.accepted: frozenset[str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or start up."""
        if self.rules is None:
            try:
                self.rules = self._read_rules(scope)
            except UserError as error:
                await _fail(scope, receive, send, str(error))
                return
        path = str(scope.get("path", "")).removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or scope.get("method") != "POST" or path not in PATHS:
            await self.app(scope, receive, send)
            return
        headers = _headers(scope)
        caller = _bearer(headers)
        if self.accepted is not None and caller not in self.accepted:
            # vLLM's own answer is 401; a stranger's body is not read.
            await self.app(scope, receive, send)
            return
        try:
            said = self._said(self.rules, headers, caller, _address(scope))
            scope, receive = await _rewritten(scope, receive, said, self.rules)
        except Refused as refusal:
            await _refuse(send, refusal)
            return
        await self.app(scope, receive, send)

    def _read_rules(self, scope: Scope) -> Rules:
        state = scope["app"].state
        config = getattr(state.vllm_config, "additional_config", None) or {}
        rules = Rules.from_config((config.get("sojourn") or {}).get("identity") or {})
        self.key = identity_key()
        if rules.vouches and not self.key:
            raise UserError(
                f"sojourn's plugin is not loaded in vllm, so that identities cannot be sealed: "
                f"name sojourn in VLLM_PLUGINS, or set {KEY_VARIABLE} for all its processes"
            )
        keys = [key for key in (state.args.api_key or [os.environ.get("VLLM_API_KEY")]) if key]
        self.accepted = frozenset(digest(key) for key in keys) if keys else None
        return rules

    def _said(
        self, rules: Rules, headers: Mapping[str, str], caller: str | None, address: str | None
    ) -> dict[str, Any]:
        """Return what the server says of a request, and what the client's headers ask for."""
        said = header_claims(headers)
        _check_priority(headers)
        proxy = rules.proxy
        tenant = rules.keys.get(caller) if caller is not None else None
        slo_class = ""
        if proxy is not None:
            named = _named(headers, proxy.tenant_header, "sojourn_tenant")
            if proxy.is_peer(caller, address):
                tenant = named or tenant
                slo_class = _named(headers, proxy.class_header, "sojourn_class") or ""
            elif named is not None:
                said["sojourn_tenant"] = named  # which earns it a warning
        if tenant is not None or slo_class:
            said[SEAL] = seal(self.key, tenant or rules.default.name, slo_class)
        return said


def header_claims(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return what headers ask for, under the names of `vllm_xargs`.

    Raises:
        Refused: For a malformed value.
    """
    claims: dict[str, Any] = {}
    for header, name in MILLISECOND_HEADERS.items():
        text = headers.get(header)
        if text is not None and name not in claims:
            milliseconds = _number(text)
            if milliseconds is None:
                raise Refused(f"{header} is {text[:40]!r}; it must be milliseconds", header)
            claims[name] = _checked(header, name, milliseconds / 1000)
    for header, name in HEADERS.items():
        text = headers.get(header)
        if text is not None:
            claims[name] = _checked(header, name, _typed(name, text.strip()))
    return claims


def _checked(header: str, name: str, value: object) -> Any:
    try:
        return read_claim(name, value)
    except UserError as error:
        raise Refused(f"{header}: {error}", header) from None


def _typed(name: str, text: str) -> object:
    """Return a header's text as the type that its claim has; as it stands if it is none."""
    if name.endswith("_seconds"):
        number = _number(text)
        return text if number is None else number
    if name == "sojourn_turn":
        return int(text) if text.isdecimal() and len(text) < 10 else text
    if name == "sojourn_last_turn":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    return text


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _check_priority(headers: Mapping[str, str]) -> None:
    # vLLM passes over a text here, and answers a number of over 64 bits with status 500.
    text = headers.get(PRIORITY_HEADER)
    if text is None:
        return
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
        raise Refused(
            f"{PRIORITY_HEADER} is {text[:40]!r}; it must be a whole number of at most 18 digits",
            PRIORITY_HEADER,
        )


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers, names in lower case; of one that is given twice, the first."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return headers


def _named(headers: Mapping[str, str], header: str, name: str) -> str | None:
    """Return the tenant or class that a header, or its deprecated name, gives."""
    text = headers.get(header) or headers.get(ALIASES.get(header, header))
    return str(_checked(header, name, text)) if text else None


def _bearer(headers: Mapping[str, str]) -> str | None:
    """Return the SHA-256 of the API key; None without one."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return digest(key) if scheme.lower() == "bearer" and key else None


def _address(scope: Scope) -> str | None:
    """Return where a request came from; None if it may only say so itself.

    Where uvicorn trusts the peer, as it does any process on its own machine, it puts an address of
    `X-Forwarded-For` in place of the peer's own, and nothing tells that it did.
    """
    client = scope.get("client")
    if not client:
        return None
    address = str(client[0])
    said = (value for name, value in scope["headers"] if name.lower() == b"x-forwarded-for")
    told = b",".join(said).decode("latin-1").split(",")
    return None if any(address in _hosts(text.strip()) for text in told) else address


def _hosts(text: str) -> tuple[str, ...]:
    """Return what uvicorn may read as the host in an entry: `HOST`, `HOST:PORT`, `[HOST]:PORT`."""
    return text, text.rpartition(":")[0], text.removeprefix("[").partition("]")[0]


async def _rewritten(
    scope: Scope, receive: Receive, said: Mapping[str, Any], rules: Rules
) -> tuple[Scope, Receive]:
    """Return the request with what was said of it in its body."""
    chunks: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return scope, _replay([message], receive)
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    body = with_xargs(b"".join(chunks), said, rules)
    headers = [
        (name, str(len(body)).encode() if name.lower() == b"content-length" else value)
        for name, value in scope["headers"]
    ]
    whole = {"type": "http.request", "body": body, "more_body": False}
    return {**scope, "headers": headers}, _replay([whole], receive)


def _replay(messages: Iterable[Message], receive: Receive) -> Receive:
    """Return a receive that gives some messages first."""
    left = iter(messages)

    async def give() -> Message:
        for message in left:
            return message
        return await receive()

    return give


def with_xargs(body: bytes, said: Mapping[str, Any], rules: Rules) -> bytes:
    """Return a JSON body with more in its `vllm_xargs`; as it stands if vLLM will refuse it.

    What the body asks for goes before what headers ask for.

    Raises:
        Refused: For a malformed value in the body's own `vllm_xargs`, and for a body in an
            encoding that nothing can be put into.
    """
    stripped = body.rstrip(b" \t\r\n")
    given: object = None
    if XARGS.encode() in stripped:
        try:
            given = given_xargs(stripped)
        except (ValueError, RecursionError):
            return body
    if given is None:
        given = {}
    if not isinstance(given, dict):
        return body
    mine = {name: value for name, value in given.items() if name != SEAL}
    claims, wrong = read_claims(mine)
    if wrong:
        raise Refused(wrong[0], XARGS)
    asked = claims.get("sojourn_class", said.get("sojourn_class"))
    if asked is not None and asked not in rules.classes:
        raise Refused(str(unknown("sojourn_class", asked, rules.classes)), XARGS)
    if not said:
        return body
    if not stripped.endswith(b"}"):
        raise Refused("the body must be a JSON object in UTF-8", "body")
    comma = b"" if stripped[:-1].rstrip(b" \t\r\n").endswith(b"{") else b","
    merged = json.dumps({**said, **mine}).encode()
    return b"".join((stripped[:-1], comma, b'"vllm_xargs":', merged, b"}"))


def given_xargs(body: bytes) -> object:
    """Return the `vllm_xargs` of a JSON body; None without one.

    Raises:
        ValueError: If the body is no JSON object.
    """
    try:
        import msgspec
    except ImportError:
        return _parsed(body)
    try:
        # It skips the other fields without making objects of them: a prompt of 100,000 ids.
        return getattr(msgspec.json.decode(body, type=_body_type()), XARGS)
    except msgspec.MsgspecError:
        return _parsed(body)


@cache
def _body_type() -> Any:
    import msgspec

    return msgspec.defstruct("Body", [(XARGS, object, None)])


def _parsed(body: bytes) -> object:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    return document.get(XARGS)


async def _refuse(send: Send, refusal: Refused) -> None:
    """Answer 400, in the form of vLLM's own errors."""
    error = {
        "message": str(refusal),
        "type": "BadRequestError",
        "param": refusal.field,
        "code": 400,
    }
    await _answer(send, 400, {"error": error})


async def _fail(scope: Scope, receive: Receive, send: Send, sentence: str) -> None:
    """End the server's start; answer 500 where it has started."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": sentence})
    elif scope["type"] == "http":
        error = {"message": sentence, "type": "InternalServerError", "param": None, "code": 500}
        await _answer(send, 500, {"error": error})
    else:
        await send({"type": "websocket.close", "code": 1011})


async def _answer(send: Send, status: int, document: Mapping[str, Any]) -> None:
    body = json.dumps(document).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
