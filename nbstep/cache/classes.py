"""The notebook's own classes: found by their names, and told apart by what the user wrote in them."""

from __future__ import annotations

import enum
import functools
import hashlib
import sys
import types
from typing import Any, Final, cast

# What Python, copyreg, abc and dataclasses add to a class; none of it is the user's text, some of it comes and goes.
_NOT_TEXT: Final = frozenset(
    {
        "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__class_getitem__",
        "__classdictcell__", "__dataclass_fields__", "__dataclass_params__", "__dict__", "__doc__", "__firstlineno__",
        "__module__", "__orig_bases__", "__parameters__", "__qualname__", "__slotnames__", "__static_attributes__",
        "__weakref__", "_abc_impl", "_member_map_", "_member_names_", "_value2member_map_", "_unhashable_values_",
        "_hashable_values_", "_unhashable_values_map_", "_new_member_", "_generate_next_value_", "_use_args_", "__new__member__",
    }
)  # fmt: skip
_DEPTH_AT_MOST: Final = 6
_Cached: Final = type(functools.lru_cache(lambda: None))


def live_class(qualname: str) -> type | None:
    """The class of this name that `__main__` holds now."""
    found: Any = sys.modules.get("__main__")
    for name in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(name)
        if found is None:
            return None
    return found if isinstance(found, type) and found.__module__ == "__main__" else None


def class_fingerprint(cls: type) -> str:
    """A digest of what the user wrote in a class: bases, attributes, code; the same in every process."""
    return hashlib.sha256(repr(_class_text(cls, 0)).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _class_text(cls: type, depth: int) -> Any:
    bases = [f"{base.__module__}.{base.__qualname__}" for base in cls.__bases__]
    attributes = dict(vars(cls))
    parts: list[Any] = [cls.__qualname__, bases, type(cls).__qualname__]
    if isinstance(cls, enum.EnumMeta):
        members = cast("dict[str, enum.Enum]", dict(cls.__members__))
        parts.append([(name, _text(member.value, depth + 1)) for name, member in members.items()])
        attributes = {name: value for name, value in attributes.items() if name not in members}
    for base in cls.__bases__:
        if base.__module__ == "__main__" and depth < _DEPTH_AT_MOST:
            parts.append(_class_text(base, depth + 1))
    fields = attributes.get("__pydantic_fields__")
    if isinstance(fields, dict):
        parts.append([(name, *_field_text(field, depth + 1)) for name, field in cast("dict[str, Any]", fields).items()])
    # What pydantic makes of the fields holds addresses, and grows as the class is used.
    names = sorted(name for name in attributes if name not in _NOT_TEXT and not name.startswith("__pydantic_"))
    parts.append([(name, _text(attributes[name], depth + 1)) for name in names])
    return parts


def _field_text(field: Any, depth: int) -> tuple[Any, Any]:
    return _text(field.default, depth), _text(field.default_factory, depth)


def _text(value: Any, depth: int) -> Any:
    """A stable text for an attribute; what has none counts by its type."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes) or value is Ellipsis:
        return f"{type(value).__name__}:{value!r}"
    if depth > _DEPTH_AT_MOST:
        return "…"
    if isinstance(value, types.FunctionType):
        wrapped = [cell for cell in map(_content, value.__closure__ or ()) if isinstance(cell, types.FunctionType)]
        defaults = (value.__defaults__, value.__kwdefaults__)
        return [
            "function",
            _code_text(value.__code__, depth + 1),
            _text(defaults, depth + 1),
            _text(wrapped, depth + 1),
        ]
    if isinstance(value, functools.cached_property):
        return ["cached", _text(value.func, depth)]
    if isinstance(value, _Cached):
        return ["cached", _text(value.__wrapped__, depth)]
    if isinstance(value, staticmethod | classmethod):
        return [type(value).__name__, _text(cast("Any", value).__func__, depth)]
    if isinstance(value, property):
        return ["property", *(_text(part, depth) for part in (value.fget, value.fset, value.fdel))]
    if isinstance(value, types.CodeType):
        return _code_text(value, depth + 1)
    if isinstance(value, tuple | list):
        return [type(value).__name__, *(_text(item, depth + 1) for item in cast("list[Any]", value)[:100])]
    if isinstance(value, set | frozenset):
        return ["set", *sorted(repr(_text(item, depth + 1)) for item in cast("set[Any]", value))]
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return ["dict", *sorted(repr((_text(key, depth + 1), _text(item, depth + 1))) for key, item in items)]
    if isinstance(value, type):
        return f"class:{value.__module__}.{value.__qualname__}"
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None  # still empty


def _code_text(code: types.CodeType, depth: int) -> Any:
    constants = code.co_consts
    if constants and _begins_with_docstring(code):
        constants = constants[1:]
    return [
        code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_kwonlyargcount,
        [_text(constant, depth + 1) for constant in constants],
    ]  # fmt: skip


def _begins_with_docstring(code: types.CodeType) -> bool:
    """Whether the first constant is the docstring: newer Pythons say so, older ones put None there where there is none."""
    if sys.version_info >= (3, 14):
        return bool(code.co_flags & 0x4000000)
    return not code.co_name.startswith("<")
