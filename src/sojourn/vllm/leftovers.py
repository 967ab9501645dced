"""Folders of metrics that killed servers left behind: how to know them, and their removal.

An engine that is killed removes nothing. It holds a lock in its folder for as long as it lives,
which the kernel gives up for it whatever its end, also in another container; a number of a process
could be somebody else's by now.
"""

from __future__ import annotations

import os
import shutil
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import Final

NAME: Final = "sojourn-metrics-"
"""How the names of such folders begin."""

MARK: Final = "engine.lock"


def keep_mark(mark: int | None, folder: Path) -> int | None:
    """Return the descriptor that says that a folder is in use, given the one that said so before.

    It says so until it is closed or its process ends. Folders of other names are left unmarked.
    """
    if mark is not None:
        if os.fstat(mark).st_nlink:
            return mark
        os.close(mark)  # somebody removed it
    if not folder.name.startswith(NAME):
        return None
    try:
        mark = os.open(folder / MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        flock(mark, LOCK_SH | LOCK_NB)
    except OSError:
        os.close(mark)
        return None
    return mark


def remove_leftovers(parent: Path) -> int:
    """Remove the marked folders that no process uses; return how many there were."""
    removed = 0
    for mark in sorted(parent.glob(f"{NAME}*/{MARK}")):
        try:
            descriptor = os.open(mark, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # gone meanwhile, or somebody else's
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
            shutil.rmtree(mark.parent, ignore_errors=True)
            removed += not mark.exists()
        except OSError:
            pass  # an engine lives there
        finally:
            os.close(descriptor)
    return removed
