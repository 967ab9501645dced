"""`sojourn mode`: what a running server's scheduler does, changed while it serves."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from sojourn.errors import UserError, unknown

MODES: Final = ("act", "shadow", "off")
"""The recipe decides; it only says what it would have done; vLLM's own order, and no decisions."""

EXAMPLES: Final = """\
\b
Try:
  sojourn mode
  sojourn mode off
  sojourn mode act --port 8001
  sojourn mode shadow --file /run/llm/mode
"""


def mode(
    wanted: Annotated[
        str | None,
        typer.Argument(
            metavar="MODE",
            help="act: the recipe decides; shadow: it decides and logs, vLLM acts by itself; off: "
            "vLLM's own order. Left out: print the mode.",
            show_default=False,
            autocompletion=lambda: list(MODES),
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="The port of `sojourn serve`.")
    ] = 8000,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="The server's mode file, where it was given one by name."),
    ] = None,
) -> None:
    """Print or change what a running server's scheduler does.

    `sojourn mode off` is the kill switch: requests in flight go on under vLLM's own order. The
    server reads the file about once a second; no request is lost by the change.
    """
    path = default_mode_file(port) if file is None else file
    if file is None:
        _check_alive(port, path)
    if wanted is None:
        typer.echo(read_mode(path))
        return
    check_mode("MODE", wanted)
    made = not path.exists()
    write_mode(path, wanted)
    typer.echo(f"mode {wanted}: {path}")
    if made and file is not None:
        typer.echo(
            f"note: {path} was not there before; only a server that was started with that "
            "mode file reads it",
            err=True,
        )


def check_mode(where: str, name: str) -> None:
    """Refuse a word that is no mode.

    Raises:
        UserError: Naming where the word stood and the nearest mode.
    """
    if name not in MODES:
        raise unknown(where, name, MODES)


def default_mode_file(port: int) -> Path:
    """Return the mode file of the server on a port; nothing is made.

    Raises:
        UserError: If the folder for such files belongs to somebody else.
    """
    folder = Path(tempfile.gettempdir()) / f"sojourn-{os.getuid()}"
    if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.getuid()):
        raise UserError(f"{str(folder)!r} is not a folder of yours; give a file by name: --file")
    return folder / f"{port}.mode"


def install_mode_file(path: Path, name: str, default: bool) -> None:
    """Write the mode that a server starts in, in place of what an earlier one left behind.

    Args:
        path: The file.
        name: The mode.
        default: Whether the file is the one that the port stands for; then this process, which is
            about to become the server, is noted beside it.
    """
    if default:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _write(path.with_suffix(".pid"), str(os.getpid()))
    write_mode(path, name)


def read_mode(path: Path) -> str:
    """Return the mode that a file says.

    Raises:
        UserError: If it cannot be read or says something else.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the mode file {str(path)!r}: {_reason(error)}") from error
    check_mode(f"mode in {str(path)!r}", text)
    return text


def write_mode(path: Path, name: str) -> None:
    """Write a mode file as a whole: a reader sees the old word or the new one."""
    _write(path, f"{name}\n")


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(f"cannot write {str(path)!r}: {_reason(error)}") from error


def _check_alive(port: int, path: Path) -> None:
    """Refuse to flip a switch that nothing reads."""
    try:
        pid = int(path.with_suffix(".pid").read_text(encoding="utf-8"))
        os.kill(pid, 0)
    except PermissionError:
        return  # it lives, as somebody else's
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"no server that `sojourn serve` started on port {port} is running here; give --port, "
            "or --file for a server with a mode file of its own"
        ) from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
