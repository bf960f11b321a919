"""The line after `%%workflow`: a name and flags, read into a record. Pure."""

from __future__ import annotations

import difflib
import keyword
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast, get_args

from nbstep.durations import to_seconds
from nbstep.errors import CellStopped
from nbstep.policy import Cause, OnDrift, policy_changes
from nbstep.settings import MODES


@dataclass(frozen=True, slots=True)
class WorkflowLine:
    """What `%%workflow` was asked.

    Attributes:
        name: The workflow's label.
        cache: A path, a URL, or `$name` for an object of the notebook; None is the project's cache.
        mode: One of `settings.MODES`, None if not said.
        retry_errors: Kept errors run again.
        rerun_drifted: What was kept and changed since runs again, once.
        result: The name that gets `Ok` or `Err` instead of the cell failing.
        policy: Policy options by name.
    """

    name: str | None = None
    cache: str | None = None
    mode: str | None = None
    retry_errors: bool = False
    rerun_drifted: bool = False
    result: str | None = None
    policy: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def shown(self) -> tuple[str, ...]:
        """The flags in force as the step list names them; the mode stands in the run."""
        again = ("retry errors",) * self.retry_errors + ("re-run old values",) * self.rerun_drifted
        return (*again, *(_shown_option(name, value) for name, value in self.policy.items()))


def _shown_option(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    if isinstance(value, Mapping):
        value = ", ".join(f"{cause} {action}" for cause, action in cast("Mapping[str, str]", value).items())
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return f"{words} {'for ever' if value is None else value}"


def _duration(flag: str, text: str) -> Any:
    if text == "none":
        return None
    if flag == "--error-ttl" and text == "auto":
        return text
    try:
        seconds: Any = float(text)
    except ValueError:
        seconds = text
    to_seconds(seconds, flag)
    return text if isinstance(seconds, str) else seconds


def _name(flag: str, text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text) or text == "step":
        raise ValueError(f"{flag} takes a name to store the result under; got {text!r}")
    return text


def _one_of(*known: str) -> Callable[[str, str], str]:
    def check(flag: str, text: str) -> str:
        if text not in known:
            raise ValueError(f"{flag} {text}: use {', '.join(known[:-1])} or {known[-1]}")
        return text

    return check


def _on_drift(flag: str, text: str) -> Any:
    """One action, or one by cause: `code=rerun,inputs=ignore`."""
    if "=" not in text:
        return _one_of(*get_args(OnDrift))(flag, text)
    causes = [part.partition("=") for part in text.split(",")]
    for cause, _, action in causes:
        _one_of(*get_args(Cause))(f"{flag} {cause}=…:", cause)
        _one_of(*get_args(OnDrift))(f"{flag} {cause}=", action)
    return {cause: action for cause, _, action in causes}


def _text(_flag: str, text: str) -> str:
    return text


# flag: (the field or policy option it sets, what reads its value, or the value that a bare flag sets)
_FLAGS: Final[Mapping[str, tuple[str, Any]]] = {
    "--mode": ("mode", _one_of(*MODES)),
    "--retry-errors": ("retry_errors", True),
    "--result": ("result", _name),
    "--cache": ("cache", _text),
    "--ttl": ("ttl", _duration),
    "--error-ttl": ("error_ttl", _duration),
    "--cache-errors": ("cache_errors", True),
    "--no-cache-errors": ("cache_errors", False),
    "--stale-if-error": ("stale_if_error", True),
    "--on-drift": ("on_drift", _on_drift),
    "--rerun-drifted": ("rerun_drifted", True),
}
_FIELDS: Final = ("mode", "retry_errors", "rerun_drifted", "result", "cache")


def parse_workflow_line(line: str) -> WorkflowLine:
    """Reads what follows `%%workflow`.

    Raises:
        CellStopped: A flag is unknown, lacks its value or has a wrong one, or there are two names; one line with the fix.

    >>> parse_workflow_line("sales --mode refresh --ttl 1h")  # doctest: +ELLIPSIS
    WorkflowLine(name='sales', cache=None, mode='refresh', ..., policy={'ttl': '1h'})
    """
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise CellStopped(f"%%workflow {line}: {error}") from None
    names: list[str] = []
    given: dict[str, Any] = {}
    waiting = iter(words)
    for word in waiting:
        if not word.startswith("-"):
            names.append(word)
            continue
        flag, equals, text = word.partition("=")
        if flag not in _FLAGS:
            raise CellStopped(_unknown(flag))
        option, reader = _FLAGS[flag]
        given[option] = _read(flag, reader, text if equals else None, waiting)
    if len(names) > 1:
        raise CellStopped(f"%%workflow takes one name, got {' and '.join(map(repr, names))}; quote a name with spaces")
    policy = {option: value for option, value in given.items() if option not in _FIELDS}
    policy_changes(policy)
    fields = {option: value for option, value in given.items() if option in _FIELDS}
    return WorkflowLine(name=names[0] if names else None, policy=policy, **fields)


def _read(flag: str, reader: Any, text: str | None, waiting: Any) -> Any:
    if not callable(reader):
        if text is not None:
            raise CellStopped(f"{flag} takes no value, got {text!r}")
        return reader
    if text is None:
        text = next(waiting, None)
    if text is None or (text.startswith("--") and text.partition("=")[0] in _FLAGS):
        raise CellStopped(f"{flag} needs a value")
    try:
        return reader(flag, text)
    except ValueError as error:
        raise CellStopped(str(error)) from None


_MEANT: Final[Mapping[str, str]] = {
    "--refresh": "--mode refresh", "--offline": "--mode offline", "--help": "%%workflow?", "-h": "%%workflow?",
    "--name": "the name itself", "--retry": "--retry-errors",
}  # fmt: skip


def _unknown(flag: str) -> str:
    if flag in _MEANT:
        return f"%%workflow has no flag {flag}; write {_MEANT[flag]}"
    close = difflib.get_close_matches(flag, _FLAGS, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"%%workflow has no flag {flag}; {hint}known: {', '.join(_FLAGS)}"
