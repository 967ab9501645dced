"""Documents written by hand, with values of the wrong kind, and names that look like markup."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import ENGINE, run

CONFIG = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
}
ROW = '{"timestamp": 0, "input_length": 9, "output_length": 3}'
DEEP = "[" * 100_000


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(done, sentence):
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert sentence in done.err
    assert not done.out


def model(text, capsys):
    Path("config.json").write_text(text)
    words = ("compare", "sample", "--model", "config.json", "--gpu", "h100-sxm", "--limit", 5)
    return run(capsys, *words, "--rate-scale", 1, "--recipes", "vllm", "--quiet")


def test_a_model_with_a_byte_order_mark_is_read(capsys):
    assert model("\ufeff" + json.dumps(CONFIG), capsys).code == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_key_value_heads": "2"}, "num_key_value_heads is '2'; it must be a whole number"),
        ({"head_dim": [16]}, "head_dim is [16]; it must be a whole number"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0; it must be a whole number from 1"),
        ({"max_position_embeddings": 1e6}, "max_position_embeddings is 1000000.0; it must be"),
        ({"max_position_embeddings": -5}, "max_position_embeddings is -5; it must be"),
        ({"num_local_experts": "8"}, "num_local_experts is '8'"),
        ({"num_experts": 8, "num_experts_per_tok": {}}, "num_experts_per_tok is {}"),
        ({"hidden_size": 10**400}, "hidden_size is 1000"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no'; it must be true or false"),
        ({"attention_bias": 1}, "attention_bias is 1; it must be true or false"),
        ({"quantization_config": "fp8"}, "quantization_config is 'fp8'; it must be an object"),
        ({"layer_types": [["full_attention"]]}, "has 'layer_types': only plain"),
        ({"text_config": "inside"}, "is no JSON object"),
        ({"hidden_size": None}, "lacks 'hidden_size'"),
    ],
)
def test_a_model_with_a_wrong_value_is_refused(capsys, changes, sentence):
    refused(model(json.dumps({**CONFIG, **changes}), capsys), sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "is no JSON object: is it a Hugging Face config.json?"),
        ("null", "is no JSON object"),
        (DEEP, "is not valid JSON: it is nested too deeply"),
        ('{"hidden_size": ' + "9" * 5000 + "}", "is not valid JSON: it has a number of too many"),
        ("{", "is not valid JSON"),
    ],
)
def test_a_model_that_is_no_object_is_refused(capsys, text, sentence):
    refused(model(text, capsys), sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('order = "fcfs"', "mine.toml: order is 'fcfs'; it must be a table, [order]"),
        ("host = 3", "mine.toml: host is 3; it must be a table, [host]"),
        ('[host]\nvllm = "x"', "mine.toml: vllm is 'x'; it must be a table"),
        ("[host.ideal]\norder = 5\n[host.vllm]\norder = 4", "order is 4; it must be a table"),
        ("decision = 1e-5", "decision is 1e-05; it must be a table, [decision]"),
        ("[decision]\nstep_seconds = -1", "decision.step_seconds is -1; it must be a number"),
        ("[decision]\nstep_seconds = nan", "decision.step_seconds is nan; it must be a number"),
        ("[decision]\nstep_seconds = 1e300", "decision.step_seconds is 1e+300; it must be"),
        ("[decision]\nstep_seconds = '1'", "decision.step_seconds is '1'; it must be a number"),
        ("[decision]\nstep_seconds = true", "decision.step_seconds is True; it must be a number"),
        ("title = 3", "mine.toml: title is 3; it must be a text"),
        ("kind = ['policy']", "mine.toml: kind is ['policy']; it must be a text"),
        ("[order]\npolicy = ['fcfs']", "order.policy is ['fcfs']; it must be a text"),
        ("[order]\npolicy = 'vtc'\ninput_price = [1]", "order.input_price is [1]; it must be"),
        (f"[order]\npolicy = 'vtc'\ninput_price = {10**400}", "it must be a number"),
        (f"x = {DEEP}", "is not valid TOML: it is nested too deeply"),
        ("x = " + "9" * 5000, "is not valid TOML: it has a number of too many digits"),
        ("x = ", "is not valid TOML"),
    ],
)
def test_a_recipe_with_a_wrong_value_is_refused(capsys, text, sentence):
    Path("mine.toml").write_text(text)
    refused(run(capsys, "recipes", "mine.toml"), sentence)


def test_a_recipe_with_a_byte_order_mark_is_read_and_one_in_another_code_refused(capsys):
    Path("mine.toml").write_text("\ufefftitle = 'Mine'")
    assert "Mine" in run(capsys, "recipes", "mine.toml").out
    Path("mine.toml").write_bytes("title = 'Ä'".encode("latin-1"))
    refused(run(capsys, "recipes", "mine.toml"), "cannot read 'mine.toml': it is not UTF-8 text")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["null", ROW], "line 1: it must be a JSON object"),
        ([ROW, "null"], "line 2: it must be a JSON object"),
        ([ROW, f"{ROW} null"], "line 2: not valid JSON"),
        ([ROW, "", f"[{ROW}]"], "line 3: it must be a JSON object"),
        ([ROW, '{"timestamp": ' + DEEP], "line 2: not valid JSON (nested too deeply)"),
        ([ROW, '{"timestamp": ' + "9" * 5000 + ' "x"}'], "line 2: not valid JSON (a number"),
        ([ROW, ROW.replace("9", "9" * 5000)], "line 2: input_length is inf; it must be"),
        ([ROW, '{"timestamp": 1, "x": 2}'], "line 2: missing fields input_length, output_length"),
    ],
)
def test_lines_that_are_no_objects_are_named(capsys, lines, sentence):
    Path("trace.jsonl").write_text("\n".join(lines))
    refused(run(capsys, "trace", "info", "trace.jsonl", "--format", "mooncake"), sentence)


def test_lines_behind_a_byte_order_mark_and_blanks_are_read(capsys):
    Path("trace").write_text(f"\ufeff{ROW}\n \n  {ROW}  \n")
    assert json.loads(run(capsys, "trace", "info", "trace", "--json").out)["requests"] == 2


def test_session_ids_that_are_no_text_are_refused(capsys):
    columns = {"prompt_tokens": [1, 1], "output_tokens": [1, 1], "arrival_s": [0.0, 1.0]}
    for ids, readable in (([b"a", b"b"], True), ([b"\xff\xfe", b"b"], False)):
        table = pa.table({**columns, "session_id": pa.array(ids, pa.binary())})
        pq.write_table(table, "trace.parquet")
        done = run(capsys, "trace", "info", "trace.parquet", "--json")
        if readable:
            assert json.loads(done.out)["sessions"] == 2
        else:
            refused(done, "column session_id holds binary that is no UTF-8 text")


def test_names_that_look_like_markup_are_printed_as_they_are(capsys):
    columns = {"prompt_tokens": [9, 9, 9], "output_tokens": [4, 4, 4], "arrival_s": [0.0, 1.0, 2.0]}
    names = {"tenant": "[bold]t", "model": "[/m]", "slo_class": "[/x] :smile:"}
    table = pa.table({**columns, **{key: [name, name, "b"] for key, name in names.items()}})
    pq.write_table(table, "[red]a[bold].parquet")
    shown = run(capsys, "trace", "info", "[red]a[bold].parquet")
    assert shown.code == 0
    for text in ("[red]a[bold]", "[/m]", "[/x] :smile:"):
        assert text in shown.out
    words = ("[red]a[bold].parquet", *ENGINE, "--rate-scale", "1,2", "--html", "out.html")
    for verb in (("compare", "--recipes", "vllm,vtc"), ("simulate", "--rate-scale", 1)):
        done = run(capsys, verb[0], *words, *verb[1:])
        assert done.code == 0
        assert "[red]a[bold] on llama" in done.out
        assert "[/x]" in done.out
        assert ":smile:" in done.out
        assert "&lt;" not in done.out
    assert "[/x] :smile:" in Path("out.html").read_text()
