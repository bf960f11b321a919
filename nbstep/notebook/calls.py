"""The functions that stand in cells: `celltext` and `stepbody` write calls of them into the user's text."""

from __future__ import annotations

import hashlib
import linecache
import sys
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from nbstep.errors import CellStopped, StepFailed
from nbstep.notebook import late
from nbstep.result import Err, Ok, described

if TYPE_CHECKING:
    from nbstep.notebook.cell import CellRunner
    from nbstep.notebook.stepcell import StepCell


@dataclass(frozen=True, slots=True)
class CellText:
    """What is known of a cell's text.

    Attributes:
        body: What stands below its line.
        above: How many lines stand above that.
        planned: Only a plan of it is wanted.
        key: The key of a `%%step` cell.
    """

    body: str
    above: int = 0
    planned: bool = False
    key: str | None = None

    @property
    def digest(self) -> str | None:
        """Tells this text from others, layout and comments included; None where it is not known."""
        text = self.body if self.key is None else f"{self.key}\n{self.body}"
        return hashlib.sha256(text.strip().encode("utf-8", "replace")).hexdigest()[:16] if text else None


class Catching:
    """The block that `--result` puts around a cell's body: a step's failure ends in the result, all else goes on."""

    def __init__(self, runner: CellRunner, name: str) -> None:
        self._runner, self._name = runner, name

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        """Stores the result; True if the error became one."""
        cell = self._runner.open_cell()
        if cell is None or cell.run is None:
            return False
        if error is None:
            result = cell.last if isinstance(cell.last, Ok | Err) else Ok(cell.last)
        elif isinstance(error, Exception) and cell.run.owns(error):
            cell.failure = error
            result = _err(error.error if isinstance(error, StepFailed) else error)
        else:
            self._runner.shell.user_ns.pop(self._name, None)  # an earlier result is not this cell's
            return False
        self._runner.shell.user_ns[self._name] = result
        return True


_runner: CellRunner | None = None


def follow(runner: CellRunner | None) -> None:
    """Says which runner serves the calls that stand in cells; None when the extension is unloaded."""
    global _runner
    _runner = runner


def _following() -> CellRunner:
    if _runner is None:
        raise CellStopped("nbstep is not loaded: run `%load_ext nbstep`")
    return _runner


def begin(text: str, taken_at: int | None = None, planned: bool = False) -> None:
    """Stands in the first line of a `%%workflow` cell."""
    caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    _following().begin(text, taken_at, _text_of(caller, planned))


def begin_step(text: str, taken_at: int | None = None, planned: bool = False, **facts: Any) -> None:
    """Stands in the first line of a `%%step` cell; `facts` say what its body holds."""
    caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    body = None if planned else late("nbstep.notebook.stepbody").facts_of(**facts)
    _following().begin_step(text, taken_at, _text_of(caller, planned), body)


def _text_of(caller: FrameType, planned: bool) -> CellText:
    _show_as_written(caller)
    above = caller.f_lineno
    return CellText("".join(linecache.getlines(caller.f_code.co_filename)[above:]), above, planned)


def _step() -> StepCell:
    cell = _following().open_cell()
    if cell is None or cell.step is None:
        raise CellStopped("this %%step cell has ended")
    return cell.step


def defines() -> bool:
    """Asks whether the imports and definitions of a `%%step` cell run on their own: something is kept."""
    __tracebackhide__ = True
    return late("nbstep.stores.base").run_now(_step().defines())


def runs() -> bool:
    """Asks whether the body of a `%%step` cell runs."""
    __tracebackhide__ = True
    return late("nbstep.stores.base").run_now(_step().runs())


async def defines_awaiting() -> bool:
    """As `defines`, in a cell that awaits."""
    __tracebackhide__ = True
    return await _step().defines()


async def runs_awaiting() -> bool:
    """As `runs`, in a cell that awaits."""
    __tracebackhide__ = True
    return await _step().runs()


def body() -> StepCell:
    """Stands around the body of a `%%step` cell."""
    return _step()


def step_to_show() -> Any:
    """What a `%%step` cell displays: its last value, or what was displayed of it."""
    cell = _following().open_cell()
    return None if cell is None or cell.step is None else cell.step.to_show(cell.last)


def _show_as_written(caller: FrameType) -> None:
    """Tracebacks show the lines around the failing one, from `linecache`: there the user's words, as a comment.

    The source must stay valid: what marks the failing part of a line parses it.
    """
    filename, at = caller.f_code.co_filename, caller.f_lineno - 1
    lines = linecache.getlines(filename)
    call, mark, said = lines[at].partition("  # ") if at < len(lines) else ("", "", "")
    if mark and call.startswith("__import__"):
        shown = [*lines[:at], said if said.startswith("#") else f"# {said}", *lines[at + 1 :]]
        linecache.cache[filename] = len("".join(shown)), None, shown, filename


def catching(name: str) -> Catching:
    """Stands around the body of a cell with `--result`."""
    return Catching(_following(), name)


def last_value(value: Any) -> None:
    """Stands around the last expression of a cell with `--result`, and of a `%%step` cell."""
    cell = _following().open_cell()
    if cell is not None:
        cell.last = value


def result_to_show() -> Any:
    """What a cell with `--result` displays: its last value, or the `Err`."""
    cell = _following().open_cell()
    if cell is None or cell.result_name is None:
        return None
    if cell.failure is None:
        return cell.last
    return _err(cell.failure)


def _err(error: Any) -> Err[Any]:
    """As a notebook may save what it shows."""
    return described(error, late("nbstep.cache.secrets.redaction").redacted_repr)
