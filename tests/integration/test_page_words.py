"""The page finds and marks texts as the search over all videos does."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.search.folding import fold, words_of
from daemon.store.job_store import JobStore
from tests import page_home
from tests.browser import Browser, browsing
from tests.clips import make_clip
from tests.derived_documents import frame, write_document
from tests.sidecar_process import Sidecar, running_sidecar
from tests.viewer_page import open_viewer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.needs("chromium")]

TEXTS = ("GATE B12 OPEN", "Open the gate", "Café Straße", "GATE C7")
QUERIES = {
    '"b12 open" gate': {"GATE B12 OPEN": ["GATE", "B12 OPEN"]},
    "open gate": {"GATE B12 OPEN": ["GATE", "OPEN"], "Open the gate": ["Open", "gate"]},
    '"open gate"': {},
    "strasse cafe": {"Café Straße": ["Café", "Straße"]},
    '"': {text: [] for text in TEXTS},
}
LISTED = """Object.fromEntries([...document.querySelectorAll(".row-item .words")].map((row) =>
  [row.textContent, [...row.querySelectorAll("mark")].map((mark) => mark.textContent)]))"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return page_home.make_folders(tmp_path / "home")


@pytest.fixture
def sidecar(home: Path) -> Iterator[Sidecar]:
    with running_sidecar(home) as running:
        yield running


@pytest.fixture
def browser(home: Path) -> Iterator[Browser]:
    with browsing(home / "profile") as opened:
        yield opened


def test_the_page_compares_texts_as_the_index_does(sidecar: Sidecar, browser: Browser) -> None:
    points = [n for n in range(0x110000) if unicodedata.category(chr(n)) not in ("Cn", "Cs", "Co")]
    browser.open(sidecar.url + "/")
    folded = browser.ask(
        f"import('./page/words.js').then(({{ fold }}) => {json.dumps(points)}"
        ".map((point) => fold(`x${String.fromCodePoint(point)}y`)))"
    )
    assert [hex(n) for n, there in zip(points, folded, strict=True) if there != fold(f"x{chr(n)}y")] == []
    queries = [*QUERIES, 'a "b  C" a B', 'no end "of it', '""', "\u202e x"]
    split = browser.ask(
        f"import('./page/words.js').then(({{ wordsOf }}) => {json.dumps(queries)}.map((query) => wordsOf(query)))"
    )
    assert [tuple(words) for words in split if words] == [words_of(q) for q in queries if q not in ('"', '""')]


def test_a_hit_of_the_search_is_listed_and_marked_in_its_video(home: Path, sidecar: Sidecar, browser: Browser) -> None:
    lines = [
        {"bbox": [10.0, 20.0 + 40 * n, 200.0, 50.0 + 40 * n], "confidence": 0.95, "text": text}
        for n, text in enumerate(TEXTS)
    ]
    document = write_document(home / "texts.json", [frame(n, n / 25, lines, []) for n in range(30)])
    clip = make_clip(home / "clip.mp4", frames=30, size=(320, 180))
    with JobStore.open(home / "data") as store:
        job_id = page_home.add_completed(home, document=document, video=clip, store=store)
        page_home.index_texts(store, home, TEXTS)
    open_viewer(browser, sidecar.url, job_id)
    browser.wait_for("viewer.watch.texts.complete")
    for query, found in QUERIES.items():
        browser.ask(f"viewer.watch.change({{ words: {query!r} }})")
        wanted = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
        browser.wait_for(f"JSON.stringify({LISTED}) === {json.dumps(wanted)}")
        if query == '"':
            continue
        browser.ask(f"document.querySelector('#search').value = {query!r}")
        browser.ask("document.querySelector('#search').dispatchEvent(new Event('input'))")
        browser.wait_for(
            f"[...document.querySelectorAll('.hit .what')].filter((hit) => hit.querySelector('mark')).length"
            f" === {len(found)} && document.querySelectorAll('.hit').length === {len(found)}"
        )
    assert browser.errors == []
