"""Chat rows as they come: paragraphs, lists, code, links, some Unicode; 0.5 to 4 kB a row."""

import json
import random
from pathlib import Path

_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
_OFTEN = (
    12,
    9,
    8,
    7.5,
    7,
    7,
    6,
    6,
    6,
    4,
    4,
    3,
    3,
    2.5,
    2.4,
    2.4,
    2,
    2,
    1.9,
    1.5,
    1,
    0.8,
    0.2,
    0.1,
    0.1,
    0.1,
)
_WORDS, _SENTENCES = 8_000, 20_000
_ROW_BYTES = (500, 4_000)
_SENTENCE_BYTES = 75
_ENDS = (". ", ". ", ". ", ". ", ".\n\n", ".\n- ", "? ", "! ", ": ")
_ODDITIES = (  # share, and what stands in place of a word
    (0.10, "{number}"),
    (0.04, '"{word}"'),
    (0.04, "(e.g. {word})"),
    (0.004, "café naïve"),
    (0.003, "it’s"),
    (0.001, "👍"),
    (0.005, "https://example.org/{word}/{word}?id={number}"),
    (0.01, "<b>{word}</b>"),
    (0.015, "`{word}[{number}] < {word}`"),
)


def sentences(chance: random.Random) -> list[str]:
    """Return sentences of made-up words."""
    words = [
        "".join(chance.choices(_LETTERS, _OFTEN, k=max(1, min(14, int(chance.gauss(5, 2.4))))))
        for _ in range(_WORDS)
    ]
    return [_sentence(chance, words) for _ in range(_SENTENCES)]


def _sentence(chance: random.Random, words: list[str]) -> str:
    chosen = chance.choices(words, k=chance.randint(4, 22))
    left = chance.random()
    for share, form in _ODDITIES:
        left -= share
        if left < 0:
            odd = form.format(word=chance.choice(words), number=chance.randint(1, 99_999))
            chosen[chance.randrange(len(chosen))] = odd
            break
    return " ".join(chosen).capitalize() + chance.choice(_ENDS)


def write_rows(path: Path, size: int) -> int:
    """Write about ``size`` bytes of conversations; return how many rows."""
    chance = random.Random(1)
    known = sentences(chance)
    rows = written = 0
    with path.open("wb") as file:
        while written < size:
            line = json.dumps({"messages": _turns(chance, known)}, ensure_ascii=False).encode()
            written += file.write(line + b"\n")
            rows += 1
    return rows


def _turns(chance: random.Random, known: list[str]) -> list[dict[str, str]]:
    pairs = chance.choice([1, 1, 1, 2, 3])
    size = max(1, chance.randint(*_ROW_BYTES) // (2 * pairs * _SENTENCE_BYTES))
    turns: list[dict[str, str]] = []
    if chance.random() < 0.3:  # have something to say first
        turns.append(_turn(chance, known, "system", 2))
    for _ in range(pairs):
        turns.append(_turn(chance, known, "user", max(1, size // 2)))
        turns.append(_turn(chance, known, "assistant", max(1, size + size // 2)))
    return turns


def _turn(chance: random.Random, known: list[str], role: str, count: int) -> dict[str, str]:
    return {"role": role, "content": "".join(chance.choices(known, k=count)).strip()}
