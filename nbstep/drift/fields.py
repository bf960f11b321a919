"""The fields that a class declares with a default, where that stands neither in its body nor in a method of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

DECLARES: Final = frozenset({"_field_defaults", "__pydantic_fields__", "__attrs_attrs__"})  # what tells of them


def declared_fields(cls: type) -> list[tuple[str, Any, Any]]:
    """Of a named tuple, an attrs class or a pydantic model: each field's name, its default, and what makes that default."""
    body = vars(cls)
    defaults = body.get("_field_defaults")
    if isinstance(defaults, dict):
        return [(name, value, None) for name, value in sorted(cast("dict[str, Any]", defaults).items())]
    fields = body.get("__pydantic_fields__")
    if isinstance(fields, Mapping):
        found = cast("Mapping[str, Any]", fields)
        return [(name, getattr(f, "default", None), getattr(f, "default_factory", None)) for name, f in found.items()]
    declared: list[tuple[str, Any, Any]] = []
    for field in cast("Any", body.get("__attrs_attrs__") or ()):
        default = getattr(field, "default", None)
        declared.append((str(getattr(field, "name", "")), default, getattr(default, "factory", None)))
    return declared
