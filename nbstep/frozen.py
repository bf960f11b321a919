"""Frozen records that are made in half the time, for those of which a list makes hundred thousands, and each step two."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """As `dataclass(frozen=True, slots=True)`.

    A frozen dataclass is made by one call of `object.__setattr__` for each field. Here a new object is of a twin class, of
    the same slots and not frozen, while its fields are set.

    >>> @record
    ... class Point:
    ...     x: int
    ...     y: int = 0
    >>> Point(1)
    Point(x=1, y=0)
    >>> Point(1).x = 2
    Traceback (most recent call last):
    dataclasses.FrozenInstanceError: cannot assign to field 'x'
    """
    body = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    twin = dataclass(slots=True, eq=False, repr=False)(type(cls.__name__, cls.__bases__, body))
    frozen: Any = dataclass(frozen=True, slots=True)(cls)
    fill, become = twin.__init__, object.__setattr__

    @functools.wraps(frozen.__init__)
    def __init__(self: Any, *args: Any, **named: Any) -> None:  # noqa: N807 - it is one
        become(self, "__class__", twin)
        fill(self, *args, **named)
        self.__class__ = frozen

    frozen.__init__ = __init__
    return frozen
