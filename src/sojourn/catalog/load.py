"""Reads the catalogue, or a user's own file, into `Gpu` and `Model`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, Final

from sojourn.catalog.facts import Gpu, Model
from sojourn.errors import UserError, unknown

_FP8_METHODS: Final = ("fp8", "fbgemm_fp8")
_OTHER_ATTENTION: Final = ("kv_lora_rank", "linear_num_value_heads", "mamba_d_state", "layer_types")
_QWEN3: Final = ("qwen3", "qwen3_moe")
_BIASED: Final = ("qwen2", "qwen2_moe")


def gpu_names() -> tuple[str, ...]:
    """Return the names of the GPUs in the catalogue, in its order."""
    return tuple(_table("gpus.toml"))


def model_names() -> tuple[str, ...]:
    """Return the names of the models in the catalogue, in its order."""
    return tuple(_table("models.toml"))


def load_gpu(name: str) -> Gpu:
    """Return a GPU by its name or alias, or from the path of a TOML file with a GPU's fields."""
    if name.endswith(".toml"):
        path = Path(name)
        return _gpu(path.stem, _toml(path), name)
    table = _table("gpus.toml")
    for known, row in table.items():
        if name.lower() == known or name.lower() in row["aliases"]:
            return _gpu(known, row, "gpus.toml")
    raise unknown("GPU", name, table)


def load_model(name: str) -> Model:
    """Return a model by its name, or from the path of a Hugging Face config.json or a TOML file."""
    path = Path(name)
    if name.endswith(".toml"):
        return _model(path.stem, _toml(path), name)
    if name.endswith(".json"):
        return _from_config(path)
    if path.is_dir() and (path / "config.json").is_file():
        return _from_config(path / "config.json")
    table = _table("models.toml")
    lowered = name.lower().rpartition("/")[2].removesuffix("-instruct")
    if lowered in table:
        return _model(lowered, table[lowered], "models.toml")
    raise unknown("model", name, table)


def _table(file: str) -> dict[str, dict[str, Any]]:
    text = resources.files("sojourn.catalog").joinpath(file).read_text(encoding="utf-8")
    return tomllib.loads(text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {str(path)!r}: {error}") from error


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{str(path)!r} is not valid TOML: {error}") from error


def _gpu(name: str, row: Mapping[str, Any], where: str) -> Gpu:
    values = {"aliases": [], "sources": {}, **row}
    checked = _checked(Gpu, name, values, where)
    for key, value in checked.items():
        if isinstance(value, int | float) and value < 0:
            raise UserError(f"{where}: {key} of {name!r} is {value}; it must be zero or more")
        if key.endswith("_share") and not key.startswith("mixed_") and value == 0:
            raise UserError(f"{where}: {key} of {name!r} is zero; it must be above zero")
    for key in ("memory_bytes", "bandwidth_bytes_per_second", "flops_per_second"):
        if not checked[key]:
            raise UserError(f"{where}: {key} of {name!r} is zero; it must be above zero")
    return Gpu(**checked)


def _model(name: str, row: Mapping[str, Any], where: str) -> Model:
    defaults = {
        "tie_word_embeddings": False,
        "qkv_bias": False,
        "qk_norm": False,
        "experts": 0,
        "experts_per_token": 0,
        "weight_bytes": 2,
        "kv_bytes": 2,
        "source": where,
    }
    model = Model(**_checked(Model, name, {**defaults, **row}, where))
    for key in ("layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab"):
        if getattr(model, key) < 1:
            raise UserError(f"{where}: {key} of {name!r} must be at least 1")
    if model.heads % model.kv_heads:
        raise UserError(
            f"{where}: {name!r} has {model.heads} heads and {model.kv_heads} KV heads; "
            "the first must be a multiple of the second"
        )
    if model.experts_per_token > model.experts:
        raise UserError(
            f"{where}: {name!r} uses {model.experts_per_token} experts a token "
            f"but has {model.experts}"
        )
    if model.weight_bytes not in (1, 2) or model.kv_bytes not in (1, 2):
        raise UserError(f"{where}: weight_bytes and kv_bytes of {name!r} must be 1 or 2")
    return model


def _checked(
    kind: type[Gpu] | type[Model], name: str, row: Mapping[str, Any], where: str
) -> dict[str, Any]:
    types = {field.name: str(field.type) for field in fields(kind) if field.name != "name"}
    for key in row:
        if key not in types:
            raise unknown(f"key in {where}", key, types)
    missing = [key for key in types if key not in row]
    if missing:
        raise UserError(f"{where}: {name!r} lacks {', '.join(missing)}")
    return {"name": name} | {
        key: _typed(row[key], wanted, f"{where}: {key} of {name!r}")
        for key, wanted in types.items()
    }


def _typed(value: Any, wanted: str, what: str) -> Any:
    if wanted == "bool" and isinstance(value, bool):
        return value
    if isinstance(value, bool):
        raise UserError(f"{what} must be {_WORDS[wanted]}, not {value}")
    if wanted == "str" and isinstance(value, str):
        return value
    if wanted == "int" and isinstance(value, int):
        return value
    if wanted == "float" and isinstance(value, int | float):
        return float(value)
    if wanted == "tuple[str, ...]" and isinstance(value, list):
        return tuple(str(item) for item in value)
    if wanted.startswith("tuple[float") and isinstance(value, list) and len(value) == 3:
        return tuple(float(item) for item in value)
    if wanted.startswith("Mapping") and isinstance(value, dict):
        return {str(key): str(item) for key, item in value.items()}
    raise UserError(f"{what} must be {_WORDS[wanted]}, not {value!r}")


_WORDS: Final = {
    "bool": "true or false",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "tuple[str, ...]": "a list of texts",
    "tuple[float, float, float]": "three numbers (for 2, 4 and 8 GPUs)",
    "Mapping[str, str]": "a table of texts",
}


def _from_config(path: Path) -> Model:
    """Return the model that a Hugging Face config.json describes.

    Raises UserError for attention that is not plain grouped-query attention (latent, linear,
    sliding-window layers) and for shared experts: the cost model has no terms for them.
    """
    try:
        config: dict[str, Any] = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{str(path)!r} is not valid JSON: {error}") from error
    config = config.get("text_config", config)
    _refuse_unsupported(config, path)
    kind = str(config.get("model_type", ""))
    experts = int(config.get("num_local_experts", config.get("num_experts", 0)) or 0)
    need: Callable[[str], int] = lambda key: _whole(config, key, path)  # noqa: E731
    intermediate = "moe_intermediate_size" if "moe_intermediate_size" in config else ""
    heads = need("num_attention_heads")
    row = {
        "layers": need("num_hidden_layers"),
        "hidden": need("hidden_size"),
        "heads": heads,
        "kv_heads": int(config.get("num_key_value_heads") or heads),
        "head_dim": int(config.get("head_dim") or need("hidden_size") // heads),
        "intermediate": need(intermediate or "intermediate_size"),
        "vocab": need("vocab_size"),
        "max_positions": int(config.get("max_position_embeddings") or 0),
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
        "qkv_bias": kind in _BIASED or bool(config.get("attention_bias", False)),
        "qk_norm": kind in _QWEN3,
        "experts": experts,
        "experts_per_token": int(config.get("num_experts_per_tok") or 0) if experts else 0,
        "weight_bytes": _weight_bytes(config, path),
        "source": str(path),
    }
    name = path.parent.name if path.name == "config.json" else path.stem
    return _model(name or "model", row, str(path))


def _refuse_unsupported(config: Mapping[str, Any], path: Path) -> None:
    for key in _OTHER_ATTENTION:
        value = config.get(key)
        if value and not (isinstance(value, list) and set(value) == {"full_attention"}):
            raise UserError(
                f"{str(path)!r} has {key!r}: only plain grouped-query attention over the whole "
                "context is modelled, not latent, linear or sliding-window layers"
            )
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        raise UserError(
            f"{str(path)!r} has a sliding window of {config['sliding_window']} tokens, which is "
            "not modelled: set sliding_window to null to price it as full attention"
        )
    if config.get("n_shared_experts") or config.get("shared_expert_intermediate_size"):
        raise UserError(f"{str(path)!r} has shared experts, which are not modelled")


def _whole(config: Mapping[str, Any], key: str, path: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{str(path)!r} lacks {key!r}: is it a Hugging Face config.json?")
    return value


def _weight_bytes(config: Mapping[str, Any], path: Path) -> int:
    quantization = config.get("quantization_config")
    if not quantization:
        return 2
    method = str(quantization.get("quant_method", ""))
    if method in _FP8_METHODS:
        return 1
    raise UserError(
        f"{str(path)!r} is quantised with {method!r}: only bf16 and fp8 weights are modelled"
    )
