"""Frozen records made quickly are what `dataclass(frozen=True, slots=True)` makes."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from typing import Any

import pytest

from nbstep.frozen import record


@record
class Quick:
    """A record."""

    a: int
    b: str = "b"
    c: Mapping[str, int] = field(default_factory=dict[str, int])
    d: tuple[int, ...] = field(default=(), compare=False)

    def twice(self) -> int:
        return self.a * 2


@dataclass(frozen=True, slots=True)
class Plain:
    """A record."""

    a: int
    b: str = "b"
    c: Mapping[str, int] = field(default_factory=dict[str, int])
    d: tuple[int, ...] = field(default=(), compare=False)


def test_it_is_of_its_class_with_the_same_text_signature_and_fields() -> None:
    one = Quick(1, b="x")
    assert type(one) is Quick
    assert repr(one) == repr(Plain(1, b="x")).replace("Plain", "Quick")
    assert inspect.signature(Quick) == inspect.signature(Plain)
    assert [f.name for f in fields(Quick)] == [f.name for f in fields(Plain)]
    assert (one.twice(), Quick.__match_args__, Quick.__slots__) == (2, Plain.__match_args__, Plain.__slots__)


def test_its_fields_cannot_be_set_nor_can_others() -> None:
    one: Any = Quick(1)
    for name in ("a", "other", "__class__"):
        with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
            setattr(one, name, 2)
    with pytest.raises(FrozenInstanceError):
        del one.a
    assert (one.a, hasattr(one, "__dict__")) == (1, False)


def test_it_compares_hashes_copies_and_pickles() -> None:
    one = Quick(1, c={"x": 1}, d=(1,))
    assert one == Quick(1, c={"x": 1}, d=(2,))
    assert one != Quick(2, c={"x": 1})
    assert hash(Quick(1, c=())) == hash(Quick(1, c=()))  # pyright: ignore[reportArgumentType]
    assert replace(one, a=5) == Quick(5, c={"x": 1})
    assert [type(each) for each in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one)))] == [Quick] * 3
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
    assert Quick(1).c is not Quick(1).c


def test_what_does_not_fit_raises_as_ever() -> None:
    for wrong in ((), (1, "b", {}, (), 5)):
        with pytest.raises(TypeError):
            Quick(*wrong)
    with pytest.raises(TypeError):
        Quick(1, other=2)  # pyright: ignore[reportCallIssue]
