"""Shows the step list of one cell: live while it runs, finished under it; in a terminal as a line, then as a table."""

from __future__ import annotations

import contextvars
import logging
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, Final, Protocol

from nbstep.commands.tables import in_colour
from nbstep.events import Event, StepAsked
from nbstep.forks import ThreadLock
from nbstep.notebook.settling import settle
from nbstep.notebook.steplist import StepList, reduce_all
from nbstep.notebook.steprender import CacheFoot, html_of, live_of, plain_of, saved_of
from nbstep.terminals import live_line

_log: Final = logging.getLogger("nbstep")

_FIRST_S: Final = 0.3  # a cell that is done by then shows its finished list only
_EVERY_S: Final = 0.25
_TICK_S: Final = 1.0  # elapsed times go on although nothing happens
_EVENTS_AT_MOST: Final = 10_000  # before they are read
_RENDER_SHARE: Final = 20  # at most one part in twenty of the time goes into rendering


class Publisher(Protocol):
    """How a display message leaves; IPython's `display_pub.publish`."""

    def __call__(self, data: dict[str, str], *, transient: dict[str, Any], update: bool) -> None:
        """Shows `data`, or changes what was shown under the same display id."""


class StepListView:
    """Listens to one run and shows its step list.

    While the cell runs the list stands in a display that was opened empty and is emptied again at the end; the finished
    list is a display of its own. So whoever compares saved outputs sees only the finished one, whatever the timing.

    Args:
        publish: Where display messages go; None is a terminal.
        write: Where a terminal's table goes.
        flags: Options to name in the summary.
        foot: Tells the cache's size and the disk's free space, called once at the end.
    """

    def __init__(
        self,
        publish: Publisher | None,
        write: Callable[[str], object],
        flags: tuple[str, ...] = (),
        foot: Callable[[], CacheFoot | None] = lambda: None,
    ) -> None:
        self._publish, self._write, self._foot_of = publish, write, foot
        self._line = live_line(sys.stdout) if publish is None else None
        self._events: list[Event] = []
        self._state = StepList(flags=flags)
        self._foot: CacheFoot | None = None
        self._lock = ThreadLock()
        # No event: its lock is Python code, which an interrupt can leave before it is let go, and the next step would stand still.
        self._news: SimpleQueue[None] = SimpleQueue()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        # Messages sent from another thread must still belong to this cell.
        self._context = contextvars.copy_context()
        self._id = f"nbstep-{secrets.token_hex(8)}"
        self._live_shown = self._end_shown = self._finished = False
        self._last_html = ""

    def __call__(self, event: Event) -> None:
        """Takes an event, from any thread; costs next to nothing."""
        if self._publish is None and self._finished:
            return
        self._events.append(event)
        if len(self._events) >= _EVENTS_AT_MOST:
            with self._lock:
                self._catch_up()
        if self._publish is None and self._line is None:
            return
        if self._news.empty():
            self._news.put(None)
        if self._thread is None and (self._finished or isinstance(event, StepAsked)):
            self._start()

    def end(self, *, raised: bool = True, line: str = "%%workflow") -> None:
        """Shows the finished list.

        Nothing is shown for a cell that called no step and has no findings. An exception `raised` in the cell says itself what
        to do about it; `line` is the first one of the cell.
        """
        with self._lock:
            self._catch_up()
            self._state = replace(self._state, raised=raised, line=line)
            self._finished = True
            self._ended.set()
            self._foot = self._foot_of()
            if self._line is not None:
                self._line.end()
            if self._live_shown and self._publish is not None:
                self._send({}, "live", update=True)
            if not self._state.calls and not self._state.findings:
                return
            if self._publish is None:
                self._write_list(self._state, self._now(), self._foot)
            else:
                self._show_finished()

    def show_plan(self, state: StepList, notes: Sequence[str], foot: CacheFoot | None) -> None:
        """Shows a list of steps that were never called, and what is to say beside."""
        now = time.time()
        if self._publish is None:
            self._write_list(state, now, foot, notes)
            return
        plain = plain_of(state, now, foot, notes=notes)
        self._send({"text/html": html_of(state, now, foot, notes), "text/plain": plain}, "plan", update=False)

    def _write_list(self, state: StepList, now: float, foot: CacheFoot | None, notes: Sequence[str] = ()) -> None:
        text = plain_of(state, now, foot, _terminal_width(), notes, colour=in_colour(sys.stdout))
        self._write(text + "\n")

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                context = self._context.copy()
                self._thread = threading.Thread(
                    target=context.run, args=(self._keep_showing,), name="nbstep step list", daemon=True
                )
                self._thread.start()

    def _keep_showing(self) -> None:
        try:
            self._show_live()
            if self._publish is not None:
                self._show_late()
        except Exception:  # noqa: BLE001 - a display must never end a cell
            _log.exception("the step list could not be shown")

    def _show_live(self) -> None:
        pause, tick = _FIRST_S, time.monotonic()
        while not self._ended.wait(pause):
            now = time.monotonic()
            if self._news.empty() and now - tick < _TICK_S:
                continue
            self._forget_news()
            with self._lock:
                if self._finished:
                    return
                self._catch_up()
                if self._line is None:
                    self._update_live()
                else:
                    self._line.show(live_of(self._state, time.time(), _terminal_width() - 1))
            tick = time.monotonic()
            pause = max(_EVERY_S, _RENDER_SHARE * (tick - now))

    def _update_live(self) -> None:
        page = html_of(self._state, time.time(), live=True)
        if page == self._last_html:
            return
        if not self._live_shown:
            self._live_shown = True
            self._send({}, "live", update=False)
        self._last_html = page
        self._send({"text/html": page}, "live", update=True)

    def _show_late(self) -> None:
        """Steps that go on after their cell ended are shown as they end (N8)."""
        while True:
            with self._lock:
                if self._events:
                    self._catch_up()
                    self._show_finished()
                if not self._state.unfinished:
                    self._thread = None
                    if not self._events:
                        return
                    self._thread = threading.current_thread()
            self._news.get()
            self._forget_news()
            time.sleep(_EVERY_S)

    def _forget_news(self) -> None:
        while not self._news.empty():
            self._news.get()

    def _show_finished(self) -> None:
        self._send(self._bundle(), "end", update=self._end_shown)
        self._end_shown = True

    def _bundle(self) -> dict[str, str]:
        now = self._now()
        return {"text/html": html_of(self._state, now, self._foot), "text/plain": saved_of(self._state, now)}

    def _now(self) -> float:
        """The moment a finished list tells ages of: when its run ended, by the run's own clock."""
        return self._state.ended.at if self._state.ended is not None else time.time()

    def _catch_up(self) -> None:
        while count := min(len(self._events), _EVENTS_AT_MOST):
            state = reduce_all(self._state, self._events[:count])
            self._state = settle(state, time.time())
            del self._events[:count]

    def _send(self, data: dict[str, str], part: str, *, update: bool) -> None:
        assert self._publish is not None
        self._publish(data, transient={"display_id": f"{self._id}-{part}"}, update=update)


def _terminal_width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 140)
