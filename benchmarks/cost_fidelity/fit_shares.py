"""Prints the catalogue's efficiency factors, derived from measured kernel tables.

Usage: python -m benchmarks.cost_fidelity.fit_shares DATA_DIR [GPU ...]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.cost_fidelity import shares, tables
from sojourn.catalog import load_gpu

Factors = dict[str, float | list[float]]
Errors = dict[str, tuple[float, float]]

NO_FP8: Final = ("a100-80g",)


def from_aiconfigurator(data: Path, name: str) -> tuple[Factors, Errors]:
    """Return the factors of a GPU that aiconfigurator profiled, and their held-out errors."""
    gpu = load_gpu(name)
    bandwidth, flops = gpu.bandwidth_bytes_per_second, gpu.flops_per_second
    found: Factors = {}
    errors: Errors = {}
    rows = tables.gemm(data, name)
    held = shares.held_out(rows["n"], rows["k"])
    shape, errors["gemm"] = shares.fit_gemm(rows, held, bandwidth, flops, 2)
    _put_gemm(found, "gemm", shape)
    if name not in NO_FP8:
        rows = tables.gemm(data, name, "fp8")
        held = shares.held_out(rows["n"], rows["k"])
        peak = gpu.fp8_flops_per_second
        shape, errors["fp8 gemm"] = shares.fit_gemm(rows, held, bandwidth, peak, 1)
        _put_gemm(found, "fp8", shape)
    if name != "l40s":
        moe, errors["moe"] = shares.fit_moe(tables.moe(data, name), bandwidth, flops)
        found |= {
            "moe_launch_seconds": moe[0],
            "moe_bandwidth_share": moe[1],
            "moe_flops_share": moe[2],
        }
    rows = tables.attention(data, name, "context")
    launch, share, moved, *wrong = shares.fit_prefill(rows, bandwidth, flops)
    found |= {
        "prefill_launch_seconds": launch,
        "prefill_flops_share": share,
        "prefill_bandwidth_share": moved,
    }
    errors["prefill attention"] = (wrong[0], wrong[1])
    rows = tables.attention(data, name, "generation")
    launch, share, each, *wrong = shares.fit_decode(rows, bandwidth, tables.L2_BYTES[name])
    found |= {
        "decode_launch_seconds": launch,
        "decode_bandwidth_share": share,
        "decode_sequence_seconds": each,
    }
    errors["decode attention"] = (wrong[0], wrong[1])
    if name in shares.VIDUR:
        found["elementwise_bandwidth_share"] = shares.vidur_elementwise(data, name)
    if name != "l40s":
        links = [shares.fit_all_reduce(data, name, gpus) for gpus in (2, 4, 8)]
        for index, key in enumerate(("latency_seconds", "root_seconds", "bytes_per_second")):
            found[f"all_reduce_{key}"] = [shape[index] for shape, _ in links]
        for gpus, (_, wrong_link) in zip((2, 4, 8), links, strict=True):
            errors[f"all-reduce x{gpus}"] = wrong_link
    return found, errors


def from_llmservingsim(data: Path, name: str) -> tuple[Factors, Errors]:
    """Return the factors of a GPU that LLMServingSim profiled, and their errors."""
    gpu = load_gpu(name)
    bandwidth, flops = gpu.bandwidth_bytes_per_second, gpu.flops_per_second
    found: Factors = {}
    errors: Errors = {}
    rows = shares.rtx_gemm_rows(data, tables.RTX[name])
    held = np.arange(len(rows["m"])) % 3 == 0  # too few shapes to hold any out: sizes instead
    shape, errors["gemm"] = shares.fit_gemm(rows, held, bandwidth, flops, 2)
    _put_gemm(found, "gemm", shape)
    fits = [
        shares.fit_rtx_attention(data, name, profile, bandwidth, flops)
        for profile in tables.RTX[name]
    ]
    for key in fits[0][0]:
        found[key] = float(np.mean([fit[0][key] for fit in fits]))
    for profile, (_, wrong) in zip(tables.RTX[name], fits, strict=True):
        errors |= {f"{key}, {profile}": value for key, value in wrong.items()}
    found["elementwise_seconds"], found["elementwise_bandwidth_share"] = shares.fit_elementwise(
        data, name
    )
    sampler = tables.rtx_layers(data, tables.RTX[name][0])["sampler"]
    terms = np.stack([np.ones(len(sampler["size"])), sampler["size"]], axis=1)
    fixed, each = shares.absolute_fit(terms, sampler["seconds"])
    found |= {"sampler_seconds": float(fixed), "sampler_sequence_seconds": float(each)}
    return found, errors


def _put_gemm(found: Factors, prefix: str, shape: tuple[float, ...]) -> None:
    names = ("launch_seconds", "bandwidth_share", "flops_share", "sharpness")
    for name, value in zip(names, shape[:4], strict=True):
        found[f"{prefix}_{name}"] = value
    if prefix == "fp8":
        found["fp8_quantise_share"] = shape[4]


def toml(value: float | list[float]) -> str:
    """Return a value as TOML, to three significant figures."""
    if isinstance(value, list):
        return "[" + ", ".join(f"{item:.3g}" for item in value) + "]"
    return f"{value:.3g}"


def main(arguments: list[str]) -> None:
    """Print each GPU's factors as TOML and the errors of the fit as comments."""
    data = Path(arguments[0])
    wanted = arguments[1:] or [*tables.SYSTEMS, *tables.RTX]
    for name in wanted:
        derive = from_aiconfigurator if name in tables.SYSTEMS else from_llmservingsim
        found, errors = derive(data, name)
        print(f"[{name}]")
        for key, value in found.items():
            print(f"{key} = {toml(value)}")
        for part, (median, high) in errors.items():
            print(f"# {part}: median error {median:.1f} %, 90th percentile {high:.1f} %")
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
