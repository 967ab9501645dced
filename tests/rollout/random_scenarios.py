"""Scenarios drawn at random: any policies and parameters, small worlds, engines that are lost."""

import random
from dataclasses import fields
from importlib import import_module

from sojourn.errors import UserError
from sojourn.policies.tables import ROLLOUT_SLOTS, SLOTS
from sojourn.recipes.rollouts import PRESETS

TARGETS = ("", "a=0.5", "a=0.2, b=0.8", "a=0.01,b=0.98,c=0.01")


def scenario(seed):
    """Return the scenario of a seed, as a document; it may be one that is refused."""
    dice = random.Random(seed)
    batch = dice.choice([1, 1, 2, 3, 4])
    tokens = dice.choice([1, 2, 5, 20, 40, 80])
    engines = dice.choice([1, 2, 3])
    candidate = _candidate(dice, tokens)
    plan = {
        "batch_groups": batch,
        "rollouts_per_group": dice.choice([1, 2, 3, 4, 8, 16]),
        "groups_max": dice.choice([batch, batch + 1, 2 * batch, 1024]),
        "tokens_max": tokens,
        "turns_max": dice.choice([0, 0, 1, 3]),
        "rounds_max": dice.choice([1, 2, 16]),
        "staleness_versions": dice.choice([0, 0, 1, 2, 4]),
        "batches_per_version": dice.choice([1, 1, 2, 3]),
    }
    if dice.random() < 0.15:
        plan |= {"reward_low": -1.0, "reward_high": dice.choice([1.0, 0.5])}
    return {
        "name": f"seed {seed}",
        "seeds": [dice.randrange(1 << 40)],
        "steps": dice.choice([1, 2, 3, 5, 8]),
        "warmup_steps": 0,
        "bounds": False,
        "candidates": [candidate],
        "plan": plan,
        "prompts": _prompts(dice, batch),
        "truth": {
            "logit_mean": dice.choice([0.0, 0.0, 0.0, -3.0, 3.0, 20.0]),
            "logit_sd": dice.choice([0.0, 1.8, 6.0]),
            "reward_noise": dice.choice([0.0, 0.0, 0.1, 0.5]),
            "feature_auc": dice.choice([0.5, 0.7, 0.95]),
            "jump_share": dice.choice([0.0, 0.1, 1.0]),
            "forget_share": dice.choice([0.0, 0.01, 1.0]),
        },
        "lengths": {
            "median_tokens": dice.choice([1.0, 5.0, 20.0, 60.0]),
            "sigma_log": dice.choice([0.0, 0.8, 2.0]),
            "tail_share": dice.choice([0.0, 0.1, 0.5]),
            "group_correlation": dice.choice([0.0, 0.5, 1.0]),
            "wrong_factor": dice.choice([0.1, 1.2, 10.0]),
        },
        "engines": _engines(dice, engines, tokens),
        "losses": _losses(dice, engines),
        "rewards": {
            "seconds_median": dice.choice([0.0, 0.01, 1.0, 10.0]),
            "seconds_sigma_log": dice.choice([0.0, 0.5, 2.0]),
        },
        "tools": {
            "turns_mean": dice.choice([1.0, 1.0, 1.5, 4.0, 30.0]),
            "observation_tokens": dice.choice([0, 1, 5, 50]),
            "seconds_median": dice.choice([0.0, 0.01, 1.0]),
            "failure_share": dice.choice([0.0, 0.0, 0.2, 0.5]),
        },
        "trainer": {
            "update_seconds": dice.choice([0.0, 0.05, 5.0]),
            "update_token_seconds": dice.choice([0.0, 2e-6, 0.001]),
            "sync_seconds": dice.choice([0.0, 0.01, 2.0]),
            "sync_mode": dice.choice(["abort", "wait", "keep"]),
            "clear_cache": dice.random() < 0.5,
            "shares_gpus": dice.random() < 0.4,
        },
        "beliefs": {
            "update_keep": dice.choice([1.0, 0.5, 0.0]),
            "version_keep": dice.choice([1.0, 0.9, 0.0]),
            "window": dice.choice([1, 8]),
        },
    }


def _prompts(dice, batch):
    names = "abc"[: dice.choice([1, 2, 3])]
    return {
        "count": max(dice.choice([batch, batch + 1, 10, 30, 60]), batch),
        "tokens_median": dice.choice([1.0, 4.0, 12.0, 30.0]),
        "tokens_sigma_log": dice.choice([0.0, 0.5, 1.5]),
        "embedding_numbers": dice.choice([1, 4]),
        "domains": {name: dice.choice([0.001, 0.2, 1.0, 5.0]) for name in names},
    }


def _engines(dice, count, tokens):
    seats = dice.choice([1, 2, 6, 64])
    block = dice.choice([1, 4, 16])
    return {
        "count": count,
        "kv_cache_tokens": max(dice.choice([tokens + 20, 2 * tokens + 60, 400, 5000]), block),
        "block_size": block,
        "max_num_seqs": seats,
        "max_num_batched_tokens": max(dice.choice([1, 8, 32, 512]), seats),
        "load_period_seconds": dice.choice([0.0, 0.01, 0.5, 5.0]),
        "enable_prefix_caching": dice.random() < 0.7,
    }


def _losses(dice, engines):
    """Return the losses of a third of the scenarios; most engines come back."""
    if dice.random() > 0.35:
        return []
    moments = (lambda: 0.0, lambda: dice.random() * 0.2, lambda: dice.random() * 30.0)
    return [
        {
            "at_seconds": round(dice.choice(moments)(), 4),
            "engine": dice.randrange(engines),
            "for_seconds": dice.choice([0.001, 0.5, 5.0, dice.random(), 0.0]),
        }
        for _ in range(dice.choice([1, 2, 3]))
    ]


def _candidate(dice, tokens):
    found = {"name": "drawn", "preset": dice.choice(list(PRESETS))}
    for slot in ROLLOUT_SLOTS:
        if dice.random() < 0.6:
            policy = _policy(dice, slot, tokens)
            more = [_policy(dice, slot, tokens) for _ in range(dice.choice([0, 0, 1, 2]))]
            found[slot] = [policy, *more] if slot == "control" else policy
    if dice.random() < 0.5:
        found["plan"] = {"staleness_versions": dice.choice([0, 1, 2, 4])}
    return found


def _policy(dice, slot, tokens):
    """Return a policy with parameters that its configuration accepts."""
    name = dice.choice(list(SLOTS[slot]))
    config = SLOTS[slot][name][0]
    for _ in range(50):
        drawn = {
            one.name: _value(dice, config, one, tokens)
            for one in fields(config)
            if dice.random() < 0.65
        }
        try:
            config(**drawn)
        except UserError:
            continue
        return {"policy": name, **drawn}
    return {"policy": name}


def _value(dice, config, one, tokens):
    kind, usual = str(one.type), one.default
    if kind == "bool":
        return dice.random() < 0.5
    if kind == "int":
        least = [0, 1, 2, dice.randint(1, tokens)] if "tokens" in one.name else [0, 1, 2, 3]
        return dice.choice([*least, dice.randint(1, 20), usual])
    if kind == "float":
        some = [0.0, 1.0, round(dice.random(), 3), round(1 + 3 * dice.random(), 3), 1e-9, 1e6]
        return dice.choice([*some, usual])
    if one.name == "targets":
        return dice.choice(TARGETS)
    module = import_module(config.__module__)
    words = [word for name in ("VARIANTS", "PRESETS") for word in getattr(module, name, ())]
    return dice.choice(words) if words else usual
