"""The page "Write a policy", carried out: its files are added to a copy of the package and run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "write-a-policy.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PATH = re.compile(r"`((?:src|tests)/[\w/.-]+)`")


def steps():
    """Yield (path, language, code) of each block under a heading, with the path that it names."""
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        block, path = FENCE.search(section), PATH.search(section)
        if block is not None and path is not None:
            yield path.group(1), block.group(1), block.group(2)


def add_row(table, row):
    """Add a row, and the import of its module, where the alphabet has them."""
    name = re.search(r'"(\w+)"', row).group(1)
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [at for at, line in enumerate(lines) if re.match(r'    "\w+": \(', line)]
    at = next((at for at in rows if lines[at].strip() > row.strip()), rows[-1] + 1)
    lines.insert(at, row)
    text = "".join(lines)
    table.write_text(text.replace("import (\n", f"import (\n    {name},\n", 1), encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Return a copy of the sources with everything done that the page says."""
    root = tmp_path_factory.mktemp("policy")
    skip = shutil.ignore_patterns("__pycache__", ".mypy_cache")
    shutil.copytree(ROOT / "src", root / "src", ignore=skip)
    shutil.copytree(ROOT / "tests" / "tidy", root / "tests" / "tidy", ignore=skip)
    for path, language, code in steps():
        target = root / path
        if target.name == "__init__.py":
            add_row(target, code)
            continue
        assert not (ROOT / path).exists(), f"{path} is part of the package already"
        assert language in ("python", "toml")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(code, encoding="utf-8")
    return root


def test_page_has_its_four_files():
    suffixes = [Path(path).name for path, _, _ in steps()]
    assert suffixes == [
        "shortest_prompt.py",
        "__init__.py",
        "shortest-prompt.toml",
        "test_shortest_prompt.py",
    ]


@pytest.mark.parametrize(
    ("tests", "least"),
    [("policies/test_shortest_prompt.py", 2), ("tidy/test_tidy_policies.py", 60)],
)
def test_policy_runs_and_passes(copy, tests, least):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{tests}"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "src")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) >= least


def test_page_is_linted_and_formatted(copy):
    file = next(path for path, _, _ in steps() if path.endswith("shortest_prompt.py"))
    config = ["--config", str(ROOT / "pyproject.toml")]
    # A method has all arguments of its slot, used or not.
    for command in (["check", "--ignore", "ARG002"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, *config, file]
        done = subprocess.run(ruff, cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
