"""Values beyond every clock and counter, and documents that no editor would write."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import run

from sojourn.catalog import load_gpu
from sojourn.policies.tables import REPLICA_SLOTS, SLOTS

LLAMA = "--model llama-3.1-8b"
H100 = f"sample {LLAMA} --gpu h100-sxm --limit 20"
AT_ONCE = f"{H100} --rate-scale 1"
FITTED = f"sample {LLAMA} --limit 20 --num-gpu-blocks-override 2000 --rate-scale 1"
DAYS = "2305843"

BEYOND = [
    (f"{H100} --rate-scale 1e-300", "--rate-scale is 1e-300; it must be"),
    (f"{H100} --rate-scale 1e-8", "at most 27 can be simulated: raise the rate"),
    (f"{H100} --rate-scale 1e300", "--rate-scale is 1e+300; it must be at most"),
    (f"{H100} --load 1e-300", "--load is 1e-300; it must be"),
    (f"{H100} --load 1e308", "--load is 1e+308; it must be at most"),
    (f"{AT_ONCE} --slo-class a:ttft=1e10", f"ttft is '1e10'; it must be at most {DAYS}"),
    (f"{AT_ONCE} --slo-class a:e2e=1e7", f"e2e is '1e7'; it must be at most {DAYS}"),
    (f"{AT_ONCE} --slo-class a:tpot=1e-30", "it must be at least 1e-12, in seconds"),
    (f"{AT_ONCE} --slo-class a:share=1e-300,ttft=1", "it must be at least 1e-06, in a share"),
    (f"{AT_ONCE} --host ideal --swap-space 1e300", "--swap-space is 1e+300; it must be at most"),
    (f"{AT_ONCE} --host ideal --swap-bandwidth 1e-300", "--swap-bandwidth is 1e-300; it must be"),
    (f"{AT_ONCE} --swap-space nan", "--swap-space is nan; it must be at least"),
    (f"{AT_ONCE} --replicas 1000000000", "--replicas is 1000000000; it must be at most 4096"),
    (f"{AT_ONCE} --jobs 1000000000", "--jobs is 1000000000; it must be at most 4096"),
    (
        f"{H100} --max-num-seqs 1000 --replicas 1000",
        "1000000 seats need a pass of 8000000 requests to measure the capacity",
    ),
    (f"{AT_ONCE} --block-size 1000000000000", "it must be at most 1000000"),
    (f"{AT_ONCE} --num-gpu-blocks-override {10**30}", "it must be at most 1000000000"),
    (f"{AT_ONCE} --max-num-batched-tokens {10**30}", "it must be at most 1000000000"),
    (f"{AT_ONCE} --recipes vllm@1x{10**30}", "write SEATSxTOKENS"),
    (f"{AT_ONCE} --recipes vllm@{'9' * 5000}x1", "write SEATSxTOKENS"),
    (f"{FITTED} --cost huge.toml", "coefficient fixed is 1e+09"),
    (f"{FITTED} --cost endless.toml", "coefficient fixed is 1e+300"),
    (f"{FITTED} --cost tiny.toml", "a step must take time"),
    (f"{FITTED} --max-num-seqs 1 --cost hour.toml", "has not ended after 27 days of simulated"),
    (f"{AT_ONCE} --recipes vllm,vtc --param order.input_price=1e300", "must be at most 1e+09"),
    (f"{AT_ONCE} --recipes hold.toml --param retain.hold_seconds=1e7", f"at most {DAYS[0]}.30584e"),
    (f"{AT_ONCE} --recipes fastserve --param order.quantum_ratio=1e9", "too large together"),
    (f"epoch.csv {LLAMA} --gpu h100-sxm --rate-scale 1", "(not from 1970): shift the times"),
]

COST = {"huge": "1e9", "endless": "1e300", "tiny": "1e-13", "hour": "3600"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, fixed in COST.items():
        (tmp_path / f"{name}.toml").write_text(f"fixed = {fixed}\n")
    (tmp_path / "hold.toml").write_text('[retain]\npolicy = "fixed_ttl"\n')
    head = "arrival_s,prompt_tokens,output_tokens"
    (tmp_path / "epoch.csv").write_text(f"{head}\n1.7e9,10,3\n1.7e9,10,3\n")
    (tmp_path / "far.csv").write_text(f"{head}\n0,10,3\n1e30,10,3\n")
    (tmp_path / "farther.csv").write_text(f"{head}\n0,10,3\n1e308,10,3\n")
    return tmp_path


def refused(done, sentence):
    assert done.code == 2
    errors = [line for line in done.err.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert sentence in errors[0]
    assert len(errors[0]) < 400
    assert not done.out


@pytest.mark.parametrize(("words", "sentence"), BEYOND, ids=lambda text: str(text)[-40:])
def test_what_no_clock_holds_is_refused(folder, capsys, words, sentence):
    before = sorted(folder.iterdir())
    refused(run(capsys, "compare", *words.split(), "--json", "out.json"), sentence)
    assert sorted(folder.iterdir()) == before


def test_a_limit_beyond_all_rows_reads_them_all(capsys):
    done = run(capsys, "trace", "info", "sample", "--limit", 10**30, "--json")
    assert json.loads(done.out)["requests"] == 2867


@pytest.mark.parametrize("name", ["far.csv", "farther.csv"])
def test_arrivals_beyond_all_clocks_are_refused(folder, capsys, name):
    sentence = f"{name}: line 3: arrival_s is 1e+3"
    refused(run(capsys, "trace", "info", name), sentence)
    refused(run(capsys, "trace", "convert", name, "out.jsonl"), sentence)
    assert not Path("out.jsonl").exists()


def test_arrivals_of_this_century_are_described_and_converted(folder, capsys):
    assert json.loads(run(capsys, "trace", "info", "epoch.csv", "--json").out)["span_s"] == 0
    assert run(capsys, "trace", "convert", "epoch.csv", "out.jsonl").code == 0
    assert json.loads(Path("out.jsonl").read_text().splitlines()[0])["timestamp"] == 17 * 10**11


def test_a_trace_of_a_century_is_described_without_counting_empty_seconds(folder, capsys):
    Path("long.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n9e10,1,1\n")
    stats = json.loads(run(capsys, "trace", "info", "long.csv", "--json").out)
    # One arrival in a bin and none in all others: as far from even as one arrival can be.
    assert stats["idc_1s"] == pytest.approx(1.0)
    assert stats["peak_to_mean_60s"] == pytest.approx(9e10 / 60)


def test_ids_that_fill_64_bits(folder, capsys):
    columns = {"prompt_tokens": [32, 32], "output_tokens": [1, 1], "arrival_s": [0.0, 1.0]}
    for top, kind in ((2**64 - 1, pa.uint64()), (2**63 - 1, pa.int64())):
        ids = pa.array([[top, top - 1], None], pa.list_(kind))
        table = pa.table({**columns, "prefix_block_hashes": ids})
        pq.write_table(table.replace_schema_metadata({"block_tokens": "16"}), "ids.parquet")
        done = run(capsys, "trace", "info", "ids.parquet", "--json")
        if top >= 2**63:
            refused(done, "column prefix_block_hashes has an id of 2**63 or more")
        else:
            assert json.loads(done.out)["req_with_hit"] == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("burst = 'on=1e-9,off=1e-9,factor=2'", "on and off last 2e-09 s together"),
        ("burst = 'on=1,off=1,factor=1e308'", "factor is 1e+308; it must be above 0, at most"),
        ("arrivals = 'weibull:shape=0.007'", "it must be from 0.128 to 1000 in a weibull law"),
        (f"sessions = {{turns = {10**400}}}", "turns is larger than any number"),
        (f"sessions = {{system_tokens = {10**30}}}", "it must be at most 2147483647"),
        ("prompt = 'lognormal:mean=1e9,p50=1e-300'", "is too far above p50"),
    ],
)
def test_a_spec_of_extremes_is_refused(folder, capsys, text, sentence):
    spec = f"duration_seconds = 60\n[[tenants]]\nname = 'a'\nrate = 2\n{text}\n"
    Path("spec.toml").write_text(spec)
    refused(run(capsys, "trace", "generate", "spec.toml", "-o", "out.parquet"), sentence)
    assert not Path("out.parquet").exists()


@pytest.mark.parametrize(
    "text",
    [f"requests = 9\nblock_tokens = {10**30}", f"requests = {10**30}", "duration_seconds = 1e300"],
)
def test_a_spec_of_extreme_sizes_is_refused(folder, capsys, text):
    Path("spec.toml").write_text(f"{text}\n[[tenants]]\nname = 'a'\nrate = 2\n")
    refused(run(capsys, "trace", "generate", "spec.toml", "-o", "out.parquet"), "at most")


PARAMETERS = [
    f"{slot}.{policy}.{field}"
    for slot in REPLICA_SLOTS
    for policy, (config, _) in SLOTS[slot].items()
    for field, known in config.__dataclass_fields__.items()
    if known.type in ("int", "float")
]
PARTNERS = {
    "contest": {"order": "skip_join_mlfq", "victim": "lowest_rank"},
    "lowest_rank": {"order": "skip_join_mlfq", "compose": "contest"},
    "proactive_swap": {"order": "skip_join_mlfq", "compose": "contest"},
}


@pytest.mark.parametrize("value", ["1e-300", "1e-12", "1e5", "1e300", "2147483647", "9" * 30])
@pytest.mark.parametrize("parameter", PARAMETERS)
def test_every_parameter_is_run_with_or_refused(folder, capsys, parameter, value):
    slot, policy, field = parameter.split(".")
    tables = {slot: policy, **PARTNERS.get(policy, {})}
    text = "\n".join(f'[{key}]\npolicy = "{name}"' for key, name in tables.items())
    Path("mine.toml").write_text(text)
    words = f"{AT_ONCE} --host ideal --recipes mine.toml --param {slot}.{field}={value}"
    done = run(capsys, "compare", *words.split())
    assert done.code == 0 or f"{slot}.{field} is " in done.err or "together" in done.err
    assert done.code in (0, 2)


GPU = {"memory_bytes": "8e10", "bandwidth_bytes_per_second": "1e-300", "flops_per_second": "inf"}


@pytest.mark.parametrize("key", GPU)
def test_a_gpu_beyond_physics_is_refused(folder, capsys, key):
    base = load_gpu("h100-sxm")
    rows = {
        name: getattr(base, name)
        for name in base.__dataclass_fields__
        if name not in ("name", "aliases", "sources")
    }
    rows = {name: list(one) if isinstance(one, tuple) else one for name, one in rows.items()}
    rows[key] = GPU[key]
    Path("gpu.toml").write_text("\n".join(f"{name} = {one}" for name, one in rows.items()))
    words = f"sample {LLAMA} --gpu gpu.toml --limit 20 --rate-scale 1"
    refused(run(capsys, "compare", *words.split()), f"gpu.toml: {key} of 'gpu'")
    assert math.isfinite(base.memory_bytes)
