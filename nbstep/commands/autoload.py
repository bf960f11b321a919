"""The verb `autoload`: whether every notebook and IPython of this environment loads nbstep by itself. Off unless turned on.

It writes, or removes, one file that IPython runs at its start. Uninstalling nbstep leaves that file; it does nothing then.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from nbstep.commands.line import Arguments, CommandOutcome, UsageError
from nbstep.commands.tables import Screen
from nbstep.project import place_text
from nbstep.words import shown

_MARK: Final = "# Written by `nbstep autoload on`; `nbstep autoload off` removes it."
_FILE: Final = f"""\
{_MARK}
try:
    get_ipython().extension_manager.load_extension("nbstep")
except ImportError:
    pass  # nbstep is not installed any more
"""


def startup_file() -> Path:
    """The file in this environment's own IPython folder, which every profile of every user of it runs."""
    return Path(sys.prefix, "etc", "ipython", "startup", "50-nbstep.py")


def set_autoload(arguments: Arguments, screen: Screen) -> CommandOutcome:
    """Turns it on or off; without a word says which it is."""
    outcome = _turned(arguments, screen)
    file = startup_file()
    return replace(outcome, record={"on": _is_ours(file), "file": str(file)})


def _turned(arguments: Arguments, screen: Screen) -> CommandOutcome:
    word = arguments.words[0] if arguments.words else ""
    file = startup_file()
    place = shown(place_text(file))
    is_on = _is_ours(file)
    if word not in {"", "on", "off"}:
        raise UsageError(f"autoload takes on or off, not {shown(word)}")
    if file.exists() and not is_on and word:
        return CommandOutcome(
            f"{place} was not written by nbstep: it stays as it is. Nothing was changed.", exit_code=1
        )
    if not word:
        other = "off" if is_on else "on"
        return CommandOutcome(
            f"autoload is {'on' if is_on else 'off'}; to change it: {screen.command} autoload {other}\n{place}"
        )
    try:
        if word == "on":
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_FILE, encoding="utf-8")
        else:
            file.unlink(missing_ok=True)
    except OSError as error:
        text = f"{place} cannot be written: {error.strerror}. Put %load_ext nbstep into the notebook instead."
        return CommandOutcome(text, exit_code=1)
    if word == "on":
        return CommandOutcome(
            f"Every kernel and IPython of this environment now starts with %load_ext nbstep.\n{place}"
        )
    was = "" if is_on else " It was off already."
    return CommandOutcome(f"Kernels start without nbstep; %load_ext nbstep loads it.{was}")


def _is_ours(file: Path) -> bool:
    try:
        return file.read_text(encoding="utf-8", errors="replace").startswith(_MARK)
    except OSError:
        return False
