"""Bars of the rollout policies: small simulations with known truth, paired seeds, intervals."""
