"""A line's bytes as a JSON value, exactly as RFC 8259 has it, or why it is none. Pure.

msgspec decides: it refuses NaN, comments, raw control characters, lone surrogates, numbers that do
not fit and text behind the end. Of keys that stand twice the last one counts.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from app.datasets.problems import Code

_decode = msgspec.json.Decoder().decode
_BYTE = re.compile(r"\(byte (\d+)\)")
_LONE_SURROGATE = re.compile(
    r"(?<!\\)(?:\\\\)*(\\u(?:d[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})"
    r"|(?<!\\ud[89ab][0-9a-f]{2}\\u)d[c-f][0-9a-f]{2}))",
    re.IGNORECASE,
)
_BARE_WORDS = re.compile(r"-?(?:NaN|Infinity|nan|inf|undefined|None|True|False)\b")
_RAW_CONTROL = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class Broken:
    """Why a line is no row, and the characters that are to blame."""

    code: Code
    message: str
    text: str
    start: int
    end: int


def parse(data: bytes) -> tuple[Any, list[Broken]]:
    """Return the value and no fault, or None and what is wrong.

    Bytes that are not UTF-8 are reported and replaced, so that the rest of the row is checked too.
    """
    try:
        return _decode(data), []
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        reason = error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        fault = _not_utf8(data, error)
        value, more = parse(fault.text.encode())
        return value, [fault, *more]
    return None, [_invalid(data, text, reason)]


def _not_utf8(data: bytes, error: UnicodeDecodeError) -> Broken:
    at = len(data[: error.start].decode())
    message = f"byte {error.start + 1:,} of the line, 0x{data[error.start]:02X}, is not UTF-8"
    return Broken(Code.NOT_UTF8, message, data.decode(errors="replace"), at, at + 1)


def _invalid(data: bytes, text: str, reason: Exception) -> Broken:
    if isinstance(reason, RecursionError):
        return Broken(Code.INVALID_JSON, "it is nested too deeply", text, 0, 1)
    if lone := _LONE_SURROGATE.search(text):
        message = f"{lone.group(1)} at character {lone.start(1) + 1:,} is half a surrogate pair"
        return Broken(Code.INVALID_JSON, message, text, *lone.span(1))
    place = _BYTE.search(str(reason))
    behind = "trailing characters" in str(reason)  # its place is the one after
    cut = int(place.group(1)) - behind if place else len(data)
    at = len(data[:cut].decode(errors="ignore"))
    at = min(at, max(0, len(text) - 1))
    why, end = _why(text, at, str(reason))
    return Broken(Code.INVALID_JSON, f"{why}, at character {at + 1:,}", text, at, end)


def _why(text: str, at: int, reason: str) -> tuple[str, int]:
    if "truncated" in reason:
        return "the line ends before the row does", at + 1
    if "out of range" in reason:
        return "a number is too large", at + 1
    if "trailing characters" in reason:
        return _behind(text[at:]), min(len(text), at + 20)
    if text[at : at + 2] in {"//", "/*"}:
        return "JSON has no comments", at + 2
    return _forbidden(text, at, reason)


def _forbidden(text: str, at: int, reason: str) -> tuple[str, int]:
    if word := _BARE_WORDS.match(text, at) or _BARE_WORDS.match(text, max(0, at - 1)):
        return f"{word.group()} is no JSON value", word.end()
    if _RAW_CONTROL.match(text, at):
        return f"a raw control character, U+{ord(text[at]):04X}, stands in a string", at + 1
    why = _BYTE.sub("", reason).removeprefix("JSON is malformed:").strip().replace("character", "")
    return f"{why.strip() or 'something'} {text[at : at + 1]!r} is not allowed here", at + 1


def _behind(rest: str) -> str:
    if rest.startswith(("//", "/*", "#")):
        return "JSON has no comments"
    if rest.lstrip(", ").startswith("{"):
        return "a second row begins on the same line"
    return "there is more behind the end of the row"
