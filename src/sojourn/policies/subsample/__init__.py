"""Subsample slot: which rollouts of a group are trained."""

from typing import Any, Final

from sojourn.policies.subsample import d3s, resample_on_correct, whole_group

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "d3s": (d3s.Config, d3s.D3S),
    "resample_on_correct": (resample_on_correct.Config, resample_on_correct.ResampleOnCorrect),
    "whole_group": (whole_group.Config, whole_group.WholeGroup),
}
