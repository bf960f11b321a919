"""A digest of code objects that the place, layout and docstring of the code do not change.

What Python makes of one program depends on its lines: it joins instructions, turns and shortens jumps. So instructions are
read as a graph, jumps as its edges, and told in the order in which they are reached.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import marshal
import operator
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from nbstep.drift.annotations import unannotated
from nbstep.operations import ATTRIBUTES, NAMES, names_in

# Instructions that depend on layout or on where the code stands, not on what it does.
_SILENT: Final = frozenset(
    {"NOP", "CACHE", "EXTENDED_ARG", "RESUME", "PUSH_NULL", "PRECALL", "COPY_FREE_VARS", "MAKE_CELL", "NOT_TAKEN"}
)
# A name is a global in a cell and a closure cell in a function; moving code must not count.
_NAMED: Final = NAMES
# Which of these Python takes depends on what it can prove, not on what the code says.
_LOCAL: Final = frozenset({"LOAD_FAST_BORROW", "LOAD_FAST_CHECK"})
# Which of these Python takes for `module.f()` depends on whether it compiles the `import` too; IPython compiles that apart.
_ATTRIBUTE: Final = ATTRIBUTES
_JOINED: Final = re.compile(r"(LOAD_FAST|STORE_FAST)(?:_BORROW)?_(LOAD_FAST|STORE_FAST)(?:_BORROW)?")
_ABOUT_A_CLASS: Final = frozenset({"__doc__", "__firstlineno__", "__static_attributes__"})
_BY_NAME: Final = frozenset((*dis.hasname, *dis.haslocal, *dis.hasfree, *dis.hascompare))
_CONSTANTS: Final = frozenset(dis.hasconst)
_JUMPS: Final = frozenset((*dis.hasjrel, *dis.hasjabs))
_TESTS: Final = {"JUMP_IF_FALSE_OR_POP": False, "JUMP_IF_TRUE_OR_POP": True}
_ENDS: Final = frozenset({"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"})
Compiled: TypeAlias = tuple[Any, ...]

_COUNTS: Final = (
    "co_consts", "co_code", "co_names", "co_varnames", "co_cellvars", "co_freevars", "co_exceptiontable",
    "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags",
)  # fmt: skip
_told_of: Final = operator.attrgetter(*_COUNTS)
_MARSHAL: Final = 0  # later versions also tell who else holds a text
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
    for line in listing(code):
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.digest()


def compiled(code: types.CodeType) -> Compiled:
    """What code is just as it was compiled, docstring included: where that is the same, so is `code_digest`, which takes longer."""
    told: Compiled = _told_of(code)
    if types.CodeType in map(type, told[0]):
        constants = [[compiled(one)] if type(one) is types.CodeType else one for one in told[0]]
        return constants, *told[1:]
    return told


def exact_bytes(exact: Any) -> bytes:
    """The bytes of what is made of what `compiled` gives, of texts, and of lists and tuples of these."""
    try:
        return marshal.dumps(exact, _MARSHAL)
    except ValueError:  # a constant that it does not write, such as a slice of Python 3.14
        return marshal.dumps(_written(exact), _MARSHAL)


def _written(exact: Any) -> Any:
    if type(exact) in (list, tuple):
        return type(exact)(map(_written, exact))
    try:
        marshal.dumps(exact, _MARSHAL)
    except ValueError:
        return [[constant_text(exact)]]
    return exact


@dataclass(slots=True)
class _Node:
    """One instruction: `next` are the offsets that may follow it, `handler` where an exception in it goes."""

    text: str
    next: list[int]
    handler: list[int] = field(default_factory=list[int])

    def settle(self, skips: Mapping[int, int]) -> None:
        self.next = [_settled(offset, skips) for offset in self.next]
        self.handler = [_settled(offset, skips) for offset in self.handler]


def listing(code: types.CodeType) -> list[str]:
    """The instructions as text, each with those that may follow it, in the order in which they are reached."""
    nodes, skips = _graph(code)
    _join_ends(nodes, skips)
    numbers: dict[int, int] = {}
    order: list[int] = []
    waiting = [_settled(0, skips)]
    while waiting:
        at = waiting.pop()
        if at in numbers or at not in nodes:
            continue
        numbers[at] = len(order)
        order.append(at)
        node = nodes[at]
        node.settle(skips)
        waiting += [*node.handler, *reversed(node.next)]
    return [
        f"{nodes[at].text} {[numbers.get(n) for n in nodes[at].next]} {[numbers.get(n) for n in nodes[at].handler]}"
        for at in order
    ]


def _graph(code: types.CodeType) -> tuple[dict[int, _Node], dict[int, int]]:
    """The instructions by offset; and for each offset where nothing happens the one to go on at."""
    listed = unannotated(code)
    nodes: dict[int, _Node] = {}
    skips: dict[int, int] = {}
    last = -1
    for at, listed_one in enumerate(listed):
        instruction = _with_constant(listed_one, code)
        name, offset = instruction.opname, instruction.offset
        after = listed[at + 1].offset if at + 1 < len(listed) else -1
        if name in _SILENT:
            skips[offset] = after
        elif name.startswith("STORE_") and instruction.argval in _ABOUT_A_CLASS:
            skips[offset] = after
            if last in nodes:  # what was to be stored goes too
                skips[last] = nodes.pop(last).next[0]
        elif instruction.opcode in _JUMPS and "IF" not in name and name.startswith("JUMP"):
            skips[offset] = int(instruction.argval)
        else:
            nodes |= _nodes(instruction, after)
            last = offset
    for node in nodes.values():
        if node.text.startswith("STORE_FAST ") and _text_at(node.next[0], nodes, skips) == node.text:
            node.text = "POP_TOP None"  # what is stored over at once, as in `a, _, _ = …`
    for offset in reversed(nodes):
        text = nodes[offset].text
        if text in _TESTS:
            _thread(nodes[offset], nodes, skips)
        elif text.startswith("SWAP "):
            _put_in_order(offset, int(text[5:]), nodes, skips)
    _guard(nodes, list(getattr(dis.Bytecode(code), "exception_entries", ())) if code.co_exceptiontable else [])
    return nodes, skips


def _settled(offset: int, skips: Mapping[int, int]) -> int:
    """The instruction that runs next at an offset: jumps and what is silent are passed over."""
    seen = set[int]()
    while offset in skips and offset not in seen:
        seen.add(offset)
        offset = skips[offset]
    return offset


def _join_ends(nodes: dict[int, _Node], skips: dict[int, int]) -> None:
    """Takes one for all of what does the same and goes on alike: Python copies short ends to where they are reached."""
    first: dict[tuple[object, ...], int] = {}
    for offset in reversed(nodes):
        node = nodes[offset]
        if offset not in skips:
            node.settle(skips)
            same = first.setdefault((node.text, *node.next, None, *node.handler), offset)
            if same != offset:
                skips[offset] = same


def _text_at(offset: int, nodes: Mapping[int, _Node], skips: Mapping[int, int]) -> str:
    node = nodes.get(_settled(offset, skips))
    return "" if node is None else node.text


def _thread(node: _Node, nodes: Mapping[int, _Node], skips: Mapping[int, int]) -> None:
    """Lets a test go where the test it leads to would send it: Python does so where both stand on one line."""
    truth = _TESTS[node.text]
    for _ in nodes:
        (target, after), at = node.next, nodes.get(_settled(node.next[0], skips))
        if at is None or (at.text not in _TESTS and at.text != "POP_JUMP_IF_TRUE"):
            return
        if at.text == node.text:
            node.next[0] = at.next[0]
            continue
        target = at.next[1] if at.text in _TESTS else at.next[not truth]
        node.text, node.next = "POP_JUMP_IF_TRUE", [target, after] if truth else [after, target]
        return


def _put_in_order(swap: int, count: int, nodes: Mapping[int, _Node], skips: dict[int, int]) -> None:
    """Stores values in the order they are in, instead of swapping them first: Python does so where all stands on one line."""
    stores: list[_Node] = []
    at = nodes[swap]
    for _ in range(count):
        found = nodes.get(_settled(at.next[0], skips)) if len(at.next) == 1 else None
        if found is None or not (found.text == "POP_TOP None" or found.text.startswith("STORE_FAST ")):
            return
        stores.append(at := found)
    stores[0].text, stores[-1].text = stores[-1].text, stores[0].text
    skips[swap] = nodes[swap].next[0]


def _with_constant(instruction: dis.Instruction, code: types.CodeType) -> dis.Instruction:
    """The instruction with the constant it means: Python 3.11's `dis` does not look up the names of keywords."""
    if instruction.opname != "KW_NAMES":
        return instruction
    return instruction._replace(argval=code.co_consts[instruction.arg or 0])


def _guard(nodes: Mapping[int, _Node], entries: list[Any]) -> None:
    """Says of each instruction which handler guards it; both come in the order of their offsets."""
    at = 0
    for offset, node in nodes.items():
        while at < len(entries) and entries[at].end <= offset:
            at += 1
        if at < len(entries) and entries[at].start <= offset:
            node.handler = [entries[at].target]
            node.text += f" guarded at {entries[at].depth}"


def _nodes(instruction: dis.Instruction, after: int) -> dict[int, _Node]:
    name, offset = instruction.opname, instruction.offset
    if instruction.opcode in _JUMPS:
        jump, target = name.replace("_FORWARD", "").replace("_BACKWARD", ""), int(instruction.argval)
        if jump in {"POP_JUMP_IF_FALSE", "POP_JUMP_IF_NOT_NONE"}:  # the same test, turned round
            return {offset: _Node(jump.replace("FALSE", "TRUE").replace("NOT_", ""), [after, target])}
        return {offset: _Node(jump, [target, after])}
    joined = _JOINED.fullmatch(name)
    if joined is not None:  # two instructions that Python joins where they stand on one line
        first, second = instruction.argval
        return {
            offset: _Node(f"{joined[1]} {first!r}", [offset + 1]),
            offset + 1: _Node(f"{joined[2]} {second!r}", [after]),
        }
    return {offset: _Node(f"{_said(name)} {_argument(instruction)}", [] if name in _ENDS else [after])}


def _said(name: str) -> str:
    for alike, word in ((_NAMED, "LOAD"), (_LOCAL, "LOAD_FAST"), (_ATTRIBUTE, "LOAD_ATTR")):
        if name in alike:
            return word
    return name


def _argument(instruction: dis.Instruction) -> str:
    if instruction.opcode in _CONSTANTS:
        return constant_text(instruction.argval)
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


def only_call(code: types.CodeType) -> tuple[str, ...]:
    """The dotted name of what code calls, if all it does is return that call, with names alone for arguments; else empty."""
    shape = code.co_code[::2].translate(_LETTERS, _SILENT_OPCODES)
    return names_in(code).paths[0] if _ONLY_A_CALL.fullmatch(shape) else ()


_OPCODES: Final = {
    b"N": NAMES,
    b"A": ATTRIBUTES,
    b"F": _LOCAL | {"LOAD_FAST"},
    b"L": {"LOAD_CONST"},
    b"C": {"CALL"},
    b"K": {"CALL_KW"},
    b"R": {"RETURN_VALUE"},
}
_LETTER_OF: Final = {name: letter for letter, names in _OPCODES.items() for name in names}
_LETTERS: Final = b"".join(_LETTER_OF.get(name, b"x") for name in dis.opname[:256])
_SILENT_OPCODES: Final = bytes(at for at, name in enumerate(dis.opname[:256]) if name in _SILENT | {"KW_NAMES"})
_ONLY_A_CALL: Final = re.compile(rb"NA*[NF]*(?:C|LK)R")
