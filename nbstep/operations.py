"""What code names: its operations, each with the name or constant that it is about, read in an eighth of the time of `dis`."""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

Operation: TypeAlias = tuple[str, Any]

GLOBALS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
NAMES: Final = GLOBALS | {"LOAD_DEREF", "LOAD_CLASSDEREF"}
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

_NOTHING, _MORE, _GLOBAL, _CELL, _ATTRIBUTE, _KEY, _AT_KEY, _SET_GLOBAL, _SET_CELL, _MAKES, _ENDS = range(11)
_LOAD_GLOBAL: Final = dis.opmap["LOAD_GLOBAL"]
_LOAD_ATTR: Final = dis.opmap["LOAD_ATTR"]
_SHIFT_GLOBAL: Final = _SHIFTS["LOAD_GLOBAL"]
_SHIFT_ATTRIBUTE: Final = _SHIFTS.get("LOAD_ATTR", 0)
_WHO_TELLS: Final = {
    _NOTHING: frozenset({"CACHE", "PUSH_NULL"}),
    _MORE: frozenset({"EXTENDED_ARG"}),
    _GLOBAL: GLOBALS,
    _CELL: NAMES - GLOBALS,
    _ATTRIBUTE: ATTRIBUTES,
    _KEY: frozenset({"LOAD_CONST"}),
    _AT_KEY: frozenset({_SUBSCRIPT}),
    _SET_GLOBAL: frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"}),
    _SET_CELL: frozenset({"STORE_DEREF", "DELETE_DEREF"}),
    _MAKES: frozenset({"MAKE_FUNCTION", "SET_FUNCTION_ATTRIBUTE"}),
}
# What operations tell of names, by opcode; most only end a dotted one.
_TELLING: Final = [next((at for at, told in _WHO_TELLS.items() if name in told), _ENDS) for name in dis.opname]


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
    """The same with other bytecode in place of the code's own: one pass, as the first look at a step waits for it."""
    names, constants = code.co_names, code.co_consts
    read: list[str] = []
    written: list[str] = []
    cells: list[str] = []
    paths: list[Sequence[str]] = []
    path: list[str] | None = None  # that of the name read last, while more is read from it
    key: str | None = None
    annotated, extended = "__annotations__" in names, 0
    for opcode, low in zip(bytecode[::2], bytecode[1::2], strict=True):
        telling = _TELLING[opcode]
        if telling == _NOTHING:
            continue
        if telling == _ENDS:
            path, extended = None, 0
            continue
        argument = extended | low
        if telling == _MORE:
            extended = argument << 8
            continue
        extended = 0
        if telling == _GLOBAL:
            name = names[argument >> _SHIFT_GLOBAL if opcode == _LOAD_GLOBAL else argument]
            read.append(name)
            path, key = [name], None
            paths.append(path)
        elif telling == _CELL:
            path, key = [_variables(code)[argument]], None
            paths.append(path)
        elif telling == _ATTRIBUTE and path and key is None:
            path.append(names[argument >> _SHIFT_ATTRIBUTE if opcode == _LOAD_ATTR else argument])
        elif telling == _KEY and path and key is None and type(constants[argument]) is str:
            key = constants[argument]
        elif telling == _AT_KEY and path and key is not None and argument == _SUBSCRIPT_ARGUMENT:
            path.append(key)
            key = None
        else:
            path = None
            if telling == _SET_GLOBAL:
                written.append(names[argument])
            elif telling == _SET_CELL:
                cells.append(_variables(code)[argument])
            elif telling == _MAKES:
                annotated = annotated or bool(argument & ANNOTATED)
    for constant in constants:
        if isinstance(constant, types.CodeType):
            nested = names_nested(constant)
            annotated = annotated or nested.annotated
            paths += nested.paths
            read += nested.globals
            written += nested.written_globals
            cells += nested.written_cells.intersection(constant.co_freevars)
    return Names(
        tuple(dict.fromkeys(read)),
        frozenset(written),
        frozenset(cells),
        tuple(dict.fromkeys(map(tuple, paths))),
        annotated,
    )
