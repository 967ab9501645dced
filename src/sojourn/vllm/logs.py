"""Opening the step log of an engine: what its files say of the run."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import vllm

from sojourn.decide.states import NAMES
from sojourn.steplog.config import LiveRun
from sojourn.steplog.live import LiveLog
from sojourn.steplog.write import Source


def open_log(scheduler: Any) -> LiveLog:
    """Return the open step log of a scheduler whose settings ask for one.

    Raises:
        UserError: If its folder cannot be made.
    """
    settings, config = scheduler.settings, scheduler.vllm_config
    source = Source(
        trace="served",
        model=str(config.model_config.served_model_name),
        gpu=_device(),
        seed=0,
        limits=asdict(scheduler.limits),
    )
    run = LiveRun(
        recipe=settings.recipe.name,
        engine=f"vllm {vllm.__version__}",
        started_unix_seconds=time.time() - (time.monotonic() - scheduler.begun),
        source=source,
        kv_blocks=scheduler.limits.num_gpu_blocks,
        block_tokens=scheduler.hash_block_size,
        classes=scheduler.callers.slo_classes(),
        states=NAMES,
        replica=config.parallel_config.data_parallel_rank,
        notes={
            "policies": settings.recipe.parameters(),
            "mode": settings.mode.now(),
            "async_scheduling": bool(scheduler.scheduler_config.async_scheduling),
        },
    )
    return LiveLog(settings.step_log, run).open()


def _device() -> str:
    from vllm.platforms import current_platform

    try:
        return str(current_platform.get_device_name())
    except (NotImplementedError, RuntimeError):
        return str(current_platform.device_name)
