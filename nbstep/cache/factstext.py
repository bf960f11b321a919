"""What a header says of its step, as text; what the steps of a map have in common is made once."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from nbstep.cache.records import Facts
from nbstep.events import Place
from nbstep.jsontext import array, mapping, number, or_null, quoted, truth

_USES_AT_MOST: Final = 1000
_USES_CHARS_AT_MOST: Final = 1 << 15


def facts_text(facts: Facts) -> str:
    """Facts as an encoder of JSON would write them."""
    return facts_with(facts, number(facts.took_s), mapping(facts.inputs))


def facts_with(facts: Facts, took_s: str, inputs: str) -> str:
    """The same, given the texts of what differs from one item of a map to the next."""
    uses, beyond = facts.uses, facts.uses_beyond
    if uses:
        ends = list(itertools.accumulate(map(len, uses[:_USES_AT_MOST])))
        named = bisect.bisect_right(ends, _USES_CHARS_AT_MOST)
        uses, beyond = uses[:named], len(uses) - named + beyond
    work, names, sources = _work_texts(facts)
    return (
        f'{{"took_s":{took_s},"awaitable":{truth(facts.awaitable)},"returned":{truth(facts.returned)},'
        f'"ttl_s":{number(facts.ttl_s)},{work},"uses":{array(uses) if uses else "[]"},{names},"inputs":{inputs},{sources},'
        f'"accepted":{number(facts.accepted)},"uses_beyond":{beyond},"exact":{quoted(facts.exact)}}}'
    )


class _Work(NamedTuple):
    """What the facts of the last entry said of its work, and as text; `then` are copies of `code` and `sources`."""

    place: Place
    code: Mapping[str, str]
    sources: Mapping[str, str]
    rest: tuple[Any, ...]
    then: tuple[dict[str, str], dict[str, str]]
    texts: tuple[str, str, str]


_last: _Work | None = None


def _work_texts(facts: Facts) -> tuple[str, str, str]:
    """What facts say of a step's work; the very objects of the entry before, as those of a map have them, are not read again."""
    global _last
    place, code, sources, last = facts.place, facts.code, facts.sources, _last
    rest = facts.workflow, facts.source, facts.names
    if (
        last is not None and last.place is place and last.code is code and last.sources is sources and last.rest == rest
        and last.then == (code, sources)
    ):  # fmt: skip
        return last.texts
    texts = (
        f'"workflow":{or_null(facts.workflow)},"place":{{"notebook":{or_null(place.notebook)},"cell":{number(place.cell)},'
        f'"line":{number(place.line)}}},"code":{mapping(code)},"source":{or_null(facts.source)}',
        f'"names":{"null" if facts.names is None else array(facts.names)}',
        f'"sources":{mapping(sources)}',
    )
    _last = _Work(place, code, sources, rest, (dict(code), dict(sources)), texts)
    return texts
