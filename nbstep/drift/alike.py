"""The inputs of the items of one map: what they share is read once for all of them, and each checks that it is still so."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nbstep.cache.trust import SigningKey
from nbstep.drift.code import beside_names, looks_the_same
from nbstep.drift.inputs import SIGNER, Inputs, Named, named_in
from nbstep.drift.lasting import ANY, STATE, Content, Lasting, are_same, argument_sight, held_again, marshalled
from nbstep.drift.lineage import HANDED_OUT, WITH_PARTS
from nbstep.drift.reading import may_be_file, stamp_of_path
from nbstep.drift.roots import Roots, roots_of
from nbstep.drift.scalars import counts_for_nothing
from nbstep.drift.seen import Digests, Seen
from nbstep.drift.sights import MAY_HOLD
from nbstep.drift.sources import GLOBAL, Source, default_files, read_source
from nbstep.drift.values import Texts, texts_of


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


class Anchored(NamedTuple):
    """That all names hold what they did, told in a fraction of the calls: most mean the very objects that they meant.

    Attributes:
        seen: What is behind the function.
        roots: Those objects.
        rest: What can change in place, or is named elsewhere, as in `Lasting.names`.
        objects: Those that another step may have made.
        containers: The same, of which it may have made what stands in them.
        watched: Whether what is behind the function can change while the roots are the same.
    """

    seen: Seen
    roots: Roots
    rest: Sequence[tuple[Source, type, object]]
    objects: Sequence[Any]
    containers: Sequence[Any]
    watched: bool

    def holds_before(self, function: types.FunctionType, own_map: object) -> bool:
        """Whether, before a call, all that was found and read is as it was, and no step made any of it.

        What items of its own map put into containers is not looked at.
        """
        if not self.holds() or (self.watched and not looks_the_same(self.seen, function)):
            return False
        return not (any(map(HANDED_OUT.origins, self.objects)) or HANDED_OUT.origins_of_all(self.containers, own_map))

    def holds(self) -> bool:
        """Whether all names hold what they did."""
        return self.roots.are_same() and (not self.rest or held_again(self.rest, self.seen.first) is not None)


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
        make: What makes texts with the user's key.
        paths: The texts in what is named, and in the code, that may name files.
    """

    signing_key: SigningKey
    seen: Seen
    name: str
    named: Named | None
    owner: tuple[Any, ...]
    own_type: type | None
    own: Mapping[str, str]
    make: Texts
    paths: Sequence[str]

    def read(self, argument: Any, *, anchored: bool = False) -> LikeRead | None:
        """What is read, where the key and what is behind the function still are those; None says nothing.

        Args:
            argument: The argument.
            anchored: What is named is known to hold what it did, and not to come from another step.
        """
        key, named, objects, sight = self.signing_key, self.named, self.owner, type(argument)
        text = self.make.of_plain(argument)
        paths = [argument, *self.paths] if sight is str else [*self.paths]
        if text is None:
            sight = argument_sight(argument)
            if type(sight) is not bytes:
                return None
            text, objects = self.make.read(argument, paths)[0], (*objects, argument)
        if named is None:
            found = {SIGNER: key.id, self.name: text}
        else:
            if not anchored:
                again = named.again(key, self.seen.found.sources, self.seen.first, {self.name, *self.own})
                if again is None:
                    return None
                objects = (*objects, *again)
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

    def anchored(self) -> Anchored | None:
        """What tells that what is named holds what it holds now; None where that takes as long as to read it."""
        seen, function = self.seen, self.seen.first
        if self.owner or not isinstance(function, types.FunctionType) or seen.found.sources.callables:
            return None
        beside = beside_names(seen)
        roots = roots_of(function) if beside is None else roots_of(function, *beside)
        if roots is None:
            return None
        rest = list[tuple[Source, type, object]]()
        objects, containers = list[Any](), list[Any]()
        for one in () if self.named is None else self.named.names:
            source, _, known = one
            at_root = source.function is None and source.cell >= GLOBAL and len(source.path) == 1
            if not at_root or type(known) is Content:
                rest.append(one)
            if known is ANY or known is STATE or type(known) is Content:
                if not at_root:  # it may come to mean another object
                    return None
                value = read_source(source, function)
                (containers if known is not STATE and isinstance(value, WITH_PARTS) else objects).append(value)
        watched = beside is None or not MAY_HOLD.isdisjoint(roots.kinds())
        return Anchored(seen, roots, rest, objects, containers, watched)

    def has(self, argument: Any, read: LikeRead) -> bool:
        """Whether the argument still is what it was."""
        return type(read.sight) is not bytes or marshalled(argument) == read.sight

    def holds(self) -> bool:
        """Whether what is named still is what it was."""
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
    named = named if sources.inputs else None
    defaults = [path for _, path in default_files(function, (*own, name))]
    paths = [*sources.paths, *(() if named is None else named.paths), *defaults]
    return Like(
        key, seen, name, named, owner, type(owner[0]) if owner else None, own_texts, texts_of(key.secret),
        [path for path in paths if may_be_file(path)],
    )  # fmt: skip
