"""What the README and the tutorial show is what the program prints."""

import pytest

from docs.shown_output import OUTPUT, PAGES, filled


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_shown_output_is_what_is_printed(page):
    text = page.read_text(encoding="utf-8")
    assert OUTPUT.search(text)
    assert filled(text) == text, "run python -m docs.shown_output"
