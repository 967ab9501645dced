"""`sojourn catalog`: the models and GPUs that --model and --gpu know by name."""

from __future__ import annotations

import json
from dataclasses import asdict
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from sojourn.cli.completion import engine_parts
from sojourn.cli.streams import console

if TYPE_CHECKING:
    from sojourn.catalog import Gpu, Model

EXAMPLES: Final = """\
\b
Try:
  sojourn catalog
  sojourn catalog h100-sxm
  sojourn catalog llama-3.1-8b --json
"""


def catalog(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A model or a GPU, for all that is known of it and where that comes from.",
            show_default=False,
            autocompletion=engine_parts,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the models and GPUs, or all facts of one."""
    from sojourn.catalog import gpu_names, load_gpu, load_model, model_names

    models = [load_model(one) for one in model_names()]
    gpus = [load_gpu(one) for one in gpu_names()]
    if name is not None:
        found = describe(_named(models, gpus, name))
        if as_json:
            typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            _print_page(found)
    elif as_json:
        shown = {"models": list(map(describe, models)), "gpus": list(map(describe, gpus))}
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        _print_tables(models, gpus)


def describe(row: Model | Gpu) -> dict[str, Any]:
    """Return a row as JSON values: of a model also what follows from its facts, of a GPU prices."""
    from sojourn.catalog import Model
    from sojourn.catalog.cluster import MARKETS, gpu_price, price_sources

    facts = asdict(row)
    if isinstance(row, Model):
        derived = ("parameters", "weights_bytes")
        facts |= {key: getattr(row, key) for key in derived}
        facts["kv_token_bytes"] = row.kv_token_bytes()
        return facts
    facts["dollars_per_hour"] = {market: gpu_price(row.name, market) for market in MARKETS}
    facts["sources"] = {**row.sources, **price_sources(row.name)}
    return facts


def _named(models: list[Model], gpus: list[Gpu], name: str) -> Model | Gpu:
    from sojourn.errors import unknown

    rows: list[Model | Gpu] = [*models, *gpus]
    for row in rows:
        if name.lower() in (row.name, *getattr(row, "aliases", ())):
            return row
    raise unknown("model or GPU", name, [row.name for row in rows])


def _print_page(facts: dict[str, Any]) -> None:
    sources = facts.pop("sources", None) or {"all": facts.pop("source")}
    typer.echo(facts.pop("name"))
    for key, value in facts.items():
        plain = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        if isinstance(value, dict):
            plain = ", ".join(f"{name} {one}" for name, one in value.items())
        typer.echo(f"  {key} = {plain}")
    typer.echo("Sources:")
    for key, text in sources.items():
        typer.echo(fill(f"{key}: {text}", 96, initial_indent="  ", subsequent_indent="    "))


def _print_tables(models: list[Model], gpus: list[Gpu]) -> None:
    _print_table(
        ("model", "parameters", "weights", "KV a token", "longest", "source"),
        [
            (
                one.name,
                f"{one.parameters / 1e9:.1f} G",
                f"{one.weights_bytes / 2**30:.1f} GiB",
                f"{one.kv_token_bytes() / 2**10:.0f} KiB",
                f"{one.max_positions}",
                one.source,
            )
            for one in models
        ],
    )
    typer.echo()
    _print_table(
        ("GPU", "memory", "bandwidth", "bf16", "fp8", "also called"),
        [
            (
                one.name,
                f"{one.memory_bytes / 2**30:.1f} GiB",
                f"{one.bandwidth_bytes_per_second / 1e9:.0f} GB/s",
                f"{one.flops_per_second / 1e12:.0f} TFLOP/s",
                f"{one.fp8_flops_per_second / 1e12:.0f} TFLOP/s"
                if one.fp8_flops_per_second
                else "none",
                ", ".join(one.aliases),
            )
            for one in gpus
        ],
    )
    typer.echo(
        "\n`sojourn catalog NAME` prints all facts and their sources. --model also takes a "
        "config.json, --gpu a TOML file."
    )


def _print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, heading in enumerate(headings):
        last = place == len(headings) - 1
        justify: Literal["left", "right"] = "left" if place == 0 or last else "right"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=not last)
    for row in rows:
        table.add_row(*row)
    console().print(table)
