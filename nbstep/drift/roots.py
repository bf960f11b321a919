"""The very objects that a function's own names mean: as long as they are these, most that was read of them still holds."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from nbstep.drift.sources import UNBOUND
from nbstep.operations import names_in


class Roots(NamedTuple):
    """What the names in one function's code mean. It holds on to all of that.

    Attributes:
        scope: Its globals.
        names: The globals and attributes of modules that it names, and what says whose it is: what gives it, the name, what it is,
            and its type.
        unbound: The names that are no globals.
        cells: Its closure cells, with what is in each, and its type.
        reads: What was read of some objects: how, of what, and what that was.

    >>> def double(n: int) -> int:
    ...     return factor * n
    >>> factor = 2
    >>> roots = roots_of(double)
    >>> roots.are_same(), globals().update(factor=3), roots.are_same()
    (True, None, False)
    """

    scope: dict[str, Any]
    names: Sequence[tuple[Callable[..., Any], str, Any, type]]
    unbound: Sequence[str]
    cells: Sequence[tuple[types.CellType, Any, type]]
    reads: Sequence[tuple[Callable[[Any], Any], Any, Any]]

    def are_same(self) -> bool:
        """Whether all names still mean these objects, and these are still of their types."""
        for get, name, value, kind in self.names:
            if get(name, UNBOUND) is not value or type(value) is not kind:
                return False
        try:
            for cell, value, kind in self.cells:
                if cell.cell_contents is not value or type(value) is not kind:
                    return False
        except ValueError:  # one is empty now
            return False
        for how, value, found in self.reads:
            if how(value) is not found:
                return False
        return not self.unbound or self.scope.keys().isdisjoint(self.unbound)

    def kinds(self) -> list[type]:
        """The types of all that is named."""
        return [*[kind for _, _, _, kind in self.names], *[kind for _, _, kind in self.cells]]


def roots_of(
    function: types.FunctionType,
    attributes: Iterable[tuple[types.ModuleType, str]] = (),
    reads: Iterable[tuple[Callable[[Any], Any], Any]] = (),
) -> Roots | None:
    """What they mean now; None where one that should mean something does not.

    Args:
        function: The function.
        attributes: Of which modules it names which attributes.
        reads: How, and of which objects, more is read.
    """
    scope = function.__globals__
    named = "__name__", *names_in(function.__code__).globals
    found = [(scope.get, name) for name in named if name in scope]
    found += [(module.__dict__.get, name) for module, name in attributes]
    names = [(get, name, get(name, UNBOUND)) for get, name in found]
    try:
        cells = [(cell, cell.cell_contents) for cell in function.__closure__ or ()]
    except ValueError:
        return None
    if any(value is UNBOUND for _, _, value in names):
        return None
    return Roots(
        scope,
        [(*one, type(one[2])) for one in names],
        [name for name in named if name not in scope],
        [(cell, value, type(value)) for cell, value in cells],
        [(how, value, how(value)) for how, value in reads],
    )
