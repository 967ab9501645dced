"""The examples of the reference page on trace files, read as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sojourn.sim.workload import make_workload
from sojourn.trace import READERS, WRITERS, convert_trace, detect_format, hit_blocks, read_trace
from sojourn.trace.spellings import OPTIONAL, REQUIRED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "trace-files.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- trace: ([\w.]+) -->\n```text\n(.*?)```\n", PAGE, re.DOTALL))
PYTHON = re.findall(r"```python\n(.*?)```\n", PAGE, re.DOTALL)

READ = {
    "requests.csv": ("csv", [0.0, np.nan, 0.4], [1200, 1350, 300], ()),
    "gateway.csv": (
        "csv",
        [0.0, 0.75, 9.25],
        [512, 90, 600],
        (
            "column timestamp read as arrival_s, in dates and times",
            "column conversation read as session_id",
        ),
    ),
    "run.jsonl": ("blocks", [0.25, 0.5], [40, 41], ()),
    "mine.parquet": ("parquet", [0.0, 1.5], [1024, 1100], ()),
    "AzureLLMInferenceTrace_conv.csv": ("azure", [0.0, 4.314579], [374, 396], ()),
    "BurstGPT_1.csv": ("burstgpt", [0.0, 2.0, 10.0], [10, 30, 40], ()),
    "conversation_trace.jsonl": ("mooncake", [0.0, 0.105], [655, 1024], ()),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in EXAMPLES.items():
        Path(name).write_text(text, encoding="utf-8")
    (written,) = PYTHON
    exec(written, {})  # the page's own way to write Parquet
    return tmp_path


def test_every_format_and_column_is_on_the_page():
    assert {kind for kind, *_ in READ.values()} == set(READERS)
    assert {*EXAMPLES, "mine.parquet"} == set(READ)
    for name in (*REQUIRED, *OPTIONAL, *READERS):
        assert f"`{name}`" in PAGE, name


@pytest.mark.parametrize("name", READ)
def test_an_example_reads_as_the_page_says(folder, name):
    kind, arrivals, prompts, notices = READ[name]
    assert detect_format(Path(name)) == kind
    trace = read_trace(name)
    assert trace.arrival_seconds.tolist() == pytest.approx(arrivals, nan_ok=True)
    assert trace.prompt_tokens.tolist() == prompts
    assert trace.notices == notices


def test_sessions_pauses_and_tenants_of_the_examples(folder):
    trace = read_trace("requests.csv")
    assert (trace.sessions, trace.session.tolist()) == (("chat-1",), [0, 0, -1])
    assert str(trace.tool_seconds.tolist()) == "[nan, 12.5, nan]"
    assert trace.tenants == ("search", "batch")
    assert make_workload(trace).following == [1, -1, -1]  # the second turn waits for the first
    assert read_trace("gateway.csv").sessions == ("a7", "b2")
    assert read_trace("run.jsonl").tenants == ("search", "default")
    assert str(read_trace("BurstGPT_1.csv").tool_seconds.tolist()) == "[nan, nan, 5.5]"


def test_prefixes_of_the_examples(folder):
    parquet, lines = read_trace("mine.parquet"), read_trace("run.jsonl")
    assert (parquet.block_tokens, lines.block_tokens) == (512, 16)
    assert hit_blocks(parquet).tolist() == [0, 1]
    assert hit_blocks(lines).tolist() == [0, 1]
    convert_trace("requests.csv", "requests.parquet", session_block_tokens=16)
    derived = read_trace("requests.parquet")
    assert np.diff(derived.prefix_offsets).tolist() == [75, 84, 18]
    assert hit_blocks(derived).tolist() == [0, 75, 0]
    assert "75 and 84 whole blocks, of which the second turn finds 75" in PAGE


def test_every_example_survives_conversion(folder):
    assert set(WRITERS) < set(READERS)
    for name in READ:
        target = f"{Path(name).stem}.back.parquet"
        convert_trace(name, target)
        assert read_trace(target).equals(read_trace(name)), name
