"""Dispatch slot: which engine a rollout goes to, and in what order."""

from typing import Any, Final

from sojourn.policies.dispatch import (
    kv_balanced,
    least_in_flight,
    rollpacker_inspired,
    seer_inspired,
)

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "kv_balanced": (kv_balanced.Config, kv_balanced.KvBalanced),
    "least_in_flight": (least_in_flight.Config, least_in_flight.LeastInFlight),
    "rollpacker_inspired": (rollpacker_inspired.Config, rollpacker_inspired.RollpackerInspired),
    "seer_inspired": (seer_inspired.Config, seer_inspired.SeerInspired),
}
