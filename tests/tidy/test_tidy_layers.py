"""The layers, as import-linter's contracts in pyproject.toml."""

import pytest
from importlinter import cli
from source_files import ROOT


def test_contracts_hold(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "src"))
    status = cli.lint_imports(config_filename="pyproject.toml", no_cache=True)
    if status:
        pytest.fail(capsys.readouterr().out)
