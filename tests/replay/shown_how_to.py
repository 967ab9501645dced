"""The outputs on the how-to page, made anew: `python tests/replay/shown_how_to.py` writes them.

The page's commands run one after another in one folder, since each reads what the one before wrote.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from docs.shown_output import COMMAND, select  # noqa: E402

PAGE = ROOT / "docs" / "how-to" / "calibrate-and-replay.md"
OUTPUT = re.compile(r"(<!-- output: (\w+), ([^>\n]*) -->\n```text\n)(?:.*?)(```\n)", re.DOTALL)


def filled(page: str) -> str:
    """Return the page with every block of output made anew."""
    printed = {}
    with TemporaryDirectory() as folder:
        for name, text in COMMAND.findall(page):
            words = shlex.split(text)[1:]
            command = [sys.executable, "-c", "from sojourn.cli.main import run; run()", *words]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            printed[name] = tuple(line.rstrip() for line in done.stdout.splitlines())

    def block(found: re.Match[str]) -> str:
        head, name, which, tail = found.groups()
        return f"{head}{select(printed[name], which)}\n{tail}"

    return OUTPUT.sub(block, page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
