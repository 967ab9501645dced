"""Select slot: which prompts are rolled out, and which groups are worth training."""

from typing import Any, Final

from sojourn.policies.select import (
    cures,
    dapo_filter,
    domain_ratio,
    dots,
    insight_inspired,
    likely_mixed,
    mopps,
    prompt_gdro_inspired,
    uniform,
    vade_inspired,
)

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "cures": (cures.Config, cures.Cures),
    "dapo_filter": (dapo_filter.Config, dapo_filter.DapoFilter),
    "domain_ratio": (domain_ratio.Config, domain_ratio.DomainRatio),
    "dots": (dots.Config, dots.Dots),
    "insight_inspired": (insight_inspired.Config, insight_inspired.InsightInspired),
    "likely_mixed": (likely_mixed.Config, likely_mixed.LikelyMixed),
    "mopps": (mopps.Config, mopps.Mopps),
    "prompt_gdro_inspired": (
        prompt_gdro_inspired.Config,
        prompt_gdro_inspired.PromptGdroInspired,
    ),
    "uniform": (uniform.Config, uniform.Uniform),
    "vade_inspired": (vade_inspired.Config, vade_inspired.VadeInspired),
}
