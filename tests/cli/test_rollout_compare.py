"""`sojourn rollout`: a scenario in, a verdict out, and one sentence for what is wrong."""

from __future__ import annotations

import json
import tomllib

import pytest
from command_line import run

from sojourn.sim.rollout.loop import RolloutSimulation

SMALL = """
name = "small"
steps = 4
warmup_steps = 1
seeds = 2
candidates = ["sync", { name = "partial", preset = "april" }]

[plan]
batch_groups = 4
rollouts_per_group = 4
tokens_max = 200

[prompts]
count = 50

[lengths]
median_tokens = 40.0

[engines]
max_num_seqs = 32
max_model_len = 2048
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SMALL)
    (tmp_path / "broken.toml").write_text("steps = ")
    return tmp_path


def test_compare_prints_the_verdict_first_and_writes_files(folder, capsys):
    words = ("--jobs", 1, "--json", "out.json", "--html", "out.html")
    done = run(capsys, "rollout", "compare", "small.toml", *words)
    assert done.code == 0, done.err
    assert done.out.startswith("Verdict: ")
    for name in ("sync", "partial", "(oracle)"):
        assert name in done.out
    document = json.loads((folder / "out.json").read_text())
    assert document["schema"] == "sojourn/rollout-compare/1"
    assert document["complete"]
    assert [one["name"] for one in document["candidates"]] == ["sync", "partial", "oracle"]
    for one in document["candidates"]:
        for seed in one["seeds"]:
            assert seed["generated"] == seed["trained"] + seed["carried"] + seed["discarded"]
    assert document["settings"]["plan"]["batch_groups"] == 4
    assert "Plotly" in (folder / "out.html").read_text()


def test_results_do_not_depend_on_the_number_of_processes(folder, capsys):
    for jobs in (1, 2):
        out = f"{jobs}.json"
        done = run(capsys, "rollout", "compare", "small.toml", "--jobs", jobs, "--json", out)
        assert done.code == 0, done.err
    assert (folder / "1.json").read_bytes() == (folder / "2.json").read_bytes()


def test_the_command_line_may_say_how_many_steps_and_seeds(folder, capsys):
    words = ("--steps", 2, "--seeds", 1, "--jobs", 1, "--json", "out.json")
    done = run(capsys, "rollout", "compare", "small.toml", *words)
    assert done.code == 0, done.err
    settings = json.loads((folder / "out.json").read_text())["settings"]
    assert (settings["steps"], settings["seeds"]) == (2, [0])


def test_the_example_scenario_says_the_defaults_and_is_read(folder, capsys):
    from sojourn.sim.rollout.scenario import scenario_of

    text = run(capsys, "rollout", "scenario").out
    given = scenario_of(tomllib.loads(text), "example", folder)
    usual = scenario_of({}, "empty", folder)
    assert given.world.truth == usual.world.truth
    assert given.world.lengths == usual.world.lengths
    assert given.world.plan == usual.world.plan
    assert given.world.engines.limits == usual.world.engines.limits
    assert given.world.trainer == usual.world.trainer
    assert given.world.tools == usual.world.tools
    assert given.world.rewards == usual.world.rewards
    assert given.world.beliefs == usual.world.beliefs
    assert (given.world.steps, given.world.warmup) == (usual.world.steps, usual.world.warmup)


BAD = [
    ("step = 3", "did you mean 'steps'?"),
    ("steps = 0", "steps is 0; it must be from 1 to"),
    ("steps = 2\nwarmup_steps = 2", "it must be below steps"),
    ("seeds = 0", "seeds is 0; it must be a number of seeds from 1 to"),
    ("seeds = [1, 1]", "seeds names a seed twice"),
    ("seeds = [true]", "seeds is [True]"),
    ("candidates = []", "candidates is []; it must be presets"),
    ('candidates = ["synk"]', "did you mean 'sync'?"),
    ('candidates = ["sync", "sync"]', "two candidates are called 'sync'"),
    ("candidates = [3]", "a candidate is 3"),
    ('candidates = [{ control = "aprill" }]', "did you mean 'april'?"),
    ("candidates = [{ control = [] }]", "has no control"),
    ('candidates = [{ control = { policy = "april", ratio = 0.5 } }]', "control.ratio is 0.5"),
    ('candidates = [{ control = { policy = "april", rat = 2 } }]', "did you mean 'ratio'?"),
    ('candidates = [{ selekt = "uniform" }]', "did you mean 'select'?"),
    ("candidates = [{ plan = { stale = 3 } }]", "did you mean 'staleness_"),
    ("candidates = [{ plan = { tokens_max = 0 } }]", "plan.tokens_max is 0"),
    ('candidates = [{ control = { policy = "april", ratio = "2" } }]', "it must be a number"),
    ('candidates = [{ name = "a", control = { policy = "april", ratio = -1 } }]', "candidate 'a'"),
    ('candidates = [{ name = "(oracle)" }]', "called '(oracle)', as the bounds on selection are"),
    ('candidates = [{ name = "" }]', "it must be a text that is not empty"),
    ("candidates = [{ preset = 3 }]", "name '3': allowed: april, april-1.25, async, dapo"),
    ('baseline = "april-3"', "unknown baseline"),
    ("plan = 3", "plan is 3; it must be a table, [plan]"),
    ("[plan]\nbatch_group = 3", "did you mean 'batch_groups'?"),
    ("[plan]\nbatch_groups = 2.5", "plan.batch_groups is 2.5; it must be a whole number"),
    ("[plan]\nbatch_groups = 0", "plan.batch_groups is 0; it must be at least 1"),
    ("[plan]\ntokens_max = 100000000", "an engine holds"),
    ("[plan]\nbatch_groups = 64\n[prompts]\ncount = 10", "prompts.count is only 10"),
    ("[plan]\nseed = 3", "unknown key plan.seed in bad.toml: name 'seed': did you mean 'seeds'?"),
    ("[plan]\nrollouts_per_group = 1000000000", "is 32000000000; it must be at most 1000000"),
    (
        "candidates = [{ plan = { tokens_max = nan } }]",
        "plan.tokens_max is nan; it must be a",
    ),
    ("candidates = [{ plan = { seed = 1 } }]", "key in the plan of candidate 'sync'"),
    ('[prompts]\nfile = "nope.csv"', "bad.toml: prompts.file: nope.csv: no such file"),
    ("[prompts]\ndomains = { a = 0.0 }", "each share above 0"),
    ("[prompts]\ndomains = 3", "prompts.domains is 3; it must be a table of shares"),
    ("[truth]\nlogit_sd = nan", "truth.logit_sd is nan; it must be a finite number"),
    ("[truth]\nfeature_auc = 0.2", "truth.feature_auc is 0.2; it must be from 0.5"),
    ('[lengths]\nfile = "nope.parquet"', "nope.parquet: no such file"),
    ('[lengths]\nfile = "sample"\nsigma_log = 1.0', "has no effect beside lengths.file"),
    ("[lengths]\nrecorded = [1]", "unknown key lengths.recorded"),
    (
        "[lengths]\nmedian = 3",
        "did you mean 'median_tokens'? allowed: difficulty_correlation, file,",
    ),
    (
        "[prompts]\ncoun = 3",
        "did you mean 'count'? allowed: columns, count, domains, embedding_numbers, file",
    ),
    ('[engines]\nmodel = "lama-3.1-8b"', "did you mean 'llama-3.1-8b'?"),
    ('[engines]\ngpu = "h10-sxm"', "did you mean 'h100-sxm'?"),
    ("[engines]\ncount = 0", "engines.count is 0; it must be from 1"),
    ('[engines]\nrecipe = "vllm-queue-limit"', "engines of a training run need 'accept_all'"),
    ('[engines]\ncost = "x.toml"', "give kv_cache_tokens"),
    ('[trainer]\nsync_mode = "abbort"', "did you mean 'abort'?"),
    ("[trainer]\nupdate_seconds = -1.0", "trainer.update_seconds is -1"),
    ("[tools]\nturns_mean = 0.0", "tools.turns_mean is 0; it must be from 1"),
    ("[[losses]]\nengine = 1", "losses lacks at_seconds; give it"),
    (
        'candidates = ["sync", { name = "b", select = "dots" }]',
        "candidate 'b' in bad.toml: select.dots needs meta['embedding']; prompt 0 has none (in a "
        "scenario, prompts.embedding_numbers",
    ),
    ("[engines]\nkv_cache_tokens = 3", "kv_cache_tokens is 3; it must be at least block_size"),
    ("[[losses]]\nat_seconds = 1.0\nengine = 2", "losses.engine is 2, but engines.count is 1"),
    ("[[losses]]\nat_seconds = -3.0", "losses.at_seconds is -3"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_a_wrong_scenario_is_one_sentence_and_writes_nothing(
    folder, capsys, monkeypatch, text, sentence
):
    monkeypatch.setattr(RolloutSimulation, "run", lambda _: pytest.fail("something ran"))
    (folder / "bad.toml").write_text(text + "\n")
    before = sorted(folder.iterdir())
    done = run(capsys, "rollout", "compare", "bad.toml", "--jobs", 1, "--json", "out.json")
    assert done.code == 2, done.out
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert sentence in done.err
    assert "bad.toml" in done.err, "it does not say where"
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("nope.toml", "cannot read 'nope.toml'"),
        ("broken.toml", "is not valid TOML"),
        ("small.toml --jobs 0", "--jobs is 0; it must be at least 1"),
        ("small.toml --json .", "--json '.' is a directory"),
        ("small.toml --json small.toml", "name another file"),
        ("small.toml --steps 0", "steps is 0"),
        ("small.toml --seeds 0", "seeds is 0"),
    ],
)
def test_wrong_words_are_one_sentence(folder, capsys, words, sentence):
    done = run(capsys, "rollout", "compare", *words.split())
    assert done.code == 2
    assert sentence in done.err
    assert done.err.count("\n") == 1


def test_recorded_rollouts_take_the_place_of_laws(folder, capsys):
    rows = [f"{at % 20},{at % 3 % 2},{min(10 + 7 * at % 60, 50)}" for at in range(80)]
    (folder / "own.csv").write_text("\n".join(["uid,score,tokens", *rows]) + "\n")
    columns = '{ prompt = "uid", reward = "score", response_tokens = "tokens" }'
    own = f'file = "own.csv"\ncolumns = {columns}'
    text = SMALL.replace("count = 50", own).replace("[lengths]\nmedian_tokens = 40.0\n", "")
    (folder / "own.toml").write_text(text)
    done = run(capsys, "rollout", "compare", "own.toml", "--jobs", 1, "--json", "out.json")
    assert done.code == 0, done.err
    assert "prompts as measured: 20 with 80 rollouts, " in done.out
    assert "of the measured lengths are 50, the longest" in done.err
    settings = json.loads((folder / "out.json").read_text())["settings"]
    assert settings["prompts"]["measured"]["rollouts"] == 80
    assert settings["lengths"]["recorded"] == 80
    assert "median_tokens" not in settings["lengths"]


def test_ctrl_c_writes_what_had_ended(folder, capsys, monkeypatch):
    whole, runs = RolloutSimulation.run, []

    def cut_short(simulation):
        runs.append(simulation)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return whole(simulation)

    monkeypatch.setattr(RolloutSimulation, "run", cut_short)
    done = run(capsys, "rollout", "compare", "small.toml", "--jobs", 1, "--json", "out.json")
    assert (done.code, len(runs)) == (130, 2)
    assert done.err == "interrupted: 1 runs had ended\n"
    document = json.loads((folder / "out.json").read_text())
    assert document["complete"] is False


@pytest.mark.parametrize("flag", ["--json", "--html"])
@pytest.mark.parametrize(("table", "key"), [("prompts", "file"), ("lengths", "file")])
def test_no_output_replaces_a_file_that_the_scenario_names(folder, capsys, flag, table, key):
    (folder / "own.csv").write_text("prompt,reward\na,1\n")
    text = SMALL.replace(f"[{table}]", f'[{table}]\n{key} = "own.csv"')
    (folder / "small.toml").write_text(text)
    done = run(capsys, "rollout", "compare", "small.toml", flag, "own.csv")
    assert (done.code, done.out) == (2, "")
    assert "own.csv', which is read; name another file" in done.err
    assert (folder / "own.csv").read_text() == "prompt,reward\na,1\n"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("warmup_steps = 1", 'warmup_steps = "x"', "warmup_steps is"),
        ("[engines]", "[engines]\nload_period_seconds = 1e-9", "must be 0, or at least 0.001"),
        (
            "[engines]",
            "[[losses]]\nat_seconds = 1.0\nengine = 2\n[engines]\ncount = 2",
            "losses.engine is 2, but engines.count is 2",
        ),
        (
            "[engines]",
            "[[losses]]\nat_seconds = 0.1\nengine = 0\nfor_seconds = 0.0\n[engines]\ncount = 1",
            "all engines are lost",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(folder, capsys, old, new, told):
    (folder / "small.toml").write_text(SMALL.replace(old, new, 1))
    done = run(capsys, "rollout", "compare", "small.toml", "--steps", "3", "--jobs", "1")
    assert done.code == 2
    assert told in done.err
    assert done.err.count("\n") == 1
