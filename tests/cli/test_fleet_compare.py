"""Fleets on the command line: files, like replicas, several designs, money, and refusals."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from command_line import ENGINE, run, without_timing

from docs.shown_output import DOCS, FILE
from sojourn.recipes.fleet import (
    LOST_KEYS,
    MIGRATION_KEYS,
    REPORT_KEYS,
    FaultPlan,
    GroupPlan,
    LinkPlan,
    SpotLogPlan,
)

MODEL = ("--model", "llama-3.1-8b")
FEW = ("--limit", 120, "--rate-scale", 4)
SPLIT = """\
name = "split"
[[replicas]]
role = "prefill"
gpu = "h100-sxm"
[[replicas]]
role = "decode"
count = 2
gpu = "l4"
max_num_seqs = 64
market = "spot"
[[links]]
between = ["prefill", "decode"]
kind = "ethernet"
"""
MIXED = """\
name = "mixed"
[[replicas]]
count = 3
gpu = "l4"
start_seconds = 12
{}
"""
FIXED = """\
name = "fixed"
[[replicas]]
name = "a"
gpu = "l4"
recipe = "vtc"
[route]
policy = "round_robin"
[place]
policy = "llumnix"
[scale]
policy = "fixed"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "split.toml").write_text(SPLIT)
    (tmp_path / "mixed.toml").write_text(MIXED.format(""))
    (tmp_path / "fixed.toml").write_text(FIXED)
    return tmp_path


def results(capsys, *words):
    """Run a comparison and return its document and what it printed."""
    done = run(capsys, "compare", "sample", *MODEL, *words, "--json", "out.json")
    assert done.code == 0, done.err
    return json.loads(Path("out.json").read_text(encoding="utf-8")), done


def test_a_fleet_file_runs_every_recipe_and_is_told_in_full(folder, capsys):
    document, done = results(capsys, "--fleet", "split.toml", "--recipes", "vllm,vtc", *FEW)
    assert [row["recipe"] for row in document["results"]] == ["vllm", "vtc"]
    for row in document["results"]:
        assert row["finished"] == 120
        assert not row["deployable"], "stock engines do not hand over"
    assert document["gpu"] == "h100-sxm + l4"
    (fleet,) = document["limits"]["fleets"]
    prefill, decode = fleet["replicas"]
    assert (prefill["gpu"], prefill["count"], prefill["dollars_per_hour"]) == ("h100-sxm", 1, 4.4)
    assert (decode["gpu"], decode["max_num_seqs"], decode["dollars_per_hour"]) == ("l4", 64, 0.51)
    assert decode["kv_cache_tokens"] < prefill["kv_cache_tokens"]
    assert prefill["start_seconds"] == pytest.approx(5.4, abs=0.1)
    assert fleet["links"][0]["gb_per_second"] == 12.5
    assert "max_num_seqs" not in document["limits"], "it differs between the groups"
    assert document["limits"]["block_size"] == 16
    told = " ".join(done.out.split())
    assert "Fleet split: prefill 1 of h100-sxm (prefill, 256 seats" in told
    assert "decode 2 of l4 (decode, 64 seats" in told
    assert "$0.51/h each" in told


def test_money_is_hours_times_prices(folder, capsys):
    document, done = results(capsys, "--fleet", "split.toml", "--recipes", "vllm", *FEW)
    (row,) = document["results"]
    hours = row["simulated_seconds"] / 3600
    spent = row["fleet"]["dollars"]
    assert spent == pytest.approx(hours * (4.4 + 2 * 0.51), rel=0.02)
    assert "$" in done.out


def test_the_same_fleet_as_a_file_and_as_flags_gives_the_same_rows(folder, capsys):
    flags, _ = results(capsys, "--gpu", "l4", "--replicas", 3, "--recipes", "vllm,least-load", *FEW)
    file, _ = results(capsys, "--fleet", "mixed.toml", "--recipes", "vllm,least-load", *FEW)
    assert [row["fleet"].pop("design") for row in flags["results"]] == ["3 replicas"] * 2
    assert [row["fleet"].pop("design") for row in file["results"]] == ["mixed"] * 2
    assert without_timing(flags["results"]) == without_timing(file["results"])
    assert [row["deployable"] for row in file["results"]] == [True, True]


def test_several_fleets_are_compared_by_design_and_recipe(folder, capsys):
    document, _ = results(
        capsys, "--fleet", "mixed.toml", "--fleet", "split.toml", "--fleet", "fixed.toml",
        "--recipes", "vllm,vtc", "--limit", 60, "--rate-scale", "1,2", "--jobs", 2,
    )  # fmt: skip
    names = ["mixed/vllm", "mixed/vtc", "split/vllm", "split/vtc", "fixed"]
    rows = [(row["rate_scale"], row["recipe"]) for row in document["results"]]
    assert rows == [(rate, name) for rate in (1, 2) for name in names]
    assert [one["stock"] for one in document["verdict"]["by_load"]] == ["mixed/vllm"] * 2
    assert [one["name"] for one in document["limits"]["fleets"]] == ["mixed", "split", "fixed"]


def test_a_load_is_a_share_of_the_first_fleets_capacity(folder, capsys):
    words = ("--recipes", "vllm", "--limit", 60, "--load", 0.5, "--max-num-seqs", 4)
    document, done = results(capsys, "--gpu", "l4", "--replicas", 2, *words)
    assert "capacity of vllm" in done.err
    alone, _ = results(capsys, "--gpu", "l4", *words)
    assert document["capacity_rps"] == pytest.approx(2 * alone["capacity_rps"], rel=0.15)
    split, _ = results(capsys, "--fleet", "split.toml", *words)
    assert split["capacity_rps"] > 0
    assert split["limits"]["loads_are"] == "fractions of the capacity of vllm"


def test_recipes_fill_the_slots_that_a_file_leaves_and_flags_go_above_both(folder, capsys):
    (folder / "routed.toml").write_text(MIXED.format('[route]\npolicy = "least_load"'))
    words = ("--recipes", "vllm,join-shortest-tokens", *FEW)
    file, _ = results(capsys, "--fleet", "mixed.toml", *words)
    assert file["limits"]["route"] == ["round_robin", "join_shortest_tokens"]
    routed, _ = results(capsys, "--fleet", "routed.toml", *words)
    assert routed["limits"]["route"] == "least_load"
    one, other = without_timing(routed["results"])
    assert one["policies"]["route"] == other["policies"]["route"]
    flag, _ = results(capsys, "--fleet", "routed.toml", "--route", "power_of_two", *words)
    assert flag["limits"]["route"] == "power_of_two"
    weighed, _ = results(
        capsys, "--fleet", "routed.toml", "--param", "route.waiting_weight=9", *words
    )
    assert weighed["results"][0]["policies"]["route"]["waiting_weight"] == 9


def test_a_split_recipe_splits_like_replicas(folder, capsys):
    words = ("--gpu", "l4", "--recipes", "distserve", *FEW)
    document, done = results(capsys, "--replicas", 4, "--param", "roles.prefill_share=0.25", *words)
    (row,) = document["results"]
    assert row["finished"] == 120
    assert row["policies"]["roles"]["prefill_share"] == 0.25
    assert "simulator only" in done.out
    assert row["fleet"]["moves"]["handover"]["done"] == 120


def test_faults_are_simulated_and_requests_go_on(folder, capsys):
    (folder / "faults.toml").write_text(
        MIXED.format('[[faults]]\nkind = "crash"\nat_seconds = 4\nreplica = 0\nfor_seconds = 2')
    )
    document, done = results(capsys, "--fleet", "faults.toml", "--recipes", "vllm", *FEW)
    (row,) = document["results"]
    assert row["finished"] == 120
    assert row["fleet"]["lost_requests"] == row["fleet"]["resumed"] > 0
    assert row["fleet"]["replicas"] == 4, "another came for the one that was lost"
    assert "1 fault, requests of lost replicas: resume" in " ".join(done.out.split())


def test_recorded_spot_interruptions_take_replicas(folder, capsys):
    log = '[spot_log]\nname = "aws_g4dn"\nnotice_seconds = 1\nspeed = 2000'
    (folder / "spot.toml").write_text(MIXED.format(log))
    document, done = results(capsys, "--fleet", "spot.toml", "--recipes", "vllm", *FEW)
    (row,) = document["results"]
    assert row["fleet"]["events"]["spot"] > 0
    assert row["finished"] + row["shed"] == 120
    losses = document["limits"]["fleets"][0]["spot_losses"]
    assert losses >= row["fleet"]["events"]["spot"]
    assert f"{losses} spot losses of aws_g4dn" in " ".join(done.out.split())


def test_one_seed_gives_one_result_whatever_the_processes(folder, capsys):
    words = ("--fleet", "mixed.toml", "--recipes", "power-of-two,random", *FEW)
    documents = [results(capsys, *words, "--jobs", jobs, "--seed", 3)[0] for jobs in (1, 2)]
    assert without_timing(documents[0]) == without_timing(documents[1])
    other, _ = results(capsys, *words, "--seed", 4)
    assert without_timing(other["results"]) != without_timing(documents[0]["results"])


def test_simulate_takes_a_fleet_too(folder, capsys):
    done = run(
        capsys, "simulate", "sample", *MODEL, "--fleet", "mixed.toml", "--recipe", "llumnix",
        "--limit", 60, "--timeline", "t.json", "--html", "p.html",
    )  # fmt: skip
    assert done.code == 0
    assert "route llumnix" in " ".join(done.out.split())
    assert json.loads((folder / "t.json").read_text())["traceEvents"]


BAD = [
    ("--fleet nope.toml", "cannot read 'nope.toml'"),
    ("--fleet split.toml --replicas 3", "leave --replicas out"),
    ("--fleet split.toml --fleet split.toml", "are both called 'split'"),
    ("--fleet nogpu.toml", "nogpu.toml: replicas 'replica': there is no gpu"),
    ("--fleet split.toml --recipes vllm@64x512", "which replicas 'decode' of split.toml set too"),
    ("--fleet mixed.toml --recipes distserve", "all replicas of fleet 'mixed' are mixed"),
    ("--gpu l4 --recipes distserve", "give --replicas 2 or more"),
    ("--fleet mixed.toml --route leest_load", "did you mean 'least_load'"),
    ("--fleet mixed.toml --param route.weight=3", "unknown route parameter"),
    ("--fleet big.toml", "big.toml: replicas 'replica': "),
    ("--fleet unpriced.toml", "the catalogue has no price for l40s; give price_per_hour"),
    ("--fleet above.toml", "recipe 'llumnix' decides about the whole fleet (route, place)"),
    ("--fleet log.toml", "log.toml: spot_log: unknown trace in the bundled spot log 'aws_p4'"),
    ("--fleet nvlink.toml", "the link between replica and replica is nvlink, whose rate on l4"),
    ("--fleet nogpu.toml --cost cost.toml --max-model-len 99", "--num-gpu-blocks-override"),
    ("--fleet split.toml --cost cost.toml", "gpu is 'h100-sxm', but --cost gives the step times"),
]


@pytest.mark.parametrize(("words", "sentence"), BAD)
def test_what_cannot_be_is_one_sentence_and_writes_nothing(folder, capsys, words, sentence):
    more = {
        "nogpu": "[[replicas]]\n",
        "big": '[[replicas]]\ngpu = "l4"\ngpu_memory_utilization = 0.1\n',
        "unpriced": '[[replicas]]\ngpu = "l40s"\nmarket = "spot"\n',
        "above": '[[replicas]]\ngpu = "l4"\nrecipe = "llumnix"\n',
        "nvlink": MIXED.format('[[links]]\nbetween = ["replica", "replica"]\nkind = "nvlink"'),
        "log": MIXED.format('[spot_log]\nname = "aws_p4"'),
        "cost": "fixed = 0.005\n",
    }
    for name, text in more.items():
        (folder / f"{name}.toml").write_text(text)
    before = sorted(folder.iterdir())
    done = run(capsys, "compare", "sample", *MODEL, *words.split(), *FEW, "--json", "out.json")
    assert done.code == 2
    errors = [line for line in done.err.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert sentence in errors[0]
    assert sorted(folder.iterdir()) == before


def test_a_fleet_without_a_price_says_so(folder, capsys):
    (folder / "free.toml").write_text('[[replicas]]\ngpu = "l40s"\ncount = 2\n')
    _, done = results(capsys, "--fleet", "free.toml", "--recipes", "vllm", *FEW)
    assert "the catalogue has no price for l40s" in done.err
    _, done = results(capsys, "--gpu", "l40s", "--replicas", 2, "--recipes", "vllm", *FEW)
    assert "the catalogue has no price for l40s: costs are left out" in done.err


def test_replicas_of_one_engine_still_take_a_router(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--replicas", 2, "--route", "least_load", "--recipes", "vllm", *FEW)
    done = run(capsys, "compare", "sample", *ENGINE, *words)
    assert done.code == 0
    assert "route least_load" in " ".join(done.out.split())


def test_the_page_on_fleet_files_names_every_key_and_its_example_runs(folder, capsys):
    page = (DOCS / "reference" / "fleet-file.md").read_text(encoding="utf-8")
    for plan in (GroupPlan, LinkPlan, FaultPlan, SpotLogPlan):
        for field in fields(plan):
            assert f"`{field.name}`" in page, field.name
    for keys, table in (
        (REPORT_KEYS, "reports"),
        (LOST_KEYS, "lost"),
        (MIGRATION_KEYS, "migration"),
    ):
        assert all(f"`{table}.{key}`" in page for key in keys)
    ((name, text),) = FILE.findall(page)
    (folder / name).write_text(text)
    document, _ = results(capsys, "--fleet", name, "--recipes", "vllm", *FEW)
    assert document["results"][0]["finished"] == 120
    assert [one["kind"] for one in document["limits"]["fleets"][0]["faults"]] == ["spot", "cut"]


def test_the_catalogue_shows_prices_with_their_sources(capsys):
    page = json.loads(run(capsys, "catalog", "l4", "--json").out)
    assert page["dollars_per_hour"] == {"on-demand": 1.0, "spot": 0.51}
    assert "spotinfo" in page["sources"]["spot_saving"]
    assert "on-demand 1.0, spot 0.51" in run(capsys, "catalog", "l4").out
