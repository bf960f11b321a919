"""JSON put together by hand is what a JSON encoder writes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nbstep import jsontext

TEXTS = st.text() | st.sampled_from(["\ud800", "\u2028", 'a "b" \\ \x00', "é"])


def _encoded(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


@given(TEXTS, st.lists(TEXTS), st.dictionaries(TEXTS, TEXTS))
def test_texts(text: str, texts: list[str], named: dict[str, str]) -> None:
    assert jsontext.quoted(text) == jsontext.or_null(text) == _encoded(text)
    assert jsontext.array(texts) == _encoded(texts)
    assert jsontext.mapping(named) == _encoded(named)
    assert (jsontext.or_null(None), jsontext.truth(True), jsontext.truth(False)) == ("null", "true", "false")


@given(st.none() | st.integers() | st.floats())
def test_numbers(value: float | None) -> None:
    assert jsontext.number(value) == _encoded(value)


def test_numbers_of_other_classes_are_written_as_numbers() -> None:
    assert (jsontext.number(np.float64(1.5)), jsontext.number(True)) == ("1.5", "true")
