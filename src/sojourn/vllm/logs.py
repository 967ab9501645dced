"""Opening the step log of an engine: what its files say of the run."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from logging import getLogger
from threading import Thread
from typing import Any

import vllm

from sojourn.decide.states import NAMES
from sojourn.recipes import load_recipe
from sojourn.steplog.config import LiveRun
from sojourn.steplog.live import LiveLog
from sojourn.steplog.write import Source
from sojourn.vllm import compat

logger = getLogger("sojourn.vllm")


def open_log(scheduler: Any, number: int) -> LiveLog | None:
    """Return the open step log of a scheduler; None if its settings ask for none.

    Each time the mode is switched another log begins, so that a log is of one way of deciding;
    from the second on their names carry `number` and the mode. Those of all engines of a server
    but the first carry the engine's number: two must not take each other's files.

    Raises:
        UserError: If its folder cannot be made.
    """
    settings, config, mode = scheduler.settings, scheduler.vllm_config, scheduler.mode
    if settings.step_log is None:
        return None
    index = compat.engine_index(config)
    acting = settings.recipe if mode != "off" else load_recipe("vllm")
    source = Source(
        trace="served",
        model=str(config.model_config.served_model_name),
        gpu=_device(),
        seed=0,
        limits=asdict(scheduler.limits),
    )
    run = LiveRun(
        recipe=acting.name,
        engine=f"vllm {vllm.__version__}",
        started_unix_seconds=time.time() - (time.monotonic() - scheduler.begun),
        source=source,
        kv_blocks=scheduler.limits.num_gpu_blocks,
        block_tokens=scheduler.hash_block_size,
        classes=scheduler.callers.slo_classes(),
        states=NAMES,
        replica=index,
        notes={
            "policies": acting.parameters(),
            "mode": mode,
            "async_scheduling": bool(scheduler.scheduler_config.async_scheduling),
        },
        shadow=mode == "shadow",
    )
    name = settings.step_log.name
    name += f"-engine{index}" if index else ""
    name += f"-{number}-{mode}" if number else ""
    return LiveLog(replace(settings.step_log, name=name), run).open()


def reopen_log(scheduler: Any, log: LiveLog | None) -> LiveLog | None:
    """Return a log of its own for what now decides; requests are in the log where they end.

    The engine goes on without one if none can be opened.
    """
    if log is None:
        return None
    scheduler.tallies.begin()
    try:
        Thread(target=log.close, daemon=True).start()
        return open_log(scheduler, scheduler.switches)
    except Exception as error:  # whatever a log does, the engine serves
        logger.warning("sojourn: no step log from here on: %s", error)
        return None


def _device() -> str:
    from vllm.platforms import current_platform

    try:
        return str(current_platform.get_device_name())
    except (NotImplementedError, RuntimeError):
        return str(current_platform.device_name)
