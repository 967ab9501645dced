"""`sojourn trace` on a user's own CSV file, as he types it."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from command_line import ENGINE, run

from sojourn.trace import read_trace

CHAT = "arrival_ms,session,prompt_tokens,output_tokens\n" + "".join(
    f"{1000 * second},{name},{600 + 200 * second},20\n"
    for second in range(4)
    for name in ("a", "b")
)


@pytest.fixture
def chat(tmp_path):
    path = tmp_path / "chat.csv"
    path.write_text(CHAT)
    return path


def test_other_names_are_read_and_said(capsys, chat):
    done = run(capsys, "trace", "info", chat, "--json")
    assert done.code == 0
    stats = json.loads(done.out)
    assert (stats["sessions"], stats["span_s"]) == (2, 3.0)
    shown = run(capsys, "trace", "info", chat)
    assert "note: column arrival_ms read as arrival_s, in milliseconds" in shown.err
    assert "note: column session read as session_id" in shown.err


def test_a_timestamp_without_a_unit_is_refused_with_exit_code_2(capsys, chat):
    chat.write_text(CHAT.replace("arrival_ms", "timestamp"))
    done = run(capsys, "trace", "info", chat)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {chat}: column 'timestamp' holds arrivals as numbers")
    assert "call it arrival_s (seconds), arrival_ms" in done.err


def test_session_prefixes_fill_the_prefix_cache(capsys, chat):
    target = chat.with_name("chat.parquet")
    done = run(capsys, "trace", "convert", chat, target, "--session-prefixes")
    assert done.code == 0
    assert read_trace(target).block_tokens == 16
    stats = json.loads(run(capsys, "trace", "info", target, "--json").out)
    assert stats["req_with_hit"] == 0.75
    computed = [prompt_tokens_computed(capsys, source) for source in (chat, target)]
    # 4 turns of 600, 800, 1000 and 1200 tokens in each of 2 sessions; of a turn before, the whole
    # blocks of 16 are found again.
    assert computed == [2 * 3600, 2 * (3600 - 592 - 800 - 992)]


def prompt_tokens_computed(capsys, source):
    log = source.with_name("steps.parquet")
    words = ("simulate", source, *ENGINE, "--recipe", "vllm", "--step-log", log)
    assert run(capsys, *words).code == 0
    rows = pq.read_table(log).to_pylist()
    log.unlink()
    return sum(row["prefill_tokens"] * row["steps"] for row in rows if row["kind"] == "run")


def test_session_prefixes_in_blocks_of_another_size(capsys, chat):
    target = chat.with_name("chat.parquet")
    words = ("trace", "convert", chat, target)
    done = run(capsys, *words, "--session-prefixes", "--block-tokens", 64)
    assert (done.code, read_trace(target).block_tokens) == (0, 64)
    target.unlink()
    for more, said in (
        (("--block-tokens", 64), "--block-tokens needs --session-prefixes"),
        (("--session-prefixes", "--block-tokens", 0), "a block of 0 tokens cannot be"),
    ):
        done = run(capsys, *words, *more)
        assert (done.code, said in done.err) == (2, True)
    done = run(capsys, "trace", "convert", chat, chat.with_name("x.csv"), "--session-prefixes")
    assert (done.code, "CSV has no place for block ids" in done.err) == (2, True)
    assert list(chat.parent.iterdir()) == [chat]
