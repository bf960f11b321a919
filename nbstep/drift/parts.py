"""Parts: the functions and classes that stand for a value's code, and those of the user's that they name in turn."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from nbstep.drift.annotations import without_annotations
from nbstep.drift.bytecode import only_call
from nbstep.drift.fields import declared_fields
from nbstep.drift.plain import PLAIN
from nbstep.drift.sights import content_of, is_namespace
from nbstep.drift.watch import Part, Watch
from nbstep.operations import Names, attributes_set, names_in, names_told
from nbstep.thunks import named_value

Read: TypeAlias = Callable[[Callable[[Any], Any], Any], Any]

_INSTALLED: Final = tuple(
    sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_MAX_LAYERS: Final = 20
_BARE: Final = PLAIN | {types.GetSetDescriptorType, types.MemberDescriptorType}  # they wrap nothing
_FOREIGN: Final = _BARE | {types.FunctionType}  # their types are not the user's
_FIXED: Final = (types.MethodType, staticmethod, classmethod)  # what they wrap cannot be set


def _read(how: Callable[[Any], Any], value: Any) -> Any:
    return how(value)


def part_of(value: object, read: Read = _read) -> Part:
    """What stands for a value's code: a function, under partials, methods and foreign decorators; else its class."""
    if isinstance(value, type) or (type(value) is types.FunctionType and is_users(value)):
        return value  # most are
    inner = _unwrapped(value, read)
    return inner if isinstance(inner, (types.FunctionType, type)) else read(type, inner)


def _unwrapped(value: Any, read: Read) -> object:
    for _ in range(_MAX_LAYERS):
        # the user's own decorator too: what it wraps is in its closure
        if isinstance(value, type) or (isinstance(value, types.FunctionType) and is_users(value)):
            break
        bare = type(value).__dictoffset__ == 0  # nothing was or can be set on it
        inner = value.__func__ if isinstance(value, _FIXED) else None if bare else read(_inner, value)
        if inner is None:
            break
        value = inner
    return value


def _inner(value: object) -> object:
    """What a partial, a decorator or a descriptor wraps, one layer of it; None where it wraps nothing."""
    if isinstance(value, functools.partial):
        return value.func
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return own.get("__wrapped__" if callable(value) else "func")


def named_parts(part: Part, watch: Watch) -> list[tuple[str, Part]]:
    """The functions and classes of the user's that a part names, each with the name it is called by there."""
    if isinstance(part, types.FunctionType):
        return _named_by(part, watch)
    found: list[tuple[str, Part]] = []
    for method in methods_in(watch.variables(part), watch.read).values():
        found += _named_by(method, watch)
    found += _in_a_class(part, watch)
    return found + [(base.__qualname__, base) for base in part.__bases__ if is_users(base)]


def _named_by(function: types.FunctionType, watch: Watch) -> list[tuple[str, Part]]:
    found: list[tuple[str, Part]] = []
    for name, value in _named_objects(function, watch):
        if type(value) in PLAIN:
            continue
        part = part_of(value, watch.read) if callable(value) else type(value)
        if is_users(part):
            found.append((name, part))
        if isinstance(value, types.MethodType):  # it may call others of its object's
            bound: object = value.__self__
            owner = bound if isinstance(bound, type) else watch.read(type, bound)
            if is_users(owner):
                found.append((owner.__qualname__, owner))
    return found


def _in_a_class(cls: type, watch: Watch) -> Iterator[tuple[str, Part]]:
    """The user's classes that a class is made with: nested ones, those of its descriptors, its own."""
    for value in (*vars(cls).values(), cls):
        if type(value) in _FOREIGN:
            continue
        found = value if isinstance(value, type) and value is not cls else type(value)
        if is_users(found):
            yield found.__qualname__, found
    for _, _, factory in declared_fields(cls):
        found = part_of(factory, watch.read) if callable(factory) else type(factory)
        if is_users(found):
            yield cls.__qualname__, found


def label_of(name: str, part: Part) -> str:
    """The name people know a part by that is called `name` where it is named."""
    return own_label(part) or name


def own_label(part: Part) -> str:
    """The name it has wherever it is named; empty where it has none of its own."""
    own = part.__qualname__
    if "<" in own:
        own = own.rpartition("<locals>.")[2].removesuffix(".<lambda>")
    return "" if own == "_" or "<" in own else own


def only_called(first: Part) -> Part | None:
    """The user's function that a lambda only calls, with what its names hold: `lambda: f(x)` is the step `f` with `x` (D5)."""
    path = only_call(first.__code__) if isinstance(first, types.FunctionType) and first.__name__ == "<lambda>" else ()
    if not path or not isinstance(first, types.FunctionType):
        return None
    value = named_value(first, path[0])
    for attribute in path[1:]:
        value = content_of(value).get(attribute) if is_namespace(value) else None
    called = part_of(value) if callable(value) else None
    return called if called is not None and called is not first and is_users(called) else None


def methods_in(body: Mapping[str, Any], read: Read = _read) -> dict[str, types.FunctionType]:
    """The user's functions in a class's body, also those behind properties, class methods and decorators."""
    found: dict[str, types.FunctionType] = {}
    for name, value in body.items():
        if type(value) is types.FunctionType and is_users(value):
            found[name] = value
            continue
        if type(value) in _BARE:
            continue
        layers = (
            {" get": value.fget, " set": value.fset, " delete": value.fdel}
            if isinstance(value, property)
            else {"": value}
        )
        for suffix, layer in layers.items():
            function = _unwrapped(layer, read)
            if isinstance(function, types.FunctionType) and is_users(function):
                found[name + suffix] = function
    return found


def set_attributes(methods: Iterable[types.FunctionType]) -> frozenset[str]:
    """The attributes that a class's methods set, a counter or a client made when first needed: they are state."""
    return frozenset[str]().union(*(attributes_set(method.__code__) for method in methods))


def _named_objects(function: types.FunctionType, watch: Watch) -> list[tuple[str, Any]]:
    """What a function's names mean; of a dotted name through modules (`etl.fetch`) or deps, what stands at its end."""
    values = watch.values(function)
    found: list[tuple[str, Any]] = []
    for path in dotted_names(function.__code__) if values else ():
        if path[0] not in values:
            continue
        name, value = path[0], values[path[0]]
        for attribute in path[1:]:
            if not is_namespace(value):
                break
            name, value = attribute, watch.attribute(value, attribute)
        found.append((name, value))
        found += [(name + where, item) for where, item in watch.held(value)]
    if function.__defaults__ or function.__kwdefaults__:
        for name, value in default_values(function):
            found.append((name, value))
            found += [(name + where, item) for where, item in watch.held(value)]
    return found


def default_values(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """The defaults of a function, by the names of its parameters."""
    code, defaults = function.__code__, function.__defaults__ or ()
    yield from zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=False)
    if code.co_kwonlyargcount:
        yield from (function.__kwdefaults__ or {}).items()


def dotted_names(code: types.CodeType) -> tuple[tuple[str, ...], ...]:
    """The names that code and the code nested in it read, each with what is read from it, in order of appearance."""
    told = names_in(code)
    return _without_annotations(code).paths if told.annotated else told.paths


def globals_named(code: types.CodeType) -> Collection[str]:
    """The globals among the names that those begin with."""
    return {path[0] for path in dotted_names(code)}.intersection(names_in(code).globals)


@functools.lru_cache(maxsize=4096)
def _without_annotations(code: types.CodeType) -> Names:
    return names_told(code, without_annotations(code), _without_annotations)


def is_users(part: Part) -> bool:
    """Whether a function or class is the user's own, not an installed package's."""
    # by its globals: a decorator gives its wrapper the wrapped function's __module__
    module = part.__globals__.get("__name__") if type(part) is types.FunctionType else part.__module__
    return module == "__main__" or (isinstance(module, str) and is_users_module(module))


@functools.lru_cache(maxsize=1024)
def is_users_module(name: str) -> bool:
    """Whether a module is the user's own, also where it is installed to be edited."""
    path = getattr(sys.modules.get(name), "__file__", None)
    if not isinstance(path, str) or name.partition(".")[0] == "nbstep":
        return False
    return not path.startswith(_INSTALLED) and "site-packages" not in path and "dist-packages" not in path
