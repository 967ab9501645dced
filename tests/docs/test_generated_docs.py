"""Pages agree with the code that they describe."""

import re
from pathlib import Path

import pytest

from docs.generate import DOCS, expected
from sojourn.decide.states import NAMES, TRANSITIONS
from sojourn.recipes import fleet_recipe_names, recipe_names

ROOT = DOCS.parent
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NUMBER = re.compile(r"\bINV-\d+\b")


@pytest.mark.parametrize("path", sorted(expected()), ids=lambda path: path.name)
def test_generated_parts_are_current(path):
    assert path.read_text(encoding="utf-8") == expected()[path], "run python -m docs.generate"


def test_diagram_shows_every_state_and_move():
    drawing = (DOCS / "reference" / "state-machine.svg").read_text(encoding="utf-8")
    for name in NAMES:
        assert f">{name}</text>" in drawing
    into = [NAMES[finish] for _, finish in TRANSITIONS]
    assert drawing.count('class="gone"') == into.count("cancelled")
    assert drawing.count('class="moved"') == into.count("new")
    arrows = len(into) - into.count("cancelled") - into.count("new")
    assert drawing.count('class="arrow"') == arrows


def test_every_invariant_is_on_the_page_and_no_other():
    checker = (ROOT / "src" / "sojourn" / "sim" / "check.py").read_text(encoding="utf-8")
    asserted = set(re.findall(r'f?"(INV-\d+)\b', checker))
    page = (DOCS / "reference" / "invariants.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (INV-\d+) \|", page, re.MULTILINE)
    assert rows == [f"INV-{n}" for n in range(1, len(rows) + 1)]
    assert set(rows) == asserted


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_name_recipes_that_exist(path):
    text = path.read_text(encoding="utf-8")
    own = set(re.findall(r"recipes/([a-z0-9-]+)\.toml", text))
    for listed in re.findall(r"--recipes?[ =]([a-z0-9,./_-]+)", text):
        named = {name for name in listed.split(",") if not name.endswith(".toml")}
        assert named <= {*recipe_names(), *fleet_recipe_names(), *own}, listed


def test_pages_hold_no_path_of_one_machine():
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp)/", text), Path(path).name
