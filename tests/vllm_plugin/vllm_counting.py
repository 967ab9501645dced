"""A scheduler that counts what the engine core generates, in a file that the test can read.

The count does not depend on what reaches the front end.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler

NUMBER = struct.Struct("q")


class CountingScheduler(AsyncScheduler):
    """Stock's scheduler, with a count of new output tokens."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        path = self.vllm_config.additional_config["count_file"]
        with Path(path).open("r+b") as file:
            self.shared = mmap.mmap(file.fileno(), NUMBER.size)
        self.generated = 0

    def update_from_output(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().update_from_output(*args, **kwargs)
        self.generated += sum(
            len(one.new_token_ids) for bundle in outputs.values() for one in bundle.outputs
        )
        NUMBER.pack_into(self.shared, 0, self.generated)
        return outputs


def counted(path: Path) -> int:
    """Return the count of an engine core, also of one that is gone."""
    return int(NUMBER.unpack(path.read_bytes())[0])
