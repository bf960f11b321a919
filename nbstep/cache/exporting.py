"""Kept values as plain `joblib.dump` files: each written whole or not at all, what cannot be written named with its reason."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import re
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbstep.cache import culprit
from nbstep.cache.entries import Entries
from nbstep.cache.records import Miss, Unreadable
from nbstep.cache.secrets.redaction import key_text, redact_text
from nbstep.foreign import interrupts
from nbstep.project import file_in_the_way, place_text
from nbstep.stores import files
from nbstep.words import plural

_NAMES_AT_MOST = 3


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and what it left out.

    Attributes:
        paths: The files.
        skipped: A line for each key that was left out, and one for all kept errors.
        needs: A line for each file that a colleague cannot load without something of the notebook.
    """

    paths: tuple[Path, ...]
    skipped: tuple[str, ...]
    needs: tuple[str, ...]


async def export_values(entries: Entries, wanted: Callable[[str], bool], folder: Path) -> Exported:
    """Writes the values whose keys are wanted; one that cannot be written does not keep the others.

    Raises:
        OSError: The folder cannot be made.
    """
    metas = {meta.key: meta for meta in await entries.entries() if meta.trusted and wanted(meta.key)}
    values = [key for key, meta in metas.items() if meta.outcome == "ok"]
    if values:
        _make(folder)
    paths: list[Path] = []
    skipped: list[str] = []
    needs: list[str] = []
    for key in values:
        found = await entries.look_up(key)
        if isinstance(found, Miss):
            skipped.append(f"{key_text(key)}: {found.detail or found.reason}")
            continue
        path = folder / file_name(key)
        try:
            names = _write(found.load(), path)
        except Unreadable as problem:
            skipped.append(f"{key_text(key)}: {problem.detail}")
        except _NotPlain as problem:
            skipped.append(f"{key_text(key)}: {problem}")
        except interrupts():
            raise
        except BaseException as error:  # noqa: BLE001 - the value's own code, or the disk: the others are written all the same
            skipped.append(f"{key_text(key)}: {type(error).__name__}: {getattr(error, 'strerror', None) or error}")
        else:
            paths.append(path)
            if names:
                named = ", ".join(names[:_NAMES_AT_MOST]) + (" …" if len(names) > _NAMES_AT_MOST else "")
                needs.append(f"{path.name} loads only where the notebook's {named} is defined, in __main__")
    if failed := len(metas) - len(values):
        skipped.append(f"{plural(failed, 'kept error')} {'has' if failed == 1 else 'have'} no value")
    return Exported(tuple(paths), tuple(map(_one_line, skipped)), tuple(needs))


class _NotPlain(Exception):  # noqa: N818 - the name says what is wrong
    """Plain pickle cannot write a value; the message names the part of it that it cannot."""


def _write(value: Any, path: Path) -> list[str]:
    """Writes one value; returns the names of `__main__` that its pickle refers to."""
    names: dict[str, None] = {}
    problem = _probe(value, names)
    if problem is not None:
        last = next(reversed(names), "")
        where = f"; export it from the notebook that defines {last}" if last and "<" not in last else ""
        raise _NotPlain(culprit.explain(value, problem, _probe) + where) from problem
    joblib = importlib.import_module("joblib")  # 144 ms
    temp = path.with_name(f".{files.temp_name()}.tmp")
    try:
        with temp.open("xb") as file:
            joblib.dump(value, file)
        files.move(temp, path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    return list(names)


class _PlainPickler(pickle.Pickler):
    """Pickles as joblib does, to nowhere, and notes what is named by `__main__`; large buffers are left out."""

    def __init__(self, names: dict[str, None]) -> None:
        super().__init__(_Nowhere(), protocol=5, buffer_callback=lambda _: False)
        self._names = names

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type | types.FunctionType) and obj.__module__ == "__main__":
            self._names[obj.__qualname__] = None
        return NotImplemented


@dataclass(slots=True)
class _Nowhere:
    write: Callable[[Any], int] = field(default=len)


def _probe(value: Any, names: dict[str, None] | None = None) -> BaseException | None:
    try:
        _PlainPickler({} if names is None else names).dump(value)
    except interrupts():
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a foreign object raises when it is pickled
        return error
    return None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        file = file_in_the_way(folder)
        why = error.strerror if file is None else f"{place_text(file)} is a file"
        raise type(error)(f"the folder {place_text(folder)} cannot be made: {why}") from None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def file_name(key: str) -> str:
    """The name of a key's file: readable, and never that of another key."""
    slug = re.sub(r"[^A-Za-z0-9._=-]+", "_", redact_text(key)).strip("._")[:80]
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{slug}.joblib" if slug == key else f"{slug or 'key'}-{digest}.joblib"
