"""`sojourn trace`: look at workload traces, convert them and generate them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sojourn.cli.streams import console, plain

if TYPE_CHECKING:
    from sojourn.trace import GenerateSpec, Trace

app = typer.Typer(
    no_args_is_help=True,
    help="Look at workload traces, convert them and generate them.",
)

FORMATS: Final = "auto, parquet, csv, azure, burstgpt, mooncake, blocks"

Source = Annotated[
    str, typer.Argument(metavar="TRACE", help="A trace file, or 'sample' for the bundled one.")
]
Format = Annotated[str, typer.Option("--format", help=f"How it is written: {FORMATS}.")]
Limit = Annotated[
    int | None, typer.Option("--limit", help="Read at most that many requests, from the start.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output file if it exists.")]


@app.command()
def info(
    source: Source,
    format: Format = "auto",
    limit: Limit = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what a trace is like: rate, burstiness, lengths, sessions, tenants, shared prefixes.

    Try:

        sojourn trace info sample

        sojourn trace info conversation_trace.jsonl --json

        sojourn trace info AzureLLMInferenceTrace_conv.csv --limit 100000
    """
    from sojourn.trace import describe_trace, read_trace

    with _busy(f"reading {source}"):
        trace = read_trace(source, format=format, limit=limit)
        stats = describe_trace(trace)
    if as_json:
        typer.echo(json.dumps(stats, indent=2, ensure_ascii=False))
        return
    _print_table(trace, stats)


@app.command()
def convert(
    source: Source,
    target: Annotated[Path, typer.Argument(help="File to write: .parquet, .csv or .jsonl.")],
    format: Format = "auto",
    to: Annotated[
        str, typer.Option("--to", help="How to write: auto, parquet, csv, mooncake.")
    ] = "auto",
    limit: Limit = None,
    session_prefixes: Annotated[
        bool,
        typer.Option(
            "--session-prefixes",
            help="Give prompts block ids: each turn goes on from the prompt of the turn before.",
        ),
    ] = False,
    block_tokens: Annotated[
        int | None,
        typer.Option(
            "--block-tokens", help="Tokens of a block for --session-prefixes; 16 if left out."
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write a trace in another format. Parquet keeps everything; others say what they leave out.

    Try:

        sojourn trace convert requests.csv requests.parquet --session-prefixes

        sojourn trace convert BurstGPT_1.csv burst.parquet --limit 50000

        sojourn trace convert sample sample.jsonl
    """
    from sojourn.errors import UserError
    from sojourn.trace import convert_trace
    from sojourn.trace.session_prefixes import BLOCK_TOKENS

    if block_tokens is not None and not session_prefixes:
        raise UserError("--block-tokens needs --session-prefixes, whose blocks it sizes")
    size = BLOCK_TOKENS if block_tokens is None else block_tokens
    with _busy(f"converting {source}"):
        trace, lost = convert_trace(
            source,
            target,
            source_format=format,
            target_format=to,
            limit=limit,
            overwrite=force,
            session_block_tokens=size if session_prefixes else None,
        )
    _report(trace, target, lost)


EXAMPLE_SPEC: Final = """\
# sojourn trace generate spec.toml -o mixed.parquet
duration_seconds = 600          # or: requests = 10000
seed = 1

[[tenants]]
name = "chat"
rate = 3                        # requests per second
arrivals = "gamma:cv=2"         # poisson, even, gamma, weibull
burst = "on=10,off=50,factor=5" # seconds, seconds, high rate over low rate
lengths_from = "sample"         # or prompt and output, as below
sessions = { turns = "geometric:mean=5", gap = "exponential:mean=20", system_tokens = 800 }

[[tenants]]
name = "batch"
rate = 1
prompt = "lognormal:mean=6000,p50=4000,cap=32000"
output = 400
slo_class = "batch"

# Instead of tenants, ServeGen's published clients:
# [servegen]
# windows = "servegen_client_windows.parquet"
# quantiles = "servegen_token_quantiles.parquet"
# model = "m-large"
# day = 1
# hour = 10
"""

Rate = Annotated[float | None, typer.Option(help="Requests per second, all tenants together.")]
Arrivals = Annotated[
    str | None,
    typer.Option(help="poisson, even, gamma:cv=2, weibull:cv=2 or weibull:shape=0.5."),
]
BurstFlag = Annotated[
    str | None,
    typer.Option(help="on=10,off=50,factor=5: 10 s at 5 times the rate of the 50 s between."),
]
Prompt = Annotated[
    str | None, typer.Option(help="Law of prompt tokens, like lognormal:mean=1200,p50=700.")
]
Answer = Annotated[
    str | None, typer.Option(help="Law of answer tokens, like uniform:low=10,high=400 or 256.")
]
LengthsFrom = Annotated[
    str | None, typer.Option(help="Draw prompt and answer lengths together from this trace.")
]
Requests = Annotated[int | None, typer.Option(help="How many requests.")]
Duration = Annotated[float | None, typer.Option(help="How many seconds of arrivals.")]
Tenants = Annotated[int | None, typer.Option(help="How many tenants share the rate.")]
Turns = Annotated[
    str | None, typer.Option(help="Makes sessions; law of their turns, like geometric:mean=5.")
]
Gap = Annotated[str | None, typer.Option(help="Law of the pause before a later turn, in seconds.")]
Append = Annotated[
    str | None, typer.Option(help="Law of the tokens a later turn adds to the prompt.")
]
SystemTokens = Annotated[
    int | None, typer.Option(help="Tokens of a system prompt that all sessions share.")
]
Seed = Annotated[int | None, typer.Option(help="Same seed, same trace.")]
SpecFile = Annotated[
    Path | None, typer.Argument(metavar="SPEC", help="A TOML spec, instead of the flags.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")]
Example = Annotated[bool, typer.Option("--example", help="Print an example of a spec, and stop.")]


GENERATE_EXAMPLES: Final = """\
\b
Try:
  sojourn trace generate --rate 4 --requests 10000 -o poisson.parquet

\b
  sojourn trace generate --rate 4 --arrivals gamma:cv=2 \\
    --lengths-from sample --burst on=10,off=50,factor=5 \\
    --duration 600 --tenants 4 --seed 1 -o bursty.parquet

\b
  sojourn trace generate --rate 2 --turns geometric:mean=5 \\
    --system-tokens 800 --duration 600 -o chats.parquet

\b
  sojourn trace generate --example > spec.toml
  sojourn trace generate spec.toml -o mixed.parquet
"""


@app.command(epilog=GENERATE_EXAMPLES)
def generate(
    spec: SpecFile = None,
    output: Output = None,
    rate: Rate = None,
    requests: Requests = None,
    duration: Duration = None,
    arrivals: Arrivals = None,
    burst: BurstFlag = None,
    prompt: Prompt = None,
    answer: Answer = None,
    lengths_from: LengthsFrom = None,
    tenants: Tenants = None,
    turns: Turns = None,
    gap: Gap = None,
    append: Append = None,
    system_tokens: SystemTokens = None,
    seed: Seed = None,
    force: Force = False,
    example: Example = False,
) -> None:
    """Generate a trace, from flags or from a TOML spec."""
    if example:
        typer.echo(EXAMPLE_SPEC, nl=False)
        return
    flags = {
        "rate": rate,
        "requests": requests,
        "duration": duration,
        "arrivals": arrivals,
        "burst": burst,
        "prompt": prompt,
        "answer": answer,
        "lengths_from": lengths_from,
        "tenants": tenants,
        "turns": turns,
        "gap": gap,
        "append": append,
        "system_tokens": system_tokens,
        "seed": seed,
    }
    _generate(spec, output, {key: flags[key] for key in flags if flags[key] is not None}, force)


def _generate(spec: Path | None, output: Path | None, given: dict[str, Any], force: bool) -> None:
    from sojourn.errors import UserError
    from sojourn.trace import generate_trace, load_spec, write_trace
    from sojourn.trace.write import check_target

    if output is None:
        raise UserError("say where to write: -o FILE.parquet")
    check_target(output, overwrite=force, sources=() if spec is None else [spec])
    if spec is None:
        plan = spec_of_flags(given, name=output.stem)
    elif given:
        flag = next(iter(given)).replace("_", "-")
        raise UserError(f"{spec}: the spec says everything; --{flag} cannot be given beside it")
    else:
        plan = load_spec(spec)
    drawn = [one.lengths_from for one in plan.tenants if one.lengths_from]
    tables = [plan.servegen.windows, plan.servegen.quantiles] if plan.servegen else []
    check_target(output, overwrite=force, sources=[*drawn, *tables])
    with _busy("generating"):
        trace = generate_trace(plan)
        lost = write_trace(trace, output, overwrite=force)
    _report(trace, output, lost)


def spec_of_flags(given: dict[str, Any], *, name: str) -> GenerateSpec:
    """Return the spec that the flags of `generate` stand for (only those that were given).

    Raises:
        UserError: If a flag is missing, out of range, or has no meaning beside the others.
    """
    from sojourn.errors import UserError
    from sojourn.trace.spec import spec_of_mapping

    if "rate" not in given:
        raise UserError("give --rate (requests per second), or a TOML spec")
    count = given.get("tenants", 1)
    if not 1 <= count <= 10_000:
        raise UserError(f"--tenants is {count}; it must be from 1 to 10000")
    session = {
        key: given[key] for key in ("turns", "gap", "append", "system_tokens") if key in given
    }
    if session and "turns" not in session:
        raise UserError(f"--{next(iter(session)).replace('_', '-')} needs --turns, for sessions")
    tenant: dict[str, Any] = {"rate": given["rate"] / count}
    for flag, key in (
        ("arrivals", "arrivals"),
        ("burst", "burst"),
        ("prompt", "prompt"),
        ("answer", "output"),
        ("lengths_from", "lengths_from"),
    ):
        if flag in given:
            tenant[key] = given[flag]
    if session:
        tenant["sessions"] = session
    names = ["default"] if count == 1 else [f"t{number:02d}" for number in range(count)]
    spec: dict[str, Any] = {"tenants": [{"name": each, **tenant} for each in names]}
    for flag, key in (
        ("requests", "requests"),
        ("duration", "duration_seconds"),
        ("seed", "seed"),
    ):
        if flag in given:
            spec[key] = given[flag]
    return spec_of_mapping(spec, name=name)


ROWS: Final = (
    ("Requests", "{requests:,}", ""),
    ("Span", "{span_s:,.1f} s", ""),
    ("Rate", "{rate_rps:.3g} /s", "of requests with a known arrival"),
    ("CV of arrival gaps", "{cv_iat:.3g}", "1 = Poisson"),
    ("Dispersion, 1 s bins", "{idc_1s:.3g}", "variance over mean of counts; 1 = Poisson"),
    ("Dispersion, 10 s bins", "{idc_10s:.3g}", ""),
    ("Dispersion, 60 s bins", "{idc_60s:.3g}", ""),
    ("Busiest minute over mean", "{peak_to_mean_60s:.3g}", ""),
    ("Arrival clock ticks", "{arrival_tick_s:g} s", "spread arrivals within before trusting bins"),
    ("Prompt tokens", "{prompt_mean:,.0f}", "p50 {prompt_p50:,.0f}, p99 {prompt_p99:,.0f}"),
    ("Output tokens", "{output_mean:,.0f}", "p50 {output_p50:,.0f}, p99 {output_p99:,.0f}"),
    ("Sessions", "{sessions:,}", "p50 {turns_per_session_p50:g} turns"),
    ("Turns without arrival", "{later_turns_without_arrival:,}", "only a closed loop places them"),
    (
        "Pause between turns",
        "{tool_s_mean:,.1f} s",
        "p50 {tool_s_p50:,.1f} s, p99 {tool_s_p99:,.0f} s",
    ),
    ("Tenants", "{tenants:,}", "the top one has {top_tenant_share:.1%} of requests"),
    (
        "Prefix hits",
        "{prefix_hit_token_share_inf_cache:.1%}",
        "of prompt tokens, in an unbounded cache of {block_tokens}-token blocks",
    ),
)
"""Rows of the table: label, value and remark; a row whose value is unknown is left out."""

_LATER: Final = "later_turns_without_arrival"


def _print_table(trace: Trace, stats: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=trace.name, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    # Nothing to say of a closed loop that no turn needs.
    shown = {**stats, _LATER: stats[_LATER] or None}
    for label, value, remark in ROWS:
        try:
            table.add_row(label, value.format(**shown), remark.format(**shown))
        except TypeError:
            continue  # a None has no number format: the trace cannot say
    for label, key in (("Models", "models"), ("SLO classes", "slo_classes")):
        if stats[key]:
            table.add_row(label, str(len(stats[key])), ", ".join(stats[key]))
    console().print(table)
    _print_notices(trace.notices)


def _report(trace: Trace, target: Path, lost: tuple[str, ...]) -> None:
    typer.echo(f"{target}: {len(trace)} requests, {target.stat().st_size:,} bytes")
    _print_notices((*trace.notices, *lost))


def _print_notices(notices: tuple[str, ...]) -> None:
    for notice in notices:
        typer.echo(f"note: {notice}", err=True)


@contextmanager
def _busy(text: str) -> Iterator[None]:
    """Show on a terminal that work is going on."""
    with console(err=True).status(plain(text)):
        yield
