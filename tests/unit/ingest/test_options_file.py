"""What is said of an options file, to people who know JSON and not Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from daemon.errors import BadOptions
from daemon.ingest.options_file import read_options

# From 3.14 on Python reads as deep as its stack lasts, and so to the end of anything that an options file may hold.
DEEP = " (Expecting value" if sys.version_info >= (3, 14) else " that can be read (it is nested too deeply)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"frame_stride": "x", "frame_stride": 2}', "Option frame_stride is given more than once."),
        (f'{{"frame_stride": {"9" * 5000}}}', "Option frame_stride must be at most 2147483647."),
        ("[" * 60_000, f"not JSON{DEEP}"),
        ('{"frame_stride": null}', "not null."),
        ('{"frame_stride": true}', "not true."),
        ('{"frame_stride": NaN}', "not NaN."),
    ],
)
def test_a_wrong_options_file_is_explained_in_the_terms_of_json(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.options.json").write_text(text)
    with pytest.raises(BadOptions) as caught:
        read_options(tmp_path, "a.options.json", advice="")
    assert said in str(caught.value)


def test_of_a_great_many_unknown_options_only_the_first_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.options.json").write_text("{" + ",".join(f'"o{number}": 1' for number in range(2000)) + "}")
    with pytest.raises(BadOptions, match="There are 1990 more that are not options") as caught:
        read_options(tmp_path, "a.options.json")
    assert len(str(caught.value)) < 1500
