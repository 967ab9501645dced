"""Advantage slot: how rewards become advantages, in groups of any size."""

from typing import Any, Final

from sojourn.policies.advantage import grpo, median_centred

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "grpo": (grpo.Config, grpo.Grpo),
    "median_centred": (median_centred.Config, median_centred.MedianCentred),
}
