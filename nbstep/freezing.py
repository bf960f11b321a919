"""Frozen thunks: copies that see what they name as it was when the step was asked, however much later they run (K10)."""

from __future__ import annotations

import asyncio
import functools
import threading
import types
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, cast

from nbstep.operations import names_in
from nbstep.thunks import Thunk

_MISSING: Final = object()
_REACH_FOR_GLOBALS: Final = frozenset({"globals", "exec"})

_frozen: weakref.WeakSet[types.FunctionType] = weakref.WeakSet()
# Of those that had to keep the live globals: what the names they only read meant.
_bound: weakref.WeakKeyDictionary[types.FunctionType, Mapping[str, Any]] = weakref.WeakKeyDictionary()


class _FrozenGlobals(dict[str, Any]):
    """A namespace as it was; a name that came later is looked up live.

    A copy of all of it, not only of what the thunk's code names: `eval` and pandas' `query` read the names of a frame.
    """

    def __init__(self, live: dict[str, Any]) -> None:
        super().__init__(live)
        self.live = live

    def __missing__(self, name: str) -> Any:
        return self.live[name]


def freeze(thunk: Thunk) -> Thunk:
    """A copy of a thunk whose names mean what they mean now; what their values *contain* is not copied.

    Closure cells and the namespace of globals are copied. A function that writes globals must write the live ones: it keeps
    them, and `as_it_was` puts the names that it only reads back for the time it runs.
    """
    if isinstance(thunk, functools.partial):
        return functools.partial(freeze(thunk.func), *thunk.args, **thunk.keywords)
    if isinstance(thunk, types.MethodType):
        return types.MethodType(freeze(thunk.__func__), thunk.__self__)
    if not isinstance(thunk, types.FunctionType) or thunk in _frozen:
        return thunk
    code, live = thunk.__code__, thunk.__globals__
    told = names_in(code)
    names, written = told.globals, told.written_globals
    keeps_live = bool(written) or not _REACH_FOR_GLOBALS.isdisjoint(names)
    scope = live if keeps_live else _FrozenGlobals(live)
    frozen = types.FunctionType(code, scope, thunk.__name__, thunk.__defaults__, _copied_cells(thunk))
    frozen.__kwdefaults__ = cast("dict[str, Any]", thunk.__kwdefaults__)
    frozen.__qualname__ = thunk.__qualname__
    frozen.__module__ = thunk.__module__
    frozen.__dict__.update(thunk.__dict__)
    _frozen.add(frozen)
    if keeps_live:
        _bound[frozen] = {name: live[name] for name in names if name in live and name not in written}
    return frozen


def is_bound(thunk: Thunk) -> bool:
    """Whether some names of a function mean what they meant when it was frozen only while `as_it_was` says so."""
    return type(thunk) is types.FunctionType and thunk in _bound


class as_it_was:  # noqa: N801 - used as a context manager, like those of contextlib
    """While the block runs, the globals that a frozen thunk reads are what they were; for one stretch between two awaits.

    Only where whoever changes them meanwhile cannot run: on a thread with a running loop, which the stretch holds up, or on
    the main one. What changed in the block stays changed.
    """

    __slots__ = ("_bound", "_changed", "_live")

    def __init__(self, thunk: Thunk) -> None:
        while type(thunk) is not types.FunctionType and isinstance(thunk, functools.partial | types.MethodType):
            thunk = thunk.func if isinstance(thunk, functools.partial) else thunk.__func__
        self._bound: Mapping[str, Any] = {}
        self._changed: list[tuple[str, Any]] = []
        self._live: dict[str, Any] = {}
        if type(thunk) is types.FunctionType and thunk in _bound and _holds_up_its_caller():
            self._bound, self._live = _bound[thunk], thunk.__globals__

    def __enter__(self) -> None:
        """Puts the names back that mean something else by now."""
        for name, then in self._bound.items():
            now = self._live.get(name, _MISSING)
            if now is not then:
                self._changed.append((name, now))
                self._live[name] = then

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Gives them their newer meaning again."""
        for name, newer in self._changed:
            if self._live.get(name, _MISSING) is not self._bound[name]:
                continue  # it was given another one in the block
            if newer is _MISSING:
                del self._live[name]
            else:
                self._live[name] = newer
        self._changed.clear()


def _holds_up_its_caller() -> bool:
    if threading.current_thread() is threading.main_thread():
        return True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _copied_cells(function: types.FunctionType) -> tuple[types.CellType, ...] | None:
    if function.__closure__ is None:
        return None
    writes = set(function.__code__.co_freevars) & names_in(function.__code__).written_cells
    copies: list[types.CellType] = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__, strict=True):
        if name in writes:
            copies.append(cell)  # `nonlocal`: what it writes must reach its owner
            continue
        try:
            copies.append(types.CellType(cell.cell_contents))
        except ValueError:
            copies.append(cell)
    return tuple(copies)
