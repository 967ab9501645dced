"""`sojourn calibrate` and `--cost` with what it writes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from measured_logs import SOURCE, TRUE, noisy, record_of

from sojourn.cli.main import main
from sojourn.cost import load_coefficients
from sojourn.steplog.write import write_steplog


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a log without and one with noise."""
    made = tmp_path_factory.mktemp("logs")
    record = record_of()
    write_steplog(made / "clean.parquet", record, SOURCE)
    record.steps = noisy(record.steps, 0.1, stalls=0.003)
    write_steplog(made / "noisy.parquet", record, SOURCE)
    return made


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_it_writes_coefficients_engine_and_errors(folder, tmp_path, capsys):
    out = tmp_path / "engine.toml"
    code, text, _ = run(capsys, "calibrate", folder / "clean.parquet", "--out", out)
    assert code == 0
    found = load_coefficients(out)
    assert found.fitted.coefficients == TRUE
    assert found.engine.num_gpu_blocks == 2001
    assert found.fit["step_logs"] == ["clean.parquet"]
    assert found.fit["held_out_p90"] < 1e-6
    assert found.fit["covered_sequences"] <= 48
    assert "Held out: median error <0.001 %" in text
    assert f"coefficients: {out}" in text


def test_running_it_again_gives_the_same_bytes(folder, tmp_path, capsys):
    texts = []
    for name in ("a", "b"):
        paths = [tmp_path / f"{name}.{kind}" for kind in ("toml", "json", "html")]
        flags = zip(("--out", "--json", "--html"), paths, strict=True)
        words = [word for pair in flags for word in pair]
        assert run(capsys, "calibrate", folder / "noisy.parquet", *words)[0] == 0
        texts.append([path.read_bytes() for path in paths])
    assert texts[0] == texts[1]
    document = json.loads(texts[0][1])
    assert document["schema"] == "sojourn/calibrate/1"
    assert document["set_aside"]["steps"] > 0
    assert {one["steps"] for one in document["by_kind"]} >= {"decode only", "mixed"}
    page = texts[0][2].decode()
    assert "Content-Security-Policy" in page
    assert "were set aside" in page or "Set aside" in page


def test_several_logs_are_fitted_together(folder, tmp_path, capsys):
    logs = [folder / name for name in ("clean.parquet", "noisy.parquet")]
    code, text, _ = run(capsys, "calibrate", *logs, "-o", tmp_path / "both.toml")
    assert code == 0
    assert "of 2 step logs" in text
    assert run(capsys, "calibrate", logs[0], logs[0], "-o", tmp_path / "x.toml")[0] == 2


def test_what_it_writes_is_enough_to_compare(folder, tmp_path, capsys):
    out = tmp_path / "engine.toml"
    assert run(capsys, "calibrate", folder / "clean.parquet", "-o", out)[0] == 0
    words = ("compare", "sample", "--limit", 60, "--rate-scale", 1, "--recipes", "vllm,vtc")
    code, text, _ = run(capsys, *words, "--cost", out, "--json", tmp_path / "c.json")
    assert code == 0
    limits = json.loads((tmp_path / "c.json").read_text())["limits"]
    for name, value in SOURCE.limits.items():
        assert limits[name] == value
    assert "tiny, cpu" in text
    # What is given on the command line wins, even where it is the default.
    flags = ("--max-num-seqs", 256, "--max-num-batched-tokens", 4096)
    code, _, err = run(capsys, *words, "--cost", out, *flags, "--json", tmp_path / "d.json")
    assert code == 0
    limits = json.loads((tmp_path / "d.json").read_text())["limits"]
    assert (limits["max_num_seqs"], limits["num_gpu_blocks"]) == (256, 2001)
    assert "measured with up to" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --model and --gpu"),
        (("--cost", "BARE"), "give --num-gpu-blocks-override and --max-model-len"),
        (("--cost", "OUT", "--gpu", "h100-sxm"), "--gpu needs the model's facts too"),
        (("--cost", "OUT", "--host", "ideal"), "--host ideal needs the model's facts too"),
        (("--cost", "OUT", "--block-size", "32"), "give --num-gpu-blocks-override"),
    ],
)
def test_too_little_is_refused(folder, tmp_path, capsys, words, message):
    out, bare = tmp_path / "engine.toml", tmp_path / "bare.toml"
    bare.write_text(TRUE.to_toml())
    assert run(capsys, "calibrate", folder / "clean.parquet", "-o", out)[0] == 0
    named = [{"OUT": out, "BARE": bare}.get(word, word) for word in words]
    code, _, err = run(capsys, "compare", "sample", *named)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_bad_calls_write_nothing(folder, tmp_path, capsys):
    short = tmp_path / "short.parquet"
    record = record_of(requests=2)
    write_steplog(short, record, SOURCE)
    out = tmp_path / "engine.toml"
    code, _, err = run(capsys, "calibrate", short, "-o", out)
    assert code == 2
    assert "rows of steps with tokens; at least 100 are needed" in err
    assert run(capsys, "calibrate", tmp_path / "none.parquet", "-o", out)[0] == 2
    code, _, err = run(capsys, "calibrate", short, "-o", short)
    assert code == 2
    assert "which is read" in err
    assert not out.exists()


def test_the_recipes_own_time_is_not_the_engines(tmp_path, capsys):
    log, out = tmp_path / "edf.parquet", tmp_path / "engine.toml"
    write_steplog(log, record_of(recipe="slo-edf"), SOURCE)
    assert run(capsys, "calibrate", log, "-o", out)[0] == 0
    assert load_coefficients(out).fitted.coefficients == TRUE
    stranger = replace(record_of(), recipe="mine")
    write_steplog(log, stranger, SOURCE)
    code, _, err = run(capsys, "calibrate", log, "-o", out)
    assert code == 0
    assert "recipe 'mine' does not come with Sojourn" in err
