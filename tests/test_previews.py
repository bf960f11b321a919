"""What an entry says of its value: type, shape, a short text; made when kept, and bounded."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbstep.cache.previews import PREVIEW_CHARS, preview_text, shape_text, type_text


class Loud:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    @property
    def shape(self) -> Any:
        raise RuntimeError("no shape")


class Verbose:
    def __repr__(self) -> str:
        return "x" * 5_000_000


@dataclass
class Node:
    name: str
    child: Any = None


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (pd.DataFrame(np.zeros((8120, 14))), "8,120 × 14"),
        (np.zeros((3, 4, 5)), "3 × 4 × 5"),
        (pd.Series([1, 2]), "2"),
        ([1, 2, 3], "3 items"),
        ({"a": 1}, "1 item"),
        ((), "0 items"),
        ("text", "4 characters"),
        (b"x", "1 byte"),
        (np.float64(1), ""),
        (7, ""),
        (None, ""),
        (int, ""),
        (Loud(), ""),
        (iter([1]), ""),
    ],
)
def test_shapes_are_said_as_people_say_them(value: Any, shape: str) -> None:
    assert shape_text(value) == shape


def test_types_are_named_with_the_package_people_import() -> None:
    assert type_text(pd.DataFrame()) == "pandas.DataFrame"
    assert type_text(np.zeros(1)) == "numpy.ndarray"
    assert type_text(OrderedDict()) == "collections.OrderedDict"
    assert type_text(1) == "int"
    assert type_text(Node("x")) == "test_previews.Node"


def test_a_frame_shows_its_head() -> None:
    text = preview_text(pd.DataFrame({"carrier": ["UA", "AA"] * 500, "delay": range(1000)}))
    assert text.splitlines()[0].split() == ["carrier", "delay"]
    assert text.splitlines()[1].split() == ["0", "UA", "0"]
    assert len(text.splitlines()) == 6


@pytest.mark.parametrize(
    "value",
    [
        list(range(10**6)),
        dict.fromkeys(range(10_000), "x" * 1000),
        "x" * 10**7,
        b"\xff" * 10**7,
        Verbose(),
        [[[[[[["deep"] * 100] * 100] * 100] * 100] * 100] * 100] * 100,
        Node("a", Node("b", Node("c", Node("d", Node("e", Node("f")))))),
        np.zeros((10_000, 100)),
        pd.DataFrame(np.zeros((100, 2000))),
        pd.DataFrame({"text": ["x" * 100_000] * 10}),
        defaultdict(list, {n: [n] for n in range(100_000)}),
        10**4000,
    ],
)
def test_a_preview_is_short_and_quick(value: Any) -> None:
    begin = time.perf_counter()
    assert 0 < len(preview_text(value)) <= PREVIEW_CHARS
    assert time.perf_counter() - begin < 5


def test_a_value_that_contains_itself_ends() -> None:
    value: list[Any] = []
    value.append(value)
    node = Node("a")
    node.child = node
    assert len(preview_text(value)) < 100
    assert len(preview_text(node)) < 300


def test_a_repr_that_raises_is_no_preview() -> None:
    assert preview_text(Loud()) == "<no preview: RuntimeError>"
    assert preview_text([Loud()]).startswith(("[<Loud", "<no preview"))
