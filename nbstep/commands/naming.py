"""Which entries the words of a verb name: keys and globs, and queries such as `old:`, which narrow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbstep.commands.line import UsageError
from nbstep.commands.listing import Query, Row, filter_of, matches, named_rows


@dataclass(frozen=True, slots=True)
class Named:
    """What words name.

    Attributes:
        rows: The rows, each once.
        exactly: Of their keys those that a word spells out.
        unknown: The words that name no row.
    """

    rows: tuple[Row, ...]
    exactly: frozenset[str]
    unknown: tuple[str, ...]


def rows_named(words: Sequence[str], rows: Sequence[Row], now: float) -> Named:
    """The rows that words name; queries without a key or glob beside them choose from all.

    Raises:
        UsageError: A query cannot be read.
    """
    names, query = split_words(words, rows)
    found = {name: named_rows(rows, name) for name in names}
    asked = {row.key: row for some in found.values() for row in some} if names else {row.key: row for row in rows}
    return Named(
        rows=tuple(row for row in asked.values() if matches(query, row, now)),
        exactly=frozenset(row.key for name, some in found.items() for row in some if name in (row.key, row.label)),
        unknown=tuple(name for name, some in found.items() if not some),
    )


def split_words(words: Sequence[str], rows: Sequence[Row]) -> tuple[list[str], Query]:
    """The keys and globs among words, and the query that the others are; a key comes before a query.

    Raises:
        UsageError: A query cannot be read.
    """
    keys = {text for row in rows for text in (row.key, row.label)}
    try:
        narrowing = {word: filter_of(word) for word in words if word not in keys}
    except ValueError as error:
        raise UsageError(str(error)) from None
    query = tuple(word for word in narrowing.values() if word is not None)
    return [word for word in words if narrowing.get(word) is None], query
