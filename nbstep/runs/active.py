"""Which run a step belongs to: the active one, its body's, the executing cell's, or the default workflow's (W5)."""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final, cast

from nbstep import cache as caches
from nbstep.events import Listener, Place
from nbstep.forks import ThreadLock
from nbstep.options import UNSET
from nbstep.policy import Policy, policy_changes, with_changes
from nbstep.runs.hooks import active_run, ambient_run
from nbstep.runs.state import Run
from nbstep.settings import MODES, Mode, read_settings

_default: Run | None = None
_default_lock: Final = ThreadLock()


def current_run(body_run: Run | None = None) -> Run:
    """The active run; else that of the cell now executing; else the default workflow's (W5).

    Before the cell's comes that of the body which was given the `step` that asks: in a pool's threads nothing else tells. What
    outlives its run stays with it: its steps go to that run's cache and are listed as ended later (N8).
    """
    return active_run.get() or body_run or ambient_run() or _default_run()


def _default_run() -> Run:
    global _default
    with _default_lock:
        if _default is None or _default.cache is not _project_cache_or_none():
            if _default is not None:
                _default.close()
                atexit.unregister(_default.close)
            _default = open_run(place=Place(notebook=PurePath(sys.argv[0] or "python").name), endless=True)
            atexit.register(_default.close)
        return _default


def _project_cache_or_none() -> caches.Cache | None:
    return None if read_settings().mode == "off" else caches.project_cache()


def open_run(
    name: str | None = None,
    *,
    cache: Any = UNSET,
    mode: str | None = None,
    policy: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    place: Place | None = None,
    listeners: tuple[Listener, ...] = (),
    retry_errors: bool = False,
    rerun_drifted: bool = False,
    shown: bool = False,
    endless: bool = False,
    text: str | None = None,
    line: str = "%%workflow",
) -> Run:
    """Opens a run; the caller makes it active and closes it.

    Args:
        name: A label.
        cache: What `Cache` takes; left out, the project's; None keeps nothing.
        mode: "normal", "refresh" or "offline"; None is that of the run around, else what the environment says.
        policy: Policy options by name, as a workflow gives them.
        flags: Policy options by name, as a magic gives them: they win over those of any workflow inside.
        place: Where the run stands.
        listeners: Who is told.
        retry_errors: Kept errors from before run again.
        rerun_drifted: So does what was kept before and changed since.
        shown: A step list shows findings; else they go to logging.
        endless: It ends with the process.
        text: The digest of its cell's text.
        line: The first line of its cell, without a comment.

    Raises:
        TypeError, ValueError: An option is unknown or has no such value.
    """
    settings = read_settings()
    parent = active_run.get() or (None if shown or endless else ambient_run())
    if parent is not None and parent.closed:
        parent = None
    if mode is not None and mode not in MODES:
        raise ValueError(f'mode={mode!r}: use "normal", "refresh" or "offline"')
    inherited = parent.flags if parent is not None else {}
    own_flags = policy_changes(flags or {})
    mode_flag = cast("Mode | None", mode) if flags is not None else (parent.mode_flag if parent is not None else None)
    environment_mode: Mode = "normal" if settings.mode == "off" else settings.mode
    opened = None if settings.mode == "off" else as_cache(cache)
    run = Run(
        name=name,
        cache=opened,
        mode=mode_flag or cast("Mode | None", mode) or (parent.mode if parent is not None else environment_mode),
        policy=with_changes(Policy(), {**policy_changes(policy or {}), **inherited, **own_flags}),
        place=place or (parent.place if parent is not None else Place()),
        listeners=_each_once((*listeners, *(parent.listeners if parent is not None else ()))),
        flags={**inherited, **own_flags},
        mode_flag=mode_flag,
        rerun_drifted=rerun_drifted or (parent is not None and parent.rerun_drifted),
        retry_errors=retry_errors or settings.retry_errors or (parent is not None and parent.retry_errors),
        shown=shown,
        parent=parent,
        endless=endless,
        in_project=cache is UNSET,
        text=text,
        line=line,
        clock=opened.clock if opened is not None else parent.clock if parent is not None else time.time,
    )
    return run.open()


def _each_once(listeners: tuple[Listener, ...]) -> tuple[Listener, ...]:
    """A workflow may run inside itself: its listener is told of everything once."""
    return tuple({id(listener): listener for listener in listeners}.values())


def as_cache(cache: Any) -> caches.Cache | None:
    """What `cache=` means: left out, the project's; None, none; else what `Cache` takes."""
    if cache is UNSET:
        return caches.project_cache()
    if cache is None or isinstance(cache, caches.Cache):
        return cache
    return caches.Cache(cache)
