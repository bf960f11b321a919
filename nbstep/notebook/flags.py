"""The line after `%%workflow` or `%%step`: a name or key and flags, read into a record. Pure."""

from __future__ import annotations

import difflib
import keyword
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast, get_args

from nbstep.durations import to_seconds
from nbstep.errors import CellStopped
from nbstep.keys import NoStableText, check_key, fill_named
from nbstep.notes import error_line
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
        plan: Nothing runs; what a run would do is shown.
        policy: Policy options by name.
        written: The line itself, without a comment: `%%workflow sales`.
    """

    name: str | None = None
    cache: str | None = None
    mode: str | None = None
    retry_errors: bool = False
    rerun_drifted: bool = False
    result: str | None = None
    plan: bool = False
    policy: Mapping[str, Any] = field(default_factory=dict[str, Any])
    written: str = "%%workflow"

    def shown(self) -> tuple[str, ...]:
        """The flags in force as the step list names them; the mode stands in the run."""
        again = ("retry errors",) * self.retry_errors + ("re-run old values",) * self.rerun_drifted
        return (*again, *(_shown_option(name, value) for name, value in self.policy.items()))


@dataclass(frozen=True, slots=True)
class StepLine:
    """What `%%step` was asked: its key, filled in; the names of `--out`, None for all; the flags as of `%%workflow`."""

    key: str
    out: tuple[str, ...] | None
    workflow: WorkflowLine


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


def _names(flag: str, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(name.isidentifier() and not keyword.iskeyword(name) for name in names):
        raise ValueError(f"{flag} takes names, as in --out df,model; got {text!r}")
    return names


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
    "--plan": ("plan", True),
    "--cache": ("cache", _text),
    "--ttl": ("ttl", _duration),
    "--error-ttl": ("error_ttl", _duration),
    "--cache-errors": ("cache_errors", True),
    "--no-cache-errors": ("cache_errors", False),
    "--stale-if-error": ("stale_if_error", True),
    "--on-drift": ("on_drift", _on_drift),
    "--rerun-drifted": ("rerun_drifted", True),
}
_STEP_FLAGS: Final[Mapping[str, tuple[str, Any]]] = {
    "--out": ("out", _names),
    **{flag: of for flag, of in _FLAGS.items() if flag != "--result"},
}
_FIELDS: Final = ("mode", "retry_errors", "rerun_drifted", "result", "plan", "cache")


def parse_workflow_line(line: str) -> WorkflowLine:
    """Reads what follows `%%workflow`.

    Raises:
        CellStopped: A flag is unknown, lacks its value or has a wrong one, or there are two names; one line with the fix.

    >>> parse_workflow_line("sales --mode refresh --ttl 1h")  # doctest: +ELLIPSIS
    WorkflowLine(name='sales', cache=None, mode='refresh', ..., policy={'ttl': '1h'}, ...)
    """
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise CellStopped(f"%%workflow {line}: {error}") from None
    names, given = _split("%%workflow", words, _FLAGS)
    if len(names) > 1:
        raise CellStopped(f"%%workflow takes one name, got {' and '.join(map(repr, names))}; quote a name with spaces")
    return _workflow_line(names[0] if names else None, given, _written("%%workflow", line, words))


def wants_plan(line: str) -> bool:
    """Whether a line, right or wrong, asks for a plan: then nothing of its cell may run."""
    try:
        return "--plan" in _step_words(line)
    except CellStopped:
        return False


def parse_step_line(line: str, names: Mapping[str, Any]) -> StepLine:
    """Reads what follows `%%step`.

    Args:
        line: The text.
        names: The notebook's names, for those in the key's braces.

    Raises:
        CellStopped: As of `parse_workflow_line`; or the key cannot be filled in.

    >>> parse_step_line("cv:{lr} --out a,b", {"lr": 0.1}).key
    'cv:0.1'
    """
    words = _step_words(line)
    keys, given = _split("%%step", words, _STEP_FLAGS)
    if not keys:
        raise CellStopped("%%step needs a key: %%step KEY")
    if len(keys) > 1:
        raise CellStopped(f"%%step takes one key, got {' and '.join(map(repr, keys))}; quote a key with spaces")
    out = given.pop("out", None)
    return StepLine(_filled(keys[0], names), out, _workflow_line(None, given, _written("%%step", line, words)))


def _written(magic: str, line: str, words: Iterable[str]) -> str:
    return f"{magic} {shlex.join(words) if '#' in line else line.strip()}".rstrip()


def _step_words(line: str) -> list[str]:
    """The words before a comment; a `#` inside a word belongs to it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        for word in lexer:
            if word.startswith("#"):
                break
            words.append(word)
    except ValueError as error:
        raise CellStopped(f"%%step {line}: {error}") from None
    return words


def _filled(template: str, names: Mapping[str, Any]) -> str:
    said = f"the key {template!r}"
    try:
        return check_key(fill_named(template, names))
    except KeyError as error:
        missing = error.args[0] if error.args else ""
        if isinstance(missing, str) and re.search(rf"\{{{re.escape(missing)}[!:.\[}}]", template):
            raise CellStopped(f"{said} asks for `{missing}`, and there is no such name in this notebook") from None
        raise CellStopped(f"{said}: {error_line(error)}") from None
    except (IndexError, NoStableText) as error:
        if isinstance(error, NoStableText):
            raise CellStopped(f"{said}: {error}") from None
        raise CellStopped(f"{said} has an empty {{}}: write the name in it, as in {{uid}}") from None
    except Exception as error:  # noqa: BLE001 - also the user's own attributes and formats
        raise CellStopped(f"{said}: {error_line(error)}") from None


def _split(magic: str, words: Iterable[str], flags: Mapping[str, tuple[str, Any]]) -> tuple[list[str], dict[str, Any]]:
    names: list[str] = []
    given: dict[str, Any] = {}
    waiting = iter(words)
    for word in waiting:
        if not word.startswith("-"):
            names.append(word)
            continue
        flag, equals, text = word.partition("=")
        if flag not in flags:
            raise CellStopped(_unknown(magic, flag, flags))
        option, reader = flags[flag]
        given[option] = _read(flag, reader, text if equals else None, waiting)
    return names, given


def _workflow_line(name: str | None, given: Mapping[str, Any], written: str) -> WorkflowLine:
    policy = {option: value for option, value in given.items() if option not in _FIELDS}
    policy_changes(policy)
    fields = {option: value for option, value in given.items() if option in _FIELDS}
    return WorkflowLine(name=name, policy=policy, written=written, **fields)


def _read(flag: str, reader: Any, text: str | None, waiting: Any) -> Any:
    if not callable(reader):
        if text is not None:
            raise CellStopped(f"{flag} takes no value, got {text!r}")
        return reader
    if text is None:
        text = next(waiting, None)
    if text is None or (text.startswith("--") and text.partition("=")[0] in {**_FLAGS, **_STEP_FLAGS}):
        raise CellStopped(f"{flag} needs a value")
    try:
        return reader(flag, text)
    except ValueError as error:
        raise CellStopped(str(error)) from None


_MEANT: Final[Mapping[str, str]] = {
    "--refresh": "--mode refresh", "--offline": "--mode offline", "--help": "%%workflow?", "-h": "%%workflow?",
    "--name": "the name itself", "--retry": "--retry-errors",
}  # fmt: skip


def _unknown(magic: str, flag: str, flags: Mapping[str, Any]) -> str:
    if flag in _MEANT:
        return f"{magic} has no flag {flag}; write {_MEANT[flag]}"
    close = difflib.get_close_matches(flag, flags, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{magic} has no flag {flag}; {hint}known: {', '.join(flags)}"
