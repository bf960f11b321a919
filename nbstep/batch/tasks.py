"""The items of a `step.map`, as tasks of the running event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from nbstep.batch.keying import Keyed
from nbstep.result import Err, Ok

_TASKS: Final = 32  # where nobody says how many


async def in_tasks(
    one: Callable[[Any, str | None], Awaitable[Any]], work: Iterable[Keyed], n_jobs: int | None
) -> list[Ok[Any] | Err[Any]]:
    """Awaits `one` step for each item, `n_jobs` at once; gives the results in the items' order."""
    __tracebackhide__ = True
    results: list[Any] = []
    left = enumerate(work)

    async def take_turns() -> None:
        __tracebackhide__ = True
        for at, item in left:  # shared: each task takes the next one
            results.append(None)
            try:
                results[at] = await one(item.item, item.key)
            except asyncio.CancelledError as stopped:
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                results[at] = Err(stopped)  # its own doing: a group takes no notice of a task that ends so

    at_once = _TASKS if n_jobs is None else n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)
    tasks: list[asyncio.Task[None]] = []
    first: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(take_turns()) for _ in range(at_once)]
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
    if first is not None:  # raised out here it keeps its cause and its context
        raise first
    return results
