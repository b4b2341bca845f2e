"""Clips whose texts and times are known: what scoreboards, cameras, news and films show."""

from __future__ import annotations

from itertools import accumulate, pairwise

from tests.derived_documents import Clip, Place, Shown

CLOCK: Place = (27, 20, 505, 60)
BOARD: Place = (40, 30, 390, 86)
LOW: Place = (300, 600, 980, 650)
LOWER: Place = (300, 655, 980, 705)
SMALL: Place = (1100, 30, 1180, 80)


def in_turn(texts: list[str], frames: int | list[int], place: Place, *, begin: int = 0, pause: int = 0) -> list[Shown]:
    """Show one text after the other in one place."""
    lengths = [frames] * len(texts) if isinstance(frames, int) else frames
    starts = accumulate((length + pause for length in lengths), initial=begin)
    return [Shown(text, n, n + length - 1, place) for text, n, length in zip(texts, starts, lengths, strict=False)]


def uneven(position: int) -> float:
    """Times of a screen recording: many frames while something moves, few while nothing does."""
    return round(position // 10 * 0.7 + position % 10 * 0.033, 6)


def blinking(text: str, on: int, off: int, times: int, place: Place) -> list[Shown]:
    """Show a text again and again; it counts as one."""
    return [Shown(text, n * (on + off), n * (on + off) + on - 1, place, reads=False) for n in range(times)]


SCORES = ["0 - 0", "1 - 0", "1 - 1", "2 - 1", "2 - 2", "3 - 2"]
PAIRS = [
    "WE WILL MEET AT DAWN",
    "WE WILL MELT AT DAWN",
    "I can hear the sea",
    "I can hear the tea",
    "He is not coming back",
    "He is now coming back",
]
FILM = ["Where have you been?", "I was in the garden.", "All night long?", "Until the rain came.", "Come inside now."]

CLIPS = [
    Clip(
        "camera clock, minutes",
        157,
        in_turn([f"CAM 03 2026-11-21 08:{m}" for m in range(10, 17)], [25] * 6 + [7], CLOCK),
    ),
    Clip("clock, seconds", 300, in_turn([f"{h}:59:{s:02}" for h, s in [(9, s) for s in range(48, 60)]], 25, CLOCK)),
    Clip("clock past the hour", 200, in_turn(["09:58", "09:59", "10:00", "10:01"], 50, CLOCK)),
    Clip("countdown", 325, in_turn([f"TIME LEFT 0:{s:02}" for s in range(12, -1, -1)], 25, CLOCK)),
    Clip("score", 480, in_turn([f"HOME {s} AWAY" for s in SCORES], [60, 90, 50, 120, 80, 80], BOARD)),
    Clip(
        "score and clock",
        250,
        [
            *in_turn([f"HOME {s} AWAY" for s in SCORES[:3]], [80, 90, 80], BOARD),
            *in_turn([f"{m}:{s:02}" for m, s in [(44, s) for s in range(50, 60)]], 25, SMALL),
        ],
    ),
    Clip(
        "ticker",
        400,
        in_turn(
            [
                "BREAKING NEWS TRAFFIC IN MADRID",
                "WEATHER SUNNY 24 DEGREES",
                "WEATHER SUNNY 25 DEGREES",
                "MARKETS CLOSE HIGHER",
            ],
            100,
            (55, 660, 823, 703),
        ),
    ),
    Clip("pairs, a letter changed", 300, in_turn(PAIRS, 50, LOW)),
    Clip("pairs with pauses", 420, in_turn(PAIRS, 50, LOW, pause=20)),
    Clip("film", 450, in_turn(FILM, [60, 70, 50, 80, 75], LOW, begin=10, pause=20)),
    Clip(
        "fade", 260, [Shown("A FILM BY NOBODY", 10, 99, LOW, fade=4), Shown("IN THE YEAR 1984", 140, 239, LOW, fade=4)]
    ),
    Clip("blink, short", 200, [*blinking("PRESS START", 12, 8, 10, LOW), Shown("HI-SCORE 12400", 0, 199, CLOCK)]),
    Clip("blink, long", 250, in_turn(["LOW BATTERY"] * 5, 25, LOW, pause=25)),
    Clip("moves along", 150, [Shown("FLIGHT TO OSLO DELAYED", 5, 144, (10, 300, 360, 340), (6, 0))]),
    Clip(
        "credits roll",
        220,
        [
            Shown(f"{job} {name}", n * 12, n * 12 + 99, (400, 700, 900, 740), (0, -7))
            for n, (job, name) in enumerate(
                [("Camera", "Ida Berg"), ("Sound", "Tom Adler"), ("Editor", "Lee Novak"), ("Music", "Ana Prieto")]
            )
        ],
    ),
    Clip(
        "two lines",
        300,
        [
            *in_turn(["Somewhere in the north", "there was a small house"], [150, 150], LOW),
            *in_turn(["a long time ago", "and in the house a cat", "who liked to read"], 100, LOWER),
        ],
    ),
    Clip("60 frames/s", 600, in_turn([f"LAP {n} OF 12" for n in range(6, 12)], 100, CLOCK), step_s=1 / 60),
    Clip(
        "every fifth frame", 100, in_turn([f"CAM 1 12:00:{s}" for s in range(10, 30)], 5, CLOCK), step_s=0.2, stride=5
    ),
    Clip(
        "a frame a second",
        60,
        in_turn([f"CAM 1 12:00:{s}" for s in range(10, 59)], 1, CLOCK),
        step_s=1.0,
        noise=0.0,
        missed=0.0,
        stride=25,
    ),
    Clip(
        "uneven times",
        200,
        in_turn(["STEP 1 OF 4", "STEP 2 OF 4", "STEP 3 OF 4", "STEP 4 OF 4"], 50, CLOCK),
        times=uneven,
    ),
    Clip("temperature", 500, in_turn(["OSLO 21 C", "OSLO 22 C", "OSLO 21 C", "OSLO 20 C", "OSLO 21 C"], 100, SMALL)),
    Clip(
        "badly read", 300, [Shown("QUARTER FINAL", 0, 299, LOW), Shown("GROUP B MATCH 10", 20, 279, CLOCK)], noise=0.25
    ),
    Clip(
        "departures",
        300,
        [
            line
            for row, city in enumerate(["LONDON", "PARIS", "ROME", "VIENNA", "BERLIN"])
            for line in in_turn(
                [f"{9 + row}:10 {city} GATE B{12 + row}", f"{9 + row}:10 {city} GATE C{21 + row}"],
                [100 + 20 * row, 200 - 20 * row],
                (100, 100 + 60 * row, 800, 145 + 60 * row),
            )
        ],
    ),
    Clip("in turn", 400, in_turn(["TIME 12:40", "TEMP 21 C", "TIME 12:41", "TEMP 22 C"], 100, SMALL)),
    Clip("ready, steady", 100, in_turn(["3", "2", "1", "GO"], 25, (600, 300, 700, 420))),
    Clip(
        "tenths",
        100,
        in_turn(
            [f"LAP 1 0:{s}.{t}" for s, t in [(10 + n // 10, n % 10) for n in range(40)]],
            [2 + n % 2 for n in range(40)],
            CLOCK,
        ),
        noise=0.0,
        missed=0.0,
    ),
]


def wanted(clip: Clip) -> list[Shown]:
    """Return the spans that are to be found in a clip, in order of appearance."""
    spans = [line for line in clip.shown if line.reads]
    flickering: dict[str, list[Shown]] = {}
    for line in clip.shown:
        if not line.reads:
            flickering.setdefault(line.text, []).append(line)
    spans += [
        Shown(text, min(p.first for p in parts), max(p.last for p in parts)) for text, parts in flickering.items()
    ]
    return sorted((s for s in spans if s.first < clip.frames), key=lambda line: line.first)


def check_pairwise(clip: Clip) -> None:
    """Make sure that a clip's places are not shown twice at once."""
    for one, other in pairwise(
        sorted((s for s in clip.shown if s.moving == (0.0, 0.0)), key=lambda s: (s.place, s.first))
    ):
        assert one.place != other.place or one.last < other.first, clip.name
