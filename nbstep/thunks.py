"""Thunks: which callables are accepted, which give an awaitable, and how one is frozen to be called later."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dis
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from nbstep.foreign import interrupts
from nbstep.operations import ATTRIBUTES, NAMES, operations

Thunk: TypeAlias = Callable[..., Any]

# Set on a function of ours that gives something to await without being an `async def`.
GIVES_AWAITABLE: Final = "_nbstep_gives_awaitable"

_PLAIN_CALLABLES: Final = (
    types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType, types.WrapperDescriptorType,
    types.MethodDescriptorType, types.ClassMethodDescriptorType, functools.partial, type,
)  # fmt: skip


def check_thunk(thunk: object, key: str | None, args: tuple[Any, ...] = ()) -> Thunk:
    """The thunk itself, if it can be called with `args` (K5). A coroutine is closed first.

    Raises:
        TypeError: It is a value, a coroutine, a Task or a Future: the work was already done or started. Or the arguments
            are in the wrong order.
    """
    if callable(thunk) and not isinstance(thunk, asyncio.Future):
        if args and key is None and isinstance(thunk, types.FunctionType) and _takes_nothing(thunk.__code__):
            raise TypeError(
                f"step(fn, *args) hands its arguments to fn, and {thunk.__name__} takes none; "
                f"a key is named: step(…, key={args[-1]!r:.60})"
            )
        return thunk
    if isinstance(thunk, str) and args and callable(args[0]):
        name = getattr(args[0], "__name__", "fn")
        raise TypeError(f"step takes the function first, and names the key: step({name}, key={thunk!r:.60})")
    where = f", key={key!r}" if key is not None else ""
    write = f"step(lambda: …{where})"
    if inspect.iscoroutine(thunk):
        name = thunk.__qualname__.rpartition(".")[2]
        thunk.close()
        raise TypeError(
            f"step got a coroutine, already made; pass the call unmade: await step(lambda: {name}(…){where})"
        )
    if isinstance(thunk, (asyncio.Future, concurrent.futures.Future)):
        kind = "Task" if isinstance(thunk, asyncio.Task) else "Future"
        awaited = "await " if isinstance(thunk, asyncio.Future) else ""
        raise TypeError(
            f"step got a {kind} that is already under way; pass a function that starts it: {awaited}{write}"
        )
    if inspect.isawaitable(thunk):
        raise TypeError(f"step got an awaitable, already made; pass the call unmade: await {write}")
    raise TypeError(
        f"step got a value ({type(thunk).__name__}), so the work was already done; pass the call unmade: {write}"
    )


def _takes_nothing(code: types.CodeType) -> bool:
    return code.co_argcount == 0 and not code.co_flags & inspect.CO_VARARGS


def called_object(thunk: Thunk) -> bool:
    """Whether a thunk is likely the *result* of a call that was meant as the work: `step(train(), …)` (K5)."""
    if isinstance(thunk, _PLAIN_CALLABLES):
        return False
    try:
        # what wraps or stands for a function (lru_cache, a ufunc) carries a name; a model or a client does not
        return not hasattr(thunk, "__name__")
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - the user's own __getattr__
        return True


def surely_awaitable(thunk: Thunk) -> bool:
    """Whether calling the thunk gives an awaitable, read from code alone (K4); False means "not known".

    True for `async def`, for a partial of one, and for a lambda whose one call resolves to one.
    """
    if type(thunk) is types.FunctionType and thunk.__name__ != "<lambda>" and not thunk.__dict__:  # most
        return bool(thunk.__code__.co_flags & inspect.CO_COROUTINE)
    if isinstance(thunk, functools.partial):
        return surely_awaitable(thunk.func)
    try:
        if _is_coroutine_function(thunk):
            return True
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - it looks for attributes, and the user's own __getattr__ may raise anything
        return False
    if isinstance(thunk, types.FunctionType) and GIVES_AWAITABLE in thunk.__dict__:
        return True
    if not isinstance(thunk, types.FunctionType):
        return inspect.iscoroutinefunction(inspect.getattr_static(type(thunk), "__call__", None))
    path = _called_path(thunk.__code__) if thunk.__name__ == "<lambda>" else ()
    target = _resolve(thunk, path) if path else None
    return callable(target) and not _is_plain_lambda(target) and surely_awaitable(target)


def _is_coroutine_function(thunk: object) -> bool:
    if (
        type(thunk) is types.FunctionType and not thunk.__dict__
    ):  # nobody marked it: ten times faster than to ask inspect
        return bool(thunk.__code__.co_flags & inspect.CO_COROUTINE)
    return inspect.iscoroutinefunction(thunk)


def _is_plain_lambda(target: object) -> bool:
    """A lambda that a lambda calls: not followed, two of them may call each other."""
    return isinstance(target, types.FunctionType) and target.__name__ == "<lambda>"


@functools.lru_cache(maxsize=32)
def instructions(code: types.CodeType) -> tuple[dis.Instruction, ...]:
    """The instructions of code; kept for a moment, as a step's are read several times over."""
    return tuple(dis.get_instructions(code))


@functools.lru_cache(maxsize=4096)
def _called_path(code: types.CodeType) -> tuple[str, ...]:
    """The dotted name that a lambda's only call calls, ("client", "get"); empty where it does not just return such a call."""
    path: list[str] = []
    calls, loading, last = 0, True, ""
    for name, value in operations(code):
        if name in _BEFORE_THE_NAME:
            continue
        if name == "RETURN_VALUE" and not last.startswith("CALL"):
            return ()
        last = name
        if name.startswith("CALL") and not name.startswith("CALL_INTRINSIC"):
            calls += 1
        if not path:
            if name in NAMES:
                path.append(value)
            else:
                return ()
        elif loading and name in ATTRIBUTES:
            path.append(value)
        else:
            loading = False
    return tuple(path) if calls == 1 else ()


_BEFORE_THE_NAME: Final = frozenset({"RESUME", "COPY_FREE_VARS", "PUSH_NULL", "PRECALL", "NOP", "CACHE", "MAKE_CELL"})


def _resolve(function: types.FunctionType, path: tuple[str, ...]) -> object:
    """What a dotted name means inside a function, without running any code of the user's; None where that cannot be known."""
    target: Any = named_value(function, path[0])
    for attribute in path[1:]:
        found = inspect.getattr_static(target, attribute, None)
        target = found.__func__ if isinstance(found, staticmethod | classmethod) else found
    return target


def named_value(function: types.FunctionType, name: str) -> Any:
    """What a name of another scope, that a function reads, means there; None where it is not bound."""
    code = function.__code__
    if name in code.co_freevars:
        try:
            return (function.__closure__ or ())[code.co_freevars.index(name)].cell_contents
        except ValueError:  # an empty cell: the name is not bound yet
            return None
    return None if name in code.co_cellvars else function.__globals__.get(name)
