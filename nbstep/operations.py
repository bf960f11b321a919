"""What code names: its operations, each with the name or constant that it is about, read in an eighth of the time of `dis`."""

from __future__ import annotations

import dis
import functools
import sys
import types
from typing import Any, Final, NamedTuple, TypeAlias

Operation: TypeAlias = tuple[str, Any]

GLOBALS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
NAMES: Final = GLOBALS | {"LOAD_DEREF", "LOAD_CLASSDEREF"}
ATTRIBUTES: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_WRITES_GLOBALS: Final = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_WRITES_CELLS: Final = frozenset({"STORE_DEREF", "DELETE_DEREF"})
_OF_OTHER_SCOPES: Final = GLOBALS | _WRITES_GLOBALS | _WRITES_CELLS

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
    names, constants = code.co_names, code.co_consts
    variables = (
        *code.co_varnames,
        *[name for name in code.co_cellvars if name not in code.co_varnames],
        *code.co_freevars,
    )
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


def _item(space: Any, key: Any) -> Any:
    return space[key]


# An operation of its own until Python 3.13, an argument of another since.
SUBSCRIPT: Final = operations(_item.__code__)[-2]


class Names(NamedTuple):
    """The names of other scopes in code and in the code nested in it.

    Attributes:
        globals: The global names that it reads, in order of appearance.
        written_globals: The global names that it writes or deletes.
        written_cells: The closure cells that it writes or deletes.
    """

    globals: tuple[str, ...]
    written_globals: frozenset[str]
    written_cells: frozenset[str]


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> Names:
    """The names of other scopes in code, read once."""
    told = [one for one in operations(code) if one[0] in _OF_OTHER_SCOPES]
    read = [value for name, value in told if name in GLOBALS]
    written = {value for name, value in told if name in _WRITES_GLOBALS}
    cells = {value for name, value in told if name in _WRITES_CELLS}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            nested = names_in(constant)
            read += nested.globals
            written |= nested.written_globals
            cells |= nested.written_cells.intersection(constant.co_freevars)
    return Names(tuple(dict.fromkeys(read)), frozenset(written), frozenset(cells))
