"""A policy's name that is not known is answered with names, each once."""

from __future__ import annotations

from command_line import run


def test_names_that_fill_several_slots_are_listed_once(capsys):
    done = run(capsys, "policies", "mopp")
    assert done.code == 2
    assert "did you mean 'mopps'?" in done.err
    names = done.err.strip().partition("allowed: ")[2].split(", ")
    assert len(names) > 20
    assert len(set(names)) == len(names)
