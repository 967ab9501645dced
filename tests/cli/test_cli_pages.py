from __future__ import annotations

import json

import pytest
from command_line import run, start

from sojourn import __version__
from sojourn.catalog import gpu_names, model_names
from sojourn.cli.policies import LINES, all_pages, parse_header
from sojourn.policies.tables import SLOTS
from sojourn.recipes import fleet_recipe_names, recipe_names


def test_version(capsys):
    assert run(capsys, "--version").out == f"sojourn {__version__}\n"


@pytest.mark.parametrize(
    ("words", "examples"),
    [
        ("--help", ["sojourn compare sample --model llama-3.1-8b", "sojourn trace info sample"]),
        ("compare --help", ["--recipes vllm,fastserve,slo-edf", "--timeline out.perfetto.json"]),
        ("simulate --help", ["--step-log steps.parquet"]),
        ("policies --help", ["sojourn policies skip_join_mlfq"]),
        ("recipes --help", ["sojourn recipes fastserve"]),
        ("trace --help", ["generate"]),
    ],
)
def test_help_teaches_with_examples(capsys, words, examples):
    done = run(capsys, *words.split())
    assert done.code == 0
    for example in examples:
        assert example in done.out


def test_help_shows_every_engine_flag_whole(capsys):
    text = run(capsys, "compare", "--help").out
    for flag in (
        "--tensor-parallel-size",
        "--max-num-seqs",
        "--max-num-batched-tokens",
        "--max-model-len",
        "--block-size",
        "--num-gpu-blocks-override",
        "--gpu-memory-utilization",
        "--enable-prefix-caching",
        "--no-enable-prefix-caching",
    ):
        assert flag in text


def test_policies_are_listed_by_slot(capsys):
    shown = json.loads(run(capsys, "policies", "--json").out)
    assert [(one["slot"], one["name"]) for one in shown] == [
        (slot, name) for slot, table in SLOTS.items() for name in table
    ]
    table = run(capsys, "policies").out
    assert all(one["name"] in table for one in shown)
    only = json.loads(run(capsys, "policies", "--slot", "route", "--json").out)
    assert {one["slot"] for one in only} == {"route"}


def test_every_policy_says_all_that_a_policy_must_say():
    for page in all_pages():
        assert page.summary, page.name
        wanted = {line.lower().replace(" ", "_") for line in LINES}
        assert page.lines.keys() == wanted, page.name
        assert all(one.meaning for one in page.parameters), page.name


def test_a_policy_page_has_everything(capsys):
    shown = json.loads(run(capsys, "policies", "order.skip_join_mlfq", "--json").out)
    assert shown["name"] == "skip_join_mlfq"
    assert shown["source"].startswith("FastServe")
    assert shown["fails_when"].endswith("again.")
    base = shown["parameters"][0]
    assert (base["name"], base["type"], base["default"]) == ("quantum_base_seconds", "float", 0.01)
    page = run(capsys, "policies", "skip_join_mlfq").out
    for text in ("Source: FastServe", "Fails when: ", "quantum_base_seconds = 0.01"):
        assert text in page


def test_a_header_is_parsed_line_by_line():
    text = """One sentence.

    Source: a paper,
        continued.
    Fails when: always: even then.

    More prose.
    """
    assert parse_header(text) == (
        "One sentence.",
        {"source": "a paper, continued.", "fails_when": "always: even then."},
    )


def test_recipes_are_listed_with_what_they_can_run_on(capsys):
    shown = json.loads(run(capsys, "recipes", "--json").out)
    assert [one["name"] for one in shown] == [*recipe_names(), *fleet_recipe_names()]
    by_name = {one["name"]: one for one in shown}
    assert by_name["vllm"]["deployable"]
    assert not by_name["srpt-clairvoyant"]["deployable"]
    assert by_name["fastserve"]["slots"]["order"]["policy"] == "skip_join_mlfq"
    table = run(capsys, "recipes").out
    assert all(name in table for name in (*recipe_names(), *fleet_recipe_names()))
    assert "simulator only" in table


def test_a_recipe_page_follows_the_host(capsys):
    page = run(capsys, "recipes", "fastserve").out
    assert "victim = lowest_rank" in page
    assert "order.quantum_base_seconds = 0.01" in page
    ideal = run(capsys, "recipes", "fastserve", "--host", "ideal").out
    assert "victim = proactive_swap" in ideal
    assert "simulator only" in ideal


def test_the_catalogue_lists_models_and_gpus_and_pages_cite_their_sources(capsys):
    shown = json.loads(run(capsys, "catalog", "--json").out)
    assert [one["name"] for one in shown["models"]] == list(model_names())
    assert [one["name"] for one in shown["gpus"]] == list(gpu_names())
    table = run(capsys, "catalog").out
    assert all(name in table for name in (*model_names(), *gpu_names()))
    page = run(capsys, "catalog", "H100").out
    assert page.startswith("h100-sxm\n")
    assert "flops_per_second = 989" in page
    assert "Sources:\n  data_sheet: NVIDIA H100" in page
    assert json.loads(run(capsys, "catalog", "llama-3.1-8b", "--json").out)["layers"] == 32
    assert "did you mean 'h100-sxm'?" in run(capsys, "catalog", "h10-sxm").err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("compare --model llama-3.1-8", ["llama-3.1-8b"]),
        ("compare --gpu h", ["h100-sxm", "h200"]),
        ("compare --recipes vtc,fa", ["vtc,fastserve"]),
        (
            "compare --recipes vllm,vllm",
            ["vllm,vllm-queue-limit", "vllm,vllm-v0", "vllm,vllm-data-parallel"],
        ),
        ("compare --host i", ["ideal"]),
        ("simulate --recipe fa", ["fastserve"]),
        ("simulate --route least", ["least_connections", "least_load"]),
        ("policies --slot ro", ["route"]),
        ("compare --param route.waiting_w", ["route.waiting_weight="]),
        ("recipes vt", ["vtc"]),
        ("catalog h", ["h100-sxm", "h200"]),
    ],
)
def test_the_shell_completes_names(words, offered):
    words = f"sojourn {words}"
    process = start(
        _SOJOURN_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(words.count(" ")),
    )
    out, _ = process.communicate(timeout=60)
    assert out.split() == offered
