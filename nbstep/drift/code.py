"""The code fingerprint: a digest of a thunk and of each function and class of the user's that it names, transitively.

Comments, formatting, line numbers, docstrings and annotations do not count. Digests are of bytecode, so they are compared only
between entries of one Python minor version.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from nbstep.drift.glance import Glance, glance
from nbstep.drift.parts import is_users, label_of, named_parts, only_called, part_of
from nbstep.drift.pieces import (
    Exact,
    Pieces,
    defaults_text,
    digest_of,
    exact_of,
    exact_of_function,
    exact_rest,
    exact_text,
    function_pieces,
    pieces_and_exact_of,
    pieces_of,
    text_of,
)
from nbstep.drift.seen import CALLS, Digests, NamedText, Seen
from nbstep.drift.sources import Named, Sources, named_in, named_in_class, sources_of
from nbstep.drift.watch import Beside, Part, Watch

_MAX_PARTS: Final = 199  # beside the thunk
_MAX_KNOWN: Final = 1024
_MAX_KNOWN_PARTS: Final = 4096
_MAX_WATCHES: Final = 4
_MAX_DEFAULTS: Final = 256


class _Known:
    """What was found behind a thunk, good as long as the watch holds: all but the thunk itself."""

    __slots__ = ("_called", "_exact", "_fingerprints", "_others", "parts", "sources", "watch")

    def __init__(
        self, watch: Watch, others: Sequence[tuple[str, _Part]], sources: Sources, called: _Part | None
    ) -> None:
        self.watch = watch
        self.sources = sources
        self._others = others
        self._called = called
        self.parts: Sequence[NamedText] = [(name, part.text) for name, part in others]
        self._exact: bytes | None = None
        self._fingerprints: dict[str, Digests] = {}

    @property
    def compared(self) -> Sources:
        """Its sources."""
        return self.sources

    def seen(self, first: Part) -> Seen:
        """What is seen of a thunk that `first` stands for."""
        return tuple.__new__(Seen, (self.fingerprint(first), first, self))  # in half the time

    def fingerprint(self, first: Part) -> Digests:
        """The whole, with the thunk itself: `lambda uid=uid: …` has other defaults each time round a loop."""
        is_function = isinstance(first, types.FunctionType)
        defaults = defaults_text(first) if is_function else ""
        found = self._fingerprints.get(defaults)
        if found is None:
            if len(self._fingerprints) >= _MAX_DEFAULTS:
                self._fingerprints.clear()
            own = function_pieces(first, defaults) if is_function else pieces_of(first)
            if self._exact is None:
                called, others = self._called, [(name, part.exact) for name, part in self._others]
                self._exact = exact_rest(called.exact if called else None, others)
            exact = exact_text(exact_of_function(first) if is_function else exact_of(first), self._exact)
            found = Digests(exact, functools.partial(self._texts, own))
            self._fingerprints[defaults] = found
        return found

    def _texts(self, own: Pieces) -> Mapping[str, str]:
        others: dict[str, list[Pieces]] = {}
        for name, part in self._others:
            others.setdefault(name, []).append(part.pieces)
        text = text_of(own)
        return {
            "": f"{text}{CALLS}{text_of(self._called.pieces)}" if self._called else text,
            **{name: text_of(*sorted(map(digest_of, pieces))) for name, pieces in others.items()},
        }


class _Part(NamedTuple):
    """What was found in one function or class, good as long as its watch holds; `named` are the parts that it names."""

    itself: Callable[[], object]
    watch: Watch
    named: tuple[tuple[str, Callable[[], Part | None]], ...]
    inputs: list[Named]
    pieces: Pieces
    exact: Exact
    text: types.CodeType | weakref.ref[type]


class _Behind(NamedTuple):
    """A part with all parts behind it, each with its label; good as long as the watch of them all holds."""

    own: _Part
    watch: Watch
    rest: tuple[tuple[str, _Part], ...]


# By the id of a function or class. Without a lock: what two threads find is the same.
_parts: dict[int, _Part] = {}
_behind: dict[int, _Behind] = {}
# By the code of the thunk, or the id of a class.
_known: dict[object, tuple[_Known | Glance, ...]] = {}


class _Glimpse:
    """What is behind a thunk whose code is new here: a glance tells whether it is what an entry knows, a look all else.

    What a look finds, once it is taken, is all as it was at one moment.
    """

    __slots__ = ("_first", "_glance", "_known")

    def __init__(self, first: Part, found: Glance | None = None) -> None:
        self._first = first
        self._glance = found
        self._known: _Known | None = None

    def seen(self) -> Seen:
        """What is seen of the thunk."""
        return tuple.__new__(Seen, (self, self._first, self))

    @property
    def exact(self) -> str:
        """The exact digest, by a glance where that will do."""
        if self._known is None:
            found = self._glance
            if found is None:
                self._glance = found = glance(self._first, _is_remembered)
                if found is not None:
                    _remember(self._first.__code__, found)
            if found is not None:
                return found.exact
        return self._look().fingerprint(self._first).exact

    @property
    def texts(self) -> Mapping[str, str]:
        """The digests by name."""
        return self._look().fingerprint(self._first).texts

    @property
    def compared(self) -> Sources:
        """Its sources, by a glance where that will do."""
        found = self._glance.sources(self._first) if self._glance is not None and self._known is None else None
        return self.sources if found is None else found

    @property
    def sources(self) -> Sources:
        """Where its inputs are found."""
        return self._look().sources

    @property
    def parts(self) -> Sequence[NamedText]:
        """The functions and classes that it names."""
        return self._look().parts

    def _look(self) -> _Known:
        if self._known is None:
            self._known = _look_at(self._first, None)
        return self._known


def _is_remembered(part: object) -> bool:
    """Whether what is behind a function or class was found before; it may have changed since."""
    known = _behind.get(id(part))
    return known is not None and known.own.itself() is part


def look_behind(thunk: object) -> Seen:
    """The code fingerprint, and where the inputs are."""
    owner = type(thunk.__self__) if type(thunk) is types.MethodType else None
    first = part_of(thunk)
    place = first.__code__ if type(first) is types.FunctionType else id(first)
    for known in _known.get(place, ()):
        if known.watch.holds(first, owner):
            return known.seen(first) if isinstance(known, _Known) else _Glimpse(first, known).seen()
    if not is_users(first):
        return Seen(_fingerprint_of_name(full_name(thunk, first)), first)
    return _Glimpse(first).seen() if owner is None else _look_at(first, owner).seen(first)


def looks_the_same(then: Seen, function: Any, owner: type | None = None) -> bool:
    """Whether `look_behind` would find again what it found of this very function, whose code and defaults are the same ones.

    "No" says nothing.

    Args:
        then: What it found.
        function: The function.
        owner: The type of the object whose method it is.
    """
    if then.first is not function:
        return False
    found = then.found
    if type(found) is _Known:
        return found.watch.holds(function, owner)  # it watches too whose the function is
    if owner is not None or is_users(function) or "__wrapped__" in function.__dict__ or function.__code__ in _known:
        return False
    return then.fingerprint is _fingerprint_of_name(full_name(function, function))


def beside_names(then: Seen) -> Beside | None:
    """What tells, beside the names of the function's own, that `look_behind` finds the same again; None where more is to be seen.

    But for what may be put into a list or a dict.
    """
    found = then.found
    return found.watch.beside_names() if type(found) is _Known else None


def _look_at(first: Part, owner: type | None) -> _Known:
    known = _read(first, owner)
    _remember(first.__code__ if isinstance(first, types.FunctionType) else id(first), known)
    return known


def _remember(place: object, known: _Known | Glance) -> None:
    if len(_known) >= _MAX_KNOWN:
        _known.clear()
    others = _known.setdefault(place, alone := (known,))
    if others is not alone:
        _known[place] = (known, *others[: _MAX_WATCHES - 1])


def look_anew(thunk: object) -> Seen:
    """The same, whatever is known."""
    _parts.clear()
    _behind.clear()
    owner = type(thunk.__self__) if isinstance(thunk, types.MethodType) else None
    first = part_of(thunk)
    if not is_users(first):
        return Seen(_fingerprint_of_name(full_name(thunk, first)), first)
    return _read(first, owner).seen(first)


def _read(first: Part, owner: type | None) -> _Known:
    watch = Watch(first, owner)
    direct = named_parts(first, watch)
    inputs = _named_by(first, watch, None)
    if owner is not None and is_users(owner):
        direct.append((owner.__qualname__, owner))
    others: list[tuple[str, _Part]] = []
    found: dict[object, _Part] = {}
    behind: list[_Behind] = []
    for name, part in direct:
        watch.met_again |= part is first
        if part is not first and part not in found and len(found) < _MAX_PARTS:
            behind.append(_read_behind(part))
            found[part] = behind[-1].own
            others.append((label_of(name, part), behind[-1].own))
    for own, all_watch, rest in behind:
        new: list[tuple[str, _Part]] = []
        for label, one in rest:
            part = one.itself()
            watch.met_again |= part is first
            if part is not first and part not in found and len(found) < _MAX_PARTS:
                found[part] = one
                new.append((label, one))
        for watched in [all_watch] if len(new) == len(rest) else [own.watch, *[one.watch for _, one in new]]:
            watch.include(watched)
        others += new
    for _, one in others:
        inputs += one.inputs
    called = only_called(first)
    return _Known(
        watch, others, sources_of(inputs, watch.codes(), _parameters(first)), found.get(called) if called else None
    )


def _parameters(first: Part) -> frozenset[str]:
    code = first.__code__ if isinstance(first, types.FunctionType) else None
    return frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) if code else frozenset()


def _read_behind(part: Part) -> _Behind:
    """A part and all parts behind it: what was found before, where it still holds."""
    known = _behind.get(id(part))
    if known is not None and known.own.itself() is part and known.watch.holds():
        return known
    own, waiting = _read_part(part)
    watch = own.watch
    rest: dict[Part, tuple[str, _Part]] = {}
    if waiting:
        watch = Watch()
        watch.include(own.watch)
    for name, other in waiting:  # it grows
        if other is not part and other not in rest and len(rest) < _MAX_PARTS:
            found, named = _read_part(other)
            watch.include(found.watch)
            rest[other] = label_of(name, other), found
            waiting += named
    found = _Behind(own, watch, (*rest.values(),))
    if len(_behind) >= _MAX_KNOWN_PARTS:
        _behind.clear()
    _behind[id(part)] = found
    return found


def _read_part(part: Part) -> tuple[_Part, list[tuple[str, Part]]]:
    """What is in a part, and the parts that it names: what was found before, where it still holds."""
    known = _parts.get(id(part))
    if known is not None and known.itself() is part and known.watch.holds():
        alive = [(name, named) for name, reference in known.named if (named := reference()) is not None]
        if len(alive) == len(known.named):
            return known, alive
    watch = Watch()
    named = named_parts(part, watch)
    reference = weakref.ref(part)
    pieces, exact = pieces_and_exact_of(part)  # after it was read: what changes in between is noticed later
    found = _Part(
        reference,
        watch,
        tuple([(name, weakref.ref(other)) for name, other in named]),
        _named_by(part, watch, reference),
        pieces,
        exact,
        weakref.ref(part) if isinstance(part, type) else part.__code__,
    )
    if len(_parts) >= _MAX_KNOWN_PARTS:
        _parts.clear()
    _parts[id(part)] = found
    return found, named


def _named_by(part: Part, watch: Watch, reference: Callable[[], Part | None] | None) -> list[Named]:
    """What is named in a function, or in a class and its methods; `reference` gives it again, None where it is the thunk's own."""
    if isinstance(part, types.FunctionType):
        named = [named_in(reference, part)]
    else:
        named = [named_in(*one) for one in watch.functions(part)] + [named_in_class(*one) for one in watch.classes()]
    return [one for one in named if any(one)]  # most have no input


@functools.lru_cache(maxsize=1024)
def _fingerprint_of_name(name: str) -> Digests:
    text = text_of(name.encode())
    return Digests(text, lambda: {"": text})


def is_known_by_name(thunk: object, code: Mapping[str, str]) -> bool:
    """Whether a code fingerprint is of the thunk's name alone, as that of an installed function is."""
    return code.get("") == _fingerprint_of_name(full_name(thunk, part_of(thunk))).exact


def full_name(thunk: object, part: Part) -> str:
    """What a function or class of an installed package is called: `pandas.read_csv`."""
    named = thunk if isinstance(thunk, types.BuiltinFunctionType) else part
    return f"{named.__module__}.{named.__qualname__}"
