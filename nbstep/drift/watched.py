"""What a watch remembers of a function, a namespace and a class."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import NamedTuple

from nbstep.drift.sights import NamedSight, Reference, Sight


class WatchedFunction(NamedTuple):
    """A function, and what its names meant; its reference is None for the thunk: another function of its code will do."""

    function: Reference | None
    code: types.CodeType
    qualname: str
    defaults: tuple[Sight, ...] | None
    named_defaults: tuple[NamedSight, ...] | None
    names: Sequence[NamedSight]
    unbound: Sequence[str]
    cells: tuple[Sight, ...]


class WatchedScope(NamedTuple):
    """What functions of one namespace name; `function` is one of them.

    Attributes:
        function: Gives one of the functions; None for the thunk.
        objects: Names that should mean these very objects.
        kinds: Names that should mean something of these types.
        unbound: Names that should mean nothing.
    """

    function: Reference | None
    objects: tuple[tuple[str, Reference], ...]
    kinds: tuple[tuple[str, type], ...]
    unbound: tuple[str, ...]


class WatchedClass(NamedTuple):
    """A class, and what stood in its body."""

    cls: Reference
    qualname: str
    bases: tuple[type, ...]
    variables: tuple[NamedSight, ...]
