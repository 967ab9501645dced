"""Sampling a workload from ServeGen's published per-client tables.

Source: Xiang et al., "ServeGen", arXiv 2505.09999, https://github.com/alibaba/ServeGen. For each
client and 600 s window the tables give a rate and a fitted Gamma or Weibull law of the gaps; for
each client and 6 h, quantiles of its lengths. Here, for each client and window: gaps are drawn
from the fitted law, rescaled so that their mean is the window's rate, and entered at a random
phase; prompt and answer lengths are drawn independently of each other from the client's
quantiles, with straight lines between them. Clients without a length table are left out and
counted in a notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sojourn.errors import UserError, unknown
from sojourn.trace.checks import FloatArray, IntArray
from sojourn.trace.lengths import tokens
from sojourn.trace.model import Trace, build_trace
from sojourn.trace.spec import REQUESTS_MAX, ServegenSpec
from sojourn.trace.spellings import require_columns
from sojourn.trace.streams import stream

WINDOW_SECONDS: Final = 600
BUCKET_SECONDS: Final = 21_600
QUANTILES: Final = (
    *(0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0),
)
PROMPT_FIELDS: Final = ("input_tokens", "text_tokens")
MEDIA: Final = ("image", "audio", "video")
OUTPUT_FIELD: Final = "output_tokens"
_QUANTILE_COLUMNS: Final = tuple(f"q{level:g}" for level in QUANTILES)
_WINDOW_COLUMNS: Final = ("model", "client", "t_s", "rate", "pat", "shape")
_GAPS_MIN: Final = 256

Tables = dict[tuple[int, str], list[tuple[int, FloatArray]]]


def sample_servegen(spec: ServegenSpec, duration_seconds: float, seed: int, name: str) -> Trace:
    """Return a workload sampled from a model's clients; each client is a tenant.

    Raises:
        UserError: If a table cannot be read, or has nothing for that model and window.
    """
    windows = _load(spec.windows, _WINDOW_COLUMNS)
    models = sorted(set(windows["model"].to_pylist()))
    if spec.model not in models:
        raise unknown("ServeGen model", spec.model, models)
    lengths = _length_tables(spec)
    end = spec.start_seconds + duration_seconds
    times = windows["t_s"].to_numpy()
    of_model = pc.equal(windows["model"], spec.model).to_numpy()
    inside = of_model & (times < end) & (times + WINDOW_SECONDS > spec.start_seconds)
    if not inside.any():
        first, last = times[of_model].min(), times[of_model].max() + WINDOW_SECONDS
        raise UserError(
            f"servegen: {spec.model} has no window from {spec.start_seconds:g} s to {end:g} s;"
            f" its windows go from {first} s to {last} s"
        )
    rows = windows.filter(pa.array(inside)).sort_by([("client", "ascending"), ("t_s", "ascending")])
    client, rate = rows["client"].to_numpy(), rows["rate"].to_numpy().astype(np.float64)
    has_lengths = np.isin(client, sorted({owner for owner, _ in lengths}))
    notices = _missing_notice(client, rate, has_lengths)
    rows, rate = rows.filter(pa.array(has_lengths)), rate[has_lengths]
    if not len(rate):
        raise UserError(f"servegen: no client of {spec.model} in that window has length tables")
    scale = 1.0
    if spec.rate_rps is not None:
        scale = spec.rate_rps / _mean_rate(rows, rate, spec.start_seconds, end)
    if float(rate.sum()) * scale * WINDOW_SECONDS > REQUESTS_MAX:
        raise UserError(f"servegen: more than {REQUESTS_MAX} requests; ask for less time or rate")
    arrival, owner = _arrivals(rows, rate * scale, spec.start_seconds, end, seed)
    if not len(arrival):
        raise UserError("servegen: no request falls in that window; ask for more time")
    prompt, output = _lengths(lengths, arrival, owner, seed)
    order = np.argsort(arrival, kind="stable")
    names = sorted(set(owner.tolist()))
    return build_trace(
        name=name,
        prompt_tokens=prompt[order],
        output_tokens=output[order],
        arrival_seconds=arrival[order] - spec.start_seconds,
        tenant=np.searchsorted(names, owner[order]).astype(np.int64),
        tenants=tuple(f"c{client:03d}" for client in names),
        models=(spec.model,),
        notices=notices,
    )


def _load(path: str, columns: tuple[str, ...]) -> pa.Table:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        found = pq.read_schema(path).names
        require_columns(path, found, columns)
        return pq.read_table(path, columns=list(columns))
    except (pa.ArrowException, OSError):
        raise UserError(f"{path}: not a readable Parquet file") from None


def _length_tables(spec: ServegenSpec) -> Tables:
    """Return (bucket start, quantiles) in time order for each client and field of the model."""
    columns = ("model", "client", "t_s", "field", *_QUANTILE_COLUMNS)
    table = _load(spec.quantiles, columns)
    table = table.filter(pc.equal(table["model"], spec.model)).sort_by("t_s")
    levels = np.stack([table[name].to_numpy() for name in _QUANTILE_COLUMNS], axis=1)
    tables: Tables = {}
    keys = zip(
        table["client"].to_pylist(),
        table["field"].to_pylist(),
        table["t_s"].to_pylist(),
        strict=True,
    )
    for row, (client, field, bucket) in enumerate(keys):
        quantiles = levels[row].astype(np.float64)
        tables.setdefault((client, field), []).append((bucket, quantiles))
    return tables


def _missing_notice(
    client: NDArray[Any], rate: FloatArray, has_lengths: NDArray[np.bool_]
) -> tuple[str, ...]:
    if has_lengths.all():
        return ()
    share = float(rate[~has_lengths].sum() / rate.sum())
    count = len(np.unique(client[~has_lengths]))
    return (f"{count} clients without length tables left out: {share:.1%} of the rate",)


def _mean_rate(rows: pa.Table, rate: FloatArray, start: float, end: float) -> float:
    times = rows["t_s"].to_numpy()
    covered = np.minimum(times + WINDOW_SECONDS, end) - np.maximum(times, start)
    return float((rate * covered).sum() / (end - start))


def _arrivals(
    rows: pa.Table, rate: FloatArray, start: float, end: float, seed: int
) -> tuple[FloatArray, IntArray]:
    """Return arrivals (seconds of the tables' clock) and their clients, window by window."""
    times, owners = [], []
    columns = (rows["client"], rows["t_s"], rows["pat"], rows["shape"])
    for row, (client, opens, law, shape) in enumerate(
        zip(*(column.to_pylist() for column in columns), strict=True)
    ):
        rng = stream(seed, f"servegen arrivals/{client}/{opens}")
        inside = opens + _window_arrivals(rng, law, shape, float(rate[row]))
        inside = inside[(inside >= start) & (inside < end)]
        times.append(inside)
        owners.append(np.full(len(inside), client, dtype=np.int64))
    return np.concatenate(times), np.concatenate(owners)


def _window_arrivals(
    rng: np.random.Generator, law: str, shape: float, rate_rps: float
) -> FloatArray:
    """Return the arrivals in one window, in seconds from its opening.

    The drawn gaps are laid on a circle whose length is exactly their number over the rate, and
    the window is cut out at a random place: so the mean rate is right however bursty the law.
    """
    expected = rate_rps * WINDOW_SECONDS
    count = max(_GAPS_MIN, int(4 * expected))
    gaps = rng.gamma(shape, 1.0, count) if law == "Gamma" else rng.weibull(shape, count)
    total = float(gaps.sum())
    if not (np.isfinite(total) and total > 0):
        gaps, total = np.ones(count), float(count)
    circle = count / rate_rps
    places = np.cumsum(gaps) / total * circle
    places = np.sort((places - rng.random() * circle) % circle)
    return places[places < WINDOW_SECONDS]


def _lengths(
    tables: Tables, arrival: FloatArray, owner: IntArray, seed: int
) -> tuple[IntArray, IntArray]:
    """Return the prompt and the answer of each request; media count as prompt."""
    prompt = np.zeros(len(arrival))
    output = np.ones(len(arrival))
    bucket = (arrival // BUCKET_SECONDS).astype(np.int64) * BUCKET_SECONDS
    for client, opens in sorted(set(zip(owner.tolist(), bucket.tolist(), strict=True))):
        rows = np.flatnonzero((owner == client) & (bucket == opens))
        field = _Fields(tables, client, opens, seed)
        output[rows] = field.draw(OUTPUT_FIELD, len(rows))
        for name in PROMPT_FIELDS:
            prompt[rows] += field.draw(name, len(rows))
        for medium in MEDIA:
            # The tables give the tokens of one image, clip or video.
            counts = np.rint(field.draw(f"{medium}_count", len(rows))).astype(np.int64)
            each = field.draw(f"{medium}_tokens", int(counts.sum()))
            of_row = np.repeat(np.arange(len(rows)), counts)
            prompt[rows] += np.bincount(of_row, weights=each, minlength=len(rows))
    return tokens(prompt), tokens(output)


@dataclass(frozen=True, slots=True)
class _Fields:
    """The lengths of one client around one time."""

    tables: Tables
    client: int
    opens_seconds: int
    seed: int

    def draw(self, field: str, count: int) -> FloatArray:
        """Return draws from the client's bucket nearest in time; 0 when it has none."""
        known = self.tables.get((self.client, field))
        if known is None:
            return np.zeros(count)
        away = [abs(start_seconds - self.opens_seconds) for start_seconds, _ in known]
        quantiles = known[int(np.argmin(away))][1]
        rng = stream(self.seed, f"servegen {field}/{self.client}/{self.opens_seconds}")
        return np.interp(rng.random(count), QUANTILES, quantiles)
