"""`step`: checks what it was given and takes the step in the active run."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import PurePath
from types import FrameType
from typing import Any, Final, Literal, TypeVar, overload

from nbstep.active import current_run
from nbstep.batch import check_map, map_steps
from nbstep.calls import Options
from nbstep.durations import Duration, to_seconds
from nbstep.events import Place
from nbstep.keys import check_key, make_key
from nbstep.options import UNSET, misplaced
from nbstep.policy import POLICY_OPTIONS, policy_changes, with_changes
from nbstep.result import Err, Ok
from nbstep.runs import Run
from nbstep.take import take_step
from nbstep.thunks import check_thunk

T = TypeVar("T")


class Step:
    """`step(thunk, *args, key=…)`: runs the thunk once and keeps its value, or its error, under the key.

    The same object everywhere: it uses the active run, so code moves from a cell into a module unchanged (W5).
    """

    key = staticmethod(make_key)

    @overload
    def __call__(
        self, thunk: Callable[..., Awaitable[T]], *args: Any, key: str | None = ..., **options: Any
    ) -> Awaitable[T]: ...
    @overload
    def __call__(self, thunk: Callable[..., T], *args: Any, key: str | None = ..., **options: Any) -> T: ...
    def __call__(
        self,
        thunk: Callable[..., Any],
        *args: Any,
        key: str | None = None,
        refresh: bool = False,
        retries: int = 0,
        timeout: Duration | None = None,
        on_error: Literal["raise", "keep"] = "raise",
        **options: Any,
    ) -> Any:
        """Runs one step.

        Args:
            thunk: The callable that does the work, plain or async.
            *args: Its positional arguments.
            key: What the result is kept under; None keeps nothing.
            refresh: Run again even if there is an entry.
            retries: How many more attempts a failure that may pass gets; only the last outcome is kept.
            timeout: For each attempt of an async thunk; passing it raises `StepTimeout`, never kept.
            on_error: "keep" hands back `Ok(value)` or `Err(error)` instead of raising.
            **options: The policy: ttl, error_ttl, cache_errors, stale_if_error, on_drift; see `create_workflow`.

        Returns:
            What the thunk gives, or gave when it was kept; something to await if the thunk is async or the store is.

        Raises:
            TypeError: `thunk` is no callable, or an option is unknown or belongs elsewhere.
            ValueError: The key is empty or too long.
            Exception: What the thunk raised, now or when it was kept.
        """
        __tracebackhide__ = True
        caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        return _ask(
            caller, thunk, args, options, key=key, refresh=refresh, retries=retries, timeout=timeout, on_error=on_error
        )

    def map(
        self,
        fn: Callable[[Any], T],
        items: Iterable[Any],
        *,
        key: str | Callable[[Any], str] = UNSET,
        n_jobs: int = 8,
        on_error: Literal["raise", "keep"] = "raise",
        **options: Any,
    ) -> list[Any]:
        """Runs `fn(item)` as one keyed step for each item, on joblib's threads.

        Args:
            fn: A plain function of one item.
            items: The items.
            key: A function of the item, or a template: `"user:{}"`.
            n_jobs: How many threads.
            on_error: "raise" lets every item run, then raises the first failure; "keep" puts `Ok` and `Err` in place.
            **options: Any other option of `step`.

        Returns:
            The results in the items' order.

        Raises:
            TypeError: `fn` is async, or the store is; `key` is missing; an option belongs elsewhere.
            ValueError: The template has no place for the item.
            Exception: The first failure, in the items' order.

        >>> step.map(str.upper, ["a", "b"], key="upper:{}")
        ['A', 'B']
        """
        __tracebackhide__ = True
        check_map(fn, on_error, current_run())
        caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]

        def one(item: Any, item_key: str) -> Ok[Any] | Err[Any]:
            return _ask(caller, fn, (item,), options, key=item_key, on_error="keep")

        results = map_steps(one, items, key, n_jobs)
        return results if on_error == "keep" else [result.unwrap() for result in results]

    def __repr__(self) -> str:
        return "<nbstep.step: step(thunk, *args, key=…)>"


step: Final = Step()


def _ask(
    caller: FrameType,
    thunk: Any,
    args: tuple[Any, ...],
    options: dict[str, Any],
    *,
    key: Any = None,
    refresh: Any = False,
    retries: Any = 0,
    timeout: Any = None,
    on_error: Any = "raise",
) -> Any:
    """Checks what `step` was given, then takes the step."""
    __tracebackhide__ = True
    if key is not None:
        key = check_key(key)
    thunk = check_thunk(thunk, key)
    for option in options:
        if option not in POLICY_OPTIONS:
            raise misplaced(option, "step")
    run = current_run()
    policy = with_changes(run.policy, policy_changes(options)) if options else run.policy
    if not isinstance(refresh, bool):
        raise TypeError(f"refresh= takes True or False, got {refresh!r}")
    if on_error not in ("raise", "keep"):
        raise ValueError(f'on_error={on_error!r}: use "raise" or "keep"')
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise ValueError(f"retries={retries!r}: use a whole number, 0 or more")
    timeout_s = to_seconds(timeout, "timeout")
    checked = Options(policy, refresh, retries, timeout_s, on_error == "keep")
    return take_step(run, key, thunk, args, checked, _place_of(caller, run))


def _place_of(caller: FrameType, run: Run) -> Place:
    code = caller.f_code
    filename: str = code.co_filename
    if filename.startswith("<") or "ipykernel_" in filename or "ipython-input" in filename:
        return Place(run.place.notebook, run.place.cell, caller.f_lineno)
    return Place(PurePath(filename).name, None, caller.f_lineno)
