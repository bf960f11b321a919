"""step.map: one step an item, on joblib's threads."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from typing import Any, cast

from nbstep.result import Err, Ok
from nbstep.thunks import Thunk, surely_awaitable

StepCall = Callable[..., Any]


def map_steps(
    step: StepCall,
    fn: Thunk,
    items: Iterable[Any],
    key: str | Callable[[Any], str],
    n_jobs: int,
    on_error: str,
    options: dict[str, Any],
) -> list[Any]:
    """Runs `fn(item)` as one keyed step for each item and gives the results in the items' order.

    Every item is an entry of its own: only missing items run, an interrupt loses only what was in flight. With
    `on_error="raise"` all items run first, then the first failure (in the items' order) is raised.

    Raises:
        TypeError: `fn` is async, or `key` is neither a function nor a template.
    """
    __tracebackhide__ = True
    if not callable(fn):
        raise TypeError(f"step.map takes a function and items: step.map(fetch, items, key=…); got {type(fn).__name__}")
    if surely_awaitable(fn):
        raise TypeError(
            "step.map takes a plain function; for async write: await asyncio.gather(*[step(fetch, i, key=…) …])"
        )
    if on_error not in {"raise", "keep"}:
        raise ValueError(f'on_error={on_error!r}: use "raise" or "keep"')
    make_key = _key_function(key)
    work = list(items)
    keys = [make_key(item) for item in work]

    from joblib import Parallel, delayed

    # Each item runs in a copy of this context, so that it belongs to this run, whatever thread it gets.
    calls = [
        delayed(contextvars.copy_context().run)(_one, step, fn, item, item_key, options)
        for item, item_key in zip(work, keys, strict=True)
    ]
    results: list[Any] = Parallel(n_jobs=n_jobs, prefer="threads")(calls)
    if on_error == "keep":
        return results
    for result in results:
        if isinstance(result, Err):
            result.unwrap()
    return [result.unwrap() for result in results]


def _one(step: StepCall, fn: Thunk, item: Any, key: str, options: dict[str, Any]) -> Ok[Any] | Err[Any]:
    return step(fn, item, key=key, on_error="keep", **options)


def _key_function(key: object) -> Callable[[Any], str]:
    if isinstance(key, str):
        if "{}" not in key:
            raise ValueError(f'key={key!r} would be the same for every item; write for example key="user:{{}}"')
        return lambda item: key.format(item)
    if callable(key):
        return cast("Callable[[Any], str]", key)
    raise TypeError(
        f'step.map needs a key for each item: key=lambda item: f"user:{{item}}" or key="user:{{}}"; got {key!r}'
    )
