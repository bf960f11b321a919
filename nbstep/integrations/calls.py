"""The calls of a `joblib.Memory` by their keys, and what lists say of them."""

from __future__ import annotations

import hashlib
import os
from typing import Final
from urllib.parse import unquote

from nbstep.cache.records import Facts

PREFIX: Final = "joblib:"
_CODE: Final = ":code"
_DIGITS: Final = 16  # of joblib's digest of the arguments; 64 bits, as in other keys


def function_name(func_id: str) -> str:
    """A function as keys name it, by joblib's path to it; one of a script or a notebook without the path, by a digest of it.

    >>> function_name("etl/fetch"), function_name("__main__--tmp-ipykernel-1234/fetch")
    ('etl.fetch', 'fetch@3ce731e6')
    """
    module, *names = unquote(func_id).replace(os.sep, "/").split("/")
    if not names or not module.startswith("__main__"):
        return ".".join((module, *names))
    return f"{'.'.join(names)}@{hashlib.sha256(func_id.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def call_key(func_id: str, args_id: str) -> str:
    """The key of one call.

    >>> call_key("etl/fetch", "5d41402abc4b2a76b9719d911017c592")
    'joblib:etl.fetch:5d41402abc4b2a76'
    """
    return f"{PREFIX}{function_name(func_id)}:{args_id[:_DIGITS]}"


def code_key(func_id: str) -> str:
    """The key of a function's source text.

    >>> code_key("etl/fetch")
    'joblib:etl.fetch:code'
    """
    return f"{PREFIX}{function_name(func_id)}{_CODE}"


def is_result(key: str) -> bool:
    """Whether a key is that of a call."""
    return key.startswith(PREFIX) and not key.endswith(_CODE)


def beginnings(func_id: str) -> tuple[str, str]:
    """How the keys begin of a function's calls and code, and those of the functions inside it."""
    name = f"{PREFIX}{function_name(func_id)}"
    return f"{name}:", f"{name}.<locals>."


def arguments_text(key: str, facts: Facts) -> str:
    """The arguments of a call for a list, "uid=1, lang='de'"; "" for what is none.

    >>> arguments_text("joblib:etl.fetch:5d41402abc4b2a76", Facts(0.0, inputs={"uid": "1", "*": "[]", "**": "{'a': 2}"}))
    "uid=1, **{'a': 2}"
    """
    if not is_result(key):
        return ""
    given = [(name, text) for name, text in facts.inputs.items() if (name, text) not in {("*", "[]"), ("**", "{}")}]
    return ", ".join(name + text if name in {"*", "**"} else f"{name}={text}" for name, text in given)
