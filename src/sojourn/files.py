"""Users' files: read with one sentence where that fails, written whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sojourn.errors import UserError


def read_text(path: str | Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        UserError: If it cannot be read or is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {str(path)!r}: it is not UTF-8 text ({error})") from None


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the document in a TOML file.

    Raises:
        UserError: If it cannot be read or is not TOML.
    """
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not valid TOML: {_reason(error)}") from None


def read_json(path: str | Path) -> Any:
    """Return the document in a JSON file.

    Raises:
        UserError: If it cannot be read or is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not valid JSON: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError | tomllib.TOMLDecodeError):
        return str(error)
    return "it has a number of too many digits"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a new file beside `path`, which takes its place when all went well.

    A link stays a link: the file that it leads to is replaced.

    Raises:
        UserError: If the file cannot be written, or is no regular file.
    """
    try:
        target = Path(path).resolve()
        if target.exists() and not target.is_file():
            raise UserError(f"cannot write {str(path)!r}: it is not a regular file")
        # A name of its own: beside a long name there may be no room for an ending.
        part = target.with_name(f".sojourn-{secrets.token_hex(8)}.part")
        try:
            yield part
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text to a file: readers see the old content or the new, never a part.

    A pipe or a terminal cannot be replaced and has no old content: it is written to as it stands.

    Raises:
        UserError: If it cannot be written.
    """
    target = Path(path)
    try:
        if target.exists() and not target.is_file():
            target.write_text(text, encoding="utf-8")
            return
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    with replacing(target) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
