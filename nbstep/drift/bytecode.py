"""A digest of code objects that the place, layout and docstring of the code do not change."""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import types
from typing import Any, Final

# Instructions that depend on layout or on where the code stands, not on what it does.
_SILENT: Final = frozenset(
    {"NOP", "CACHE", "EXTENDED_ARG", "RESUME", "PUSH_NULL", "PRECALL", "COPY_FREE_VARS", "MAKE_CELL", "NOT_TAKEN"}
)
# A name is a global in a cell and a closure cell in a function; moving code must not count.
_NAMED: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"})
_ABOUT_A_CLASS: Final = frozenset({"__doc__", "__firstlineno__", "__static_attributes__"})
_BY_NAME: Final = frozenset((*dis.hasname, *dis.haslocal, *dis.hasfree, *dis.hascompare))
_CONSTANTS: Final = frozenset(dis.hasconst)
_JUMPS: Final = frozenset((*dis.hasjrel, *dis.hasjabs))
_FLAGS: Final = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_COROUTINE | (
    inspect.CO_ASYNC_GENERATOR
)  # fmt: skip


@functools.lru_cache(maxsize=8192)
def code_digest(code: types.CodeType) -> bytes:
    """16 bytes that are the same for the same code, wherever it stands and whatever its docstring says."""
    arguments = code.co_argcount + code.co_kwonlyargcount + sum(
        bool(code.co_flags & flag) for flag in (inspect.CO_VARARGS, inspect.CO_VARKEYWORDS)
    )  # fmt: skip
    shape = (
        code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _FLAGS,
        code.co_varnames[:arguments],
    )  # fmt: skip
    digest = hashlib.blake2b(repr(shape).encode(), digest_size=16)
    for line in _listing(code):
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.digest()


def _listing(code: types.CodeType) -> list[str]:
    """The instructions as text, and which of them are guarded by which handler."""
    lines: list[str] = []
    places: dict[int, int] = {}  # where an offset stands in the listing
    jumps: dict[int, int] = {}
    bytecode = dis.Bytecode(code)
    for instruction in bytecode:
        places[instruction.offset] = len(lines)
        name = instruction.opname
        if name in _SILENT:
            continue
        if name.startswith("STORE_") and instruction.argval in _ABOUT_A_CLASS:
            lines[-1:] = []  # what was to be stored goes too
            continue
        if instruction.opcode in _JUMPS:
            jumps[len(lines)] = int(instruction.argval)
        lines.append(f"{'LOAD' if name in _NAMED else name} {_argument(instruction)}")
    places[len(code.co_code)] = len(lines)
    for at, target in jumps.items():
        lines[at] += f" to {places.get(target)}"
    for entry in getattr(bytecode, "exception_entries", ()):
        guarded = (places.get(offset) for offset in (entry.start, entry.end, entry.target))
        lines.append(f"except {list(guarded)} {entry.depth}")
    return lines


def _argument(instruction: dis.Instruction) -> str:
    if instruction.opcode in _CONSTANTS:
        return constant_text(instruction.argval)
    if instruction.opcode in _JUMPS:
        return ""
    return repr(instruction.argval if instruction.opcode in _BY_NAME else instruction.arg)


def constant_text(constant: Any) -> str:
    """The text of a constant, the same in every process; of code its digest."""
    if isinstance(constant, types.CodeType):
        return code_digest(constant).hex()
    if isinstance(constant, frozenset):
        return f"set({','.join(sorted(constant_text(item) for item in constant))})"
    if isinstance(constant, tuple):
        return f"({','.join(constant_text(item) for item in constant)})"
    return f"{type(constant).__name__}:{constant!r}"
