"""A cache in a Redis server."""

from __future__ import annotations

from typing import Final

from faults.removals.removal import Removal

REDIS: Final = (
    Removal(
        "redis-never-rests",
        "a Redis server that did not answer is not left alone",
        "stores/redis/link.py",
        "            self.breaker.failed(told)\n",
        "",
        (
            "redis::down_from_the_start",
            "redis::goes_down_while_a_workflow_runs",
            "redis::while_a_large_entry_is_written",
        ),
    ),
    Removal(
        "redis-of-another-kind",
        "a Redis server without the database counts as one that answers",
        "stores/redis/link.py",
        '    if "DB index" in text:\n',
        "    if False:\n",
        ("redis::a_database_that_is_not_there",),
    ),
    Removal(
        "redis-py-shown",
        "an interrupt shows where in redis-py it came",
        "tracebacks.py",
        '"distributed", "redis", ',
        '"distributed", ',
        ("redis::an_interrupt_while_a_server_is_waited_for",),
    ),
    Removal(
        "redis-py-tries-again",
        "redis-py tries again by itself",
        "stores/redis/link.py",
        '"retry": Retry(NoBackoff(), 0)',
        '"retry": Retry(NoBackoff(), 12)',
        ("redis::a_frozen_server_is_waited_for_once", "redis::that_would_wait_and_try_for_long[30]"),
    ),
    Removal(
        "clients-wait",
        "a client without a time-out waits for ever",
        "stores/redis/place.py",
        'options.get("socket_timeout") or TIMEOUT_S',
        'options.get("socket_timeout") or 20.0',
        ("redis::that_would_wait_and_try_for_long[None]",),
    ),
    Removal(
        "async-clients-wait",
        "an async client without a time-out waits for ever",
        "stores/redis/link.py",
        "asyncio.timeout(self._place.timeout_s)",
        "asyncio.timeout(20.0)",
        ("redis::behind_an_async_client",),
    ),
    Removal(
        "redis-py-raises",
        "errors of redis-py are no `OSError`",
        "stores/redis/link.py",
        "            raise told from error\n",
        "            raise\n",
        ("redis::freezes_between_two_pieces",),
    ),
    Removal(
        "large-pieces",
        "the pieces of a large entry are large",
        "stores/redis/document.py",
        "PIECE_BYTES: Final = 1 << 20",
        "PIECE_BYTES: Final = 1 << 28",
        ("redis::a_slow_server_within_the_time_out", "redis::600_mb_go_there_and_back"),
    ),
    Removal(
        "login-unsaid",
        "a server that refuses the login is said not to answer",
        "stores/breaker.py",
        'getattr(error, "happened", "did not answer")',
        '"did not answer"',
        ("redis::a_wrong_password",),
    ),
    Removal(
        "permissions-unsaid",
        "it is not said what a user of the server lacks",
        "stores/redis/link.py",
        "    if isinstance(error, redis.NoPermissionError):\n",
        "    if False:\n",
        ("redis::a_user_that_may_not_write",),
    ),
    Removal(
        "replica-unsaid",
        "a replica is a server that did not take an entry",
        "stores/redis/link.py",
        "    if isinstance(error, redis.ReadOnlyError):\n",
        "    if False:\n",
        ("redis::a_replica_is_read",),
    ),
    Removal(
        "cluster-unsaid",
        "it is not said that a server is part of a cluster",
        "stores/redis/link.py",
        "    if isinstance(error, redis.MovedError | redis.ClusterDownError):\n",
        "    if False:\n",
        ("redis::a_server_of_a_cluster",),
    ),
    Removal(
        "full-with-trash",
        "a server without memory keeps our trash",
        "stores/redis/store.py",
        "if attempt == 2 or not await self._trash.empty():",
        "if True:",
        ("redis::without_memory_empties_our_trash",),
    ),
    Removal(
        "pushes-out",
        "an entry as large as the server pushes out all others",
        "stores/redis/writing.py",
        "        await self._check_room(size)\n",
        "",
        ("redis::larger_than_half_of_the_server",),
    ),
    Removal(
        "unfinished-for-ever",
        "what a killed process left in a server stays for ever",
        "stores/redis/writing.py",
        ', ("PEXPIRE", written, _UNFINISHED_MS)',
        "",
        ("redis::killed_while_it_writes",),
    ),
)
