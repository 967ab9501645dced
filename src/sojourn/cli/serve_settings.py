"""The scheduler's settings, from flags and files, checked before vLLM starts."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sojourn.cli.mode import check_mode, default_mode_file
from sojourn.cli.vllm_words import CONFIG_FLAG
from sojourn.errors import UserError, unknown

if TYPE_CHECKING:
    from sojourn.recipes import Recipe

OUR_KEY: Final = "sojourn"
"""Our table in vLLM's `--additional-config`."""

TYPES: Final[Mapping[str, tuple[Any, ...]]] = {
    "recipe": (str,),
    "mode": (str,),
    "mode_file": (str,),
    "params": (list,),
    "cost": (str,),
    "step_log": (str, dict),
    "identity": (dict,),
}
"""What the scheduler class reads there, and what a `--config` file may say."""

CALLED: Final[Mapping[Any, str]] = {str: "a text", list: "a list of texts", dict: "a table"}


def config_files(paths: Sequence[Path]) -> tuple[dict[str, Any], Path | None]:
    """Return what our file says, and vLLM's YAML file if one is given.

    Raises:
        UserError: If there are two of a kind, or ours cannot be read or holds an unknown key.
    """
    ours: dict[str, Any] | None = None
    yaml_file: Path | None = None
    for path in paths:
        if path.suffix in (".yaml", ".yml"):
            if yaml_file is not None:
                raise UserError("--config names two YAML files; vLLM reads one")
            yaml_file = path
            continue
        if ours is not None:
            raise UserError("--config names two TOML files; give one")
        try:
            ours = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--config: cannot read {str(path)!r}: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"--config: {str(path)!r} is not valid TOML: {error}") from error
        _check_keys(ours, str(path))
    return ours or {}, yaml_file


def _check_keys(settings: object, where: str) -> None:
    if not isinstance(settings, dict):
        raise UserError(f"{where} must be a table of settings")
    for key, value in settings.items():
        if key not in TYPES:
            raise unknown(f"key in {where}", key, TYPES)
        if not isinstance(value, TYPES[key]):
            kinds = " or ".join(CALLED[kind] for kind in TYPES[key])
            raise UserError(f"{key} in {where} is {value!r}; it must be {kinds}")
    if not all(isinstance(one, str) for one in settings.get("params", ())):
        raise UserError(f"params in {where} must be a list of texts such as 'order.x=1'")


def merge_settings(
    ours: Mapping[str, Any], flags: Mapping[str, str], params: Sequence[str], user: object
) -> dict[str, Any]:
    """Return the scheduler's settings: flags win over the file, nothing over --additional-config.

    Both a flag and `--additional-config` stand on the command line, so that two values for one
    setting are a mistake there.

    Raises:
        UserError: For such a pair, or a malformed `--additional-config`.
    """
    where = f"{CONFIG_FLAG} {OUR_KEY!r}"
    _check_keys(user, where)
    assert isinstance(user, dict)
    settings: dict[str, Any] = {"recipe": "vllm", "mode": "act", **ours, **flags}
    texts = [*ours.get("params", ()), *params]
    if texts:
        settings["params"] = texts
    said = {**flags, "params": texts} if texts else flags
    for key, value in user.items():
        if key in said and said[key] != value:
            raise UserError(f"{key} is given twice: {said[key]!r} and, in {where}, {value!r}")
        settings[key] = value
    for key in ("step_log", "cost", "mode_file"):
        if isinstance(settings.get(key), str):
            settings[key] = str(Path(settings[key]).absolute())
    if settings["recipe"].partition("@")[0].endswith(".toml"):
        settings["recipe"] = str(Path(settings["recipe"]).absolute())
    return settings


def check_settings(settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe, everything that would stop the engine having been looked at.

    Raises:
        UserError: For the first thing wrong.
    """
    from sojourn.recipes.deploy import load_deployable
    from sojourn.vllm.settings import Settings

    check_mode("mode", settings["mode"])
    log = log_folder(settings)
    for path in (Path(settings["mode_file"]), log):
        if path and not path.parent.is_dir() and path.parent != default_mode_file(1).parent:
            raise UserError(f"{str(path)!r}: its folder does not exist; make it first")
    if log is not None and log.exists() and not log.is_dir():
        raise UserError(f"--step-log {str(log)!r} is a file; name a folder")
    recipe = load_deployable(settings["recipe"], settings.get("params", ()))
    Settings.read(settings)
    if "identity" in settings:
        from sojourn.vllm.rules import Rules

        Rules.from_config(settings["identity"])
    return recipe


def log_folder(settings: Mapping[str, Any]) -> Path | None:
    """Return the folder of the step log, if there is to be one."""
    log = settings.get("step_log")
    folder = log.get("folder") if isinstance(log, dict) else log
    return Path(folder) if isinstance(folder, str) else None


def make_folder(path: Path) -> None:
    """Make the folder of the step log.

    Raises:
        UserError: If it cannot be made.
    """
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"--step-log: cannot make {str(path)!r}: {error.strerror}") from error
