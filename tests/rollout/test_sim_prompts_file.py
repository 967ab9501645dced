"""Files of measured prompts: three forms that say the same, and one sentence for what is wrong."""

from __future__ import annotations

import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from measured_worlds import ROWS, read, write_csv, write_lines

from sojourn.errors import UserError
from sojourn.rollout.plan import Plan
from sojourn.sim.rollout.measured import MeasuredPrompt
from sojourn.sim.rollout.offered import lengths_of, prompts_of, truth_of
from sojourn.sim.rollout.truth import Truth, TruthPlan

SMALL = Plan(batch_groups=2)


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
    plan = prompts_of({"prompts": {"file": "x.csv", "columns": names}}, "s", tmp_path, SMALL)
    assert (plan.count, plan.domains) == (2, {"code": 0.5, "maths": 0.5})
    lengths = lengths_of({"lengths": {"median_tokens": 9.0}}, "s", tmp_path, plan.measured)
    assert lengths.recorded == ()
    world = Truth(plan, TruthPlan(), lengths, 1.0, 0)
    assert [(one.tokens, one.domain) for one in world.prompts] == [(90, "code"), (30, "maths")]
    assert world.probability(1) > world.probability(0)


def test_an_unnamed_column_and_empty_lines_are_passed_over(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("\n,prompt,reward\n0,a,1\n\n1,b,True\n2,a,0\n")
    assert [one.successes for one in read(path).prompts] == [1.0, 1.0]


def test_rewards_go_by_the_plan(tmp_path):
    write_lines(tmp_path / "x.jsonl", [{**row, "reward": 2 * row["reward"] - 1} for row in ROWS])
    plan = Plan(reward_low=-1.0, batch_groups=2)
    found = prompts_of({"prompts": {"file": "x.jsonl"}}, "s", tmp_path, plan)
    assert found.measured.prompts[0].successes == 1.0


BAD = [
    ("", "no rows in it"),
    ("prompt,reward\n", "no rows in it"),
    ("prompt,score\na,1\n", "neither reward nor pass_rate; a row is either"),
    ("prompt,reward,pass_rate\na,1,1\n", "both reward and pass_rate"),
    ("id,reward\na,1\n", "lacks the column prompt; if it has another name there, say so"),
    ("prompt,pass_rate\na,1\n", "lacks the column rollouts"),
    ("prompt,reward\na,nan\n", "line 2: reward is 'nan'; it must be a number from 0 to 1 "),
    (
        "prompt,reward\na,yes\n",
        "reward is 'yes'; it must be a number from 0 to 1 (or true or false), as plan.reward_low",
    ),
    ("prompt,reward\na,10\n", "line 2: reward is '10'"),
    ("prompt,reward\na,good\n", "reward is 'good'"),
    ("prompt,reward\na\n", "line 2: fewer fields than the header names"),
    ("prompt,reward\na,1,1\n", "line 2: more fields than the header names"),
    ("prompt,reward\n,1\n", "line 2: prompt is empty"),
    ("prompt,reward,reward\na,1,0\n", "the header names reward twice"),
    ("prompt,reward,response_tokens\na,1,0\n", "is '0'; it must be a number from 1 to 10,000,000"),
    ("prompt,reward,response_tokens\na,1,2.5\n", "is 2.5; it must be a whole number"),
    ("prompt,pass_rate,rollouts\na,50,8\n", "pass_rate is '50'; it must be a number from 0 to 1"),
    ("prompt,pass_rate,rollouts\na,1,8\na,1,8\n", "line 3: prompt 'a' stands there a second"),
    ("prompt,reward,domain\na,1,x\na,1,y\n", "line 3: prompt 'a' is of domain 'y'"),
    ('{"prompt": 1, "reward": true}\n[1]\n', "line 2: it must be a JSON object"),
    ('{"prompt": 1, "reward": true}\n{"prompt": \n', "line 2: not valid JSON"),
    ('{"prompt": 1, "reward": true}\n{"prompt": 2}\n', "line 2: reward is empty"),
    ('{"prompt": 1, "reward": [1]}\n', "line 1: reward is [1]"),
    ('{"prompt": 1, "reward": 1' + "0" * 400 + "}\n", "it must be a number from 0 to 1"),
    ('\n\n{"prompt": 1, "reward": true}\n{"prompt": 2}\n', "line 4: reward is empty"),
    ("\n\nprompt,reward\na,2\n", "line 4: reward is '2'"),
    ("\n\nprompt,reward\na,1,1\n", "line 4: more fields than the header names"),
    ('[{"prompt": 1, "reward": 1}]', "a JSON array; give one object a line instead"),
    ('[\n  {"prompt": 1, "reward": 1}\n]\n', "a JSON array; give one object a line instead"),
    ("prompt,rewrd\na,1\n", "it has prompt, rewrd; did you mean reward by 'rewrd'?"),
    ("Prompt,reward\na,1\n", "it has Prompt, reward; did you mean prompt by 'Prompt'?"),
    ("prompt,pass_rate,rollout\na,1,4\n", "did you mean rollouts by 'rollout'?"),
    ('{"prompt": "\\ud800", "reward": 1}\n', "line 1: prompt is '\\ud800'; it holds half of"),
    (
        '{"prompt": 1, "reward": 1, "domain": "a"}\n'
        '{"prompt": 1, "reward": 1, "domain": "\\udc00"}\n',
        "line 2: domain is '\\udc00'; it holds half of a surrogate pair",
    ),
    ('{"prompt": "a", "score\\ud800": 1}\n', "it has prompt, score\\ud800"),
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


def test_what_an_ending_says_is_answered(tmp_path):
    allowed = "; it must be CSV (.csv, .tsv), JSON Lines (.jsonl) or Parquet (.parquet)"
    for name, content, end in (
        ("x.xlsx", b"\n", f"no rows in it{allowed}"),
        ("y.xlsx", b"PK\x03\x04\x14\x00\x06\x00", f"neither CSV nor JSON lines{allowed}"),
        ("x.csv", b"\n", "no rows in it"),
        ("x.csv.gz", b"", "no rows in it"),
        ("x", b"", "no rows in it"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as caught:
            read(tmp_path / name)
        assert str(caught.value).endswith(end)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (
            "prompt,reward,response_tokens\na,1,5\nb,0,9\n",
            "roll each prompt out at least twice, give pass rates with their numbers of rollouts, "
            "or leave prompts.file out and set [truth]",
        ),
        (
            "prompt,pass_rate,rollouts\na,1,1\nb,0,1\n",
            "roll each prompt out at least twice, or leave prompts.file out and set [truth]",
        ),
    ],
)
def test_one_rollout_for_each_prompt_is_refused(tmp_path, text, end):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(UserError, match="no prompt in it has two rollouts") as caught:
        read(path)
    assert str(caught.value).endswith(end)


BEYOND = {  # what Python has no values for, or no time zone of this name
    "nanoseconds": pa.array([1, 2, 3], pa.timestamp("ns")),
    "span": pa.array([1, 2, 3], pa.duration("ns")),
    "day": pa.array([2**31 - 1] * 3, pa.int32()).cast(pa.date32()),
    "zoned": pa.array([1, 2, 3], pa.timestamp("us", tz="Mars/Phobos")),
    "late": pa.array([2**62] * 3, pa.timestamp("us", tz="UTC")),
}


@pytest.mark.parametrize("name", BEYOND)
def test_columns_of_parquet_that_nobody_asked_for_are_not_read(tmp_path, name):
    path = tmp_path / "x.parquet"
    table = pa.Table.from_pylist(ROWS).append_column(name, BEYOND[name])
    pq.write_table(table, path)
    assert read(path) == read(write_csv(tmp_path / "x.csv", ROWS))
    with pytest.raises(UserError, match=rf"x.parquet: row 1: {name} is of type .* cannot be read"):
        read(path, domain=name)


def test_values_of_parquet_are_named_by_their_row(tmp_path, monkeypatch):
    monkeypatch.setattr("sojourn.sim.rollout.prompts_file.BATCH_ROWS", 2)
    days = pa.array([0, 1, 2**31 - 1], pa.int32()).cast(pa.date32())
    pq.write_table(pa.Table.from_pylist(ROWS).append_column("day", days), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="row 3: day is of type date32"):
        read(tmp_path / "x.parquet", domain="day")


def test_long_texts_beside_the_rollouts_take_no_memory(tmp_path):
    texts = pa.array(["x" * 20_000] * 300 * len(ROWS))
    table = pa.Table.from_pylist(ROWS * 300).append_column("response", texts)
    pq.write_table(table, tmp_path / "x.parquet")
    del texts, table
    tracemalloc.start()
    try:
        read(tmp_path / "x.parquet")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000, "18 MB of texts are in the file"


def test_a_name_that_two_columns_of_parquet_have_is_refused(tmp_path):
    table = pa.table([["a"], [1.0], [0.0]], names=["prompt", "reward", "reward"])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(UserError, match="the header names reward twice"):
        read(tmp_path / "x.parquet")


def test_a_parquet_name_with_a_dot_is_that_column(tmp_path):
    rows = [{"a.b": one["reward"], "a": {"b": "x"}, "prompt": one["prompt"]} for one in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet", reward="a.b").prompts[0].successes == 1.0


def test_a_file_with_fewer_prompts_than_a_batch_is_said_to_be(tmp_path):
    (tmp_path / "x.csv").write_text("prompt,reward\na,1\na,0\n")
    given = {"prompts": {"file": "x.csv"}}
    with pytest.raises(UserError) as caught:
        prompts_of(given, "s.toml", tmp_path, Plan())
    assert str(caught.value).startswith(
        "s.toml: prompts.file has 1 prompt, but a batch needs plan.batch_groups = 32; give more"
    )
    assert prompts_of(given, "s.toml", tmp_path, Plan(batch_groups=1)).count == 1
    often = {"prompts": {"file": "x.csv", "count": 40}}
    assert prompts_of(often, "s.toml", tmp_path, Plan()).count == 40
    own = {**given, "candidates": ["sync", {"preset": "sync", "plan": {"batch_groups": 1}}]}
    assert prompts_of(own, "s.toml", tmp_path, Plan()).count == 1


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
    prompts = prompts_of(document, "s.toml", folder, SMALL)
    truth = truth_of(document, "s.toml", prompts.measured)
    return prompts, truth, lengths_of(document, "s.toml", folder, prompts.measured)
