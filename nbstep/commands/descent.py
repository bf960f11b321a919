"""What was made from what, as the headers of all entries tell it: for `show`, `rm` and the panel (D6)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from nbstep.cache.records import Facts, Meta
from nbstep.cache.secrets.redaction import key_text
from nbstep.commands.listing import is_glob
from nbstep.durations import duration_text
from nbstep.words import keys_text, named_key, natural_order, plural

_NAMED: Final = 5


def went_into(metas: Iterable[Meta], key: str) -> list[str]:
    """The keys of the steps that took what `key` keeps, or asked it inside themselves.

    What somebody else signed is not believed.
    """
    return sorted((meta.key for meta in metas if meta.trusted and key in meta.facts.uses), key=natural_order)


def later_steps(metas: Iterable[Meta], keys: Collection[str]) -> list[Meta]:
    """The entries that were made from those of `keys`, and from these in turn; without `keys`, in their natural order."""
    by_used: dict[str, list[Meta]] = {}
    for meta in metas:
        if meta.trusted:
            for used in meta.facts.uses:
                by_used.setdefault(used, []).append(meta)
    found: dict[str, Meta] = {}
    ahead = list(keys)
    while ahead:
        for meta in by_used.get(ahead.pop(), ()):
            if meta.key not in found:
                found[meta.key] = meta
                ahead.append(meta.key)
    return sorted((meta for key, meta in found.items() if key not in keys), key=lambda meta: natural_order(meta.key))


def used_keys(metas: Mapping[str, Meta], name: str) -> list[str]:
    """The keys that a word of `rm` names, under which nothing is kept any more, and from which something was made."""
    gone = {used for meta in metas.values() if meta.trusted for used in meta.facts.uses if used not in metas}
    exact = [key for key in gone if name in (key, key_text(key))]
    return exact or [key for key in gone if is_glob(name) and fnmatchcase(key, name)]


def made_from_text(facts: Facts) -> str:
    """The keys that went into an entry; of many some, and their number."""
    return keys_text([key_text(key) for key in facts.uses], len(facts.uses) + facts.uses_beyond)


def later_text(later: Sequence[Meta], deleted: int) -> str:
    """What was made from what is deleted, with the time it took: of many the five that took longest.

    >>> later_text([], 1)
    ''
    """
    if not later:
        return ""
    named = sorted(later, key=lambda meta: -meta.facts.took_s)[:_NAMED] if len(later) > _NAMED else later
    text = ", ".join(_with_time(named_key(key_text(meta.key)), meta.facts.took_s) for meta in named)
    if len(later) > _NAMED:
        rest_s = sum(meta.facts.took_s for meta in later) - sum(meta.facts.took_s for meta in named)
        text += f" and {_with_time(f'{len(later) - _NAMED:,} more', rest_s)}"
    were = plural(len(later), "later step was", "later steps were")
    return f"{were} made from {'it' if deleted == 1 else 'them'}: {text}"


def next_run_text(metas: Iterable[Meta]) -> str:
    """About how long these steps take when they run again, "" where that is not known.

    >>> next_run_text([])
    ''
    """
    seconds = sum(meta.facts.took_s for meta in metas)
    whole_m = round(seconds / 60)
    text = f"{whole_m} m" if 1 <= whole_m < 60 and seconds >= 60 else duration_text(seconds)
    return f"about {text}" if seconds else ""


def _with_time(what: str, took_s: float) -> str:
    return f"{what} ({duration_text(took_s)})" if took_s else what
