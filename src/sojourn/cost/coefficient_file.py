"""Reading coefficients from TOML, with the engine that they were measured on where it is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from sojourn.cost.fitted import SCALARS, Coefficients, Fitted
from sojourn.cost.floor import Floor, check_floor
from sojourn.errors import UserError, unknown
from sojourn.files import read_toml

LISTS: Final = ("dense_until", "dense_token")
TABLES: Final = ("engine", "fit")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEngine:
    """The engine that coefficients were measured on; None or empty where it is not known.

    Attributes:
        name: The engine and its version.
        model: Name of the model.
        gpu: Name of the GPU.
        num_gpu_blocks: KV blocks as vLLM counts them, its null block included.
        block_size: Tokens in a KV block.
        max_num_seqs: Seats.
        max_num_batched_tokens: Tokens that one step may compute.
        max_model_len: Prompt and output tokens that one request may have.
        enable_prefix_caching: Whether full blocks can be found again after release.
        tensor_parallel_size: GPUs of one engine.
    """

    name: str = ""
    model: str = ""
    gpu: str = ""
    num_gpu_blocks: int | None = None
    block_size: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    enable_prefix_caching: bool | None = None
    tensor_parallel_size: int | None = None

    def to_toml(self) -> str:
        """Return what is known as lines of a TOML table."""
        known = {key: value for key, value in asdict(self).items() if value not in (None, "")}
        return "".join(f"{key} = {_toml(value)}\n" for key, value in known.items())

    def limits(self) -> dict[str, Any]:
        """Return the limits that are known, by vLLM's names."""
        texts = ("name", "model", "gpu")
        return {
            key: value
            for key, value in asdict(self).items()
            if key not in texts and value is not None
        }


@dataclass(frozen=True, slots=True)
class CoefficientFile:
    """What a file of coefficients holds.

    Attributes:
        fitted: The step times.
        engine: What they were measured on; empty where the file does not say.
        fit: Errors, sources and ranges of the fit, as `sojourn calibrate` wrote them.
    """

    fitted: Fitted
    engine: MeasuredEngine
    fit: Mapping[str, Any]


def load_fitted(path: str | Path, floor: Floor | None = None) -> Fitted:
    """Return the step time of a TOML file of coefficients; see `load_coefficients`."""
    return load_coefficients(path, floor).fitted


def load_coefficients(path: str | Path, floor: Floor | None = None) -> CoefficientFile:
    """Return what a TOML file of coefficients holds.

    Raises UserError for an unknown or missing key, a value that is no time, and, if `floor` is
    given, for coefficients that promise a step faster than the hardware can be.
    """
    row = read_toml(path)
    tables = {name: row.pop(name, {}) for name in TABLES}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UserError(f"{str(path)!r}: {name} must be a table, written [{name}]")
    values = {key: _value(path, key, value) for key, value in row.items()}
    if "fixed" not in row:
        raise UserError(f"{str(path)!r} lacks 'fixed', the seconds of a step before any token")
    fitted = Fitted(Coefficients(**values))
    if floor is not None:
        check_floor(fitted, floor, str(path))
    return CoefficientFile(fitted, _engine(path, tables["engine"]), tables["fit"])


def to_toml(coefficients: Coefficients, engine: MeasuredEngine, fit: Mapping[str, Any]) -> str:
    """Return the text of a file that `load_coefficients` reads; `fit` holds texts and numbers."""
    described = "".join(f"{key} = {_toml(value)}\n" for key, value in fit.items())
    return f"{coefficients.to_toml()}\n[engine]\n{engine.to_toml()}\n[fit]\n{described}"


def _value(path: str | Path, key: str, value: Any) -> Any:
    """Return a coefficient with its type, or refuse it."""
    if key in LISTS:
        of = int if key == "dense_until" else (int, float)
        if not isinstance(value, list) or not all(
            isinstance(one, of) and not isinstance(one, bool) for one in value
        ):
            kind = "whole numbers of tokens" if key == "dense_until" else "numbers of seconds"
            raise UserError(f"{str(path)!r}: {key} must be a list of {kind}, not {value!r}")
        return tuple(value if key == "dense_until" else map(float, value))
    if key not in SCALARS:
        raise unknown(f"coefficient in {str(path)!r}", key, (*SCALARS, *LISTS, *TABLES))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{str(path)!r}: {key} must be a number of seconds, not {value!r}")
    return float(value)


def _engine(path: str | Path, table: Mapping[str, Any]) -> MeasuredEngine:
    """Return the engine of a file; keys and types are checked."""
    kinds = {
        field.name: {"str": str, "bool | None": bool}.get(str(field.type), int)
        for field in fields(MeasuredEngine)
    }
    for key, value in table.items():
        if key not in kinds:
            raise unknown(f"key in [engine] of {str(path)!r}", key, kinds)
        kind = kinds[key]
        allowed = {str: "a text", bool: "true or false", int: "a whole number above zero"}[kind]
        right = isinstance(value, kind) and (kind is not int or _is_count(value))
        if not right:
            raise UserError(f"{str(path)!r}: engine.{key} must be {allowed}, not {value!r}")
    return MeasuredEngine(**table)


def _is_count(value: Any) -> bool:
    return not isinstance(value, bool) and 0 < value < 1 << 62


def _toml(value: Any) -> str:
    """Return a text, a truth value or a number as TOML has it."""
    # A JSON string is a TOML basic string, but for the delete character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
