"""Options that several verbs share, and how their texts become values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Final

import typer

from sojourn.errors import UserError

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
    ),
]
Stock = Annotated[
    str,
    typer.Option("--stock-recipe", help="The recipe that others are held against."),
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
    str,
    typer.Option("--model", help="A model of the catalogue, or the path of a config.json."),
]
Gpu = Annotated[
    str | None,
    typer.Option("--gpu", help="A GPU of the catalogue, or the path of a TOML file."),
]
Cost = Annotated[
    Path | None,
    typer.Option(
        "--cost",
        metavar="FILE.toml",
        help="Fitted step-time coefficients instead of the roofline; without --gpu also give "
        "--num-gpu-blocks-override.",
    ),
]
Host = Annotated[
    str,
    typer.Option(
        "--host",
        help="vllm: what stock vLLM lets a scheduler do; ideal: also swap KV to host memory.",
    ),
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="SLOT.PARAMETER=VALUE",
        help="Set a policy's parameter wherever a recipe has it. Repeatable.",
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
        help="Engine instances.",
    ),
]
Router = Annotated[
    str,
    typer.Option(
        "--route",
        help="round_robin or least_load.",
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

JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Write the results.",
    ),
]
HtmlFile = Annotated[
    Path | None,
    typer.Option(
        "--html",
        help="Write a page that needs no network.",
    ),
]
TimelineFile = Annotated[
    Path | None,
    typer.Option(
        "--timeline",
        help="Write a timeline for ui.perfetto.dev; of several runs, of the deployable one with "
        "the worst p99 of E2E.",
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


def check_jobs(jobs: int | None) -> None:
    """Refuse a number of processes below one."""
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs is {jobs}; it must be at least 1")


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
        numbers.append(number)
    return tuple(numbers)


def check_outputs(outputs: dict[str, Path | None], source: str) -> None:
    """Refuse output files that could not be written, before any long work.

    Args:
        outputs: The path of each flag; None where it was not given.
        source: Path of the trace, which no output may replace.

    Raises:
        UserError: Naming the flag.
    """
    seen: dict[Path, str] = {}
    for flag, path in outputs.items():
        if path is None:
            continue
        if path.is_dir():
            raise UserError(f"{flag} {str(path)!r} is a directory; name a file")
        if not path.parent.is_dir():
            raise UserError(f"{flag} {str(path)!r}: the directory does not exist; make it first")
        resolved = path.resolve()
        if resolved in seen:
            raise UserError(f"{seen[resolved]} and {flag} are the same file, {str(path)!r}")
        if resolved == Path(source).resolve():
            raise UserError(f"{flag} {str(path)!r} is the trace itself; name another file")
        seen[resolved] = flag
        _check_writable(flag, path)


def _check_writable(flag: str, path: Path) -> None:
    """Try the folder, since rights alone do not tell of a read-only file system."""
    from tempfile import TemporaryFile

    special = path.exists() and not path.is_file()
    if special and flag in ("--json", "--html"):
        return  # a pipe or a terminal is written to as it stands
    try:
        if special:
            raise OSError("it is neither a file nor new")
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"{flag}: cannot write {str(path)!r}: {error.strerror or error}") from error


def load_texts(load: str | None, rate_scale: str | None, default: str | None) -> Sequence[float]:
    """Return the factors of `--load` or `--rate-scale`, of which at most one may be given."""
    if load is not None and rate_scale is not None:
        raise UserError("--load and --rate-scale exclude each other; give one of them")
    if rate_scale is not None:
        return split_factors("--rate-scale", rate_scale)
    chosen = load if load is not None else default
    return split_factors("--load", chosen) if chosen is not None else (1.0,)
