"""A pytest plug-in: Hypothesis stops at the first failing example: only the verdict counts."""

from hypothesis import Phase, settings

settings.register_profile(
    "mutants", phases=(Phase.explicit, Phase.generate), database=None, deadline=None
)
settings.load_profile("mutants")
