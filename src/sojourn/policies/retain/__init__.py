"""Retain slot: how long the KV of finished requests stays."""

from typing import Any, Final

from sojourn.policies.retain import fixed_ttl, lru

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "fixed_ttl": (fixed_ttl.Config, fixed_ttl.FixedTtl),
    "lru": (lru.Config, lru.Lru),
}
