"""What a step log says of the engine that it was recorded on."""

from __future__ import annotations

from typing import Any, Final

from sojourn.cost.coefficient_file import MeasuredEngine
from sojourn.errors import UserError
from sojourn.steplog.record import RunRecord
from sojourn.steplog.write import Source

COUNTS: Final = (
    "num_gpu_blocks",
    "block_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "tensor_parallel_size",
)


def recorded_engine(record: RunRecord, source: Source) -> MeasuredEngine:
    """Return the engine of a step log; what the log does not say is left open."""
    limits = source.limits
    counts: dict[str, Any] = {name: limits[name] for name in COUNTS if _is_count(limits.get(name))}
    # vLLM keeps one block for padding, which no request can use and the record does not count.
    counts.setdefault("num_gpu_blocks", record.kv_blocks + 1 if record.kv_blocks > 0 else None)
    caching = limits.get("enable_prefix_caching")
    return MeasuredEngine(
        name=record.engine or record.host,
        model=source.model,
        gpu=source.gpu,
        enable_prefix_caching=caching if isinstance(caching, bool) else None,
        **counts,
    )


def same_engine(engines: dict[str, MeasuredEngine]) -> MeasuredEngine:
    """Return the engine of several logs, by name of the log; where its limits differ, the first's.

    Raises:
        UserError: If the logs are of other hardware, another model or another engine, whose steps
            no single set of coefficients describes.
    """
    (where, first), *others = engines.items()
    for path, other in others:
        for name in ("name", "model", "gpu", "tensor_parallel_size"):
            ours, theirs = getattr(first, name), getattr(other, name)
            if ours != theirs:
                raise UserError(
                    f"{where!r} and {path!r} are not of the same engine ({name} {ours!r} and "
                    f"{theirs!r}): calibrate each by itself"
                )
    return first


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
