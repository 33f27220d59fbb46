r"""Ids of a text word by word, remembered: the same as of the whole, several times faster.

The text is parted at its added tokens, as every tokenizer does first, then before each space that
follows a character which is no white space, and behind each line's end that a character follows
which is none. A word coded by itself has the ids it has in the text where no token can reach over
such a cut and nothing looks over it. That is shown for:

- byte-level BPE whose pre-tokenizer is built of the patterns in ``_PATTERNS``: in each, every
  alternative takes a space only as its first character or within a run of white space, so a match
  never goes on from a non-blank into a space; blanks that end in a line's end are one match with it
  or belong to the punctuation before, and only a slash may follow; a match that begins at a cut
  looks only forward. GPT-2's own pattern lacks the rule for line ends, so there only a single one
  behind a non-blank is a cut. NFC, if it is the normalizer, joins neither a space nor a line's end
  with what stands beside it;
- BPE over ``▁`` for spaces, if no token of the vocabulary has ``▁`` behind another character, or
  another character behind a line's end: then no merge reaches over a cut.

Other tokenizers are coded whole (see ``coding``). Knows a `tokenizers` tokenizer and nothing else.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec
from tokenizers import Tokenizer

from worker.trainer.coding import ID, Asked, Found, Whole

_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_PATTERNS = frozenset(
    {
        rf"{_ENDINGS}|{_LEAD}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}",
        rf"{_ENDINGS}|{_LEAD}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}",
        (
            rf"{_LEAD}{_UPPER}*{_LOWER}+{_ENDINGS}?|{_LEAD}{_UPPER}+{_LOWER}*{_ENDINGS}?"
            rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
        ),
        (
            rf"{_LEAD}{_UPPER}*{_LOWER}+|{_LEAD}{_UPPER}+{_LOWER}*"
            rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
        ),
        (
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_BLANKS}"
        ),
    }
)
# Patterns that take no space at all: they may stand before one of the others.
_WITHOUT_SPACES = frozenset({r"\p{N}{1,3}", r"\p{N}", "[一-龥\u3040-\u309f\u30a0-\u30ff]+"})
_SPACE = re.compile(r"(?<=\S) ")
_LINE_END = re.compile(r"\n(?=[^\s/])")
_SINGLE_LINE_END = re.compile(r"(?<=\S)\n(?=[^\s/])")
# Where a space, or what follows a line's end, is no cut; without these cuts are found by replacing.
_NO_CUT = re.compile(r"\s(?: |(?<=\n)(?:[^\S\n]|/))")
_NO_SINGLE_CUT = re.compile(r"\s(?:[ \n]|(?<=\n)(?:[^\S\n]|/))|(?:\A|\x02)\n(?!\x02|\Z)")
_REACHES_OVER = re.compile(r"[^▁\s]▁|\n[^\s▁]")
# Words that may be coded with others before and behind them.
_LINE_ENDS = re.compile(r"(?P<space> ?)[^\s/](?s:.*\S)?(?P<end>\n*)")
_ONE_LINE_END = re.compile(r"(?P<space> ?)[^\s/](?s:.*\S)?(?P<end>\n?)")
_REMEMBERED = 400_000  # words; about 80 MB
_LONGEST = 48  # characters of a word that is remembered
_JOINED = 500  # words that are looked up at once
# They stand between added tokens and others, between words, and for a cut that is asked for.
_MARKS = _PART, _WORD, _CUT = "\x02", "\x01", "\x03"
_CUT_IDS = b"\xff" * ID.itemsize  # no ids: those have less than 32 bits


class _Known(dict[str, bytes]):
    """The ids of words; those that were asked for and are not here are noted."""

    def __init__(self, words: Mapping[str, bytes]) -> None:
        super().__init__(words)
        self.unknown, self.misses = set[str](), 0

    def __missing__(self, word: str) -> bytes:
        self.unknown.add(word)
        self.misses += 1
        return b""


class Words:
    """Codes texts by their words. Made by ``words_of``, which knows where that is exact."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        parting: re.Pattern[str] | None,
        *,
        single_line_ends: bool = False,
        blank: str | None = None,
    ) -> None:
        self._tokenizer, self._parting, self._blank = tokenizer, parting, blank
        self._single = single_line_ends
        self._line_end = _SINGLE_LINE_END if single_line_ends else _LINE_END
        self._no_cut = _NO_SINGLE_CUT if single_line_ends else _NO_CUT
        self._whole = Whole(tokenizer)
        added = tokenizer.get_added_tokens_decoder()
        self._added = {it.content: array("I", [token]).tobytes() for token, it in added.items()}
        self._joins = blank is None and not any(" " in content for content in self._added)
        self._at_first = {"": b"", _CUT: _CUT_IDS, **self._added}
        self._known = _Known(self._at_first)
        self._long: list[str] = []

    def code_all(self, asked: Sequence[Asked]) -> list[Found]:
        """Return ids and cuts of many texts; new words are looked up together. See ``Coder``."""
        words = [self._words_of(one) for one in asked]
        tries = [found and self._joined(found) for found in words]
        if self._known.unknown:
            self._learn(self._known.unknown)
            self._known.unknown = set()
            tries = [
                done or (found and self._joined(found))
                for found, done in zip(words, tries, strict=True)
            ]
        self._forget()
        return [
            done or self._whole.code_all([one])[0] for one, done in zip(asked, tries, strict=True)
        ]

    def _joined(self, words: Sequence[str]) -> tuple[bytes, list[int]] | None:
        """Return ids and cuts of words, or None where some are not known yet."""
        known = self._known
        before = known.misses
        coded = b"".join(map(known.__getitem__, words))
        if known.misses != before:
            return None
        stretches = coded.split(_CUT_IDS)
        places = accumulate(len(ids) // ID.itemsize for ids in stretches[:-1])
        return b"".join(stretches), list(places)

    def _words_of(self, asked: Asked) -> list[str] | None:
        """Return the words of a text, and its cuts; None where a cut is none between words."""
        text = asked.text
        if (self._blank and self._blank in text) or any(mark in text for mark in _MARKS):
            return None
        parts = self._parting.split(text) if self._parting else [text]
        if not asked.cuts:
            return self._words(parts)
        kept: list[str] = []
        start, left = 0, list(reversed(asked.cuts))
        for place, given in enumerate(parts):
            part = given
            while left and left[-1] < start + len(part):
                at = left.pop() - start
                if at and (place & 1 or not self._is_cut(part, at)):
                    return None
                kept += (part[:at], _CUT)
                part, start = part[at:], start + at
            kept.append(part)
            start += len(part)
        return self._words([*kept, *(_CUT for _ in left)])  # those left are at the end

    def _is_cut(self, part: str, at: int) -> bool:
        """Tell whether a part may be cut before its character ``at``, the first left out."""
        before, behind = part[at - 1], part[at]
        if behind == " ":
            return not before.isspace()
        if before != "\n" or behind == "/" or behind.isspace():
            return False
        return not self._single or (at > 1 and not part[at - 2].isspace())

    def _words(self, parts: Sequence[str]) -> list[str]:
        """Return the words of parts, each with the space before it; added tokens are words."""
        text = _PART.join(parts)
        if self._no_cut.search(text):
            return [word for part in parts for word in self._found_words(part)]
        text = text.replace(" ", _WORD + " ")
        if "\n" in text:
            text = text.replace("\n", "\n" + _WORD).replace(_WORD + "\n", "\n")
        return text.replace(_PART, _WORD).split(_WORD)

    def _found_words(self, part: str) -> list[str]:
        if part in self._at_first:
            return [part]
        *lines, last = self._line_end.split(part)
        found: list[str] = []
        for line in [*(line + "\n" for line in lines), last]:
            first, *others = _SPACE.split(line)
            found.append(first)
            found += [" " + word for word in others]
        return found

    def _learn(self, words: Iterable[str]) -> None:
        ways: dict[tuple[str, str] | None, list[str]] = {}
        for word in words:
            ways.setdefault(self._way(word), []).append(word)
        for word in ways.pop(None, ()):
            self._together([word], "")
        for way, alike in ways.items():
            for start in range(0, len(alike), _JOINED):
                self._together(alike[start : start + _JOINED], way[1] if way else "")

    def _way(self, word: str) -> tuple[str, str] | None:
        """Return how a word begins, and what must stand behind it so that another like it may.

        In a text made so there are cuts before and behind each word, as where it came from. None
        where nothing can.
        """
        fits = _ONE_LINE_END if self._single else _LINE_ENDS
        if not self._joins or len(word) > _LONGEST or not (found := fits.fullmatch(word)):
            return None
        behind_space = {True: "a", False: ""}  # by whether it ends its line
        on_a_line = {True: "", False: " a\n"}
        ends = found["end"] != ""
        return found["space"], (behind_space if found["space"] else on_a_line)[ends]

    def _together(self, words: Sequence[str], behind: str) -> None:
        """Code words in one go, with ``behind`` after each."""
        text = "".join([word + behind for word in words])
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids = array("I", encoding.ids).tobytes()
        starts = [start for start, _ in encoding.offsets]
        at = place = 0
        for word in words:
            place = bisect_left(starts, at, place)
            end = bisect_left(starts, at + len(word), place)
            self._known[word] = ids[place * ID.itemsize : end * ID.itemsize]
            place, at = end, at + len(word) + len(behind)
            if len(word) > _LONGEST:
                self._long.append(word)

    def _forget(self) -> None:
        """Keep the memory bounded: long words go at once, and all when there are very many."""
        for word in self._long:
            del self._known[word]
        self._long.clear()
        if len(self._known) > _REMEMBERED:
            self._known = _Known(self._at_first)


def words_of(tokenizer: Tokenizer) -> Words | None:
    """Return what codes by words with the same ids as ``tokenizer``, or None if none is known."""
    described: dict[str, Any] = msgspec.json.decode(tokenizer.to_str())
    added: list[dict[str, Any]] = described.get("added_tokens") or []
    model = described["model"]
    if model.get("type") != "BPE" or model.get("dropout") or not _are_plain(added, described):
        return None
    byte_level = _is_byte_level(described)
    if not byte_level and not _has_words_of_its_own(described):
        return None
    contents = [token["content"] for token in added if token["content"]]
    parting = re.compile(f"({_any_of(contents)})") if contents else None
    own_rule = not byte_level or any(
        _pattern(step) in _PATTERNS for step in _steps(described["pre_tokenizer"], "pretokenizers")
    )
    return Words(
        tokenizer,
        parting,
        single_line_ends=not own_rule,
        blank=None if byte_level else "▁",
    )


def _are_plain(added: Sequence[Mapping[str, Any]], described: Mapping[str, Any]) -> bool:
    """Tell whether added tokens are found in one go, in the text as it stands, and take no more."""
    takes_more = any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added)
    kinds = {bool(token["normalized"]) for token in added}
    changes = bool(_steps(described.get("normalizer"), "normalizers"))
    return not takes_more and (kinds <= {False} or (kinds == {True} and not changes))


def _is_byte_level(described: Mapping[str, Any]) -> bool:
    normalizers = _steps(described.get("normalizer"), "normalizers")
    if any(step.get("type") != "NFC" for step in normalizers):
        return False
    steps = _steps(described.get("pre_tokenizer"), "pretokenizers")
    if not steps or steps[-1].get("type") != "ByteLevel":
        return False
    return all(map(_keeps_words_whole, steps)) and any(map(_cuts_at_spaces, steps))


def _steps(part: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    if part is None:
        return []
    return list(part[name]) if part.get("type") == "Sequence" else [part]


def _keeps_words_whole(step: Mapping[str, Any]) -> bool:
    """Tell whether a step gives a word the same parts wherever it stands."""
    kind = step.get("type")
    if kind == "ByteLevel":
        return not step.get("add_prefix_space", True)
    if kind == "Split":
        isolates = step.get("behavior") == "Isolated" and not step.get("invert")
        return isolates and _pattern(step) in _PATTERNS | _WITHOUT_SPACES
    return kind == "Digits"


def _cuts_at_spaces(step: Mapping[str, Any]) -> bool:
    by_itself = step.get("type") == "ByteLevel" and step.get("use_regex", True)  # as GPT-2 does
    return by_itself or _pattern(step) in _PATTERNS


def _pattern(step: Mapping[str, Any]) -> str | None:
    return step.get("pattern", {}).get("Regex")


def _has_words_of_its_own(described: Mapping[str, Any]) -> bool:
    """Tell whether spaces are ``▁`` and no token of the vocabulary reaches over one."""
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    if described.get("normalizer") != blanks:
        return False
    merged = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    model = described["model"]
    whole = described.get("pre_tokenizer") in (None, merged)  # there is no space left to split at
    affixes = ("continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    vocabulary = model["vocab"]
    return (
        whole
        and not any(model.get(name) for name in affixes)
        and bool(model.get("byte_fallback"))
        and "▁" in vocabulary
        and not any(_REACHES_OVER.search(token) for token in vocabulary)
    )


def _any_of(contents: Sequence[str]) -> str:
    """Return a pattern that takes the longest of ``contents``, in time that no number grows."""
    tree: dict[str, Any] = {}
    for content in contents:
        branch = tree
        for char in content:
            branch = branch.setdefault(char, {})
        branch[""] = {}
    return _branches(tree)


def _branches(tree: Mapping[str, Any]) -> str:
    ways: list[str] = []
    for char, below in tree.items():
        stem, branch = char, below
        while len(branch) == 1 and "" not in branch:  # a stretch without a choice
            ((following, branch),) = branch.items()
            stem += following
        if char:
            ways.append(re.escape(stem) + _branches(branch))
    if not ways:
        return ""
    return f"(?:{'|'.join(ways)})" + ("?" if "" in tree else "")
