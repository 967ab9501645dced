"""What a generated workload is to be like, and its TOML form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sojourn.errors import UserError
from sojourn.files import read_toml
from sojourn.trace.arrivals import ArrivalLaw, Burst, parse_arrivals, parse_burst
from sojourn.trace.checks import SECONDS_MAX, TOKENS_MAX
from sojourn.trace.lengths import Constant, Exponential, Law, Lognormal, check_keys, parse_law

REQUESTS_MAX: Final = 20_000_000
"""Most requests that one call generates."""
RATE_MIN_RPS: Final = 1e-9
RATE_MAX_RPS: Final = 1e9
SEED_MAX: Final = 2**63 - 1
NUMBER_MAX: Final = 10**300

POISSON: Final = ArrivalLaw()
PROMPT: Final = Lognormal(mean=1000.0, sigma=1.0)
OUTPUT: Final = Lognormal(mean=200.0, sigma=1.0)
TURNS: Final = Constant(4)
GAP: Final = Exponential(mean=20.0)
APPEND: Final = Lognormal(mean=100.0, sigma=1.0)
CONTEXT_TOKENS_MAX: Final = 131_072

_SPEC_KEYS: Final = (
    "name",
    "seed",
    "requests",
    "duration_seconds",
    "block_tokens",
    "tenants",
    "servegen",
)
_TENANT_KEYS: Final = (
    "name",
    "rate",
    "arrivals",
    "burst",
    "prompt",
    "output",
    "lengths_from",
    "pairing",
    "sessions",
    "model",
    "slo_class",
)
_SESSION_KEYS: Final = ("turns", "gap", "append", "system_tokens", "context_tokens_max")
_SERVEGEN_KEYS: Final = ("windows", "quantiles", "model", "day", "hour", "rate")


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """Conversations of several turns, each prompt beginning with all that was said before.

    Attributes:
        turns: Law of the number of turns.
        gap: Law of the seconds between an answer and the next turn.
        append: Law of the tokens that a later turn adds to the prompt.
        system_tokens: Length of the prefix that all sessions of the tenant share.
        context_tokens_max: A turn that would need more tokens than this, answer included, ends
            its session before it.
    """

    turns: Law = TURNS
    gap: Law = GAP
    append: Law = APPEND
    system_tokens: int = 0
    context_tokens_max: int = CONTEXT_TOKENS_MAX

    def __post_init__(self) -> None:
        _within("sessions: system_tokens", self.system_tokens, 0, TOKENS_MAX)
        _within("sessions: context_tokens_max", self.context_tokens_max, 2, TOKENS_MAX)
        if not isinstance(self.turns.mean, int | float) or self.turns.mean < 1:
            raise UserError(f"sessions: turns has mean {self.turns.mean:g}; it must be at least 1")


@dataclass(frozen=True, slots=True)
class TenantSpec:
    """One stream of requests.

    Attributes:
        name: The tenant's name.
        rate_rps: Requests per second in the mean; sessions start at this over their mean turns.
        arrivals: Law of the gaps between arrivals (of sessions, where there are any).
        burst: On/off modulation of the rate, each tenant at a random phase.
        prompt: Law of the prompt's tokens (of the first prompt of a session, less its
            system tokens).
        output: Law of the answer's tokens.
        lengths_from: A trace to draw lengths from, instead of the two laws.
        pairing: "joint" draws the prompt and the answer of one row, "marginal" of two.
        sessions: Multi-turn sessions, or None for single requests.
        model: The model asked for.
        slo_class: The SLO class of its requests.
    """

    name: str
    rate_rps: float
    arrivals: ArrivalLaw = POISSON
    burst: Burst | None = None
    prompt: Law = PROMPT
    output: Law = OUTPUT
    lengths_from: str | None = None
    pairing: str = "joint"
    sessions: SessionSpec | None = None
    model: str | None = None
    slo_class: str | None = None

    def __post_init__(self) -> None:
        _rate(f"tenant {self.name!r}", self.rate_rps)
        if self.pairing not in ("joint", "marginal"):
            raise UserError(
                f"tenant {self.name!r}: pairing is {self.pairing!r}; it must be joint or marginal"
            )


@dataclass(frozen=True, slots=True)
class ServegenSpec:
    """Sampling from ServeGen's published client tables (arXiv 2505.09999).

    Attributes:
        windows: Parquet of rate and gap law of each client and 600 s window.
        quantiles: Parquet of length quantiles of each client and 6 h.
        model: A model of those tables, such as "m-large".
        start_seconds: Where the window begins, from the tables' first midnight.
        rate_rps: Total rate to scale to; None keeps the published one.
    """

    windows: str
    quantiles: str
    model: str
    start_seconds: float = 0.0
    rate_rps: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start_seconds <= SECONDS_MAX:
            raise UserError(
                f"servegen: the window must start at 0 s or later, at most {SECONDS_MAX:g} s"
            )
        if self.rate_rps is not None:
            _rate("servegen", self.rate_rps)


@dataclass(frozen=True, slots=True)
class GenerateSpec:
    """A workload to generate.

    Attributes:
        tenants: Streams of requests; none when `servegen` is given.
        servegen: ServeGen's tables to sample from.
        requests: How many requests; None for all of the duration.
        duration_seconds: How long; arrivals of sessions count, not of their later turns.
        seed: Seed of every random stream.
        block_tokens: Tokens in a block of the prefix ids that sessions get.
        name: The trace's name.
    """

    tenants: tuple[TenantSpec, ...] = field(default=())
    servegen: ServegenSpec | None = None
    requests: int | None = None
    duration_seconds: float | None = None
    seed: int = 0
    block_tokens: int = 16
    name: str = "generated"

    def __post_init__(self) -> None:
        if bool(self.tenants) == (self.servegen is not None):
            raise UserError("give either tenants or servegen, and not both")
        if self.servegen is not None and self.duration_seconds is None:
            raise UserError("servegen: it needs a duration in seconds")
        if self.requests is None and self.duration_seconds is None:
            raise UserError("say how much to generate: a number of requests or a duration")
        if self.requests is not None:
            _within("requests", self.requests, 1, REQUESTS_MAX)
        if self.duration_seconds is not None and not 0 < self.duration_seconds <= SECONDS_MAX:
            raise UserError(
                f"duration is {self.duration_seconds:g} s; it must be above 0, "
                f"at most {SECONDS_MAX:g}"
            )
        _within("seed", self.seed, 0, SEED_MAX)
        _within("block_tokens", self.block_tokens, 1, TOKENS_MAX)
        names = [tenant.name for tenant in self.tenants]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"tenant {twice!r} is there twice; names must differ")


def load_spec(path: str | Path) -> GenerateSpec:
    """Return the spec in a TOML file; paths in it are relative to the file.

    Raises:
        UserError: If the file is not TOML, or a key or value in it is not allowed.
    """
    file = Path(path)
    data = read_toml(file)
    try:
        return spec_of_mapping(data, base=file.parent, name=file.stem)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def spec_of_mapping(
    data: Mapping[str, Any], *, base: Path = Path(), name: str = "generated"
) -> GenerateSpec:
    """Return the spec in parsed TOML.

    Raises:
        UserError: If a key is unknown (the nearest one is named) or a value not allowed.
    """
    read = _Keys(data, "the spec", base, _SPEC_KEYS)
    tenants = tuple(
        _tenant(_Keys(entry, f"tenant {number}", base, _TENANT_KEYS))
        for number, entry in enumerate(read.tables("tenants"), start=1)
    )
    servegen = read.table("servegen", _SERVEGEN_KEYS)
    return GenerateSpec(
        tenants=tenants,
        servegen=None if servegen is None else _servegen(servegen),
        requests=read.whole("requests"),
        duration_seconds=read.number("duration_seconds"),
        seed=read.whole("seed") or 0,
        block_tokens=_or(read.whole("block_tokens"), 16),
        name=_or(read.text("name"), name),
    )


def _tenant(read: _Keys) -> TenantSpec:
    name = read.text("name")
    rate = read.number("rate")
    if name is None or rate is None:
        raise UserError(f"{read.what}: it needs a name and a rate (requests per second)")
    read.what = f"tenant {name!r}"
    arrivals, burst = read.text("arrivals"), read.text("burst")
    prompt, output = read.law("prompt"), read.law("output")
    lengths_from = read.path("lengths_from")
    if lengths_from is not None and (prompt is not None or output is not None):
        raise UserError(f"{read.what}: give lengths_from or prompt and output, and not both")
    sessions = read.table("sessions", _SESSION_KEYS)
    return TenantSpec(
        name=name,
        rate_rps=rate,
        arrivals=POISSON if arrivals is None else parse_arrivals(arrivals),
        burst=None if burst is None else parse_burst(burst),
        prompt=_or(prompt, PROMPT),
        output=_or(output, OUTPUT),
        lengths_from=lengths_from,
        pairing=_or(read.text("pairing"), "joint"),
        sessions=None if sessions is None else _session(sessions),
        model=read.text("model"),
        slo_class=read.text("slo_class"),
    )


def _session(read: _Keys) -> SessionSpec:
    return SessionSpec(
        turns=_or(read.law("turns"), TURNS),
        gap=_or(read.law("gap"), GAP),
        append=_or(read.law("append"), APPEND),
        system_tokens=read.whole("system_tokens") or 0,
        context_tokens_max=_or(read.whole("context_tokens_max"), CONTEXT_TOKENS_MAX),
    )


def _servegen(read: _Keys) -> ServegenSpec:
    windows, quantiles = read.path("windows"), read.path("quantiles")
    model = read.text("model")
    if windows is None or quantiles is None or model is None:
        raise UserError("servegen: it needs windows, quantiles and model")
    start = 86_400.0 * (read.number("day") or 0.0) + 3600.0 * (read.number("hour") or 0.0)
    return ServegenSpec(windows, quantiles, model, start, read.number("rate"))


class _Keys:
    """One TOML table being read: its keys are known, and access to them is typed."""

    def __init__(self, data: object, what: str, base: Path, allowed: tuple[str, ...]) -> None:
        if not isinstance(data, Mapping):
            raise UserError(f"{what}: it must be a table")
        check_keys(data, allowed, what)
        self.data: Mapping[str, Any] = data
        self.what = what
        self.base = base

    def text(self, key: str) -> str | None:
        """Return a string."""
        value: str | None = self._typed(key, str, "text")
        return value

    def number(self, key: str) -> float | None:
        """Return a number."""
        value = self._typed(key, (int, float), "a number")
        if isinstance(value, int) and abs(value) > NUMBER_MAX:
            raise UserError(f"{self.what}: {key} is larger than any number that has a use here")
        return None if value is None else float(value)

    def whole(self, key: str) -> int | None:
        """Return a whole number."""
        value: int | None = self._typed(key, int, "a whole number")
        return value

    def path(self, key: str) -> str | None:
        """Return a path, taken from the file's own folder; `sample` stays as it is."""
        value = self.text(key)
        return value if value is None or value == "sample" else str(self.base / value)

    def law(self, key: str) -> Law | None:
        """Return a law."""
        value = self._typed(key, (int, float, str), "a law or a number")
        if isinstance(value, int):
            value = self.number(key)
        return None if value is None else parse_law(value, f"{self.what}: {key}")

    def table(self, key: str, allowed: tuple[str, ...]) -> _Keys | None:
        """Return a table."""
        value = self._typed(key, dict, "a table")
        what = f"{key} of {self.what}"
        return None if value is None else _Keys(value, what, self.base, allowed)

    def tables(self, key: str) -> list[Any]:
        """Return an array of tables."""
        return self._typed(key, list, "an array of tables") or []

    def _typed(self, key: str, kind: type | tuple[type, ...], said: str) -> Any:
        value = self.data.get(key)
        if value is None or (isinstance(value, kind) and not isinstance(value, bool)):
            return value
        raise UserError(f"{self.what}: {key} is {value!r}; it must be {said}")


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _within(what: str, value: int, lowest: int, highest: int) -> None:
    if value < lowest:
        raise UserError(f"{what} is {value}; it must be at least {lowest}")
    if value > highest:
        raise UserError(f"{what} is {value}; it must be at most {highest}")


def _rate(what: str, rate_rps: float) -> None:
    if not rate_rps > 0:
        raise UserError(f"{what}: rate is {rate_rps:g}; it must be above 0 per second")
    if not RATE_MIN_RPS <= rate_rps <= RATE_MAX_RPS:
        raise UserError(
            f"{what}: rate is {rate_rps:g}; it must be from {RATE_MIN_RPS:g} to "
            f"{RATE_MAX_RPS:g} per second"
        )
