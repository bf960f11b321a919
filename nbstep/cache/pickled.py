"""Functions that pickle streams call by name when they are loaded. They are part of the entry format: never rename one."""

from __future__ import annotations

import functools
import importlib
import io
import os
import pickle
import sys
import weakref
from collections.abc import Callable
from typing import Any, Final, cast

from nbstep.cache.classes import class_fingerprint, live_class
from nbstep.cache.failures.bare import put
from nbstep.cache.failures.clients import class_of_a_client, is_made_by_a_client
from nbstep.foreign import interrupts, own

ANY_VERSION: Final = "*"
OF_INSTANCES: Final = "instances:"  # before a class's fingerprint that is the same whatever its use changed
WHOLE: Final = "whole"  # stands in a part of an error for that error


def live_or_made_class(qualname: str, fingerprint: str, maker: Callable[..., type], args: tuple[Any, ...]) -> type:
    """The notebook's own class of this name if it is still the one that was kept; else one made from what was kept.

    A class object kept by value would be another class: `isinstance`, `except`, enum identity and dataclass equality would
    fail after a restart.
    """
    live = live_class(qualname)
    return maker(*args) if live is None or not _is_same(live, fingerprint) else live


def _is_same(live: type, fingerprint: str) -> bool:
    if fingerprint == ANY_VERSION:
        return True
    of_instances = fingerprint.startswith(OF_INSTANCES)
    return fingerprint.removeprefix(OF_INSTANCES) == class_fingerprint(live, state=not of_instances)


def set_class_state(cls: type, state: Any) -> type:
    """Fills a class that was made from what was kept; the notebook's own class stays as it is."""
    if live_class(cls.__qualname__) is cls:
        return cls
    from cloudpickle import cloudpickle

    return cloudpickle._class_setstate(cls, state)  # pyright: ignore[reportPrivateUsage]


BUILTIN_SLOTS: Final = {
    "OSError": ("errno", "strerror", "filename", "filename2"),
    "UnicodeDecodeError": ("encoding", "object", "start", "end", "reason"),
    "UnicodeEncodeError": ("encoding", "object", "start", "end", "reason"),
    "UnicodeTranslateError": ("object", "start", "end", "reason"),
    "SyntaxError": ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset", "print_file_and_line"),
    "ImportError": ("msg", "name", "path"),
    "AttributeError": ("name",),
    "NameError": ("name",),
    "StopIteration": ("value",),
}
_made: dict[tuple[str, tuple[type, ...]], type] = {}
# Classes of errors kept by this process that cannot be found by name: those made inside functions.
_known: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()


def class_spec(cls: type) -> tuple[Any, ...]:
    """How to find the class of an error again: by import, or as the notebook's class with these bases."""
    module = sys.modules.get(cls.__module__)
    found: Any = module
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is cls and cls.__module__ != "__main__":
        return "import", cls.__module__, cls.__qualname__
    token = next((token for token, known in _known.items() if known is cls), None) or os.urandom(12).hex()
    _known[token] = cls
    return "notebook", cls.__module__, cls.__qualname__, [class_spec(base) for base in cls.__bases__], token


def token_of(cls: type) -> str | None:
    """The token by which records of this process name a class that no other process finds by its name; None for others."""
    how, *_, token = class_spec(cls)
    return token if how == "notebook" else None


def known_class(token: str, cls: type) -> None:
    """Lets a record of another process find a class that was sent along with it."""
    _known[token] = cls


def error_class(spec: tuple[Any, ...]) -> type:
    """The class that `class_spec` described; a notebook's class of which nothing is left is made anew, without its methods.

    Raises:
        ImportError: Its module cannot be imported.
        LookupError: The module has no such class any more.
    """
    how, module, qualname, *origin = spec
    if how == "import":
        found: Any = importlib.import_module(module)
        for name in qualname.split("."):
            found = getattr(found, name, None)
        if not isinstance(found, type):
            raise LookupError(f"{module} has no class {qualname}")
        return found
    live = live_class(qualname)
    if live is not None and issubclass(live, BaseException):
        return live
    bases, token = origin
    if token in _known:
        return _known[token]
    parents = tuple(error_class(base) for base in bases)
    if (qualname, parents) not in _made:
        name = qualname.rpartition(".")[2]
        body = {"__module__": module, "__qualname__": qualname, "__str__": _recorded_text}
        _made[qualname, parents] = type(name, parents, body)
    return _made[qualname, parents]


def _recorded_text(error: BaseException) -> str:
    return str(getattr(error, "_nbstep_text", ""))


def rebuilt_error(record: dict[str, Any]) -> BaseException:
    """An exception out of its record, without calling `__init__`.

    Raises:
        Exception: Whatever importing its class or filling it raises.
    """
    error = _filled(record)
    if record["notes"]:
        own(error, "__dict__")["__notes__"] = list(record["notes"])
    for name in ("cause", "context"):
        if record[name] is not None:
            put(error, f"__{name}__", rebuilt_error(record[name]))
    put(error, "__suppress_context__", record["suppress"])
    return error


def _filled(record: dict[str, Any]) -> BaseException:
    if "urllib" in record:
        from urllib.error import HTTPError

        url, code, text, headers = pickle.loads(record["urllib"])
        return HTTPError(url, code, text, http_message(headers), io.BytesIO())
    if "own" in record:
        func, args, state = pickle.loads(record["own"])
        error = func(*args)
        if isinstance(state, dict):
            own(error, "__dict__").update(state)
        put(error, "args", tuple(_part(part, error) for part in record["args"]))
        return error
    cls = error_class(record["class"])
    if is_made_by_a_client(cls):
        cls = class_of_a_client(cls, _part(record["state"].get("operation_name", pickle.dumps(None))))
    if "group" in record:
        members = [rebuilt_error(member) for member in record["group"]]
        error = cast("Any", BaseExceptionGroup.__new__)(cls, _part(record["args"][0]), members)
    else:
        maker = next(base for base in cls.__mro__ if base.__module__ == "builtins" and "__new__" in vars(base))
        error = cast("BaseException", cast("Any", maker.__new__)(cls))
        put(error, "args", tuple(_part(part, error) for part in record["args"]))
    for name, part in record["slots"].items():
        try:
            put(error, name, _part(part, error))
        except (AttributeError, TypeError):
            continue  # a placeholder where only a number fits; a slot that the class has no more
    own(error, "__dict__").update((name, _part(part, error)) for name, part in record["state"].items())
    if any(cls is made for made in _made.values()):
        own(error, "__dict__")["_nbstep_text"] = record["message"]
    return error


class _PartUnpickler(pickle.Unpickler):
    def __init__(self, part: bytes, whole: BaseException) -> None:
        super().__init__(io.BytesIO(part))
        self._whole = whole

    def persistent_load(self, pid: Any) -> BaseException:  # noqa: ARG002 - there is but one
        """The error that the part is one of."""
        return self._whole


def _part(part: bytes, whole: BaseException | None = None) -> Any:
    try:
        return pickle.loads(part) if whole is None else _PartUnpickler(part, whole).load()
    except interrupts():
        raise
    except BaseException as error:  # noqa: BLE001 - one part of another version must not cost the whole error
        return f"<not loaded: {type(error).__name__}: {error}>"


def notebook_class(qualname: str) -> type:
    """The notebook's class of this name.

    Raises:
        LookupError: The notebook has none.
    """
    live = live_class(qualname)
    if live is None:
        raise LookupError(f"the notebook has no class {qualname}")
    return live


def memory_view(content: Any, form: str, shape: tuple[int, ...], readonly: bool) -> memoryview[Any]:
    """A view of bytes as the numbers they were."""
    view: Any = memoryview(content).cast("B")
    view = view.cast(form, shape) if view.nbytes else view.cast(form)
    return view.toreadonly() if readonly else view


def cached_property(func: Any, name: str | None, doc: str | None) -> Any:
    """A cached property; before Python 3.12 it has a lock, which cannot be pickled."""
    made = functools.cached_property(func)
    made.attrname, made.__doc__ = name, doc
    return made


def lru_cached(func: Any, parameters: dict[str, Any]) -> Any:
    """A function of the notebook that remembers its results; it comes back without them."""
    return functools.lru_cache(**parameters)(func)


def set_array_state(array: Any, state: tuple[Any, dict[str, Any]]) -> Any:
    """Fills an array of a class that keeps attributes beside its numbers."""
    held, attributes = state
    array.__setstate__(held)
    vars(array).update(attributes)
    return array


def http_request(library: str, method: str, url: str) -> Any:
    """A request of httpx, httpx2 or requests with its method and URL only."""
    module = importlib.import_module(library)
    if library != "requests":
        return module.Request(method, url)
    request = module.models.PreparedRequest()
    request.method, request.url, request.headers = method, url, module.structures.CaseInsensitiveDict()
    return request


def httpx_response(fields: dict[str, Any]) -> Any:
    """A response of httpx or httpx2 with status, body and harmless headers."""
    httpx = importlib.import_module(fields["library"])
    request = fields["request"]
    response = httpx.Response(
        fields["status_code"],
        headers=fields["headers"],
        content=fields["content"],
        request=None if request is None else httpx.Request(*request),
        extensions={"reason_phrase": fields["reason_phrase"].encode("ascii", "ignore")},
    )
    response.extensions["http_version"] = fields["http_version"].encode("ascii", "ignore")
    if fields["encoding"] is not None:
        response.encoding = fields["encoding"]
    return response


def requests_response(fields: dict[str, Any]) -> Any:
    """A response of requests with status, body and harmless headers."""
    requests = importlib.import_module("requests")
    response = requests.Response()
    for name in ("status_code", "encoding", "reason", "url", "elapsed"):
        setattr(response, name, fields[name])
    response._content, response._content_consumed = fields["content"], True
    response.headers = requests.structures.CaseInsensitiveDict(fields["headers"])
    if fields["request"] is not None:
        response.request = http_request("requests", *fields["request"])
    return response


def multidict_proxy(headers: dict[str, str]) -> Any:
    """Headers as aiohttp holds them."""
    multidict = importlib.import_module("multidict")
    return multidict.CIMultiDictProxy(multidict.CIMultiDict(headers))


def aiohttp_request_info(url: str, method: str, real_url: str) -> Any:
    """What an aiohttp error tells of its request, without headers."""
    make_url = importlib.import_module("yarl").URL
    return importlib.import_module("aiohttp").RequestInfo(
        make_url(url), method, multidict_proxy({}), make_url(real_url)
    )


def http_message(headers: dict[str, str]) -> Any:
    """Headers as urllib holds them."""
    message = importlib.import_module("http.client").HTTPMessage()
    for name, value in headers.items():
        message[name] = value
    return message
