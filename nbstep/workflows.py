"""create_workflow: bodies of steps that end in `Ok` or `Err`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from typing import Any, cast, get_args

from nbstep.cache.cache import Cache
from nbstep.cache.secrets.redaction import redacted_repr
from nbstep.deps import Deps
from nbstep.durations import Duration
from nbstep.errors import StepFailed
from nbstep.events import Listener
from nbstep.foreign import is_a, is_awaitable
from nbstep.notes import recount
from nbstep.options import UNSET
from nbstep.options import misplaced as misplaced_option
from nbstep.policy import CacheErrors, Cause, OnDrift, policy_changes
from nbstep.result import Err, Ok, handed_back, unseen
from nbstep.runs.active import as_cache, current_run, open_run
from nbstep.runs.hooks import active_run, set_ambient_run
from nbstep.runs.state import Run, explain_await
from nbstep.settings import Mode
from nbstep.steps.awaitable import ToAwait, discard
from nbstep.steps.front import Step, step
from nbstep.tracebacks import trim

__all__ = [
    "Deps",
    "Step",
    "Workflow",
    "active_run",
    "create_workflow",
    "current_run",
    "open_run",
    "set_ambient_run",
    "step",
]


class Workflow:
    """A way to run bodies of steps against one cache; made by `create_workflow`.

    Attributes:
        cache: Where its steps are kept, None where nothing is; the project's cache is found at the first run.
    """

    def __init__(
        self, deps: Any, cache: Any, name: str | None, mode: str | None, on_event: Any, policy: dict[str, Any]
    ):
        self._deps = Deps(deps) if type(deps) is dict else deps
        self._cache = as_cache(cache) if cache is not UNSET else UNSET
        self._name = name
        self._mode = mode
        self._listeners: tuple[Listener, ...] = () if on_event is None else (on_event,)
        self._policy = policy

    @property
    def cache(self) -> Cache | None:
        """Where its steps are kept."""
        return as_cache(self._cache)

    def __call__(self, body: Callable[..., Any], **misplaced: Any) -> Any:
        """Runs `body(step)`, or `body(step, deps)` if it takes two positional parameters.

        That `step` uses this run in the threads of the body's own pools too, where `nbstep.step` finds none.

        Returns:
            `Ok(value)` or `Err(error)`; for an `async def` body an awaitable of that. `Err` exactly when a step's failure left
            the body.

        Raises:
            TypeError: `body` is not callable, or options were given here that belong to `create_workflow`.
            BaseException: Whatever else left the body: a bug is not turned into a result.
        """
        __tracebackhide__ = True
        for option in misplaced:
            raise misplaced_option(option, "workflow(body)")
        if not callable(body):
            raise TypeError(
                f"workflow(body) takes a function of step; got {type(body).__name__}: write workflow(lambda step: …)"
            )
        takes_deps = _takes_deps(body, given=self._deps is not None)
        run = open_run(
            self._name, cache=self._cache, mode=self._mode, policy=self._policy, listeners=self._listeners,
        )  # fmt: skip
        args = (Step(run), self._deps) if takes_deps else (Step(run),)
        token = active_run.set(run)
        try:
            value = body(*args)
        except BaseException as error:  # noqa: BLE001 - told apart there; a bug goes on
            return _failed(run, error)
        finally:
            active_run.reset(token)
        if is_awaitable(value):
            return _AwaitableRun(run, cast("Awaitable[Any]", value))
        return _succeeded(run, value)


class _AwaitableRun(Coroutine[Any, Any, Any]):
    """What a workflow with an async body gives; one never awaited is named when it is collected."""

    def __init__(self, run: Run, body: Awaitable[Any]) -> None:
        self._run, self._body, self._begun = run, body, False
        self._running = _finish(run, body)

    def __await__(self) -> Generator[Any, Any, Any]:
        __tracebackhide__ = True
        self._begun = True
        return self._running.__await__()

    def send(self, value: Any, /) -> Any:
        """Runs on to the next suspension, as a task does."""
        __tracebackhide__ = True
        self._begun = True
        return self._running.send(value)

    def throw(self, *error: Any) -> Any:
        """Throws into the body, as a cancelled task does."""
        __tracebackhide__ = True
        self._begun = True
        return self._running.throw(*error)

    def close(self) -> None:
        """Gives the run up."""
        self._begun = True
        self._running.close()
        discard(self._body)

    def __repr__(self) -> str:
        return f"<a run of {_label(self._run)}, to be awaited: await workflow(body)>"

    def __del__(self) -> None:
        if self._begun:
            return
        self.close()
        self._run.find(
            "never-awaited", None, f"{_label(self._run)} is async, and was never awaited: await workflow(body)"
        )
        self._run.close()


async def _finish(run: Run, body: Awaitable[Any]) -> Ok[Any] | Err[Any]:
    __tracebackhide__ = True
    token = active_run.set(run)
    try:
        value = await body
        if is_a(value, ToAwait):  # `return step(…)`: its `await` was forgotten, and nobody else can write it
            value = await value
    except BaseException as error:  # noqa: BLE001 - told apart there; a bug goes on
        return _failed(run, error)
    finally:
        with suppress(ValueError):  # an abandoned body is closed from another context
            active_run.reset(token)
    return _succeeded(run, value)


def _succeeded(run: Run, value: Any) -> Ok[Any] | Err[Any]:
    if is_a(value, Err):
        error: Any = value.error
        run.close(error if isinstance(error, BaseException) else StepFailed(None, error))
        return unseen(cast("Err[Any]", value), _label(run), redacted_repr)
    run.close()
    return cast("Ok[Any]", value) if is_a(value, Ok) else Ok(value)


def _failed(run: Run, error: BaseException) -> Err[Any]:
    """The run's `Err`, if a step's failure left the body; a bug goes on."""
    __tracebackhide__ = True
    owned = run.owns(error)
    if not owned:
        explain_await(error)
    else:
        recount(error)
        trim(error, run.owns)
    run.close(error)
    if not owned or not isinstance(error, Exception):
        raise error
    # `unwrap` raises this very exception again: a run around this one knows it as its own.
    failure = error.error if isinstance(error, StepFailed) else error
    return unseen(handed_back(failure, error, redacted_repr), _label(run), redacted_repr)


def _label(run: Run) -> str:
    return f"workflow {run.name!r}" if run.name else "a workflow"


def _takes_deps(body: Callable[..., Any], *, given: bool) -> bool:
    """Whether the body has a second positional parameter; without deps, one with a default keeps it.

    Raises:
        TypeError: It takes no positional parameter at all, or needs more than two.
    """
    try:
        parameters = list(inspect.signature(body).parameters.values())
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    needed = [p.name for p in positional[2:] if p.default is inspect.Parameter.empty]
    if needed:
        raise TypeError(
            f"the body of a workflow takes step, or step and deps; this one also wants {', '.join(needed)}: "
            "give them in deps, or write workflow(lambda step: body(step, …))"
        )
    if len(positional) >= 2:
        return given or positional[1].default is inspect.Parameter.empty
    takes_any = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    if not positional and not takes_any:
        raise TypeError("the body of a workflow takes step: workflow(lambda step: …), or def body(step): …")
    return takes_any


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def create_workflow(
    deps: Any = None,
    *,
    cache: Any = UNSET,
    name: str | None = None,
    mode: Mode | None = None,
    on_event: Listener | None = None,
    ttl: Duration | None = UNSET,
    error_ttl: Duration | None = UNSET,
    cache_errors: CacheErrors = UNSET,
    stale_if_error: bool = UNSET,
    on_drift: OnDrift | Mapping[Cause, OnDrift] = UNSET,
    **misplaced: Any,
) -> Workflow:
    """Makes a workflow.

    Args:
        deps: Handed to bodies that take two parameters; a plain dict may be read by attribute too.
        cache: Left out: the project's disk cache. None keeps nothing. A `Cache`, a path or URL, a `dict`, or any object with
            `get`, `set`, `has` and `delete`, sync or async.
        name: A label, never part of a key's identity.
        mode: "normal", "refresh" (everything runs again) or "offline" (a miss raises).
        on_event: Told every event of its runs; what it raises is logged.
        ttl: For how long a value counts: seconds, a timedelta or text like "15m".
        error_ttl: The same for kept errors; "auto" is 60 s for errors that pass by themselves, for ever for others.
        cache_errors: Which errors are kept: True, False, an exception type or tuple, or a predicate.
        stale_if_error: A failed refetch gives the last good value.
        on_drift: What happens to a value whose step's code or inputs changed: "warn", "rerun", "error" or "ignore"; or by
            cause, `{"code": "rerun", "inputs": "warn"}`.
        **misplaced: Nothing; named in the message.

    Raises:
        TypeError: An option is unknown, of the wrong type, or belongs elsewhere.
        ValueError: An option has no such value; a cache URL has an unknown scheme.

    >>> workflow = create_workflow(cache={})
    >>> workflow(lambda step: step(lambda: 6 * 7, key="answer"))
    Ok(42)
    """
    for option in misplaced:
        raise misplaced_option(option, "create_workflow")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name= takes a str, got {type(name).__name__}")
    if mode is not None and mode not in get_args(Mode):
        raise ValueError(f'mode={mode!r}: use "normal", "refresh" or "offline"')
    if on_event is not None and not callable(on_event):
        raise TypeError(f"on_event= takes a function of one event, got {type(on_event).__name__}")
    policy = _given(
        ttl=ttl, error_ttl=error_ttl, cache_errors=cache_errors, stale_if_error=stale_if_error, on_drift=on_drift
    )
    policy_changes(policy)
    return Workflow(deps, cache, name, mode, on_event, policy)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not UNSET}
