"""Allocate slot: how many rollouts a group gets, at once or in rounds."""

from typing import Any, Final

from sojourn.policies.allocate import (
    cures,
    dars,
    fixed,
    gvm,
    rollout_gdro_inspired,
    tracked_neyman,
    xrpo_inspired,
)

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "cures": (cures.Config, cures.Cures),
    "dars": (dars.Config, dars.Dars),
    "fixed": (fixed.Config, fixed.Fixed),
    "gvm": (gvm.Config, gvm.Gvm),
    "rollout_gdro_inspired": (
        rollout_gdro_inspired.Config,
        rollout_gdro_inspired.RolloutGdroInspired,
    ),
    "tracked_neyman": (tracked_neyman.Config, tracked_neyman.TrackedNeyman),
    "xrpo_inspired": (xrpo_inspired.Config, xrpo_inspired.XrpoInspired),
}
