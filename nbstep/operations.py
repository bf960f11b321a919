"""What code names: its operations, each with the name or constant that it is about, read in an eighth of the time of `dis`."""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import re
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

Operation: TypeAlias = tuple[str, Any]

GLOBALS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
# In the body of a class a cell is read by the third until Python 3.12, by the fourth since.
NAMES: Final = GLOBALS | {"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
ATTRIBUTES: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
ANNOTATED: Final = 4  # the flag of MAKE_FUNCTION, and from Python 3.13 on the attribute that is set after it

_NAME, _CONSTANT, _LOCAL, _PAIR, _NUMBER = range(5)
_CACHE: Final = dis.opmap["CACHE"]
_EXTENDED: Final = dis.EXTENDED_ARG
# The lowest bits of these arguments say something else.
_SHIFTS: Final = {"LOAD_GLOBAL": 1} | ({"LOAD_ATTR": 1, "LOAD_SUPER_ATTR": 2} if sys.version_info >= (3, 12) else {})


def _kind(opcode: int) -> int:
    if opcode in dis.hasname:
        return _NAME
    if opcode in dis.hasconst:
        return _CONSTANT
    if opcode in dis.haslocal or opcode in dis.hasfree:
        return _PAIR if dis.opname[opcode].count("_FAST") == 2 else _LOCAL
    return _NUMBER


_TABLE: Final = [(name, _kind(opcode), _SHIFTS.get(name, 0)) for opcode, name in enumerate(dis.opname)]


@functools.lru_cache(maxsize=64)
def operations(code: types.CodeType) -> tuple[Operation, ...]:
    """The operations of code; kept for a moment, as a step's are read several times over.

    Beside each stands the name or constant that it is about, two names where Python joined two operations; of all others, jumps
    among them, the bare argument.
    """
    found: list[Operation] = []
    names, constants, variables = code.co_names, code.co_consts, _variables(code)
    bytecode, extended = code.co_code, 0
    for opcode, low in zip(bytecode[::2], bytecode[1::2], strict=True):
        if opcode == _CACHE:
            continue
        argument = extended | low
        if opcode == _EXTENDED:
            extended = argument << 8
            continue
        extended = 0
        name, kind, shift = _TABLE[opcode]
        if kind == _NUMBER:
            found.append((name, argument))
        elif kind == _NAME:
            found.append((name, names[argument >> shift]))
        elif kind == _LOCAL:
            found.append((name, variables[argument]))
        elif kind == _CONSTANT:
            found.append((name, constants[argument]))
        else:
            found.append((name, (variables[argument >> 4], variables[argument & 15])))
    return tuple(found)


def _variables(code: types.CodeType) -> tuple[str, ...]:
    """What operations on local variables and closure cells count through."""
    local, cells = code.co_varnames, code.co_cellvars
    return (*local, *[name for name in cells if name not in local], *code.co_freevars)


def _item(space: Any, key: Any) -> Any:
    return space[key]


# An operation of its own until Python 3.13, an argument of another since.
_SUBSCRIPT, _SUBSCRIPT_ARGUMENT = operations(_item.__code__)[-2]

_LOAD_GLOBAL: Final = dis.opmap["LOAD_GLOBAL"]
_LOAD_ATTR: Final = dis.opmap["LOAD_ATTR"]
_STORE_ATTR: Final = dis.opmap["STORE_ATTR"]
_SHIFT_GLOBAL: Final = _SHIFTS["LOAD_GLOBAL"]
_SHIFT_ATTRIBUTE: Final = _SHIFTS.get("LOAD_ATTR", 0)
# What operations tell of names, a letter for each; all others only end a dotted one.
_LETTER_OF: Final = {
    **dict.fromkeys(("CACHE", "PUSH_NULL"), "n"),
    "EXTENDED_ARG": "m",
    **dict.fromkeys(GLOBALS, "g"),
    **dict.fromkeys(NAMES - GLOBALS, "c"),
    **dict.fromkeys(ATTRIBUTES, "a"),
    "LOAD_CONST": "k",
    _SUBSCRIPT: "s",
    **dict.fromkeys(("STORE_GLOBAL", "DELETE_GLOBAL"), "G"),
    **dict.fromkeys(("STORE_DEREF", "DELETE_DEREF"), "C"),
    **dict.fromkeys(("MAKE_FUNCTION", "SET_FUNCTION_ATTRIBUTE"), "f"),
}
_LETTERS: Final = "".join(_LETTER_OF.get(name, ".") for name in dis.opname[:256]).encode()
_OF_NO_OTHER_NAMES: Final = bytes({*range(256)} - {*dis.hasname} | {_LOAD_GLOBAL})
_NOTHING, _MORE, _GLOBAL, _CELL, _ATTRIBUTE, _KEY, _AT_KEY, _SET_GLOBAL, _SET_CELL = b"nmgcaksGC"
_NO_NAMES: Final = frozenset[str]()
# A name that is read, with what may be read from it; or something else that tells.
_TELLING: Final = re.compile(rb"[gc][nm]*([aks][nmaks]*)?|[GCf]")


class Names(NamedTuple):
    """The names of other scopes in code and in the code nested in it.

    Attributes:
        globals: The global names that it reads, in order of appearance.
        written_globals: The global names that it writes or deletes.
        written_cells: The closure cells that it writes or deletes.
        paths: All names that it reads, global or not, each with what is read from it: attributes and, as in `deps["fetch"]`,
            constant keys.
        annotated: Whether there may be annotations among what it reads.
    """

    globals: tuple[str, ...]
    written_globals: frozenset[str]
    written_cells: frozenset[str]
    paths: tuple[tuple[str, ...], ...]
    annotated: bool


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> Names:
    """The names of other scopes in code, read once."""
    return names_told(code, code.co_code, names_in)


def names_told(code: types.CodeType, bytecode: bytes, names_nested: Callable[[types.CodeType], Names]) -> Names:
    """The same with other bytecode in place of the code's own: only the operations that tell are looked at one by one."""
    names = code.co_names
    read: list[str] = []
    written: list[str] = []
    cells: list[str] = []
    paths: list[tuple[str, ...]] = []
    annotated = "__annotations__" in names
    opcodes, arguments = bytecode[::2], _arguments(bytecode)
    shape = opcodes.translate(_LETTERS)
    variables = _variables(code) if code.co_freevars or code.co_cellvars else ()
    for found in _TELLING.finditer(shape):
        at, end = found.span()
        letter, argument = shape[at], arguments[at]
        if letter in (_GLOBAL, _CELL):
            if letter == _CELL:
                name = variables[argument]
            else:
                name = names[argument >> _SHIFT_GLOBAL if opcodes[at] == _LOAD_GLOBAL else argument]
                read.append(name)
            more = found.start(1)
            paths.append((name,) if more < 0 else (name, *_read_from_it(code, shape, opcodes, arguments, more, end)))
        elif letter == _SET_GLOBAL:
            written.append(names[argument])
        elif letter == _SET_CELL:
            cells.append(variables[argument])
        elif argument & ANNOTATED:
            annotated = True
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            nested = names_nested(constant)
            annotated = annotated or nested.annotated
            paths += nested.paths
            read += nested.globals
            written += nested.written_globals
            cells += nested.written_cells.intersection(constant.co_freevars)
    return Names(
        (*dict.fromkeys(read),),
        frozenset(written) if written else _NO_NAMES,
        frozenset(cells) if cells else _NO_NAMES,
        (*dict.fromkeys(paths),),
        annotated,
    )


def _read_from_it(
    code: types.CodeType, shape: bytes, opcodes: bytes, arguments: Sequence[int], at: int, end: int
) -> list[str]:
    """The attributes and keys that are read one from the other, by the operations from `at` to `end`."""
    found: list[str] = []
    key: str | None = None
    for place in range(at, end):
        letter, argument = shape[place], arguments[place]
        if letter == _ATTRIBUTE and key is None:
            found.append(code.co_names[argument >> _SHIFT_ATTRIBUTE if opcodes[place] == _LOAD_ATTR else argument])
        elif letter == _KEY and key is None and type(code.co_consts[argument]) is str:
            key = code.co_consts[argument]
        elif letter == _AT_KEY and key is not None and argument == _SUBSCRIPT_ARGUMENT:
            found.append(key)
            key = None
        elif letter != _NOTHING and letter != _MORE:
            break
    return found


def _arguments(bytecode: bytes) -> Sequence[int]:
    """The arguments of all operations, whole ones also where they are more than a byte."""
    arguments = bytecode[1::2]
    opcodes = bytecode[::2]
    if _EXTENDED not in opcodes:
        return arguments
    whole, extended = list(arguments), 0
    for at, opcode in enumerate(opcodes):
        whole[at] |= extended
        extended = whole[at] << 8 if opcode == _EXTENDED else 0
    return whole


def mentioned(code: types.CodeType) -> tuple[str, ...]:
    """The names in code and in the code nested in it: those of globals, and of attributes as well, told without reading it."""
    names, constants = code.co_names, code.co_consts
    if types.CodeType in map(type, constants):
        for constant in constants:
            if type(constant) is types.CodeType:
                names += mentioned(constant)
    return names


def globals_alone(code: types.CodeType, names: tuple[str, ...]) -> bool:
    """Whether all `names` in a function's code, as `mentioned` gave them, are of globals that it reads: told soon."""
    return (
        names is code.co_names
        and bool(code.co_flags & inspect.CO_OPTIMIZED)
        and not code.co_code[::2].translate(None, _OF_NO_OTHER_NAMES)
    )


@functools.lru_cache(maxsize=4096)
def attributes_set(code: types.CodeType) -> frozenset[str]:
    """The attributes that code and the code nested in it set, of whatever object."""
    bytecode, names = code.co_code, set[str]()
    opcodes = bytecode[::2]
    at = opcodes.find(_STORE_ATTR)
    if at >= 0:
        arguments = _arguments(bytecode)
        while at >= 0:
            names.add(code.co_names[arguments[at]])
            at = opcodes.find(_STORE_ATTR, at + 1)
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            names |= attributes_set(constant)
    return frozenset(names)


@functools.lru_cache(maxsize=4096)
def class_attributes_set(code: types.CodeType) -> frozenset[str]:
    """The same but for those that are plainly an object's own: `self.rate = rate` leaves the class as it is."""
    if not attributes_set(code):
        return _NO_NAMES
    names, listed = set[str](), operations(code)
    for (_, before), (name, attribute) in itertools.pairwise(listed):
        if name == "STORE_ATTR" and before != "self" and not (type(before) is tuple and before[-1:] == ("self",)):
            names.add(attribute)
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            names |= class_attributes_set(constant)
    return frozenset(names)
