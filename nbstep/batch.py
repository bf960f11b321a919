"""step.map: one step an item, on joblib's threads."""

from __future__ import annotations

import contextvars
import string
import threading
from collections.abc import Callable, Iterable
from typing import Any, cast

from nbstep.cache.flight import blocked_threads
from nbstep.collisions.compare import scalars_differ
from nbstep.collisions.look import sight
from nbstep.collisions.message import value_text
from nbstep.errors import KeyCollision
from nbstep.keys import NoStableText, fill_template
from nbstep.result import Err, Ok
from nbstep.runs.hooks import thunk_guard
from nbstep.runs.state import Run
from nbstep.thunks import surely_awaitable


def check_map(fn: object, items: object, n_jobs: object, run: Run) -> None:
    """Refuses what `step.map` cannot do.

    Raises:
        TypeError: `fn` is no plain function, `items` cannot be iterated, or the run's store is async.
        ValueError: `n_jobs` is no number of threads.
    """
    if not callable(fn) or not isinstance(items, Iterable):
        got = f"{type(fn).__name__} and {type(items).__name__}"
        raise TypeError(f"step.map takes a function and items: step.map(fetch, items, key=…); got {got}")
    if not isinstance(n_jobs, int) or isinstance(n_jobs, bool) or n_jobs == 0:
        raise ValueError(f"n_jobs={n_jobs!r}: use a number of threads, 1 or more; -1 is one for each core")
    store_is_async = run.cache is not None and run.cache.is_async
    if surely_awaitable(fn) or store_is_async:
        what = "a sync store" if store_is_async else "a plain function"
        raise TypeError(
            f"step.map takes {what}; for async write: await asyncio.gather(*[step(fetch, i, key=…) for i in items])"
        )


def map_steps(
    one: Callable[[Any, str], Ok[Any] | Err[Any]],
    items: Iterable[Any],
    key: str | Callable[[Any], str],
    n_jobs: int,
    check_keys: Callable[[list[str]], None],
    with_f: str | None = None,
) -> list[Ok[Any] | Err[Any]]:
    """Takes `one` step for each item and gives the results in the items' order.

    Every item is an entry of its own: only missing items run, an interrupt loses only what was in flight. `with_f` is the key
    with the `f` that was forgotten, where it was.

    Raises:
        TypeError: `key` is neither a function nor a template.
        ValueError: The template has no place for the item.
        KeyCollision: Two different items would share a key.
    """
    __tracebackhide__ = True
    make_key = _key_function(key)
    work = [(item, make_key(item)) for item in items]
    _check_shared(work, with_f)
    check_keys([item_key for _, item_key in work])

    from joblib import Parallel, delayed

    blocked = blocked_threads.set(blocked_threads.get() | {threading.get_ident()})
    try:
        # Each item runs in a copy of this context, so that it belongs to this run, whatever thread it gets.
        calls = [delayed(contextvars.copy_context().run)(one, item, item_key) for item, item_key in work]
        with thunk_guard():  # an interrupt ends the wait, also in a cell that awaits
            results: Any = Parallel(n_jobs=n_jobs, require="sharedmem")(calls)
    finally:
        blocked_threads.reset(blocked)
    return results


def _check_shared(work: list[tuple[Any, str]], with_f: str | None) -> None:
    """One key for items that certainly differ would give one item the other's result (K8)."""
    first: dict[str, Any] = {}
    fix = f"write f before the quotes: key=lambda …: {with_f}" if with_f else "put into the key what tells them apart"
    for item, key in work:
        other = first.setdefault(key, item)
        if other is not item and scalars_differ(sight(other), sight(item)):
            raise KeyCollision(
                f"step.map: the items {value_text(sight(other))} and {value_text(sight(item))} would share the key {key!r}; {fix}"
            )


def _filled(template: str, item: object) -> str:
    try:
        return fill_template(template, item)
    except NoStableText as error:
        text = str(error).replace("step.key cannot", f"step.map: key={template!r} cannot")
        raise TypeError(text.replace("pass what", "write key=lambda item: f'…' with what")) from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(
            f"key={template!r} does not fit the item {item!r:.80} ({error}); {{}} stands for the item, and for parts of it "
            "write key=lambda item: f'…'"
        ) from None


def _key_function(key: object) -> Callable[[Any], str]:
    if isinstance(key, str):
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(key) if name is not None]
        except ValueError as error:
            raise ValueError(f"key={key!r} is no template ({error}); double a brace that is meant: {{{{ }}}}") from None
        if not names:
            raise ValueError(
                f"key={key!r} would be the same for every item; write where the item goes: key={key + ':{}'!r}"
            )
        return lambda item: _filled(key, item)
    if callable(key):
        return cast("Callable[[Any], str]", key)
    raise TypeError(
        f'step.map needs a key for each item: key=lambda item: f"user:{{item}}" or key="user:{{}}"; got {key!r}'
    )
