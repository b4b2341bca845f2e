"""A module of the page has one idea, and fits into one reading."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "sidecar" / "page"
MODULE_LINES = 350


def test_a_module_of_the_page_fits_into_one_reading() -> None:
    sizes = {path.name: len(path.read_text().splitlines()) for path in PAGE.glob("*.js")}
    assert {name: lines for name, lines in sizes.items() if lines > MODULE_LINES} == {}


def test_a_module_of_the_page_says_first_what_it_is_for() -> None:
    assert [path.name for path in PAGE.glob("*.js") if not path.read_text().startswith("// ")] == []
