"""Numbers, times and texts as pages show them. Pure: knows no request, page or feature.

Every number carries its unit; a time is a clock time plus a span; what is unknown is a dash.
A time is shown in the browser's zone where scripts run (``<time data-local>``), else in UTC.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from markupsafe import Markup, escape

from app.kit.clock import utc_now
from app.kit.schemas import iso

DASH = "–"  # an en dash stands for "not known"
MINUS = "−"  # a true minus sign, as wide as a plus
UNKNOWN = Markup("–")  # the same as markup
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SMALL = 0.01


def number(value: float | None) -> str:
    """Return 12,480 or 0.25: thousands apart, at most three decimals."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{value:,.3f}".rstrip("0").rstrip(".") if value % 1 else f"{value:,.0f}"
    return text.replace("-", MINUS)


def count(value: int | None) -> str:
    """Return a whole number as 12,480."""
    return DASH if value is None else f"{value:,d}".replace("-", MINUS)


def plural(value: int | None, singular: str, many: str | None = None) -> str:
    """Return ``1 example`` or ``12,480 examples``."""
    return f"{count(value)} {singular if value == 1 else many or singular + 's'}"


def filesize(value: float | None) -> str:
    """Return bytes as 512 B, 3.4 kB, 31 MB or 1.20 GB (steps of 1000, as disks are sold)."""
    return _scaled(value, 1000, ("B", "kB", "MB", "GB", "TB", "PB"))


def memory(value: float | None) -> str:
    """Return bytes as 31.4 GiB (steps of 1024, as memory is sold)."""
    return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def _scaled(value: float | None, step: int, units: tuple[str, ...]) -> str:
    if value is None or not math.isfinite(value):
        return DASH
    place = 0
    while abs(value) >= step and place < len(units) - 1:
        value, place = value / step, place + 1
    return f"{value:.0f} {units[place]}" if place == 0 else f"{_three_digits(value)} {units[place]}"


def _three_digits(value: float) -> str:
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0  # noqa: PLR2004
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(seconds: float | timedelta | None) -> str:
    """Return 0.4 s, 48 s, 12 min, 1 h 26 min or 2 d 4 h: two units at most."""
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if seconds is None or not math.isfinite(seconds):
        return DASH
    seconds = max(0.0, seconds)
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{max(1, round(seconds / _MINUTE))} min" if seconds < _HOUR - 30 else "1 h"
    return _long_duration(seconds)


def _long_duration(seconds: float) -> str:
    if seconds < _DAY:
        hours, rest = divmod(round(seconds / _MINUTE), 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, rest = divmod(round(seconds / _HOUR), 24)
    return f"{days} d {rest} h" if rest else f"{days} d"


def loss(value: float | None) -> str:
    """Return a loss with three decimals, small ones with three digits."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2e}"  # noqa: PLR2004


def learning_rate(value: float | None) -> str:
    """Return 2e-4 or 1.5e-4, as people write it."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share of 1 as 71 %."""
    if share is None or not math.isfinite(share):
        return DASH
    return f"{share * 100:.{digits}f} %".replace("-", MINUS)


def signed(value: float | None, digits: int = 1) -> str:
    """Return +1.5 or −1.0, with a sign in any case."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:+.{digits}f}".replace("-", MINUS)


def tokens(value: float | None) -> str:
    """Return a count of tokens or parameters as 950, 43.6 k, 9.32 M or 8.2 B."""
    if value is None or not math.isfinite(value):
        return DASH
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{_three_digits(value / (1e3 if unit == 'k' else limit))} {unit}"
    return number(round(value))


def when(moment: datetime | None, *, now: datetime | None = None) -> Markup:
    """Return a ``<time>`` with the time of day, and the date if it is another day."""
    if moment is None:
        return UNKNOWN
    moment = moment.astimezone(UTC)
    is_today = moment.date() == (now or utc_now()).date()
    text = f"{moment:%H:%M}" if is_today else f"{moment.day} {moment:%b %H:%M}"
    return _time(moment, text, "clock")


def date(moment: datetime | None) -> Markup:
    """Return a ``<time>`` with day and month, and the year if it is another one."""
    if moment is None:
        return UNKNOWN
    moment = moment.astimezone(UTC)
    year = f" {moment.year}" if moment.year != utc_now().year else ""
    return _time(moment, f"{moment.day} {moment:%b}{year}", "date")


def ago(moment: datetime | None, *, now: datetime | None = None) -> Markup:
    """Return a ``<time>`` with the span since ``moment``; the title has the full time."""
    if moment is None:
        return UNKNOWN
    seconds = ((now or utc_now()) - moment).total_seconds()
    text = "just now" if seconds < 5 else f"{_coarse(seconds)} ago"  # noqa: PLR2004
    return _time(moment, text, "ago")


def until(moment: datetime | None, *, now: datetime | None = None) -> str:
    """Return the span from now to ``moment``: in 14 min, or now."""
    if moment is None:
        return DASH
    seconds = (moment - (now or utc_now())).total_seconds()
    return "now" if seconds < 1 else f"in {_coarse(seconds)}"


def _coarse(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR:.0f} h"
    return f"{seconds // _DAY:.0f} d"


def _time(moment: datetime, text: str, style: str) -> Markup:
    full = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}" data-local="{}">{}</time>').format(
        iso(moment), full, style, text
    )


def initials(name: str) -> str:
    """Return up to two capitals for an avatar: first and last word, or the first letters."""
    words = [word for word in name.replace(".", " ").replace("@", " ").split() if word]
    if not words:
        return "?"
    letters = words[0][0] + words[-1][0] if len(words) > 1 else words[0][:2]
    return letters.upper()


def browser(agent: str) -> str:
    """Return a browser and its system from a User-Agent, as people call them."""
    named = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"),
             ("Safari/", "Safari"), ("curl/", "curl"))  # fmt: skip
    systems = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"),
               ("Windows", "Windows"), ("Mac OS", "macOS"), ("Linux", "Linux"))  # fmt: skip
    name = next((label for mark, label in named if mark in agent), "")
    system = next((label for mark, label in systems if mark in agent), "")
    return " on ".join(part for part in (name, system) if part) or agent[:40] or "Unknown browser"


def short_hash(text: str | None, length: int = 7) -> str:
    """Return the first characters of a hash or revision."""
    return (text or DASH)[:length]


def plain(value: object) -> str:
    """Return a setting's value as people read it: on and off, numbers, learning rates, lists."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float) and 0 < abs(value) < _SMALL:
        return learning_rate(value)
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or DASH
    return str(value)


def lines(text: str) -> Markup:
    """Return hostile text with its line breaks kept."""
    return Markup("<br>").join(escape(line) for line in text.splitlines())


FILTERS: dict[str, Callable[..., str]] = {
    each.__name__: each
    for each in (
        number, count, plural, filesize, memory, duration, loss, learning_rate, percent, signed,
        tokens, when, date, ago, until, initials, short_hash, plain, lines, browser,
    )
}  # fmt: skip
