"""Options that several verbs share, and how their texts become values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Final

import typer

from sojourn.cli import completion
from sojourn.cli.outputs import check_outputs as check_outputs
from sojourn.errors import UserError, shown

DEFAULT_LOADS: Final = "0.7,0.9,1.1"

Trace = Annotated[
    str, typer.Argument(metavar="TRACE", help="A trace file, or 'sample' for the bundled one.")
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        help="How the trace is written: auto, parquet, csv, azure, burstgpt, mooncake, blocks.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        help="Use only the first N requests.",
    ),
]
OpenLoop = Annotated[
    bool,
    typer.Option(
        "--open-loop",
        help="Send the turns of a session at the trace's times, not after the answer before.",
    ),
]
SloClasses = Annotated[
    list[str] | None,
    typer.Option(
        "--slo-class",
        metavar="NAME:KEY=VALUE,...",
        help="A class of requests and its bounds in seconds, such as "
        "interactive:share=0.7,ttft=0.5,tpot=0.05 or batch:e2e=60. Repeat for more classes.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        help="Same seed, same results.",
    ),
]

Recipes = Annotated[
    str,
    typer.Option(
        "--recipes",
        help="Recipes, separated by commas; see `sojourn recipes`. NAME@1024x8192 runs one with "
        "1,024 seats and 8,192 tokens per step; of several stock rows the best stands for stock.",
        autocompletion=completion.recipe_list,
    ),
]
Stock = Annotated[
    str,
    typer.Option(
        "--stock-recipe",
        help="The recipe that others are held against.",
        autocompletion=completion.recipe,
    ),
]
Load = Annotated[
    str | None,
    typer.Option(
        "--load",
        help="Fractions of the measured capacity of stock, the highest rate at which its queue "
        "does not grow, separated by commas.",
    ),
]
RateScale = Annotated[
    str | None,
    typer.Option(
        "--rate-scale",
        help="Instead of --load: factors on the trace's own rate.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", help="Processes; all processors if left out and worth it."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A model of `sojourn catalog`, or the path of a config.json.",
        autocompletion=completion.models,
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        help="A GPU of `sojourn catalog`, or the path of a TOML file.",
        autocompletion=completion.gpus,
    ),
]
Cost = Annotated[
    Path | None,
    typer.Option(
        "--cost",
        metavar="FILE.toml",
        help="Fitted step-time coefficients instead of the roofline. A file that `sojourn "
        "calibrate` wrote needs no --model and --gpu: limits that are not given are its engine's.",
    ),
]
Host = Annotated[
    str,
    typer.Option(
        "--host",
        help="vllm: what stock vLLM lets a scheduler do; ideal: also swap KV to host memory.",
        autocompletion=completion.hosts,
    ),
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="SLOT.PARAMETER=VALUE",
        help="Set a policy's parameter wherever a recipe or a fleet has it. Repeatable.",
        autocompletion=completion.parameters,
    ),
]
TensorParallel = Annotated[
    int,
    typer.Option(
        "--tensor-parallel-size",
        help="GPUs a replica.",
    ),
]
Seats = Annotated[
    int,
    typer.Option(
        "--max-num-seqs",
        help="Requests that run at once.",
    ),
]
BatchedTokens = Annotated[
    int,
    typer.Option(
        "--max-num-batched-tokens",
        help="Tokens of a step.",
    ),
]
ModelLen = Annotated[
    int | None,
    typer.Option(
        "--max-model-len",
        help="Tokens of a request; the model's own, cut to what the KV cache holds, if left out.",
    ),
]
BlockSize = Annotated[
    int,
    typer.Option(
        "--block-size",
        help="Tokens of a KV block.",
    ),
]
BlocksOverride = Annotated[
    int | None,
    typer.Option(
        "--num-gpu-blocks-override",
        help="KV blocks, as vLLM's start-up log says; computed from the GPU's memory if left out.",
    ),
]
Utilization = Annotated[
    float,
    typer.Option(
        "--gpu-memory-utilization",
        help="Share of memory to use.",
    ),
]
PrefixCaching = Annotated[
    bool,
    typer.Option(
        "--enable-prefix-caching/--no-enable-prefix-caching",
        help="Find KV of earlier prompts again; needs a trace with prefix ids.",
    ),
]
Replicas = Annotated[
    int,
    typer.Option(
        "--replicas",
        help="Engine instances, all alike: a fleet of one kind. For several kinds give --fleet.",
    ),
]
Router = Annotated[
    str | None,
    typer.Option(
        "--route",
        help="Which replica gets a request, whatever recipe runs; a router of `sojourn policies "
        "--slot route`. Left out, the recipe's own; round_robin where it has none.",
        autocompletion=completion.routers,
    ),
]
Fleets = Annotated[
    list[Path] | None,
    typer.Option(
        "--fleet",
        metavar="FILE.toml",
        help="A fleet: kinds of replicas with their GPUs, roles and prices, links, faults. Each "
        "recipe runs on it. Repeat to compare fleets; the first is what others are held against.",
        autocompletion=completion.toml_files,
    ),
]
SwapSpace = Annotated[
    float | None,
    typer.Option(
        "--swap-space",
        metavar="GIB",
        help="Host memory for swapped KV, GiB a GPU (64); only with --host ideal.",
    ),
]
SwapBandwidth = Annotated[
    float | None,
    typer.Option(
        "--swap-bandwidth",
        metavar="GB/S",
        help="Rate of the link to host memory, GB/s a GPU (25, or 50 where it is PCIe 5).",
    ),
]

STDOUT: Final = Path("-")
"""What stands for standard output in the words of a command."""


def refuse_stdout(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    """Return the path of an output that is a file.

    Raises:
        UserError: If it is `-`.
    """
    if path == STDOUT:
        raise UserError(
            f"{parameter.opts[0]} is '-', but standard output is for the verdict and the tables; "
            "name a file"
        )
    return path


JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Write the results.",
        callback=refuse_stdout,
    ),
]
JsonFileOrStdout = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Write the results; - writes them to standard output, and nothing else there.",
    ),
]
HtmlFile = Annotated[
    Path | None,
    typer.Option(
        "--html",
        help="Write a page that needs no network.",
        callback=refuse_stdout,
    ),
]
TimelineFile = Annotated[
    Path | None,
    typer.Option(
        "--timeline",
        help="Write a timeline for ui.perfetto.dev; of several runs, of the deployable one with "
        "the worst p99 of E2E.",
        callback=refuse_stdout,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="No notes and no progress.",
    ),
]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The options that say what arrives."""

    source: str
    slo_texts: Sequence[str]
    format: str
    limit: int | None
    open_loop: bool
    seed: int
    quiet: bool


COUNT_MAX: Final = 10**9
"""Most of anything that is counted: what no engine of today comes near."""
RANGES: Final[dict[str, tuple[float, float]]] = {
    "jobs": (1, 4096),
    "replicas": (1, 4096),
    "max_num_seqs": (1, 10**6),
    "max_num_batched_tokens": (1, COUNT_MAX),
    "max_model_len": (1, COUNT_MAX),
    "block_size": (1, 10**6),
    "num_gpu_blocks_override": (2, COUNT_MAX),
    "seed": (0, 2**63 - 1),
    "swap_space": (1e-6, 1e6),
    "swap_bandwidth": (1e-3, 1e6),
    "load": (1e-6, 1e6),
    "rate_scale": (1e-9, 1e9),
}
"""The least and the most that each number may be, by the name of its option."""


def check_jobs(jobs: int | None) -> None:
    """Refuse a number of processes that no machine runs."""
    check_range("jobs", jobs)


def check_range(name: str, value: float | None) -> None:
    """Refuse a number that nothing could be simulated with.

    Raises:
        UserError: Naming the option, the value and what is allowed.
    """
    if value is None:
        return
    flag, (least, most) = "--" + name.replace("_", "-"), RANGES[name]
    if not value >= least:
        above = "above zero" if value <= 0 < least < 1 else f"at least {least:g}"
        raise UserError(f"{flag} is {value:g}; it must be {above}")
    if value > most:
        raise UserError(f"{flag} is {shown(value)}; it must be at most {most:.10g}")


def split_names(flag: str, text: str) -> tuple[str, ...]:
    """Return the names of a comma-separated list.

    Raises:
        UserError: If there is none, one is empty, or one is given twice.
    """
    names = tuple(part.strip() for part in text.split(","))
    if "" in names:
        raise UserError(f"{flag} {text!r} has an empty name: write names separated by commas")
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UserError(f"{flag} names {name!r} twice")
    return names


def split_factors(flag: str, text: str) -> tuple[float, ...]:
    """Return the numbers of a comma-separated list.

    Raises:
        UserError: If one is not a number above zero, or is given twice.
    """
    numbers: list[float] = []
    for part in text.split(","):
        try:
            number = float(part)
        except ValueError:
            number = float("nan")
        if not isfinite(number) or number <= 0:
            raise UserError(
                f"{flag} is {part.strip()!r}; it must be a number above zero, "
                f"or several separated by commas, such as {DEFAULT_LOADS}"
            )
        if number in numbers:
            raise UserError(f"{flag} gives {number:g} twice")
        check_range(flag.strip("-").replace("-", "_"), number)
        numbers.append(number)
    return tuple(numbers)


def load_texts(load: str | None, rate_scale: str | None, default: str | None) -> Sequence[float]:
    """Return the factors of `--load` or `--rate-scale`, of which at most one may be given."""
    if load is not None and rate_scale is not None:
        raise UserError("--load and --rate-scale exclude each other; give one of them")
    if rate_scale is not None:
        return split_factors("--rate-scale", rate_scale)
    chosen = load if load is not None else default
    return split_factors("--load", chosen) if chosen is not None else (1.0,)
