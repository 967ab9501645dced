"""New weights for a paused vLLM engine: from a folder, or by vLLM's own weight transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sojourn.vllm.compat_engine import AsyncLLM, update_request


class Weights(Protocol):
    """Something that an engine can be told to load."""

    async def load(self, llm: AsyncLLM) -> None:
        """Load into an engine that is paused; on failure the engine must not go on."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with weights in the format of the model that is served, readable by its workers.

    The way for one machine and small models, and the only one that needs no GPU.
    """

    folder: Path

    async def load(self, llm: AsyncLLM) -> None:
        """Let every worker read the folder."""
        await llm.collective_rpc("reload_weights", kwargs={"weights_path": str(self.folder)})


@dataclass(frozen=True, slots=True)
class Transfer:
    """Weights that a trainer sends by vLLM's weight transfer, which the engine is configured for.

    Attributes:
        chunks: What each call of `update_weights` is given, in order; its meaning is the
            backend's.
    """

    chunks: Sequence[Mapping[str, Any]]

    async def load(self, llm: AsyncLLM) -> None:
        """Let every worker receive all chunks."""
        await llm.start_weight_update()
        for chunk in self.chunks:
            await llm.update_weights(update_request(chunk))
        await llm.finish_weight_update()
