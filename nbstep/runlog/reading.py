"""Reads the run log as what it is, text that anybody may have written: a file that is not as ours are is passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from nbstep.runlog.folder import LogFile, is_of, newest_files
from nbstep.runlog.records import LoggedFinding, LoggedRun, LoggedStep
from nbstep.stores import documents

MAX_FINDINGS: Final = 100
TEXT_CHARS: Final = 1000
SEEN_CHARS: Final = 8192
_KIND_CHARS: Final = 40
_MAX_S: Final = 32_503_680_000.0  # the year 3000: what is beyond no calendar shows, and sums of less stay finite
_NUMBERS: Final = (int, float)  # and no bool

# The fields of a `LoggedStep`, checked.
Row: TypeAlias = tuple[
    str, str, str, float, float, float, str | None, str | None, str | None, bool, str | None, str | None
]


def read_runs(cache_directory: Path, *, but: str | None = None) -> Iterator[LoggedRun]:
    """The logged runs, newest first, without one that knows itself what it asked. What cannot be read is passed over."""
    for file in newest_files(cache_directory):
        run = None if but is not None and is_of(file.path, but) else _run_of(_content(file))
        if run is not None:
            yield run


def last_run(cache_directory: Path) -> LoggedRun | None:
    """The newest logged run that asked for a key, with the steps of the runs inside it; None where there is none."""
    contents = map(_content, newest_files(cache_directory))
    newest = next((run for content in contents if (run := _run_of(content)) is not None), None)
    if newest is None:
        return None
    root = json.dumps(newest.root).encode("ascii")
    inside = (_run_of(content) for content in contents if content is not None and root in content)
    together = [newest, *(run for run in inside if run is not None and run.root == newest.root)]
    steps = tuple(step for run in reversed(together) for step in run.steps)
    return replace(together[-1], steps=steps)


def read_rows(file: LogFile) -> tuple[str | None, list[Row]]:
    """The notebook of a run, and its steps as plain rows, which takes half the time; none where its file cannot be read."""
    record = _record_of(_content(file))
    return (None, []) if record is None else (record["notebook"], record["steps"])


def _content(file: LogFile) -> bytes | None:
    try:
        document = documents.open_document(file.path, lambda: False)
        # Never more than was promised: it may have been replaced since.
        return None if document is None else document.read(0, file.stamp[1])
    except OSError:
        return None


def _run_of(content: bytes | None) -> LoggedRun | None:
    record = _record_of(content)
    if record is None:
        return None
    steps = tuple(LoggedStep(*row) for row in record["steps"])
    return LoggedRun(
        record["run"], record["root"], record["at"], record["name"], record["notebook"], steps, record["findings"],
        record["text"],
    )  # fmt: skip


def _record_of(content: bytes | None) -> dict[str, Any] | None:
    """The checked fields of a run, its steps as rows; None where there is anything that no run writes."""
    if content is None:
        return None
    try:
        record = json.loads(content)
        run = _text(record["run"])
        return {
            "run": run,
            "root": _text(record.get("root") or run),
            "at": _seconds(record["at"]),
            "name": _label(record.get("name")),
            "notebook": _label(record.get("notebook")),
            "text": _label(record.get("text")),
            "steps": [_row(*fields) for fields in _lists(record["steps"])],
            "findings": tuple(
                LoggedFinding(_text(kind)[:_KIND_CHARS], _text(text)[:TEXT_CHARS])
                for kind, text in _lists(record.get("findings", []))[:MAX_FINDINGS]
            ),
        }
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError, MemoryError):
        return None


def _lists(value: Any) -> list[list[Any]]:
    if not isinstance(value, list):
        raise TypeError("steps and findings are lists")
    return cast("list[list[Any]]", value)


def _row(
    key: Any,
    got: Any,
    outcome: Any,
    at: Any,
    took_s: Any,
    saved_s: Any,
    reason: Any,
    drift: Any = None,
    site: Any = None,
    kept: Any = True,
    why: Any = None,
    seen: Any = None,
    *_: Any,
) -> Row:
    """One step; a later version may say more, an earlier one less."""
    if not (type(key) is type(got) is type(outcome) is str):
        raise TypeError("keys and words are text")
    return (
        key, got, outcome, _seconds(at), _seconds(took_s), _seconds(saved_s),
        reason[:_KIND_CHARS] if isinstance(reason, str) else None,
        (drift[:TEXT_CHARS] or None) if isinstance(drift, str) else None,
        site[:_KIND_CHARS] if isinstance(site, str) else None,
        kept is not False,
        (why[:TEXT_CHARS] or None) if isinstance(why, str) else None,
        seen if isinstance(seen, str) and len(seen) <= SEEN_CHARS else None,
    )  # fmt: skip


def _seconds(value: Any) -> float:
    if type(value) not in _NUMBERS or not 0 <= value < _MAX_S:
        raise ValueError("no time that was or will be")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _label(value: Any) -> str | None:
    return value[:TEXT_CHARS] if isinstance(value, str) else None
