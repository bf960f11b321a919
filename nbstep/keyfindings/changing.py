"""Calls that give something else in every run or process: told by the very objects that names stand for, not by the names."""

from __future__ import annotations

import ast
import builtins
import datetime
import inspect
import random
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

Kind: TypeAlias = Literal["clock", "chance", "address", "hash", "process"]

_TIMES: Final = frozenset({"time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime"})
_COUNTERS: Final = frozenset(
    {f"{name}{unit}" for name in ("monotonic", "perf_counter", "process_time", "thread_time") for unit in ("", "_ns")}
)
_UUIDS: Final = frozenset({"uuid1", "uuid4", "uuid6", "uuid7"})
_NO_CHANCE: Final = frozenset({"seed", "getstate", "setstate", "default_rng", "set_state", "get_state"})
_PROCESS: Final = {
    "posix": {"getpid", "getppid"},
    "nt": {"getpid", "getppid"},
    "_thread": {"get_ident", "get_native_id"},
}
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Named:
    """What a dotted name stands for: an object, and what it was read from, where that is a module or a class."""

    value: Any
    owner: Any = None
    name: str = ""


Lookup: TypeAlias = Callable[[str], Any]


def lookup_in(frame: types.FrameType) -> Lookup:
    """What finds the meaning of a bare name in a frame; raises KeyError where it has none.

    The local variables of a function are asked for only where one is meant: Python up to 3.12 then keeps a copy of all of
    them until the function ends, the user's frames of data too.
    """
    code = frame.f_code
    fast = {*code.co_varnames, *code.co_cellvars, *code.co_freevars} if code.co_flags & inspect.CO_OPTIMIZED else None

    def lookup(name: str) -> Any:
        if (fast is None or name in fast) and name in frame.f_locals:
            return frame.f_locals[name]
        return frame.f_globals[name] if name in frame.f_globals else vars(builtins)[name]

    return lookup


def named_by(node: ast.expr, lookup: Lookup) -> Named | None:
    """What a dotted name stands for, through modules and classes only: no code of the user's runs."""
    if isinstance(node, ast.Name):
        try:
            return Named(lookup(node.id), None, node.id)
        except KeyError:
            return None
    if not isinstance(node, ast.Attribute):
        return None
    base = named_by(node.value, lookup)
    if base is None or (not isinstance(base.value, types.ModuleType | type) and not _is_step(base.value)):
        return None
    value = getattr(base.value, node.attr, _MISSING)
    return None if value is _MISSING else Named(value, base.value, node.attr)


def kind_of(call: ast.Call, named: Named, lookup: Lookup) -> Kind | None:
    """Why what a call gives is another thing each time; None where it is not known to be."""
    value, owner = named.value, named.owner
    if value is builtins.id:
        return "address"
    if value is builtins.hash:
        return (
            "hash" if sys.flags.hash_randomization and any(_is_salted(arg, lookup) for arg in call.args[:1]) else None
        )
    if isinstance(value, type):
        said = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
        now = (value.__name__ == "Timestamp" and said in {"now", "today"}) or (
            value.__name__ == "datetime64" and said == "now"
        )
        return "clock" if now else None
    name = str(getattr(value, "__name__", ""))
    module = getattr(value, "__module__", None)
    if _is_clock(call, owner or getattr(value, "__self__", None), name, module):
        return "clock"
    if _is_chance(value, owner, name, module):
        return "chance"
    return "process" if isinstance(module, str) and name in _PROCESS.get(module, ()) else None


def _is_clock(call: ast.Call, owner: Any, name: str, module: Any) -> bool:
    if isinstance(owner, type) and issubclass(owner, datetime.datetime):
        return name in {"now", "utcnow", "today"}
    if module == "time":
        return name in _COUNTERS or (name in _TIMES and len(call.args) == (name == "strftime"))
    return module in {"arrow.api", "pendulum"} and name in {"now", "utcnow"}


def _is_chance(value: Any, owner: Any, name: str, module: Any) -> bool:
    if name in _NO_CHANCE:
        return False
    if module == "uuid":
        return name in _UUIDS
    if module == "secrets" or owner is sys.modules.get("secrets") or (module == "posix" and name == "urandom"):
        return True
    generator = getattr(value, "__self__", None)
    numpy_random = sys.modules.get("numpy.random")
    shared = getattr(numpy_random, "mtrand", None)
    return generator is not None and (
        generator is getattr(random, "_inst", None)
        or isinstance(generator, random.SystemRandom)
        or generator is getattr(shared, "_rand", _MISSING)
    )


def _is_salted(node: ast.expr, lookup: Lookup) -> bool:
    """Whether `hash` of it differs from process to process: of texts, and of what holds one."""
    if isinstance(node, ast.Constant):
        return _has_text(node.value)
    if isinstance(node, ast.Tuple):
        return any(_is_salted(item, lookup) for item in node.elts)
    if isinstance(node, ast.Name):
        try:
            return _has_text(lookup(node.id))
        except KeyError:
            return False
    return isinstance(node, ast.JoinedStr)


def _has_text(value: Any) -> bool:
    if type(value) in (tuple, frozenset):
        return any(map(_has_text, value))
    return isinstance(value, str | bytes | datetime.date) and bool(value)


def is_step_key(named: Named) -> bool:
    """Whether it is `step.key`, which makes a text of all that it is given."""
    return named.name == "key" and _is_step(named.owner)


def _is_step(value: Any) -> bool:
    return type(value).__name__ == "Step" and type(value).__module__ == "nbstep.steps.front"


def is_module(named: Named, name: str) -> bool:
    """Whether it was read from the module of that name."""
    return isinstance(named.owner, types.ModuleType) and named.owner.__name__ == name
