"""Who a request belongs to and what it is owed: the server's rules, and what its client asked for.

A client may ask for less than its tenant has, never for more. What it asks for stands in
`vllm_xargs`; who it is stands there too, sealed by the middleware, because that is the one field
that reaches the engine core from every route. This module imports nothing of vLLM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest
from reprlib import Repr
from typing import Any, Final

from sojourn.errors import UserError, unknown
from sojourn.vllm.rules import (
    NAME_LENGTH_MAX,
    PRIORITY_MAX,
    SECONDS_MAX,
    SECONDS_MIN,
    ClassRule,
    Rules,
    TenantRule,
    is_name,
)

PREFIX: Final = "sojourn_"
SEAL: Final = "sojourn_identity"
"""Name in `vllm_xargs` of what the middleware says."""

TURN_MAX: Final = 1_000_000
WARNINGS_MAX: Final = 8
"""Most warnings of one request; a client can send any number of wrong values."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose a request is, and the objectives in force.

    Attributes:
        tenant, slo_class: Names.
        program: The conversation or agent run, as the client named it; None for none. Two tenants
            may use the same name for different programs.
        turn, last_turn: Which call of the program it is, from 0, and whether it is known to end it.
        priority: Lower goes first.
        ttft_seconds, tpot_seconds, e2e_seconds: Objectives, counted from arrival; None for none.
        warnings: Sentences about values that were ignored.
    """

    tenant: str
    slo_class: str
    program: str | None = None
    turn: int = 0
    last_turn: bool = False
    priority: int = 0
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    e2e_seconds: float | None = None
    warnings: tuple[str, ...] = ()


def identify(
    extra_args: object, priority: object, rules: Rules, key: bytes = b"", session_id: object = None
) -> Identity:
    """Return whose a request is; whatever is malformed is ignored with a warning.

    Args:
        extra_args: The request's `sampling_params.extra_args`.
        priority: The client's own priority; numbers above 0 put it further back.
        rules: The server's.
        key: What the middleware seals with; empty if there is no middleware.
        session_id: vLLM's session id, the program of a request that names none.
    """
    args = extra_args if isinstance(extra_args, Mapping) else {}
    claims, warnings = read_claims(args)
    granted = _granted(args.get(SEAL), rules, key, warnings)
    if "sojourn_tenant" in claims:
        warnings.append("sojourn_tenant is ignored: a client cannot say which tenant it is")
    slo_class, best = _class_of(claims.get("sojourn_class"), granted, rules, warnings)
    program = claims.get("sojourn_program")
    if program is None and session_id is not None:
        if isinstance(session_id, str) and is_name(session_id):
            program = session_id
        else:
            warnings.append(f"session_id is {_shown(session_id)}; it must be {_NAME}")
    return Identity(
        tenant=granted.name,
        slo_class=slo_class.name,
        program=program,
        turn=claims.get("sojourn_turn", 0),
        last_turn=claims.get("sojourn_last_turn", False),
        priority=_further_back(best, priority, warnings),
        ttft_seconds=_objective("ttft_seconds", slo_class, claims, warnings),
        tpot_seconds=_objective("tpot_seconds", slo_class, claims, warnings),
        e2e_seconds=_objective("e2e_seconds", slo_class, claims, warnings),
        warnings=tuple(warnings[:WARNINGS_MAX]),
    )


def _granted(sealed: object, rules: Rules, key: bytes, warnings: list[str]) -> TenantRule:
    """Return the rights of whom the middleware says it is; the default's if it says nothing."""
    if sealed is None:
        return rules.default
    opened = unseal(sealed, key)
    if opened is None:
        warnings.append(f"{SEAL} was not written by this server's middleware")
        return rules.default
    name, by_proxy = opened
    tenant = rules.tenant(name)
    if not by_proxy:
        return tenant
    if by_proxy not in rules.classes:
        warnings.append(
            f"the proxy's class is unknown: {unknown('class', by_proxy, rules.classes)}"
        )
        return tenant
    slo_class = rules.classes[by_proxy]
    return TenantRule(name, slo_class, slo_class.priority)


def _class_of(
    asked: str | None, granted: TenantRule, rules: Rules, warnings: list[str]
) -> tuple[ClassRule, int]:
    """Return the class in force and its priority: the class asked for if it is no better."""
    own = granted.slo_class
    if asked is None or asked == own.name:
        return own, granted.priority
    wanted = rules.classes.get(asked)
    if wanted is None:
        warnings.append(str(unknown("sojourn_class", asked, rules.classes)))
    elif wanted.above(own):
        warnings.append(f"sojourn_class {asked!r} is above the tenant's own, {own.name!r}")
    else:
        return wanted, max(granted.priority, wanted.priority)
    return own, granted.priority


def _further_back(granted: int, asked: object, warnings: list[str]) -> int:
    """Return the granted priority plus the client's own, which only lowers it."""
    if isinstance(asked, bool) or not isinstance(asked, int):
        if asked is not None:
            warnings.append(f"priority is {_shown(asked)}; it must be a whole number")
        return granted
    if asked < 0:
        warnings.append("priority is below 0: a client can only lower its priority")
        return granted
    return granted + min(asked, PRIORITY_MAX)


def _objective(
    name: str, slo_class: ClassRule, claims: Mapping[str, Any], warnings: list[str]
) -> float | None:
    """Return the objective in force: what was asked for, but no tighter than the class allows."""
    own: float | None = getattr(slo_class, name)
    asked: float | None = claims.get(f"{PREFIX}{name}")
    if asked is None:
        return own
    if asked >= slo_class.tightest(name):
        return asked
    warnings.append(f"{PREFIX}{name} {asked:g} is tighter than class {slo_class.name!r} allows")
    least: float | None = getattr(slo_class, f"{name}_min")
    return own if least is None else least


def seal(key: bytes, tenant: str, slo_class: str = "") -> str:
    """Return what only the holder of the key can write: that a request is a tenant's.

    Args:
        key: Shared by the middleware and the engine core.
        tenant: Its name.
        slo_class: The class that the proxy granted; empty for the tenant's own.
    """
    assert ":" not in slo_class, "a colon ends the class"
    return f"{_mac(key, tenant, slo_class)}:{slo_class}:{tenant}"


def unseal(sealed: object, key: bytes) -> tuple[str, str] | None:
    """Return the tenant and the class of a seal; None if it was not made with this key."""
    if not key or not isinstance(sealed, str) or len(sealed) > 3 * NAME_LENGTH_MAX:
        return None
    mac, _, rest = sealed.partition(":")
    slo_class, _, tenant = rest.partition(":")
    if not mac.isascii() or not compare_digest(mac, _mac(key, tenant, slo_class)):
        return None
    return tenant, slo_class


def _mac(key: bytes, tenant: str, slo_class: str) -> str:
    text = f"{slo_class}:{tenant}".encode("utf-8", "surrogatepass")
    return blake2b(text, key=key[:64], digest_size=16).hexdigest()


def read_claims(args: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the well-formed values that a client gave, and a sentence for each other one."""
    claims: dict[str, Any] = {}
    wrong: list[str] = []
    for name, value in args.items():
        if not isinstance(name, str) or not name.startswith(PREFIX) or name == SEAL:
            continue
        try:
            claims[name] = read_claim(name, value)
        except UserError as error:
            wrong.append(str(error))
            if len(wrong) >= WARNINGS_MAX:
                break
    return claims, wrong


def read_claim(name: str, value: object) -> str | int | bool | float:
    """Return a client's value, checked.

    Raises:
        UserError: If there is no such name, or the value is malformed.
    """
    if name not in CLAIMS:
        names = [one for one in CLAIMS if one != "sojourn_tenant"]
        raise unknown("name in vllm_xargs", name[:NAME_LENGTH_MAX], names)
    read, allowed = CLAIMS[name]
    found = read(value)
    if found is None:
        raise UserError(f"{name} is {_shown(value)}; it must be {allowed}")
    return found


def _read_name(value: object) -> str | None:
    return value if isinstance(value, str) and is_name(value) else None


def _read_class(value: object) -> str | None:
    name = _read_name(value)
    return None if name is None or ":" in name else name


def _read_turn(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= TURN_MAX else None


def _read_flag(value: object) -> bool | None:
    # vLLM's server turns JSON's true and false into 1 and 0.
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def _read_seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if SECONDS_MIN <= value <= SECONDS_MAX else None


_NAME: Final = f"a text of 1 to {NAME_LENGTH_MAX} printable letters"
_SECONDS: Final = "a number of seconds from 0.000001 to 1000000"
Claim = tuple[Callable[[object], str | int | bool | float | None], str]

CLAIMS: Final[Mapping[str, Claim]] = {
    "sojourn_class": (_read_class, f"{_NAME}, without colon"),
    "sojourn_tenant": (_read_name, _NAME),
    "sojourn_program": (_read_name, _NAME),
    "sojourn_turn": (_read_turn, f"a whole number from 0 to {TURN_MAX}"),
    "sojourn_last_turn": (_read_flag, "true or false"),
    "sojourn_ttft_seconds": (_read_seconds, _SECONDS),
    "sojourn_tpot_seconds": (_read_seconds, _SECONDS),
    "sojourn_e2e_seconds": (_read_seconds, _SECONDS),
}
"""What a client may say in `vllm_xargs`: how it is read, and what is allowed in words."""

_SHORT: Final = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 40
_SHORT.maxlevel = 2


def _shown(value: object) -> str:
    """Return a value as a short text, whatever its size."""
    if isinstance(value, int) and abs(value) > 10**18:
        return "a number of too many digits"
    return _SHORT.repr(value)[:80]
