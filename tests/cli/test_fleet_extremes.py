"""Fleet files with values at and beyond the ends: one sentence each, and nothing overwritten."""

import pytest
from command_line import run

SPLIT = '[[replicas]]\nrole = "prefill"\n[[replicas]]\nrole = "decode"\n'
LINK = SPLIT + '[[links]]\nbetween = ["prefill", "decode"]\n'
SPOT = '[[replicas]]\ncount = 2\n[spot_log]\nname = "a"\nfile = "spot.csv"\n'
ENGINE = ("--model", "llama-3.1-8b", "--gpu", "h100-sxm", "-q")
SLOW = '[[faults]]\nkind = "slow"\nat_seconds = 0\nreplica = 0\nfactor = 1000\n'


def simulate(capsys, *words):
    return run(capsys, "simulate", "sample", "--limit", "9", *ENGINE, *words)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (LINK + "total_gb_per_second = 1e-300", "total_gb_per_second is 1e-300; it must be 0"),
        (LINK + "setup_seconds = 2305843", "would not end within 27 days of simulated time"),
        ("[[replicas]]\n" + 9 * SLOW, "steps 1e+12 times as long; at most"),
        ('[[replicas]]\nrecipe = "vllm@4x99"\nmax_num_seqs = 3', "has seats and tokens of its own"),
        ('[[replicas]]\nrecipe = "zzz"', "f.toml: replicas 'replica': unknown recipe 'zzz'"),
        ("[[replicas]]\n[reports]\nperiod_seconds = 1e-12", "reports.period_seconds is 1e-12; it"),
        ('[[replicas]]\n[scale]\npolicy = "llumnix"\nperiod_seconds = 1e-9', "at least 0.0001"),
        ("[[replicas]]\ncount = 30000", "30,000 replicas at the start; at most 20,000"),
    ],
)
def test_fleets_beyond_the_ends_are_refused(tmp_path, monkeypatch, capsys, text, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.toml").write_text(text)
    done = simulate(capsys, "--fleet", "f.toml", "--recipe", "vllm", "--json", "out.json")
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    "log",
    [
        b"trace,t_s,event\na,nan,remove\n",
        b"trace,t_s,event\na,1e300,remove\n",
        b"trace,t_s,event\na\n",
        b"trace,t_s,nodes_alive\na,0\n",
        b"trace,t_s,nodes_alive\na,0,1000000000000\na,1,3\n",
        b"trace,t_s,nodes_alive\na,0,-3\n",
        b"trace,t_s,event\na,1,remove,\xe9\n",
        b"trace,t_s,event\na,1," + b"x" * 200_000 + b"\n",
    ],
)
def test_spot_logs_that_are_none_are_refused(tmp_path, monkeypatch, capsys, log):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.toml").write_text(SPOT)
    (tmp_path / "spot.csv").write_bytes(log)
    done = simulate(capsys, "--fleet", "f.toml")
    assert done.code == 2
    assert "spot.csv" in done.err
    assert done.err.count("\n") == 1
    assert len(done.err) < 400


def test_no_output_takes_the_place_of_a_file_that_the_fleet_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.toml").write_text(SPOT)
    (tmp_path / "spot.csv").write_text("trace,t_s,event\na,1,remove\n")
    done = simulate(capsys, "--fleet", "f.toml", "--json", "spot.csv")
    assert done.err == "error: --json 'spot.csv' is 'spot.csv', which is read; name another file\n"
    assert (tmp_path / "spot.csv").read_text().startswith("trace,")


def test_a_capacity_needs_somebody_who_decodes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scaled = '[scale]\npolicy = "llumnix"\n'
    (tmp_path / "f.toml").write_text(SPLIT + "count = 0\n" + scaled)
    words = ("--fleet", "f.toml", "--recipes", "vllm", "--load", "0.5")
    done = run(capsys, "compare", "sample", "--limit", "9", *ENGINE, *words)
    assert done.code == 2
    assert "nobody decodes at the start" in done.err
