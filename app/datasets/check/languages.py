"""Which natural language a text is in, and nothing where that is not plain to see. Pure.

The model is py3langid's, which comes with its package. Code, tables, addresses and lists of names
are cut away first; of what is left, short or doubtful texts have no language here.
"""

import re
from collections.abc import Mapping
from functools import cache
from string import ascii_letters, whitespace

from py3langid.langid import MODEL_FILE, LanguageIdentifier

NAMES: Mapping[str, str] = {
    "af": "Afrikaans",
    "am": "Amharic",
    "ar": "Arabic",
    "az": "Azerbaijani",
    "be": "Belarusian",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "bs": "Bosnian",
    "ca": "Catalan",
    "cs": "Czech",
    "cy": "Welsh",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "eu": "Basque",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "ga": "Irish",
    "gl": "Galician",
    "gu": "Gujarati",
    "he": "Hebrew",
    "hi": "Hindi",
    "hr": "Croatian",
    "hu": "Hungarian",
    "hy": "Armenian",
    "id": "Indonesian",
    "is": "Icelandic",
    "it": "Italian",
    "ja": "Japanese",
    "ka": "Georgian",
    "kk": "Kazakh",
    "km": "Khmer",
    "kn": "Kannada",
    "ko": "Korean",
    "ky": "Kyrgyz",
    "lo": "Lao",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "mk": "Macedonian",
    "ml": "Malayalam",
    "mn": "Mongolian",
    "mr": "Marathi",
    "ms": "Malay",
    "my": "Burmese",
    "ne": "Nepali",
    "nl": "Dutch",
    "no": "Norwegian",
    "pa": "Punjabi",
    "pl": "Polish",
    "ps": "Pashto",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "si": "Sinhala",
    "sk": "Slovak",
    "sl": "Slovenian",
    "so": "Somali",
    "sq": "Albanian",
    "sr": "Serbian",
    "sv": "Swedish",
    "sw": "Swahili",
    "ta": "Tamil",
    "te": "Telugu",
    "th": "Thai",
    "tl": "Tagalog",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "uz": "Uzbek",
    "vi": "Vietnamese",
    "zh": "Chinese",
    "zu": "Zulu",
}
# What is no language, names of species and blind text would be taken for another one else.
_NONE = ("zxx", "la")
# Too near to each other to call one of them odd among the other.
_ALIKE = (
    frozenset({"no", "da"}),
    frozenset({"hr", "sr", "bs", "sl"}),
    frozenset({"id", "ms"}),
    frozenset({"gl", "pt", "es", "ca"}),
    frozenset({"cs", "sk"}),
    frozenset({"hi", "mr", "ne"}),
    frozenset({"af", "nl"}),
    frozenset({"az", "tr"}),
    frozenset({"bg", "mk"}),
    frozenset({"kk", "ky"}),
    frozenset({"fa", "ps", "ur"}),
)

SURE = 0.9
_LONGEST = 300  # characters that are looked at: enough to be sure, and as fast as a short text
_READ = 2000  # characters in which prose is looked for
_FENCED = re.compile(r"```.*?(?:```|\Z)|`[^`\n]{1,200}`", re.DOTALL)
_ADDRESS = re.compile(r"\S*(?:://|@|\\|/\w+/)\S*|\b\w+(?:[._]\w+)+\b|[#$%&{}<>\[\]|=*_~^]+\S*")
_WORD = re.compile(r"[^\W\d_]+")
_CASED = re.compile(r"[A-Za-zÀ-ɏͰ-ԯ]")
_LOWER_SHARE = 0.4  # of a text's words; German has some 55 %, a list of names none
_NO_SIGNS = (ascii_letters + whitespace).encode()
_SIGN_SHARE = 0.25  # of a line's characters may be digits and punctuation
_FEWEST_WORDS = 3


def language_of(text: str, *, sure: float = SURE) -> str | None:
    """Return the code of the language of ``text`` (see ``prose``), or None if it is not sure."""
    text = text[:_LONGEST]
    if not text:
        return None
    code, confidence = _model().classify(text)
    return code if confidence >= sure and code in NAMES else None


def are_alike(one: str, other: str) -> bool:
    """Tell whether two languages are the same, or hard to tell apart."""
    return one == other or any({one, other} <= group for group in _ALIKE)


def letters(text: str) -> int:
    """Return how many letters there are."""
    return sum(map(str.isalpha, text))


def prose(text: str) -> str:
    """Return what of ``text`` is written in sentences: no code, addresses or lists of names."""
    text = _FENCED.sub(" ", text[:_READ])
    kept = [line for line in text.split("\n") if _is_prose(line)]
    return " ".join(" ".join(_ADDRESS.sub(" ", line).split()) for line in kept)


def _is_prose(line: str) -> bool:
    """Tell whether a line reads like sentences; in scripts without capitals letters are enough."""
    signs = len(line.encode("ascii", "ignore").translate(None, _NO_SIGNS))
    written = len("".join(line.split()))
    if not written or signs > _SIGN_SHARE * written:
        return False
    words = [word for word in _WORD.findall(line) if _CASED.match(word)]
    if not words:
        return True
    lower = sum(word.islower() for word in words)
    return len(words) >= _FEWEST_WORDS and lower >= _LOWER_SHARE * len(words)


@cache
def _model() -> LanguageIdentifier:
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages([*NAMES, *_NONE])
    return model
