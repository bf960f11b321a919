"""Objects in a bucket, by name: a few calls of fsspec, each within a limit of time.

Nothing is tried again and again behind the caller's back. Only aiohttp sends a request once more, at once, whose connection
ended before any answer: so a request may come twice.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from nbstep.forks import ThreadLock
from nbstep.stores.base import Stamp
from nbstep.stores.breaker import Breaker
from nbstep.stores.objecterrors import code_of, told

A = TypeVar("A")
T = TypeVar("T")

CONNECT_S: Final = 3.0
ANSWER_S: Final = 10.0  # for all of a small call, credentials and connection included
QUIET_S: Final = 30.0  # of a large one: nothing came for so long
LISTING_S: Final = 60.0  # 1,000 names a request
SLOWEST_BYTES_PER_S: Final = 1_000_000
_AT_ONCE: Final = 16
_UPLOAD_BYTES: Final = 8 << 20  # four parts of it go at once: at the slowest they take as long as may be quiet
_DOWNLOAD_BYTES: Final = 32 << 20
# What other packages a file system needs, where fsspec itself cannot say it as an extra of ours.
_EXTRAS: Final = {"s3": "nbstep[s3]", "s3a": "nbstep[s3]"}
_WITH_PREFIX: Final = frozenset({"s3", "s3a", "gs", "gcs"})
_READ_ONLY: Final = frozenset({"github"})  # its class has the methods, and they raise
_READING: Final = frozenset({"cat_file", "find", "info"})


@dataclass(frozen=True, slots=True)
class Found:
    """An object as a listing tells of it; its stamp changes whenever the object does."""

    name: str
    stamp: Stamp
    size_bytes: int


class Objects:
    """The objects under one URL, by the rest of their names. All errors are `OSError`s that say what to people.

    Args:
        url: Of any scheme that fsspec knows.
        breaker: Told of each call that failed, and of each that was answered.

    Raises:
        ValueError: fsspec, or the package behind the scheme, is missing; or nobody knows the scheme; or it holds a password.
    """

    def __init__(self, url: str, breaker: Breaker) -> None:
        self.url = url.rstrip("/")
        self.place = shown_url(url)
        self._scheme = url.partition(":")[0].lower()
        self._breaker = breaker
        self._lock = ThreadLock()
        self._opened: tuple[int, Any, str] | None = None
        self._conditional = True
        check_scheme(self._scheme)
        if self._scheme in _WITH_PREFIX and "@" in url.partition("//")[2].partition("/")[0]:
            raise ValueError(
                f"cache={self.place}: credentials do not go into this URL; they come from the environment (AWS_ACCESS_KEY_ID, …), "
                "a profile, or fsspec's configuration"
            )

    def stands_on(self) -> str:
        """Which package of which version asks, and whom."""
        system = self._file_system()
        package = type(system).__module__.partition(".")[0]
        endpoint = getattr(system, "endpoint_url", None)
        version = getattr(sys.modules.get(package), "__version__", "of an unknown version")
        return f"asked by {package} {version}" + (f", at {shown_url(str(endpoint))}" if endpoint else "")

    def get(self, name: str, start: int, end: int) -> bytes | None:
        """The bytes from `start` to `end`, fewer where the object ends; None where there is none."""
        try:
            return self._call("cat_file", name, start=start, end=end, _bytes=end - start)
        except FileNotFoundError:
            return None
        except OSError as error:
            if code_of(error) not in {"InvalidRange", "416"}:
                raise
            return b""

    def fetch(self, name: str, size_bytes: int) -> bytearray:
        """A whole object, a large one in several pieces at once.

        Raises:
            EOFError: It is gone, or shorter.
        """
        content = bytearray(size_bytes)

        def fill(at: int) -> None:
            end = min(at + _DOWNLOAD_BYTES, size_bytes)
            piece = self.get(name, at, end)
            if piece is None or len(piece) != end - at:
                raise EOFError("it is gone, or became shorter")
            content[at:end] = piece

        self.at_once(fill, range(0, size_bytes, _DOWNLOAD_BYTES), workers=4)
        return content

    def size(self, name: str) -> int | None:
        """How many bytes an object has; None where there is none."""
        try:
            found: Mapping[str, Any] = self._call("info", name)
        except FileNotFoundError:
            return None
        return int(found.get("size") or 0)

    def put_new(self, name: str, content: bytes) -> bool:
        """Puts an object where none stands; False where one does.

        Of several who do so at once one gets True, where the server knows conditional requests.
        """
        if self._conditional:
            try:
                self._put(name, content, mode="create")
            except FileExistsError:
                return False
            except (OSError, TypeError, NotImplementedError) as error:
                if code_of(error) in {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}:
                    return False
                if isinstance(error, OSError) and code_of(error) not in {"NotImplemented", "501"}:
                    raise
                self._conditional = False
            else:
                return True
        if self.size(name) is not None:
            return False
        self._put(name, content)
        return True

    def put(self, name: str, content: bytes) -> None:
        """Puts an object, in the place of one that stands there."""
        self._put(name, content)

    def copy(self, name: str, to: str) -> bool:
        """Copies an object without moving it through here; False where there is none."""
        try:
            self._call("cp_file", name, self._path(to))
        except FileNotFoundError:
            return False
        return True

    def delete(self, name: str) -> bool:
        """Deletes an object; False where the server says that there was none, which not all do."""
        try:
            self._call("rm_file", name)
        except FileNotFoundError:
            return False
        return True

    def listed(self, folder: str) -> list[Found]:
        """The objects whose names begin with `folder` and a slash, as they are now."""
        at = folder
        options: dict[str, Any] = {}
        if (
            self._scheme in _WITH_PREFIX
        ):  # asked for a folder that is not there, they would look whether it is an object
            at, _, last = folder.rpartition("/")
            options = {"prefix": f"{last}/"}
        try:
            found: Mapping[str, Mapping[str, Any]] = self._call("find", at, detail=True, _limit_s=LISTING_S, **options)
        except FileNotFoundError:
            return []
        begin = self._path("") + "/"
        return [
            Found(path.removeprefix(begin), _stamp(facts), int(facts.get("size") or 0))
            for path, facts in found.items()
            if path.startswith(begin) and facts.get("type") == "file"
        ]

    def at_once(self, act: Callable[[A], T], items: Iterable[A], workers: int = _AT_ONCE) -> list[T]:
        """Does something with each item, several at a time; the first error stops what has not begun."""
        items = list(items)
        if len(items) < 2:
            return [act(item) for item in items]
        pool = ThreadPoolExecutor(min(workers, len(items)))
        try:
            return list(pool.map(act, items))
        finally:
            pool.shutdown(cancel_futures=True)

    def _put(self, name: str, content: bytes, **options: Any) -> None:
        if self._scheme in _EXTRAS:
            options["chunksize"] = _UPLOAD_BYTES
        try:
            self._call("pipe_file", name, content, _bytes=len(content), **options)
        except FileNotFoundError:
            system = self._file_system()
            if system.async_impl:  # there a folder is a bucket, and that is not ours to make
                raise
            self._call("makedirs", name.rpartition("/")[0], exist_ok=True)
            self._call("pipe_file", name, content, _bytes=len(content), **options)

    def _call(
        self, method: str, name: str, *args: Any, _bytes: int = 0, _limit_s: float | None = None, **options: Any
    ) -> Any:
        limit_s = (_limit_s or ANSWER_S) + _bytes / SLOWEST_BYTES_PER_S
        began = time.monotonic()
        try:
            system, path = self._file_system(), self._path(name)
            if system.async_impl:
                from fsspec.asyn import sync  # as everything of fsspec: only where such a cache is used

                result = sync(system.loop, getattr(system, f"_{method}"), path, *args, timeout=limit_s, **options)
            else:
                result = _in_thread(lambda: getattr(system, method)(path, *args, **options), limit_s)
        except (TypeError, NotImplementedError):
            raise  # the file system lacks this call, or an option of it
        except Exception as error:
            told_error = told(error, self.place, limit_s, reading=method in _READING)
            self._breaker.failed(told_error, time.monotonic() - began)
            if told_error is error:
                raise
            raise told_error from None  # it says all; what led to it are forty frames of others
        self._breaker.answered()
        return result

    def _path(self, name: str) -> str:
        self._file_system()
        root = cast("tuple[int, Any, str]", self._opened)[2]
        return f"{root}/{name}" if name else root

    def _file_system(self) -> Any:
        with self._lock:
            if (
                self._opened is None or self._opened[0] != os.getpid()
            ):  # a forked child has no thread that serves the other
                system = _open(self._scheme, self.url)
                self._opened = (os.getpid(), system, str(system._strip_protocol(self.url)).rstrip("/"))
            return self._opened[1]


def check_scheme(scheme: str) -> None:
    """Raises `ValueError` where fsspec does not know a scheme, the package for it is missing, or it can only read there."""
    extra = _EXTRAS.get(scheme, "nbstep[s3]")
    try:
        import fsspec
    except ImportError:
        raise ValueError(f"cache={scheme}:// needs fsspec: pip install '{extra}'") from None
    try:
        system: Any = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        how = f"pip install '{extra}'" if scheme in _EXTRAS else f"install what fsspec needs for it ({error})"
        raise ValueError(f"cache={scheme}:// needs another package: {how}") from None
    except ValueError:
        raise ValueError(
            f"cache={scheme}:…: unknown scheme {scheme!r}; known are memory:, file:, redis://, rediss://, unix://, s3:// and what "
            "else fsspec knows, and plain paths"
        ) from None
    if scheme in _READ_ONLY or not _deletes(system):
        raise ValueError(
            f"cache={scheme}://…: nothing can be kept or deleted by {scheme}; name a folder, redis://…, or a bucket, s3://…"
        )


def _deletes(system: Any) -> bool:
    """Whether a class of fsspec's has a way of its own to delete a file: one that only reads has none."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    common: tuple[Any, ...] = (AsyncFileSystem, AbstractFileSystem, object)
    ways = ("_rm_file", "_rm", "rm_file", "rm")
    return any(way in vars(cls) for cls in system.__mro__ if cls not in common for way in ways)


def _open(scheme: str, url: str) -> Any:
    """A file system of our own, whose time-outs nobody else has: it remembers no listing, and repeats nothing."""
    import fsspec
    from fsspec.config import conf

    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    system_class: Any = fsspec.get_filesystem_class(scheme)
    if scheme in _EXTRAS:
        named: dict[str, Any] = {**conf.get("s3", {}), **conf.get(scheme, {})}.get("config_kwargs") or {}
        limits = {"connect_timeout": CONNECT_S, "read_timeout": QUIET_S}
        options["config_kwargs"] = {**limits, **named, "retries": {"total_max_attempts": 1}}
        options["max_concurrency"] = 4
    system = system_class(**{**system_class._get_kwargs_from_urls(url), **options})
    if scheme in _EXTRAS:
        system.retries = 1
    return system


def _stamp(facts: Mapping[str, Any]) -> Stamp:
    """What changes whenever an object does, as far as a file system tells it."""
    told = [
        facts.get(name)
        for name in ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "updated", "created")
    ]
    return (hash(tuple(map(str, told))), int(facts.get("size") or 0))


def _in_thread(call: Callable[[], T], limit_s: float) -> T:
    """What a call gives that takes no limit of time itself; one that hangs is left behind."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised where it was asked for
            errors.append(error)

    thread = threading.Thread(target=run, name="nbstep-objects", daemon=True)
    thread.start()
    thread.join(limit_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]


def shown_url(url: str) -> str:
    """A URL as shown: without what may be a password, a token or an option.

    >>> shown_url("sftp://ada:hunter2@host/cache?token=1")
    'sftp://host/cache'
    """
    return re.sub(r"//[^/@]*:[^/]*@", "//", url.partition("?")[0]).rstrip("/")
