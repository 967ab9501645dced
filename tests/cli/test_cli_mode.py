"""`sojourn mode` with a file that the user names."""

from __future__ import annotations

from command_line import run

from sojourn.cli.mode import read_mode


def test_a_file_that_was_not_there_is_made_with_a_note(tmp_path, capsys):
    file = tmp_path / "mode"
    done = run(capsys, "mode", "off", "--file", file)
    assert (done.code, done.out) == (0, f"mode off: {file}\n")
    assert done.err.startswith(f"note: {file} was not there before; only a server that was ")
    assert read_mode(file) == "off"
    done = run(capsys, "mode", "act", "--file", file)
    assert (done.code, done.out, done.err) == (0, f"mode act: {file}\n", "")
