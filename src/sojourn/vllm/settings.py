"""What the user gave the plugin: the `sojourn` part of vLLM's `--additional-config`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sojourn.decide.services import StepTime
from sojourn.errors import UserError, unknown
from sojourn.recipes.deploy import load_deployable
from sojourn.recipes.load import Recipe
from sojourn.steplog.config import LiveConfig
from sojourn.vllm.learned import LearnedStepTime
from sojourn.vllm.mode import MODES, Mode
from sojourn.vllm.rules import Rules

KEYS: Final = ("recipe", "mode", "mode_file", "params", "cost", "step_log", "identity")


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked settings.

    Attributes:
        recipe: What decides.
        mode: `act`, `shadow` or `off`, and the file that switches it.
        step_time: From the given cost model, or learned from the engine's own steps.
        step_log: Where the step log goes; None for no log.
        rules: Who may have what.
    """

    recipe: Recipe
    mode: Mode
    step_time: StepTime
    step_log: LiveConfig | None
    rules: Rules

    @classmethod
    def of(cls, vllm_config: Any) -> Settings:
        """Return the settings of an engine.

        Raises:
            UserError: For an unknown key or value, or a recipe that vLLM cannot run.
        """
        given = (getattr(vllm_config, "additional_config", None) or {}).get("sojourn", {})
        if not isinstance(given, Mapping):
            raise UserError(f"additional-config: sojourn is {given!r}; it must be a table")
        return cls.read(given)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Settings:
        """Return the settings of a table."""
        for key in given:
            if key not in KEYS:
                raise unknown("key in additional-config sojourn", str(key), KEYS)
        mode = given.get("mode", "act")
        if mode not in MODES:
            raise unknown("mode in additional-config sojourn", str(mode), MODES)
        identity = given.get("identity")
        file = read_path("mode_file", given.get("mode_file"))
        log = given.get("step_log")
        return cls(
            recipe=read_recipe(str(given.get("recipe", "vllm")), given.get("params", ())),
            mode=Mode(mode, file),
            step_time=read_step_time(given.get("cost")),
            step_log=None if log is None else read_step_log(log),
            rules=Rules.from_config({} if identity is None else identity),
        )


def read_step_log(given: Any) -> LiveConfig:
    """Return where a step log goes, given its folder or a table of limits."""
    table = {"folder": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping):
        raise UserError(
            f"additional-config: sojourn.step_log is {given!r}; it must be a folder or a table"
        )
    read_path("step_log", table.get("folder"))
    return LiveConfig.of(table)


def read_path(key: str, given: Any) -> Path | None:
    """Return the path that a setting names; None for none."""
    if given is None or given == "":
        return None
    if not isinstance(given, str | Path) or "\0" in str(given):
        raise UserError(f"additional-config: sojourn.{key} is {given!r}; it must be a path")
    return Path(given)


def read_recipe(name: str, params: Any) -> Recipe:
    """Return a recipe that vLLM can run, its parameters overridden by `slot.name=value` texts."""
    if not isinstance(params, list | tuple) or not all(isinstance(one, str) for one in params):
        raise UserError("additional-config: sojourn.params must be a list of slot.name=value texts")
    return load_deployable(name, params)


def read_step_time(path: Any) -> StepTime:
    """Return the cost model of a file, or one that learns from the engine's own steps."""
    if path is None:
        return LearnedStepTime()
    from sojourn.cost import load_fitted

    return load_fitted(str(path))
