"""The page docs/explanation/fastserve.md and its figure, from the runs."""

from __future__ import annotations

from math import inf
from statistics import mean
from typing import Final

from benchmarks.replications import knee
from benchmarks.replications.chart import Line, Panel, draw
from benchmarks.replications.experiment import Points
from benchmarks.replications.settings import Settings, Work

PAIR: Final = ("ideal", "v0")
DRAWN: Final = ("long", "short")

PAGE: Final = """\
# FastServe, run again

FastServe (Wu et al., NSDI 2026; arXiv 2305.05920) lets requests that turn out long give way to \
newcomers: a skip-join multi-level feedback queue. This page runs its headline again in the \
simulator, against the engine that it was measured against and against stock vLLM as it is today.

**Published:** up to {published_throughput:g} times the throughput of vLLM (NSDI 2026 abstract); \
up to {published_latency:g} times lower mean latency than a vLLM of 2023 (preprint). \
**Here:** {knee_long} times on long prompts, {knee_short} times on short ones: the highest rate \
at which the mean per-token latency stays below {stated:g} s, `fastserve` over `vllm-v0`, with \
{seats} seats each; at one rate, up to {best_latency:.1f} times lower mean per-token latency. \
**And:** `vllm` with 256 seats, its default, beats both at every rate run. \
The first gain to take is one stock flag.

![Mean per-token latency over rate, five configurations, two workloads](../_static/fastserve.svg)

Mean per-token latency is the mean over requests of end-to-end time over output tokens, the \
measure of the paper. Lines are means over {seeds} seeds, bars reach from the lowest seed to the \
highest.

## Setting

| | paper and its artifact | here |
|---|---|---|
| model, GPU | OPT-13B, one GPU | {model} on {gpu} |
| seats (max batch size) | {seats} | {seats} |
| tokens of a step | 2,048 | {tokens:,} |
| host memory for KV | {swap:g} GiB | the same at {link:g} GB/s with `--host ideal`; else none |
| lengths | ShareGPT, Alpaca | see below |
| arrivals | Poisson | Poisson |
| parameters | quantum 10 ms, ratio 2, starvation 3 s | the same (defaults of the recipe) |

OPT-13B is not in the catalogue: it has no grouped-query attention and a context of 2,048 tokens, \
less than many prompts of the file. A step of Llama-3.1-8B is shorter, and a token's KV takes 128 \
KiB against 800, so memory is scarcer in the paper's runs than in these. The rates on the \
axis are therefore not the paper's; shapes and ratios are what is compared.

{workloads}

## The rate at a given latency

Requests per second at which the mean per-token latency passes a threshold, mean over seeds with \
its 95 % interval (Student's t); *beyond* means that it does not within the rates run. The last \
row is the ratio seed by seed.

{knees}

## The latency at a given rate

{latencies}

Time to the first token and pauses at {shown_rate:g} requests per second on the short lengths: \
the queue gives first tokens early and pays with pauses inside the streams.

{pauses}

## Why the numbers differ

- *The lengths.* A feedback queue gains by finishing short outputs first, so it needs outputs that \
vary. Those of the file have a coefficient of variation of 0.61, cut at about 1,000 tokens, and \
its prompts are long: prefill, which no order shortens, is a large part of the work. With short \
prompts and exponential outputs the ratio rises from {knee_long} to {knee_short}.
- *The length of the run.* Past the saturation of {seats} seats both queues grow, and the mean \
latency of a finite run says how long the run was. Below {stated:g} s a token, `fastserve` passes \
rates that it does not sustain: short requests go through while long ones pile up. With 400 \
requests instead of 1,500 the ratio on the short lengths is {knee_brief}. The released runs have \
20 to 400 prompts.
- *The baseline.* `vllm-v0` here is the scheduler of vLLM before chunked prefill: whole prompts \
first, then decodes. The same baseline with today's `vllm` recipe and {seats} seats is somewhat \
better. The baselines of the preprint had, besides, slower kernels and host-side overhead, which \
no scheduler model reproduces.
- *The host.* `--host ideal` copies parked KV to host memory; stock vLLM can only park it on the \
GPU or drop it. There, too, 16 seats may change hands at once and then one in two steps, which \
bounds what deciding costs. With {seats} seats and this model the two differ on the long prompts, \
and on the short ones far beyond what the seats sustain.

## What it means

With {seats} seats the queue is made by the limit on seats, not by the GPU: 256 seats remove it, \
since a decode step of 256 sequences takes far less than 16 steps of 16. What remains for a \
feedback queue is traffic for which seats or KV memory are truly full; `sojourn compare` says \
whether yours is such.

`sojourn compare TRACE --model {model} --gpu {gpu} --recipes vllm,fastserve --max-num-seqs 16` \
shows the same for a trace of your own.

## Running it

```sh
python -m benchmarks.replications fastserve DATA_DIR
```

DATA_DIR holds `lengths/sharegpt_8k.parquet`: ShareGPT conversations of several turns, filtered to \
8k tokens (project-etalon/etalon, Apache-2.0); a prompt there contains the turns before it, so \
prompts are longer than the paper's. Settings and what must hold are in \
`benchmarks/replications/fastserve.toml`; the run fails if a claim there does not hold in every \
seed, and writes this page and its figure otherwise.
"""


def _ratio(settings: Settings, points: Points, work: Work, threshold: float) -> str:
    found = knee.ratio(settings, points, work, PAIR, threshold)
    if found.value < inf:
        return f"{found.value:.2f} ± {found.half:.2f}"
    low = [knee.knee(points, work, PAIR[1], seed, threshold) for seed in settings.run.seeds]
    return "beyond" if inf in low else f"over {max(work.rates) / mean(low):.1f}"


def _best_latency(settings: Settings, points: Points) -> float:
    """Return the largest ratio of mean latencies at one rate, over workloads and rates."""
    ratios = []
    for work in settings.workloads:
        for rate in work.rates:
            new, old = (knee.latency(settings, points, work, name, rate).value for name in PAIR)
            ratios.append(old / new)
    return max(ratios)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _knees(settings: Settings, points: Points) -> str:
    parts = []
    thresholds = settings.run.thresholds_seconds
    for work in settings.workloads:
        rows = [
            [row.title]
            + [str(knee.knees(settings, points, work, row.name, one)) for one in thresholds]
            for row in settings.rows
        ]
        ratios = [_ratio(settings, points, work, one) for one in thresholds]
        rows.append(["*fastserve, ideal, over vllm-v0*", *ratios])
        head = [work.title, *(f"{one:g} s" for one in thresholds)]
        parts.append(_table(head, rows))
    return "\n\n".join(parts)


def _latencies(settings: Settings, points: Points) -> str:
    parts = []
    for work in settings.workloads:
        rates = work.rates[1::2]
        rows = []
        for row in settings.rows:
            found = [knee.latency(settings, points, work, row.name, rate) for rate in rates]
            rows.append([row.title, *(f"{1000 * one.value:,.0f}" for one in found)])
        ratios = []
        for rate in rates:
            ideal, old = (knee.latency(settings, points, work, name, rate).value for name in PAIR)
            ratios.append(f"{old / ideal:.1f}")
        rows.append(["*vllm-v0 over fastserve, ideal*", *ratios])
        parts.append(_table([f"{work.title}, ms a token", *(f"{one:g} /s" for one in rates)], rows))
    return "\n\n".join(parts)


def _pauses(settings: Settings, points: Points, work: Work, rate: float) -> str:
    rows = []
    for row in settings.rows:
        found = [points[work.name, row.name, rate, seed] for seed in settings.run.seeds]
        first, gap = (mean(getattr(one, key) for one in found) for key in ("first_token", "gap"))
        rows.append([row.title, f"{first:.2f} s", f"{gap:.2f} s"])
    return _table(["", "mean TTFT", "p99 of the longest pause"], rows)


def _workloads(settings: Settings) -> str:
    says = []
    for work in settings.workloads:
        source = (
            f"drawn in pairs from `{work.lengths}` (means 2,328 and 437 tokens)"
            if work.lengths
            else f"exponential, means {work.prompt_mean:g} and {work.output_mean:g} tokens"
        )
        says.append(f"- *{work.title}*: {work.requests:,} requests, lengths {source}.")
    return "\n".join(says)


def write(settings: Settings, points: Points) -> tuple[str, str]:
    """Return the page and the figure."""
    works = {work.name: work for work in settings.workloads}
    stated = settings.run.stated_threshold_seconds
    ratios = {
        f"knee_{name}": _ratio(settings, points, work, stated) for name, work in works.items()
    }
    page = PAGE.format(
        published_throughput=settings.published.throughput_ratio,
        published_latency=settings.published.latency_ratio_mean,
        stated=stated,
        seats=settings.published.seats,
        seeds=len(settings.run.seeds),
        model=settings.engine.model,
        gpu=settings.engine.gpu,
        tokens=settings.engine.max_num_batched_tokens,
        swap=settings.published.swap_space_gib,
        link=settings.engine.swap_gb_per_second,
        workloads=_workloads(settings),
        knees=_knees(settings, points),
        latencies=_latencies(settings, points),
        pauses=_pauses(settings, points, works["short"], 5.0),
        shown_rate=5.0,
        best_latency=_best_latency(settings, points),
        **ratios,
    )
    return page, _figure(settings, points)


def _figure(settings: Settings, points: Points) -> str:
    panels = []
    for work in settings.workloads:
        if work.name not in DRAWN:
            continue
        lines = []
        for row in settings.rows:
            curve = []
            for rate in work.rates:
                seeds = [
                    points[work.name, row.name, rate, seed].per_token for seed in settings.run.seeds
                ]
                curve.append((rate, mean(seeds), min(seeds), max(seeds)))
            lines.append(Line(row.title, curve))
        title = f"Mean per-token latency: {work.title}, {work.requests:,} requests"
        panels.append(Panel(title, lines, settings.run.stated_threshold_seconds))
    return draw(panels, "Mean per-token latency over rate")
