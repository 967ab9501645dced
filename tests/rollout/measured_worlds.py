"""Worlds that are known, what a user would record of them, and files of it."""

from __future__ import annotations

import json

from sojourn.sim.rollout.lengths import LengthPlan
from sojourn.sim.rollout.prompts_file import read_prompts
from sojourn.sim.rollout.truth import PromptPlan, Truth, TruthPlan

ROWS = [
    {"prompt": "a", "reward": 1.0, "response_tokens": 10},
    {"prompt": "b", "reward": 0.0, "response_tokens": 40},
    {"prompt": "a", "reward": 0.0, "response_tokens": 30},
]


def known_world(rho, factor, prompts=600, seed=3):
    plan = LengthPlan(
        median_tokens=800.0,
        sigma_log=0.7,
        group_correlation=rho,
        wrong_factor=factor,
        difficulty_correlation=0.5,
    )
    return Truth(PromptPlan(count=prompts), TruthPlan(logit_sd=1.5), plan, 1.0, seed)


def recorded(world, rollouts=8):
    """Return what a user would have recorded of a world."""
    return [
        {"prompt": at, "reward": float(draw.right), "response_tokens": draw.tokens}
        for at in range(len(world.prompts))
        for draw in (world.draw(at, 0, place) for place in range(rollouts))
    ]


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_csv(path, rows):
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path, **columns):
    return read_prompts(path, columns, 0.0, 1.0)


def correlation(xs, ys):
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    both = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    return both / (sum((x - mx) ** 2 for x in xs) * sum((y - my) ** 2 for y in ys)) ** 0.5
