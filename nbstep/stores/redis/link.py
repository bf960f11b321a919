"""The way to a Redis server: each command with a hard time-out and no second try; what goes wrong, in our words."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from nbstep.durations import duration_text
from nbstep.notes import one_line
from nbstep.stores.base import NoRoom, ReadOnly
from nbstep.stores.breaker import Breaker
from nbstep.stores.redis.deadline import Deadline, limited
from nbstep.stores.redis.place import RedisPlace, client_is_async

Command: TypeAlias = tuple[Any, ...]

_AT_ONCE: Final = 500  # commands in one go: the server answers nobody else meanwhile
_ASKED_OR_NOTED: Final = {"HMGET", "HGET", "GET", "SRANDMEMBER", "SADD"}  # nothing is lost where these come to nothing
# A server without memory takes these, though not between MULTI and EXEC, where it would have to remember them.
_TAKEN_WHEN_FULL: Final = {"RENAME", "RENAMENX", "PERSIST", "PEXPIRE", "UNLINK"}
_BOUND_TO_THE_POOL: Final = ("maint_notifications", "orig_")  # options of a connection that belong to its own pool
_SCANNED: Final = 1000  # keys it looks at for one SCAN
_UNDECODED: Final = {"NEVER_DECODE": True}  # redis-py's: bytes come back as bytes, whatever the client says


class LoginRefused(ConnectionError):  # noqa: N818 - says what happened
    """The server does not take the user or the password."""

    happened = "refused the login"  # said instead of "did not answer"


class NotUsable(ConnectionError):  # noqa: N818 - as above
    """What answers there serves nothing here: it is another service, or has no such database. It stays so for a while."""

    happened = "could not be used"


class Link:
    """One server, as the store speaks to it. Over a plain client nothing here ever suspends.

    Args:
        client: A client of redis-py.
        place: The server.
        is_async: Whether the client's calls are to be awaited.
        deadline: When a call over a plain client ends; an async one has the time-out for all of a call.

    Attributes:
        breaker: Told of each call that failed, and of each that was answered.
    """

    def __init__(self, client: Any, place: RedisPlace, *, is_async: bool, deadline: Deadline | None = None) -> None:
        self.breaker = Breaker(place.shown)
        self.is_async = is_async
        self._client = client
        self._place = place
        self._deadline = deadline or Deadline(place.timeout_s)

    async def ask(self, *command: Any) -> Any:
        """The reply to one command."""
        return (await self.ask_all([command]))[0]

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to some commands, each on its own; None where one is about a value of another type.

        Raises:
            OSError: The server did not answer, or refused one of them.
        """
        replies: list[Any] = []
        for at in range(0, len(commands), _AT_ONCE):
            replies += await self._replies(commands[at : at + _AT_ONCE], together=False)
        return replies

    async def change(self, *commands: Command) -> list[Any]:
        """The replies to some commands that take effect together, or not at all; None where one found nothing to rename.

        In a server without memory those that need none take effect one after the other.

        Raises:
            OSError: The server did not answer, or refused one of them.
        """
        try:
            return await self._replies(commands, together=True)
        except NoRoom:
            if not _TAKEN_WHEN_FULL.issuperset(command[0] for command in commands):
                raise
        return await self._replies(commands, together=False)

    async def names(self, pattern: str) -> list[str]:
        """The keys in the server that match a glob, each once."""
        found: dict[bytes, None] = {}
        cursor: Any = 0
        while True:
            cursor, names = await self.ask("SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED)
            found.update(dict.fromkeys(names))
            if not int(cursor):
                return [name.decode("utf-8", "replace") for name in found]

    async def _replies(self, commands: Sequence[Command], *, together: bool) -> list[Any]:
        began = time.monotonic()
        try:
            sent = await self._sent(commands, together=together)
            replies = [_checked(command[0], reply) for command, reply in zip(commands, sent, strict=True)]
        except Exception as error:
            told = _in_our_words(error, self._place, self._place.timeout_s if self.is_async else self._deadline.limit_s)
            self.breaker.failed(told, time.monotonic() - began)
            if told is error:
                raise
            raise told from error
        self.breaker.answered()
        return replies

    async def _sent(self, commands: Sequence[Command], *, together: bool) -> list[Any]:
        pipeline = self._client.pipeline(transaction=together)
        for command in commands:
            pipeline.execute_command(*command, **({} if together else _UNDECODED))
        if not self.is_async:
            self._deadline.begin()
            return pipeline.execute(raise_on_error=False)
        import asyncio  # a shell command over a plain client does without it: 60 ms

        async with asyncio.timeout(self._place.timeout_s):
            return await pipeline.execute(raise_on_error=False)


def connected(place: RedisPlace) -> Link:
    """The way to the server of a URL; connects with the first command.

    Raises:
        ModuleNotFoundError: redis-py is missing; says what installs it.
        ValueError: redis-py does not know an option of the URL.
    """
    redis = _redis()
    try:
        pool = redis.ConnectionPool.from_url(place.url, **_limits(place.timeout_s))
        pool.connection_class(**pool.connection_kwargs)  # makes none: it only checks the options
    except (TypeError, ValueError, redis.RedisError) as error:
        raise ValueError(f"cache={place.shown}: redis-py does not take an option of this URL: {error}") from None
    return _limited_link(pool, place)


def of_client(client: Any, place: RedisPlace) -> Link:
    """The way to the server of a client.

    A plain client's server is reached by connections of our own, made as the client makes its own: those may wait for ever,
    try again and again, or decode what is no text. An async client, whose connections belong to its event loop, is used itself.
    """
    redis, is_async = _redis(), client_is_async(client) is True
    pool = getattr(client, "connection_pool", None)
    if is_async or type(pool) not in (redis.ConnectionPool, redis.BlockingConnectionPool):
        return Link(client, place, is_async=is_async)
    options: dict[str, Any] = {
        name: value
        for name, value in pool.connection_kwargs.items()  # pyright: ignore[reportOptionalMemberAccess]
        if not name.startswith(_BOUND_TO_THE_POOL)
    }
    options |= _limits(place.timeout_s)
    own = redis.ConnectionPool(connection_class=pool.connection_class, **options)  # pyright: ignore[reportOptionalMemberAccess]
    return _limited_link(own, place)


def _limited_link(pool: Any, place: RedisPlace) -> Link:
    deadline = Deadline(place.timeout_s)
    pool.connection_class = limited(pool.connection_class, deadline)
    return Link(_redis().Redis(connection_pool=pool), place, is_async=False, deadline=deadline)


def _redis() -> Any:
    try:
        import redis  # only who keeps something there has it
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        text = "cache=redis://… needs redis-py, which is not installed: pip install 'nbstep[redis]'"
        raise ModuleNotFoundError(text, name="redis") from None
    return redis


def _limits(timeout_s: float) -> dict[str, Any]:
    """What keeps a call short: by itself redis-py tries ten times more."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return {
        "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False, "retry_on_error": [], "health_check_interval": 0, "decode_responses": False, "protocol": 2,
        "socket_read_size": 1 << 18,
    }  # fmt: skip


def _checked(command: str, reply: Any) -> Any:
    """A reply; None instead of the error that there was nothing to rename, or that a value of another type stands there."""
    if not isinstance(reply, Exception):
        return reply
    if "no such key" in str(reply) or (command in _ASKED_OR_NOTED and "WRONGTYPE" in str(reply)):
        return None
    raise reply


def _in_our_words(error: Exception, place: RedisPlace, limit_s: float) -> Exception:
    """What went wrong, as an `OSError` that says what to do where that is known; `limit_s` is what the call had."""
    from redis import exceptions as redis

    text = one_line(
        str(error).rpartition(" of pipeline caused error: ")[2]
    )  # which names a command of ours, each time another
    if isinstance(error, TimeoutError | redis.TimeoutError):
        return TimeoutError(f"no answer from {place.server} within {duration_text(limit_s)}")
    if isinstance(error, redis.AuthenticationError | redis.AuthorizationError):
        return LoginRefused(f"{one_line(text, 100).rstrip('.')}: set user and password in the URL")
    if isinstance(error, redis.OutOfMemoryError):
        fix = "delete some of it, raise its maxmemory, or let it evict (maxmemory-policy allkeys-lru)"
        return NoRoom(errno.ENOSPC, f"{place.shown} has no memory left for it: {fix}")
    if isinstance(error, redis.ReadOnlyError):
        return ReadOnly(f"{place.shown} is a replica", "Name the primary server")
    if text.startswith("MISCONF"):
        return ReadOnly(f"{place.shown} cannot save to its own disk", "See its log")
    if text.startswith("BUSY "):
        return ConnectionError(f"{place.shown} is busy running a script; its command SCRIPT KILL ends that")
    if isinstance(error, redis.MasterDownError):  # redis-py makes it a kind of ClusterDownError
        return ConnectionError(f"{place.shown} is a replica whose primary server is away")
    if isinstance(error, redis.MovedError | redis.ClusterDownError):
        return NotUsable("it is part of a Redis Cluster: name a server that stands alone")
    if "DB index" in text:
        return NotUsable(f"{text}: name a database that it has, or leave it out")
    if isinstance(error, redis.InvalidResponse):
        return NotUsable(f"what answers there is no Redis server, {one_line(text, 80)}")
    if isinstance(error, redis.NoPermissionError):
        return PermissionError(f"{text}: its user needs `~{place.prefix}* +@read +@write +@transaction`")
    if isinstance(error, redis.ConnectionError):
        return ConnectionError(text)
    return OSError(text) if isinstance(error, redis.RedisError) else error
