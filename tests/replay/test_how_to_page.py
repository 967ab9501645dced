"""What the how-to page shows is what the program prints."""

from shown_how_to import OUTPUT, PAGE, filled


def test_shown_output_is_what_is_printed():
    text = PAGE.read_text(encoding="utf-8")
    assert len(OUTPUT.findall(text)) == 5
    assert filled(text) == text, "run python tests/replay/shown_how_to.py"
