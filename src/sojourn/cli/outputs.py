"""The check of output files before any long work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sojourn.decide.clock import SECOND
from sojourn.errors import UserError

if TYPE_CHECKING:
    from sojourn.report import Window

STREAMED: Final = ("--json", "--html")
"""Outputs that may be a pipe or a terminal, which is written to as it stands."""


def check_outputs(outputs: Mapping[str, Path | None], *inputs: str | Path | None) -> None:
    """Refuse output files that could not be written, or that replace what is read.

    Args:
        outputs: The path of each flag; None where it was not given.
        inputs: The trace first, then other files and folders that are read; words that name
            something else than a path are ignored.

    Raises:
        UserError: Naming the flag.
    """
    seen: dict[Path, str] = {}
    for flag, path in outputs.items():
        if path is None:
            continue
        try:
            _check_place(flag, path)
            resolved = path.resolve()
            if resolved in seen:
                raise UserError(f"{seen[resolved]} and {flag} are the same file, {str(path)!r}")
            for place, read in enumerate(inputs):
                if read and _is_same(path, Path(read)):
                    name = "the trace itself" if place == 0 else f"{str(read)!r}, which is read"
                    raise UserError(f"{flag} {str(path)!r} is {name}; name another file")
            seen[resolved] = flag
            _check_writable(flag, path)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{flag}: cannot write {str(path)!r}: {reason}") from error


def timeline_line(path: Path, window: Window, about: str = "") -> str:
    """Return what is said of a timeline that was written: where it is, and what it leaves out.

    Args:
        path: The file.
        window: What it shows.
        about: Of which run it is; empty where there is only one.
    """
    said = [about] if about else []
    if not window.whole:
        begin, end = (moment / SECOND for moment in (window.begin, window.end))
        said.append(f"{begin:.5g} s to {end:.5g} s of the run, as much as fits")
    if window.left_out:
        shown = len(window.requests)
        said.append(
            f"tracks of {shown:,} of the {shown + window.left_out:,} requests in it, around "
            f"request {window.center}"
        )
    return f"timeline: {path} ({'; '.join([*said, 'open it in ui.perfetto.dev'])})"


def _check_place(flag: str, path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{flag} {str(path)!r} is a directory; name a file")
    if not path.parent.is_dir():
        raise UserError(f"{flag} {str(path)!r}: the directory does not exist; make it first")


def _is_same(path: Path, read: Path) -> bool:
    """Return whether a file is the one that is read, or the description in a model's folder."""
    try:
        if read.is_dir():
            read = read / "config.json"
        if path.exists() and read.exists():
            return path.samefile(read)
        return path.resolve() == read.resolve()
    except OSError:
        return False  # a word that cannot be a path


def _check_writable(flag: str, path: Path) -> None:
    """Try the folder, since rights alone do not tell of a read-only file system."""
    from tempfile import TemporaryFile

    special = path.exists() and not path.is_file()
    if special and flag in STREAMED:
        return
    if special:
        raise OSError("it is neither a file nor new")
    TemporaryFile(dir=path.resolve().parent).close()
