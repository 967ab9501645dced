"""The engine that a file of coefficients was measured on, in place of flags that were not given."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sojourn.errors import UserError

if TYPE_CHECKING:
    from sojourn.catalog import Gpu, Model
    from sojourn.cli.engine import EngineFlags
    from sojourn.cost import CoefficientFile

NOT_GIVEN: Final = "not given"
BEYOND: Final = 2
"""A step this many times larger than any that was measured is worth a notice."""


def given_flags(values: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the parameters that the user gave, of a command's values by name.

    The command's context must be among them; without one every flag counts as given.
    """
    context = values.get("context")
    if context is None:
        return frozenset(values)
    return frozenset(
        name
        for name in values
        if (source := context.get_parameter_source(name)) is not None and source.name != "DEFAULT"
    )


def with_measured(flags: EngineFlags, given: Container[str]) -> tuple[EngineFlags, list[str]]:
    """Return the flags with what the file of --cost knows in place of defaults, and notices.

    Raises:
        UserError: If neither flags nor file say enough to simulate.
    """
    if flags.cost is None:
        if flags.model is None:
            raise UserError(
                "give --model and --gpu, such as --model llama-3.1-8b --gpu h100-sxm, or --cost "
                "with a file that `sojourn calibrate` wrote"
            )
        return flags, []
    from sojourn.cost import load_coefficients

    file = load_coefficients(flags.cost)
    limits = file.engine.limits()
    blocks = limits.pop("num_gpu_blocks", None)
    filled = replace(flags, **{name: limits[name] for name in limits if name not in given})
    # The number of blocks is that of the measured block size and hardware.
    alike = all(
        limits.get(name, used) == used
        for name, used in (
            ("block_size", filled.block_size),
            ("tensor_parallel_size", filled.tensor_parallel_size),
        )
    )
    if filled.num_gpu_blocks_override is None and alike:
        filled = replace(filled, num_gpu_blocks_override=blocks)
    _check(filled, file)
    return filled, _notices(filled, file)


def engine_names(flags: EngineFlags, model: Model | None, gpu: Gpu | None) -> tuple[str, str]:
    """Return the names of model and GPU; those not given are the ones that were measured."""
    from sojourn.cost import load_coefficients

    measured = ("", "")
    if flags.cost is not None:
        engine = load_coefficients(flags.cost).engine
        measured = (engine.model, engine.gpu)
    return (
        model.name if model is not None else measured[0] or NOT_GIVEN,
        gpu.name if gpu is not None else measured[1] or NOT_GIVEN,
    )


def _check(flags: EngineFlags, file: CoefficientFile) -> None:
    """Refuse what only a model's facts could tell, where no model is given."""
    if flags.model is not None:
        return
    cost = str(flags.cost)
    if flags.gpu is not None or flags.host != "vllm":
        flag = "--gpu" if flags.gpu is not None else f"--host {flags.host}"
        raise UserError(f"{flag} needs the model's facts too: give --model beside --cost {cost}")
    missing = [
        flag
        for flag, value in (
            ("--num-gpu-blocks-override", flags.num_gpu_blocks_override),
            ("--max-model-len", flags.max_model_len),
        )
        if value is None
    ]
    if missing:
        why = (
            "for a block size or a number of GPUs other than its own"
            if file.engine.num_gpu_blocks is not None and missing[0].startswith("--num")
            else "of its engine"
        )
        raise UserError(
            f"{cost!r} does not say enough {why}: give {' and '.join(missing)}, or --model and "
            "--gpu"
        )


def _notices(flags: EngineFlags, file: CoefficientFile) -> list[str]:
    """Return what to say where the simulated engine goes far beyond what was measured."""
    notices = []
    for key, used, what in (
        ("covered_sequences", flags.max_num_seqs, "sequences in a step"),
        ("covered_tokens", flags.max_num_batched_tokens, "tokens in a step"),
    ):
        most = file.fit.get(key)
        if isinstance(most, int) and 0 < most * BEYOND < used:
            notices.append(
                f"the step times were measured with up to {most} {what}; the engine may have "
                f"{used}, for which they are extrapolated"
            )
    return notices
