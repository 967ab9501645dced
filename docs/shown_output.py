"""Writes into README and tutorial what their commands print: `python -m docs.shown_output`.

A command of a page is marked `<!-- command: NAME -->`. A block below `<!-- output: NAME, from: A,
to: B -->` shows its lines from the first that begins with A up to the first that begins with B;
below `<!-- output: NAME, lines: A|B|C -->` those that begin with one of A, B and C, to the end of
their sentence where the program folded them. A TOML or CSV block below `<!-- file: NAME -->` is a
file that the commands of its page find.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

DOCS: Final = Path(__file__).resolve().parent
PAGES: Final = (
    DOCS.parent / "README.md",
    DOCS / "tutorials" / "first-comparison.md",
    DOCS / "how-to" / "compare-fleets.md",
    DOCS / "how-to" / "rollouts.md",
    DOCS / "reference" / "rollout-scenario.md",
)
FILE: Final = re.compile(r"<!-- file: ([\w.-]+) -->\n```(?:toml|text)\n(.*?)```\n", re.DOTALL)
COMMAND: Final = re.compile(r"<!-- command: (\w+) -->\n```sh\n(.+?)\n```\n", re.DOTALL)
OUTPUT: Final = re.compile(
    r"(<!-- output: (\w+), ([^>\n]*) -->\n```text\n)(?:.*?)(\n```\n)", re.DOTALL
)
FOLDED: Final = 100
"""A line that is longer and ends without a full stop goes on in the next one."""


@cache
def printed(arguments: tuple[str, ...], files: tuple[tuple[str, str], ...] = ()) -> tuple[str, ...]:
    """Return the lines that `sojourn` prints, given some arguments and files by name."""
    command = [sys.executable, "-c", "from sojourn.cli.main import run; run()", *arguments]
    with TemporaryDirectory() as folder:
        for name, text in files:
            (Path(folder) / name).write_text(text, encoding="utf-8")
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return tuple(line.rstrip() for line in done.stdout.splitlines())


def select(lines: tuple[str, ...], which: str) -> str:
    """Return the lines that a comment asks for."""
    keys = dict(part.split(": ", 1) for part in which.split(", "))
    if "lines" in keys:
        begins = tuple(keys["lines"].split("|"))
        chosen, folded = [], False
        for line in lines:
            if folded or line.startswith(begins):
                chosen.append(line)
                folded = len(line) > FOLDED and not line.endswith(".")
    else:
        start = next(at for at, line in enumerate(lines) if line.startswith(keys["from"]))
        chosen = list(takewhile(lambda line: not line.startswith(keys["to"]), lines[start:]))
    return "\n".join(chosen).rstrip()


def filled(page: str) -> str:
    """Return the text of a page with every block of output made anew."""
    files = tuple(FILE.findall(page))
    commands = {
        name: tuple(shlex.split(text.replace("\\\n", " ").rpartition("&& ")[2])[1:])
        for name, text in COMMAND.findall(page)
    }

    def block(found: re.Match[str]) -> str:
        head, name, which, tail = found.groups()
        return f"{head}{select(printed(commands[name], files), which)}{tail}"

    return OUTPUT.sub(block, page)


def main() -> None:
    """Write the pages."""
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
