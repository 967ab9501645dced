"""The ends of the command line: words that come in, output that goes out, and what breaks them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

READER_GONE: Final = 1
USER_ERROR: Final = 2
WIDTH_PLAIN: Final = 120
"""Columns where there is no terminal to ask."""


def guarded(command: Callable[[Sequence[str]], int]) -> Callable[[Sequence[str]], int]:
    """Return a command line that ends with one sentence where its streams or files fail.

    A reader that has gone away (`| head`) ends it quietly. Words that are no UTF-8 are refused:
    no report could name such a file.
    """

    @wraps(command)
    def run(words: Sequence[str]) -> int:
        try:
            for word in words:
                if not _is_text(word):
                    _say(f"error: {word!r} is not UTF-8: give the file another name")
                    return USER_ERROR
            code = command(words)
            sys.stdout.flush()
            return code
        except OSError as error:
            _close(sys.stdout)
            if error.errno == errno.EPIPE:
                return READER_GONE
            where = "the output" if error.filename is None else repr(error.filename)
            _say(f"error: cannot read or write {where}: {error.strerror or error}")
            return USER_ERROR

    return run


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _say(sentence: str) -> None:
    """Print a sentence on standard error, if that still works."""
    try:
        print(sentence.encode(errors="backslashreplace").decode(), file=sys.stderr, flush=True)
    except OSError:
        _close(sys.stderr)


def _close(stream: TextIO) -> None:
    """Send what is left in a broken stream nowhere, so that the interpreter can end in peace."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return


def console(*, err: bool = False) -> Console:
    """Return a console that prints texts as they are: no markup, no emoji, no colouring."""
    from rich.console import Console

    made = Console(stderr=err, markup=False, emoji=False, highlight=False)
    if err or made.is_terminal:
        return made
    return Console(markup=False, emoji=False, highlight=False, width=WIDTH_PLAIN)


def plain(text: str) -> Text:
    """Return a text in which nothing is markup, for what parses it whatever the console."""
    from rich.text import Text

    return Text(text)
