import shutil

import pytest
from report_records import queue

from sojourn.report import compare_document, judge, summarise, write_html

pytestmark = pytest.mark.browser
ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
CHARTS = ("goodput", "ttft", "tpot", "e2e", "waiting", "kv", "running")
NASTY = "<img src=http://sojourn.invalid/x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no browser found: none of {', '.join(names)} is on the PATH")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=found, args=ARGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=["several loads", "one run"])
def page_file(request, tmp_path_factory):
    loads = (0.7, 1.1) if request.param == "several loads" else (None,)
    names = ("vllm", "slo-edf", NASTY) if request.param == "several loads" else ("vllm",)
    runs = [
        summarise(
            queue(
                name,
                n=600,
                rate=6 * (load or 1),
                load=load,
                order="class" if name == "slo-edf" else "fcfs",
                deployable=name != NASTY,
            )
        )
        for load in loads
        for name in names
    ]
    verdict = judge(runs)
    document = compare_document(
        runs, verdict, trace=NASTY, model="m", gpu="g", seed=1, limits={}, capacity_rps=6.0
    )
    path = tmp_path_factory.mktemp("page") / "out.html"
    write_html(path, document, runs, verdict)
    return path, len(loads), len(names)


@pytest.mark.parametrize(("width", "scheme"), [(1_360, "light"), (390, "dark")])
def test_page_in_chromium(browser, page_file, width, scheme):
    path, loads, recipes = page_file
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    heard, asked = [], []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: heard.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("#chart-running .main-svg")

    for chart in CHARTS:
        assert page.locator(f"#chart-{chart} svg.main-svg").count() >= 1
        assert page.locator(f"#chart-{chart} .scatterlayer .trace").count() >= recipes
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".load").count() == loads
    assert page.locator("#load option").count() == loads
    assert page.locator("#legend button").count() == recipes

    if loads > 1:
        assert page.locator("#load").input_value() == "1"
        page.select_option("#load", "0")
        before = page.evaluate("JSON.stringify(document.getElementById('chart-ttft').data[0].x)")
        page.select_option("#load", "1")
        after = page.evaluate("JSON.stringify(document.getElementById('chart-ttft').data[0].x)")
        assert before != after
        assert page.locator(".at-load").first.inner_text() == "at load 1.1"
        assert page.locator(".by-load:visible").count() == 2
        assert_sorting(page)
        page.locator("#legend button").first.click()
        assert page.locator("#chart-ttft .scatterlayer .trace").count() == recipes - 1
    assert not heard
    assert asked == [path.as_uri()]
    page.close()


def assert_sorting(page):
    head = page.locator(".sortable").first.locator("thead tr:last-child th", has_text="mean").first
    place = head.evaluate("head => [...head.parentNode.children].indexOf(head)")
    for direction in ("ascending", "descending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == direction
        keys = (
            page.locator(".sortable")
            .first.locator("tbody tr")
            .evaluate_all(
                "(rows, place) => rows.map(row => Number(row.cells[place].dataset.key))", place
            )
        )
        assert keys == sorted(keys, reverse=direction == "descending")
