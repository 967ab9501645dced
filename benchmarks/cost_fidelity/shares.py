"""Derives each GPU's efficiency factors from measured kernel tables and prints them as TOML.

Every factor comes from kernel timings alone; no end-to-end run is read here. Shapes are split by a
fixed rule (`held_out`): the factors are fitted on one part, the printed errors are of the other.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.cost_fidelity import tables
from sojourn.catalog import load_gpu, load_model
from sojourn.cost.roofline import experts_touched

HEAD_BYTES: Final = 128 * 2  # one head of one token in bf16

VIDUR: Final = {
    "a100-80g": ("a100/Meta-Llama-3-8B", {"hidden": 4096, "intermediate": 14336, "heads": 48}),
    "h100-sxm": ("h100/Llama-2-7b-hf", {"hidden": 4096, "intermediate": 11008, "heads": 96}),
}
"""GPU -> Vidur's profile and its model; `heads` counts query, key and value heads."""


def held_out(*columns: np.ndarray) -> np.ndarray:
    """Return a mask of a third of the shapes, so that no shape is on both sides."""
    total = sum((index * 7 + 3) * column.astype(np.int64) for index, column in enumerate(columns))
    return np.asarray((total // 64) % 3 == 0)


def absolute_fit(terms: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Return non-negative coefficients that minimise the mean absolute *relative* error.

    Iteratively reweighted least squares; a coefficient that turns negative is fixed at zero.
    """
    scaled = terms / seconds[:, None]
    free = list(range(terms.shape[1]))
    while True:
        weight = np.ones(len(seconds))
        for _ in range(40):
            part = np.linalg.lstsq(scaled[:, free] * weight[:, None], weight, rcond=None)[0]
            residual = np.abs(scaled[:, free] @ part - 1.0)
            weight = 1.0 / np.sqrt(np.maximum(residual, 1e-3))
        if (part >= 0).all():
            break
        free.pop(int(np.argmin(part)))
    result = np.zeros(terms.shape[1])
    result[free] = part
    return result


def error(predicted: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """Return the median and the 90th percentile of the absolute relative error, in percent."""
    relative = np.abs(predicted / measured - 1.0) * 100
    return float(np.median(relative)), float(np.quantile(relative, 0.9))


def gemm_seconds(
    rows: tables.Columns, bandwidth: float, flops: float, shape: tuple[float, ...], width: int
) -> np.ndarray:
    """Return launch + (memory**p + compute**p)**(1/p), `width` bytes a weight or activation.

    At one byte the activations are quantised first: bf16 read and fp8 written, at its own share.
    """
    launch, bandwidth_share, flops_share, sharpness, quantise_share = shape
    m, n, k = rows["m"].astype(float), rows["n"].astype(float), rows["k"].astype(float)
    moved = (n * k + m * k) * width + m * n * 2
    memory = moved / (bandwidth * bandwidth_share)
    compute = 2.0 * m * n * k / (flops * flops_share)
    quantise = m * k * 3 / (bandwidth * quantise_share) if width == 1 else 0.0
    corner = (memory**sharpness + compute**sharpness) ** (1 / sharpness)
    return np.asarray(launch + quantise + corner)


def fit_gemm(
    rows: tables.Columns, held: np.ndarray, bandwidth: float, flops: float, width: int
) -> tuple[tuple[float, ...], tuple[float, float]]:
    """Return (launch, bandwidth and FLOP/s share, sharpness, quantise share) and the errors.

    `held` marks the rows that are left out of the fit and that the errors are of.
    """
    train = {name: values[~held] for name, values in rows.items()}
    test = {name: values[held] for name, values in rows.items()}
    grids = (
        np.arange(0.0, 9e-6, 0.5e-6),
        np.arange(0.4, 1.0, 0.01),
        np.arange(0.3, 1.0, 0.01),
        np.array([1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0]),
        np.arange(0.05, 1.0, 0.05),
    )
    shape = [3e-6, 0.8, 0.8, 3.0, 0.5]
    for _ in range(4):
        for index, grid in enumerate(grids if width == 1 else grids[:4]):
            losses = []
            for value in grid:
                shape[index] = float(value)
                time = gemm_seconds(train, bandwidth, flops, tuple(shape), width)
                losses.append(float(np.mean(np.abs(np.log(time / train["seconds"])))))
            shape[index] = float(grid[int(np.argmin(losses))])
    time = gemm_seconds(test, bandwidth, flops, tuple(shape), width)
    return tuple(shape), error(time, test["seconds"])


def rtx_gemm_rows(data: Path, profiles: tuple[str, ...]) -> tables.Columns:
    """Return LLMServingSim's linear layers as GEMM rows (their n and k from the model's config)."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("m", "n", "k", "seconds")}
    for profile in profiles:
        name, tp = tables.rtx_model(profile)
        model = load_model(name)
        query = model.heads * model.head_dim // tp
        shapes = {
            "qkv_proj": (query + 2 * model.kv_heads * model.head_dim // tp, model.hidden),
            "o_proj": (model.hidden, query),
            "gate_up_proj": (2 * model.intermediate // tp, model.hidden),
            "down_proj": (model.hidden, model.intermediate // tp),
            "lm_head": (model.vocab // tp, model.hidden),
        }
        layers = tables.rtx_layers(data, profile)
        for layer, (n, k) in shapes.items():
            size = layers[layer]["size"]
            for column, values in (
                ("m", size),
                ("n", np.full(len(size), n)),
                ("k", np.full(len(size), k)),
                ("seconds", layers[layer]["seconds"]),
            ):
                parts[column].append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def fit_prefill(rows: tables.Columns, bandwidth: float, flops: float) -> tuple[float, ...]:
    """Return (launch, FLOP/s share, bandwidth share) of prefill attention, and its two errors."""
    batch, isl = rows["batch_size"].astype(float), rows["isl"].astype(float)
    heads, kv = rows["num_heads"].astype(float), rows["num_key_value_heads"].astype(float)
    tokens = batch * isl
    pairs = batch * isl * (isl + 1) / 2
    compute = pairs * 4 * heads * 128 / flops
    moved = tokens * (2 * heads + 2 * kv) * HEAD_BYTES / bandwidth
    terms = np.stack([np.ones_like(compute), compute, moved], axis=1)
    use = (tokens >= 16) & (tokens <= 16384)
    held = held_out(rows["num_heads"], rows["num_key_value_heads"], rows["batch_size"])
    found = absolute_fit(terms[use & ~held], rows["seconds"][use & ~held])
    median, high = error(terms[use & held] @ found, rows["seconds"][use & held])
    return float(found[0]), 1 / float(found[1]), 1 / float(found[2]), median, high


def fit_decode(rows: tables.Columns, bandwidth: float, cache_bytes: float) -> tuple[float, ...]:
    """Return (launch, bandwidth share, seconds a sequence) of decode attention, and its errors.

    Rows whose KV fits twice into the level-2 cache are left out: the profiler re-reads the same
    KV, a server reads another layer's in between.
    """
    batch, length = rows["batch_size"].astype(float), rows["step"].astype(float) + 1
    moved = batch * length * rows["num_key_value_heads"] * 2 * HEAD_BYTES
    terms = np.stack([np.ones_like(moved), moved / bandwidth, batch], axis=1)
    use = (batch <= 256) & (length >= 64) & (batch * length <= 2e6)
    use &= (moved > 2 * cache_bytes) | (batch * length <= 512)
    held = held_out(rows["num_heads"], rows["num_key_value_heads"], rows["batch_size"])
    found = absolute_fit(terms[use & ~held], rows["seconds"][use & ~held])
    found[1] = max(found[1], 1.0)  # never faster than the memory
    median, high = error(terms[use & held] @ found, rows["seconds"][use & held])
    return float(found[0]), 1 / float(found[1]), float(found[2]), median, high


def fit_all_reduce(
    data: Path, gpu: str, gpus: int
) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """Return (latency, seconds a root of a byte, bytes a second) of an all-reduce, and errors."""
    rows = tables.all_reduce(data, gpu, gpus)
    moved = rows["bytes"]
    terms = np.stack([np.ones_like(moved), np.sqrt(moved), moved], axis=1)
    found = absolute_fit(terms, rows["seconds"])
    shape = (float(found[0]), float(found[1]), 1 / float(found[2]))
    return shape, error(terms @ found, rows["seconds"])


def fit_elementwise(data: Path, gpu: str) -> tuple[float, float]:
    """Return (seconds a layer at one token, share of bandwidth at 2,048) of norm, rope, gate."""
    fixed, shares = [], []
    bandwidth = load_gpu(gpu).bandwidth_bytes_per_second
    for profile in tables.RTX[gpu]:
        name, tp = tables.rtx_model(profile)
        model = load_model(name)
        layers = tables.rtx_layers(data, profile)
        counts = {"layernorm": 2, "rotary_emb": 1, "act_fn": 1, "qk_norm": 1}
        present = {name: count for name, count in counts.items() if name in layers}
        small = sum(
            count * float(layers[name]["seconds"][layers[name]["size"] == 1][0])
            for name, count in present.items()
        )
        large = sum(
            count * float(layers[name]["seconds"][layers[name]["size"] == 2048][0])
            for name, count in present.items()
        )
        width = 8 * model.hidden + 3 * model.intermediate // tp
        width += 4 * (model.heads + 2 * model.kv_heads) * model.head_dim // tp
        fixed.append(small)
        shares.append(2048 * width * 2 / bandwidth / (large - small))
    return float(np.mean(fixed)), float(np.mean(shares))


def vidur_elementwise(data: Path, gpu: str) -> float:
    """Return the share of bandwidth of norm, rope and gate between 1 and 2,048 tokens (Vidur)."""
    name, model = VIDUR[gpu]
    width = 8 * model["hidden"] + 3 * model["intermediate"] + 4 * model["heads"] * 128
    kernels = ("input_layernorm", "post_attention_layernorm", "attn_rope", "mlp_act")
    with (data / "vidur" / name / "mlp.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["num_tensor_parallel_workers"] == "1"]

    def seconds(tokens: int) -> float:
        times = [
            sum(float(row[f"time_stats.{kernel}.median"]) for kernel in kernels) * 1e-3
            for row in rows
            if int(row["num_tokens"]) == tokens
        ]
        return float(np.median(times))

    moved = 2048 * width * 2 / load_gpu(gpu).bandwidth_bytes_per_second
    return moved / (seconds(2048) - seconds(1))


def moe_seconds(
    rows: tables.Columns, bandwidth: float, flops: float, shape: tuple[float, ...]
) -> np.ndarray:
    """Return launch + (memory**3 + compute**3)**(1/3) of one layer's experts."""
    launch, bandwidth_share, flops_share = shape
    tokens = rows["num_tokens"].astype(float)
    touched = np.array(
        [
            experts_touched(int(e), int(k), int(t))
            for e, k, t in zip(rows["num_experts"], rows["topk"], tokens, strict=True)
        ]
    )
    weights = 3.0 * rows["hidden_size"] * rows["inter_size"] / rows["moe_tp_size"]
    memory = touched * weights * 2 / (bandwidth * bandwidth_share)
    compute = 2.0 * tokens * rows["topk"] * weights / (flops * flops_share)
    return np.asarray(launch + (memory**3 + compute**3) ** (1 / 3))


def fit_moe(
    rows: tables.Columns, bandwidth: float, flops: float
) -> tuple[tuple[float, ...], tuple[float, float]]:
    """Return (launch, bandwidth share, FLOP/s share) of bf16 experts, and held-out errors."""
    held = held_out(rows["hidden_size"], rows["inter_size"], rows["moe_tp_size"])
    train = {name: values[~held] for name, values in rows.items()}
    test = {name: values[held] for name, values in rows.items()}
    grids = (
        np.arange(0.0, 60e-6, 2e-6),
        np.arange(0.3, 1.0, 0.02),
        np.arange(0.2, 1.0, 0.02),
    )
    shape = [20e-6, 0.8, 0.6]
    for _ in range(4):
        for index, grid in enumerate(grids):
            losses = []
            for value in grid:
                shape[index] = float(value)
                time = moe_seconds(train, bandwidth, flops, tuple(shape))
                losses.append(float(np.mean(np.abs(np.log(time / train["seconds"])))))
            shape[index] = float(grid[int(np.argmin(losses))])
    return tuple(shape), error(moe_seconds(test, bandwidth, flops, tuple(shape)), test["seconds"])


def fit_rtx_attention(
    data: Path, gpu: str, profile: str, bandwidth: float, flops: float
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return prefill, decode and mixed-batch attention factors of one profile, and their errors.

    The mixed term is what a mixed batch takes beyond its two parts: a share of the KV re-reads of
    a head group (linear in context) and empty query tiles (heads x chunk x decodes).
    """
    name, tp = tables.rtx_model(profile)
    model = load_model(name)
    heads, kv_heads = model.heads // tp, model.kv_heads // tp
    rows = tables.rtx_attention(data, profile)
    chunk, prior, decodes = rows["chunk"], rows["prior"], rows["decodes"]
    seconds, context = rows["seconds"], rows["decodes"] * rows["kv"]
    pairs = chunk * prior + chunk * (chunk + 1) / 2
    compute = pairs * 4 * heads * 128 / flops
    moved = chunk * (2 * heads + 2 * kv_heads) * HEAD_BYTES / bandwidth
    one = np.ones_like(seconds)
    alone = (decodes == 0) & (chunk > 0)
    terms = np.stack([one, compute, moved, prior], axis=1)
    prefill = absolute_fit(terms[alone], seconds[alone])
    wrong = {"prefill attention": error(terms[alone] @ prefill, seconds[alone])}
    read = context * kv_heads * 2 * HEAD_BYTES
    only = (chunk == 0) & (decodes > 0)
    use = only & ((read > 2 * tables.L2_BYTES[gpu]) | (context <= 512))
    parts = np.stack([one, read / bandwidth, decodes], axis=1)
    decode = absolute_fit(parts[use], seconds[use])
    decode[1] = max(decode[1], 1.0)
    wrong["decode attention"] = error(parts[only] @ decode, seconds[only])
    mixed = (chunk > 0) & (decodes > 0)
    sum_of_parts = terms[mixed] @ prefill + parts[mixed] @ decode
    again = read[mixed] / bandwidth * decode[1] * (heads / kv_heads - 1)
    tiles = chunk[mixed] * decodes[mixed] * heads
    extra = extra_fit(np.stack([again, tiles], axis=1), sum_of_parts, seconds[mixed])
    full = sum_of_parts + np.stack([again, tiles], axis=1) @ extra
    wrong["mixed attention as the sum of its parts"] = error(sum_of_parts, seconds[mixed])
    wrong["mixed attention with the interaction"] = error(full, seconds[mixed])
    found = {
        "prefill_launch_seconds": float(prefill[0]),
        "prefill_flops_share": 1 / float(prefill[1]),
        "prefill_bandwidth_share": 1 / float(prefill[2]),
        "prior_token_seconds": float(prefill[3]),
        "decode_launch_seconds": float(decode[0]),
        "decode_bandwidth_share": 1 / float(decode[1]),
        "decode_sequence_seconds": float(decode[2]),
        "mixed_reread_share": float(extra[0]),
        "mixed_tile_seconds": float(extra[1]),
    }
    return found, wrong


def extra_fit(terms: np.ndarray, base: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Return coefficients of `terms` that bring `base` to `seconds`: mean absolute relative."""
    scaled, target = terms / seconds[:, None], 1.0 - base / seconds
    weight = np.ones(len(seconds))
    for _ in range(40):
        found = np.linalg.lstsq(scaled * weight[:, None], target * weight, rcond=None)[0]
        weight = 1.0 / np.sqrt(np.maximum(np.abs(scaled @ found - target), 1e-3))
    return np.asarray(np.maximum(found, 0.0))
