import json
import re
import stat

import numpy as np
import pytest
from report_records import queue, record

from sojourn.errors import UserError
from sojourn.report import compare_document, judge, render_html, summarise, units, write_json
from sojourn.report.html import PAGE_BYTES_MAX, THINNINGS, _thin, write_html
from sojourn.report.json_report import to_text as json_text
from sojourn.report.json_report import write_text
from sojourn.report.table import to_text
from sojourn.report.units import RateFactor
from sojourn.steplog.record import SloClass

NASTY = "<script>alert(1)</script>&\"'\u2028$title"


@pytest.fixture(scope="module")
def runs():
    return make_runs()


def make_runs():
    return [
        summarise(queue(name, rate=6 * load, load=load, n=800, **more), seed=1)
        for load in (0.7, 1.1)
        for name, more in (
            ("vllm", {}),
            ("slo-edf", {"order": "class", "patience": 10}),
            ("srpt-clairvoyant", {"order": "srpt", "deployable": False}),
        )
    ]


def document(runs, **more):
    facts = {
        "trace": "trace.parquet", "model": "llama-3.1-8b", "gpu": "h100-sxm", "seed": 1,
        "limits": {"max_num_seqs": 256, "chunked_prefill": True}, "capacity_rps": 6.0, **more,
    }  # fmt: skip
    return compare_document(runs, judge(runs, seed=1), **facts)


def test_document_order_and_bytes(runs):
    text = json_text(document(runs))
    assert text == json_text(document(make_runs()))
    assert list(json.loads(text)) == [
        "schema", "trace", "model", "gpu", "seed", "limits", "capacity_rps", "notes",
        "verdict", "results",
    ]  # fmt: skip
    assert json.loads(text)["schema"] == "sojourn/compare/1"
    assert len(json.loads(text)["results"]) == 6
    with pytest.raises(ValueError, match="JSON compliant"):
        json_text({"x": float("nan")})


def test_file_appears_whole_or_not_at_all(tmp_path, runs):
    path = tmp_path / "out.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"x": float("inf")})
    assert path.read_text() == "old"
    write_json(path, document(runs))
    assert json.loads(path.read_text())["seed"] == 1
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & stat.S_IRUSR
    with pytest.raises(UserError, match="cannot write"):
        write_text(tmp_path / "absent" / "x", "")


@pytest.mark.parametrize("width", [100, 120, 160])
def test_table_fits_and_loses_nothing(runs, width):
    text = to_text(runs, judge(runs), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "…" not in text
    assert text.startswith("Verdict: ")
    for word in (
        "simulator only",
        "deployable",
        "TTFT",
        "TPOT",
        "E2E",
        "gap",
        "idle",
        "tenant gap",
    ):
        assert word in text
    assert text.count("srpt-clairvoyant ") >= 6


def test_table_of_long_names_many_classes_and_no_load():
    classes = tuple(SloClass(f"a-rather-long-class-{i}", ttft_seconds=1.0) for i in range(2))
    made = [summarise(queue("my-own-recipe-with-a-long-name", load=None, classes=classes))]
    text = to_text(made, judge(made), 100)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert "load " not in text.partition("Goodput and SLOs")[2]
    many = tuple(SloClass(f"class-{i}", ttft_seconds=1.0) for i in range(6))
    made = [summarise(queue("vllm", classes=many))]
    assert "class-5 –" in to_text(made, judge(made), 100)


def test_table_of_an_empty_run():
    made = [summarise(record())]
    assert "–" in to_text(made, judge(made))


def test_names_are_no_markup():
    made = [summarise(queue("[bold]x[/bold]", n=100))]
    assert "[bold]x[/bold]" in to_text(made, judge(made), 160)


def test_page_is_the_same_twice_and_small(runs, tmp_path):
    page = render_html(document(runs), runs, judge(runs))
    again = make_runs()
    assert page == render_html(document(again), again, judge(again))
    assert len(page.encode()) <= PAGE_BYTES_MAX
    write_html(tmp_path / "x.html", document(runs), runs, judge(runs))
    assert (tmp_path / "x.html").read_text(encoding="utf-8") == page


def test_page_escapes_what_users_wrote():
    classes = (SloClass(NASTY, ttft_seconds=1.0),)
    made = [summarise(queue(NASTY, n=200, classes=classes, tenants=(NASTY, "b")))]
    facts = document(made, trace=NASTY, model=NASTY, gpu=NASTY, limits={NASTY: NASTY})
    page = render_html(facts, made, judge(made, stock=NASTY))
    assert "<script>alert" not in page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert json.loads(data.group(1))["recipes"][0]["name"] == NASTY


def test_result_rows_end_with_classes_tenants_and_policies():
    made = queue("vllm", n=600, tenants=tuple(f"t{i}" for i in range(2)))
    made.requests.tenant[:] = range(600)
    made.requests.tenant[:] %= 70
    made.tenants = tuple(f"t{i}" for i in range(70))
    made.notes["policies"] = {"order": {"policy": "fcfs"}}
    row = json.loads(json_text(document([summarise(made)])))["results"][0]
    assert list(row)[-4:] == ["engine_time", "classes", "tenants", "policies"]
    assert [one["name"] for one in row["classes"]] == ["interactive", "batch"]
    assert row["classes"][0]["bounds"] == {"ttft": 0.5, "tpot": 0.05}
    assert list(row["tenants"][0]) == [
        "name", "requests", "shed", "attainment", "ttft_seconds", "tpot_seconds", "e2e_seconds",
        "service_tokens",
    ]  # fmt: skip
    assert len(row["tenants"]) == 64
    received = [one["service_tokens"] for one in row["tenants"]]
    assert received == sorted(received, reverse=True)
    assert row["policies"] == {"order": {"policy": "fcfs"}}


def test_page_opens_at_the_highest_load_with_tenants_by_service(runs):
    turned = runs[3:] + runs[:3]
    page = render_html(document(turned), turned, judge(turned))
    assert '<option value="0" selected>1.1</option><option value="1">0.7</option>' in page
    assert page.count('<div class="by-load" data-load="0"><div') == 2
    assert page.count('<div class="by-load" data-load="1" hidden>') == 2
    table = page.partition("<h2>By tenant")[2]
    assert 0 < table.index(">acme<") < table.index(">globex<")


def test_page_of_one_tenant_has_no_card_of_tenants():
    made = [summarise(queue("vllm", n=200, tenants=("only",)))]
    assert "<h2>By tenant" not in render_html(document(made), made, judge(made))


def test_page_thins_very_many_runs(runs):
    many = runs * 60
    page = render_html(document(runs), many, judge(runs))
    assert len(page.encode()) <= PAGE_BYTES_MAX


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0 s"), (0.00123, "1.23 ms"), (0.9996, "1.00 s"), (12.34, "12.3 s"),
     (0.0999, "99.9 ms"), (1234.5, "1234 s")],
)  # fmt: skip
def test_seconds(value, text):
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.9999, ">99.9 %"), (0.996, "99.6 %"), (0.0001, "<0.1 %"),
     (0.005, "0.5 %"), (0.5, "50 %"), (None, "–")],
)  # fmt: skip
def test_share(value, text):
    assert units.share(value) == text


def test_other_units():
    assert units.count(9_999) == "9999"
    assert units.count(12_345) == "12.3k"
    assert units.count(999_960) == "1.00M"
    assert units.change(1.5, 1.0) == "+50 %"
    assert units.change(0.9, 1.0) == "−10 %"
    assert units.change(1.0, None) == "–"
    assert units.rate_with_interval(2.5, (2.0, 3.0)) == "2.50 [2.00, 3.00]"
    assert units.significant(9.999) == "10.0"


def test_notes_are_in_the_document_and_on_the_page(runs):
    made = document(runs, notes=["vLLM's server starts <with> more"])
    assert made["notes"] == ["vLLM's server starts <with> more"]
    page = render_html(made, runs, judge(runs, seed=1))
    assert '<p class="note">vLLM&#x27;s server starts &lt;with&gt; more</p>' in page


def rated_runs():
    return [
        summarise(queue(name, rate=6 * rate, load=RateFactor(rate), n=300), seed=1)
        for rate in (0.5, 2.0)
        for name in ("vllm", "slo-edf")
    ]


def test_factors_on_the_rate_are_never_called_loads():
    runs = rated_runs()
    verdict = judge(runs, seed=1)
    made = document(runs)
    assert [row["load"] for row in made["results"]] == [0.5, 0.5, 2.0, 2.0]
    text = to_text(runs, verdict)
    page = render_html(made, runs, verdict)
    assert any(line.split()[:3] == ["rate", "recipe", "runs"] for line in text.splitlines())
    for name in ("at rate 0.5×", "at rate 2×"):
        assert name in text
        assert name in page
    assert not re.search(r"\bload\b", text)
    assert "<label>Rate <select" in page
    assert '<button type="button">load</button>' not in page
    assert '"loadTitle":"rate, as a factor on the trace\'s own"' in page


def test_a_load_is_still_called_a_load(runs):
    verdict = judge(runs, seed=1)
    assert "at load 0.7" in to_text(runs, verdict)
    page = render_html(document(runs), runs, verdict)
    assert "<label>Load <select" in page
    assert '<button type="button">load</button>' in page


def test_a_page_without_any_curve_is_drawn():
    """Where every answer is one token there is no pace of tokens to draw."""
    made = queue("vllm", n=40)
    made.requests.output_tokens[:] = 1
    made.requests.first_token[:] = made.requests.finish
    runs = [summarise(made)]
    assert not runs[0].curves["tpot"].size
    page = render_html(document(runs), runs, judge(runs))
    assert '"tpot":[]' in page


@pytest.mark.parametrize("thinning", THINNINGS)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 400])
def test_a_thinned_curve_keeps_both_its_ends(size, thinning):
    curve = np.arange(float(size))
    thin = _thin(curve, thinning)
    assert len(thin) == (size if size < 2 else max(2, size // thinning))
    assert thin == sorted(thin)
    if size:
        assert (thin[0], thin[-1]) == (0.0, size - 1.0)
