"""Checks what `step` and `step.map` were given, then takes the steps in the active run."""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import replace
from pathlib import PurePath
from types import FrameType
from typing import Any, Final

from nbstep.batch.checks import check_map
from nbstep.batch.dispatch import backend_for, on_threads
from nbstep.batch.hub import Turn
from nbstep.batch.keying import Keyed, Keys
from nbstep.batch.pace import Pace
from nbstep.batch.stop import Stop
from nbstep.batch.tasks import in_tasks
from nbstep.batch.values import values
from nbstep.batch.workers import in_workers
from nbstep.cache.cache import Cache
from nbstep.collisions.look import is_scalar, sight
from nbstep.collisions.message import value_text
from nbstep.drift.wanted import ALL, Wanted, checked_files, checked_names
from nbstep.durations import to_seconds
from nbstep.events import MapEnded, Place, StepsAhead
from nbstep.keyfindings.sites import NOWHERE, Site, may_have_finding, site_of, text_finding
from nbstep.keys import check_key
from nbstep.notes import recount
from nbstep.options import misplaced
from nbstep.policy import POLICY_OPTIONS, Policy, policy_changes, with_changes
from nbstep.result import Err, Ok
from nbstep.runs.active import current_run
from nbstep.runs.hooks import ambient_run
from nbstep.runs.state import Run, enclosing
from nbstep.steps.awaitable import AwaitableMap
from nbstep.steps.calls import Alike, Call, Options
from nbstep.steps.giving import check_offline
from nbstep.steps.handover import HandedStep, Handover
from nbstep.steps.take import bared, take_step, timeout_needs_async
from nbstep.steps.turns import begin_step
from nbstep.steps.waiting import name_elsewhere
from nbstep.terminals import is_terminal
from nbstep.thunks import check_thunk, surely_awaitable
from nbstep.tracebacks import OWN_FOLDER, is_installed, trim, without_first
from nbstep.words import spot_text, with_article

_KEYS_HELD: Final = 10_000  # of a longer list the keys are made again when it is an item's turn

__all__ = ["ask", "ask_all", "ask_cached", "call_out", "without_first"]


def ask(
    caller: FrameType,
    body_run: Run | None,
    thunk: Any,
    args: tuple[Any, ...],
    options: dict[str, Any],
    *,
    key: Any = None,
    refresh: Any = False,
    retries: Any = 0,
    timeout: Any = None,
    on_error: Any = "raise",
    ignore: Any = (),
    files: Any = None,
) -> Any:
    """Checks what `step` was given, then takes the step; `body_run` is that of the body which `step` was given to."""
    __tracebackhide__ = True
    if key is not None:
        key = check_key(key)
    thunk = check_thunk(thunk, key, args)
    run = current_run(body_run)
    checked = _checked(
        run, options, refresh=refresh, retries=retries, timeout=timeout, on_error=on_error, ignore=ignore, files=files
    )
    if key is None:
        place, site = _place_of(caller, run), NOWHERE
    else:
        site = site_of(caller)
        place = _place_of(caller, run, site.line)
        if site.finding is not None or may_have_finding(key):
            call_out(run, site, key, place)
    try:
        return take_step(run, key, thunk, args, checked, place, site)
    except BaseException as error:
        trim(error, run.owns)
        raise


def call_out(run: Run, site: Site, key: str, place: Place) -> None:
    """Tells what is wrong with a key, once a site and run (K7)."""
    text = None if site.silenced else site.finding or text_finding(key)
    if text is not None:
        run.find("key", key, f"{spot_text(place)}: {text}")


def _call_out_none(run: Run, site: Site, item: object, place: Place) -> None:
    """Tells that a map keeps nothing of an item: mostly its key function lacks its `return` (K2)."""
    if not site.silenced:
        seen = sight(item)
        which = f"the item {value_text(seen)}" if is_scalar(seen) else with_article(type(item).__name__)
        says = f"key= gave None for {which}, so its result is not kept: does it return?"
        run.find("key-none", None, f"{spot_text(place)}: {says}", once=True)


def ask_cached(
    caller: FrameType,
    body_run: Run | None,
    thunk: Any,
    args: tuple[Any, ...],
    key: str,
    template: str | None,
    note: str | None,
    options: Mapping[str, Any],
) -> Any:
    """Takes the step that a call of a cached function is; `note` is what is to be said of its template."""
    __tracebackhide__ = True
    run = current_run(body_run)
    if note is not None:
        run.find("key", key, note)
    own = {name: value for name, value in options.items() if name not in POLICY_OPTIONS}
    policy = {name: value for name, value in options.items() if name in POLICY_OPTIONS}
    checked = _checked(run, policy, **{"on_error": "raise", **own})
    try:
        return take_step(run, key, thunk, args, checked, _place_around(caller, run), template=template)
    except BaseException as error:
        trim(error, run.owns)
        raise


def _checked(
    run: Run,
    options: dict[str, Any],
    *,
    refresh: Any = False,
    retries: Any = 0,
    timeout: Any = None,
    on_error: Any,
    ignore: Any = (),
    files: Any = None,
    where: str = "step",
) -> Options:
    __tracebackhide__ = True
    asked_nothing = refresh is False and type(retries) is int and retries == 0 and timeout is None
    if not options and asked_nothing and on_error == "raise" and type(ignore) is tuple and not ignore and files is None:
        return _without_options(run.policy)
    for option in options:
        if option not in POLICY_OPTIONS:
            raise misplaced(option, where)
    policy = with_changes(run.policy, policy_changes(options)) if options else run.policy
    if not isinstance(refresh, bool):
        raise TypeError(f"refresh= takes True or False, got {refresh!r}")
    if on_error not in ("raise", "keep"):
        raise ValueError(f'on_error={on_error!r}: use "raise" or "keep"')
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise ValueError(f"retries={retries!r}: use a whole number, 0 or more")
    timeout_s = to_seconds(timeout, "timeout")
    inputs = ALL if ignore == () and files is None else Wanted(checked_names(ignore), checked_files(files))
    return Options(policy, refresh, retries, timeout_s, on_error == "keep", inputs=inputs)


_plain = Options(Policy())


def _without_options(policy: Policy) -> Options:
    """The options of a step that was asked none: mostly the very ones of the step before."""
    global _plain
    plain = _plain
    if plain.policy is not policy:
        _plain = plain = Options(policy)
    return plain


def ask_all(
    caller: FrameType,
    body_run: Run | None,
    fn: Any,
    items: Iterable[Any],
    others: Sequence[object],
    options: dict[str, Any],
    *,
    key: Any,
    n_jobs: Any,
    rate: Any,
    on_error: Any,
) -> Any:
    """Takes one step for each item: on threads, in joblib's workers, or as tasks, which gives something to await."""
    __tracebackhide__ = True
    run = current_run(body_run)
    check_map(fn, items, others, n_jobs)
    own = {name: options[name] for name in ("refresh", "retries", "timeout", "ignore", "files") if name in options}
    policy = {name: value for name, value in options.items() if name not in own}
    checked = _checked(run, policy, **own, on_error=on_error, where="step.map")
    is_async = surely_awaitable(fn) or (run.cache is not None and run.cache.is_async)
    if checked.timeout_s is not None and not surely_awaitable(fn):
        raise timeout_needs_async()
    pace = None if rate is None else Pace(rate)
    bare, alike, number, stop = on_error != "keep" and not is_async, Alike(), run.next_map(), Stop()
    each = replace(checked, hand_back=True, bare=bare, map=number, pace=pace, stop=stop, alike=alike)
    place, site = _place_of(caller, run), site_of(caller)
    keys = Keys(key, site.with_f)
    # Of what has no length each item is asked for when it is its turn: it may be more than memory holds.
    sized = isinstance(items, Sized)
    work = _looked_through(run, keys, items) if sized else keys.give(items)

    def called_out(item: Any, item_key: str | None) -> None:
        if item_key is None:
            _call_out_none(run, site, item, place)
        elif site.finding is not None or may_have_finding(item_key):
            call_out(run, site, item_key, place)

    def value_of(item: Any, item_key: str | None) -> Any:
        called_out(item, item_key)
        return bared(take_step(run, item_key, fn, (item,), each, place, site), each)

    def begun(item: Any, item_key: str | None) -> Turn | None:
        if item_key is None or site.finding is not None or may_have_finding(item_key):
            return None  # what is called out is logged, and whose code that calls nobody knows
        return begin_step(run, item_key, fn, (item,), each)

    def ended(kind: type[BaseException] | None, *_: object) -> None:
        run.tell(MapEnded(run.id, number, is_cut=kind is not None and not sized))

    def shown_while() -> ExitStack[bool | None]:
        shown = ExitStack[bool | None]()
        if isinstance(items, Sized):
            run.tell(StepsAhead(run.id, number, keys.count, keys.names(), keys.digest))
        shown.push(ended)
        shown.enter_context(_line_of(run, place, len(items) if isinstance(items, Sized) else None))
        return shown

    if is_async:
        tasks = functools.partial(in_tasks, value_of, work, n_jobs)
        return AwaitableMap(run, place, lambda: _results(tasks, work, on_error, run, shown_while))
    try:
        backend = backend_for(n_jobs)
        with _many_steps(run), shown_while():
            if backend.threads:
                tell = _telling(run.cache, name_elsewhere(run, place), keys.count) if sized else None
                kept = run.cache is not None and not each.refresh
                results = on_threads(value_of, work, backend.n_jobs, tell, begun, in_order=kept)
            else:
                with closing(Handover(run, fn)) as handover:
                    begin = _begin_handed(handover, run, fn, replace(each, elsewhere=True), place, site, called_out)
                    results = in_workers(begin, work, backend.n_jobs, lazily=not sized, apart_s=pace and pace.apart_s)
        return results if on_error == "keep" else values(results, work)
    except BaseException as error:
        stop.set(interrupted=isinstance(error, KeyboardInterrupt))
        recount(error)
        trim(error, run.owns)
        raise
    finally:
        alike.quick = None  # it holds the options that hold it, and the function with all that is in its closure


def _telling(cache: Cache | None, holder: str | None, count: int) -> Callable[[list[str]], None] | None:
    """Tells a cache which keys `holder` asks soon, of `count` in all."""
    return None if cache is None else lambda keys: cache.expect(keys, holder, count)


def _many_steps(run: Run) -> AbstractContextManager[None]:
    return nullcontext() if run.cache is None else run.cache.many_steps()


def _line_of(run: Run, place: Place, total: int | None) -> AbstractContextManager[None]:
    """Shows how far a map of a plain program is, where a terminal can: a cell shows its steps itself."""
    if run.root().shown or ambient_run() is not None or not is_terminal(sys.stderr):
        return nullcontext()
    from nbstep.batch.mapline import map_line  # mostly nobody looks

    return map_line(spot_text(place), total, run.listening)


def _looked_through(run: Run, keys: Keys, items: Iterable[Any]) -> Iterable[Keyed]:
    """The items with their keys, after all of them were looked at: nothing runs where one is wrong.

    Raises:
        OfflineMiss: The mode is offline, and some have no entry.
    """
    held: Sequence[Any] = items if isinstance(items, range) else tuple(items)
    few = len(held) <= _KEYS_HELD
    work = list(keys.give(held)) if few else keys.give(held)
    if run.mode == "offline":
        check_offline(run, (item.key for item in work if item.key is not None))
    else:
        deque(work, maxlen=0)
    return work if few else keys.again(held)


async def _results(
    given: Callable[[], Awaitable[list[Ok[Any] | Err[Any]]]],
    work: Iterable[Keyed],
    on_error: str,
    run: Run,
    shown_while: Callable[[], ExitStack[bool | None]],
) -> list[Any]:
    """What a map of tasks gives. They are made when it is awaited: nobody else could close them."""
    __tracebackhide__ = True
    try:
        with _many_steps(run), shown_while():
            results = await given()
        return list(results) if on_error == "keep" else values(results, work)
    except BaseException as error:
        recount(error)
        trim(error, run.owns)
        raise


def _begin_handed(
    handover: Handover,
    run: Run,
    fn: Any,
    options: Options,
    place: Place,
    site: Site,
    called_out: Callable[[Any, str | None], None],
) -> Callable[[Any, str | None], HandedStep]:
    """How a step is looked up here whose work a worker does."""
    outer = enclosing.get()

    def begin(item: Any, item_key: str | None) -> HandedStep:
        called_out(item, item_key)
        call = Call(run, run.next_step(), item_key, fn, (item,), options, place, outer, run.clock(), site)
        return HandedStep(call, handover)

    return begin


def _place_of(caller: FrameType, run: Run, line: int | None = None) -> Place:
    """Where a frame calls; in a line that is known already, as a frame's is looked for from the first one of its code."""
    script, at = _script(caller.f_code.co_filename), caller.f_lineno if line is None else line
    return _place(run.place.notebook, run.place.cell, at) if script is None else _place(script, None, at)


def _place_around(caller: FrameType, run: Run) -> Place:
    """The same of who calls a cached function: where a library does, as a frame's `apply`, it is the user's line before that."""
    frame: FrameType | None = caller
    while frame is not None and _is_library(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is not None:
        return _place_of(frame, run)
    outer = enclosing.get()  # on a thread of its own there is none
    return _place_of(caller, run) if outer is None or outer.place is None else outer.place


_place: Final = functools.lru_cache(maxsize=4096)(Place)


@functools.lru_cache(maxsize=256)
def _is_library(filename: str) -> bool:
    return filename.startswith(OWN_FOLDER) or is_installed(filename)


@functools.lru_cache(maxsize=256)
def _script(filename: str) -> str | None:
    """The name of a file with code; None for a cell."""
    if filename.startswith("<") or "ipykernel_" in filename or "ipython-input" in filename:
        return None
    return PurePath(filename).name
