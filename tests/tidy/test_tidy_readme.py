"""The README's commands are those that continuous integration runs."""

import re
import shlex

import pytest
from source_files import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN_LINES = 36
COMMAND = r"<!-- command: {} -->\n```sh\n(.+)\n```\n"


def command(name):
    found = re.findall(COMMAND.format(name), README)
    assert len(found) == 1, f"one command of one line is marked {name!r}"
    return found[0]


@pytest.mark.parametrize("name", ["main", "tests"])
def test_ci_runs_the_readme_command(name):
    assert f"$(readme_command {name})" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert command(name).startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_main_job_is_a_comparison_on_the_bundled_trace():
    words = shlex.split(command("main").rpartition("&& ")[2])
    assert words[:3] == [".venv/bin/sojourn", "compare", "sample"]
    assert "--recipes" in words


def test_last_lines_of_ci_are_those_of_pytest():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    checks = [line for line in lines if line.startswith("check ")]
    assert "readme_command tests" in checks[-1]
    assert command("tests").rpartition("&& ")[2].startswith(".venv/bin/pytest")


def test_first_screen_has_both_commands_and_the_output():
    screen = "\n".join(README.splitlines()[:FIRST_SCREEN_LINES])
    assert command("main") in screen
    assert command("tests") in screen
    assert "<!-- output: main" in screen
    assert "badge" not in README


def test_ci_script_is_executable_and_strict():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
