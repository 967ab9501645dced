"""Generating a workload from a spec: the same bytes for the same spec and seed, everywhere.

Every purpose (arrivals, prompts, answers, turns, … of each tenant) has a random stream of its own,
so that changing one law leaves the draws of all others as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sojourn.errors import UserError
from sojourn.trace.arrivals import arrival_times
from sojourn.trace.checks import FloatArray, IntArray
from sojourn.trace.lengths import tokens
from sojourn.trace.model import UNNAMED, Trace, build_trace
from sojourn.trace.read import read_trace
from sojourn.trace.servegen import sample_servegen
from sojourn.trace.spec import REQUESTS_MAX, GenerateSpec, TenantSpec
from sojourn.trace.streams import stream

_DOUBLINGS_MAX: Final = 40
_IDS_MAX: Final = 500_000_000


@dataclass(frozen=True, slots=True)
class _Rows:
    """Generated requests of one tenant, unit by unit (a unit is a session or a lone request).

    Attributes:
        unit: Number of the request's unit within the tenant.
        start_seconds: When that unit begins.
        turn: Place of the request within the unit.
        prompt_tokens: Whole prompt.
        output_tokens: Answer.
        gap_seconds: Pause before a later turn; NaN for first ones.
    """

    unit: IntArray
    start_seconds: FloatArray
    turn: IntArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    gap_seconds: FloatArray


def generate_trace(spec: GenerateSpec) -> Trace:
    """Return the workload that a spec describes.

    Single requests have arrivals. Of a session only the first turn has one: later turns have a
    pause (`tool_seconds`) after the previous answer, and prompts that begin with everything said
    before, which their prefix ids show.

    Raises:
        UserError: If the spec asks for too much, for nothing, or for files that cannot be read.
    """
    if spec.servegen is not None:
        assert spec.duration_seconds is not None
        trace = sample_servegen(spec.servegen, spec.duration_seconds, spec.seed, spec.name)
        return trace if spec.requests is None else trace.head(spec.requests)
    units = _units(spec)
    parts, cut = [], 0
    for tenant, starts, turns in units:
        rows, left_out = _rows(spec.seed, tenant, starts, turns)
        parts.append(rows)
        cut += left_out
    return _assemble(spec, parts, cut)


def _units(spec: GenerateSpec) -> list[tuple[TenantSpec, FloatArray, IntArray]]:
    """Return when each tenant's units start and how many turns they have."""
    total_rate = sum(tenant.rate_rps for tenant in spec.tenants)
    wanted = spec.requests or 0
    horizon = spec.duration_seconds or 1.1 * wanted / total_rate + 1.0
    for _ in range(_DOUBLINGS_MAX):
        if total_rate * horizon > 10 * REQUESTS_MAX:
            break
        units = [_tenant_units(spec.seed, tenant, horizon) for tenant in spec.tenants]
        made = sum(int(turns.sum()) for _, _, turns in units)
        if made > (REQUESTS_MAX if spec.duration_seconds is not None else 2 * REQUESTS_MAX):
            break
        if spec.duration_seconds is not None or made >= wanted:
            return units
        horizon *= 2
    raise UserError(
        f"the spec asks for more than {REQUESTS_MAX} requests; lower the rate, the duration or"
        " the number of requests"
    )


def _tenant_units(
    seed: int, tenant: TenantSpec, horizon_seconds: float
) -> tuple[TenantSpec, FloatArray, IntArray]:
    mean_turns = 1.0 if tenant.sessions is None else tenant.sessions.turns.mean
    phase = 0.0
    if tenant.burst is not None:
        period = tenant.burst.on_seconds + tenant.burst.off_seconds
        phase = period * float(stream(seed, f"burst phase/{tenant.name}").random())
    starts = arrival_times(
        tenant.arrivals,
        tenant.rate_rps / mean_turns,
        horizon_seconds,
        stream(seed, f"arrivals/{tenant.name}"),
        tenant.burst,
        phase,
    )
    if tenant.sessions is None:
        return tenant, starts, np.ones(len(starts), dtype=np.int64)
    drawn = tenant.sessions.turns.draw(len(starts), stream(seed, f"turns/{tenant.name}"))
    return tenant, starts, tokens(drawn)


def _rows(seed: int, tenant: TenantSpec, starts: FloatArray, turns: IntArray) -> tuple[_Rows, int]:
    """Return the requests of a tenant and how many turns had no room in the context."""
    first_prompt, output = _draw_lengths(seed, tenant, len(starts), int(turns.sum()))
    unit = np.repeat(np.arange(len(starts)), turns)
    first = np.cumsum(turns) - turns
    turn = np.arange(len(unit)) - first[unit]
    if tenant.sessions is None:
        none = np.full(len(unit), np.nan)
        return _Rows(unit, starts, turn, first_prompt, output, none), 0
    session = tenant.sessions
    added = tokens(session.append.draw(len(unit), stream(seed, f"append/{tenant.name}")))
    added[first] = first_prompt + session.system_tokens
    # What a turn's prompt holds: all that was added up to it and all answers before it.
    said = np.cumsum(added) + np.cumsum(output) - output
    prompt = said - (said[first] - added[first])[unit]
    gap = session.gap.draw(len(unit), stream(seed, f"gap/{tenant.name}"))
    gap[first] = np.nan
    fits = prompt + output <= session.context_tokens_max
    kept = _Rows(unit[fits], starts[unit[fits]], turn[fits], prompt[fits], output[fits], gap[fits])
    return kept, int(np.count_nonzero(~fits))


def _draw_lengths(
    seed: int, tenant: TenantSpec, units: int, rows: int
) -> tuple[IntArray, IntArray]:
    """Return the first prompt of each unit and the answer of each row."""
    prompts = stream(seed, f"prompt/{tenant.name}")
    outputs = stream(seed, f"output/{tenant.name}")
    if tenant.lengths_from is None:
        return tokens(tenant.prompt.draw(units, prompts)), tokens(tenant.output.draw(rows, outputs))
    source = read_trace(tenant.lengths_from)
    if tenant.sessions is None:
        picked = prompts.integers(len(source), size=units)
        paired = picked if tenant.pairing == "joint" else outputs.integers(len(source), size=rows)
        return source.prompt_tokens[picked], source.output_tokens[paired]
    opening = np.flatnonzero(source.turn == 0)
    if not len(opening):
        opening = np.arange(len(source))
    picked = opening[prompts.integers(len(opening), size=units)]
    return source.prompt_tokens[picked], source.output_tokens[
        outputs.integers(len(source), size=rows)
    ]


def _assemble(spec: GenerateSpec, parts: list[_Rows], cut: int) -> Trace:
    """Merge the tenants' requests by the start of their units and number sessions and blocks."""
    tenant = np.repeat(np.arange(len(parts)), [len(part.unit) for part in parts])
    start = np.concatenate([part.start_seconds for part in parts])
    order = np.argsort(start, kind="stable")[: spec.requests]
    if not len(order):
        raise UserError("the spec gives no request at all: raise its rate or duration")

    def merged(column: Callable[[_Rows], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([column(part) for part in parts])[order]

    tenant, start = tenant[order], start[order]
    turn, prompt = merged(lambda part: part.turn), merged(lambda part: part.prompt_tokens)
    unit = merged(lambda part: part.unit)
    unit = _renumber(tenant * (int(unit.max()) + 1) + unit)
    in_session = np.array([item.sessions is not None for item in spec.tenants])[tenant]
    offsets, ids = None, None
    if in_session.any():
        offsets, ids = _prefix_ids(spec, tenant, unit, prompt)
    model, models = _numbered([item.model for item in spec.tenants])
    slo_class, slo_classes = _numbered([item.slo_class for item in spec.tenants])
    has_classes = any(item.slo_class is not None for item in spec.tenants)
    return build_trace(
        name=spec.name,
        prompt_tokens=prompt,
        output_tokens=merged(lambda part: part.output_tokens),
        arrival_seconds=np.where(turn == 0, start, np.nan),
        session=np.where(in_session, unit, -1),
        sessions=tuple(f"s{number:06d}" for number in range(int(unit.max()) + 1)),
        turn=turn,
        tool_seconds=merged(lambda part: part.gap_seconds),
        tenant=tenant,
        tenants=tuple(item.name for item in spec.tenants),
        model=model[tenant],
        models=models,
        slo_class=slo_class[tenant] if has_classes else None,
        slo_classes=slo_classes if has_classes else (),
        prefix_offsets=offsets,
        prefix_ids=ids,
        block_tokens=spec.block_tokens if ids is not None else 0,
        notices=(f"{cut} turns that would not fit the context left out",) if cut else (),
    )


def _numbered(names: Sequence[str | None]) -> tuple[IntArray, tuple[str, ...]]:
    """Return each name's number among the distinct ones, and those."""
    texts = [name or UNNAMED for name in names]
    distinct = tuple(dict.fromkeys(texts))
    return np.array([distinct.index(text) for text in texts], dtype=np.int64), distinct


def _prefix_ids(
    spec: GenerateSpec, tenant: IntArray, unit: IntArray, prompt_tokens: IntArray
) -> tuple[IntArray, IntArray]:
    """Return block ids: a unit's prompts share all their blocks, a tenant's the system prefix.

    Only whole blocks get an id, for nothing can share a partial one.
    """
    size = spec.block_tokens
    systems = [0 if item.sessions is None else item.sessions.system_tokens for item in spec.tenants]
    shared = np.array(systems, dtype=np.int64) // size
    shared_base = np.cumsum(shared) - shared
    blocks = prompt_tokens // size
    own = np.zeros(int(unit.max()) + 1, dtype=np.int64)
    np.maximum.at(own, unit, blocks - shared[tenant])
    own_base = int(shared.sum()) + np.cumsum(own) - own
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(blocks)])
    if offsets[-1] > _IDS_MAX:
        raise UserError(
            f"the prompts have {offsets[-1]} blocks, more than {_IDS_MAX};"
            " ask for fewer requests or larger block_tokens"
        )
    position = np.arange(offsets[-1]) - np.repeat(offsets[:-1], blocks)
    common = np.repeat(shared[tenant], blocks)
    ids = np.where(
        position < common,
        np.repeat(shared_base[tenant], blocks) + position,
        np.repeat(own_base[unit], blocks) + position - common,
    )
    return offsets, ids


def _renumber(keys: IntArray) -> IntArray:
    """Number keys from 0 in order of first appearance."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first, kind="stable")] = np.arange(len(first))
    return number[inverse.reshape(-1)]
