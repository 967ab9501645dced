from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sojourn.cli.trace import EXAMPLE_SPEC, app
from sojourn.errors import UserError
from sojourn.trace import generate_trace, load_spec, read_trace


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, UserError):
        raise result.exception
    return result


def test_info_prints_a_table_and_json():
    shown = run("info", "sample")
    assert shown.exit_code == 0
    assert "2,867" in shown.stdout
    assert "4.78 /s" in shown.stdout
    assert "Sessions" not in shown.stdout  # what the trace cannot say is not shown
    stats = json.loads(run("info", "sample", "--limit", 100, "--json").stdout)
    assert stats["requests"] == 100
    assert stats["sessions"] is None


def test_convert_and_generate_write_once(tmp_path):
    target = tmp_path / "s.csv"
    assert "10 requests" in run("convert", "sample", target, "--limit", 10).stdout
    with pytest.raises(UserError, match="give --force to replace it"):
        run("convert", "sample", target)
    assert run("convert", "sample", target, "--limit", 20, "--force").exit_code == 0
    assert len(read_trace(target)) == 20


def test_generate_from_flags(tmp_path):
    flags = "--rate 4 --arrivals gamma:cv=2 --lengths-from sample --burst on=10,off=50,factor=5"
    more = "--requests 500 --tenants 4 --turns geometric:mean=3 --system-tokens 64 --seed 1"
    for name in ("a", "b"):
        run("generate", *flags.split(), *more.split(), "-o", tmp_path / f"{name}.parquet")
    trace = read_trace(tmp_path / "a.parquet")
    assert len(trace) == 500
    assert sorted(trace.tenants) == ["t00", "t01", "t02", "t03"]
    assert trace.has_sessions
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_example_spec_works(tmp_path):
    spec = tmp_path / "spec.toml"
    spec.write_text(run("generate", "--example").stdout)
    assert spec.read_text() == EXAMPLE_SPEC
    assert "requests" in run("generate", spec, "-o", tmp_path / "x.parquet").stdout
    assert read_trace(tmp_path / "x.parquet").equals(generate_trace(load_spec(spec)))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--rate 4", "say where to write: -o FILE.parquet"),
        ("-o x.parquet", "give --rate"),
        ("--rate 4 -o x.parquet", "say how much to generate"),
        ("--rate 4 --requests 5 --gap 3 -o x.parquet", "--gap needs --turns, for sessions"),
        ("--rate 4 --requests 5 --tenants 0 -o x.parquet", "--tenants is 0; it must be from 1"),
        ("spec.toml --rate 4 -o x.parquet", "--rate cannot be given beside it"),
    ],
)
def test_wrong_flags_are_one_sentence(tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        run("generate", *words.split())
    assert sentence in str(error.value)
    assert list(tmp_path.iterdir()) == []
