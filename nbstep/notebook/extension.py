"""`%load_ext nbstep`: puts the notebook's parts together and into IPython, and takes them out again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.magic import needs_local_scope, no_var_expand

from nbstep.notebook import calls, late
from nbstep.notebook.cell import CellRunner
from nbstep.notebook.celltext import WorkflowCells, transform
from nbstep.notebook.completer import complete_verbs
from nbstep.notebook.helptext import STEP_HELP, WORKFLOW_HELP
from nbstep.notebook.interrupts import interruptible, stop_if_interrupted
from nbstep.notebook.showerror import ErrorDisplay
from nbstep.runs.hooks import guard_thunks, set_ambient_run
from nbstep.steps.front import step

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbstep.notebook.live import Publisher, StepListView
    from nbstep.runs.state import Run


class Extension:
    """nbstep inside one shell."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self._runner = CellRunner(shell, step, self._view)
        self._tree = WorkflowCells()
        self._errors = ErrorDisplay(shell, self._runner.owns, self._open_run)
        self._events: list[tuple[str, Callable[..., None]]] = [
            ("pre_run_cell", self._runner.pre_run_cell),
            ("post_run_cell", self._runner.post_run_cell),
            ("post_execute", self._runner.post_execute),
        ]

    def _open_run(self) -> Run | None:
        cell = self._runner.open_cell()
        return None if cell is None else cell.run

    def install(self) -> None:
        """Adds everything to the shell."""
        calls.follow(self._runner)
        set_ambient_run(self._runner.ambient)
        guard_thunks(interruptible, stop_if_interrupted)
        self.shell.input_transformers_cleanup.append(transform)
        self.shell.ast_transformers.append(self._tree)
        for event, told in self._events:
            self.shell.events.register(event, told)
        self._register_magics()
        self.shell.Completer.custom_matchers.append(complete_verbs)
        self._errors.install()
        self._runner.bind_step()

    def remove(self) -> None:
        """Takes everything out again; what the user changed since stays."""
        calls.follow(None)
        set_ambient_run(None)
        guard_thunks(None)
        for ours, place in (
            (transform, self.shell.input_transformers_cleanup),
            (self._tree, self.shell.ast_transformers),
            (complete_verbs, self.shell.Completer.custom_matchers),
        ):
            if ours in place:
                place.remove(ours)
        for event, told in self._events:
            self.shell.events.unregister(event, told)
        for kind, name in (("line", "nbstep"), ("line", "workflow"), ("cell", "workflow"), ("cell", "step")):
            self.shell.magics_manager.magics[kind].pop(name, None)
        self._errors.remove()
        if self.shell.user_ns.get("step") is step:
            self.shell.drop_by_id({"step": step})

    def _register_magics(self) -> None:
        def workflow(line: str, cell: str | None = None) -> None:
            late("nbstep.notebook.magics").workflow_magic(self.shell, line, cell)

        @no_var_expand  # `--cache $tier` need not be a text
        @needs_local_scope
        def nbstep(line: str, local_ns: dict[str, Any] | None = None) -> None:
            """Looks at and clears what nbstep keeps: `%nbstep panel`, `%nbstep ls`, `%nbstep rm KEY` and others.

            `%nbstep` alone lists all verbs, `%nbstep help VERB` explains one.
            """
            late("nbstep.notebook.magics").nbstep_magic(self.shell, line, self._runner.last, local_ns)

        def step_cell(line: str, cell: str) -> None:
            late("nbstep.notebook.magics").step_magic(self.shell, line, cell)

        workflow.__doc__ = WORKFLOW_HELP
        step_cell.__doc__ = STEP_HELP
        self.shell.register_magic_function(step_cell, "cell", "step")
        self.shell.register_magic_function(workflow, "line_cell", "workflow")
        self.shell.register_magic_function(nbstep, "line", "nbstep")

    def _view(self, flags: tuple[str, ...], run: Callable[[], Run | None]) -> StepListView:
        foot, live = late("nbstep.notebook.foot"), late("nbstep.notebook.live")
        return live.StepListView(self._publisher(), _write, flags, lambda: foot.foot_of(run()))

    def _publisher(self) -> Publisher | None:
        """None in a terminal."""
        if getattr(self.shell, "kernel", None) is None:
            return None
        publisher = self.shell.display_pub

        def publish(data: dict[str, str], *, transient: dict[str, Any], update: bool) -> None:
            publisher.publish(data, {}, transient=transient, update=update)

        return publish


def _write(text: str) -> None:
    sys.stdout.write(text)


_loaded: Extension | None = None


def load(shell: InteractiveShell) -> None:
    """Loads nbstep into `shell`; a second shell of the process takes over from the first."""
    global _loaded
    if _loaded is not None:
        _loaded.remove()
    _loaded = Extension(shell)
    _loaded.install()


def unload(shell: InteractiveShell) -> None:
    """Takes nbstep out of `shell`."""
    global _loaded
    if _loaded is not None and _loaded.shell is shell:
        _loaded.remove()
        _loaded = None
