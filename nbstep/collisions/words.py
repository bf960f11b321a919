"""What a piece of code says: the names, attributes and constants in it, and the one call that it may be."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from nbstep.collisions.look import sight
from nbstep.thunks import instructions

_NAMES: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"})
_ATTRIBUTES: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD", "IMPORT_NAME", "IMPORT_FROM", "STORE_ATTR"})
_SILENT: Final = frozenset(
    {"RESUME", "COPY_FREE_VARS", "PUSH_NULL", "PRECALL", "NOP", "CACHE", "MAKE_CELL", "EXTENDED_ARG", "NOT_TAKEN"}
)
_BEFORE_THE_FIRST: Final = frozenset({"RETURN_GENERATOR", "POP_TOP"})
_CONSTANTS: Final = frozenset(dis.hasconst)


@dataclass(frozen=True, slots=True)
class Said:
    """What code names.

    Attributes:
        names: The names that it reads, its parameters among them.
        attributes: The attributes and modules that it names.
        constants: Neither None nor code; long texts as `sight` gives them.
        first: The dotted name that it begins with: `("client", "get")`.
    """

    names: frozenset[str]
    attributes: frozenset[str]
    constants: frozenset[Any]
    first: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call: a name that is read, or a constant; `label` is its position or its name."""

    label: str
    name: str | None
    constant: Any = None


@dataclass(frozen=True, slots=True)
class Called:
    """The one call that code is, as in `lambda: client.get(uid, retries=2)`."""

    path: tuple[str, ...]
    arguments: tuple[Argument, ...]


@functools.lru_cache(maxsize=2048)
def said_by(code: types.CodeType) -> Said:
    """All that code and the code nested in it names."""
    names, attributes, constants = set[str](), set[str](), set[Any]()
    parameters = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    path: list[str] = []
    at_first = True
    for instruction, after in _with_next(code):
        name = instruction.opname
        read = [one for one in _read_by(instruction) if name in _NAMES or one in parameters]
        names.update(read)
        if name in _ATTRIBUTES:
            attributes.add(str(instruction.argval))
        if at_first and (read if not path else name in {"LOAD_ATTR", "LOAD_METHOD"}):
            path.append(read[0] if read else str(instruction.argval))
        elif path or name not in _BEFORE_THE_FIRST:
            at_first = False
        if _is_constant(instruction) and name != "KW_NAMES" and after != "CALL_KW":
            constants |= _constant(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = said_by(constant)
            own = constant.co_varnames[: constant.co_argcount + constant.co_kwonlyargcount]
            names |= inner.names.difference(own)
            attributes |= inner.attributes
            constants |= inner.constants
    return Said(frozenset(names.difference(code.co_cellvars)), frozenset(attributes), frozenset(constants), tuple(path))


def _constant(value: Any) -> set[Any]:
    if value is None or isinstance(value, types.CodeType):
        return set()
    seen = sight(value) if isinstance(value, (str, bytes, int)) else value
    return {seen if seen == seen else repr(seen)}  # NaN is not equal to itself


def _is_constant(instruction: dis.Instruction) -> bool:
    return instruction.opcode in _CONSTANTS or instruction.opname == "LOAD_SMALL_INT"


def _read_by(instruction: dis.Instruction) -> tuple[str, ...]:
    """The names that an instruction reads: one, two where Python joined two instructions, mostly none."""
    if instruction.opname not in _NAMES and not instruction.opname.startswith("LOAD_FAST"):
        return ()
    value = instruction.argval
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)


def _with_next(code: types.CodeType) -> Iterator[tuple[dis.Instruction, str]]:
    listed = [i for i in instructions(code) if i.opname not in _SILENT]
    for at, instruction in enumerate(listed):
        yield instruction, listed[at + 1].opname if at + 1 < len(listed) else ""


@functools.lru_cache(maxsize=2048)
def call_in(code: types.CodeType) -> Called | None:
    """The call that code consists of, with arguments that are names or constants; None where it does anything else."""
    listed = [i for i in instructions(code) if i.opname not in _SILENT]
    path: list[str] = []
    loaded: list[Argument] = []
    keywords: tuple[str, ...] = ()
    called = False
    for instruction, after in _with_next(code):
        name, value = instruction.opname, instruction.argval
        if called:
            if name == "RETURN_VALUE" and instruction is listed[-1]:
                break
            return None
        read = [*_read_by(instruction)]
        if read:
            path += [] if path else [read.pop(0)]
            loaded += [Argument("", one) for one in read]
        elif not path:
            return None
        elif name in {"LOAD_ATTR", "LOAD_METHOD"} and not loaded:
            path.append(str(value))
        elif name == "KW_NAMES" or (after == "CALL_KW" and _is_constant(instruction)):
            keywords = code.co_consts[instruction.arg or 0]  # `dis` of Python 3.11 does not know them
        elif _is_constant(instruction) and name != "RETURN_CONST":
            loaded.append(Argument("", None, value))
        elif name in {"CALL", "CALL_KW"}:
            called = True
        else:
            return None
    if not called:
        return None
    positional = len(loaded) - len(keywords)
    labels = [*map(str, range(positional)), *keywords]
    return Called(
        tuple(path), tuple(Argument(label, one.name, one.constant) for label, one in zip(labels, loaded, strict=True))
    )
