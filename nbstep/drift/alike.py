"""The inputs of the items of one map: what they share is read once for all of them, and each checks that it is still so."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nbstep.cache.trust import SigningKey
from nbstep.drift.inputs import SIGNER, Inputs, Named, named_in, stamp_of_path
from nbstep.drift.lasting import Lasting, are_same, argument_sight, held_again, marshalled
from nbstep.drift.scalars import counts_for_nothing
from nbstep.drift.seen import Digests, Seen
from nbstep.drift.values import texts_of


def with_shared(read: Inputs, like: Named | None, seen: Seen) -> tuple[Inputs, Named | None]:
    """What was read of a call, and of the names alone for other calls of its work: `like`, where that was found again."""
    lasting = read.lasting
    if like is not None and lasting is not None and like.signer == read.texts[SIGNER]:
        if lasting.names is like.names:
            return read, like
        if are_same(lasting.names, like.names):
            return read._replace(lasting=lasting._replace(names=like.names)), like
    return read, named_in(read, seen)


class LikeRead(NamedTuple):
    """What was read before such a call.

    Attributes:
        texts: As in `Inputs`.
        objects: What of it another step may have made.
        sight: What tells its argument.
    """

    texts: Mapping[str, str]
    objects: Sequence[Any]
    sight: type | bytes


class Like(NamedTuple):
    """Reads the inputs of calls that differ in one plain argument, as `read_inputs` does, where all else is what it was.

    Attributes:
        signing_key: The user's key.
        seen: What was behind the function.
        name: Its parameter for that argument.
        named: What was read of all that its code names; None where it names nothing.
        owner: The object whose method it is, in a tuple; else an empty one.
        own_type: Its type; None where there is none.
        own: The text of that object, which is that of its type.
    """

    signing_key: SigningKey
    seen: Seen
    name: str
    named: Named | None
    owner: tuple[Any, ...]
    own_type: type | None
    own: Mapping[str, str]

    def read(self, argument: Any) -> LikeRead | None:
        """What is read, where the key and what is behind the function still are those; None says nothing."""
        key, seen, named = self.signing_key, self.seen, self.named
        make, sight = texts_of(key.secret), argument_sight(argument)
        text = make.of_plain(argument)
        paths: list[str] = [argument] if type(argument) is str else []
        objects: Sequence[Any] = self.owner
        if text is None:
            if type(sight) is not bytes:
                return None
            text, objects = make.read(argument, paths)[0], (*objects, argument)
        paths += seen.found.sources.paths
        found = {SIGNER: key.id, self.name: text}
        if named is not None:
            again = named.again(key, seen.found.sources, seen.first, {self.name, *self.own})
            if again is None:
                return None
            objects = (*objects, *again)
            paths += named.paths
            found = {SIGNER: key.id, **named.scalars, self.name: text, **named.others}
        if paths and any(stamp_of_path(path, explicit=False) for path in paths):
            return None
        return LikeRead({**found, **self.own} if self.own else found, objects, sight)

    def inputs(self, thunk: Any, read: LikeRead) -> Inputs:
        """What `read_inputs` would have given."""
        names, loose = ((), frozenset[str]()) if self.named is None else (self.named.names, self.named.loose)
        if type(read.sight) is bytes:
            loose |= {self.name}
        sights = (read.sight,) if self.own_type is None else (self.own_type, read.sight)
        return Inputs(read.texts, loose=loose.union(self.own), lasting=Lasting(thunk, sights, names))

    def holds(self, argument: Any, read: LikeRead) -> bool:
        """Whether the argument and what is named still are what they were."""
        if type(read.sight) is bytes and marshalled(argument) != read.sight:
            return False
        if self.owner and type(self.owner[0]) is not self.own_type:
            return False
        return self.named is None or held_again(self.named.names, self.seen.first) is not None


def like(
    before: Inputs, named: Named | None, thunk: Any, args: tuple[Any, ...], seen: Seen, key: SigningKey
) -> Like | None:
    """How inputs are read of other calls of a function or a method, given those of one; None where each is read by itself."""
    lasting, sources = before.lasting, seen.sources
    if lasting is None or before.paths or before.tables or len(args) != 1:
        return None
    if type(seen.fingerprint) is not Digests or (
        sources.inputs and (named is None or named.names is not lasting.names)
    ):
        return None
    function, owner = (thunk.__func__, (thunk.__self__,)) if type(thunk) is types.MethodType else (thunk, ())
    if type(function) is not types.FunctionType or function.__code__.co_argcount <= len(owner):
        return None
    *own, name = function.__code__.co_varnames[: len(owner) + 1]
    if any(map(counts_for_nothing, (name, *own))) or function.__kwdefaults__:
        return None
    if any(map(callable, function.__defaults__ or ())) or not before.loose.issuperset(own):
        return None
    own_texts = {one: before.texts[one] for one in own}
    return Like(key, seen, name, named if sources.inputs else None, owner, type(owner[0]) if owner else None, own_texts)
