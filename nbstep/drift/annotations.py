"""The instructions of code, with nothing where functions and classes in it are annotated: annotations do not count."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Sequence
from typing import Final

from nbstep.operations import ANNOTATED
from nbstep.thunks import instructions

_CLOSURE: Final = 8
_NOP: Final = dis.opmap["NOP"]


@functools.lru_cache(maxsize=32)
def unannotated(code: types.CodeType) -> tuple[dis.Instruction, ...]:
    """The instructions of code; in place of annotations nothing is done."""
    listed = instructions(code)
    dropped = set[int]()
    flags: dict[int, int] = {}
    for at, instruction in enumerate(listed):
        name = instruction.opname
        if name == "MAKE_FUNCTION":
            flags[at] = _flags(listed, at)
            if flags[at] & ANNOTATED:
                dropped.update(_annotation(listed, at, flags[at]))
        elif (name == "SET_FUNCTION_ATTRIBUTE" and instruction.arg == ANNOTATED) or name == "SETUP_ANNOTATIONS":
            dropped.add(at)
        elif name == "STORE_SUBSCR" and at > 1 and listed[at - 2].argval == "__annotations__":
            dropped.update(range(_beginning(listed, at - 2, 1), at + 1))
    if not dropped:
        return listed
    return tuple(
        instruction._replace(opname="NOP", opcode=_NOP, arg=None, argval=None)
        if at in dropped
        else _without_flag(instruction)
        if flags.get(at, 0) & ANNOTATED
        else instruction
        for at, instruction in enumerate(listed)
    )


def without_annotations(code: types.CodeType) -> bytes:
    """The bytecode of code; in place of annotations nothing is done."""
    bytecode = bytearray(code.co_code)
    for instruction in unannotated(code):
        if instruction.opname == "NOP":
            bytecode[instruction.offset : instruction.offset + 2] = _NOP, 0
    return bytes(bytecode)


def _flags(listed: Sequence[dis.Instruction], at: int) -> int:
    """What a function is made with: said at once, or from Python 3.13 on by what follows."""
    flags = listed[at].arg or 0
    for instruction in listed[at + 1 :]:
        if instruction.opname != "SET_FUNCTION_ATTRIBUTE":
            break
        flags |= instruction.arg or 0
    return flags


def _annotation(listed: Sequence[dis.Instruction], at: int, flags: int) -> range:
    """Where a function's annotations are made: before its closure, which comes before its code."""
    end = _beginning(listed, at, 2 if flags & _CLOSURE else 1)
    return range(_beginning(listed, end, 1), end)


def _beginning(listed: Sequence[dis.Instruction], end: int, values: int) -> int:
    """Where the last `values` values on the stack begin to be made."""
    while values and end:
        end -= 1
        values -= dis.stack_effect(listed[end].opcode, listed[end].arg, jump=False)
    return end


def _without_flag(instruction: dis.Instruction) -> dis.Instruction:
    if instruction.arg is None:
        return instruction
    arg = instruction.arg & ~ANNOTATED
    return instruction._replace(arg=arg, argval=arg)
