"""Reads the catalogue, or a user's own file, into `Gpu` and `Model`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final

from sojourn.catalog.facts import Gpu, Model
from sojourn.errors import UserError, shown, unknown
from sojourn.files import read_json, read_toml

SIZE_MAX: Final = 10**9
"""Most of anything that a model may have."""
RATE_MIN: Final = 1e-9
RATE_MAX: Final = 1e18
"""Bounds of what a GPU does; a thousand times today's largest rate, and smaller than any use."""

_SIZES: Final = ("layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab")
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
        return _gpu(path.stem, read_toml(path), name)
    table = _table("gpus.toml")
    for known, row in table.items():
        if name.lower() == known or name.lower() in row["aliases"]:
            return _gpu(known, row, "gpus.toml")
    raise unknown("GPU", name, table)


def load_model(name: str) -> Model:
    """Return a model by its name, or from the path of a Hugging Face config.json or a TOML file."""
    path = Path(name)
    if name.endswith(".toml"):
        return _model(path.stem, read_toml(path), name)
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


def _gpu(name: str, row: Mapping[str, Any], where: str) -> Gpu:
    values = {"aliases": [], "sources": {}, **row}
    checked = _checked(Gpu, name, values, where)
    for key, value in checked.items():
        numbers = value if isinstance(value, tuple) else (value,)
        for number in numbers:
            if not isinstance(number, int | float):
                continue
            if not 0 <= number <= RATE_MAX:
                raise UserError(
                    f"{where}: {key} of {name!r} is {number:g}; it must be zero or more, "
                    f"at most {RATE_MAX:g}"
                )
            if number < RATE_MIN and _divides(key):
                said = f"{number:g}" if number else "zero"
                raise UserError(f"{where}: {key} of {name!r} is {said}; it must be above zero")
    return Gpu(**checked)


def _divides(key: str) -> bool:
    """Return whether the cost model divides by a field; a GPU without fp8 has no rate for it."""
    if key.startswith(("mixed_", "fp8_flops_per")):
        return False
    return key.endswith(("_share", "_sharpness", "_per_second")) or key == "memory_bytes"


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
    for key in _SIZES:
        if not 1 <= getattr(model, key) <= SIZE_MAX:
            raise UserError(f"{where}: {key} of {name!r} must be from 1 to {SIZE_MAX}")
    for key in ("max_positions", "experts", "experts_per_token"):
        if not 0 <= getattr(model, key) <= SIZE_MAX:
            raise UserError(f"{where}: {key} of {name!r} must be from 0 to {SIZE_MAX}")
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
    if wanted == "float" and isinstance(value, int | float) and abs(value) <= RATE_MAX:
        return float(value)
    if wanted == "tuple[str, ...]" and isinstance(value, list):
        return tuple(str(item) for item in value)
    if wanted.startswith("tuple[float") and isinstance(value, list) and len(value) == 3:
        return tuple(_typed(item, "float", what) for item in value)
    if wanted.startswith("Mapping") and isinstance(value, dict):
        return {str(key): str(item) for key, item in value.items()}
    raise UserError(f"{what} must be {_WORDS[wanted]}, not {shown(value)}")


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
    config = read_json(path)
    if isinstance(config, dict):
        config = config.get("text_config", config)
    if not isinstance(config, dict):
        raise UserError(f"{str(path)!r} is no JSON object: is it a Hugging Face config.json?")
    _refuse_unsupported(config, path)
    kind = str(config.get("model_type", ""))
    whole = partial(_whole, config, path)
    experts = whole("num_local_experts", 0) or whole("num_experts", 0)
    intermediate = "moe_intermediate_size" if "moe_intermediate_size" in config else ""
    heads = whole("num_attention_heads", least=1)
    row = {
        "layers": whole("num_hidden_layers"),
        "hidden": whole("hidden_size"),
        "heads": heads,
        "kv_heads": whole("num_key_value_heads", heads),
        "head_dim": whole("head_dim", 0) or whole("hidden_size") // heads,
        "intermediate": whole(intermediate or "intermediate_size"),
        "vocab": whole("vocab_size"),
        "max_positions": whole("max_position_embeddings", 0),
        "tie_word_embeddings": _flag(config, path, "tie_word_embeddings"),
        "qkv_bias": kind in _BIASED or _flag(config, path, "attention_bias"),
        "qk_norm": kind in _QWEN3,
        "experts": experts,
        "experts_per_token": whole("num_experts_per_tok", 0) if experts else 0,
        "weight_bytes": _weight_bytes(config, path),
        "source": str(path),
    }
    name = path.parent.name if path.name == "config.json" else path.stem
    return _model(name or "model", row, str(path))


def _refuse_unsupported(config: Mapping[str, Any], path: Path) -> None:
    for key in _OTHER_ATTENTION:
        value = config.get(key)
        plain = isinstance(value, list) and all(one == "full_attention" for one in value)
        if value and not plain:
            raise UserError(
                f"{str(path)!r} has {key!r}: only plain grouped-query attention over the whole "
                "context is modelled, not latent, linear or sliding-window layers"
            )
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        raise UserError(
            f"{str(path)!r} has a sliding window ({shown(config['sliding_window'])} tokens), which "
            "is not modelled: set sliding_window to null to price it as full attention"
        )
    if config.get("n_shared_experts") or config.get("shared_expert_intermediate_size"):
        raise UserError(f"{str(path)!r} has shared experts, which are not modelled")


def _whole(
    config: Mapping[str, Any], path: Path, key: str, default: int | None = None, least: int = 0
) -> int:
    """Return a whole number; one that is missing or null is the default, if there is one."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if value is None:
        raise UserError(f"{str(path)!r} lacks {key!r}: is it a Hugging Face config.json?")
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= SIZE_MAX:
        raise UserError(
            f"{str(path)!r}: {key} is {shown(value)}; it must be a whole number from {least} to "
            f"{SIZE_MAX}"
        )
    return value


def _flag(config: Mapping[str, Any], path: Path, key: str) -> bool:
    """Return a true or false; one that is missing or null is false."""
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise UserError(f"{str(path)!r}: {key} is {shown(value)}; it must be true or false")
    return bool(value)


def _weight_bytes(config: Mapping[str, Any], path: Path) -> int:
    quantization = config.get("quantization_config")
    if not quantization:
        return 2
    if not isinstance(quantization, dict):
        raise UserError(
            f"{str(path)!r}: quantization_config is {shown(quantization)}; it must be an object"
        )
    method = str(quantization.get("quant_method", ""))
    if method in _FP8_METHODS:
        return 1
    raise UserError(
        f"{str(path)!r} is quantised with {method!r}: only bf16 and fp8 weights are modelled"
    )
