"""What a `joblib.Memory` folder holds: found without loading anything, under the keys that `@step.cached` would give.

joblib keeps `LOCATION/joblib/MODULE/FUNCTION/DIGEST/output.pkl` (without `joblib` where LOCATION was given as a `Path`), beside it
`metadata.json` with the `repr` of the arguments, and `func_code.py` in the folder of the function. What stands in these files and
names is other people's text; loading `output.pkl` runs their code.
"""

from __future__ import annotations

import ast
import importlib
import json
import math
import os
import re
import stat
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from nbstep.integrations.reprs import plain_dict, plain_list, plain_value
from nbstep.keys import call_key, scalar_text
from nbstep.project import place_text
from nbstep.stores.documents import read_beginning

_DIGEST: Final = re.compile(r"[0-9a-f]{32}")
_LOOKED_FOR: Final = "MODULE/FUNCTION/DIGEST/output.pkl"
_DEPTH_AT_MOST: Final = 40  # folders from the top to a function; more is no module
_TEXT_BYTES_AT_MOST: Final = 1 << 20
_SHOWN_CHARS: Final = 200  # of one argument


@dataclass(frozen=True, slots=True)
class Kept:
    """One result of a `joblib.Memory` folder.

    Attributes:
        path: Its `output.pkl`.
        function: With its module, as in "etl.fetch".
        arguments: As joblib wrote them, "uid='1', lang='de'"; "" where that cannot be read.
        key: What it is kept under once it is taken over.
        size_bytes: Of the file.
        kept_at: Seconds since the epoch.
        took_s: How long the function ran; 0 where that cannot be read.
        awaitable: The function is `async def`.
        source: The function's source text; None where that cannot be read.
        problem: Why it cannot be taken over; None where it can.
    """

    path: Path
    function: str
    arguments: str
    key: str
    size_bytes: int
    kept_at: float
    took_s: float
    awaitable: bool
    source: str | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Function:
    """A function by its folder, and what its `func_code.py` says; `parameters` is None where that cannot be read.

    Parameters have the order of the signature, and their stars.
    """

    path: str
    name: str
    parameters: tuple[str, ...] | None
    awaitable: bool
    source: str | None


def find_results(location: Path) -> list[Kept]:
    """The results in a folder that `joblib.Memory` was given, or in its folder `joblib`; loads nothing.

    Raises:
        OSError: There are none; the message says what was looked for.
    """
    found: list[Kept] = []
    for top in (location / "joblib", location):
        for folder, digests in _function_folders(top):
            if top == location and folder.is_relative_to(location / "joblib"):
                continue  # found above
            function = _function(top, folder)
            found += [_result(function, folder / digest) for digest in digests if _is_result(folder / digest)]
    if not found:
        raise FileNotFoundError(_missing(location))
    return sorted(_apart(found), key=lambda one: (one.function, one.kept_at))


def load(result: Kept) -> Any:
    """The value of a result. Whoever could write to its folder can run code here.

    Raises:
        Exception: Whatever its pickle raises.
    """
    joblib = importlib.import_module("joblib")  # 144 ms
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old format, or another version of a package
        return joblib.load(result.path)


def _missing(location: Path) -> str:
    place = place_text(location)
    if not location.exists():
        return f"There is no folder {place}."
    if not location.is_dir():
        return f"{place} is no folder: name the one that joblib.Memory was given."
    return f"joblib.Memory kept nothing in {place}: there is no {_LOOKED_FOR} in it, nor in a folder joblib of it."


def _function_folders(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder of a function, with the names of its results; links are not followed."""
    waiting = [(top, 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                names = sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
        except OSError:
            continue
        digests = [name for name in names if _DIGEST.fullmatch(name)]
        if digests and depth:
            yield folder, digests
        if depth < _DEPTH_AT_MOST:
            waiting += [(folder / name, depth + 1) for name in reversed(names) if not _DIGEST.fullmatch(name)]


def _is_result(folder: Path) -> bool:
    """Whether a folder with the name of a digest is joblib's, whole or damaged."""
    return any(os.path.lexists(folder / name) for name in ("output.pkl", "metadata.json"))


def _function(top: Path, folder: Path) -> _Function:
    parts = folder.relative_to(top).parts
    source = _text(folder / "func_code.py")
    code = "" if source is None else source.partition("\n")[2]
    signature = signature_in(code)
    if "<locals>" in parts:
        own = parts[len(parts) - parts[::-1].index("<locals>") :]
    else:  # joblib writes a class as it writes a module; the source of a method is indented
        own = parts[-2:] if code[:1] in {" ", "\t"} else parts[-1:]
    return _Function(".".join(parts), ".".join(own), signature.parameters, signature.awaitable, code.strip() or None)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function's source tells of its calls.

    Attributes:
        parameters: In their order, with their stars; None where that cannot be read.
        awaitable: It is `async def`.
    """

    parameters: tuple[str, ...] | None = None
    awaitable: bool = False


def signature_in(code: str) -> Signature:
    """The signature of the function that a source text begins with.

    >>> signature_in("    async def f(x, *rest, y=1): ...")
    Signature(parameters=('x', '*rest', 'y'), awaitable=True)
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stray backslash
            body = ast.parse(textwrap.dedent(code)).body
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return Signature()
    first = body[0] if body else None
    if not isinstance(first, ast.FunctionDef | ast.AsyncFunctionDef):
        return Signature()
    return Signature(_parameters(first.args), isinstance(first, ast.AsyncFunctionDef))


def _parameters(arguments: ast.arguments) -> tuple[str, ...]:
    names = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [one.arg for one in arguments.kwonlyargs]
    return (*names, *([f"**{arguments.kwarg.arg}"] if arguments.kwarg else []))


def _result(function: _Function, folder: Path) -> Kept:
    path = folder / "output.pkl"
    problem, size_bytes, kept_at = None, 0, 0.0
    try:
        status = path.lstat()
    except OSError as error:
        problem = "there is no output.pkl" if isinstance(error, FileNotFoundError) else f"{error.strerror}: output.pkl"
    else:
        size_bytes, kept_at = status.st_size, status.st_mtime
        if not stat.S_ISREG(status.st_mode):
            problem = "output.pkl is no regular file"
        elif not size_bytes:
            problem = "output.pkl is empty"
    arguments, took_s = _metadata(folder / "metadata.json")
    digest = f"#{folder.name[:16]}"
    key = _key(function, arguments, digest)
    told = _told(function, arguments or {})
    return Kept(
        path, function.path, told, key, size_bytes, kept_at, took_s, function.awaitable, function.source, problem
    )


def _told(function: _Function, arguments: Mapping[str, str]) -> str:
    """The arguments in the order of the signature, as far as that is known."""
    names = in_order(function.parameters or (), arguments)
    return ", ".join(f"{name[:_SHOWN_CHARS]}={arguments[name][:_SHOWN_CHARS]}" for name in names)


def in_order(parameters: Sequence[str], arguments: Mapping[str, str]) -> list[str]:
    """The names by which joblib writes arguments, in the order of a signature; those that it does not have come last.

    >>> in_order(("x", "y", "*rest"), {"y": "2", "x": "1", "*": "[]"})
    ['x', 'y', '*']
    """
    order = [_written(name) for name in parameters]
    return [name for name in order if name in arguments] + [name for name in arguments if name not in order]


def _metadata(path: Path) -> tuple[dict[str, str] | None, float]:
    """The arguments by name, None where they cannot be read, and how long the call took."""
    try:
        record: Any = json.loads(_text(path) or "")
    except (ValueError, RecursionError):
        return None, 0.0
    if not isinstance(record, dict):
        return None, 0.0
    fields = cast("dict[str, Any]", record)
    took: Any = fields.get("duration")
    took_s = float(took) if type(took) in (int, float) and math.isfinite(took) and 0 <= took < 1e9 else 0.0
    arguments: Any = fields.get("input_args")
    if not isinstance(arguments, dict) or not all(isinstance(text, str) for text in arguments.values()):
        return None, took_s
    return cast("dict[str, str]", arguments), took_s


def _text(path: Path) -> str | None:
    try:
        beginning = read_beginning(path, _TEXT_BYTES_AT_MOST + 1)
    except OSError:
        return None
    if beginning is None or beginning.size_bytes > _TEXT_BYTES_AT_MOST:
        return None
    return beginning.read(0, _TEXT_BYTES_AT_MOST).decode("utf-8", "replace")


def _key(function: _Function, arguments: Mapping[str, str] | None, digest: str) -> str:
    """As bare `@step.cached` makes it; what has no text of its own counts by joblib's digest of all arguments."""
    try:
        if arguments is not None and function.parameters is not None:
            values = {name.lstrip("*"): _parsed(name, arguments) for name in _given(function.parameters, arguments)}
            told = [name for name in function.parameters if name.lstrip("*") in values]
            return call_key(function.name, told, values, lambda _, value: scalar_text(value) or digest)
        return call_key(function.name, ["*_"], {"_": [digest]}, lambda _, value: str(value))
    except (ValueError, TypeError):  # too long, or no Unicode
        return call_key("result", ["*_"], {"_": [digest]}, lambda _, value: str(value))


def _given(parameters: Sequence[str], arguments: Mapping[str, str]) -> Iterator[str]:
    """Those of a function's parameters of which joblib wrote something: not what `ignore=` names."""
    return (name for name in parameters if _written(name) in arguments)


def _written(parameter: str) -> str:
    """The name by which joblib writes a parameter: one with stars by these."""
    return parameter[: parameter.rfind("*") + 1] or parameter


def _parsed(parameter: str, arguments: Mapping[str, str]) -> object:
    text = arguments[_written(parameter)]
    if parameter.startswith("**"):
        return plain_dict(text)
    return plain_list(text) if parameter.startswith("*") else plain_value(text)


def _apart(results: Sequence[Kept]) -> list[Kept]:
    """The results under keys of their own: functions of one name get their modules into it, older results their digest."""
    functions = Counter(key for key, _ in {(one.key, one.function) for one in results})
    found: list[Kept] = []
    taken: set[str] = set()
    for one in sorted(results, key=lambda result: -result.kept_at):
        key = f"{one.function}: {one.key}" if functions[one.key] > 1 else one.key
        if key in taken:
            key += f" #{one.path.parent.name[:16]}"
        taken.add(key)
        found.append(replace(one, key=key))
    return found
