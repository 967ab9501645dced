"""Bar 1, partial rollouts: groups per second against synchronous, and what is carried for it.

`python -m benchmarks.rollout_bars.partial [--seeds 5] [--steps 40] [--jobs 2] [--json FILE]`

Every tail is run synchronously and with each candidate, on the same seeds. The bar: at least 1.20
times the groups per second at no more than 40 % of the trained tokens from older weights, nothing
lost (each run asserts it), and trained lengths as far from the offered ones as the synchronous
run's are.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sojourn.report.rollouts import RolloutRow, summarise
from sojourn.report.seeds import Estimate, paired_ratio
from sojourn.sim.rollout.scenario import Scenario, scenario_of
from sojourn.sim.rollout.study import run_rollouts, tasks_of

GAIN: Final = 1.20
CARRIED: Final = 0.40
APART: Final = 0.05
"""How much further than the synchronous run's the trained lengths may be from the offered ones."""

TAILS: Final[dict[str, dict[str, float]]] = {
    "light": {"sigma_log": 0.5},
    "medium": {"sigma_log": 0.8},
    "heavy": {"sigma_log": 1.1},
    "heaviest": {"sigma_log": 0.8, "tail_share": 0.1, "tail_alpha": 0.8},
}
RATIOS: Final = (1.1, 1.25, 1.5, 2.0)
WINDOWS: Final = (2048, 4096)


def candidates() -> list[dict[str, Any] | str]:
    """Return the candidates of every tail."""
    plan = {"staleness_versions": 4}
    april = [
        {
            "name": f"april {ratio:g}",
            "preset": "april",
            "control": {"policy": "april", "ratio": ratio},
            "plan": plan,
        }
        for ratio in RATIOS
    ]
    windowed = [
        {
            "name": f"windowed {window}",
            "preset": "windowed",
            "control": {"policy": "windowed", "window_tokens": window, "ratio": 1.5},
        }
        for window in WINDOWS
    ]
    fresh = {"name": "async 1", "preset": "async", "plan": {"staleness_versions": 1}}
    return ["sync", *april, *windowed, fresh]


def scenario(tail: str, seeds: int, steps: int, engines: int) -> Scenario:
    """Return the scenario of a tail."""
    document = {
        "name": f"partial rollouts, {tail} tail",
        "seeds": seeds,
        "steps": steps,
        "warmup_steps": steps // 4,
        "bounds": False,
        "candidates": candidates(),
        "plan": {"batch_groups": 32, "rollouts_per_group": 8, "tokens_max": 16384},
        "lengths": {"median_tokens": 1500.0, **TAILS[tail]},
        "engines": {"count": engines, "max_num_seqs": 256},
    }
    return scenario_of(document, f"tail {tail}", Path())


def rates(row: RolloutRow) -> list[float]:
    return [one.groups_per_second for one in row.seeds]


def plain(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else found.to_json()


def measure(tail: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row of numbers for each candidate of a tail."""
    made = scenario(tail, options.seeds, options.steps, options.engines)
    made = replace(made, bounds=False)
    study = run_rollouts(made, tasks_of(made), jobs=options.jobs)
    rows = summarise(study.records, made.baseline)
    base = rows[0]
    found = []
    for row in rows:
        gain = paired_ratio(rates(row), rates(base))
        apart = row.value("length_distance") - base.value("length_distance")
        stale = row.value("stale_share")
        low = gain is not None and gain.interval is not None and gain.interval[0] >= GAIN
        found.append(
            {
                "tail": tail,
                "candidate": row.name,
                "gain": plain(gain),
                "step_seconds": plain(row.estimates["step_seconds"]),
                "stale_share": plain(row.estimates["stale_share"]),
                "lag_versions": row.value("lag_versions"),
                "lag_max": row.value("lag_max"),
                "length_distance": plain(row.estimates["length_distance"]),
                "length_ratio": plain(row.estimates["length_ratio"]),
                "distance_beyond_sync": apart,
                "busy_share": row.value("busy_share"),
                "discarded": row.value("discarded"),
                "meets": bool(low and stale <= CARRIED and apart <= APART),
            }
        )
    return found


def shown(value: dict[str, Any] | None, digits: int = 2) -> str:
    if value is None:
        return "–"
    text = f"{value['mean']:.{digits}f}"
    if value["interval"] is None:
        return text
    low, high = value["interval"]
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def table(rows: list[dict[str, Any]]) -> str:
    """Return the numbers as a Markdown table."""
    lines = [
        "| tail | candidate | groups/s against sync | older weights | lag | KS | trained/offered "
        "| busy | bar |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        bar = "" if row["candidate"] == "sync" else "met" if row["meets"] else "missed"
        lines.append(
            f"| {row['tail']} | {row['candidate']} | {shown(row['gain'])} "
            f"| {shown(row['stale_share'])} | {row['lag_versions']:.2f} "
            f"| {shown(row['length_distance'], 3)} | {shown(row['length_ratio'], 3)} "
            f"| {row['busy_share']:.2f} | {bar} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--tails", default=",".join(TAILS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for tail in options.tails.split(","):
        rows += measure(tail, options)
        print(table([row for row in rows if row["tail"] == tail]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
