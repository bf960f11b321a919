"""A look at a step is the same however much of it was taken from an earlier one (K8)."""

from __future__ import annotations

import datetime
import functools
import itertools
import json
import re
import threading
import types
from typing import Any

import numpy as np

from nbstep.collisions.look import changed_since, look_at


def fetch(uid: int) -> int:
    return uid


class _Proxy:
    """An object that says it is of another class, as those of wrapt do."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return type(self.wrapped)


def _wrapping(name: str) -> Any:
    wrapping: Any = threading.local()
    wrapping.__wrapped__, wrapping.__qualname__ = len, name
    return wrapping


def test_k8_a_look_is_the_same_whatever_was_looked_at_before() -> None:
    def other() -> None: ...

    values: list[Any] = [
        None, 1, 1 << 512, -(1 << 512), (1 << 512) - 1, True, 1.5, float("nan"), "a", "a" * 300, b"b", [], [1], {}, (), (1,),
        fetch, other, lambda: 1, json, re, types.ModuleType("json"), len, str, threading.local(), threading.local(),
        _wrapping("a"), _wrapping("b"), fetch.__get__(1), other.__get__(1), [].append, functools.partial(fetch, 1),
        functools.partial(other), datetime.date(2020, 1, 1), np.float64(1.5), np.datetime64("NaT"), np.zeros(2), _Proxy({}),
        _Proxy(datetime.date(2020, 1, 1)), ("other", list), ("unbound",),
    ]  # fmt: skip
    missing = object()
    for before, now in itertools.product([*values, missing], repeat=2):
        scope: dict[str, Any] = {} if before is missing else {"X": before}
        thunk = eval("lambda n: (X, n)", scope)
        first = look_at(thunk, (before,))
        scope.pop("X", None)
        scope |= {} if now is missing else {"X": now}
        after = look_at(thunk, (now,))
        assert repr(look_at(thunk, (now,), first)) == repr(after)
        changed = [
            name for name, one, two in zip(after.labels, first.sights, after.sights, strict=True)
            if one is not two and one != two
        ]  # fmt: skip
        assert changed_since(first, thunk, (now,)) == changed


def test_k8_a_look_sees_what_a_function_or_a_module_became_in_place() -> None:
    def work() -> None: ...

    def other() -> None: ...

    module: Any = types.ModuleType("a")
    wrapping: Any = threading.local()
    thunk = eval("lambda: (work, module, wrapping)", scope := {"work": work, "module": module, "wrapping": wrapping})
    first = look_at(thunk, ())
    for change in (
        lambda: setattr(work, "__code__", other.__code__),
        lambda: setattr(work, "__qualname__", "neat"),
        lambda: setattr(module, "__name__", "b"),
        lambda: wrapping.__dict__.update(__wrapped__=other, __qualname__="other"),
    ):
        change()
        assert look_at(thunk, (), first) == look_at(thunk, ()) != first
        first = look_at(thunk, ())
    assert scope["work"] is work


def test_k8_an_object_that_does_not_tell_its_class_is_looked_at_like_any_other() -> None:
    class Silent:
        @property
        def __class__(self) -> Any:
            raise AttributeError

    thunk = eval("lambda n: (silent, n)", {"silent": Silent()})
    first = look_at(thunk, (1,))
    assert look_at(thunk, (2,), first) == look_at(thunk, (2,))
    assert changed_since(first, thunk, (1,)) == []
