"""What `sojourn rollout compare` writes: JSON to a file or standard output, and the page."""

from __future__ import annotations

import json

import pytest
from command_line import ENGINE, run

from sojourn import __version__

SMALL = """
steps = 2
seeds = 1
candidates = ["sync"]

[plan]
batch_groups = 4
rollouts_per_group = 4
tokens_max = 200

[prompts]
file = "own.csv"

[lengths]
wrong_factor = 1.1

[engines]
max_num_seqs = 32
max_model_len = 2048
"""
ROWS = [f"{at % 20},{at % 3 % 2},{min(10 + 7 * at % 60, 50)}" for at in range(80)]
REPLACED = {
    "truth": {"logit_mean", "logit_sd", "domain_sd"},
    "prompts": {"tokens_median", "tokens_sigma_log"},
    "lengths": {"median_tokens", "sigma_log", "tail_share", "tail_alpha", "difficulty_correlation"},
}
"""Keys that measured values take the place of, where the file has all columns."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.csv").write_text("\n".join(["prompt,reward,response_tokens", *ROWS]) + "\n")
    (tmp_path / "own.toml").write_text(SMALL)
    return tmp_path


def compared(capsys, *words):
    done = run(capsys, "rollout", "compare", "own.toml", "--jobs", 1, *words)
    assert done.code == 0, done.err
    return done


def test_a_dash_writes_the_json_to_standard_output_and_nothing_else(folder, capsys):
    before = sorted(one.name for one in folder.iterdir())
    done = compared(capsys, "--json", "-", "--html", "out.html")
    document = json.loads(done.out)
    assert sorted(one.name for one in folder.iterdir()) == sorted([*before, "out.html"])
    assert done.err.startswith("note: ")
    assert done.err.count("\n") == 1
    compared(capsys, "--json", "out.json")
    assert json.loads((folder / "out.json").read_text()) == document


@pytest.mark.parametrize("flag", ["--html", "--timeline", "--json"])
@pytest.mark.parametrize("verb", ["compare", "simulate"])
def test_a_dash_is_no_file_where_the_tables_are_printed(folder, capsys, flag, verb):
    done = run(capsys, verb, "sample", *ENGINE, flag, "-")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"error: {flag} is '-', but standard output is for the verdict and the tables; "
        "name a file\n"
    )
    assert not (folder / "-").exists()


def test_the_page_of_rollouts_does_not_go_to_standard_output(folder, capsys):
    done = run(capsys, "rollout", "compare", "own.toml", "--html", "-")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: --html is '-', ")
    assert not (folder / "-").exists()


def test_json_names_the_file_the_version_and_the_selector_of_the_bound(folder, capsys):
    compared(capsys, "--json", "out.json")
    document = json.loads((folder / "out.json").read_text())
    assert document["sojourn"] == __version__
    assert document["settings"]["prompts"]["file"] == "own.csv"
    assert "file" not in document["settings"]["lengths"]
    selectors = {one["role"]: one["policies"]["select"] for one in document["candidates"]}
    assert selectors["candidate"]["policy"] == "uniform"
    assert selectors["oracle"] == {"policy": "by the truth"}


@pytest.mark.parametrize("columns", ["prompt_tokens", "no prompt_tokens"])
def test_settings_leave_out_what_measured_values_take_the_place_of(folder, capsys, columns):
    gone = dict(REPLACED)
    if columns == "prompt_tokens":
        rows = [f"{row},100" for row in ROWS]
        head = "prompt,reward,response_tokens,prompt_tokens"
        (folder / "own.csv").write_text("\n".join([head, *rows]) + "\n")
    else:
        gone["prompts"] = set()
    settings = json.loads(compared(capsys, "--json", "-").out)["settings"]
    for table, keys in gone.items():
        assert not keys & set(settings[table]), table
    assert settings["lengths"]["wrong_factor"] == 1.1
    assert settings["truth"]["drift_logits"] == 0.005
    assert ("tokens_median" in settings["prompts"]) == (columns == "no prompt_tokens")


def test_settings_without_a_file_hold_every_law(folder, capsys):
    text = SMALL.replace('file = "own.csv"', "count = 50")
    (folder / "own.toml").write_text(text)
    settings = json.loads(compared(capsys, "--json", "-").out)["settings"]
    for table, keys in REPLACED.items():
        assert keys <= set(settings[table]), table
        assert "file" not in settings[table]


def test_a_file_of_lengths_is_named(folder, capsys):
    text = SMALL.replace('file = "own.csv"', "count = 50")
    text = text.replace("wrong_factor = 1.1", 'file = "sample"')
    (folder / "own.toml").write_text(text)
    settings = json.loads(compared(capsys, "--json", "-").out)["settings"]
    assert settings["lengths"]["file"] == "sample"


def test_the_page_says_what_was_measured_and_by_what_the_bound_selects(folder, capsys):
    done = compared(capsys, "--html", "out.html")
    page = (folder / "out.html").read_text()
    measured = next(one for one in done.out.splitlines() if one.startswith("prompts as measured"))
    assert measured.replace("'", "&#x27;") in page
    assert "by the truth" in page
    assert "own.csv" in page
    assert f"<dd>{__version__}</dd>" in page
    assert page.index("prompts as measured") < page.index("<h2>Speed</h2>")


@pytest.mark.parametrize(
    "words", [("report", "log", "--timeline", "-"), ("calibrate", "log", "--out", "-")]
)
def test_an_output_of_another_command_is_a_file(folder, capsys, words):
    before = sorted(folder.iterdir())
    done = run(capsys, *words)
    assert done.code == 2
    assert f"{words[2]} is '-', but standard output is for" in done.err
    assert sorted(folder.iterdir()) == before
