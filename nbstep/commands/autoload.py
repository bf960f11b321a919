"""The verb `autoload`: whether every notebook and IPython of this environment loads nbstep by itself. Off unless turned on.

It writes, or removes, one file that IPython runs at its start. Uninstalling nbstep leaves that file; it does nothing then.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from nbstep.commands.line import Arguments, CommandOutcome, UsageError
from nbstep.commands.tables import Screen
from nbstep.project import place_text
from nbstep.words import shown

_MARK: Final = "# Written by `nbstep autoload on`; `nbstep autoload off` removes it."
_END: Final = "# End of what nbstep wrote."
# An error would keep IPython from running the startup files behind this one, so it costs a line instead.
_BLOCK: Final = f"""\
{_MARK}
try:
    get_ipython().extension_manager.load_extension("nbstep")
except Exception as _nbstep:
    if not (isinstance(_nbstep, ModuleNotFoundError) and _nbstep.name == "nbstep"):  # else it was uninstalled
        _nbstep = f"nbstep was not loaded ({{_nbstep!r:.300}}). To start without it, delete {{__file__}}"
        print(_nbstep, file=__import__("sys").stderr)
{_END}
"""
_BLOCK_TEXT: Final = re.compile(f"^{re.escape(_MARK)}$.*?^{re.escape(_END)}$\\n?", re.DOTALL | re.MULTILINE)


def startup_file() -> Path:
    """The file in this environment's own IPython folder, which every profile of every user of it runs."""
    return Path(sys.prefix, "etc", "ipython", "startup", "50-nbstep.py")


def is_on() -> bool:
    """Whether kernels of this environment load nbstep by themselves."""
    return _BLOCK_TEXT.search(_read(startup_file())) is not None


def set_autoload(arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Turns it on or off; without a word says which it is."""
    word = arguments.words[0] if arguments.words else ""
    if word not in {"", "on", "off"}:
        raise UsageError(f"autoload takes on or off, not {shown(word)}")
    file, was_on = startup_file(), is_on()
    try:
        text, exit_code = _turned(word, file, was_on, screen)
    except OSError as error:
        text = f"{_place(file)} cannot be written: {error.strerror}. Put %load_ext nbstep into the notebook instead."
        exit_code = 1
    return CommandOutcome(text, exit_code, record={"on": is_on(), "file": str(file)})


def _turned(word: str, file: Path, was_on: bool, screen: Screen) -> tuple[str, int]:
    """What was done, and the exit code."""
    if not word:
        state, other = ("on", "off") if was_on else ("off", "on")
        return f"autoload is {state}; to change it: {screen.command} autoload {other}\n{_place(file)}", 0
    if file.exists() and not was_on:
        return f"{_place(file)} was not written by nbstep: it stays as it is. Nothing was changed.", 1
    if word == "on":
        if not was_on:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_BLOCK, encoding="utf-8")
        already = " It was on already." if was_on else ""
        return f"Every kernel and IPython of this environment starts with %load_ext nbstep.{already}\n{_place(file)}", 0
    if not was_on:
        return "Kernels start without nbstep; %load_ext nbstep loads it. It was off already.", 0
    rest = _BLOCK_TEXT.sub("", _read(file))
    if rest.strip():
        file.write_text(rest, encoding="utf-8")
        done = f"Took our lines out of {_place(file)}; what else stands there stays."
    else:
        file.unlink()
        done = f"Removed {_place(file)}."
    return f"Kernels start without nbstep; %load_ext nbstep loads it. {done}", 0


def _place(file: Path) -> str:
    return shown(place_text(file))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
