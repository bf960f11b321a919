"""The objects around an error: its attributes, and the variables of its frames, walked through for what tells secrets."""

from __future__ import annotations

import functools
import itertools
import linecache
import re
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any, Final

from nbstep.cache.failures.bare import attributes
from nbstep.cache.secrets.headers import header_pairs, is_headers_name, unmistakable
from nbstep.cache.secrets.redaction import literal_headers
from nbstep.cache.secrets.suspicion import is_secret_name
from nbstep.cache.secrets.telling import Telling
from nbstep.foreign import interrupts, own
from nbstep.tracebacks import OWN_FOLDER

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
    types.FunctionType,
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


def telling_of(errors: Iterable[BaseException]) -> Telling:
    """What must not be told of the requests that the errors came from."""
    walk = _Walk()
    errors, read = list(errors), set[types.CodeType]()
    for error in errors:
        walk.see("", error)
    for error in errors:
        for frame in _frames(own(error, "__traceback__")):
            variables = dict(_variables(frame))
            for name, value in variables.items():
                walk.see(name, value)
            if frame.f_code in read:
                continue
            read.add(frame.f_code)
            for name, value, named in literal_headers(_source(frame)):
                walk.telling.header(name, _value_of(value, variables) if named else value)
    return walk.telling


class _Walk:
    """Sees each object once, and calls none of the user's code: attributes are read where they are kept."""

    def __init__(self) -> None:
        self.telling = Telling()
        self._seen: dict[int, Any] = {}

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
        items = value.keywords.items()
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


def _value_of(expression: str, variables: dict[str, Any]) -> str | bytes:
    """What `team` or `self.team` holds, if it is a text."""
    name, *path = expression.split(".")
    value = variables.get(name)
    for name in path:
        value = dict(attributes(value)).get(name)
    return value if isinstance(value, str | bytes) else ""


def _source(frame: types.FrameType) -> str:
    code = frame.f_code
    if "site-packages" in code.co_filename or code.co_filename.startswith(sys.base_prefix):
        return ""
    last = max((line for _, line, _, _ in code.co_positions() if line), default=code.co_firstlineno)
    lines = linecache.getlines(code.co_filename, frame.f_globals)
    return "".join(lines[code.co_firstlineno - 1 : min(last, code.co_firstlineno + _LINES_AT_MOST)])
