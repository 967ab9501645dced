"""Route slot: which replica gets a request."""

from typing import Any, Final

from sojourn.policies.route import least_load, round_robin

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "least_load": (least_load.Config, least_load.LeastLoad),
    "round_robin": (round_robin.Config, round_robin.RoundRobin),
}
