"""The mode of the plugin, which a small file switches while the engine runs."""

from __future__ import annotations

import time
from logging import getLogger
from pathlib import Path
from stat import S_ISREG
from typing import Final

MODES: Final = ("act", "shadow", "off")
LOOK_SECONDS: Final = 1.0
"""How often the file is looked at."""

LENGTH_MAX: Final = 64
"""Bytes of it that are read."""

logger = getLogger("sojourn.vllm")


class Mode:
    """What the plugin does: `act`, `shadow` (decide, log, serve stock order) or `off`.

    Attributes:
        file: Its text, if it is one of the modes, is in force; None or a missing file for the mode
            given at start-up.
    """

    def __init__(self, mode: str, file: Path | None) -> None:
        self.given = mode
        self.file = file
        self.current = mode
        self.next_look = 0.0
        self.read: float | None = None

    def now(self) -> str:
        """Return the mode in force; a look at the clock, and at most once a second at the file."""
        if self.file is None:
            return self.given
        seconds = time.monotonic()
        if seconds >= self.next_look:
            self.next_look = seconds + LOOK_SECONDS
            self._look(self.file)
        return self.current

    def _look(self, file: Path) -> None:
        try:
            found = file.stat()
            if found.st_mtime_ns == self.read:
                return
            self.read = found.st_mtime_ns
            text = _text(file) if S_ISREG(found.st_mode) else "(what is no file)"
        except OSError:
            return
        if text in MODES:
            self.current = text
        else:
            logger.warning(
                "sojourn: %s says %.40r; a mode is one of %s: staying in %s",
                file, text, ", ".join(MODES), self.current,
            )  # fmt: skip


def _text(file: Path) -> str:
    """Return the beginning of a file's text, however long it is and whatever it holds."""
    with file.open("rb") as opened:
        return opened.read(LENGTH_MAX).decode("utf-8", "replace").strip()
