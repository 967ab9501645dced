"""Files of coefficients: what `sojourn calibrate` writes is read strictly, engine and all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from measured_logs import BENT, SOURCE, TRUE, record_of

from sojourn.cost import MeasuredEngine, load_coefficients, load_fitted
from sojourn.cost.coefficient_file import to_toml
from sojourn.cost.recorded import recorded_engine, same_engine
from sojourn.errors import UserError

ENGINE = MeasuredEngine(
    name='vllm 0.32 "cpu"\x7f\n',
    model="tiny",
    num_gpu_blocks=512,
    block_size=16,
    max_num_seqs=8,
    enable_prefix_caching=False,
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "engine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("coefficients", [TRUE, BENT], ids=["straight", "bent"])
def test_a_file_is_read_back_whole(tmp_path, coefficients):
    fit = {"step_logs": ["a.parquet", "b"], "steps": 12, "held_out_bias": -1.5e-7}
    path = written(tmp_path, to_toml(coefficients, ENGINE, fit))
    found = load_coefficients(path)
    assert found.fitted.coefficients == coefficients
    assert found.engine == ENGINE
    assert found.fit == fit
    assert load_fitted(path).coefficients == coefficients


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fixed = 1e-3\n[engines]\n", "did you mean 'engine'"),
        ("fixed = 1e-3\n[engine]\nmax_num_seq = 3", "did you mean 'max_num_seqs'"),
        ("fixed = 1e-3\n[engine]\nmax_num_seqs = 0", "must be a whole number above zero, not 0"),
        ("fixed = 1e-3\n[engine]\nmax_num_seqs = true", "must be a whole number above zero"),
        ("fixed = 1e-3\n[engine]\nmodel = 3", "engine.model must be a text, not 3"),
        ("fixed = 1e-3\n[engine]\nenable_prefix_caching = 1", "must be true or false"),
        ("fixed = 1e-3\nengine = 3", r"engine must be a table, written \[engine\]"),
        ("fixed = 1e-3\ndense_until = [4]", "dense_token has 0 values for 1 bounds"),
        ("fixed = 1e-3\ndense_until = [4]\ndense_token = [1e-6]", "it must have one more"),
        ("fixed = 1e-3\ndense_until = [8, 4]\ndense_token = [0, 0, 0]", "must be whole numbers"),
        ("fixed = 1e-3\ndense_until = [0]\ndense_token = [0, 0]", "rise from above zero"),
        ("fixed = 1e-3\ndense_until = [1.5]\ndense_token = [0, 0]", "a list of whole numbers"),
        ("fixed = 1e-3\ndense_until = [4]\ndense_token = ['a', 0]", "a list of numbers of sec"),
        ("fixed = 1e-3\ndense_until = [4]\ndense_token = [-1, 0]", "dense_token is -1.0; it must"),
        ("fixed = 1e-13", "both zero, to the picosecond"),
        ("fixed = 1e9", "fixed is 1e.09; it must be at most 3600 seconds"),
        ("fixed = 1e-3\ndecode = 5", "decode is 5; it must be at most 1 seconds"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load_coefficients(written(tmp_path, text))


def test_the_engine_of_a_log_is_what_its_metadata_say():
    record = record_of(requests=20)
    engine = recorded_engine(record, SOURCE)
    assert engine.num_gpu_blocks == 2001
    assert engine.limits()["max_num_batched_tokens"] == 512
    assert engine.enable_prefix_caching is True


def test_blocks_are_counted_as_vllm_counts_them():
    record = record_of(requests=20)
    engine = recorded_engine(record, replace(SOURCE, limits={"max_num_seqs": 4}))
    assert record.kv_blocks == 2000
    assert engine.num_gpu_blocks == 2001
    assert engine.limits() == {"num_gpu_blocks": 2001, "max_num_seqs": 4}


def test_logs_of_two_engines_are_not_fitted_together():
    here = MeasuredEngine(name="vllm 0.32", model="tiny", max_num_seqs=4)
    there = MeasuredEngine(name="vllm 0.32", model="tiny", max_num_seqs=64)
    assert same_engine({"a": here, "b": there}) == here
    other = MeasuredEngine(name="vllm 0.33", model="tiny")
    with pytest.raises(UserError, match=r"'a' and 'c' are not of the same engine \(name 'vllm 0"):
        same_engine({"a": here, "b": there, "c": other})
