"""Readers of the measured tables: each returns plain numpy columns in SI units."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

Columns = dict[str, np.ndarray]

SYSTEMS: Final = {
    "h100-sxm": ("h100_sxm", "0.24.0", "2.27.3"),
    "h200": ("h200_sxm", "0.24.0", "2.29.2"),
    "a100-80g": ("a100_sxm", "0.14.0", "2.27.3"),
    "l40s": ("l40s", "0.24.0", ""),
}
"""Catalogue name -> aiconfigurator's folder, its vLLM version, its NCCL version."""

RTX: Final = {
    "rtx-pro-6000": ("RTXPRO6000/meta-llama/Llama-3.1-8B/tp1", "RTXPRO6000/Qwen/Qwen3-32B/tp2"),
    "rtx-4090": ("RTX4090/meta-llama/Llama-3.1-8B/tp1",),
}
"""Catalogue name -> LLMServingSim's profiles of dense models on that card."""

L2_BYTES: Final = {
    "h100-sxm": 50e6,
    "h200": 50e6,
    "a100-80g": 40e6,
    "l40s": 96e6,
    "rtx-4090": 72e6,
    "rtx-pro-6000": 128e6,
}
"""Level-2 cache by GPU, from NVIDIA data sheets and architecture white papers."""

RTX_MODELS: Final = {"Llama-3.1-8B": "llama-3.1-8b", "Qwen3-32B": "qwen3-32b"}


def rtx_model(profile: str) -> tuple[str, int]:
    """Return the catalogue model and the tensor-parallel size that a profile was taken at."""
    parts = profile.split("/")
    return RTX_MODELS[parts[2]], int(parts[3].removeprefix("tp"))


def _parquet(path: Path, names: tuple[str, ...]) -> Columns:
    table = pq.read_table(path)
    columns: Columns = {}
    for name in names:
        values = table[name] if name in table.schema.names else np.zeros(table.num_rows)
        columns[name] = np.array(values.to_pylist() if hasattr(values, "to_pylist") else values)
    return columns


def _keep(columns: Columns, mask: np.ndarray) -> Columns:
    return {name: values[mask] for name, values in columns.items()}


def gemm(data: Path, gpu: str, dtype: str = "bfloat16") -> Columns:
    """Return the GEMM rows of a GPU: m, n, k and seconds; shapes that models use."""
    folder, vllm, _ = SYSTEMS[gpu]
    path = data / "aiconfigurator" / folder / "gemm" / "vllm" / vllm / "gemm_perf.parquet"
    columns = _parquet(path, ("gemm_dtype", "m", "n", "k", "latency"))
    big = (columns["n"] * columns["k"] >= 1 << 22) & (columns["k"] <= 16384)
    rows = _keep(columns, (columns["gemm_dtype"] == dtype) & big & (columns["m"] <= 8192))
    rows["seconds"] = rows["latency"] * 1e-3
    return rows


def attention(data: Path, gpu: str, kind: str) -> Columns:
    """Return attention rows (kind `context` or `generation`): bf16, 128 wide, grouped heads."""
    folder, vllm, _ = SYSTEMS[gpu]
    path = data / "aiconfigurator" / folder / "attention" / "vllm" / vllm
    names = ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "step")
    columns = _parquet(
        path / f"{kind}_attention_perf.parquet",
        (*names, "kv_cache_dtype", "window_size", "latency"),
    )
    group = columns["num_heads"] / columns["num_key_value_heads"]
    mask = (columns["kv_cache_dtype"] == "bfloat16") & (columns["head_dim"] == 128)
    mask &= (columns["window_size"] == 0) & np.isin(columns["num_heads"], (8, 16, 32, 40, 64))
    rows = _keep(columns, mask & (group > 1) & (group <= 8))
    rows["seconds"] = rows["latency"] * 1e-3
    return rows


def all_reduce(data: Path, gpu: str, gpus: int) -> Columns:
    """Return bytes and seconds of vLLM's all-reduce: its own kernel up to 8 MiB, NCCL above."""
    folder, vllm, nccl = SYSTEMS[gpu]
    comm = data / "aiconfigurator" / folder / "comm"
    own = _parquet(
        comm / "vllm" / vllm / "custom_allreduce_perf.parquet",
        ("num_gpus", "message_size", "latency", "backend"),
    )
    own = _keep(own, (own["num_gpus"] == gpus) & (own["backend"] == "vllm_graph"))
    own = _keep(own, own["message_size"] <= 8 << 20)
    theirs = _parquet(
        comm / "nccl" / nccl / "nccl_perf.parquet",
        ("num_gpus", "message_size", "latency", "op_name", "nccl_dtype"),
    )
    theirs = _keep(theirs, (theirs["op_name"] == "all_reduce") & (theirs["num_gpus"] == gpus))
    theirs = _keep(theirs, (theirs["nccl_dtype"] == "half") & (theirs["message_size"] > 8 << 20))
    theirs = _keep(theirs, theirs["message_size"] <= 128 << 20)
    return {
        "bytes": np.concatenate([own["message_size"], theirs["message_size"]]).astype(float),
        "seconds": np.concatenate([own["latency"], theirs["latency"]]) * 1e-3,
    }


def rtx_layers(data: Path, profile: str) -> dict[str, Columns]:
    """Return one LLMServingSim profile's layers: sizes (tokens or sequences) and seconds."""
    layers: dict[str, list[tuple[int, float]]] = {}
    for name, size in (("dense", "tokens"), ("per_sequence", "sequences")):
        path = data / "llmservingsim" / "perf" / profile / f"{name}.csv"
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                layers.setdefault(row["layer"], []).append((int(row[size]), float(row["time_us"])))
    return {
        layer: {
            "size": np.array([size for size, _ in rows], dtype=float),
            "seconds": np.array([time for _, time in rows]) * 1e-6,
        }
        for layer, rows in layers.items()
    }


def rtx_attention(data: Path, profile: str) -> Columns:
    """Return one LLMServingSim profile's attention kernel: chunk, prior, decodes, kv, seconds."""
    path = data / "llmservingsim" / "perf" / profile / "attention.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = {"chunk": "prefill_chunk", "prior": "kv_prefill", "decodes": "n_decode"}
    columns = {new: np.array([float(r[old]) for r in rows]) for new, old in names.items()}
    columns["kv"] = np.array([float(r["kv_decode"]) for r in rows])
    columns["seconds"] = np.array([float(r["time_us"]) for r in rows]) * 1e-6
    return columns


def moe(data: Path, gpu: str) -> Columns:
    """Return bf16 expert rows without expert parallelism: tokens, shapes and seconds."""
    folder, vllm, _ = SYSTEMS[gpu]
    path = data / "aiconfigurator" / folder / "moe" / "vllm" / vllm / "moe_perf.parquet"
    sizes = ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts")
    columns = _parquet(path, (*sizes, "moe_dtype", "moe_tp_size", "moe_ep_size", "latency"))
    mask = (columns["moe_dtype"] == "bfloat16") & (columns["moe_ep_size"] == 1)
    mask &= (columns["num_experts"] <= 16) & (columns["moe_tp_size"] <= 8)
    rows = _keep(columns, mask & (columns["num_tokens"] <= 8192))
    rows["seconds"] = rows["latency"] * 1e-3
    return rows
