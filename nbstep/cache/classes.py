"""The notebook's own classes: found by their names, and told apart by what the user wrote in them.

What the use of a class changes (a counter, a registry, a client made when first needed) is its state. It does not count for
an instance, whose class should be the notebook's own as long as nobody edited it; it does where the class itself is the value.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import pickle
import re
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from nbstep.foreign import interrupts
from nbstep.thunks import instructions

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
_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes, range, type(...))
# Nobody can change these, and their `repr` tells all of them.
_TOLD_BY_REPR: Final = frozenset({"datetime", "decimal", "fractions", "pathlib", "uuid", "zoneinfo"})


def live_class(qualname: str) -> type | None:
    """The class of this name that `__main__` holds now."""
    found: Any = sys.modules.get("__main__")
    for name in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(name)
        if found is None:
            return None
    return found if isinstance(found, type) and found.__module__ == "__main__" else None


def class_fingerprint(cls: type, *, state: bool = False) -> str:
    """A digest of what the user wrote in a class: bases, attributes, code; the same in every process.

    Args:
        cls: The class.
        state: Also of what its use may have changed.
    """
    text = repr(_Reader(state).class_text(cls, 0))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Makes texts of classes and their attributes; None of what is state, where that does not count."""

    state: bool

    def class_text(self, cls: type, depth: int) -> Any:
        if depth > _DEPTH_AT_MOST:
            return "…"
        bases = [f"{base.__module__}.{base.__qualname__}" for base in cls.__bases__]
        parts: list[Any] = [cls.__qualname__, bases, type(cls).__qualname__]
        attributes = dict(vars(cls))
        if isinstance(cls, enum.EnumMeta):
            members = cast("dict[str, enum.Enum]", dict(cls.__members__))
            parts.append([(name, _ALL.text(member.value, depth + 1)) for name, member in members.items()])
            attributes = {name: value for name, value in attributes.items() if name not in members}
        others = (other for other in (*cls.__bases__, type(cls)) if other.__module__ == "__main__")
        parts += [self.class_text(other, depth + 1) for other in others]
        fields = attributes.get("__pydantic_fields__")
        if isinstance(fields, dict):
            named = cast("dict[str, Any]", fields).items()
            parts.append([(name, _ALL.texts((field.default, field.default_factory), depth)) for name, field in named])
        left_out = _NOT_TEXT if self.state else _NOT_TEXT.union(*map(_set_by, attributes.values()))
        # What pydantic makes of the fields holds addresses, and grows as the class is used.
        names = sorted(name for name in attributes if name not in left_out and not name.startswith("__pydantic_"))
        if not attributes.get("__annotations__", True):  # Python adds them, empty, when somebody looks for them
            names.remove("__annotations__")
        texts = {name: self._attribute(cls, name, attributes[name], depth + 1) for name in names}
        return [*parts, [(name, text) for name, text in texts.items() if text is not None]]

    def _attribute(self, cls: type, name: str, value: Any, depth: int) -> Any:
        if isinstance(value, type) and value.__qualname__ == f"{cls.__qualname__}.{name}":
            return self.class_text(value, depth)
        return _ALL.text(value, depth) if name == "__annotations__" else self.text(value, depth)

    def texts(self, values: Iterable[Any], depth: int) -> list[Any]:
        return [self.text(value, depth + 1) for value in values]

    def text(self, value: Any, depth: int) -> Any:
        kind: Any = type(value)
        if kind in _PLAIN:
            return f"{kind.__name__}:{value!r}"
        if depth > _DEPTH_AT_MOST:
            return _digest(value) if self.state else "…"
        if isinstance(value, type):
            return f"class:{value.__module__}.{value.__qualname__}"
        code = self._code(value, depth)
        if code is not None:
            return code
        if kind.__module__ in _TOLD_BY_REPR:
            return f"{kind.__qualname__}:{value!r}"
        if kind is re.Pattern:
            return ["pattern", value.pattern if isinstance(value.pattern, str) else repr(value.pattern), value.flags]
        if isinstance(value, enum.Enum):
            return f"{kind.__module__}.{kind.__qualname__}.{value.name}"
        if isinstance(value, tuple | frozenset):
            return self._fixed(cast("tuple[Any, ...] | frozenset[Any]", value), depth)
        if kind.__module__ == "__main__" and hasattr(kind, "__get__"):
            return self.class_text(kind, depth + 1)
        return self._changing(value, depth) if self.state else None

    def _fixed(self, value: tuple[Any, ...] | frozenset[Any], depth: int) -> Any:
        """A text of what cannot change, unless something in it can."""
        texts = self.texts(value, depth)
        if None in texts:
            return None
        return ["tuple", *texts] if isinstance(value, tuple) else ["set", *sorted(map(repr, texts))]

    def _changing(self, value: Any, depth: int) -> Any:
        if isinstance(value, list):
            return ["list", *self.texts(cast("list[Any]", value), depth)]
        if isinstance(value, set):
            return ["set", *sorted(map(repr, self.texts(cast("set[Any]", value), depth)))]
        if isinstance(value, dict):
            items = cast("dict[Any, Any]", value).items()
            return ["dict", *sorted(repr(self.texts(item, depth)) for item in items)]
        return _digest(value)

    def _code(self, value: Any, depth: int) -> Any:
        """A text of what does something; None of any other value."""
        match value:
            case types.FunctionType():
                return self._function(value, depth)
            case types.CodeType():
                return self._code_text(value, depth + 1)
            case functools.cached_property():
                return ["cached", self.text(cast("Any", value).func, depth)]
            case functools.partial() | functools.partialmethod():
                done: Any = value
                return ["partial", self.text(done.func, depth), *_ALL.texts((done.args, done.keywords), depth)]
            case staticmethod() | classmethod():
                return [type(value).__name__, self.text(cast("Any", value).__func__, depth)]
            case property():
                return ["property", *self.texts((value.fget, value.fset, value.fdel), depth)]
            case types.BuiltinMethodType() if type(value.__self__) in _PLAIN:
                return ["builtin", value.__qualname__, repr(value.__self__)]
            case _Cached():
                return ["cached", self.text(cast("Any", value).__wrapped__, depth)]
            case _:
                return None

    def _function(self, function: types.FunctionType, depth: int) -> Any:
        code = function.__code__
        cells = dict(zip(code.co_freevars, map(content_of_cell, function.__closure__ or ()), strict=True))
        closed = [value for name, value in cells.items() if self.state or name not in _rebound(code)]
        defaults = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
        inside = [text for text in self.texts(closed, depth) if text is not None]
        return ["function", self._code_text(code, depth + 1), self.texts(defaults, depth), inside]

    def _code_text(self, code: types.CodeType, depth: int) -> Any:
        constants = code.co_consts
        if constants and _begins_with_docstring(code):
            constants = constants[1:]
        return [
            code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, code.co_argcount,
            code.co_kwonlyargcount, self.texts(constants, depth),
        ]  # fmt: skip


_ALL: Final = _Reader(state=True)


def _digest(value: Any) -> str:
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    try:
        return f"{name}:{hashlib.sha256(pickle.dumps(value, protocol=5)).hexdigest()}"
    except interrupts():
        raise
    except BaseException:  # noqa: BLE001 - whatever a foreign object raises when it is pickled
        return name


def _set_by(value: Any) -> frozenset[str]:
    """The attributes that a method sets of anything but its own `self`: a counter of its class, say."""
    match value:
        case types.FunctionType():
            first = value.__code__.co_varnames[: value.__code__.co_argcount][:1]
            return frozenset(_stored(value.__code__, first))
        case staticmethod() | classmethod():
            inner = cast("Any", value).__func__
            return frozenset(_stored(inner.__code__, ())) if type(inner) is types.FunctionType else frozenset()
        case property():
            return frozenset().union(*map(_set_by, (value.fget, value.fset, value.fdel)))
        case functools.cached_property():
            return _set_by(cast("Any", value).func)
        case _:
            return _set_by(value.__wrapped__) if isinstance(value, _Cached) else frozenset()


@functools.lru_cache(maxsize=2048)
def _stored(code: types.CodeType, of_itself: tuple[str, ...]) -> tuple[str, ...]:
    """The attributes that code and the code in it set, other than of the variable `of_itself`."""
    names: list[str] = []
    before: Any = None
    for instruction in instructions(code):
        if instruction.opname == "STORE_ATTR":
            owner = before[-1:] if isinstance(before, tuple) else (before,)  # of two that Python loads at once the last
            names += [instruction.argval] if owner != of_itself else []
        if instruction.opname != "CACHE":
            before = instruction.argval if instruction.opname.startswith("LOAD_FAST") else None
    for constant in code.co_consts:
        names += _stored(constant, ()) if isinstance(constant, types.CodeType) else ()
    return tuple(names)


@functools.lru_cache(maxsize=2048)
def _rebound(code: types.CodeType) -> frozenset[str]:
    """The closure's variables that code sets: `nonlocal calls`."""
    return frozenset(i.argval for i in instructions(code) if i.opname == "STORE_DEREF" and i.argval in code.co_freevars)


def content_of_cell(cell: types.CellType) -> Any:
    """What a closure's cell holds; None while it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _begins_with_docstring(code: types.CodeType) -> bool:
    """Whether the first constant is the docstring: newer Pythons say so, older ones put None there where there is none."""
    if sys.version_info >= (3, 14):
        return bool(code.co_flags & 0x4000000)
    return not code.co_name.startswith("<")
