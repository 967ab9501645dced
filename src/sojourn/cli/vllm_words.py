"""vLLM's own words on the command line of `sojourn serve`: passed on, but for what we must know."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from sojourn.errors import UserError

SCHEDULER_CLASS: Final = "sojourn.vllm.Scheduler"
SCHEDULER_FLAG: Final = "--scheduler-cls"
CONFIG_FLAG: Final = "--additional-config"
SHORTEST: Final = {SCHEDULER_FLAG: "--scheduler-c", CONFIG_FLAG: "--ad"}
"""vLLM takes any unambiguous beginning of a flag; these are the shortest of ours."""

LIMITS: Final[tuple[str, ...]] = ("max-num-seqs", "max-num-batched-tokens")
PORT: Final = 8000

NOT_SERVED: Final[Mapping[str, tuple[str, ...]]] = {
    "speculative-config": (),
    "kv-transfer-config": (),
    "ec-transfer-config": (),
    "scheduling-policy": ("priority",),
    "runner": ("pooling",),
    "no-enable-chunked-prefill": (),
}
"""Flags, or values of them, that the scheduler class refuses (`sojourn.vllm.compat`).

It does so again in the engine, however a feature was asked for, but then among vLLM's tracebacks.
"""


@dataclass(frozen=True, slots=True)
class VllmWords:
    """What the user gave for vLLM.

    Attributes:
        model: The model; None where a flag or a file names it.
        passed: Words that go on unchanged, in their order.
        additional: The user's own `--additional-config`, from flags and from vLLM's YAML file.
        port: Where the server will listen.
        limits: Values of `--max-num-seqs` and `--max-num-batched-tokens`, where given.
    """

    model: str | None
    passed: tuple[str, ...]
    additional: Mapping[str, Any]
    port: int
    limits: Mapping[str, str]


def split_words(words: Sequence[str], yaml_file: Path | None) -> VllmWords:
    """Return what vLLM's words say.

    Args:
        words: The command line, less Sojourn's own options.
        yaml_file: vLLM's own `--config` file, if any.

    Raises:
        UserError: If they choose another scheduler, or no model.
    """
    named = bool(words) and not words[0].startswith("-")
    model, rest = (words[0], words[1:]) if named else (None, words)
    filed = _read_yaml(yaml_file) if yaml_file else {}
    passed: list[str] = []
    additional = dict(_object(filed.get("additional-config", {}), str(yaml_file)))
    _check_class(filed.get("scheduler-cls", SCHEDULER_CLASS), str(yaml_file))
    seen = {key: str(value) for key, value in filed.items() if isinstance(value, str | int)}
    for flag, value, taken in _flags(rest):
        if flag == SCHEDULER_FLAG:
            _check_class(value, flag)
        elif flag == CONFIG_FLAG:
            _merge(additional, _object(value, flag))
        elif flag.startswith(CONFIG_FLAG + "."):
            raise UserError(f"{flag} is not understood here; give one {CONFIG_FLAG} '{{...}}'")
        else:
            passed.extend(taken)
            if flag.startswith("--") and (value is not None or flag[2:] in NOT_SERVED):
                seen[flag.removeprefix("--").partition(".")[0]] = value or ""
    if model is None and "model" not in seen:
        raise UserError(
            "no model is named; put it first: sojourn serve MODEL ...; for more: "
            "sojourn serve --help"
        )
    _check_served(seen)
    limits = {key: seen[key] for key in LIMITS if key in seen}
    return VllmWords(model, tuple(passed), additional, _port(seen), limits)


def _flags(words: Sequence[str]) -> Iterator[tuple[str, str | None, Sequence[str]]]:
    """Yield each flag in its full name, its value, and the words that it was written with.

    A word that is no flag is yielded with the flag before it; vLLM knows what it belongs to.
    """
    at = 0
    while at < len(words):
        word = words[at]
        name, equals, value = word.partition("=")
        name = _full_name(name)
        follows = at + 1 < len(words) and not words[at + 1].startswith("--")
        alone = not word.startswith("--") or bool(equals) or not follows
        if alone:
            yield name, value if equals else None, words[at : at + 1]
        else:
            yield name, words[at + 1], words[at : at + 2]
        at += 1 if alone else 2


def _full_name(flag: str) -> str:
    """Return a flag as vLLM writes it: with dashes, and ours to their end."""
    if not flag.startswith("--"):
        return flag
    name, dot, key = flag.partition(".")
    name = name.replace("_", "-")
    for full, shortest in SHORTEST.items():
        if name.startswith(shortest) and full.startswith(name):
            name = full
    return name + dot + key


def _check_class(value: object, where: str) -> None:
    if value is None or value == "":
        raise UserError(f"{where} has no value")
    if value != SCHEDULER_CLASS:
        raise UserError(
            f"{where} names the scheduler {str(value)!r}, but `sojourn serve` runs "
            f"{SCHEDULER_CLASS}; leave that out, or start vLLM's own server"
        )


def _check_served(seen: Mapping[str, str]) -> None:
    """Refuse what the engine would refuse, before it is started."""
    found = [
        f"--{name} {value}"
        for name, values in NOT_SERVED.items()
        for value in values
        if seen.get(name) == value
    ]
    found += [f"--{name}" for name, values in NOT_SERVED.items() if not values and name in seen]
    pipeline = seen.get("pipeline-parallel-size", "1")
    if pipeline != "1":
        found.append(f"--pipeline-parallel-size {pipeline}")
    if found:
        raise UserError(
            f"sojourn.vllm does not serve with {' or '.join(found)}; leave that out, or start "
            "vLLM's own server"
        )


def _object(value: object, where: str) -> Mapping[str, Any]:
    """Return a JSON object that stands as text or, in YAML, as it is."""
    if value is None:
        raise UserError(f"{where} has no value")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{where} must be a JSON object, such as '{{\"key\": 1}}'")
    return value


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Add keys; one that says two things is refused, at any depth."""
    for key, value in other.items():
        if isinstance(into.get(key), dict) and isinstance(value, dict):
            into[key] = dict(into[key])
            _merge(into[key], value)
        elif key in into and into[key] != value:
            raise UserError(f"{CONFIG_FLAG} gives {key!r} twice, with different values")
        else:
            into[key] = value


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return vLLM's own configuration file, by flag."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config: cannot read {str(path)!r}: {error}") from error
    try:
        yaml = import_module("yaml")
    except ImportError as error:
        raise UserError("--config: reading vLLM's YAML needs vLLM installed") from error
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        first = str(error).partition("\n")[0]
        raise UserError(f"--config: {str(path)!r} is not valid YAML: {first}") from error
    if not isinstance(document, dict):
        raise UserError(f"--config: {str(path)!r} must map vLLM's flags to values")
    return {str(key).replace("_", "-"): value for key, value in document.items()}


def _port(seen: Mapping[str, str]) -> int:
    text = seen.get("port", str(PORT))
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) < 65536):
        raise UserError(f"--port is {text!r}; it must be a number from 1 to 65535")
    return int(text)
