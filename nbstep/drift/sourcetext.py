"""The source texts of a thunk and of what it names, for people: to see what an edit changed."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import os
import sys
import textwrap
import types
import weakref
from collections.abc import Mapping
from typing import Final

from nbstep.drift.code import full_name
from nbstep.drift.parts import is_users, methods_in, part_of
from nbstep.drift.seen import Seen

TEXT_CHARS: Final = 4096  # of one function or class; what is longer is left out
READ_CHARS: Final = 4 * TEXT_CHARS  # of the thunk: it is cut once its secrets are out, or half of one could stay
ALL_CHARS: Final = 8192  # of all of one step: they stand in an entry's header, which every look-up reads

_of_classes: Final[weakref.WeakKeyDictionary[type, str | None]] = weakref.WeakKeyDictionary()


def source_text(thunk: object, limit: int = READ_CHARS) -> str | None:
    """The thunk's source for people, of an installed function its name; None where there is neither."""
    try:
        part = part_of(thunk)
        if not is_users(part):
            return full_name(thunk, part).removeprefix("None.")[:limit]  # the module of a method of a text
    except Exception:  # noqa: BLE001 - odd callables must not cost the value (C3)
        return None
    text = _text_of(part if isinstance(part, type) else part.__code__)
    return None if text is None else text[:limit].strip()


def source_texts(seen: Seen) -> Mapping[str, str]:
    """The sources of what a thunk names, by the names of its code fingerprint, as far as they are short and can be read."""
    texts: dict[str, str] = {}
    left = ALL_CHARS
    for name, found in seen.parts:
        part = found() if isinstance(found, weakref.ref) else found
        text = None if part is None else _text_of(part)
        if text is None or len(text) > min(left, TEXT_CHARS):
            continue
        left -= len(text)
        texts[name] = f"{texts[name]}\n\n{text}" if name in texts else text
    return texts


def file_name(seen: Seen, name: str) -> str:
    """The name of the module's file that something named by a thunk stands in; empty where it is none, as for a cell."""
    for known, found in seen.parts:
        part = found() if isinstance(found, weakref.ref) else found
        if known != name or part is None:
            continue
        path = (
            getattr(sys.modules.get(part.__module__), "__file__", None) if isinstance(part, type) else part.co_filename
        )
        modules = [module for called, module in list(sys.modules.items()) if called != "__main__"]
        if path and any(getattr(module, "__file__", None) == path for module in modules):
            return os.path.basename(path)
    return ""


def _text_of(part: types.CodeType | type) -> str | None:
    try:
        if isinstance(part, type):
            if part not in _of_classes:  # finding it takes the parsing of its whole file
                _of_classes[part] = _tidy(_class_text(part))
            return _of_classes[part]
        return _code_text(part, part.co_filename)
    except Exception:  # noqa: BLE001 - a tokenizer at odds with the text must not cost the value (C3)
        return None


@functools.lru_cache(maxsize=2048)
def _code_text(code: types.CodeType, _file_name: str) -> str | None:
    """The text of a function's code; codes of two files may be equal."""
    try:
        return _tidy(inspect.getsource(code))
    except OSError:
        return None


def _tidy(text: str | None) -> str | None:
    return None if text is None else textwrap.dedent(text).strip("\n").rstrip()


def _class_text(cls: type) -> str | None:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # of a notebook's class Python knows no file; its methods do
        for method in methods_in(vars(cls)).values():
            code = method.__code__
            lines = linecache.getlines(code.co_filename)
            for node in ast.walk(ast.parse("".join(lines))):
                if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
                    end = node.end_lineno or node.lineno
                    if node.lineno <= code.co_firstlineno <= end:
                        return "".join(lines[node.lineno - 1 : end])
    return None
