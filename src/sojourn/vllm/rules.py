"""Who may have what: tenants and SLO classes as the server's configuration grants them.

The rules stand under `sojourn.identity` of `--additional-config`, where the API server and the
engine core both read them. This module imports nothing of vLLM.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from math import inf
from typing import Any, Final

from sojourn.errors import UserError, unknown

KEYS: Final = ("classes", "tenants", "default_class", "default_tenant", "proxy")
TENANT_KEYS: Final = ("class", "priority", "key_sha256")
PROXY_KEYS: Final = ("key_sha256", "addresses", "tenant_header", "class_header")
OBJECTIVES: Final = ("ttft_seconds", "tpot_seconds", "e2e_seconds")
NAME_LENGTH_MAX: Final = 128
SECONDS_MIN: Final = 1e-6
SECONDS_MAX: Final = 1e6
"""Shortest and longest objective: a microsecond, and eleven days, well inside the clock."""

PRIORITY_MAX: Final = 1 << 31
"""Largest priority number, so that sums of priorities stay small."""

BUILT_IN: Final = "default"
"""Name of the tenant and of the class when the rules name none."""


@dataclass(frozen=True, slots=True)
class ClassRule:
    """An SLO class: its priority, its objectives, and the tightest that its clients may ask for.

    Attributes:
        name: As in reports and requests.
        priority: Lower goes first, as in vLLM.
        ttft_seconds, tpot_seconds, e2e_seconds: Objectives of a request that asks for none.
        ttft_seconds_min, tpot_seconds_min, e2e_seconds_min: Tightest that a client may ask for;
            None for the objective itself.
    """

    name: str
    priority: int = 0
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    e2e_seconds: float | None = None
    ttft_seconds_min: float | None = None
    tpot_seconds_min: float | None = None
    e2e_seconds_min: float | None = None

    def tightest(self, objective: str) -> float:
        """Return the smallest value of an objective that a request of this class can have."""
        least = getattr(self, f"{objective}_min")
        value = least if least is not None else getattr(self, objective)
        return inf if value is None else float(value)

    def above(self, other: ClassRule) -> bool:
        """Return whether this class is better than another in any respect."""
        return self.priority < other.priority or self.tighter(other)

    def tighter(self, other: ClassRule) -> bool:
        """Return whether any objective of this class can be tighter than the other's."""
        return any(self.tightest(one) < other.tightest(one) for one in OBJECTIVES)


@dataclass(frozen=True, slots=True)
class TenantRule:
    """A client account.

    Attributes:
        name: As in reports.
        slo_class: The best class that its requests may have.
        priority: The best priority that they may have.
    """

    name: str
    slo_class: ClassRule
    priority: int


@dataclass(frozen=True, slots=True)
class ProxyRule:
    """The trusted proxy, which may name tenant and class of a request in headers.

    Attributes:
        keys: SHA-256 of the API keys that only the proxy has.
        addresses: Networks that only the proxy calls from.
        tenant_header, class_header: Lower-case names of the headers that it sets.
    """

    keys: frozenset[str] = frozenset()
    addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    tenant_header: str = "x-llm-d-inference-fairness-id"
    class_header: str = "x-llm-d-inference-objective"

    def is_peer(self, key: str | None, address: str | None) -> bool:
        """Return whether a request with this key's SHA-256, from this address, is the proxy's."""
        if key is not None and key in self.keys:
            return True
        if not self.addresses or not address:
            return False
        try:
            peer = ip_address(address)
        except ValueError:
            return False
        # A server that listens on IPv6 sees IPv4 peers as ::ffff:10.0.0.1.
        peer = getattr(peer, "ipv4_mapped", None) or peer
        return any(peer in network for network in self.addresses)


def _only_class() -> dict[str, ClassRule]:
    return {BUILT_IN: ClassRule(BUILT_IN)}


@dataclass(frozen=True, slots=True)
class Rules:
    """The server-side map from credentials to tenants, classes and priorities.

    Attributes:
        classes, tenants: By name.
        default: What a request is that nobody vouches for; no tenant stands below it.
        keys: Tenant by SHA-256 of an API key.
        proxy: Who may name tenants and classes; None for nobody.
    """

    classes: Mapping[str, ClassRule] = field(default_factory=_only_class)
    tenants: Mapping[str, TenantRule] = field(default_factory=dict)
    default: TenantRule = field(
        default_factory=lambda: TenantRule(BUILT_IN, ClassRule(BUILT_IN), 0)
    )
    keys: Mapping[str, str] = field(default_factory=dict)
    proxy: ProxyRule | None = None

    @property
    def vouches(self) -> bool:
        """Whether requests can be anything but the default tenant's."""
        return bool(self.keys) or self.proxy is not None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Rules:
        """Return the rules in a table.

        Raises:
            UserError: For an unknown key, a malformed value, a class that does not exist, a key
                that two tenants share, or a default that stands above a tenant.
        """
        table = _table("identity", config, KEYS)
        classes = {
            name: _class(name, values)
            for name, values in _table("identity.classes", table.get("classes", {})).items()
        } or _only_class()
        chosen = table.get("default_class")
        if chosen is None and len(classes) > 1:
            raise UserError(
                "identity.default_class is missing: name the class of requests that nobody "
                f"vouches for, one of {', '.join(classes)}"
            )
        best = _known_class("identity.default_class", chosen or next(iter(classes)), classes)
        default = TenantRule(
            _name("identity.default_tenant", table.get("default_tenant", BUILT_IN)),
            best,
            best.priority,
        )
        tenants, keys = _tenants(table.get("tenants", {}), classes)
        proxy = _proxy(table["proxy"]) if table.get("proxy") is not None else None
        for tenant in tenants.values():
            _check_below(default, tenant)
        return cls(classes, tenants, default, keys, proxy)

    def tenant(self, name: str) -> TenantRule:
        """Return a tenant that was vouched for; one without a row has the default's rights."""
        known = self.tenants.get(name)
        if known is not None:
            return known
        return TenantRule(name, self.default.slo_class, self.default.priority)


def digest(key: str) -> str:
    """Return the SHA-256 of an API key, as the rules name it."""
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _check_below(default: TenantRule, tenant: TenantRule) -> None:
    # Else a client of the tenant would gain by hiding who it is.
    if default.priority < tenant.priority or default.slo_class.tighter(tenant.slo_class):
        raise UserError(
            f"identity.default_class {default.slo_class.name!r} stands above tenant "
            f"{tenant.name!r}, whose clients would gain by not saying who they are: choose a "
            "default class with no better priority and no tighter objective than any tenant's"
        )


def _class(name: str, values: Any) -> ClassRule:
    where = f"identity.classes.{_name('identity.classes: a name', name)}"
    names = [one.name for one in fields(ClassRule) if one.name != "name"]
    table = _table(where, values, names)
    if ":" in name:
        raise UserError(f"{where} has a colon in its name, which class names cannot have")
    read: dict[str, Any] = {}
    for key, value in table.items():
        if key == "priority":
            read[key] = _priority(f"{where}.{key}", value)
        elif value is not None:
            read[key] = _seconds(f"{where}.{key}", value, zero=key.endswith("_min"))
    rule = ClassRule(name, **read)
    for one in OBJECTIVES:
        least, value = getattr(rule, f"{one}_min"), getattr(rule, one)
        if least is not None and value is not None and least > value:
            raise UserError(f"{where}.{one}_min is {least:g}; it must be at most {one}, {value:g}")
    return rule


def _tenants(
    given: Any, classes: Mapping[str, ClassRule]
) -> tuple[dict[str, TenantRule], dict[str, str]]:
    tenants: dict[str, TenantRule] = {}
    keys: dict[str, str] = {}
    for name, values in _table("identity.tenants", given).items():
        where = f"identity.tenants.{_name('identity.tenants: a name', name)}"
        table = _table(where, values, TENANT_KEYS)
        if "class" not in table:
            raise UserError(f"{where} has no class; it must have one of {', '.join(classes)}")
        best = _known_class(f"{where}.class", table["class"], classes)
        priority = table.get("priority")
        tenants[name] = TenantRule(
            name,
            best,
            best.priority if priority is None else _priority(f"{where}.priority", priority),
        )
        for key in _digests(f"{where}.key_sha256", table.get("key_sha256", ())):
            if key in keys:
                raise UserError(f"{where}.key_sha256 has a key of tenant {keys[key]!r} too")
            keys[key] = name
    return tenants, keys


def _proxy(given: Any) -> ProxyRule:
    where = "identity.proxy"
    table = _table(where, given, PROXY_KEYS)
    networks = []
    for text in _texts(f"{where}.addresses", table.get("addresses", ())):
        try:
            networks.append(ip_network(text))
        except ValueError:
            raise UserError(
                f"{where}.addresses has {text!r}; it must have networks such as 10.0.0.0/8"
            ) from None
    keys = frozenset(_digests(f"{where}.key_sha256", table.get("key_sha256", ())))
    if not keys and not networks:
        raise UserError(f"{where} says nothing to know the proxy by: give key_sha256 or addresses")
    headers = {
        key: _name(f"{where}.{key}", table[key]).lower()
        for key in ("tenant_header", "class_header")
        if key in table
    }
    return ProxyRule(keys, tuple(networks), **headers)


def _table(where: str, value: Any, known: Iterable[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} is {value!r}; it must be a table")
    for key in value:
        if known is not None and key not in known:
            raise unknown(f"key in {where}", str(key), known)
    return dict(value)


def _name(where: str, value: Any) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise UserError(
            f"{where} is {value!r}; it must be a text of 1 to {NAME_LENGTH_MAX} printable letters"
        )
    return value


def is_name(text: str) -> bool:
    """Return whether a text can name a tenant, a class or a program."""
    return 0 < len(text) <= NAME_LENGTH_MAX and text.isprintable() and text == text.strip()


def _known_class(where: str, name: Any, classes: Mapping[str, ClassRule]) -> ClassRule:
    if not isinstance(name, str) or name not in classes:
        raise unknown(f"class in {where}", str(name), classes)
    return classes[name]


def _priority(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > PRIORITY_MAX:
        raise UserError(
            f"{where} is {value!r}; it must be a whole number from -2^31 to 2^31, lower first"
        )
    return value


def _seconds(where: str, value: Any, zero: bool) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (0 if zero else SECONDS_MIN) <= value <= SECONDS_MAX:
        least = "0" if zero else "0.000001"
        raise UserError(f"{where} is {value!r}; it must be seconds, from {least} to 1000000")
    return float(value)


def _digests(where: str, value: Any) -> list[str]:
    found = [text.lower() for text in _texts(where, value)]
    for text in found:
        if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
            # The value is not shown: by mistake it may be the key itself.
            raise UserError(f"{where} has something else than the 64 hex digits of a SHA-256")
    return found


def _texts(where: str, value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise UserError(f"{where} is {value!r}; it must be a list of texts")
    return list(value)
