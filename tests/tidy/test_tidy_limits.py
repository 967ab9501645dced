"""Sizes, imports and words that the house style fixes."""

import ast
import re
import sys
import tomllib

import pytest
from source_files import PURE, ROOT, SRC, ids, python_files, tree

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 400
COLUMNS_MAX = 100
CORE_LINES_MAX = 2200
"""Of decide and engine: 2,000, a draft over a live engine's blocks, and requests that move."""

IMPURE = {"asyncio", "datetime", "logging", "numpy", "os", "random", "secrets", "time", "uuid"}
SAYS_NOTHING = {"manager", "helper", "util", "handler", "info"}
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
TEXT = ("*.py", "*.md", "*.toml", "*.js", "*.css", "*.html", "*.yaml", "*.cff")
FOLDERS = ("src", "tests", "docs", "benchmarks", ".ci")

FILES = python_files()


@pytest.mark.parametrize("path", FILES, ids=ids(FILES))
def test_file_length(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= FILE_LINES_MAX
    wide = [at for at, line in enumerate(lines, 1) if len(line) > COLUMNS_MAX]
    assert not wide, f"lines over {COLUMNS_MAX} columns: {wide}"


def function_lines(path, function):
    """Return the length of a function; of a verb without its options, which are data."""
    begin = function.body[0].lineno - 1 if path.parent.name == "cli" else function.lineno
    return function.end_lineno - begin + 1


@pytest.mark.parametrize("path", FILES, ids=ids(FILES))
def test_function_length(path):
    long = [
        f"{node.name}: {function_lines(path, node)}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and function_lines(path, node) > FUNCTION_LINES_MAX
    ]
    assert not long


def test_decide_and_engine_stay_small():
    lines = {
        path: path.read_text(encoding="utf-8").count("\n")
        for path in python_files("decide", "engine")
    }
    assert sum(lines.values()) <= CORE_LINES_MAX


def imports(path):
    """Yield the top-level name of every module that a file imports."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module.partition(".")[0]


PURE_FILES = python_files(*PURE)


@pytest.mark.parametrize("path", PURE_FILES, ids=ids(PURE_FILES))
def test_pure_layers_import_no_clock_and_no_dependency(path):
    found = set(imports(path))
    assert not found & IMPURE
    assert found <= {"sojourn", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", FILES, ids=ids(FILES))
def test_names_say_something(path):
    classes = [node.name for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
    for name in (path.stem, path.parent.name, *classes):
        words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)
        singular = {word.lower().removesuffix("s") for word in words}
        assert not singular & SAYS_NOTHING, name


def test_no_unfinished_marks():
    texts = [path for folder in FOLDERS for kind in TEXT for path in (ROOT / folder).rglob(kind)]
    texts += [path for kind in TEXT for path in ROOT.glob(kind)]
    found = [
        f"{path.relative_to(ROOT)}:{at}"
        for path in texts
        if not {".mypy_cache", "_build"} & set(path.parts)
        for at, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert not found


def test_every_module_and_package_says_what_it_is():
    silent = [path for path in FILES if not ast.get_docstring(tree(path))]
    assert not silent
    assert not packages_without_init()


def packages_without_init():
    """Return folders with Python files and no `__init__.py`."""
    return [
        folder
        for folder in {path.parent for path in FILES}
        if folder != SRC and not (folder / "__init__.py").is_file()
    ]


def test_every_ruff_ignore_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ignored = re.search(r"^ignore = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE).group(1)
    per_file = re.search(
        r"^\[tool\.ruff\.lint\.per-file-ignores\]\n(.*?)(?=^\[|\Z)", text, re.DOTALL | re.MULTILINE
    ).group(1)
    bare = [line for line in (ignored + per_file).splitlines() if line.strip() and "#" not in line]
    assert not bare


@pytest.mark.parametrize("file", sorted((SRC / "catalog").glob("*.toml")), ids=lambda f: f.name)
def test_every_catalogue_row_cites_its_source(file):
    for name, row in tomllib.loads(file.read_text(encoding="utf-8")).items():
        cited = row.get("sources") or {"all": row.get("source", "")}
        assert all(len(text) > len("a title") for text in cited.values()), name
