"""Running the command line in this process and in another one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from sojourn.cli.main import main

ENGINE = ("--model", "llama-3.1-8b", "--gpu", "h100-sxm")
CLASSES = (
    *("--slo-class", "interactive:share=0.7,ttft=0.5,tpot=0.05"),
    *("--slo-class", "batch:share=0.3,e2e=60"),
)


@dataclass
class Output:
    code: int
    out: str
    err: str


def run(capsys, *words) -> Output:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return Output(code, captured.out, captured.err)


def start(*words, **environment) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from sojourn.cli.main import run; run()", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def without_timing(document):
    """Return a document less its wall-clock measurements."""
    if isinstance(document, dict):
        return {key: without_timing(one) for key, one in document.items() if key != "timing"}
    if isinstance(document, list):
        return [without_timing(one) for one in document]
    return document
