"""vLLM's engine inside the test's own process, driven one step at a time.

With asynchronous scheduling vLLM plans a step before it knows the tokens of the one before. Its
CPU platform always turns that off; here the platform's word is overruled and the few GPU streams
and events that the model runner then uses are stood in for, so that the scheduler is driven as on
a GPU while the arithmetic stays on the CPU.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.platforms.cpu import CpuPlatform
from vllm.v1.engine.llm_engine import LLMEngine
from vllm.v1.worker import cpu_model_runner

from sojourn.cli.vllm_words import SCHEDULER_CLASS

STEPS_MAX = 20_000
SMALL: Mapping[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 512,
    "block_size": 32,
    "num_gpu_blocks_override": 24,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 64,
    "seed": 0,
}
"""So few seats and blocks that requests wait for both and some are preempted."""


class Asked(NamedTuple):
    """A request of a workload.

    Attributes:
        step: When it arrives.
        prompt: Token ids.
        params: Sampling parameters.
        abort_step: When its client goes away; None if it stays.
        adapter: vLLM's request for an adapter; None for the model itself.
    """

    step: int
    prompt: list[int]
    params: Any
    abort_step: int | None = None
    adapter: Any = None


class _Event:
    """A GPU event of a device that has always finished."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...
    def record(self, *args: object) -> None: ...
    def synchronize(self) -> None: ...


class _Stream(_Event):
    """A GPU stream of such a device."""

    device = torch.device("cpu")

    def wait_stream(self, *args: object) -> None: ...


@contextmanager
def scheduling(asynchronous: bool) -> Iterator[None]:
    """Let engines made inside schedule asynchronously, or not."""
    if not asynchronous:
        yield
        return
    original = CpuPlatform.check_and_update_config.__func__

    def check(cls: type, config: Any) -> None:
        original(cls, config)
        config.scheduler_config.async_scheduling = True

    with (
        patch.object(CpuPlatform, "check_and_update_config", classmethod(check)),
        patch.object(cpu_model_runner, "_torch_cuda_wrapper", nullcontext),
        patch.object(torch, "Event", _Event),
        patch.object(torch.cuda, "Event", _Event),
        patch.object(torch.cuda, "Stream", _Stream),
        patch.object(torch.cuda, "current_stream", _Stream),
        patch.object(torch.cuda, "stream", nullcontext),
    ):
        yield


class Engine:
    """An engine with stock's scheduler, or ours with a recipe.

    Attributes:
        llm: vLLM's engine.
        scheduler: Its scheduler object.
        steps: Steps taken.
    """

    def __init__(self, folder: Path, recipe: str | None, **changed: Any) -> None:
        ours = {
            "scheduler_cls": SCHEDULER_CLASS,
            "additional_config": {"sojourn": {"recipe": recipe, **changed.pop("sojourn", {})}},
        }
        args = EngineArgs(model=str(folder), **{**SMALL, **(ours if recipe else {}), **changed})
        self.llm = LLMEngine.from_engine_args(args)
        self.core = self.llm.engine_core.engine_core
        self.scheduler = self.core.scheduler
        self.steps = 0

    def run(self, workload: Sequence[Asked]) -> dict[int, list[int]]:
        """Serve a workload to its end; return the tokens of those that were not aborted."""
        arriving = sorted(range(len(workload)), key=lambda n: workload[n].step, reverse=True)
        leaving = [n for n, one in enumerate(workload) if one.abort_step is not None]
        leaving.sort(key=lambda n: workload[n].abort_step, reverse=True)
        done: dict[int, list[int]] = {}
        self.steps = 0
        while arriving or leaving or self.llm.has_unfinished_requests():
            assert self.steps < STEPS_MAX, "requests that never end"
            while arriving and workload[arriving[-1]].step <= self.steps:
                at = arriving.pop()
                prompt = {"prompt_token_ids": workload[at].prompt}
                one = workload[at]
                self.llm.add_request(str(at), prompt, one.params, lora_request=one.adapter)
            while leaving and workload[leaving[-1]].abort_step <= self.steps:
                self.llm.abort_request([str(leaving.pop())])
            for output in self.llm.step():
                if output.finished:
                    done[int(output.request_id)] = list(output.outputs[0].token_ids)
            self.steps += 1
        return done

    def leftovers(self) -> dict[str, int]:
        """Return what is still taken though nothing runs; all zero if all is balanced."""
        scheduler = self.scheduler
        pool = scheduler.kv_cache_manager.block_pool
        found = {
            "blocks": pool.num_gpu_blocks - 1 - pool.get_num_free_blocks(),
            "requests": len(scheduler.requests),
            "running": len(scheduler.running),
            "waiting": len(scheduler.waiting),
        }
        host = getattr(scheduler, "host", None)
        if host is not None:
            machine = host.machine
            found |= {
                "parked": len(scheduler.parked),
                "holding": len(scheduler.holding),
                "shed": len(scheduler.shed),
                "live": len(host.by_id),
                "seated": len(machine.seated),
                "paused": len(machine.paused),
                "partial": len(machine.partials),
                "held": len(machine.held),
                "queued": len(machine.queue),
                "delayed": len(machine.delayed),
                "decodes": machine.decodes,
                "context": host.context,
            }
        return found

    def close(self) -> None:
        """Give everything back, so that the next engine can be made in this process."""
        self.llm.engine_core.shutdown()
        del self.llm, self.core, self.scheduler
        gc.collect()


def greedy(max_tokens: int, **more: Any) -> Any:
    """Return parameters of a request for so many of the likeliest tokens."""
    return SamplingParams(
        max_tokens=max_tokens, temperature=0.0, ignore_eos=True, detokenize=False, **more
    )


def mixed_workload(count: int, seed: int, vocabulary: int = 500) -> list[Asked]:
    """Return short and long prompts and answers, some with a common beginning, in bursts."""
    source = random.Random(seed)
    common = [source.randrange(4, vocabulary) for _ in range(96)]
    asked, step = [], 0
    for _ in range(count):
        step += source.choice((0, 0, 1, 2, 6))
        own = [source.randrange(4, vocabulary) for _ in range(source.choice((3, 20, 90, 200)))]
        prompt = common[: source.choice((0, 0, 40, 96))] + own
        asked.append(Asked(step, prompt, greedy(source.choice((1, 8, 30, 80)))))
    return asked
