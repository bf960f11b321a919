"""Durations, ages and sizes: read from what people write, shown as people say them."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Final, TypeAlias

Duration: TypeAlias = float | int | timedelta | str

_UNIT_S: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_NO_LIMIT_S: Final = 1e12  # thirty thousand years; what is longer fits into no entry's header
_PART: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|min|[smhdw])\s*")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B|[KMGT]|)", re.IGNORECASE)


def to_seconds(value: Duration | None, option: str) -> float | None:
    """Seconds of a duration given as a number, a `timedelta` or text such as `"15m"` or `"2h30m"`.

    Args:
        value: The duration; None and what is beyond 30,000 years mean "no limit", which is None.
        option: The option's name, for the message.

    Raises:
        TypeError: It is none of these.
        ValueError: The text cannot be read, or the duration is negative.

    >>> to_seconds("2h30m", "ttl")
    9000.0
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta | str):
        raise TypeError(f'{option}= takes seconds, a timedelta or text like "15m"; got {value!r}')
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = _parse(value, option)
    else:
        try:
            seconds = float(value)
        except OverflowError:  # an int with hundreds of digits
            seconds = math.inf if value > 0 else -math.inf
    if not seconds >= 0:
        raise ValueError(f"{option}= takes a duration of 0 or more; got {value!r}")
    return None if seconds >= _NO_LIMIT_S else seconds


def _parse(text: str, option: str) -> float:
    total, at = 0.0, 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            break
        total += float(part[1]) * _UNIT_S[part[2]]
        at = part.end()
    if at == 0 or at < len(text):
        raise ValueError(f'{option}={text!r} is no duration; write for example "30s", "15m", "2h30m" or "7d"')
    return total


def to_bytes(value: int | str, option: str) -> int:
    """Bytes of a size given as a number or as text such as `"2 GB"`; KB is 1,000 bytes, KiB 1,024.

    Args:
        value: The size.
        option: The option's name, for the message.

    Raises:
        TypeError: It is neither.
        ValueError: The text cannot be read, or the size is not above 0.

    >>> to_bytes("2 GB", "max_bytes"), to_bytes("1.5MiB", "max_bytes"), to_bytes(5000, "max_bytes")
    (2000000000, 1572864, 5000)
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f'{option}= takes bytes or text like "2 GB"; got {value!r}')
    if isinstance(value, str):
        size = _SIZE.fullmatch(value.strip())
        if size is None:
            raise ValueError(f'{option}={value!r} is no size; write for example "500 MB" or "2 GB"')
        unit = size[2].upper()
        power = "KMGT".find(unit[:1]) + 1 if unit.rstrip("B") else 0
        value = int(float(size[1]) * (1024 if "I" in unit else 1000) ** power)
    if value <= 0:
        raise ValueError(f"{option}= takes a size above 0; got {value!r}")
    return value


def duration_text(seconds: float) -> str:
    """A duration as people say it, in two units at the most.

    >>> [duration_text(s) for s in (0.0004, 0.25, 3.21, 31, 250, 9000, 200000)]
    ['0 ms', '0.2 s', '3.2 s', '31 s', '4 m 10 s', '2 h 30 m', '2 d 7 h']
    """
    if seconds < 0.095:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for big, small, big_name, small_name in ((60, 1, "m", "s"), (3600, 60, "h", "m"), (86400, 3600, "d", "h")):
        if whole < big * (60 if big < 3600 else 24) or big == 86400:
            rest = whole % big // small
            return f"{whole // big} {big_name}" + (f" {rest} {small_name}" if rest else "")
    raise AssertionError("unreachable")


def age_text(seconds: float) -> str:
    """How long ago, in one unit.

    >>> [age_text(s) for s in (0.5, 40, 190, 10800, 172800)]
    ['just now', '40 s ago', '3 m ago', '3 h ago', '2 d ago']
    """
    if seconds < 1:
        return "just now"
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "m"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // unit)} {name} ago"
    return f"{int(seconds // 86400)} d ago"


def date_text(at: float, now: float | None = None) -> str:
    """A wall-clock instant as a short local date: `14:02` today, `3 Nov` this year, `3 Nov 2025` before."""
    when, today = time.localtime(at), time.localtime(time.time() if now is None else now)
    if when[:3] == today[:3]:
        return time.strftime("%H:%M", when)
    day = f"{when.tm_mday} {time.strftime('%b', when)}"
    return day if when.tm_year == today.tm_year else f"{day} {when.tm_year}"


def lasted_s(spans: Iterable[tuple[float, float]]) -> float:
    """How long it took until all had run, given when each began and how long it took: what ran at once counts once.

    >>> lasted_s([(0.0, 2.0), (1.0, 2.0), (10.0, 1.0)])
    4.0
    """
    total_s, until = 0.0, float("-inf")
    for began_at, took_s in sorted(spans):
        total_s += max(0.0, began_at + took_s - max(began_at, until))
        until = max(until, began_at + took_s)
    return total_s


def clock_text(at: float) -> str:
    """A moment to the second, by the local clock: `14:02:59, 3 Nov`."""
    when = time.localtime(at)
    return time.strftime(f"%H:%M:%S, {when.tm_mday} %b", when)


def size_text(size_bytes: int) -> str:
    """A size in decimal units, as file managers show it.

    >>> [size_text(n) for n in (0, 999, 12_300, 84_000_000, 1_400_000_000)]
    ['0 B', '999 B', '12 KB', '84 MB', '1.4 GB']
    """
    if size_bytes < 1000:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("KB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.5 or unit == "TB":
            return f"{size:.1f} {unit}" if size < 9.95 and unit != "KB" else f"{size:.0f} {unit}"
    raise AssertionError("unreachable")
