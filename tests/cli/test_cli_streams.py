"""Standard output that goes away or is full, files that must not be replaced, and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import ENGINE, run

from sojourn.cli import experiment
from sojourn.recipes import load_recipe

COMMAND = [sys.executable, "-c", "from sojourn.cli.main import run; run()"]
FULL = Path("/dev/full")
LIMITED = ("--limit", 20, "--rate-scale", 1, "--quiet")

needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


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


@pytest.mark.parametrize("words", ["recipes", "policies --json", "trace info sample --json"])
def test_a_reader_that_has_gone_ends_the_command_quietly(words):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [*COMMAND, *words.split()], stdout=gone, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr == b""


@needs_full
@pytest.mark.parametrize("words", ["recipes", "policies --json", "trace info sample"])
def test_a_full_device_is_one_sentence(words):
    with FULL.open("wb") as full:
        done = subprocess.run(
            [*COMMAND, *words.split()], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert done.returncode == 2
    sentence = b"error: cannot read or write the output: No space left on device\n"
    assert done.stderr == sentence


@needs_full
@pytest.mark.parametrize("verb", ["compare", "simulate"])
def test_files_are_written_before_anything_is_printed(verb):
    names = {"--json": "o.json", "--html": "o.html", "--timeline": "t.json"}
    if verb == "simulate":
        names["--step-log"] = "s.parquet"
    words = [verb, "sample", *ENGINE, *LIMITED, *(one for pair in names.items() for one in pair)]
    if verb == "compare":
        words += ["--recipes", "vllm"]
    with FULL.open("wb") as full:
        done = subprocess.run(
            [*COMMAND, *map(str, words)],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    assert b"No space left on device" in done.stderr
    assert sorted(path.name for path in Path().iterdir()) == sorted(names.values())


@needs_full
def test_a_full_error_stream_does_not_hide_the_exit_code():
    with FULL.open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "recipes", "nope"],
            stdout=subprocess.PIPE,
            stderr=full,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2


def test_a_name_that_is_no_text_is_refused():
    done = subprocess.run(
        [*COMMAND, "trace", "info", b"caf\xe9.csv"], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: 'caf\\udce9.csv' is not UTF-8: give the file another")


LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        f"trace info {LONG}.csv",
        f"trace convert sample {LONG}.csv",
        f"trace generate {LONG}.toml -o x.csv",
        f"recipes {LONG}.toml",
        f"compare sample --model {LONG}/x --gpu h100-sxm",
        f"compare sample --model {LONG}.json --gpu h100-sxm",
        f"compare sample --model llama-3.1-8b --gpu {LONG}.toml",
        f"compare sample --model llama-3.1-8b --gpu h100-sxm --json {LONG}",
        f"compare sample --model llama-3.1-8b --gpu h100-sxm --cost {LONG}",
        f"simulate sample --model llama-3.1-8b --gpu h100-sxm --step-log {LONG}",
    ],
    ids=lambda words: words.replace(LONG, "LONG"),
)
def test_a_name_that_no_file_can_have_is_one_sentence(capsys, words):
    refused(run(capsys, *words.split()), "File name too long")


@pytest.mark.parametrize("verb", ["compare", "simulate"])
def test_the_longest_name_that_a_file_may_have_is_written(capsys, verb):
    name = "y" * 250 + ".json"
    flag = "--recipes" if verb == "compare" else "--recipe"
    done = run(capsys, verb, "sample", *ENGINE, *LIMITED, flag, "vllm", "--json", name)
    assert done.code == 0
    assert json.loads(Path(name).read_text())["schema"]


def test_the_longest_name_of_a_step_log_is_written(capsys):
    name = "z" * 255
    assert run(capsys, "simulate", "sample", *ENGINE, *LIMITED, "--step-log", name).code == 0
    assert [path.name for path in Path().iterdir()] == [name]


@pytest.fixture
def inputs():
    Path("model").mkdir()
    config = {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 1000,
    }
    Path("model/config.json").write_text(json.dumps(config))
    Path("mine.toml").write_text("title = 'Mine'\n")
    Path("cost.toml").write_text("fixed = 0.01\n")
    Path("trace.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,9,9\n1,9,9\n")
    Path("hard.toml").hardlink_to("mine.toml")
    Path("soft.csv").symlink_to("trace.csv")
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--json mine.toml", "--json 'mine.toml' is 'mine.toml', which is read; name another"),
        ("--html hard.toml", "--html 'hard.toml' is 'mine.toml', which is read"),
        ("--timeline cost.toml", "--timeline 'cost.toml' is 'cost.toml', which is read"),
        ("--step-log model/config.json", "--step-log 'model/config.json' is 'model', which is"),
        ("--json soft.csv", "--json 'soft.csv' is the trace itself"),
        ("--json a --step-log ./a", "--json and --step-log are the same file"),
    ],
)
def test_an_output_never_replaces_an_input(inputs, capsys, words, sentence):
    engine = ("--model", "model", "--cost", "cost.toml", "--num-gpu-blocks-override", 100)
    read = ("simulate", "trace.csv", *engine, "--recipe", "mine.toml")
    refused(run(capsys, *read, *words.split()), sentence)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == inputs


@pytest.mark.parametrize(
    "words",
    [
        "convert trace.csv trace.csv --force",
        "convert trace.csv soft.csv --force",
        "generate mine.toml -o mine.toml --force",
        "generate drawn.toml -o trace.csv --force",
        "generate --rate 1 --requests 5 --lengths-from trace.csv -o trace.csv --force",
    ],
)
def test_a_trace_never_replaces_what_it_is_made_of(inputs, capsys, words):
    tenant = "[[tenants]]\nname = 'a'\nrate = 1\nlengths_from = 'trace.csv'\n"
    Path("drawn.toml").write_text(f"requests = 5\n{tenant}")
    refused(run(capsys, "trace", *words.split()), "it is read to make this trace")
    assert all(path.read_bytes() == content for path, content in inputs.items())


def test_a_link_stays_a_link_and_what_it_leads_to_is_replaced(capsys):
    for name in ("t.csv", "o.json", "s.parquet", "p.json"):
        Path(f"real-{name}").write_text("old")
        Path(name).symlink_to(f"real-{name}")
    assert run(capsys, "trace", "convert", "sample", "t.csv", "--limit", 3, "--force").code == 0
    outputs = ("--json", "o.json", "--step-log", "s.parquet", "--timeline", "p.json")
    assert run(capsys, "simulate", "sample", *ENGINE, *LIMITED, *outputs).code == 0
    for name in ("t.csv", "o.json", "s.parquet", "p.json"):
        assert Path(name).is_symlink()
        assert Path(f"real-{name}").read_bytes() != b"old"


def test_pipes_and_devices_are_never_replaced(capsys):
    os.mkfifo("pipe.csv")
    os.mkfifo("pipe")
    for words in ("convert sample pipe.csv", "generate --rate 1 --requests 5 -o pipe.csv"):
        done = run(capsys, "trace", *words.split(), "--force")
        refused(done, "pipe.csv: it is not a regular file")
    for flag in ("--timeline", "--step-log"):
        done = run(capsys, "simulate", "sample", *ENGINE, *LIMITED, flag, "pipe")
        refused(done, f"{flag}: cannot write 'pipe': it is neither a file nor new")
    assert Path("pipe.csv").is_fifo()
    assert Path("pipe").is_fifo()
    assert run(capsys, "simulate", "sample", *ENGINE, *LIMITED, "--json", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


def test_recipes_of_one_name_are_refused(capsys):
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "mine.toml").write_text("title = 'Mine'\n")
        Path(folder, "vllm.toml").write_text("title = 'Other'\n")
    words = ("compare", "sample", *ENGINE, *LIMITED, "--recipes")
    done = run(capsys, *words, "a/mine.toml,b/mine.toml")
    refused(done, "'a/mine.toml' and 'b/mine.toml' would both be called 'mine': rename one")
    # The row that others are held against would have the name of another row.
    done = run(capsys, *words, "a/vllm.toml")
    refused(done, "'a/vllm.toml' and 'vllm' would both be called 'vllm'")
    done = run(capsys, "simulate", "sample", *ENGINE, *LIMITED, "--recipe", "a/vllm.toml")
    refused(done, "would both be called 'vllm'")


def test_a_path_may_have_an_at_sign():
    Path("me@home").mkdir()
    Path("me@home/mine.toml").write_text("title = 'Mine'\n")
    assert load_recipe("me@home/mine.toml").name == "mine"
    assert load_recipe("me@home/mine.toml@4x64").name == "mine@4x64"
    assert load_recipe("me@home/mine.toml@4x64").max_num_seqs == 4


def test_a_recipe_file_may_not_look_like_limits(capsys):
    Path("vllm@4x64.toml").write_text("title = 'Mine'\n")
    refused(run(capsys, "recipes", "vllm@4x64.toml"), "'vllm@4x64' cannot be the name of a recipe")


def test_an_interrupted_search_for_the_capacity_says_so(capsys, monkeypatch):
    def interrupted(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr("sojourn.sim.capacity.capacity", interrupted)
    words = ("compare", "sample", *ENGINE, "--limit", 100, "--quiet", "--json", "o.json")
    done = run(capsys, *words)
    assert done.code == experiment.INTERRUPTED
    assert done.err == (
        "interrupted while the capacity of vllm was measured: "
        "nothing had run, and nothing is reported\n"
    )
    assert not Path("o.json").exists()


def children(parent: int) -> list[int]:
    """Return the processes that a process has started and that still run, from /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_parent(ending):
    rates = ",".join(str(1 + place / 1000) for place in range(500))
    words = ("compare", "sample", *ENGINE, "--recipes", "vllm", "--jobs", "2", "--quiet")
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*COMMAND, *words, "--rate-scale", rates], **nowhere)
    workers = []
    try:
        deadline = time.monotonic() + 60
        while len(workers) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
            workers = children(process.pid)
        assert len(workers) == 3, "two workers and the tracker of their resources"
        time.sleep(2.0)
        process.send_signal(ending)
        process.wait(timeout=30)
        until = time.monotonic() + 40
        while any(is_alive(one) for one in workers):
            assert time.monotonic() < until, "a worker still runs"
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
        for one in filter(is_alive, workers):
            os.kill(one, signal.SIGKILL)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
