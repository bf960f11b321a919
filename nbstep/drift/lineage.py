"""Lineage: which steps handed out the very objects that a later step takes (D6).

What a step hands out is known by its identity. Where that can be, a weak reference holds it, which ends with the object, so an
`id` that is used again never makes a link. Lists, dicts and long texts take no weak reference: they are held, until nobody else
has them (looked at as more come, when a cell ends, and by `gc.collect()`), 64 MB at most. A value of no identity of its own (a
number, a short text, a date, a member of an enum, a function) is never linked. Nor is an item of a map linked to others of that
map by what they, or steps inside them, put into a list that all of them name: it is what they give, not what they take.
"""

from __future__ import annotations

import atexit
import collections
import datetime
import enum
import gc
import itertools
import logging
import re
import sys
import uuid
import weakref
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Final, TypeAlias

from nbstep.cache.keptcell import KeptCell
from nbstep.drift.scalars import CODE, SCALARS
from nbstep.foreign import interrupts
from nbstep.result import Err, Ok

_HELD_BYTES_AT_MOST: Final = 64 << 20
_HELD_AT_MOST: Final = 20_000
_LOOK_AFTER_BYTES: Final = 4 << 20
_LOOK_AFTER: Final = 256
_TEXT_FROM: Final = 256  # a shorter one may be a constant that many share
_STEPS_AN_OBJECT: Final = 8
_PARTS_GIVEN: Final = 256
_PARTS_TAKEN: Final = 10_000
_STRANGERS_IN_A_ROW: Final = 1000

_TEXTS: Final = frozenset({str, bytes, bytearray})
_BOXES: Final = frozenset({list, dict, collections.defaultdict})
_WITHOUT_IDENTITY: Final = frozenset({*SCALARS, range, slice, frozenset, type(...), type(NotImplemented)})
# Some of these take weak references, and are nobody's own all the same.
_SHARED: Final = (
    *CODE, type(sys), enum.Enum, int, float, complex, str, bytes, frozenset, datetime.date, datetime.time, datetime.timedelta,
    datetime.tzinfo, re.Pattern, tuple, uuid.UUID, logging.Logger,
)  # fmt: skip
_SINGLE: Final = frozenset({"NAType", "NaTType"})  # of pandas
WITH_PARTS: Final = (list, tuple, dict, Ok, Err)
_PLAIN_PARTS: Final = frozenset({*SCALARS, *_TEXTS, list, dict, tuple})


# Of a step: the cache it keeps in, as `origin_of` names it, its key, and what stands for each map of which it is inside an item.
Origin: TypeAlias = tuple[Hashable, str, tuple[object, ...]]
_Origins: TypeAlias = tuple[Origin, ...]


class _Link(weakref.ref[Any]):
    """What is known of an object for as long as it lives; no origins where several loads gave this one object."""

    __slots__ = ("address", "origins")
    address: int
    origins: _Origins


# The same of what takes no weak reference: the object itself, its origins, and the size of its entry in bytes.
_Held: TypeAlias = tuple[Any, _Origins, int]


class HandedOut:
    """What steps handed out in this process and somebody still has, by identity.

    It takes no lock: the collector may call it in the middle of itself, and each change is one of a dict's own.
    """

    def __init__(self) -> None:
        self._linked: dict[int, _Link] = {}
        self._held: dict[int, _Held] = {}  # oldest first
        self._latest: int | None = None
        self._new = self._new_bytes = 0
        self._watching = False

    def __len__(self) -> int:
        return len(self._linked) + len(self._held)

    def note(
        self, value: Any, origin: Origin, size_bytes: int = 0, *, plain: bool = False, loaded: bool = False
    ) -> None:
        """Remembers what a step hands out.

        Args:
            value: The value.
            origin: The step.
            size_bytes: Its entry's size.
            plain: Nothing in it comes from an installed package, as far as is known.
            loaded: It was made just now from what is kept: an object that is known already is then nobody's own.
        """
        kind = type(value)
        if kind in _WITHOUT_IDENTITY:
            return
        if kind in _TEXTS:
            if len(value) >= _TEXT_FROM:
                self._hold(value, origin, len(value), loaded)
        elif kind in _BOXES:
            if plain and _is_plain(value):
                self._hold(value, origin, size_bytes, loaded)
            else:
                self._note_parts(_parts(value), origin, size_bytes, loaded)
        elif kind is KeptCell:
            self._note_parts(value.names.values(), origin, size_bytes, loaded)
        elif _has_identity(kind):
            self._link(value, origin, loaded)
        elif issubclass(kind, tuple):
            self._note_parts(_parts(value), origin, size_bytes, loaded)

    def origins(self, value: Any) -> _Origins:
        """The steps that handed out this very object; none where it is not known."""
        address = id(value)
        link = self._linked.get(address)
        if link is not None and link() is value:
            return link.origins
        held = self._held.get(address)
        return held[1] if held is not None and held[0] is value else ()

    def origins_of_all(self, values: Iterable[Any], but: object = None) -> _Origins:
        """The steps behind some values, and behind what stands in those that are lists, tuples and dicts, in their order.

        Behind what stands in them not those of the map that `but` stands for.
        """
        found: dict[Origin, None] = {}
        left = _PARTS_TAKEN
        for value in values if len(self) else ():
            origins = self.origins(value)
            if origins:
                found.update(dict.fromkeys(origins))
            if not isinstance(value, WITH_PARTS):
                continue
            strangers = 0
            for part in itertools.islice(_parts(value), left):
                left -= 1
                origins = _without(self.origins(part), but)
                if origins:
                    found.update(dict.fromkeys(origins))
                    strangers = 0
                elif (strangers := strangers + 1) >= _STRANGERS_IN_A_ROW:
                    break
        return tuple(found)

    def let_go(self) -> None:
        """Lets go of what is held and nobody else has, then of the oldest until the limits hold."""
        self._new = self._new_bytes = 0
        held_bytes = 0
        for address in list(self._held):
            held = self._held.get(address)
            if held is None:
                continue
            if sys.getrefcount(held[0]) <= _ALONE:
                self._held.pop(address, None)
            else:
                held_bytes += held[2]
        for address in list(self._held):
            if held_bytes <= _HELD_BYTES_AT_MOST and len(self._held) <= _HELD_AT_MOST:
                break
            held = self._held.pop(address, None)
            held_bytes -= 0 if held is None else held[2]

    def _note_parts(self, parts: Iterable[Any], origin: Origin, size_bytes: int, loaded: bool) -> None:
        """Of what is given in one piece and taken apart, as `X, y = step(…)` is; each part once."""
        flat = itertools.chain.from_iterable(_parts(part) if isinstance(part, tuple) else (part,) for part in parts)
        for part in {id(part): part for part in itertools.islice(flat, _PARTS_GIVEN)}.values():
            if type(part) not in _BOXES:
                self.note(part, origin, loaded=loaded)
            elif _is_plain(part):
                self._hold(part, origin, size_bytes, loaded)

    def _link(self, value: Any, origin: Origin, loaded: bool) -> None:
        address = id(value)
        known = self._linked.get(address)
        origins = (origin,) if known is None or known() is not value else _joined(known.origins, origin, loaded)
        try:
            link = _Link(value, self._forget)
        except TypeError:  # it takes no weak reference, and what it holds on to is not known
            return
        link.address, link.origins = address, origins
        self._linked[address] = link

    def _hold(self, value: Any, origin: Origin, size_bytes: int, loaded: bool) -> None:
        if size_bytes > _HELD_BYTES_AT_MOST:
            return
        if not self._watching:
            self._watching = True
            gc.callbacks.append(self._on_collection)
            atexit.register(gc.callbacks.remove, self._on_collection)
        address, latest = id(value), self._latest
        if latest is not None and latest in self._held and sys.getrefcount(self._held[latest][0]) <= _ALONE:
            self._held.pop(latest, None)  # a loop that takes one value after the other needs no more than this
        known = self._held.get(address)  # nothing else can have its place
        origins = (origin,) if known is None else _joined(known[1], origin, loaded)
        self._held[address] = value, origins, size_bytes
        self._latest = address
        self._new += 1
        self._new_bytes += size_bytes
        if self._new_bytes >= _LOOK_AFTER_BYTES or (self._new >= _LOOK_AFTER and self._new * 2 >= len(self._held)):
            self.let_go()

    def _forget(self, link: _Link) -> None:
        # The object dies only after this: no other can have its place before.
        if self._linked.get(link.address) is link:
            self._linked.pop(link.address, None)

    def _on_collection(self, phase: str, collected: dict[str, int]) -> None:
        if phase == "start" and collected["generation"] == 2:
            self.let_go()


def origin_of(cache: Hashable, key: str, maps: tuple[object, ...] = ()) -> Origin:
    """The step that keeps `key` in a cache, which is named as by `Cache.scope`; it keeps no store alive."""
    return cache if type(cache) is str else weakref.ref(cache), key, maps


def note_handed_out(
    value: Any,
    cache: Hashable,
    key: str,
    size_bytes: int,
    *,
    plain: bool,
    loaded: bool = False,
    maps: tuple[object, ...] = (),
) -> None:
    """Remembers that the step which keeps `key` handed out `value`, as `HandedOut.note`; odd values only lose their links."""
    try:
        HANDED_OUT.note(value, origin_of(cache, key, maps), size_bytes, plain=plain, loaded=loaded)
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001, S110 - a link must not cost the value (C3)
        pass


def _without(origins: _Origins, but: object) -> _Origins:
    """Those origins that are of no item of a map, and of no step inside one."""
    return origins if but is None or not origins else tuple(one for one in origins if but not in one[2])


def _joined(origins: _Origins, origin: Origin, loaded: bool) -> _Origins:
    """The origins of an object that is handed out again."""
    if loaded or not origins:
        return ()
    others = [one for one in origins if one[:2] != origin[:2]]
    if len(others) >= _STEPS_AN_OBJECT:  # many items of one map may give what an earlier step made: that step stays
        del others[next((at for at, one in enumerate(others) if origin[2] and one[2] == origin[2]), 0)]
    return (*others, origin)


_judged: dict[type, bool] = {}


def _has_identity(kind: type) -> bool:
    """Whether an object of this class is somebody's own, as far as the class tells."""
    known = _judged.get(kind)
    if known is None:
        known = not issubclass(kind, _SHARED) and kind.__name__ not in _SINGLE
        if kind.__module__ != "__main__" and len(_judged) < 1000:  # a notebook's classes come and go
            _judged[kind] = known
    return known


def _parts(value: Any) -> Iterator[Any]:
    """What stands in a list, a tuple, a dict, an `Ok` or an `Err`, read without code of the user's."""
    if isinstance(value, list):
        return list.__iter__(value)
    if isinstance(value, tuple):
        return tuple.__iter__(value)
    if isinstance(value, dict):
        return iter(list(dict.values(value)))
    if type(value) is Ok:
        return iter((value.value,))
    return iter((value.error,) if type(value) is Err else ())


def _is_plain(value: Any) -> bool:
    """Whether it begins with numbers, texts, lists and the like: what could be let go by itself is not held with it."""
    for part in value.values() if type(value) is not list else value:
        return type(part) in _PLAIN_PARTS
    return True


_lonely: _Held = ([], (), 0)
_ALONE: Final = sys.getrefcount(_lonely[0])  # asked the same way everywhere, as the asking counts
HANDED_OUT: Final = HandedOut()
