"""Which server a URL or a client means, under which prefix, and how that is shown: without user, password and options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from nbstep.durations import to_seconds

SCHEMES: Final = ("redis", "rediss", "unix")
TIMEOUT_S: Final = 1.0
_PREFIX: Final = "nbstep:"
_MODULES: Final = {"redis.client": False, "redis.asyncio.client": True}


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """Where entries are kept.

    Attributes:
        shown: As people may see it.
        opens: Whether that is enough to find it: the URL holds no login, and nothing else that is not shown.
        prefix: What the name of every key of ours begins with.
        timeout_s: How long one call may take that moves little.
        url: For redis-py; it may hold a password.
        given: The URL as `cache=` was given it.
    """

    shown: str
    opens: bool = False
    prefix: str = _PREFIX
    timeout_s: float = TIMEOUT_S
    url: str = field(default="", repr=False)
    given: str = field(default="", repr=False, compare=False)

    @property
    def server(self) -> str:
        """Host and port, or the path of its socket."""
        address = self.shown.partition("://")[2].partition("?")[0]
        return address.partition("/")[0] if self.shown.startswith("redis") else address.rpartition("/")[2]


def read_url(url: str) -> RedisPlace:
    """What a URL says; `?prefix=` and `?timeout=` are ours, all other options redis-py's.

    Raises:
        ValueError: It is none; the message shows nothing of it, as what is no URL may hold a password anywhere.

    >>> read_url("rediss://ada:secret@cache:6380/2?prefix=team&timeout=500ms").shown
    'rediss://cache:6380/2?prefix=team'
    """
    scheme = url.partition(":")[0].lower()
    parts = _split(f"{scheme}{url[len(scheme) :]}")
    if parts is None or not _is_complete(parts):
        raise ValueError(
            f"cache={scheme}://… is no URL of a Redis server: write {_form(scheme)}. In a user or a password, "
            "percent-encode each / ? # [ ] @ and :"
        )
    given = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(given)
    prefix = f"{options['prefix'].rstrip(':')}:" if options.get("prefix") else _PREFIX
    server = f"{parts.netloc.rpartition('@')[2]}{parts.path}"
    rest = urlencode([(name, value) for name, value in given if name not in {"prefix", "timeout"}])
    return RedisPlace(
        shown=f"{scheme}://{server}{_shown_options(prefix, options)}",
        opens="@" not in parts.netloc and options.keys() <= {"db", "prefix", "timeout"},
        prefix=prefix,
        timeout_s=_timeout_s(options["timeout"]) if "timeout" in options else TIMEOUT_S,
        url=f"{scheme}://{parts.netloc}{parts.path}{'?' if rest else ''}{rest}",
        given=url,
    )


def place_of(client: Any) -> RedisPlace:
    """The server of a client, as far as its connection tells."""
    options: dict[str, Any] = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    database = options.get("db") or 0
    if path := options.get("path"):
        shown = f"unix://{path}?db={database}"
    else:
        shown = f"redis://{options.get('host', '…')}:{options.get('port', 6379)}/{database}"
    return RedisPlace(shown, timeout_s=options.get("socket_timeout") or TIMEOUT_S)


def client_is_async(target: Any) -> bool | None:
    """Whether a client of redis-py is async; None for anything else, as a class made from one that has a store's `has`."""
    if hasattr(target, "has"):
        return None
    for cls in type(target).__mro__:
        if cls.__name__ == "Redis" and cls.__module__ in _MODULES:
            return _MODULES[cls.__module__]
    return None


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; None where it has none, as with a bracket in a password, which seems to begin an address."""
    try:
        return urlsplit(url)
    except ValueError:  # it may show what stands in the brackets
        return None


def _is_complete(parts: SplitResult) -> bool:
    """Whether nothing of a login can have slipped into what is shown."""
    if "@" in parts.query or parts.fragment:
        return False
    if parts.scheme == "unix":
        return len(parts.path) > 1 and (not parts.netloc or parts.netloc.endswith("@"))
    try:
        port_is_one = parts.port != 0
    except ValueError:
        return False
    database = parts.path.strip("/")
    return port_is_one and bool(parts.hostname) and (not database or database.isdecimal())


def _timeout_s(text: str) -> float:
    try:
        timeout_s = to_seconds(float(text) if text.replace(".", "", 1).isdecimal() else text, "timeout")
    except ValueError:
        timeout_s = None
    if not timeout_s:
        raise ValueError(f'?timeout={text:.40} in cache=: give seconds, as in ?timeout=2, or "500ms"')
    return timeout_s


def _form(scheme: str) -> str:
    if scheme == "unix":
        return "unix:///run/redis.sock?db=0, with unix://USER:PASSWORD@/run/redis.sock where it wants a login"
    return f"{scheme}://HOST:6379/0, with {scheme}://USER:PASSWORD@HOST:6379/0 where it wants a login"


def _shown_options(prefix: str, options: dict[str, str]) -> str:
    told = [f"db={options['db']}"] if options.get("db", "").isdecimal() else []
    told += [] if prefix == _PREFIX else [f"prefix={quote(prefix.rstrip(':'), safe='')}"]
    return "?" + "&".join(told) if told else ""
