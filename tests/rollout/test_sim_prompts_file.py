"""Files of measured prompts: three forms that say the same, and one sentence for what is wrong."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from measured_worlds import ROWS, read, write_csv, write_lines

from sojourn.errors import UserError
from sojourn.rollout.plan import Plan
from sojourn.sim.rollout.measured import MeasuredPrompt
from sojourn.sim.rollout.offered import lengths_of, prompts_of, truth_of
from sojourn.sim.rollout.truth import Truth, TruthPlan


def test_csv_json_lines_and_parquet_say_the_same(tmp_path):
    lines = write_lines(tmp_path / "x.jsonl", ROWS)
    table = write_csv(tmp_path / "x.csv", ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "x.parquet")
    found = read(lines)
    assert found.prompts[0] == MeasuredPrompt(1.0, 2, 0, "", ((10, True), (30, False)))
    assert found == read(table) == read(tmp_path / "x.parquet")
    assert found.wrong_factor == pytest.approx(3.0)


def test_a_row_for_each_prompt(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id;rate;n;prompt_tokens;domain\n7;0.25;8;90;code\n8;1.0;4;30;maths\n")
    names = {"prompt": "id", "pass_rate": "rate", "rollouts": "n"}
    found = read(path, **names)
    assert found.prompts == (
        MeasuredPrompt(2.0, 8, 90, "code"),
        MeasuredPrompt(4.0, 4, 30, "maths"),
    )
    assert not found.has_lengths
    plan = prompts_of({"prompts": {"file": "x.csv", "columns": names}}, "s", tmp_path, Plan())
    assert (plan.count, plan.domains) == (2, {"code": 0.5, "maths": 0.5})
    lengths = lengths_of({"lengths": {"median_tokens": 9.0}}, "s", tmp_path, plan.measured)
    assert lengths.recorded == ()
    world = Truth(plan, TruthPlan(), lengths, 1.0, 0)
    assert [(one.tokens, one.domain) for one in world.prompts] == [(90, "code"), (30, "maths")]
    assert world.probability(1) > world.probability(0)


def test_an_unnamed_column_and_empty_lines_are_passed_over(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("\n,prompt,reward\n0,a,1\n\n1,b,True\n")
    assert [one.successes for one in read(path).prompts] == [1.0, 1.0]


def test_rewards_go_by_the_plan(tmp_path):
    write_lines(tmp_path / "x.jsonl", [{**row, "reward": 2 * row["reward"] - 1} for row in ROWS])
    found = prompts_of({"prompts": {"file": "x.jsonl"}}, "s", tmp_path, Plan(reward_low=-1.0))
    assert found.measured.prompts[0].successes == 1.0


BAD = [
    ("", "no rows in it"),
    ("prompt,reward\n", "no rows in it"),
    ("prompt,score\na,1\n", "neither reward nor pass_rate; a row is either"),
    ("prompt,reward,pass_rate\na,1,1\n", "both reward and pass_rate"),
    ("id,reward\na,1\n", "lacks the column prompt; if it has another name there, say so"),
    ("prompt,pass_rate\na,1\n", "lacks the column rollouts"),
    ("prompt,reward\na,nan\n", "line 2: reward is 'nan'; it must be from 0 to 1, as plan.reward"),
    ("prompt,reward\na,10\n", "line 2: reward is '10'"),
    ("prompt,reward\na,good\n", "reward is 'good'"),
    ("prompt,reward\na\n", "line 2: fewer fields than the header names"),
    ("prompt,reward\na,1,1\n", "line 2: more fields than the header names"),
    ("prompt,reward\n,1\n", "line 2: prompt is empty"),
    ("prompt,reward,reward\na,1,0\n", "the header names reward twice"),
    ("prompt,reward,response_tokens\na,1,0\n", "response_tokens is '0'; it must be from 1"),
    ("prompt,reward,response_tokens\na,1,2.5\n", "is 2.5; it must be a whole number"),
    ("prompt,pass_rate,rollouts\na,50,8\n", "pass_rate is '50'; it must be from 0 to 1"),
    ("prompt,pass_rate,rollouts\na,1,8\na,1,8\n", "line 3: prompt 'a' stands there a second"),
    ("prompt,reward,domain\na,1,x\na,1,y\n", "line 3: prompt 'a' is of domain 'y'"),
    ('{"prompt": 1, "reward": true}\n[1]\n', "line 2: it must be a JSON object"),
    ('{"prompt": 1, "reward": true}\n{"prompt": \n', "line 2: not valid JSON"),
    ('{"prompt": 1, "reward": true}\n{"prompt": 2}\n', "line 2: reward is empty"),
    ('{"prompt": 1, "reward": [1]}\n', "line 1: reward is [1]"),
    ('{"prompt": 1, "reward": 1' + "0" * 400 + "}\n", "it must be from 0 to 1"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_a_wrong_file_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "x.txt"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_said(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\xff\xfe\x00prompt")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    for name, sentence in (
        ("nope.csv", "no such file"),
        (".", "not a file"),
        ("x.bin", "not a text file"),
        ("x.parquet", "cannot be read"),
    ):
        with pytest.raises(UserError, match=sentence):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"truth": {"logit_sd": 1.0}}, "truth.logit_sd has no effect beside prompts.file"),
        ({"lengths": {"sigma_log": 1.0}}, "lengths.sigma_log has no effect beside prompts.file"),
        ({"lengths": {"file": "sample"}}, "lengths.file has no effect beside prompts.file"),
        ({"prompts": {"columns": {"score": "x"}}}, "unknown key prompts.columns.score"),
        ({"prompts": {"columns": {"reward": "x"}}}, "unknown column of"),
        ({"prompts": {"columns": {"reward": 3}}}, "prompts.columns.reward is 3"),
        ({"prompts": {"columns": 3}}, "prompts.columns is 3; it must be a table"),
        ({"prompts": {"file": 3}}, "prompts.file is 3; it must be a text"),
        ({"prompts": {"measured": 3}}, "unknown key prompts.measured"),
        ({"prompts": {"file": None, "columns": {}}}, "no effect without prompts.file"),
    ],
)
def test_what_the_file_says_is_not_said_twice(tmp_path, document, sentence):
    write_csv(tmp_path / "x.csv", ROWS)
    prompts = {"file": "x.csv", **document.get("prompts", {})}
    document = {**document, "prompts": {k: v for k, v in prompts.items() if v is not None}}
    with pytest.raises(UserError, match=sentence):
        offered_of(document, tmp_path)


def offered_of(document, folder):
    prompts = prompts_of(document, "s.toml", folder, Plan())
    truth = truth_of(document, "s.toml", prompts.measured)
    return prompts, truth, lengths_of(document, "s.toml", folder, prompts.measured)
