"""The page of the rollout bars says what was measured, and what was not met."""

import json
import sys

import pytest

from benchmarks.rollout_bars import __main__ as command
from benchmarks.rollout_bars import page
from benchmarks.rollout_bars.paired import Interval
from benchmarks.rollout_bars.rows import Options, Row, from_json, of

OPTIONS = Options(3, 1000)
GOOD = of(Interval(1.3, 1.25, 1.35), "speed", "base", OPTIONS, "≥ 1.2", True, 2)
BAD = of(Interval(0.4, 0.3, 0.5), "share", "base", OPTIONS, "≥ 0.5", False, 2)
PLAIN = of(Interval(7.0, 7.0, 7.0), "count", "base", OPTIONS, digits=0)


def test_a_row_shows_its_interval_seeds_and_verdict():
    cells = "speed", "base", "1000 to 1002", "1.30 [1.25, 1.35]", "≥ 1.2", "met"
    assert GOOD.cells() == cells
    assert BAD.cells()[-1] == "**not met**"
    assert PLAIN.value() == "7"
    assert from_json(json.loads(json.dumps(GOOD._asdict()))) == GOOD


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([GOOD, PLAIN], "met"),
        ([GOOD, BAD, PLAIN], "**not met**: 1 of 2"),
        ([PLAIN], "not measured"),
    ],
)
def test_a_bar_is_met_if_all_its_rows_are(rows, words):
    assert page.verdict(rows) == words


def test_every_bar_has_its_place():
    text = page.write({"pruning": [BAD, PLAIN]})
    assert set(page.texts()) == set(command.BARS)
    assert [one for one in text.splitlines() if one.startswith("## ")] == [
        f"## {one.title}" for one in page.texts().values()
    ]
    judged, others = text.index("| share |"), text.index("| count |")
    assert judged < others
    assert text.count("| not measured |") == len(command.BARS) - 1


def test_one_bar_is_merged_with_the_others(monkeypatch, tmp_path):
    path = tmp_path / "bars.json"
    command.store(path, {"pruning": [GOOD]})
    seen: list[Options] = []

    def measure(options: Options) -> list[Row]:
        seen.append(options)
        return [BAD]

    monkeypatch.setattr(command, "BARS", {**command.BARS, "placement": (measure, 4)})
    monkeypatch.setattr(command, "REFERENCE", tmp_path)
    words = ["x", "--bars", "placement", "--first", "7", "--json", str(path), "--write"]
    monkeypatch.setattr(sys, "argv", words)
    command.main()
    assert command.read(path) == {"placement": [BAD], "pruning": [GOOD]}
    assert (seen[0].range, seen[0].text) == (range(7, 11), "7 to 10")
    assert "**not met**: 1 of 1" in (tmp_path / command.PAGE).read_text(encoding="utf-8")


def test_a_bar_that_is_not_known(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--bars", "placment"])
    with pytest.raises(SystemExit):
        command.main()
    assert "known are partial, placement" in capsys.readouterr().err
