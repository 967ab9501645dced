from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sojourn.errors import UserError
from sojourn.trace import describe_trace, detect_format, read_trace

AZURE_2023 = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:05,110,0
2023-11-16 18:17:06.9799600,7,27
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:01+00:00,2399,6
"""
BURST_1 = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,0,1087,Conversation log
118,GPT-4,417,276,693,API log
"""
BURST_2 = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log
100,7,4.5,ChatGPT,10,18,28,x
102,,1,GPT-4,30,5,35,x
110,7,2,ChatGPT,40,20,60,x
111,7,2,ChatGPT,70,20,90,x
"""
MOONCAKE = """{"timestamp": 0, "input_length": 655, "output_length": 52, "hash_ids": [0, 1]}
{"timestamp": 105, "input_length": 1024, "output_length": 26, "hash_ids": [0, 3], "type": "x"}
"""
BLOCKS = """{"arrival_s": 0.25, "prompt_tokens": 40, "output_tokens": 5, "block_ids_16": [5, 6]}
{"arrival_s": 0.5, "prompt_tokens": 41, "output_tokens": 6, "block_ids_16": [5, 6, 9]}
"""


@pytest.fixture
def put(tmp_path):
    def write(name, content):
        path = tmp_path / name
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)
        return path

    return write


def columns(**more):
    base = {"arrival_s": [0.0, 1.0], "prompt_tokens": [5, 600], "output_tokens": [1, 2]}
    return {**base, **more}


def table(block_tokens=None, **more):
    metadata = {} if block_tokens is None else {"block_tokens": block_tokens}
    return pa.table(columns(**more)).replace_schema_metadata(metadata)


def test_azure_2023(put):
    trace = read_trace(put("conv.csv", AZURE_2023))
    assert trace.name == "conv"
    assert trace.arrival_seconds.tolist() == [0.0, 0.052, 3.0]
    assert trace.prompt_tokens.tolist() == [4808, 3180, 7]
    assert trace.output_tokens.tolist() == [10, 8, 27]
    assert trace.notices == ("1 row of length 0 (failed calls) dropped",)


def test_azure_2024_has_a_zone_and_times_without_fraction(put):
    trace = read_trace(put("code.csv", AZURE_2024))
    assert trace.arrival_seconds.tolist() == pytest.approx([0.0, 0.99007], abs=1e-9)


def test_limit_counts_requests_not_rows(put):
    assert len(read_trace(put("a.csv", AZURE_2023), limit=3)) == 3
    trace = read_trace(put("a.csv", AZURE_2023), limit=2)
    assert (len(trace), trace.notices) == (2, ())


def test_burstgpt(put):
    trace = read_trace(put("BurstGPT_1.csv", BURST_1))
    assert trace.arrival_seconds.tolist() == [0, 113]
    assert trace.models == ("ChatGPT", "GPT-4")
    assert not trace.has_sessions
    assert trace.notices == ("1 row of length 0 (failed calls) dropped",)


def test_burstgpt_sessions_get_turns_and_pauses(put):
    trace = read_trace(put("BurstGPT_3.csv", BURST_2))
    assert trace.sessions == ("7",)
    assert trace.session.tolist() == [0, -1, 0, 0]
    assert trace.turn.tolist() == [0, 0, 1, 2]
    # 110 - (100 + 4.5); and 111 comes before 110 + 2, on a clock of whole seconds.
    assert str(trace.tool_seconds.tolist()) == "[nan, nan, 5.5, 0.0]"


def test_mooncake(put):
    trace = read_trace(put("m.jsonl", MOONCAKE))
    assert trace.arrival_seconds.tolist() == [0.0, 0.105]
    assert trace.block_tokens == 512
    assert [trace.prefix(row).tolist() for row in (0, 1)] == [[0, 1], [0, 3]]
    without = read_trace(put("n.jsonl", '{"timestamp":1,"input_length":9,"output_length":1}\n'))
    assert without.prefix_ids is None


def test_blocks(put):
    trace = read_trace(put("run.blocks.jsonl", BLOCKS))
    assert (trace.name, trace.block_tokens) == ("run", 16)
    assert [trace.prefix(row).tolist() for row in (0, 1)] == [[5, 6], [5, 6, 9]]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("x.csv", AZURE_2023, "azure"),
        ("x.txt", BURST_1, "burstgpt"),
        ("x.csv", "arrival_s,prompt_tokens,output_tokens\n0,1,1\n", "csv"),
        ("x.jsonl", MOONCAKE, "mooncake"),
        ("x", BLOCKS, "blocks"),
        ("x", table(), "parquet"),
    ],
)
def test_formats_are_found_by_header_whatever_the_ending(put, name, content, found):
    assert detect_format(put(name, content)) == found
    assert len(read_trace(put(name, content))) >= 1


def test_compressed_text_is_read(put):
    path = put("m.jsonl.gz", gzip.compress(MOONCAKE.encode()))
    assert read_trace(path).equals(read_trace(put("m.jsonl", MOONCAKE)))


def test_missing_and_short_prefixes_get_ids_of_their_own(put):
    lists = [[1, 2], None, [1]]
    rows = {
        "arrival_s": [0.0, 1.0, 2.0],
        "prompt_tokens": [40, 35, 33],
        "output_tokens": [1, 1, 1],
        "prefix_block_hashes": pa.array(lists, pa.list_(pa.int32())),
    }
    content = pa.table(rows).replace_schema_metadata({"block_tokens": "16"})
    trace = read_trace(put("p.parquet", content))
    assert [trace.prefix(row).tolist() for row in range(3)] == [[1, 2], [3, 4], [1, 5]]
    assert trace.notices == (
        "2 prompts had fewer block ids than whole blocks: the missing ones count as never shared",
    )


def test_columns_without_a_place_are_named_not_hidden(put):
    content = table(tenent=["a", "b"], tenant=["x", None], tool_s=[None, 2.5])
    trace = read_trace(put("p.parquet", content))
    assert trace.notices == ("columns not read: tenent",)
    assert trace.tenants == ("x", "default")
    assert str(trace.tool_seconds.tolist()) == "[nan, 2.5]"
    assert read_trace(put("p.parquet", content), limit=1).tenants == ("x",)


def test_windows_line_ends_and_byte_order_marks_are_read(put):
    path = put("w.csv", b"\xef\xbb\xbf" + AZURE_2023.replace("\n", "\r\n").encode())
    assert read_trace(path).equals(read_trace(put("u.csv", AZURE_2023)))


def test_a_broken_row_far_down_is_numbered(put):
    rows = "2023-11-16 18:18:00,1,1\n" * 60_000  # over one block of the CSV reader
    with pytest.raises(UserError, match="line 60006: 1 fields, but the header names 3"):
        read_trace(put("far.csv", AZURE_2023 + rows + "oops\n"))
    with pytest.raises(UserError, match="line 60006: GeneratedTokens is 'x'; it must be"):
        read_trace(put("far.csv", AZURE_2023 + rows + "2023-11-16 18:18:00,1,x\n"))


LIST = pa.list_(pa.int64())
BAD = [
    ("a.csv", "", "a.csv: the file is empty"),
    ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "a.csv: no requests in it"),
    ("a.parquet", table().slice(0, 0), "a.parquet: no requests in it"),
    ("a.jsonl", "\n\n", "a.jsonl: no requests in it"),
    ("a.parquet", b"PAR1 and then nothing", "a.parquet: not a readable Parquet file ("),
    ("a.csv", b"\xff\xfe\x00\x01\n", "a.csv: not a text file"),
    ("a.txt", "hello\nworld\n", "a.txt: not a trace that Sojourn knows; it reads parquet, csv"),
    (
        "a.csv",
        "TIMESTAMP,ContextTokens,Generated\n",
        "a.csv: missing column GeneratedTokens; found: TIMESTAMP, ContextTokens, Generated"
        " (is 'Generated' meant to be 'GeneratedTokens'?)",
    ),
    (
        "a.parquet",
        pa.table({"prompt": [1], "turn": [0]}),
        "a.parquet: missing columns prompt_tokens, output_tokens; found: prompt, turn",
    ),
    (
        "a.csv",
        AZURE_2023 + "2023-11-16 18:18:00,-3,5\n",
        "line 6: ContextTokens is -3; it must be a whole number from 1 to 2147483647",
    ),
    ("a.csv", AZURE_2023 + "2023-11-16 18:18:00,many,5\n", "line 6: ContextTokens is 'many'; it"),
    ("a.csv", AZURE_2023 + "2023-11-16 18:18:00,1.5,5\n", "line 6: ContextTokens is 1.5; it must"),
    ("a.csv", AZURE_2023 + "2023-11-16 18:18:00,nan,5\n", "line 6: ContextTokens is NaN; it must"),
    ("a.csv", AZURE_2023 + "2023-11-16 18:18:00,,5\n", "line 6: ContextTokens is empty; it must"),
    (
        "a.csv",
        AZURE_2023 + "yesterday,4,5\n",
        "line 6: TIMESTAMP is 'yesterday'; it must be a",
    ),
    ("a.csv", AZURE_2023 + "2023-11-16 18:18:00,4\n", "line 6: 2 fields, but the header names 3"),
    ("b.csv", BURST_1 + "x,GPT-4,4,5,9,API log\n", "line 5: Timestamp is 'x'; it must be a"),
    ("b.csv", BURST_1 + ",GPT-4,4,5,9,API log\n", "line 5: Timestamp is empty; it must be"),
    ("a.parquet", table(prompt_tokens=[0, 1]), "row 1: prompt_tokens is 0; it must be a whole"),
    ("a.parquet", table(prompt_tokens=[1.0, None]), "row 2: prompt_tokens is empty; it must be"),
    ("a.parquet", table(output_tokens=[1, -1]), "row 2: output_tokens is -1; it must be a whole"),
    (
        "a.parquet",
        table(output_tokens=[[1], [2]]),
        "; it must be a whole number",
    ),
    ("a.parquet", table(turn=[0, 1]), "a.parquet: it has a column turn but no column session_id"),
    (
        "a.parquet",
        table(turn=[0, 1], session_id=["a", None]),
        "row 2: turn is 1, but the row has no session_id",
    ),
    (
        "a.parquet",
        table(prefix_block_hashes=pa.array([[], []], LIST), block_tokens="64"),
        "row 2: 0 block ids for 600 prompt tokens; 64-token blocks need 9 or 10",
    ),
    (
        "a.parquet",
        table(prefix_block_hashes=pa.array([[], []], LIST)),
        "a.parquet: it has block ids but no block size",
    ),
    (
        "a.parquet",
        table(prefix_block_hashes=pa.array([[], []], LIST), block_tokens="big"),
        "a.parquet: metadata key block_tokens is 'big'; it must be a whole number",
    ),
    (
        "a.parquet",
        table(prefix_block_hashes=["x", "y"], block_tokens="16"),
        "column prefix_block_hashes holds string; it must hold lists of whole numbers",
    ),
    (
        "a.parquet",
        table(prefix_block_hashes=pa.array([[1], [2, None]], LIST), block_tokens="512"),
        "row 2: prefix_block_hashes has an empty id in it",
    ),
    ("a.csv", "prompt_tokens,output_tokens,turn,turn\n1,1,1,1\n", "two columns are called 'turn'"),
    ("a.csv", b"prompt_tokens,output_tokens,tenant\n1,1,\xff\n", "a.csv: not readable as CSV ("),
    ("m.jsonl", MOONCAKE + '{"timestamp": 1,\n', "line 3: not valid JSON ("),
    ("m.jsonl", MOONCAKE + "\n[1]\n", "line 4: it must be a JSON object"),
    (
        "m.jsonl",
        MOONCAKE + '{"timestamp": 1, "input_length": "9", "output_length": 1}\n',
        'line 3: input_length is "9"; it must be a number',
    ),
    (
        "m.jsonl",
        MOONCAKE + '{"timestamp": 1, "output_length": 1}\n',
        "line 3: missing field input_length; found: timestamp, output_length",
    ),
    (
        "m.jsonl",
        MOONCAKE
        + '\n{"timestamp": 1, "input_length": 2000, "output_length": 1, "hash_ids": [1]}\n',
        "line 4: 1 block ids for 2000 prompt tokens; 512-token blocks need 3 or 4",
    ),
    (
        "m.jsonl",
        MOONCAKE + '{"timestamp": 1, "input_length": 20, "output_length": 0}\n',
        "line 3: output_length is 0; it must be a whole number from 1",
    ),
    (
        "m.jsonl",
        MOONCAKE + '{"timestamp": -1, "input_length": 20, "output_length": 1}\n',
        "line 3: timestamp is -0.001; it must be 0 or more seconds",
    ),
    (
        "m.jsonl",
        json.dumps({"timestamp": 0, "input_length": 9, "output_length": 1, "hash_ids": ["ab"]}),
        'line 1: hash_ids is ["ab"]; it must be a list of whole numbers below 2**63',
    ),
]


@pytest.mark.parametrize(("name", "content", "sentence"), BAD, ids=[row[2][:60] for row in BAD])
def test_bad_input_is_one_clear_sentence(put, name, content, sentence):
    path = put(name, content)
    with pytest.raises(UserError) as error:
        read_trace(path)
    said = str(error.value)
    assert sentence in said
    assert said.startswith(str(path))
    assert "\n" not in said


def test_missing_file_directory_and_arguments(put, tmp_path):
    put("conv.parquet", table())
    with pytest.raises(UserError, match=r"conv.csv: no such file; did you mean 'conv.parquet'\?"):
        read_trace(tmp_path / "conv.csv")
    with pytest.raises(UserError, match="a directory; name one trace file"):
        read_trace(tmp_path)
    with pytest.raises(UserError, match="unknown trace format 'mooncakes': did you mean 'moonc"):
        read_trace("sample", format="mooncakes")
    with pytest.raises(UserError, match="limit is 0; it must be at least 1"):
        read_trace("sample", limit=0)


def test_the_bundled_sample():
    trace = read_trace("sample")
    stats = describe_trace(trace)
    assert (len(trace), trace.name, trace.notices) == (2867, "sample", ())
    assert trace.arrival_seconds[-1] < 600
    assert stats["prompt_p50"] == 1041
    assert len(read_trace("sample", limit=10)) == 10
