"""The objects around an error, walked through for what tells secrets.

These are its attributes, the variables of its frames, and what the functions behind them name: closures, globals, defaults.
"""

from __future__ import annotations

import functools
import itertools
import linecache
import re
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from nbstep.cache.failures.bare import attributes
from nbstep.cache.secrets.headers import header_pairs, is_headers_name, unmistakable
from nbstep.cache.secrets.redaction import literal_headers, redact_text
from nbstep.cache.secrets.suspicion import is_secret_name
from nbstep.cache.secrets.telling import Telling
from nbstep.foreign import interrupts, own
from nbstep.tracebacks import OWN_FOLDER, is_installed

_OBJECTS_AT_MOST: Final = 5000
_ITEMS_AT_MOST: Final = 64
_FRAMES_AT_MOST: Final = 200
_LINES_AT_MOST: Final = 2000
_DEPTH_AT_MOST: Final = 6
_URL_NAME: Final = re.compile(r"(?:.*_)?(?:url|uri|dsn|conninfo)", re.IGNORECASE)
_PLAIN: Final = (
    type(None),
    bool,
    int,
    float,
    complex,
    type,
    types.ModuleType,
    types.CodeType,
    types.FrameType,
)
# Large, or the machinery of the notebook: no request is in there.
_ELSEWHERE: Final = frozenset(
    {
        "IPython", "asyncio", "concurrent", "ipykernel", "joblib", "logging", "matplotlib", "nbstep", "numpy", "pandas", "polars",
        "pyarrow", "scipy", "sklearn", "threading", "torch", "tornado", "traitlets", "zmq",
    }
)  # fmt: skip
_WEB: Final = frozenset(
    {"aiohttp", "botocore", "email", "http", "httpx", "httpx2", "multidict", "requests", "starlette", "urllib3", "yarl"}
)
_HEADER_CLASSES: Final = frozenset(
    {
        "CIMultiDict",
        "CIMultiDictProxy",
        "CaseInsensitiveDict",
        "HTTPHeaderDict",
        "HTTPHeaders",
        "HTTPMessage",
        "Headers",
    }
)
_RESPONSE: Final = re.compile(r".*Response.*|HTTPMessage")


def redaction_of(
    errors: Iterable[BaseException], around: Iterable[Any], redact: Callable[[str], str] | None
) -> Callable[[str], str]:
    """A function that takes out of a text what is secret by its looks, or by what can be seen around the errors.

    Args:
        errors: What failed.
        around: Other objects that may know of the requests: what was returned, the thunk and its arguments.
        redact: The user's own redaction, applied last.
    """
    scrub = telling_of(errors, around).scrubber()

    def shown(text: str) -> str:
        text = redact_text(scrub(text))
        return text if redact is None else str(redact(text))

    return shown


def telling_of(errors: Iterable[BaseException], around: Iterable[Any] = ()) -> Telling:
    """What must not be told of the requests that the errors came from."""
    walk = _Walk()
    errors = list(errors)
    for value in (*errors, *around):
        walk.see("", value)
    for error in errors:
        for frame in _frames(own(error, "__traceback__")):
            walk.scope(frame.f_code, frame.f_globals, dict(_variables(frame)))
    return walk.telling


class _Walk:
    """Sees each object once, and calls none of the user's code: attributes are read where they are kept."""

    def __init__(self) -> None:
        self.telling = Telling()
        self._seen: dict[int, Any] = {}
        self._read = set[types.CodeType]()

    def scope(self, code: types.CodeType, names: dict[str, Any], variables: dict[str, Any], depth: int = 0) -> None:
        """What code that ran could use: its variables, and the headers that stand in its text."""
        for name, value in variables.items():
            self.see(name, value, depth)
        if code in self._read:
            return
        self._read.add(code)
        for name, value, named in literal_headers(_source(code, names)):
            self.telling.header(name, _value_of(value, variables) if named else value)

    def see(self, name: str, value: Any, depth: int = 0, *, sent: bool = True) -> None:
        """One value under its name; `sent` is false for what belongs to a response."""
        kind = type(value)  # isinstance() would ask the object for its __class__
        if issubclass(kind, str | bytes):
            self._text(name, value)
            return
        if issubclass(kind, _PLAIN) or depth > _DEPTH_AT_MOST or id(value) in self._seen:
            return
        if len(self._seen) >= _OBJECTS_AT_MOST or _library(kind) in _ELSEWHERE:
            return
        self._seen[id(value)] = value  # kept alive, or its id may be another's
        try:
            self._object(name, value, depth, sent)
        except interrupts():
            raise
        except BaseException:  # noqa: BLE001 - a container of another library may do anything
            return

    def _object(self, name: str, value: Any, depth: int, sent: bool) -> None:
        if type(value) is types.FunctionType:
            if not _is_of_a_library(value.__code__):
                self.scope(value.__code__, value.__globals__, dict(_named_by(value)), depth + 1)
            return
        kind = type(value).__name__
        if _RESPONSE.fullmatch(kind) or name.lower().startswith("response"):
            sent = False
        elif "Request" in kind:
            sent = True
        if self._headers(name, value, sent):
            return
        if _library(type(value)) in _WEB:
            if kind == "Cookie":
                self.telling.header("cookie", f"{value.name}={value.value}")
            elif kind == "Morsel":
                self.telling.header("cookie", f"{value.key}={value.value}")
            elif kind == "URL":
                self.telling.url(str(value))
        for inner_name, inner in itertools.chain(
            _items(name, value), itertools.islice(attributes(value), _ITEMS_AT_MOST)
        ):
            self.see(inner_name, inner, depth + 1, sent=sent)

    def _headers(self, name: str, value: Any, sent: bool) -> bool:
        classed = type(value).__name__ in _HEADER_CLASSES and _library(type(value)) in _WEB
        pairs = header_pairs(value) if classed or type(value) in (dict, list, tuple, set) else None
        if pairs is None or not (classed or is_headers_name(name) or unmistakable(pairs)):
            return False
        for header, content in pairs:
            self.telling.header(header, content, sent=sent)
        return True

    def _text(self, name: str, value: str | bytes) -> None:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if len(text) > 4096:
            return
        if name == "_auth_header":
            self.telling.header("authorization", text)
        elif is_secret_name(name):
            self.telling.secret(name, text)
        elif _URL_NAME.fullmatch(name) and "://" in text:
            self.telling.url(text)


def _library(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]


def _items(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The first items of a container, with the name each one has there."""
    kind = type(value)
    base = next((base for base in (dict, list, tuple, set, frozenset) if issubclass(kind, base)), None)
    items: Iterable[tuple[Any, Any]] = ()
    if base is dict:
        items = dict.items(value)
    elif base is not None:
        user_and_password = name.lstrip("_") == "auth" and base in (list, tuple) and base.__len__(value) == 2
        names = ("user", "password") if user_and_password else getattr(kind, "_fields", None) or itertools.repeat(name)
        items = zip(names, base.__iter__(value), strict=False)
    elif kind is functools.partial:
        names = value.func.__code__.co_varnames if type(value.func) is types.FunctionType else ()
        items = [
            ("", value.func),
            *itertools.zip_longest(names[: len(value.args)], value.args),
            *value.keywords.items(),
        ]
    elif kind is types.MethodType:
        items = [("", value.__self__), ("", value.__func__)]
    elif issubclass(kind, BaseException):
        items = [("", own(value, "args"))]
    elif kind.__name__.endswith("CookieJar") and _library(kind) in _WEB:
        items = (("", cookie) for cookie in value)
    for inner_name, inner in itertools.islice(items, _ITEMS_AT_MOST):
        yield str(inner_name) if isinstance(inner_name, str | bytes) else "", inner


def _frames(trace: types.TracebackType | None) -> list[types.FrameType]:
    """The user's frames; of very many the outermost, and the innermost, where it failed."""
    frames: list[types.FrameType] = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(OWN_FOLDER):
            frames.append(trace.tb_frame)
        trace = trace.tb_next
    half = _FRAMES_AT_MOST // 2
    return frames if len(frames) <= _FRAMES_AT_MOST else frames[:half] + frames[-half:]


def _variables(frame: types.FrameType) -> Iterator[tuple[str, Any]]:
    """A frame's own variables, and the globals that its code names."""
    if frame.f_locals is not frame.f_globals:
        yield from list(frame.f_locals.items())
    for name in frame.f_code.co_names:
        if name in frame.f_globals:
            yield name, frame.f_globals[name]


def _named_by(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function can use without being given it: the globals and closure cells that it names, and its defaults."""
    code, defaults = function.__code__, function.__defaults__ or ()
    for name in _names(code):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue  # not set yet
    positional = code.co_varnames[: code.co_argcount]
    yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def _names(code: types.CodeType) -> Iterator[str]:
    """The names that code looks up, and the code of the functions in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _value_of(expression: str, variables: dict[str, Any]) -> str | bytes:
    """What `team` or `self.team` holds, if it is a text."""
    name, *path = expression.split(".")
    value = variables.get(name)
    for name in path:
        value = dict(attributes(value)).get(name)
    return value if isinstance(value, str | bytes) else ""


def _is_of_a_library(code: types.CodeType) -> bool:
    return is_installed(code.co_filename) or code.co_filename.startswith(OWN_FOLDER)


def _source(code: types.CodeType, names: dict[str, Any]) -> str:
    if _is_of_a_library(code):
        return ""
    last = max((line for _, line, _, _ in code.co_positions() if line), default=code.co_firstlineno)
    lines = linecache.getlines(code.co_filename, names)
    return "".join(lines[code.co_firstlineno - 1 : min(last, code.co_firstlineno + _LINES_AT_MOST)])
