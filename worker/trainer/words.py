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
from typing import Any

import msgspec
from tokenizers import Tokenizer

from worker.trainer.coding import ID, NoBoundary, Whole

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
_CUT = re.compile(r"(?<=\S) ")
_BLANK_BEFORE_SPACE = re.compile(r"\s ")
_LINE_END = re.compile(r"\n(?=[^\s/])")
_SINGLE_LINE_END = re.compile(r"(?<=\S)\n(?=[^\s/])")
_REACHES_OVER = re.compile(r"[^▁\s]▁|\n[^\s▁]")
_REMEMBERED = 300_000  # words; about 60 MB
_LONGEST = 48  # characters of a word that is remembered
_JOINED = 500  # words that are looked up at once


class Words:
    """Codes texts by their words. Made by ``words_of``, which knows where that is exact."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        parting: re.Pattern[str] | None,
        *,
        line_end: re.Pattern[str],
        blank: str | None = None,
    ) -> None:
        self._tokenizer, self._parting = tokenizer, parting
        self._line_end, self._blank = line_end, blank
        self._whole = Whole(tokenizer)
        added = tokenizer.get_added_tokens_decoder()
        self._added = {it.content: array("I", [token]).tobytes() for token, it in added.items()}
        self._joins = blank is None and not any(" " in content for content in self._added)
        self.missed = 0  # words that had to be looked up one by one
        self._first: dict[str, bytes] = {"": b""}
        self._later: dict[str, bytes] = {}

    def code(
        self, text: str, cuts: Sequence[int], *, prefixes: bool = False
    ) -> tuple[bytes, list[int]]:
        """Return ids and cuts; see ``coding.Coder``."""
        if self._blank and self._blank in text:  # written out it reads as a space
            return self._whole.code(text, cuts, prefixes=prefixes)
        parts = self._parting.split(text) if self._parting else [text]
        coded = list(map(self._plain, parts))
        coded[1::2] = map(self._added.__getitem__, parts[1::2])
        if not cuts:
            return b"".join(coded), []
        try:
            return b"".join(coded), self._places(parts, coded, cuts)
        except NoBoundary:
            if prefixes:
                raise
        return self._whole.code(text, cuts)

    def _places(
        self, parts: Sequence[str], coded: Sequence[bytes], cuts: Sequence[int]
    ) -> list[int]:
        """Find each cut in its part: what stands before it there must give the first tokens."""
        places: list[int] = []
        start = size = done = 0
        for part, ids in zip(parts, coded, strict=True):
            end = start + len(part)
            while done < len(cuts) and cuts[done] < end:
                before = self._before(part, cuts[done] - start, ids)
                if before is None:
                    raise NoBoundary(cuts[done])
                places.append((size + before) // ID.itemsize)
                done += 1
            size += len(ids)
            start = end
        return places + [size // ID.itemsize] * (len(cuts) - done)  # those at the very end

    def _before(self, part: str, cut: int, ids: bytes) -> int | None:
        """Return the bytes of the tokens before ``cut``, or None if it is none between tokens."""
        if cut == 0:
            return 0
        if part in self._added:
            return None
        before = self._plain(part[:cut])
        return len(before) if ids.startswith(before) else None

    def _plain(self, text: str) -> bytes:
        """Return the ids of text without added tokens."""
        if (known := self._first.get(text)) is not None:  # a role's name, or nothing
            return known
        lines = self._line_end.split(text)
        if len(lines) == 1:
            return self._line(text)
        last = lines.pop()
        return b"".join([self._line(line + "\n") for line in lines]) + self._line(last)

    def _line(self, text: str) -> bytes:
        first, *words = _words(text)
        known = self._first.get(first)
        head = known if known is not None else self._look_up([first], self._first, "")[0]
        later = self._later
        try:
            return head + b"".join([later[word] for word in words])
        except KeyError:
            return head + b"".join(self._look_up(words, later, " "))

    def _look_up(self, words: Sequence[str], known: dict[str, bytes], lead: str) -> list[bytes]:
        """Return the ids of words that are in part unknown, and remember the short ones."""
        found = self._alone([word for word in dict.fromkeys(words) if word not in known], lead)
        self.missed += len(found)
        self._remember(found, known)
        return [ids if (ids := found.get(word)) is not None else known[word] for word in words]

    def _remember(self, found: Mapping[str, bytes], known: dict[str, bytes]) -> None:
        if len(known) > _REMEMBERED:
            self._first, self._later = {"": b""}, {}
            return
        known.update((word, ids) for word, ids in found.items() if len(word) <= _LONGEST)

    def _alone(self, words: Sequence[str], lead: str) -> dict[str, bytes]:
        encodings = self._tokenizer.encode_batch_fast(
            [lead + word for word in words], add_special_tokens=False
        )
        return {
            word: array("I", encoding.ids).tobytes()
            for word, encoding in zip(words, encodings, strict=True)
        }

    def learn(self, texts: Iterable[str]) -> int:
        """Look up the words of texts that will be coded, in less time than one by one.

        Returns how many were new. Where few are, it takes more time than it saves.
        """
        if not self._joins:
            return 0
        met: set[str] = set()
        for text in texts:
            for part in self._parting.split(text)[::2] if self._parting else [text]:
                for line in self._line_end.split(part):
                    met.update(_words(line)[1:])
        new = [
            word
            for word in met - self._later.keys()
            if word and len(word) <= _LONGEST and not word[-1].isspace()
        ]
        for start in range(0, len(new), _JOINED):
            self._remember(self._together(new[start : start + _JOINED]), self._later)
        return len(new)

    def _together(self, words: Sequence[str]) -> dict[str, bytes]:
        """Code words as one text: between them, too, are cuts."""
        encoding = self._tokenizer.encode(" " + " ".join(words), add_special_tokens=False)
        ids = array("I", encoding.ids).tobytes()
        starts = [start for start, _ in encoding.offsets]
        found: dict[str, bytes] = {}
        place = at = 0
        for word in words:
            at += len(word) + 1
            end = bisect_left(starts, at, place)
            found[word] = ids[place * ID.itemsize : end * ID.itemsize]
            place = end
        return found


def _words(line: str) -> list[str]:
    """Return the words of a line: the first as it stands, the others without their space."""
    return _CUT.split(line) if _BLANK_BEFORE_SPACE.search(line) else line.split(" ")


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
        line_end=_LINE_END if own_rule else _SINGLE_LINE_END,
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
