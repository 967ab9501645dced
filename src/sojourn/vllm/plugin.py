"""What vLLM runs in each of its processes: `sojourn` among its `vllm.general_plugins`.

It prepares what the API server and the engine core share, the key of identities and the folder of
metrics, and it does nothing else: a vLLM that serves without our scheduler stays as it is.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
from logging import getLogger
from multiprocessing import parent_process
from pathlib import Path
from typing import Final

from sojourn.vllm.leftovers import NAME, remove_leftovers
from sojourn.vllm.metrics import FOLDER_VARIABLE, FolderCollector

logger = getLogger("sojourn.vllm")

KEY_VARIABLE: Final = "SOJOURN_IDENTITY_KEY"
"""Environment variable with the key that identities are sealed with."""

MADE_UP: Final = "made-up-"
"""How a key begins that no user gave; a server started from another makes up its own."""

SHARED_MEMORY: Final = Path("/dev/shm")

_shown: Final[list[FolderCollector]] = []
"""The collector that this process's registry has, once it has it."""


def register() -> None:
    """Prepare a process of vLLM; never raises, since vLLM would not start."""
    try:
        _prepare()
    except Exception:  # whatever it is, vLLM can serve without metrics of ours
        logger.exception("sojourn: the plugin could not prepare this process")


def _prepare() -> None:
    """Set what the processes below this one inherit, and show its registry the metrics."""
    if _shown:
        return
    is_first = parent_process() is None
    key = os.environ.get(KEY_VARIABLE)
    if not key or (is_first and key.startswith(MADE_UP)):
        os.environ[KEY_VARIABLE] = MADE_UP + secrets.token_hex(24)
    if is_first or FOLDER_VARIABLE not in os.environ:
        folder = _new_folder()
        remove_leftovers(folder.parent)
        os.environ[FOLDER_VARIABLE] = str(folder)
        atexit.register(_remove, os.environ[FOLDER_VARIABLE], os.getpid())
    from prometheus_client import REGISTRY

    _shown.append(FolderCollector(Path(os.environ[FOLDER_VARIABLE])))
    REGISTRY.register(_shown[0])


def identity_key() -> bytes:
    """Return the key that identities are sealed with; empty if the plugin was not loaded."""
    return os.environ.get(KEY_VARIABLE, "").encode()[:64]


def _new_folder() -> Path:
    """Return a path that is not yet taken, in memory where there is such a place."""
    memory = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)
    parent = SHARED_MEMORY if memory else Path(tempfile.gettempdir())
    return parent / f"{NAME}{secrets.token_hex(8)}"


def _remove(folder: str, owner: int) -> None:
    # A forked child runs this too, though the folder is its parent's.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
