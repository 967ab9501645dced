"""Victim slot: who yields when memory is short, and how."""

from typing import Any, Final

from sojourn.policies.victim import last_in, lowest_rank, proactive_swap

TABLE: Final[dict[str, tuple[type[Any], type[Any]]]] = {
    "last_in": (last_in.Config, last_in.LastIn),
    "lowest_rank": (lowest_rank.Config, lowest_rank.LowestRank),
    "proactive_swap": (proactive_swap.Config, proactive_swap.ProactiveSwap),
}
