"""Errors that are the user's to mend: one clear sentence each."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

SHOWN_LENGTH: Final = 60


class UserError(Exception):
    """Something the user gave is wrong; the message is one sentence that says what and where.

    The command line prints the sentence and exits with code 2, without a traceback.
    """


def shown(value: object) -> str:
    """Return a value as a message may show it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN_LENGTH else f"{text[: SHOWN_LENGTH - 3]}..."


def unknown(kind: str, name: str, allowed: Iterable[str]) -> UserError:
    """Return the error for a name that is not among `allowed`, naming the nearest valid one."""
    names = sorted(allowed)
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown {kind} {name!r}: {hint}allowed: {', '.join(names)}")
