"""Whether a step of a map is as one was that went the whole way: its function, what that names, its item, its key."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nbstep.cache.trust import signing_key
from nbstep.collisions.look import Look, Sight, are_still, look_like, seen_in_place
from nbstep.drift.alike import Anchored, Like, LikeRead
from nbstep.drift.code import looks_the_same
from nbstep.foreign import interrupts
from nbstep.steps.calls import Call, origins_of

_ANCHORS: Final = 8  # looked for so often


class _Anchor(NamedTuple):
    """By what is told that all names hold what they did when a step was looked at.

    Attributes:
        named: They mean what they did.
        look: That look.
        seen: What of it may be seen as something else, though it is the same object.
    """

    named: Anchored
    look: Look
    seen: Sequence[tuple[Any, Sight]]

    def holds_before(self, function: types.FunctionType, own_map: object) -> bool:
        """Whether all is as it was, before a call."""
        return self.named.holds_before(function, own_map) and are_still(self.seen)

    def holds_after(self) -> bool:
        """The same, after it."""
        return self.named.holds() and are_still(self.seen)


class Read(NamedTuple):
    """What was read before a step.

    Attributes:
        inputs: Its inputs.
        fixed: All that is remembered of its call is its item, one that cannot change.
        anchor: Tells that what is remembered of its names still holds; None where it is to be looked at.
    """

    inputs: LikeRead
    fixed: bool
    anchor: _Anchor | None


class Likeness:
    """What the steps of a map have in common, and whether it is still so.

    Args:
        call: A step that went the whole way.
        like: How their inputs are read.
        function: Their function, or that of their method.
    """

    __slots__ = (
        "_anchor", "_code", "_defaults", "_first_asks", "_function", "_left", "_maps", "_name", "_place", "_scope", "_site",
        "_thunk", "like",
    )  # fmt: skip

    def __init__(self, call: Call, like: Like, function: types.FunctionType) -> None:
        self.like: Final = like
        self._first_asks, self._scope = call.run.first_asks, call.run.scope()
        self._place, self._site, self._maps = call.place, call.site, call.maps()
        self._thunk, self._function = call.thunk, function
        self._code, self._name, self._defaults = function.__code__, function.__qualname__, function.__defaults__
        self._anchor: _Anchor | None = None
        self._left = _ANCHORS

    def read(self, key: str, thunk: Any, args: tuple[Any, ...]) -> Read | None:
        """Its inputs; None where they, or what is behind its function, are not as they were, or the key is another step's."""
        like, anchor, own_map = self.like, self._anchor, self._maps[-1]
        try:
            if not self._is_itself(thunk):
                return None
            if anchor is not None:
                if anchor.holds_before(self._function, own_map):
                    return self._read_by(anchor, key, args)
                self._anchor = None  # nor are the objects held any longer
            if like.owner and type(like.owner[0]) is not like.own_type:
                return None
            named = self._anchored()
            if not looks_the_same(like.seen, self._function, like.own_type):
                return None
            read = like.read(args[0])
            if read is None or origins_of(read.objects, like.seen, self._scope, args=args, own_map=own_map):
                return None
            look = self._first_asks.check(self._scope, key, thunk, args, self._place, None, self._site)
            if named is not None and look is not None and look_like(look, args[0]) == look and named.holds():
                self._anchor = _Anchor(named, look, seen_in_place(look, thunk, args))
            return Read(read, look is not None and not look.read and look.sights == args, None)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - odd code must not cost the value (C3); a collision is met again, and told
            return None

    def _read_by(self, anchor: _Anchor, key: str, args: tuple[Any, ...]) -> Read | None:
        like = self.like
        read, look = like.read(args[0], anchored=True), look_like(anchor.look, args[0])
        if read is None or look is None or (read.objects and origins_of(read.objects, like.seen, self._scope)):
            return None
        kept = self._first_asks.check_look(self._scope, key, look, self._place, None, self._site)
        return Read(read, False, anchor if kept is look else None)

    def _anchored(self) -> Anchored | None:
        """By what the next ones may tell that all names hold what they hold now; not again and again where that is never so."""
        if self._left <= 0:
            return None
        self._left -= 1
        return self.like.anchored()

    def _is_itself(self, thunk: Any) -> bool:
        """Whether a function is theirs, and has the code, the name and the defaults that it had."""
        function = self._function
        return (
            thunk is self._thunk
            and function.__code__ is self._code
            and function.__qualname__ is self._name
            and function.__defaults__ is self._defaults
            and not function.__kwdefaults__
        )

    def is_still(self, key: str, thunk: Any, args: tuple[Any, ...], read: Read) -> bool:
        """Whether its function left itself, its item, what it names, and the user's key as they were."""
        like = self.like
        try:
            if not (self._is_itself(thunk) and signing_key() is like.signing_key and like.has(args[0], read.inputs)):
                return False
            if read.anchor is not None and read.anchor.holds_after():
                return True
            if not like.holds():
                return False
            if not read.fixed:
                self._first_asks.note_ran(self._scope, key, thunk, args)
            return True
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - as above
            return False
