"""Scalars: the values whose text people may read in an entry; and the names and values that are no inputs at all."""

from __future__ import annotations

import datetime
import decimal
import fractions
import functools
import sys
import types
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any, Final

from nbstep.cache.secrets.suspicion import is_secret_name

_MAX_DIGITS: Final = 60

_ZONES: Final = (type(None), datetime.timezone, zoneinfo.ZoneInfo)
CODE: Final = (
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodWrapperType, types.MethodDescriptorType,
    types.WrapperDescriptorType, types.ClassMethodDescriptorType, type, staticmethod, classmethod, property,
)  # fmt: skip
_BOXING: Final = frozenset({"numpy", "pandas"})
_CODE_AND_MODULES: Final = (*CODE, types.ModuleType)


def is_code(value: object) -> bool:
    """Whether a value is the code fingerprint's business: a function, a class, a module."""
    return issubclass(type(value), _CODE_AND_MODULES)


@functools.lru_cache(maxsize=4096)
def counts_for_nothing(name: str) -> bool:
    """Whether what this name holds is no input: it starts with an underscore, or looks like the name of a secret (D2)."""
    return name.startswith("_") or sounds_secret(name)


sounds_secret: Final = functools.lru_cache(maxsize=4096)(is_secret_name)


def _int_text(value: int) -> str | None:
    return int.__repr__(value) if -(1 << 199) < value < 1 << 199 else None


def _decimal_text(value: decimal.Decimal) -> str | None:
    text = decimal.Decimal.__repr__(value)
    return text if len(text) <= _MAX_DIGITS else None


def _moment_text(value: datetime.datetime | datetime.time) -> str | None:
    zone = value.tzinfo
    if type(zone) is zoneinfo.ZoneInfo:  # two may be as far from UTC on that day
        return f"{value} {zone.key}"
    return str(value) if type(zone) in _ZONES else None


def _fraction_text(value: fractions.Fraction) -> str | None:
    text = f"Fraction({value.numerator}, {value.denominator})" if value.numerator.bit_length() < 200 else ""
    return text if 0 < len(text) <= 2 * _MAX_DIGITS else None


# What people may read: its text, or None where only a digest will do.
SCALARS: Final[Mapping[type, Callable[[Any], str | None]]] = {
    int: _int_text,
    bool: bool.__repr__,
    float: float.__repr__,
    complex: complex.__repr__,
    type(None): repr,
    decimal.Decimal: _decimal_text,
    fractions.Fraction: _fraction_text,
    datetime.date: datetime.date.isoformat,
    datetime.datetime: _moment_text,
    datetime.time: _moment_text,
    datetime.timedelta: str,
}


def scalar_of(value: Any) -> Callable[[Any], str | None] | None:
    """As `SCALARS`, for the scalars of numpy and pandas: Python's own where they have one."""
    kind = type(value)
    if _package(kind) not in _BOXING:
        return None
    plain = unboxed(value)
    if plain is not value:
        scalar = SCALARS.get(type(plain))
        return None if scalar is None else lambda _value: scalar(plain)
    if _package(kind) == "numpy" and issubclass(kind, sys.modules["numpy"].generic) and value.dtype.kind in "mMfc":
        return lambda given: f"{kind.__name__} {given}"
    if _package(kind) == "pandas" and issubclass(kind, datetime.datetime | datetime.timedelta):
        return str
    return None


def unboxed(value: Any) -> Any:
    """A numpy scalar as Python's own where there is one, anything else as it is."""
    kind = type(value)
    if kind in SCALARS or _package(kind) != "numpy" or not issubclass(kind, sys.modules["numpy"].generic):
        return value
    plain = value.item() if value.dtype.kind in "biufcUS" else value
    return value if type(plain) is kind else plain


def _package(kind: type) -> str:
    module: object = kind.__module__
    return module.partition(".")[0] if type(module) is str else ""
