"""Personal data by its form: e-mail addresses, phone and card numbers. Pure.

Told as a notice, so it would rather miss than be wrong: addresses of a role or of an example,
dates, prices, versions, ids and mere numbers are none. ``signs`` sieves raw rows for them first.
"""

import heapq
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

SHOWN_CHARACTERS = 2
SHORTEST = 8  # characters; a short address


@dataclass(frozen=True, slots=True)
class Personal:
    """What was found, and where it stands in the text."""

    kind: str
    start: int
    end: int


EMAIL, PHONE, CARD = "e-mail address", "phone number", "card number"

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+/-])([A-Za-z0-9][A-Za-z0-9._%+-]{1,63})"
    r"@((?:[A-Za-z0-9-]{1,63}\.){1,4})([A-Za-z]{2,12})(?![A-Za-z0-9_@(-])"
)
# Nobody in particular.
_ROLES = frozenset(
    [
        "abuse",
        "admin",
        "all",
        "billing",
        "bot",
        "careers",
        "contact",
        "donotreply",
        "email",
        "example",
        "feedback",
        "foo",
        "git",
        "hello",
        "help",
        "hr",
        "info",
        "jobs",
        "mail",
        "mailer-daemon",
        "marketing",
        "me",
        "media",
        "my",
        "name",
        "news",
        "newsletter",
        "no-reply",
        "no_reply",
        "noreply",
        "office",
        "orders",
        "person",
        "postmaster",
        "press",
        "privacy",
        "root",
        "sales",
        "security",
        "sender",
        "service",
        "someone",
        "somebody",
        "support",
        "team",
        "test",
        "tester",
        "user",
        "username",
        "webmaster",
        "you",
        "your",
        "your-email",
        "your.email",
        "your.name",
        "youremail",
        "yourname",
    ]
)
_EXAMPLE = re.compile(
    r"(?:.*\.)?(?:example|test|invalid|localhost|domain|yourdomain|mydomain|company|yourcompany"
    r"|mycompany|email|acme|foo|bar|website|site)\.",
    re.IGNORECASE,
)
# Of longer endings only the common ones: an attribute of code looks like an address else.
_ENDINGS = frozenset(
    [
        "academy",
        "agency",
        "app",
        "art",
        "bank",
        "biz",
        "blog",
        "cloud",
        "club",
        "com",
        "company",
        "dev",
        "digital",
        "edu",
        "email",
        "family",
        "global",
        "gov",
        "health",
        "info",
        "int",
        "life",
        "live",
        "media",
        "mil",
        "mobi",
        "museum",
        "name",
        "net",
        "news",
        "online",
        "org",
        "page",
        "plus",
        "pro",
        "shop",
        "site",
        "social",
        "solutions",
        "space",
        "store",
        "studio",
        "systems",
        "team",
        "tech",
        "today",
        "tools",
        "website",
        "wiki",
        "work",
        "works",
        "world",
        "xyz",
    ]
)
_COUNTRY = 2

# A look back stands behind its first character, which is found faster.
_INTERNATIONAL = re.compile(
    r"\+(?<![\w+*/=).,:^-]\+)(\d{1,15}(?:(?:[ ./-]|[ ]?\(\d{1,5}\)[ ]?)\d{1,12}){0,7})"
    r"(?!\w|[.,]\d)"
)
_AMERICAN = re.compile(r"\((?<![\w(]\()([2-9]\d\d)\) ?([2-9]\d\d)[-. ](\d{4})(?![\w-])")
_COUNTRIES = re.compile(
    r"1[2-9]\d\d[2-9]|7[3-9]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|2[1-689]\d|3[578]\d|42\d|5[09]\d|6[7-9]\d|8[0578]\d|9[679]\d"
)
_NORTH_AMERICAN = 11  # digits, with the 1
_SHORTEST_PHONE, _LONGEST_PHONE = 9, 15  # digits, with the country's
_SHORTEST_UNBROKEN = 11
_THOUSANDS = re.compile(r"\d{1,3}(?:\.\d{3})+")
_DATE = re.compile(r"\d{4}[-./]\d\d[-./]\d\d")
_FICTIONAL = re.compile(r"1?555|1?\d{3}555(?:01|12)\d\d")

_CARD = re.compile(
    r"[2-6](?<![\w.,+$€£#/-].)(?:(\d{3}([ -])\d{4}\2\d{4}\2\d{4})|([47]\d\d([ -])\d{6}\4\d{5})"
    r"|(\d{12,18}))(?![\w-]|[.,]\d)"
)
_ISSUERS = re.compile(
    r"(?:4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|(?:6011|65\d\d|64[4-9]\d)\d{12,15}|35(?:2[89]|[3-8]\d)\d{12,15}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|62\d{14,17})"
)
# A number without groups may be anything, unless the text speaks of cards.
_OF_CARDS = re.compile(
    r"\b(?:card|cards|credit|debit|visa|mastercard|amex|american express|cvv|cvc|pay|payment"
    r"|kreditkarte|karte|tarjeta|carte|carta|cartão)\b",
    re.IGNORECASE,
)


def find_personal(text: str) -> list[Personal]:
    """Return what personal data stands in ``text``, in order, without overlaps."""
    return list(each_personal(text))


def each_personal(text: str) -> Iterator[Personal]:
    """Yield it one after the other: of a text of 16 MiB there may be a million."""
    kinds: list[Iterator[Personal]] = [_addresses(text)] if "@" in text else []
    kinds += _cards(text), _international(text), _american(text)
    end = 0
    for one in heapq.merge(*kinds, key=lambda one: one.start):
        if one.start >= end:
            yield one
            end = one.end


def hidden(text: str) -> str:
    """Return ``text`` with all but the first two characters of personal data hidden; as long."""
    written = io.StringIO()
    end = 0
    for one in each_personal(text):
        shown = one.start + SHOWN_CHARACTERS
        written.write(text[end:shown])
        written.write("•" * (one.end - shown))
        end = one.end
    return written.getvalue() + text[end:] if end else text


def _addresses(text: str) -> Iterator[Personal]:
    for match in _EMAIL.finditer(text):
        local, domain, ending = match.groups()
        if local.lower() in _ROLES or local.endswith(".") or ".." in local:
            continue
        if _EXAMPLE.fullmatch(domain) or ending.lower() in {"example", "test", "invalid"}:
            continue
        if len(ending) > _COUNTRY and ending.lower() not in _ENDINGS:
            continue
        if not _is_login(text, match.start()):
            yield Personal(EMAIL, *match.span())


def _is_login(text: str, start: int) -> bool:
    """Tell whether what stands before ``start`` makes it the login of a URL."""
    before = text[max(0, start - 80) : start]
    return "://" in before and not any(char.isspace() for char in before.rsplit("://", 1)[1])


def _international(text: str) -> Iterator[Personal]:
    for match in _INTERNATIONAL.finditer(text):
        if _is_phone(match.group(1)):
            yield Personal(PHONE, *match.span())


def _american(text: str) -> Iterator[Personal]:
    for match in _AMERICAN.finditer(text):
        if not _FICTIONAL.match("".join(match.groups())):
            yield Personal(PHONE, *match.span())


def _is_phone(written: str) -> bool:
    digits = re.sub(r"\D", "", written)
    if not _SHORTEST_PHONE <= len(digits) <= _LONGEST_PHONE or not _COUNTRIES.match(digits):
        return False
    if [len(group) for group in re.findall(r"\d+", written)[1:]].count(1) > 1:
        return False
    if written == digits and len(digits) < _SHORTEST_UNBROKEN:
        return False
    if digits.startswith("1") and len(digits) != _NORTH_AMERICAN:
        return False
    if len(set(digits[2:])) == 1 or _FICTIONAL.match(digits):
        return False
    return not _THOUSANDS.fullmatch(written) and not _DATE.match(written)


def _cards(text: str) -> Iterator[Personal]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if not _ISSUERS.fullmatch(digits) or not _luhn(digits) or len(set(digits)) == 1:
            continue
        if not match.group(5) or _OF_CARDS.search(text):
            yield Personal(CARD, *match.span())


def _luhn(digits: str) -> bool:
    """Tell whether the last digit is the check digit of the others (ISO/IEC 7812)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)  # noqa: PLR2004
    return total % 10 == 0
