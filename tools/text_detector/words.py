"""What the text says: words, numbers, names and sentences, with no word shared between splits."""

from __future__ import annotations

import functools
import hashlib
import string

import numpy as np

COMMON = """
the of and to in for on with at from by about after before over under into news live breaking report
weather traffic market today tonight morning evening world sports final score match goal team home
away city street avenue road station airport exit entrance open closed sale discount price free shop
store market cafe coffee bar restaurant hotel bakery pharmacy bank post office police fire hospital
school library museum theatre cinema music concert festival park garden river bridge tower square
north south east west left right stop slow speed limit danger warning caution keep clear no entry
parking private public water gas electric oil energy power green blue red white black gold silver
first second third last next new old big small great best fresh quality service customer support
contact phone email website online order delivery menu pizza burger salad bread milk fish meat fruit
juice beer wine tea summer winter spring autumn january february march april june july august
september october november december monday tuesday wednesday thursday friday saturday sunday
president minister government election vote council court law trial economy stocks shares inflation
interest bank rate growth crisis storm rain snow wind sunny cloudy degrees temperature forecast
humidity pressure flood earthquake rescue search camera channel record play pause volume battery
signal recording motion front rear door gate lobby garage warehouse floor level room line platform
train bus taxi metro ferry flight departure arrival delay ticket passenger information exhibition
gallery photo video studio production director producer editor written music sound costume design
special effects cast starring presents episode season chapter part volume edition university college
department professor doctor engineer manager chief captain coach player striker keeper defender
league cup champion winner record season quarter half time extra penalty corner offside replay
interview exclusive update developing story analysis opinion culture science health education
technology software hardware network server system error loading please wait press enter start exit
help settings profile account login password welcome thank you
""".split()  # noqa: SIM905

SYLLABLES = """
ba be bi bo bu ca ce co cu da de di do du fa fe fi fo ga ge go gu ha he hi ho ja jo ka ke ki ko la
le li lo lu ma me mi mo mu na ne ni no nu pa pe pi po pu ra re ri ro ru sa se si so su ta te ti to
tu va ve vi vo wa we wi ya yo za zo an en in on un ar er ir or ur al el il ol as es is os ster ton
burg land stein ford ville ham wick grad ine ette
""".split()  # noqa: SIM905

HAN = (
    "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可里后小"
    "么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长新"
    "闻直播最天气市场体育比赛路口车站出口"
)
KANA = (
    "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをんアイウエ"
    "オカキクケコサシスセソタチツテトナニヌネノ日本東京大阪駅前出口電車新聞天気"
)
HANGUL = "가나다라마바사아자차카타파하서울부산대한민국뉴스날씨시장학교병원은행식당커피공원도로출구입구안내방송경기"
CYRILLIC = "абвгдежзиклмнопрстуфхцчшщыэюя"
TITLES = ["Dr.", "Mr.", "Mrs.", "Prof.", "Sgt.", "Capt.", "Sen."]
MARKS = ["", "", "", "", "", "!", "?", ".", ":", ","]


def split_of(word: str) -> str:
    """Say which split a word belongs to, from a hash of its letters: 80 % train, 10 % val, 10 % test."""
    bucket = hashlib.md5(word.lower().encode(), usedforsecurity=False).digest()[0] % 10
    return {8: "val", 9: "test"}.get(bucket, "train")


@functools.cache
def vocabulary(split: str) -> list[str]:
    """List a split's words: its share of the common words, and made-up words that stand for names."""
    rng = np.random.default_rng(20)
    made_up = {"".join(rng.choice(SYLLABLES, rng.integers(1, 5))) for _ in range(20000)}
    common = [word for word in dict.fromkeys(COMMON) if split_of(word) == split]
    return common * 6 + sorted(word for word in made_up if split_of(word) == split and len(word) > 2)


def cased(rng: np.random.Generator, text: str) -> str:
    """Put text in one of the cases seen on screen; capitals are the most common."""
    return [text.upper, text.upper, text.title, text.capitalize, text.lower][rng.integers(5)]()


def word(rng: np.random.Generator, split: str) -> str:
    """Draw one lower-case word."""
    words = vocabulary(split)
    return words[rng.integers(len(words))]


def digits(rng: np.random.Generator, count: int) -> str:
    """Draw a number of `count` digits, zeros in front included."""
    return "".join(rng.choice(list(string.digits), count))


def number(rng: np.random.Generator) -> str:
    """Draw a number as screens show it: a time, date, score, price, share, plate, phone or code."""
    d = functools.partial(digits, rng)
    hour, minute, second = rng.integers(24), rng.integers(60), rng.integers(60)
    forms = [
        lambda: f"{hour:02d}:{minute:02d}", lambda: f"{hour:02d}:{minute:02d}:{second:02d}",
        lambda: f"{rng.integers(1980, 2040)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}",
        lambda: f"{rng.integers(1, 29):02d}/{rng.integers(1, 13):02d}/{rng.integers(1980, 2040)}",
        lambda: f"{rng.integers(10)} - {rng.integers(10)}",
        lambda: f"{rng.integers(120)}-{rng.integers(120)}",
        lambda: f"{'$€£'[rng.integers(3)]}{rng.integers(200)}.{d(2)}", lambda: f"{rng.integers(101)}%",
        lambda: f"+{rng.integers(10)}.{d(2)}%", lambda: str(rng.integers(100)),
        lambda: d(int(rng.integers(1, 7))),
        lambda: f"{rng.integers(-20, 45)}°C", lambda: f"{d(3)} {d(4)} {d(3)}",
        lambda: f"{rng.integers(1, 999)}",
        lambda: "".join(rng.choice(list(string.ascii_uppercase), 3)) + " " + d(3),
        lambda: f"{rng.integers(10)}.{d(2)}",
    ]  # fmt: skip
    return forms[rng.integers(len(forms))]()


def stamp(rng: np.random.Generator) -> str:
    """Draw what a camera writes into its picture: its name, a date, a time."""
    date = f"{rng.integers(1999, 2040)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
    if rng.random() < 0.4:
        date = date.replace("-", "/.:"[rng.integers(3)])
    time = f"{rng.integers(24):02d}:{rng.integers(60):02d}" + (f":{rng.integers(60):02d}" if rng.random() < 0.7 else "")
    name = f"{['CAM', 'Camera', 'CH', 'IPC', 'DVR', 'REC', 'Gate', 'CAM-'][rng.integers(8)]} {digits(rng, 2)}"
    forms = [
        f"{date} {time}",
        f"{name} {date} {time}",
        f"{name}  {date}  {time}",
        name,
        time,
        date,
        f"{time} {date}",
    ]
    return forms[rng.integers(len(forms))]


def phrase(rng: np.random.Generator, split: str, low: int = 1, high: int = 5) -> str:
    """Draw `low` to `high` words in one case, sometimes with a number or a mark."""
    parts = [word(rng, split) for _ in range(rng.integers(low, high + 1))]
    if rng.random() < 0.2:
        parts[rng.integers(len(parts))] = number(rng)
    text = cased(rng, " ".join(parts))
    if rng.random() < 0.05:
        text = f"www.{parts[0].lower()}.{'com' if rng.random() < 0.5 else 'org'}"
    return text + MARKS[rng.integers(len(MARKS))]


def name(rng: np.random.Generator, split: str) -> str:
    """Draw a person's name."""
    text = f"{word(rng, split).capitalize()} {word(rng, split).capitalize()}"
    text = f"{TITLES[rng.integers(len(TITLES))]} {text}" if rng.random() < 0.15 else text
    return text.upper() if rng.random() < 0.5 else text


def foreign(rng: np.random.Generator, script: str) -> str:
    """Draw text in a script that `fonts.SCRIPTS` knows, other than Latin."""
    letters = list({"han": HAN, "kana": KANA, "hangul": HANGUL, "cyrillic": CYRILLIC}[script])
    if script == "cyrillic":
        return cased(
            rng,
            " ".join("".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(rng.integers(1, 4))),
        )
    return "".join(rng.choice(letters, rng.integers(2, 13)))
