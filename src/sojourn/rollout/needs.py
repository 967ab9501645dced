"""What a rollout policy may need of the engines and the trainer behind it."""

from __future__ import annotations

from enum import Enum
from typing import Final


class RolloutNeed(Enum):
    """An ability of the engine adapter, the environment or the trainer."""

    ABORT_KEEP = "abort a request and keep its partial output"
    RESUME = "resume from a prefix of token ids"
    PRIORITY = "give a request a priority"
    REPORT = "report the length of a running rollout"
    LOGPROBS = "return the log-probability of each sampled token"
    VERSIONS = "tag output tokens with the version of the weights"
    FEATURES = "return features of a running rollout, such as hidden states"
    KV_LOAD = "report how full the KV cache of an engine is"
    FORK = "continue a copy of a rollout from one of its tokens"
    TURNS = "tell where a turn ends"
    CRITIC = "train a value function"
    EMBEDDINGS = "embed prompts"
    TRUTH = "know success probabilities and lengths beforehand"


VLLM_ROLLOUTS: Final = frozenset(
    {
        RolloutNeed.ABORT_KEEP,
        RolloutNeed.RESUME,
        RolloutNeed.PRIORITY,
        RolloutNeed.REPORT,
        RolloutNeed.LOGPROBS,
        RolloutNeed.VERSIONS,
        RolloutNeed.KV_LOAD,
        RolloutNeed.FORK,
        RolloutNeed.TURNS,
        RolloutNeed.EMBEDDINGS,
    }
)
"""What an adapter over stock vLLM 0.32 offers; embeddings are computed once, beside it."""
