"""What all pages are made of: their own files, and data that a script may read."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def asset(name: str) -> str:
    """Return the text of one of the pages' own files."""
    return (files(__package__) / "page" / name).read_text(encoding="utf-8")


def script_json(data: Any) -> str:
    """Return JSON that may stand in a script element: no tag can open or close in it."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
