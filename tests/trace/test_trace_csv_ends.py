"""A process that ends right after reading a CSV file ends with its own exit code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sojourn.errors import UserError
from sojourn.trace import read_trace
from sojourn.trace.formats import text

HEADER = "arrival_s,prompt_tokens,output_tokens\n"
LACKS = f"{HEADER}0.0,10,5\n1.0,20,\n2.0,30,7\n"
AT_ONCE = 3
COMMAND = "from sojourn.cli.main import run; run()"


def test_the_reader_holds_no_python_object_that_a_thread_could_drop_at_the_end(
    tmp_path, monkeypatch
):
    opened, whole = [], text.pacsv.open_csv

    def seen(source, **options):
        opened.append((source, options["parse_options"].invalid_row_handler))
        return whole(source, **options)

    monkeypatch.setattr(text.pacsv, "open_csv", seen)
    path = tmp_path / "short.csv"
    path.write_text(f"{HEADER}0.0,10\n")
    with pytest.raises(UserError, match="line 2: 2 fields, but the header names 3"):
        read_trace(path)
    assert opened
    assert all(isinstance(source, str) and handler is None for source, handler in opened)


@pytest.mark.parametrize("words", [("info",), ("convert", "out.parquet")])
def test_a_refused_file_is_a_sentence_and_exit_code_2(tmp_path, words):
    (tmp_path / "lacks.csv").write_text(LACKS)
    verb, *rest = words
    command = [sys.executable, "-c", COMMAND, "trace", verb, "lacks.csv", *rest]
    started = [
        subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(AT_ONCE)
    ]
    for one in started:
        err = one.communicate(timeout=60)[1]
        assert one.returncode == 2, err
        assert (
            err == "error: lacks.csv: line 3: output_tokens is empty; it must be a whole number\n"
        )
