"""`step`: the function that everything is about, its `map`, `cached` and `key`; `ask` does the work."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    import os

    from nbstep.durations import Duration
    from nbstep.runs.state import Run

P = ParamSpec("P")
T = TypeVar("T")
_MISSING: Final = object()


class Step:
    """`step(thunk, *args, key=…)`: runs the thunk once and keeps its value, or its error, under the key.

    It uses the active run, so code moves from a cell into a module unchanged. The one that the body of a workflow is given uses
    that workflow's where no run is active, as in the threads of a pool.

    Args:
        run: The run of the body it is given to.
    """

    __slots__ = ("run",)

    def __init__(self, run: Run | None = None) -> None:
        self.run = run

    @staticmethod
    def key(*names: object, **arguments: object) -> str:
        """Builds a readable, stable key from names and arguments; see `nbstep.keys.make_key`.

        Of floats 12 digits count, so that `0.3` and `0.1 + 0.2` are one; `1` and `1.0` are two. What is long becomes a digest.

        Raises:
            TypeError: An argument has no stable text, such as a client or a lambda.

        >>> step.key("cv", lr=0.1, depth=3)
        'cv:lr=0.1:depth=3'
        """
        return importlib.import_module("nbstep.keys").make_key(*names, **arguments)

    @overload
    def __call__(
        self, thunk: Callable[..., Awaitable[T]], *args: Any, key: str | None = ..., **options: Any
    ) -> Awaitable[T]: ...
    @overload
    def __call__(self, thunk: Callable[..., T], *args: Any, key: str | None = ..., **options: Any) -> T: ...
    def __call__(
        self,
        thunk: Any = _MISSING,
        *args: Any,
        key: str | None = None,
        refresh: bool = False,
        retries: int = 0,
        timeout: Duration | None = None,
        on_error: Literal["raise", "keep"] = "raise",
        ignore: str | Iterable[str] = (),
        files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
        **options: Any,
    ) -> Any:
        """Runs one step.

        Args:
            thunk: The callable that does the work, plain or async.
            *args: Its positional arguments.
            key: What the result is kept under; None keeps nothing.
            refresh: Run again even if there is an entry.
            retries: How many more attempts a failure gets, with growing pauses; only the last outcome is kept. Not retried: a
                program error such as NameError, and an HTTP status that will not change by itself, such as 404.
            timeout: For each attempt of an async thunk; passing it raises `StepTimeout`, which is never kept.
            on_error: "keep" hands back `Ok(value)` or `Err(error)` instead of raising.
            ignore: Names of inputs that do not count when an entry is compared with now.
            files: Files whose size and time count, beside those that arguments and variables name; `()` is none at all.
            **options: The policy: ttl, error_ttl, cache_errors, stale_if_error, on_drift; see `create_workflow`.

        Returns:
            What the thunk gives, or gave when it was kept; something to await if the thunk is async or the store is.

        Raises:
            TypeError: `thunk` is no callable, or an option is unknown or belongs elsewhere.
            ValueError: The key is empty or too long.
            Exception: What the thunk raised, now or when it was kept.
        """
        __tracebackhide__ = True
        if thunk is _MISSING:
            raise TypeError("step needs the function to run: step(lambda: …, key=…), or step(fn, argument, key=…)")
        caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        try:
            return _asking().ask(
                caller, self.run, thunk, args, options, key=key, refresh=refresh, retries=retries, timeout=timeout,
                on_error=on_error, ignore=ignore, files=files,
            )  # fmt: skip
        except BaseException as error:
            _asking().without_first(error)
            raise

    @overload
    def map(  # pyright: ignore[reportOverlappingOverload]
        self, fn: Callable[[Any], Awaitable[T]], items: Iterable[Any], **options: Any
    ) -> Coroutine[Any, Any, list[Any]]: ...
    @overload
    def map(self, fn: Callable[[Any], T], items: Iterable[Any], **options: Any) -> list[Any]: ...
    def map(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *others: object,
        key: str | Callable[[Any], str] | None = None,
        n_jobs: int | None = None,
        rate: str | None = None,
        on_error: Literal["raise", "keep"] = "raise",
        **options: Any,
    ) -> Any:
        """Runs `fn(item)` as one keyed step for each item, several at once: only what is not kept runs.

        A plain function runs on threads; with `joblib.parallel_config(backend="loky")` around it in processes, with "dask" or
        "ray" on their cluster. An `async def` runs as tasks, and the map is to be awaited; a cache behind a URL is asked in
        threads meanwhile, a store of your own with plain methods on the tasks' event loop, which waits for it. Workers keep values
        by themselves where they reach the cache (a server, a bucket, the same folder) and have the same signing key; else those
        come back here first.

        An item that its worker process dies of fails alone, with `WorkerError`; what died with it is done again.

        Args:
            fn: A function of one item.
            items: The items; of a generator only as many are held as are at work.
            *others: Refused: `zip` makes one of several iterables, and `key` has a name.
            key: A function of the item, or a template: `"user:{}"`. An item whose key is None runs and is not kept, and a line
                says so, as mostly a `return` was forgotten.
            n_jobs: How many at once: 8 threads, 32 tasks, or what the backend's configuration says.
            rate: How often `fn` may be called at most: "10/s", "600/min", "1000/h". What `retries=` adds counts too, but not in
                worker processes, which try again by themselves.
            on_error: "raise" lets every item run, then raises the first failure; "keep" puts `Ok` and `Err` in place.
            **options: Any other option of `step`.

        Returns:
            The results in the items' order; if `fn` is async or the store is, something to await for them.

        Raises:
            TypeError: `key` is missing; an option belongs elsewhere; `fn` does not take one item, or cannot be sent to a worker
                process; `items` is a text, or a frame, which would give its columns' names.
            ValueError: The template has no place for the item, or `rate` is none.
            KeyCollision: Two items have one key and certainly differ, as other numbers, texts, dates or functions do. Where lists,
                dicts, rows or arrays differ a line says so, and the first one's value is that of both
                (of a generator's, of more than 10,000, or with `refresh=True`, that which began first).
            Exception: The first failure, in the items' order.

        >>> step.map(str.upper, ["a", "b"], key="upper:{}")
        ['A', 'B']
        """
        __tracebackhide__ = True
        caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        try:
            return _asking().ask_all(
                caller, self.run, fn, items, others, options, key=key, n_jobs=n_jobs, rate=rate, on_error=on_error
            )
        except BaseException as error:
            _asking().without_first(error)
            raise

    @overload
    def cached(self, template: Callable[P, T], /) -> Callable[P, T]: ...
    @overload
    def cached(self, template: str | None = None, /, **options: Any) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
    def cached(self, template: Any = None, /, **options: Any) -> Any:
        """Decorates a function, plain or async: each call is a step, under a key made of its arguments.

        Args:
            template: Names what identifies a call: `"user:{uid}"`. Left out, the key is the call, `fetch_user(uid=1)`, and only
                plain values may be passed. Defaults are applied first.
            **options: Any other option of `step`.

        Returns:
            The function, or a decorator where the template or an option was given.

        Raises:
            TypeError: It stands on no function, or on a method without a template; an option belongs elsewhere.
            ValueError: The template names an argument that the function does not take.

        >>> @step.cached("square:{n}")
        ... def square(n):
        ...     return n * n
        >>> square(4)
        16
        """
        return importlib.import_module("nbstep.steps.cached").cached(self, template, options)

    def __reduce__(self) -> str | tuple[Any, ...]:
        return "step" if self is step else (_the_one, ())  # pickles name it; a run stays in its process

    def __repr__(self) -> str:
        return "<nbstep.step: step(thunk, *args, key=…)>"


step: Final = Step()


def _the_one() -> Step:
    return step


@functools.cache
def _asking() -> Any:
    """What takes steps, imported with the first one: `from nbstep import step` and the notebook extension cost little."""
    return importlib.import_module("nbstep.steps.ask")
