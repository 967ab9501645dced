"""A recipe may be run with seats and tokens of its own."""

import json

import pytest

from sojourn.cli.main import main
from sojourn.errors import UserError
from sojourn.recipes import load_recipe

ENGINE = ["--model", "llama-3.1-8b", "--gpu", "a100-80g"]


def test_a_recipe_with_limits_of_its_own_runs_with_them(tmp_path):
    out = tmp_path / "out.json"
    words = ["compare", "sample", *ENGINE, "--limit", "200", "--rate-scale", "6"]
    names = "vllm,vllm@4x2048"
    assert main([*words, "--recipes", names, "--json", str(out)]) == 0
    wide, narrow = json.loads(out.read_text())["results"]
    assert narrow["recipe"] == "vllm@4x2048"
    assert narrow["queue_seconds"]["mean"] > 10 * wide["queue_seconds"]["mean"]


@pytest.mark.parametrize("name", ["vllm@", "vllm@16", "vllm@0x16", "vllm@16x8", "vllm@ax8"])
def test_malformed_limits_are_refused(name):
    with pytest.raises(UserError, match="write SEATSxTOKENS"):
        load_recipe(name)


def test_an_unknown_recipe_with_limits_is_refused():
    with pytest.raises(UserError, match="did you mean 'vllm'"):
        load_recipe("vlm@16x2048")
