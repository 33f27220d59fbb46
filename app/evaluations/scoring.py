"""How good an answer is beside the expected one: exact match, token F1, ROUGE-L. Pure.

Normalisation is SQuAD's (lower case, no punctuation, no articles, single spaces); ROUGE-L gives
what ``rouge_score`` gives without its stemmer. Knows neither models nor files.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORDS = re.compile(r"[a-z0-9]+")
METRICS = ("exact_match", "token_f1", "rouge_l")
# Measures that say of an item whether it was done right, 1 or 0: an answer, or a better one picked.
PICKED = "reward_accuracy"
VERDICTS = ("exact_match", PICKED)


def scores(answer: str, expected: str) -> dict[str, float]:
    """Return each metric of one answer, as fractions of 1."""
    return {
        "exact_match": exact_match(answer, expected),
        "token_f1": token_f1(answer, expected),
        "rouge_l": rouge_l(answer, expected),
    }


def verdict(scores: Mapping[str, Any]) -> bool | None:
    """Return whether an item was done right, by the first measure that says so; None if none."""
    return next((scores[name] == 1 for name in VERDICTS if scores.get(name) is not None), None)


def normalise(text: str) -> str:
    """Return the text as SQuAD compares it."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(answer: str, expected: str) -> float:
    """Return 1 if both are the same once normalised, else 0."""
    return float(normalise(answer) == normalise(expected))


def token_f1(answer: str, expected: str) -> float:
    """Return the harmonic mean of precision and recall over normalised words."""
    got, wanted = normalise(answer).split(), normalise(expected).split()
    if not got or not wanted:
        return float(got == wanted)
    common = sum((Counter(got) & Counter(wanted)).values())
    return _f1(common, len(got), len(wanted))


def rouge_l(answer: str, expected: str) -> float:
    """Return the F measure of the longest common subsequence of words."""
    got, wanted = _WORDS.findall(answer.lower()), _WORDS.findall(expected.lower())
    if not got or not wanted:
        return 0.0
    return _f1(_common_subsequence(got, wanted), len(got), len(wanted))


def _f1(common: int, got: int, wanted: int) -> float:
    if common == 0:
        return 0.0
    precision, recall = common / got, common / wanted
    return 2 * precision * recall / (precision + recall)


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence; one row of the table at a time."""
    row = [0] * (len(other) + 1)
    for word in one:
        above_left = 0
        for place, candidate in enumerate(other, start=1):
            above = row[place]
            row[place] = above_left + 1 if word == candidate else max(above, row[place - 1])
            above_left = above
    return row[-1]
