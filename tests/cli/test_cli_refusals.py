from __future__ import annotations

import pytest
from command_line import ENGINE, run

LLAMA = "--model llama-3.1-8b"
H100 = f"{LLAMA} --gpu h100-sxm"

BAD = [
    ("nope.parquet " + H100, "nope.parquet: no such file"),
    ("empty.csv " + H100, "empty.csv: the file is empty"),
    ("columns.csv " + H100, "columns.csv"),
    ("negative.csv " + H100, "negative.csv"),
    ("broken.parquet " + H100, "broken.parquet"),
    ("sample --model lama-3.1-8b --gpu h100-sxm", "did you mean 'llama-3.1-8b'?"),
    (f"sample {LLAMA} --gpu h10-sxm", "did you mean 'h100-sxm'?"),
    (f"sample {LLAMA}", "give --gpu, such as --gpu h100-sxm"),
    (f"sample {LLAMA} --cost cost.toml", "give --num-gpu-blocks-override"),
    (f"sample {H100} --cost nope.toml", "cannot read 'nope.toml'"),
    ("sample --model llama-3.1-70b --gpu h100-sxm", "a tensor parallel size of 2 would do"),
    (f"sample {H100} --recipes vllm,fastserv", "did you mean 'fastserve'?"),
    (f"sample {H100} --recipes vllm,vllm", "--recipes names 'vllm' twice"),
    (f"sample {H100} --recipes vllm,,vtc", "--recipes 'vllm,,vtc' has an empty name"),
    (f"sample {H100} --recipes nope.toml", "recipe file 'nope.toml' does not exist"),
    (f"sample {H100} --stock-recipe vlm", "did you mean 'vllm'?"),
    (f"sample {H100} --load 0", "--load is '0'; it must be a number above zero"),
    (f"sample {H100} --load -0.5", "--load is '-0.5'; it must be a number above zero"),
    (f"sample {H100} --load high", "--load is 'high'; it must be a number above zero"),
    (f"sample {H100} --load 0.9,nan", "--load is 'nan'; it must be a number above zero"),
    (f"sample {H100} --load 1,1.0", "--load gives 1 twice"),
    (f"sample {H100} --load 1 --rate-scale 1", "--load and --rate-scale exclude each other"),
    (f"sample {H100} --rate-scale 0", "--rate-scale is '0'; it must be a number above zero"),
    (f"sample {H100} --replicas 0", "--replicas is 0; it must be at least 1"),
    (f"sample {H100} --route least_loaded", "did you mean 'least_load'?"),
    (f"sample {H100} --host ideel", "did you mean 'ideal'?"),
    (f"sample {H100} --host ideal --swap-space 0", "--swap-space is 0; it must be above zero"),
    (f"sample {H100} --jobs 0", "--jobs is 0; it must be at least 1"),
    (f"sample {H100} --limit 0", "limit is 0; it must be at least 1"),
    (f"sample {H100} --limit 1", "has one arrival, hence no rate to scale: give --rate-scale"),
    (f"at-once.csv {H100}", "arrive at one moment, hence it has no rate to scale"),
    (f"sample {H100} --max-num-seqs 0", "--max-num-seqs is 0; it must be at least 1"),
    (f"sample {H100} --max-num-seqs 4096", "must be at least --max-num-seqs (4096)"),
    (f"sample {H100} --max-num-batched-tokens 0", "--max-num-batched-tokens is 0"),
    (f"sample {H100} --max-model-len 0", "--max-model-len is 0; it must be at least 1"),
    (f"sample {H100} --max-model-len 200000", "llama-3.1-8b has 131072 positions"),
    (f"sample {H100} --block-size 0", "--block-size is 0; it must be at least 1"),
    (f"sample {H100} --num-gpu-blocks-override 1", "it must be at least 2"),
    (f"sample {H100} --gpu-memory-utilization 2", "gpu_memory_utilization is 2.0"),
    (f"sample {H100} --tensor-parallel-size 3", "tensor parallel size 3 is not one of"),
    (f"sample {H100} --param quantum", "--param 'quantum' is malformed"),
    (f"sample {H100} --param ordr.x=1", "did you mean 'order'?"),
    (f"sample {H100} --param order.quantum_bas=1", "did you mean 'quantum_"),
    (f"sample {H100} --param order.quantum_base_seconds=soon", "it must be a number"),
    (f"sample {H100} --slo-class chat", "--slo-class 'chat' is malformed"),
    (f"sample {H100} --json .", "--json '.' is a directory; name a file"),
    (f"sample {H100} --html no/such/out.html", "the directory does not exist"),
    (f"sample {H100} --timeline /dev/null", "--timeline: cannot write '/dev/null'"),
    (f"sample {H100} --json x --html ./x", "--json and --html are the same file"),
    (f"columns.csv {H100} --json columns.csv", "is the trace itself"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "columns.csv").write_text("when,how_much\n0,1\n")
    (tmp_path / "negative.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,-5,3\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    (tmp_path / "cost.toml").write_text("fixed = 0.005\n")
    rows = "0,10,3\n" * 5
    (tmp_path / "at-once.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    return tmp_path


@pytest.mark.parametrize(("words", "sentence"), BAD)
def test_bad_input_is_one_sentence_and_writes_nothing(folder, capsys, words, sentence):
    before = sorted(folder.iterdir())
    outputs = () if "--json" in words else ("--json", "out.json")
    done = run(capsys, "compare", *words.split(), *outputs)
    assert done.code == 2
    errors = [line for line in done.err.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert sentence in errors[0]
    assert not done.out
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (f"simulate sample {H100} --load 0.5,0.9", "simulate runs at one rate"),
        (f"simulate sample {H100} --recipe nope", "unknown recipe 'nope'"),
        (f"simulate sample {H100} --step-log no/such/file", "the directory does not exist"),
        ("policies skip_join", "did you mean 'skip_join_mlfq'?"),
        ("policies --slot ordr", "did you mean 'order'?"),
        ("recipes fast-serve", "did you mean 'fastserve'?"),
        ("recipes --host v", "unknown host 'v'"),
        ("trace info nope.csv", "nope.csv: no such file"),
    ],
)
def test_the_other_verbs_refuse_likewise(folder, capsys, words, sentence):
    done = run(capsys, *words.split())
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert sentence in done.err


def test_a_wrong_option_is_named_without_a_traceback(capsys):
    done = run(capsys, "compare", "sample", *ENGINE, "--recipe", "vllm", "--tensor-parallel", "2")
    assert done.code == 2
    assert "No such option" in done.err
    assert "Traceback" not in done.err
