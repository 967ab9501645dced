"""Scale slot: how many replicas there are."""

from typing import Any, Final

from sojourn.policies.scale import fixed

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "fixed": (fixed.Config, fixed.Fixed),
}
