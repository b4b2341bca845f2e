"""The languages that text can be in: what each is written with, and what reads it (docs/text-languages.md)."""

# ruff: noqa: RUF001 - letters of many scripts

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """A language of text."""

    code: str
    """ISO 639-1, as in the setting ``text_languages``."""
    name: str
    script: str
    """ISO 15924, such as ``Latn``."""
    pack: str
    """Tesseract's name of its trained data."""
    model: str | None
    """RapidOCR's recogniser that was made for it; None if there is none, or if that of the wheel reads it."""
    letters: str
    """What it is written with besides A to Z; of a script of very many signs, some of them."""

    @property
    def package(self) -> str:
        """Debian's package of the Tesseract data."""
        return f"tesseract-ocr-{self.pack.replace('_', '-')}"

    def is_covered(self, characters: Collection[str]) -> bool:
        """Tell whether a recogniser that knows these characters has every letter, small and capital."""
        capitals = (letter.upper() for letter in self.letters)
        return all(c in characters for c in (*self.letters, *capitals) if len(c) == 1)


RUSSIAN = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
TURKIC = RUSSIAN + "ё"
SERBIAN = "абвгдежзијклмнопрстуфхцчшљњџ"
VIETNAMESE = "àáâãèéêìíòóôõùúýăđĩũơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ"
ARABIC = "ابتثجحخدذرزسشصضطظعغفقكلمنهوي"
PERSIAN = "ابپتثجچحخدذرزژسشصضطظعغفقکگلمنهوی"
HEBREW = "אבגדהוזחטיכךלמםנןסעפףצץקרשת"
DEVANAGARI = "अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसहािीुूेैोौं्"


def _latin(*rows: tuple[str, str, str, str]) -> list[Language]:
    return [Language(code, name, "Latn", pack, None, letters) for code, name, pack, letters in rows]


def _cyrillic(*rows: tuple[str, str, str, str, str]) -> list[Language]:
    return [Language(code, name, "Cyrl", pack, model, letters) for code, name, pack, model, letters in rows]


EAST_SLAVIC, OTHER_CYRILLIC = "eslav_PP-OCRv5_rec_mobile", "cyrillic_PP-OCRv5_rec_mobile"
ARAB, DEVA = "arabic_PP-OCRv5_rec_mobile", "devanagari_PP-OCRv5_rec_mobile"

LANGUAGES = {
    language.code: language
    for language in (
        *_latin(
            ("en", "English", "eng", ""),
            ("af", "Afrikaans", "afr", "êëéèîïôû"),
            ("az", "Azerbaijani", "aze", "çəğıöşü"),
            ("bs", "Bosnian", "bos", "čćđšž"),
            ("ca", "Catalan", "cat", "àçèéíïòóúü"),
            ("cs", "Czech", "ces", "áčďéěíňóřšťúůýž"),
            ("cy", "Welsh", "cym", "âêîôûŵŷ"),
            ("da", "Danish", "dan", "æøå"),
            ("de", "German", "deu", "äöüß"),
            ("eo", "Esperanto", "epo", "ĉĝĥĵŝŭ"),
            ("es", "Spanish", "spa", "áéíñóúü"),
            ("et", "Estonian", "est", "äõöüšž"),
            ("eu", "Basque", "eus", "ñ"),
            ("fi", "Finnish", "fin", "äöå"),
            ("fo", "Faroese", "fao", "áðíóúýæø"),
            ("fr", "French", "fra", "àâæçèéêëîïôœùûü"),
            ("ga", "Irish", "gle", "áéíóú"),
            ("gl", "Galician", "glg", "áéíñóú"),
            ("hr", "Croatian", "hrv", "čćđšž"),
            ("hu", "Hungarian", "hun", "áéíóöőúüű"),
            ("id", "Indonesian", "ind", ""),
            ("is", "Icelandic", "isl", "áéíóúýþæöð"),
            ("it", "Italian", "ita", "àèéìòù"),
            ("la", "Latin", "lat", ""),
            ("lb", "Luxembourgish", "ltz", "äëé"),
            ("lt", "Lithuanian", "lit", "ąčęėįšųūž"),
            ("lv", "Latvian", "lav", "āčēģīķļņšūž"),
            ("ms", "Malay", "msa", ""),
            ("mt", "Maltese", "mlt", "ċġħż"),
            ("nl", "Dutch", "nld", "éèëïö"),
            ("no", "Norwegian", "nor", "æøå"),
            ("oc", "Occitan", "oci", "áàçèéíòóú"),
            ("pl", "Polish", "pol", "ąćęłńóśźż"),
            ("pt", "Portuguese", "por", "àáâãçéêíóôõú"),
            ("ro", "Romanian", "ron", "ăâîșț"),
            ("sk", "Slovak", "slk", "áäčďéíĺľňóôŕšťúýž"),
            ("sl", "Slovenian", "slv", "čšž"),
            ("sq", "Albanian", "sqi", "çë"),
            ("sv", "Swedish", "swe", "åäö"),
            ("sw", "Swahili", "swa", ""),
            ("tl", "Tagalog", "fil", "ñ"),
            ("tr", "Turkish", "tur", "çğıİöşü"),
        ),
        Language("vi", "Vietnamese", "Latn", "vie", "latin_PP-OCRv5_rec_mobile", VIETNAMESE),
        *_cyrillic(
            ("ru", "Russian", "rus", EAST_SLAVIC, RUSSIAN),
            ("be", "Belarusian", "bel", EAST_SLAVIC, "абвгдежзйклмнопрстуфхцчшыьэюяіў"),
            ("uk", "Ukrainian", "ukr", EAST_SLAVIC, "абвгдежзийклмнопрстуфхцчшщьюяіїєґ"),
            ("bg", "Bulgarian", "bul", OTHER_CYRILLIC, "абвгдежзийклмнопрстуфхцчшщъьюя"),
            ("kk", "Kazakh", "kaz", OTHER_CYRILLIC, TURKIC + "әғқңөұүһі"),
            ("ky", "Kyrgyz", "kir", OTHER_CYRILLIC, TURKIC + "ңөү"),
            ("mk", "Macedonian", "mkd", OTHER_CYRILLIC, SERBIAN + "ѓќѕ"),
            ("mn", "Mongolian", "mon", OTHER_CYRILLIC, TURKIC + "өү"),
            ("sr", "Serbian", "srp", OTHER_CYRILLIC, SERBIAN + "ђћ"),
            ("tg", "Tajik", "tgk", OTHER_CYRILLIC, TURKIC + "ғқҳҷӣӯ"),
            ("tt", "Tatar", "tat", OTHER_CYRILLIC, TURKIC + "әөүҗңһ"),
        ),
        Language("el", "Greek", "Grek", "ell", "el_PP-OCRv5_rec_mobile", "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώ"),
        Language("hy", "Armenian", "Armn", "hye", None, "աբգդեզէըթժիլխծկհձղճմյնշոչպջռսվտրցւփքօֆ"),
        Language("ka", "Georgian", "Geor", "kat", None, "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ"),
        Language("he", "Hebrew", "Hebr", "heb", None, HEBREW),
        Language("yi", "Yiddish", "Hebr", "yid", None, HEBREW),
        Language("ar", "Arabic", "Arab", "ara", ARAB, ARABIC),
        Language("fa", "Persian", "Arab", "fas", ARAB, PERSIAN),
        Language("ug", "Uyghur", "Arab", "uig", ARAB, "ئابپتجچخدرزژسشغفقكگڭلمنھوۇۆۈۋېىي"),
        Language("ur", "Urdu", "Arab", "urd", ARAB, PERSIAN.replace("ه", "") + "ٹڈڑںہھے"),
        Language("hi", "Hindi", "Deva", "hin", DEVA, DEVANAGARI),
        Language("mr", "Marathi", "Deva", "mar", DEVA, DEVANAGARI + "ळ"),
        Language("ne", "Nepali", "Deva", "nep", DEVA, DEVANAGARI),
        Language("sa", "Sanskrit", "Deva", "san", DEVA, DEVANAGARI),
        Language("bn", "Bengali", "Beng", "ben", None, "অআইউএকখগচজটডতদনপবভমযরলশসহ"),
        Language("gu", "Gujarati", "Gujr", "guj", None, "અઆઇઉએકખગચજટડતદનપબભમયરલવશસહ"),
        Language("kn", "Kannada", "Knda", "kan", None, "ಅಆಇಉಎಕಖಗಚಜಟಡತದನಪಬಭಮಯರಲವಶಸಹ"),
        Language("ml", "Malayalam", "Mlym", "mal", None, "അആഇഉഎകഖഗചജടഡതദനപബഭമയരലവശസഹ"),
        Language("or", "Odia", "Orya", "ori", None, "ଅଆଇଉଏକଖଗଚଜଟଡତଦନପବଭମଯରଲଶସହ"),
        Language("pa", "Punjabi", "Guru", "pan", None, "ਅਆਇਉਏਕਖਗਚਜਟਡਤਦਨਪਬਭਮਯਰਲਵਸਹ"),
        Language("si", "Sinhala", "Sinh", "sin", None, "අආඉඋඑකගචජටඩතදනපබමයරලවශසහ"),
        Language("ta", "Tamil", "Taml", "tam", "ta_PP-OCRv5_rec_mobile", "அஆஇஉஎகஙசடணதநனபமயரலவழளற"),
        Language("te", "Telugu", "Telu", "tel", "te_PP-OCRv5_rec_mobile", "అఆఇఉఎకఖగచజటడతదనపబభమయరలవశసహ"),
        Language("km", "Khmer", "Khmr", "khm", None, "កខគងចជញដណតទនបពមយរលវសហអ"),
        Language("lo", "Lao", "Laoo", "lao", None, "ກຂຄງຈສຊຍດຕຖທນບປຜຝພຟມຢຣລວຫອຮ"),
        Language("my", "Burmese", "Mymr", "mya", None, "ကခဂငစဆဇညတထဒဓနပဖဗဘမယရလဝသဟအ"),
        Language("th", "Thai", "Thai", "tha", "th_PP-OCRv5_rec_mobile", "กขคงจชซญดตถทธนบปผฝพฟภมยรลวศษสหอฮะัาำิีึืุูเแโใไ"),
        Language("am", "Amharic", "Ethi", "amh", None, "ሀለመሰረሸቀበተነአከወዘየደገጠፈ"),
        Language("ti", "Tigrinya", "Ethi", "tir", None, "ሀለመሰረሸቀበተነአከወዘየደገጠፈ"),
        Language(
            "ko",
            "Korean",
            "Kore",
            "kor",
            "korean_PP-OCRv5_rec_mobile",
            "가나다라마바사아자차카타파하한글은는이를을고에서",
        ),
        Language(
            "ja",
            "Japanese",
            "Jpan",
            "jpn",
            None,
            "あいうえおかがさしすたちつなにのはまやらをんアイウカキシスタトナンー日本語",
        ),
        Language("zh", "Chinese, simplified", "Hans", "chi_sim", None, "的一是不了在人有我他这中国会们"),
        Language("zh-hant", "Chinese, traditional", "Hant", "chi_tra", None, "的一是不了在人有我他這中國會們"),
    )
}
"""By code. Letters that stand in names from abroad alone are not asked for."""

TEXT_MODELS = {
    EAST_SLAVIC: "08705d6721849b1347d26187f15a5e362c431963a2a62bfff4feac578c489aab",
    OTHER_CYRILLIC: "90f761b4bfcce0c8c561c0cb5c887b0971d3ec01c32164bdf7374a35b0982711",
    ARAB: "c1192e632d0baa9146ae5b756a0e635e3dc63c1733737ebfd1629e87144e9295",
    DEVA: "d6f0a906580e3fa6b324a318718f1f31f268b6ea8ef985f91c2012a37f52c91e",
    "el_PP-OCRv5_rec_mobile": "b4368bccd557123c702b7549fee6cd1e94b581337d1c9b65310f109131542b7f",
    "korean_PP-OCRv5_rec_mobile": "cd6e2ea50f6943ca7271eb8c56a877a5a90720b7047fe9c41a2e541a25773c9b",
    "latin_PP-OCRv5_rec_mobile": "b20bd37c168a570f583afbc8cd7925603890efbcdc000a59e22c269d160b5f5a",
    "ta_PP-OCRv5_rec_mobile": "a42448808b7dea87597336f12438935f40353f1949e8360acd9e06b4da21bfe1",
    "te_PP-OCRv5_rec_mobile": "a3690451b50028a09a3316a1274f7c05728151ea3f8fd392696397a7fefcbd92",
    "th_PP-OCRv5_rec_mobile": "de541dd83161c241ff426f7ecfd602a0ba77d686cf3ab9a6c255ea82fd08006e",
}
"""SHA-256 of RapidOCR's recognisers by name."""


def known_codes(codes: list[str]) -> list[str]:
    """Return codes of languages, each once and in small letters.

    Raises:
        ValueError: one is not known, or there is none; the message says which was meant, perhaps.
    """
    wanted = list(dict.fromkeys(code.strip().lower() for code in codes))
    for code in wanted:
        if code not in LANGUAGES:
            raise ValueError(f"text_languages: {code!r} is not a language that can be read{_meant(code)}")
    if not wanted:
        raise ValueError("text_languages must name one language at least, such as 'en'.")
    return wanted


def _meant(code: str) -> str:
    names = {name.lower(): each.code for each in LANGUAGES.values() for name in (each.code, each.name, each.pack)}
    close = difflib.get_close_matches(code, names, n=1)
    if close:
        return f"; did you mean {names[close[0]]!r}?"
    return "; docs/text-languages.md lists the codes, which are those of ISO 639-1."
