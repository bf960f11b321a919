"""Runs cells: opens a run when a `%%workflow` cell begins or a plain cell calls its first step, closes it with the cell.

The cell itself is run by IPython as any other; `celltext` put a call of `begin` or `begin_step` in the place of its first line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from nbstep.errors import CellStopped, NbstepError
from nbstep.forks import ThreadLock
from nbstep.notebook import late
from nbstep.notebook.interrupts import forget_interrupt, held_off, note_handler, watch_interrupts
from nbstep.runs.hooks import active_run, notebook_name

if TYPE_CHECKING:
    from nbstep.events import Place
    from nbstep.notebook.calls import CellText
    from nbstep.notebook.flags import WorkflowLine
    from nbstep.notebook.live import StepListView
    from nbstep.notebook.retrying import LastRun
    from nbstep.notebook.stepcell import StepCell
    from nbstep.runs.state import Run

_TAKEN: Final = "the name of nbstep's function: use another name there"


@dataclass(eq=False, slots=True)
class Cell:
    """A cell that executes now.

    Attributes:
        info: IPython's record of it; None for a silent execution, which tells no `pre_run_cell`.
        number: IPython's `In [n]`.
        run: Its run, once it has one.
        view: Its step list.
        outer: The run that was active before.
        stop_watching: Ends the watch for interrupts.
        result_name: Where `--result` puts `Ok` or `Err`.
        step: Its one step, in a `%%step` cell.
        last: The value of its last expression, with `--result` or `%%step`.
        failure: The step's error that `--result` caught.
    """

    info: Any
    number: int | None = None
    run: Run | None = None
    view: StepListView | None = None
    outer: Run | None = None
    stop_watching: Callable[[], None] | None = None
    result_name: str | None = None
    step: StepCell | None = None
    last: Any = None
    failure: Exception | None = None


class CellRunner:
    """Follows the cells of one shell.

    Args:
        shell: IPython's shell.
        step: The function that cells see under the name `step`.
        make_view: Makes the step list of one cell, from the flags to name in it and its place in the cache.
    """

    def __init__(
        self, shell: Any, step: Any, make_view: Callable[[tuple[str, ...], Callable[[], Run | None]], StepListView]
    ) -> None:
        self.shell = shell
        self._step = step
        self._make_view = make_view
        self.last: LastRun | None = None
        self._cells: list[Cell] = []
        self._lock = ThreadLock()

    # IPython's events

    def pre_run_cell(self, info: Any) -> None:
        """A cell begins; cells nest (`%%capture`)."""
        forget_interrupt()
        note_handler(begins=True)
        self.bind_step()
        engine = sys.modules.get("nbstep.runs.state")
        with self._lock:
            if not self._cells and engine is not None:
                engine.enclosing.set(None)  # an interrupt may have kept a step from leaving
            # Not `execution_count`: newer IPythons raise it before the cell runs, older ones after.
            self._cells.append(Cell(info, self.shell.displayhook.prompt_count))

    def post_run_cell(self, result: Any) -> None:
        """A cell ended, with all that began inside it and told no end."""
        info = getattr(result, "info", None)
        note_handler(begins=False)
        with self._lock:
            at = 0 if result is None else self._position(info)
            if at is None:
                return
            ending, self._cells[at:] = self._cells[at:], []
        error = getattr(result, "error_before_exec", None) or getattr(result, "error_in_exec", None)
        for cell in reversed(ending):
            self._end(cell, error)
        lineage = sys.modules.get("nbstep.drift.lineage")  # with the first step
        if lineage is not None:
            lineage.HANDED_OUT.let_go()  # of what the cell threw away

    def post_execute(self) -> None:
        """Something was executed: the only event that a silent execution tells."""
        with self._lock:
            ending = [self._cells.pop()] if self._cells and self._cells[-1].info is None else []
        for cell in ending:
            self._end(cell, None)

    def _position(self, info: Any) -> int | None:
        # A terminal interrupted inside an await makes a new record of the cell: its text must do.
        raw = getattr(info, "raw_cell", None)
        for at in range(len(self._cells) - 1, -1, -1):
            known = self._cells[at].info
            if known is info or (raw is not None and getattr(known, "raw_cell", None) == raw):
                return at
        return None

    def _end(self, cell: Cell, error: BaseException | None) -> None:
        run, view, cell.run = cell.run, cell.view, None
        if run is None or view is None:
            return
        forget_interrupt()
        try:
            if cell.step is not None:
                cell.step.end(error)
                cell.step = cell.last = None
        finally:
            if cell.stop_watching is not None:
                cell.stop_watching()
            with held_off():  # who is impatient interrupts twice
                if active_run.get() is run:
                    active_run.set(cell.outer)
                run.close(error or cell.failure)
                view.end(raised=error is not None, line=run.line)
                if run.folders():
                    self.last = late("nbstep.notebook.retrying").LastRun(
                        run.line, run.folders(), run.failed_in(), run.met_errors()
                    )

    # runs

    def begin(self, text: str, taken_at: int | None, written: CellText) -> None:
        """Opens the run of a `%%workflow` cell.

        Raises:
            CellStopped: The line or the name `step` is wrong; nothing of the cell ran.
        """
        with _stopping():
            line = late("nbstep.notebook.flags").parse_workflow_line(text)
            if not self._only_planned(line, written):
                self._begin(line, taken_at, written)

    def begin_step(self, text: str, taken_at: int | None, written: CellText, body: Any) -> None:
        """Opens the run of a `%%step` cell, and its step.

        Raises:
            CellStopped: The line or the name `step` is wrong; nothing of the cell ran.
        """
        with _stopping():
            line = late("nbstep.notebook.flags").parse_step_line(text, self.shell.user_ns)
            known_as = replace(written, key=line.key)
            if self._only_planned(line.workflow, known_as):
                return
            cell = self._begin(line.workflow, taken_at, known_as)
            place, stepcell = self._place(cell), late("nbstep.notebook.stepcell")
            cell.step = stepcell.StepCell(self.shell, cell.run, line.key, line.out, body, written.body, place)

    def _only_planned(self, line: WorkflowLine, written: CellText) -> bool:
        """Shows the plan where one was asked for; nothing of the cell runs."""
        if not line.plan:
            return False
        if not written.planned:  # whoever compiled the cell left its body in
            raise CellStopped("--plan cannot stand here: write it in a cell of its own, in its first line")
        late("nbstep.notebook.planning.plan").show_plan(self, line, written)
        return True

    def _begin(self, line: WorkflowLine, taken_at: int | None, written: CellText) -> Cell:
        if taken_at is not None and not self._has_another_name():
            raise CellStopped(f"line {taken_at} of this cell assigns `step`, {_TAKEN}")
        self.bind_step()
        self._check_step()
        cache = self.cache_of(line)
        with self._lock:
            cell = self._cells[-1] if self._cells else Cell(None)
            if not self._cells:
                self._cells.append(cell)
        self._end(cell, None)  # a second %%workflow inside one silent execution
        cell.result_name, cell.last, cell.failure = line.result, None, None
        self._open(cell, line, cache, written)
        cell.outer = active_run.get()
        active_run.set(cell.run)
        return cell

    def ambient(self) -> Run | None:
        """The run of the cell now executing, opened now if it has none; None between cells (W5)."""
        with self._lock:
            for cell in reversed(self._cells):
                if cell.run is not None:
                    return cell.run
            if not self._cells:
                return None
            plain: WorkflowLine = late("nbstep.notebook.flags").WorkflowLine()
            return self._open(self._cells[-1], plain, late("nbstep.options").UNSET)

    def owns(self, error: BaseException) -> bool:
        """Whether a step of an open run raised this very exception."""
        return any(cell.run is not None and cell.run.owns(error) for cell in list(self._cells))

    def open_cell(self) -> Cell | None:
        """The innermost executing cell that has a run."""
        return next((cell for cell in reversed(self._cells) if cell.run is not None), None)

    def _open(self, cell: Cell, line: WorkflowLine, cache: Any, written: CellText | None = None) -> Run:
        view = self._make_view(line.shown(), lambda: run)
        run: Run = late("nbstep.runs.active").open_run(
            line.name,
            cache=cache,
            mode=line.mode,
            flags=line.policy,
            place=self._place(cell),
            listeners=(view,),
            retry_errors=line.retry_errors,
            rerun_drifted=line.rerun_drifted,
            line=line.written,
            shown=True,
            text=None if written is None else written.digest,
        )
        if run.mode == "offline" and written is not None:
            run.expected = late("nbstep.notebook.planning.plan").expected_keys(run, written, self.shell.user_ns)
        cell.run, cell.view, cell.stop_watching = run, view, watch_interrupts()
        return run

    def cache_of(self, line: WorkflowLine) -> Any:
        """What `--cache` means in this notebook."""
        if line.cache is None:
            return late("nbstep.options").UNSET
        if not line.cache.startswith("$"):
            if line.cache.isidentifier() and line.cache in self.shell.user_ns and not os.path.isdir(line.cache):
                raise CellStopped(
                    f"--cache {line.cache} would be a new folder; for the notebook's own {line.cache!r} write --cache "
                    f"${line.cache}, for the folder --cache ./{line.cache}"
                )
            return line.cache
        name = line.cache[1:]
        if name not in self.shell.user_ns:
            raise CellStopped(f"--cache {line.cache}: there is no {name!r} in this notebook")
        return self.shell.user_ns[name]

    def view_of(self, line: WorkflowLine) -> StepListView:
        """A step list that belongs to no run."""
        return self._make_view(line.shown(), lambda: None)

    def notebook(self) -> str | None:
        """The notebook's file name, where known."""
        return notebook_name(self.shell.user_ns, os.environ)

    def _place(self, cell: Cell) -> Place:
        return late("nbstep.events").Place(notebook=self.notebook(), cell=cell.number)

    # the name `step`

    def bind_step(self) -> None:
        """Binds `step` in the notebook if the name is free."""
        if "step" not in self.shell.user_ns:
            self.shell.push({"step": self._step}, interactive=False)

    def _has_another_name(self) -> bool:
        names = list(self.shell.user_ns.items())  # those with an underscore are IPython's history of outputs
        return any(value is self._step for name, value in names if name != "step" and not name.startswith("_"))

    def _check_step(self) -> None:
        bound = self.shell.user_ns.get("step")
        if bound is not self._step and not self._has_another_name():
            raise CellStopped(
                f"`step` is your own {type(bound).__name__} here, no longer nbstep's function: run `del step`, then this "
                "cell again, and use another name for yours"
            )


@contextmanager
def _stopping() -> Generator[None]:
    """What is wrong with a line stops the cell, in one line."""
    try:
        yield
    except (TypeError, ValueError, OSError, ImportError, NbstepError) as error:
        raise error if isinstance(error, CellStopped) else CellStopped(str(error)) from None
