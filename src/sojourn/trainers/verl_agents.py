"""verl's agent loops, with names of ours for their requests.

They go into the file of `actor_rollout_ref.rollout.agent.agent_loop_config_path`, each with its
`name` and `_target_`.
"""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.experimental.agent_loop.tool_agent_loop import ToolAgentLoop

from sojourn.trainers import verl as ours


class _Named:
    """An agent loop whose client names its requests; verl makes a loop for each rollout."""

    server_manager: Any

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> Any:
        """Run as verl's loop does, under the name of the rollout."""
        self.server_manager = ours.named(self.server_manager, kwargs)
        return await super().run(sampling_params, **kwargs)  # type: ignore[misc]


class NamedSingleTurn(_Named, SingleTurnAgentLoop):
    """verl's single-turn loop."""


class NamedTool(_Named, ToolAgentLoop):
    """verl's loop with tools."""
