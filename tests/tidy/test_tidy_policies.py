"""What every policy file and every recipe looks like."""

import ast
import dataclasses
import re
from importlib import import_module

import pytest
from source_files import SHARED_POLICY_CODE, SRC, ids, policy_files, slot_and_name, tree

from sojourn.policies.tables import SLOTS
from sojourn.recipes import load_recipe, recipe_names

HEADER = ("Source", "Reads", "Memory", "Needs", "Deviations", "Fails when")
POLICY_LINES_MAX = 150
LONGER = {
    "order/skip_join_mlfq.py": "levels, quanta, the starvation scan and their alarms",
    "order/vtc.py": "counters that are settled lazily, and the lift of a returning tenant",
}
FILES = policy_files()
NAMES = [slot_and_name(path) for path in FILES]
every_policy = pytest.mark.parametrize("path", FILES, ids=ids(FILES))


def module_of(path):
    slot, name = slot_and_name(path).removesuffix(".py").split("/")
    return import_module(f"sojourn.policies.{slot}.{name}")


@every_policy
def test_header(path):
    doc = ast.get_docstring(tree(path))
    first, _, rest = doc.partition("\n")
    assert re.fullmatch(r"[^.]+(\.\d[^.]*)*\.", first), f"not one sentence: {first!r}"
    keys = re.findall(r"^([A-Z][a-z ]+):(?= )", rest, re.MULTILINE)
    assert tuple(keys) == HEADER
    assert rest.startswith("\nSource: ")


@every_policy
def test_config(path):
    config = module_of(path).Config
    assert config.__dataclass_params__.frozen
    assert "__slots__" in vars(config)
    fields = dataclasses.fields(config)
    for field in fields:
        assert f"    {field.name}: " in config.__doc__, f"{field.name} is not described"
        assert field.default is not dataclasses.MISSING, f"{field.name} has no published default"
        assert field.type in ("bool", "int", "float", "str"), f"{field.name} is not TOML"
    if any(field.type in ("int", "float") for field in fields):
        assert "__post_init__" in vars(config), "values out of range are not refused"


@every_policy
def test_policy_length(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= POLICY_LINES_MAX or slot_and_name(path) in LONGER


def test_exceptions_are_still_needed():
    assert set(LONGER) <= set(NAMES)
    for name in SHARED_POLICY_CODE:
        source = SRC / "policies" / name
        assert "class Config" not in source.read_text(encoding="utf-8"), f"{name} is a policy"


@every_policy
def test_only_its_own_memory_is_written(path):
    module = tree(path)
    own = {
        statement.target.id
        for node in module.body
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    views = {
        argument.arg
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef)
        for argument in node.args.args
        if argument.annotation is not None and "View" in ast.unparse(argument.annotation)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            text = ast.unparse(node)
            owner = ast.unparse(node.value)
            if owner == "self":
                continue
            assert node.attr in own, f"line {node.lineno}: {text} is not of this file's memory"
            assert owner.rpartition(".")[2] not in {*views, "request"}, (
                f"line {node.lineno}: {text}"
            )
        if isinstance(node, ast.Name):
            assert node.id not in ("setattr", "delattr", "cast"), f"line {node.lineno}: {node.id}"


@every_policy
def test_is_in_its_table(path):
    slot, name = slot_and_name(path).removesuffix(".py").split("/")
    assert name in SLOTS[slot]
    config, policy = SLOTS[slot][name]
    module = module_of(path)
    assert config is module.Config
    assert policy.__module__ == module.__name__
    assert policy.__name__ == "".join(part.title() for part in name.split("_"))


def test_tables_name_files():
    listed = {f"{slot}/{name}.py" for slot, table in SLOTS.items() for name in table}
    assert listed == set(NAMES)


def test_no_policy_inherits_from_another():
    policies = {policy for table in SLOTS.values() for _, policy in table.values()}
    for policy in policies:
        assert not policies & set(policy.__mro__[1:]), policy.__name__


@pytest.mark.parametrize("host", ["vllm", "ideal"])
@pytest.mark.parametrize("name", recipe_names())
def test_recipe_names_policies_and_its_source(name, host):
    recipe = load_recipe(name, host)
    for slot, (policy, config) in recipe.slots.items():
        assert isinstance(config, SLOTS[slot][policy][0])
    assert recipe.title
    assert recipe.summary.endswith(".")
    assert re.search(r"\d{4}|vLLM \d|released code", recipe.source), "no year, version or commit"


def test_tables_are_in_order():
    for slot, table in SLOTS.items():
        assert list(table) == sorted(table), f"the {slot} table is not in order"
