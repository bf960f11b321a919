"""What was seen behind a thunk: its code fingerprint, where its inputs are, and the parts that it names."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from nbstep.drift.sources import NO_SOURCES, Sources
from nbstep.drift.watch import Part

CALLS: Final = ">"

NamedText: TypeAlias = tuple[str, types.CodeType | weakref.ref[type]]  # of a part whose text can be read


class Fingerprint(Protocol):
    """The code fingerprint of a step as it was when it was looked at."""

    @property
    def exact(self) -> str:
        """A digest of all that it is of, just as Python compiled it; empty where it is not known.

        Where that is equal, so are the texts, which take ten times as long.
        """
        ...

    @property
    def texts(self) -> Mapping[str, str]:
        """The digests by name, made when first needed."""
        ...


class Digests:
    """A fingerprint of which all is known that it is made of.

    Attributes:
        told: What entries say of the work, as it was last found for a function of this fingerprint; it ends with it.
    """

    __slots__ = ("_make", "_texts", "exact", "told")

    def __init__(self, exact: str, make: Callable[[], Mapping[str, str]]) -> None:
        self.exact = exact
        self.told: tuple[types.CodeType, str, Any] | None = None
        self._make = make
        self._texts: Mapping[str, str] | None = None

    @property
    def texts(self) -> Mapping[str, str]:
        """The digests by name."""
        if self._texts is None:
            self._texts = self._make()
        return self._texts


class Found(Protocol):
    """What stands behind a thunk."""

    @property
    def sources(self) -> Sources:
        """Where its inputs are found, beside its arguments."""
        ...

    @property
    def compared(self) -> Sources:
        """The same for a comparison at once, which asks neither for files nor for what the code writes."""
        ...

    @property
    def parts(self) -> Sequence[NamedText]:
        """What of the user's it names, by name: the code of a function, or a class."""
        ...


class Behind:
    """What stands behind a thunk, as it was found."""

    __slots__ = ("compared", "parts", "sources")

    def __init__(self, sources: Sources = NO_SOURCES, parts: Sequence[NamedText] = ()) -> None:
        self.sources = self.compared = sources
        self.parts = parts


UNKNOWN: Final = Digests("", dict)
_NOTHING: Final = Behind()


class Seen(NamedTuple):
    """What was found behind a thunk.

    Attributes:
        fingerprint: The code fingerprint.
        first: What stands for the thunk's own code.
        found: All else.
    """

    fingerprint: Fingerprint
    first: Part
    found: Found = _NOTHING

    @property
    def code(self) -> Mapping[str, str]:
        """Digests by name: "" is the thunk's own code, the others are what it names, by qualified name.

        Of a lambda that does nothing but call a function of the user's, the digest of that function follows its own. A
        part's digest starts with the Python version it was made by. Parts of one name, such as a function and its
        decorator, share one digest. As long as nothing changed, the answer is the very same object.
        """
        return self.fingerprint.texts

    @property
    def sources(self) -> Sources:
        """Where its inputs are found, beside its arguments."""
        return self.found.sources

    @property
    def parts(self) -> Sequence[NamedText]:
        """What of the user's it names, by name: the code of a function, or a class."""
        return self.found.parts

    def settled(self) -> Seen:
        """The same once all is read: what happens from now on changes nothing in it."""
        _ = self.found.sources
        return self
