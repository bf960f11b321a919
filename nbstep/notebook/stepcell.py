"""Runs a `%%step` cell: its body is one step, whose names and displayed output come back on a hit."""

from __future__ import annotations

import logging
import re
import types
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final

from nbstep.cache import serializer
from nbstep.cache.keptcell import KeptCell
from nbstep.durations import size_text
from nbstep.errors import CellStopped
from nbstep.events import Place
from nbstep.notebook.outputs import MOST_BYTES, Recording, ShownValue, show_again
from nbstep.notebook.stepbody import BodyFacts
from nbstep.runs.state import Run
from nbstep.steps.cells import CellStep
from nbstep.steps.inline import Ended, Inline
from nbstep.stores.base import run_now
from nbstep.words import plural

# IPython's own, and ours: never a result of a cell.
_NOT_RESULTS: Final = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open", "step", "_exit_code"})
_HISTORY: Final = re.compile(r"_+|_i{1,3}|_i?\d+|_[iod]h|__\w*__")


_log: Final = logging.getLogger("nbstep")


class StepCell:
    """One `%%step` cell while it executes.

    Args:
        shell: IPython's shell.
        run: The cell's run.
        key: The step's key, filled in.
        out: The names it keeps; None for all that the body binds.
        body: What the body's text says.
        source: The body's text.
        place: Where it stands.
    """

    def __init__(
        self, shell: Any, run: Run, key: str, out: Sequence[str] | None, body: BodyFacts, source: str, place: Place
    ) -> None:
        if run.cache is not None and run.cache.is_async:
            raise CellStopped(
                f"a %%step cell keeps in a store with plain methods, and those of {run.cache.place} are async: "
                "put what it computes into await step(…), under %%workflow"
            )
        self._shell, self._run, self._key, self._out, self._body = shell, run, key, out, body
        hidden = {*body.bound, *body.defined}  # what the body made last time is none of its inputs
        names = {name: value for name, value in shell.user_ns.items() if name not in hidden}
        thunk = Inline(types.FunctionType(body.code, names, "a cell"), source)
        self._step = CellStep(run, key, thunk, place, awaiting=body.awaits)
        self._recording = Recording(shell)
        self._before: dict[str, Any] = {}
        self._names: dict[str, Any] = {}
        self._paused: str | None = None
        self._entered = False
        self._shown: Any = None
        self._later: list[Mapping[str, Any]] = []

    # what the cell calls

    async def defines(self) -> bool:
        """Whether something is kept: imports and definitions are to run before it is loaded."""
        __tracebackhide__ = True
        self._paused = await self._step.advance()
        return self._paused == "nbstep: before loading"

    async def runs(self) -> bool:
        """Whether the body is to run; else what was kept is back."""
        __tracebackhide__ = True
        if self._paused is None and not self._step.done:
            self._paused = await self._step.advance()
        while self._paused == "nbstep: before loading":
            self._paused = await self._step.advance()
        if self._paused is None:
            self._restore()
        return self._paused is not None

    def __enter__(self) -> None:
        """The body begins."""
        self._entered = True
        self._before = dict(self._shell.user_ns)
        self._recording.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        """The body ended; one that went well is kept when the cell has displayed its last value and its figures."""
        __tracebackhide__ = True
        refused = None
        if error is None:
            self._names, refused = self._results()
            if refused is None:
                return False
        self._recording.stop()
        failure = error or refused
        try:
            run_now(self._advanced(Ended(error=failure)))
        except BaseException as raised:
            if raised is not error:
                raise
            return False
        if self._step.stopped() is not None:
            return False
        self._restore()  # the last good value
        return True

    def to_show(self, last: Any) -> Any:
        """What the cell displays last."""
        stopped = self._step.stopped()
        if stopped is not None:
            raise stopped
        return self._shown if self._step.done else last

    def end(self, error: BaseException | None) -> None:
        """The cell ended: keeps what it gave, or shows what had been displayed after its last value."""
        self._recording.stop()
        if self._step.done:
            show_again(self._shell, self._later)
            return
        if not self._entered:
            self._step.close()
            return
        self._tell_left_out()
        ended = Ended(error=error) if error is not None else Ended(KeptCell(self._names, self._recording.whole()))
        try:
            run_now(self._advanced(ended))
        except BaseException as raised:  # noqa: BLE001 - IPython is told no error of the end of a cell
            if raised is not error:
                _log.exception("the cell could not be kept under %r", self._key)

    async def _advanced(self, ended: Ended) -> None:
        await self._step.advance(ended)

    # names

    def _results(self) -> tuple[dict[str, Any], CellStopped | None]:
        """The names to keep with their values, or what is wrong with them."""
        space, always = self._shell.user_ns, set(self._body.defined)
        if self._out is not None:
            for name in self._out:
                if name not in space:
                    said = f"--out {name}: this cell gives `{name}` no value, so nothing was kept"
                    return {}, CellStopped(said)
            return {name: space[name] for name in self._out if name not in always}, None
        before = self._before
        rebound = [name for name, value in space.items() if name not in always and before.get(name, self) is not value]
        names = dict.fromkeys((*self._body.bound, *self._body.changed, *rebound))
        found = {name: space[name] for name in names if name in space and _is_result(name)}
        for name in self._body.closed:
            if name in found and not serializer.can_be_kept(found[name]):
                del found[name]
        return found, None

    def _restore(self) -> None:
        kept = self._step.value
        if not isinstance(kept, KeptCell):  # a StopIteration to raise
            return
        space = self._shell.user_ns
        space.update({name: _at_home(value, space) for name, value in kept.names.items()})
        at = next((n for n, shown in enumerate(kept.outputs) if shown["output_type"] == "execute_result"), None)
        if at is not None:
            self._shown = ShownValue(kept.outputs[at]["data"], kept.outputs[at]["metadata"])
            self._later = kept.outputs[at + 1 :]
        show_again(self._shell, kept.outputs[:at])

    def _tell_left_out(self) -> None:
        heard = self._recording
        if heard.left_out_bytes:
            left_out = size_text(heard.left_out_bytes)
            text = (
                f"{self._key}: only the first {size_text(MOST_BYTES)} of its output are kept, a hit leaves out the other "
                f"{left_out}: let the cell print less"
            )
            self._run.find("output", self._key, text)
        if heard.widgets:
            text = (
                f"{self._key}: {plural(heard.widgets, 'widget')} of its output cannot be kept, and a hit shows none: "
                "make widgets in a cell of their own"
            )
            self._run.find("output", self._key, text)


def _is_result(name: str) -> bool:
    return name not in _NOT_RESULTS and _HISTORY.fullmatch(name) is None


def _at_home(value: Any, space: dict[str, Any]) -> Any:
    """A function of the notebook with the notebook's names; it was kept with copies of those it uses."""
    if type(value) is not types.FunctionType or value.__module__ != "__main__":
        return value
    home = types.FunctionType(value.__code__, space, value.__name__, value.__defaults__, value.__closure__)
    home.__kwdefaults__, home.__qualname__ = value.__kwdefaults__, value.__qualname__
    home.__dict__.update(value.__dict__)
    home.__doc__, home.__annotations__ = value.__doc__, value.__annotations__
    return home
