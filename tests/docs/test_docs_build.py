"""The documentation builds without a warning."""

import subprocess
import sys

import pytest

from docs.generate import DOCS

REFERENCE = ("cli", "policies", "recipes", "state-machine", "invariants", "engine-model")


def test_docs_build_without_warnings(tmp_path):
    for package in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(package, reason="the docs extra is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "doctrees"), str(DOCS), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in REFERENCE:
        assert (tmp_path / "html" / "reference" / f"{page}.html").is_file()
