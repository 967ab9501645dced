"""The tables of a scenario that say what is offered: prompts, their truth and their lengths.

With a file of measured prompts, what it says cannot be said a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from sojourn.errors import UserError, shown, unknown
from sojourn.rollout.plan import Plan
from sojourn.sim.rollout.lengths import LengthPlan
from sojourn.sim.rollout.measured import Measured
from sojourn.sim.rollout.prompts_file import NAMES, read_prompts
from sojourn.sim.rollout.tables import made, table, typed
from sojourn.sim.rollout.truth import PROMPTS_MAX, PromptPlan, TruthPlan
from sojourn.trace import read_trace

RECORDED_MAX: Final = 100_000
LAW: Final = ("median_tokens", "sigma_log", "tail_share", "tail_alpha")


def prompts_of(document: Mapping[str, Any], origin: str, folder: Path, plan: Plan) -> PromptPlan:
    """Return the prompts of a scenario, those of a file if it names one."""
    values = table(document, "prompts", origin)
    if "measured" in values:
        raise unknown(f"key prompts.measured in {origin}: name", "measured", ("file",))
    if "domains" in values:
        shares = values["domains"]
        if not isinstance(shares, dict):
            raise UserError(
                f"{origin}: prompts.domains is {shown(shares)}; it must be a table of shares, "
                "such as { maths = 0.7, code = 0.3 }"
            )
        values["domains"] = {
            name: typed(f"prompts.domains.{name}", "float", share, origin)
            for name, share in shares.items()
        }
    columns = _columns(values, origin)
    if "file" in values:
        file = typed("prompts.file", "str", values.pop("file"), origin)
        try:
            measured = read_prompts(
                folder / file, columns, plan.reward_low, plan.reward_high, _usual(document, origin)
            )
        except UserError as error:
            raise UserError(f"{origin}: prompts.file: {error}") from None
        if "count" not in values and not _own_batches(document):
            _check_count(len(measured.prompts), plan.batch_groups, origin)
        _fill(values, measured, origin)
    return made(PromptPlan, values, "prompts", origin)


def _usual(document: Mapping[str, Any], origin: str) -> LengthPlan:
    """Return the laws of lengths that hold where a file does not tell them."""
    given = table(document, "lengths", origin)
    laws = {key: given[key] for key in given if key in ("wrong_factor", "group_correlation")}
    return made(LengthPlan, laws, "lengths", origin)


def _own_batches(document: Mapping[str, Any]) -> bool:
    """Return whether a candidate has batches of its own, so that the plan's need not fit."""
    candidates = document.get("candidates")
    plans = [
        one.get("plan")
        for one in (candidates if isinstance(candidates, list) else [])
        if isinstance(one, dict)
    ]
    return any(isinstance(plan, dict) and "batch_groups" in plan for plan in plans)


def _check_count(prompts: int, batch_groups: int, origin: str) -> None:
    """Refuse a file that has not the prompts of one batch."""
    if prompts < batch_groups:
        raise UserError(
            f"{origin}: prompts.file has {prompts} prompt{'' if prompts == 1 else 's'}, but a "
            f"batch needs plan.batch_groups = {batch_groups}; give more prompts or a smaller "
            "plan.batch_groups, or set prompts.count to take each prompt several times"
        )


def _columns(values: dict[str, Any], origin: str) -> dict[str, str]:
    """Take the names of a file's columns out of the table of prompts."""
    if "columns" not in values:
        return {}
    if "file" not in values:
        raise UserError(f"{origin}: prompts.columns has no effect without prompts.file")
    given = values.pop("columns")
    if not isinstance(given, dict):
        raise UserError(
            f"{origin}: prompts.columns is {shown(given)}; it must be a table of the file's names, "
            'such as { reward = "score" }'
        )
    for ours, theirs in given.items():
        if ours not in NAMES:
            raise unknown(f"key prompts.columns.{ours} in {origin}: column", ours, NAMES)
        typed(f"prompts.columns.{ours}", "str", theirs, origin)
    return given


def _fill(values: dict[str, Any], measured: Measured, origin: str) -> None:
    """Put what a file says of prompts into the table of prompts."""
    said = {
        "domains": measured.has_domains,
        "tokens_median": measured.has_tokens,
        "tokens_sigma_log": measured.has_tokens,
    }
    _refuse("prompts", values, (key for key, known in said.items() if known), origin)
    prompts = measured.prompts
    if len(prompts) > PROMPTS_MAX:
        raise UserError(
            f"{origin}: prompts.file has {len(prompts)} prompts of {PROMPTS_MAX} allowed"
        )
    values.setdefault("count", len(prompts))
    if measured.has_domains:
        counts: dict[str, float] = {}
        for one in prompts:
            counts[one.domain] = counts.get(one.domain, 0.0) + 1.0
        values["domains"] = {name: count / len(prompts) for name, count in counts.items()}
    values["measured"] = measured


def truth_of(
    document: Mapping[str, Any], origin: str, measured: Measured | None = None
) -> TruthPlan:
    """Return what is true of the prompts; measured pass rates take the place of a law."""
    values = table(document, "truth", origin)
    if measured is not None:
        _refuse("truth", values, ("logit_mean", "logit_sd", "domain_sd"), origin)
    return made(TruthPlan, values, "truth", origin)


def lengths_of(
    document: Mapping[str, Any], origin: str, folder: Path, measured: Measured | None = None
) -> LengthPlan:
    """Return the plan of lengths, with those of a file if there is one."""
    values = table(document, "lengths", origin)
    if "recorded" in values:
        raise unknown(f"key lengths.recorded in {origin}: name", "recorded", ("file",))
    if measured is not None and measured.has_lengths:
        _refuse("lengths", values, ("file", *LAW, "difficulty_correlation"), origin)
        fitted = {
            "group_correlation": measured.group_correlation,
            "wrong_factor": measured.wrong_factor,
        }
        values = {**fitted, **values, "recorded": measured.recorded}
    elif "file" in values:
        file = typed("lengths.file", "str", values.pop("file"), origin)
        for key in LAW:
            if key in values:
                raise UserError(f"{origin}: lengths.{key} has no effect beside lengths.file")
        try:
            trace = read_trace(file if file == "sample" else folder / file, limit=RECORDED_MAX)
        except UserError as error:
            raise UserError(f"{origin}: lengths.file: {error}") from None
        values["recorded"] = tuple(int(tokens) for tokens in trace.output_tokens)
    return made(LengthPlan, values, "lengths", origin)


def _refuse(name: str, values: Mapping[str, Any], keys: Iterable[str], origin: str) -> None:
    """Refuse keys that a file of prompts says already."""
    for key in keys:
        if key in values:
            raise UserError(
                f"{origin}: {name}.{key} has no effect beside prompts.file, which was measured"
            )
