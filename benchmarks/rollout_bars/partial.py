"""Bar 1, partial rollouts: groups per second against synchronous, and what is carried for it.

`python -m benchmarks.rollout_bars.partial [--seeds 6] [--first 2000] [--jobs 1] [--json FILE]`

Every tail is run synchronously and with each candidate, on the same seeds. The bar: at least 1.20
times the groups per second at no more than 40 % of the trained tokens from older weights, nothing
lost (each run asserts that generated = trained + carried + discarded against the engines' own
steps), and trained lengths as far from the offered ones as the synchronous run's are. The ratio of
the candidate that is judged was chosen on other seeds; the others show the sweep.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.rollout_bars.rows import Options, Row
from sojourn.report.rollouts import RolloutRow, summarise
from sojourn.report.seeds import Estimate, estimate, paired_ratio
from sojourn.sim.rollout.scenario import Scenario, scenario_of
from sojourn.sim.rollout.study import run_rollouts, tasks_of

GAIN: Final = 1.20
CARRIED: Final = 0.40
APART: Final = 0.05
"""How much further than the synchronous run's the trained lengths may be from the offered ones."""
STEPS: Final = 40
ENGINES: Final = 2
JUDGED: Final = "april 1.2"

TAILS: Final[dict[str, dict[str, float]]] = {
    "light": {"sigma_log": 0.5},
    "medium": {"sigma_log": 0.8},
    "heavy": {"sigma_log": 1.1},
    "heaviest": {"sigma_log": 0.8, "tail_share": 0.1, "tail_alpha": 0.8},
}
RATIOS: Final = (1.125, 1.2, 1.25, 1.5, 2.0)
WINDOWS: Final = (2048,)


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


def name_of(candidate: dict[str, Any] | str) -> str:
    return candidate if isinstance(candidate, str) else str(candidate["name"])


def scenario(
    tail: str, seeds: Sequence[int], steps: int, engines: int, names: str = ""
) -> Scenario:
    """Return the scenario of a tail, with the candidates of some names, or all."""
    wanted = ["sync", *names.split(",")] if names else [name_of(one) for one in candidates()]
    document = {
        "name": f"partial rollouts, {tail} tail",
        "seeds": [*seeds],
        "steps": steps,
        "warmup_steps": steps // 4,
        "bounds": False,
        "candidates": [one for one in candidates() if name_of(one) in wanted],
        "plan": {"batch_groups": 32, "rollouts_per_group": 8, "tokens_max": 16384},
        "lengths": {"median_tokens": 1500.0, **TAILS[tail]},
        "engines": {"count": engines, "max_num_seqs": 256},
    }
    return scenario_of(document, f"tail {tail}", Path())


def rates(row: RolloutRow) -> list[float]:
    return [one.groups_per_second for one in row.seeds]


def lost(row: RolloutRow) -> list[float]:
    """Return tokens that were discarded, or are in no account, of each run."""
    return [one.generated - one.trained - one.carried for one in row.seeds]


def beyond(row: RolloutRow, base: RolloutRow) -> Estimate | None:
    """Return how much further from the offered lengths the trained ones are than the baseline's."""
    pairs = zip(row.seeds, base.seeds, strict=True)
    return estimate([one.length_distance - other.length_distance for one, other in pairs])


def measure(tail: str, options: Options, steps: int = STEPS, names: str = "") -> list[RolloutRow]:
    """Return the candidates of a tail, the synchronous one first."""
    made = scenario(tail, [*options.range], steps, ENGINES, names)
    study = run_rollouts(made, tasks_of(made), jobs=options.jobs)
    return summarise(study.records, made.baseline)


def highest(found: Estimate) -> float:
    return found.interval[1] if found.interval else found.mean


def row_of(
    found: Estimate | None,
    what: str,
    setting: str,
    options: Options,
    bar: str = "",
    met: bool | None = None,
    digits: int = 2,
) -> Row:
    assert found is not None
    low, high = found.interval or (found.mean, found.mean)
    return Row(what, setting, options.text, found.mean, low, high, bar, met, digits)


def rows_of(tail: str, found: Sequence[RolloutRow], options: Options) -> list[Row]:
    """Return the rows of a tail: of the judged candidate with its bars, of the others without."""
    base, made = found[0], []
    for row in found[1:]:
        judged = row.name == JUDGED
        gain, stale = paired_ratio(rates(row), rates(base)), row.estimates["stale_share"]
        apart, gone = beyond(row, base), estimate(lost(row))
        assert gain is not None
        assert stale is not None
        assert apart is not None
        low = gain.interval[0] if gain.interval else gain.mean
        setting = f"{tail} tail, {row.name}"
        bars: dict[str, tuple[str, bool | None]] = {
            "gain": (f"≥ {GAIN:.2f}", low >= GAIN),
            "stale": (f"≤ {CARRIED:.2f}", highest(stale) <= CARRIED),
            "apart": (f"≤ {APART:.2f}", highest(apart) <= APART),
            "lost": ("0", not any(lost(row))),
        }
        if not judged:
            bars = dict.fromkeys(bars, ("", None))
        times, share = "groups/s over synchronous groups/s", "trained tokens from older weights"
        made.append(row_of(gain, times, setting, options, *bars["gain"]))
        made.append(row_of(stale, share, setting, options, *bars["stale"]))
        if judged:
            ks = "distance of trained from offered lengths, beyond synchronous (KS)"
            made.append(row_of(apart, ks, setting, options, *bars["apart"], digits=3))
            made.append(
                row_of(gone, "tokens lost or discarded", setting, options, *bars["lost"], 0)
            )
    return made


def rows(options: Options) -> list[Row]:
    """Return the rows of all tails."""
    made: list[Row] = []
    for tail in TAILS:
        made += rows_of(tail, measure(tail, options), options)
        options.say(f"partial rollouts: {tail} tail done")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=2000, help="the first seed")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--tails", default=",".join(TAILS))
    parser.add_argument("--candidates", default="", help="names, by comma; all if left out")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    options = Options(chosen.seeds, chosen.first, chosen.jobs)
    made: list[Row] = []
    for tail in chosen.tails.split(","):
        made += rows_of(tail, measure(tail, options, chosen.steps, chosen.candidates), options)
        for row in made:
            if row.setting.startswith(f"{tail} tail"):
                print(" | ".join(row.cells()), flush=True)
        if chosen.json is not None:
            stored = [one._asdict() for one in made]
            chosen.json.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
