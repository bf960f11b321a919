"""The verb `settings`: each setting with its value, where that comes from, and what sets it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from nbstep.cache.cache import Cache
from nbstep.cache.records import CacheOptions
from nbstep.cache.trust import key_ring
from nbstep.cache.where import project_place
from nbstep.commands.line import Arguments, CommandOutcome
from nbstep.commands.tables import Screen
from nbstep.durations import duration_text, size_text
from nbstep.options import CACHE_OPTIONS
from nbstep.policy import POLICY_OPTIONS, TRANSIENT_ERROR_TTL_S, Policy
from nbstep.project import place_text
from nbstep.runs.hooks import active_run
from nbstep.settings import read_settings
from nbstep.words import fit, shown, text_width

if TYPE_CHECKING:
    from nbstep.runs.state import Run

_DEFAULT: Final = "default"
_LEAST: Final = 24  # columns of a text that is cut
_FIELDS: Final = {"ttl": "ttl_s", "error_ttl": "error_ttl_s"}  # of `Policy`, where they are not named alike
_FLAGS: Final = {"stale_if_error": "--stale-if-error", "cache_errors": "--cache-errors", "on_drift": "--on-drift"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        name: As the option is called.
        value: A number (seconds, bytes), a truth value, a text, or None for no limit and none.
        text: The value for people.
        origin: Where the value comes from.
        set_by: What sets it.
    """

    name: str
    value: Any
    text: str
    origin: str
    set_by: str


async def tell_settings(cache: Cache | None, arguments: Arguments, screen: Screen) -> CommandOutcome:
    """All settings: those of the run that is active here, else those that a step would meet; None is a project without cache."""
    run = active_run.get()
    settings = [_cache_place(cache, run), *_mode(run), *_policy(run), *_cache_options(cache, run), _signing_key()]
    if arguments.as_json:
        records = [{name: part for name, part in asdict(setting).items() if name != "text"} for setting in settings]
        return CommandOutcome("", record=records)
    where, why = settings[0], ""
    if where.origin.startswith(f"{_DEFAULT}: "):  # the longest text of all
        why = f"\n\nThe cache is {shown(where.origin.removeprefix(f'{_DEFAULT}: '))}."
        settings[0] = replace(where, origin=_DEFAULT)
    rows = [("setting", "value", "from", "set by")]
    rows += [(s.name, shown(s.text), shown(s.origin), s.set_by) for s in settings]
    return CommandOutcome(_table(rows, screen.width) + why)


def _cache_place(cache: Cache | None, run: Run | None) -> Setting:
    place = project_place()
    set_by = "NBSTEP_DIR, --cache, cache="
    if run is not None and (run.cache is None or not run.in_project):
        how = "flag --cache of this cell" if run.shown else "create_workflow(cache=…)"
        name = "none: nothing is kept" if run.cache is None else run.cache.place
        return Setting("cache", None if run.cache is None else name, name, how, set_by)
    if cache is not None and cache.directory not in (place.directory.resolve(), place.fallback.resolve()):
        return Setting("cache", cache.place, cache.place, "given", set_by)
    name = place_text(place.directory) if cache is None else cache.place
    origin = "environment: NBSTEP_DIR" if place.explicit else f"{_DEFAULT}: {place.why}"
    return Setting("cache", name, name, origin, set_by)


def _mode(run: Run | None) -> list[Setting]:
    named = os.environ.get("NBSTEP_MODE", "").strip()
    mode, origin = named or "normal", "environment: NBSTEP_MODE" if named else _DEFAULT
    try:
        settings = read_settings()
    except ValueError as error:
        origin += f", not valid: {str(error).rpartition(': ')[2]}"
        settings = read_settings({name: value for name, value in os.environ.items() if name != "NBSTEP_MODE"})
    if run is not None and run.mode != mode and mode != "off":
        mode = run.mode
        origin = "flag --mode of this cell" if run.mode_flag else "create_workflow(mode=…)"
    retry, retry_origin = (
        settings.retry_errors,
        "environment: NBSTEP_RETRY_ERRORS" if settings.retry_errors else _DEFAULT,
    )
    if run is not None and run.retry_errors and not retry:
        retry, retry_origin = True, "flag --retry-errors of this cell"
    return [
        Setting("mode", mode, mode, origin, "NBSTEP_MODE, --mode, mode="),
        Setting("retry_errors", retry, _yes(retry), retry_origin, "NBSTEP_RETRY_ERRORS, --retry-errors"),
    ]


def _policy(run: Run | None) -> list[Setting]:
    policy, flags = (Policy(), {}) if run is None else (run.policy, run.flags)
    found: list[Setting] = []
    for option in POLICY_OPTIONS:
        name = _FIELDS.get(option, option)
        value, flag = getattr(policy, name), _FLAGS.get(option, f"--{option.replace('_', '-')}")
        origin = _DEFAULT if value == getattr(Policy(), name) else f"create_workflow({option}=…)"
        if name in flags:
            origin = f"flag {flag} of this cell"
        found.append(Setting(option, _plain(value), _policy_text(option, value), origin, f"{flag}, {option}="))
    return found


def _policy_text(option: str, value: Any) -> str:
    if value == "auto":
        return f"auto: {duration_text(TRANSIENT_ERROR_TTL_S)} where it may pass"
    if option in _FIELDS:
        return "for ever" if value is None else duration_text(value)
    return _yes(value) if isinstance(value, bool) else str(_plain(value))


def _cache_options(cache: Cache | None, run: Run | None) -> list[Setting]:
    cache = run.cache if run is not None else cache
    options, defaults = CacheOptions() if cache is None else cache.options, CacheOptions()
    words: dict[str, Callable[[Any], str]] = {
        "max_bytes": lambda value: "no limit" if value is None else size_text(value),
        "redact": lambda value: "none of your own" if value is None else str(_plain(value)),
    }
    return [
        Setting(
            option, _plain(getattr(options, option)), words.get(option, _yes)(getattr(options, option)),
            _DEFAULT if getattr(options, option) == getattr(defaults, option) else f"Cache({option}=…)",
            f"Cache({option}=…)",
        )
        for option in CACHE_OPTIONS
    ]  # fmt: skip


def _signing_key() -> Setting:
    ring = key_ring()
    origin = "environment: NBSTEP_SIGNING_KEY_FILE" if ring.named else _DEFAULT
    try:
        path = place_text(ring.path())
    except ValueError as error:
        path, origin = "in memory", f"{origin}, not valid: {error}"
    return Setting("signing_key", path, path, origin, "NBSTEP_SIGNING_KEY_FILE")


def _yes(value: Any) -> str:
    return "yes" if value is True else "no" if value is False else str(value)


def _plain(value: Any) -> Any:
    """What JSON can hold of a value: classes and functions by name."""
    if isinstance(value, Mapping):
        return ", ".join(f"{cause}={action}" for cause, action in value.items())
    if isinstance(value, tuple):
        return ", ".join(str(_plain(part)) for part in value)
    return (
        value
        if isinstance(value, str | bool | int | float) or value is None
        else getattr(value, "__name__", repr(value))
    )


def _table(rows: list[tuple[str, str, str, str]], width: int) -> str:
    """The rows in columns; where the screen is narrow the last column goes, and long texts take several lines."""
    widths = [max(text_width(row[column]) for row in rows) for column in range(4)]
    least = [widths[0], min(widths[1], _LEAST), min(widths[2], 2 * _LEAST), widths[3]]
    if sum(least) + 6 > width:
        widths.pop()
    over = sum(widths) + 2 * (len(widths) - 1) - width
    narrowest = min(_LEAST, max(8, (width - widths[0] - 4) // 2))
    for column in (1, 2):
        cut = min(max(over, 0), max(widths[column] - narrowest, 0))
        widths[column], over = widths[column] - cut, over - cut
    cells = [[_parts(text, w) for text, w in zip(row, widths, strict=False)] for row in rows]
    lines = [line for row in cells for line in zip_longest(*row, fillvalue="")]
    return "\n".join("  ".join(map(fit, line, widths)).rstrip() for line in lines)


def _parts(text: str, width: int) -> list[str]:
    """A text in pieces that fit a column, broken between words where it has any."""
    return [text] if text_width(text) <= width else textwrap.wrap(text, width, break_on_hyphens=False)
