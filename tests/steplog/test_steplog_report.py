"""`sojourn report`: recorded runs, simulated and live, in the ordinary tables and pages."""

from __future__ import annotations

import json

import pytest
from live_runs import MILLISECOND, decode, ended, opened

from sojourn.steplog.record import SHED
from sojourn.steplog.write import Source, write_steplog
from tests.cli.command_line import CLASSES, ENGINE, run, without_timing


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Return the folder of a simulated run's results, with its step log."""
    from sojourn.cli.main import main

    folder = tmp_path_factory.mktemp("simulated")
    words = ("simulate", "sample", *ENGINE, *CLASSES, "--limit", 80, "--recipe", "fastserve")
    files = ("--load", 1.1, "--json", folder / "s.json", "--timeline", folder / "t.json")
    command = (*words, "-q", *files, "--step-log", folder / "s.parquet")
    assert main([str(word) for word in command]) == 0
    return folder


@pytest.fixture
def logged(tmp_path):
    """Return the folder of a live run over two files, with 10 requests of which 2 were shed."""
    log = opened(tmp_path / "logs", seconds_max=0.2)
    for number in range(10):
        log.state(number * MILLISECOND, number, 1)
        log.state((number + 1) * MILLISECOND, number, 3)
        decode(log, number, context=7 * number)
        shed = {"outcome": SHED, "reason": "too late", "finish": -1} if number > 7 else {}
        log.request(ended(number, first_token=(number + 600) * MILLISECOND, **shed))
        while number == 4 and not log.files_written:
            pass
    log.close()
    return tmp_path / "logs"


def test_the_report_of_a_simulated_run_is_what_simulate_said(simulated, tmp_path, capsys):
    target, page, timeline = (tmp_path / name for name in ("r.json", "r.html", "t.json"))
    files = ("--json", target, "--html", page, "--timeline", timeline)
    done = run(capsys, "report", simulated / "s.parquet", *files)
    assert (done.code, done.err) == (0, "")
    before = json.loads((simulated / "s.json").read_text())
    found = json.loads(target.read_text())
    assert without_timing(found["results"]) == without_timing(before["results"])
    assert found["limits"] == before["limits"]
    assert found["recorded"]["host"] == "simulator"
    assert timeline.read_bytes() == (simulated / "t.json").read_bytes()
    assert "fastserve" in page.read_text()
    lines = done.out.splitlines()
    assert lines[0].startswith("Verdict: recipe fastserve in sojourn ")
    assert lines[-3:] == [
        f"results: {target}",
        f"page: {page}",
        f"timeline: {timeline} (open it in ui.perfetto.dev)",
    ]


def test_the_report_of_a_real_run(logged, tmp_path, capsys):
    target, page, timeline = (tmp_path / name for name in ("r.json", "r.html", "t.json"))
    files = ("--json", target, "--html", page, "--timeline", timeline)
    done = run(capsys, "report", logged, *files)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(
        "Verdict: recipe slo-edf in vLLM 0.32.0 met the SLOs of 0 % of 10 requests.\n"
    )
    assert "service on tiny, cpu, begun 2023-11-14 22:13:20 UTC\nRecording took " in done.out
    found = json.loads(target.read_text())
    assert found["results"][0]["shed_reasons"] == {"too late": 2}
    assert found["recorded"]["recorder_share"] > 0
    assert found["recorded"]["engine"] == "vLLM 0.32.0"
    names = {event["name"] for event in json.loads(timeline.read_text())["traceEvents"]}
    assert {"decode", "waiting"} <= names
    assert "vLLM 0.32.0" in page.read_text()


def test_bounds_can_be_given_anew(logged, tmp_path, capsys):
    target = tmp_path / "r.json"
    done = run(capsys, "report", logged, "--slo-class", "chat:ttft=0.7", "--json", target)
    assert "met the SLOs of 80 % of 10 requests" in done.out
    limits = json.loads(target.read_text())["limits"]
    assert [one["ttft"] for one in limits["slo_classes"]] == [0.7]
    done = run(capsys, "report", logged, "--slo-class", "chart:ttft=0.7")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error: unknown SLO class of the step log in --slo-class 'chart': did you mean 'chat'? "
        "allowed: chat\n"
    )


def test_what_is_missing_is_said(logged, capsys):
    first, last = sorted(logged.iterdir())
    done = run(capsys, "report", first)
    assert "The log does not hold the end of the run; requests that had" in done.out
    done = run(capsys, "report", last)
    assert "\n1 earlier file of the run are not there" not in done.out
    assert "\n1 earlier file of the run is not there, and what it held is not in the " in done.out
    assert "Recording took" not in done.out, "its share of the missing steps is unknown"


def test_a_recipe_in_shadow_mode(tmp_path, capsys):
    log = opened(tmp_path)
    for number in range(3):
        decode(log, number, context=0)
        log.request(ended(number))
        log.difference(number * MILLISECOND, number, 2, 0)
    log.difference(0, 0, 5, 64)
    log.close()
    done = run(capsys, "report", tmp_path, "--json", tmp_path / "r.json")
    assert done.out.startswith(
        "Verdict: recipe vllm in vLLM 0.32.0 met the SLOs of 100 % of 3 requests.\n"
        "slo-edf ran in shadow mode and stock decided; it would have decided otherwise: would "
        "pause 3, other chunk 1."
    )
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["recorded"]["differences"] == {"would pause": 3, "other chunk": 1}
    assert found["results"][0]["recipe"] == "vllm"


def test_a_run_without_requests(tmp_path, capsys):
    log = opened(tmp_path)
    decode(log, 0, context=0)
    log.close()
    done = run(capsys, "report", tmp_path, "--html", tmp_path / "r.html")
    assert done.code == 0
    assert "Verdict: recipe slo-edf in vLLM 0.32.0 had no request." in done.out
    done = run(capsys, "report", tmp_path, "--timeline", tmp_path / "t.json")
    assert done.code == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere.parquet"], "error: cannot read 'nowhere.parquet' as Parquet: "),
        (["EMPTY"], "error: 'EMPTY' holds no step log: no file there ends in .parquet\n"),
        (["LOG", "OTHER"], "error: these are step logs of 2 runs (LOG, OTHER); give the files"),
        (["OTHER", "--timeline", "t.json"], "error: 'OTHER' holds no changes of state, which a"),
        (["LOG", "--timeline", "t.json", "--request", "90"], "error: request 90 is not in the r"),
        (["LOG", "--request", "3"], "error: --request says what a timeline is centred on; give"),
        (["LOG", "--json", "LOG"], "error: --json 'LOG' is "),
        (["LOG", "--json", "no/such/folder"], "error: --json 'no/such/folder': the directory"),
    ],
)
def test_mistakes_are_one_sentence(
    simulated, sample_record, tmp_path, monkeypatch, capsys, words, sentence
):
    monkeypatch.chdir(tmp_path)
    names = {"LOG": str(simulated / "s.parquet"), "OTHER": "other.parquet", "EMPTY": "empty"}
    (tmp_path / "empty").mkdir()
    sample_record.transitions, kept = None, sample_record.transitions
    write_steplog("other.parquet", sample_record, Source("t", "m", "g", 0, {}))
    sample_record.transitions = kept
    before = sorted(path.name for path in tmp_path.iterdir())
    done = run(capsys, "report", *(names.get(word, word) for word in words), "--html", "h.html")
    for name, path in names.items():
        sentence = sentence.replace(name, path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(sentence)
    assert done.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_help_teaches_with_examples(capsys):
    shown = run(capsys, "report", "--help").out
    assert "sojourn report logs/ --html run.html --timeline run.perfetto.json" in shown
    assert "counted from 0 in order of arrival" in shown
