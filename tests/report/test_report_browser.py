import shutil

import pytest
from fleet_records import real
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


@pytest.fixture(scope="module")
def fleet_file(tmp_path_factory):
    runs = [
        summarise(real(kind, traced=False, count=300, name=kind, load=load))
        for load in (0.7, 1.1)
        for kind in ("migrating", "split")
    ]
    verdict = judge(runs, stock="migrating")
    limits = {"max_num_batched_tokens": 2048, "cost": "roofline, " * 12}
    document = compare_document(
        runs, verdict, trace="t", model="m", gpu="g", seed=1, limits=limits, capacity_rps=6.0
    )
    path = tmp_path_factory.mktemp("fleet") / "out.html"
    write_html(path, document, runs, verdict)
    return path


def painted(page, canvas):
    """Return a digest of a canvas, and how many of its pixels have a colour."""
    return page.evaluate(
        """(name) => {
          const canvas = document.getElementById(name), { width, height } = canvas;
          const often = { willReadFrequently: true };
          const copy = new OffscreenCanvas(width, height).getContext("2d", often);
          copy.drawImage(canvas, 0, 0);
          const { data } = copy.getImageData(0, 0, width, height);
          let sum = 0, seen = 0;
          for (let at = 0; at < data.length; at += 4) {
            if (data[at + 3]) seen++;
            sum = (sum * 31 + data[at] + 7 * data[at + 1] + 13 * data[at + 2]) % 1000000007;
          }
          return [sum, seen / (data.length / 4)];
        }""",
        canvas,
    )


@pytest.mark.parametrize(("width", "scheme"), [(1_360, "light"), (390, "dark")])
def test_fleet_in_chromium(browser, fleet_file, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    heard, asked = [], []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(fleet_file.as_uri())
    page.wait_for_selector("#chart-running .main-svg")
    assert page.locator("#fleet .at-load").inner_text() == "at load 1.1"
    seen = [painted(page, "fleet-lanes")]
    assert seen[0][1] > 0.3, "the picture is empty"
    for name in ("Waiting", "Seated", "Busy", "Migrations", "split"):
        page.locator("#fleet button", has_text=name).click()
        seen.append(painted(page, "fleet-lanes"))
    assert len({digest for digest, _ in seen}) == len(seen), "a button changes nothing"
    assert page.locator("#fleet-runs button[aria-pressed=true]").inner_text() == "split"
    assert "hand-overs" in page.locator("#fleet-facts").inner_text()
    assert "lost" in page.locator("#fleet-key").inner_text()
    assert "link cut" in page.locator("#fleet-key").inner_text()
    name = page.locator(".limits th", has_text="max_num_batched_tokens")
    assert name.evaluate("cell => cell.offsetHeight") < 36, "a name breaks inside a word"
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    top = page.locator("#fleet-top")
    top.scroll_into_view_if_needed()
    box = top.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + box["height"] - 60)
    assert "replicas up" in page.locator("#fleet-tip").inner_text()
    assert "spent so far" in page.locator("#fleet-tip").inner_text()
    assert_zoom_and_play(page, box)
    page.select_option("#load", "0")
    assert page.locator("#fleet-runs button[aria-pressed=true]").inner_text() == "split"
    assert not heard
    assert asked == [fleet_file.as_uri()]
    page.close()


def assert_zoom_and_play(page, box):
    before = painted(page, "fleet-lanes")
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 60)
    page.mouse.up()
    assert painted(page, "fleet-lanes") != before
    page.locator("#fleet-reset").click()
    assert painted(page, "fleet-lanes") == before
    assert not page.locator("#fleet-reset").is_visible()
    page.locator("#fleet-play").click()
    page.wait_for_function("document.getElementById('fleet-play').textContent.includes('Stop')")
    still = painted(page, "fleet-top")
    page.wait_for_timeout(300)
    assert painted(page, "fleet-top") != still, "nothing moves"
    page.locator("#fleet-play").click()
    assert "Play" in page.locator("#fleet-play").inner_text()
