"""Which engine reads which language, and which of several readings of a line is right."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

from daemon.errors import MachineError, ModelError
from daemon.languages import LANGUAGES, Language
from daemon.pipeline.engines import WHOLE, RapidOcrReader, TesseractReader, installed_packs, parts
from daemon.pipeline.inference import character_list
from daemon.pipeline.readings import Reading, TextReader
from daemon.pipeline.records import Image, ModelInfo
from daemon.pipeline.regions import rapidocr_models
from daemon.pipeline.scripts import LOOKS_OF, could_be, main_script, script_of, skeleton
from daemon.settings import Settings

SURE = 0.9
"""Confidence from which on other engines are not asked about a line."""
LEAST_COMPLETE = 0.5
"""Confidence from which on a reading wins that differs by letters which the other engine does not have."""
ALIKE = 0.8
"""Share of letters that two readings of one line have in common, at least."""
LEAN = 0.01
"""By how much more confident Tesseract is in the language that a line of look-alike letters is in."""


STRANGE = 0.5
"""Part of its confidence that counts against others' if a reading has letters of a script that no language is in."""
UNICODE_SCRIPTS = {"Jpan": {"CJK", "HIRAGANA", "KATAKANA"}, "Hans": {"CJK"}, "Hant": {"CJK"}}
"""What the names of letters begin with, by script; RapidOCR's own recogniser has Greek letters too."""


@dataclass(frozen=True)
class Plan:
    """What reads the languages that the settings name."""

    own: tuple[Language, ...]
    """Read by the recogniser of RapidOCR's wheel."""
    models: dict[Path, tuple[Language, ...]]
    """Read by recognisers in ``data/models/text/``."""
    tesseract: tuple[Language, ...]

    def packs(self, *, latin: bool) -> list[str]:
        """Return the names of Tesseract's data for languages in Latin letters, or for the others.

        English is last, as Tesseract takes the first that does well, and English does well on letters without marks.
        """
        packs = [language.pack for language in self.tesseract if (language.script == "Latn") is latin]
        return sorted(packs, key=lambda pack: pack == "eng")

    def describe(self) -> str:
        """Say in words what reads what."""
        by = [
            (self.own, rapidocr_models()[1].stem),
            *((languages, path.stem) for path, languages in self.models.items()),
        ]
        by.append((self.tesseract, f"Tesseract ({', '.join(language.pack for language in self.tesseract)})"))
        return "; ".join(
            f"{', '.join(each.code for each in languages)} by {name}" for languages, name in by if languages
        )


def plan(settings: Settings) -> Plan:
    """Find what reads each language: the engine set, for RapidOCR a recogniser in ``data/models/text/`` or Tesseract.

    Raises:
        MachineError: nothing here reads one of them; the message says what to install.
        ModelError: a recogniser cannot be used.
    """
    languages = [LANGUAGES[code] for code in settings.text_languages]
    own: list[Language] = []
    models: dict[Path, tuple[Language, ...]] = {}
    if settings.text_engine == "rapidocr":
        characters = frozenset(character_list(rapidocr_models()[1]))
        own = [language for language in languages if language.is_covered(characters)]
        for language in languages:
            path = settings.text_models_dir / f"{language.model}.onnx"
            if language.model and language not in own and path.is_file():
                _require_letters(path, language)
                models[path] = (*models.get(path, ()), language)
    read = (*own, *itertools.chain.from_iterable(models.values()))
    rest = tuple(language for language in languages if language not in read)
    if rest:
        _require_packs(rest, settings)
    return Plan(tuple(own), models, rest)


def _require_letters(path: Path, language: Language) -> None:
    try:
        characters = frozenset(character_list(path))
    except (RuntimeError, AttributeError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is not a RapidOCR recogniser that can be read; remove it or fetch it again."
        ) from error
    if not language.is_covered(characters):
        raise ModelError(f"{path} does not have all letters of {language.name}; remove it or fetch it again.")


def _require_packs(languages: Sequence[Language], settings: Settings) -> None:
    try:
        installed = installed_packs()
    except MachineError:
        if settings.text_engine == "tesseract":
            raise
        installed = frozenset()
    missing = [language for language in languages if language.pack not in installed]
    if not missing:
        return
    packages = " ".join(([] if installed else ["tesseract-ocr"]) + [language.package for language in missing])
    names = ", ".join(f"{language.name} ({language.code})" for language in missing)
    pull = [language.code for language in missing if language.model and settings.text_engine == "rapidocr"]
    fetch = f", or run dropframe models pull text:{pull[0]}" if pull else ""
    raise MachineError(
        f"text_languages names {names}, which nothing here reads; install the Debian packages {packages}{fetch}."
    )


def device_of_text(settings: Settings, device: str) -> str:
    """Return where text is found and read, ``cpu`` or ``cuda:N``, given the device in use; see ``onnx_device``."""
    if device == "cpu":
        return device
    from daemon.pipeline.onnx_model import onnx_device  # loads torch

    return onnx_device(settings.device, device)


def load_reader(settings: Settings, device: str = "cpu") -> TextReader:
    """Load what reads the languages that the settings name.

    Args:
        settings: Which engine, which languages.
        device: ``cpu`` or ``cuda:N``; Tesseract has no use for a GPU.

    Raises:
        MachineError: something is not installed, or the GPU cannot be used.
        ModelError: a recogniser cannot be used.
    """
    wanted = plan(settings)
    device = device_of_text(settings, device)
    readers: list[TextReader] = [RapidOcrReader(device)] if wanted.own else []
    readers += [RapidOcrReader(device, path) for path in wanted.models]
    groups = [packs for packs in (wanted.packs(latin=True), wanted.packs(latin=False)) if packs]
    # They work one after another, and must have something to show before the job counts as stalled.
    stall_seconds = settings.stall_seconds / (len(groups) + 1 if readers else max(1, len(groups)))
    readers += [TesseractReader(stall_seconds, packs) for packs in groups]
    if len(readers) == 1:
        return readers[0]
    others = {
        language.script for language in (*itertools.chain.from_iterable(wanted.models.values()), *wanted.tesseract)
    }
    judge = None
    if wanted.own and wanted.tesseract and others & set(LOOKS_OF) and "eng" in installed_packs():
        judge = TesseractReader(stall_seconds)
    usual = {"LATIN"}.union(*(UNICODE_SCRIPTS.get(language.script, set()) for language in wanted.own))
    return ManyReaders(readers[0], readers[1:], frozenset(others), judge, frozenset(usual) if wanted.own else None)


class ManyReaders:
    """Reads each line with the first reader and, unless that is sure of it, with the others; the best is kept.

    Args:
        first: The one that reads most.
        others: The others.
        scripts: What the others read (ISO 15924).
        judge: Tesseract with English, which tells whether a line that could be in two scripts looks like words.
        usual: What the names of letters begin with that the first is wanted for; None stands for all.
    """

    def __init__(
        self,
        first: TextReader,
        others: Sequence[TextReader],
        scripts: frozenset[str],
        judge: TextReader | None = None,
        usual: frozenset[str] | None = None,
    ) -> None:
        self._usual = usual
        self._first = first
        self._others = others
        self._judge = judge
        self._scripts = scripts
        self._characters: Collection[str] = getattr(first, "characters", ())

    def models(self) -> list[ModelInfo]:
        """See TextReader.models."""
        readers = [self._first, *self._others, *([self._judge] if self._judge else [])]
        return [model for reader in readers for model in reader.models()]

    def __call__(self, crops: Sequence[Image]) -> Iterator[Reading | None]:
        """See TextReader."""
        for some in parts(crops):
            yield from self._best(some)

    def _best(self, crops: Sequence[Image]) -> Iterator[Reading | None]:
        first: Iterable[Reading | None] = self._first(crops)
        asked, judged = crops, []
        if self._characters:
            first = list(first)  # it takes no time to speak of; the others are slow, and give what they have at once
            asked = [crop for crop, reading in zip(crops, first, strict=True) if not self._is_sure(reading)]
            judged = [crop for crop, reading in zip(crops, first, strict=True) if self._is_doubtful(reading)]
        others = [other(asked) for other in self._others]
        judgements = self._judge(judged) if self._judge else itertools.repeat(None)
        for ours in first:
            if self._is_sure(ours):
                yield ours
                continue
            judgement = next(judgements) if self._is_doubtful(ours) else None
            best = ours
            for other in others:
                weight = STRANGE if best is ours and self._is_strange(ours) else 1.0
                best = better(best, next(other), self._characters, judgement, weight)
            yield best

    def _is_strange(self, reading: Reading | None) -> bool:
        return bool(reading and self._usual and {script_of(c) for c in reading.text if c.isalpha()} - self._usual)

    def _is_sure(self, reading: Reading | None) -> bool:
        """Tell whether a line cannot be in the letters of another reader."""
        if not self._characters or "Latn" in self._scripts or reading is None:
            return False
        if reading.confidence < SURE or reading.covered < WHOLE:
            return False
        letters = [c for c in reading.text if c.isalpha()]
        looks = frozenset().union(*(LOOKS_OF.get(script, frozenset()) for script in self._scripts))
        return bool(reading.text.strip()) and (not letters or any(_is_decisive(c, looks) for c in letters))

    def _is_doubtful(self, reading: Reading | None) -> bool:
        return reading is not None and any(could_be(script, reading.text) for script in self._scripts)


def _is_decisive(letter: str, looks: frozenset[str]) -> bool:
    """Tell whether a letter of RapidOCR's own recogniser looks like none of another script."""
    if letter.isascii():
        return letter not in looks
    return script_of(letter) in {"CJK", "HIRAGANA", "KATAKANA"}


def better(
    ours: Reading | None,
    theirs: Reading | None,
    characters: Collection[str],
    judgement: Reading | None = None,
    weight: float = 1.0,
) -> Reading | None:
    """Return the better of two readings of one line.

    Args:
        ours: That of the first engine.
        theirs: That of another.
        characters: What the first can read; empty if that is not known.
        judgement: That of Tesseract in English, if the line could be in another script.
        weight: Part of the first's confidence that counts.
    """
    if theirs is None or not theirs.text.strip():
        return ours
    if ours is None:
        return theirs
    if any(c.isalpha() for c in ours.text) and skeleton(ours.text) == skeleton(theirs.text):
        if main_script(ours.text) == main_script(theirs.text):
            return ours
        leans = theirs.confidence > (judgement or ours).confidence + LEAN
        return replace(ours, twin=theirs, leans_to_twin=leans)
    if theirs.confidence >= LEAST_COMPLETE and _completes(ours.text, theirs.text, characters):
        return theirs
    return theirs if theirs.confidence > weight * ours.confidence else ours


def _completes(ours: str, theirs: str, characters: Collection[str]) -> bool:
    """Tell whether one reading is the other with the letters that its engine does not have."""
    known = "".join(c for c in theirs if c in characters)
    if not characters or len(known) == len(theirs):
        return False
    return SequenceMatcher(None, skeleton(ours), skeleton(known)).ratio() >= ALIKE
