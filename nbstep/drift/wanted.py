"""Which inputs of a step count: what its options `ignore=` and `files=` mean."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which inputs count: all but those of the names in `ignore`; files as well, where `files` names some or is None."""

    ignore: frozenset[str] = frozenset()
    files: tuple[str, ...] | None = None


ALL: Final = Wanted()


def is_ignored(name: str, ignore: frozenset[str]) -> bool:
    """Whether an input is one of those to be ignored: by its own name, or by that of the object it is an attribute of."""
    return not ignore.isdisjoint((name, *name.partition(" in ")[0].split(".")))


def checked_names(names: object) -> frozenset[str]:
    """The names that `ignore=` gives: one, or several.

    Raises:
        TypeError: They are no names.
    """
    given = _several(names, str)
    if given is None:
        raise TypeError(f'ignore= takes the name of an input, or several: ignore=("session", "log"); got {names!r:.80}')
    return frozenset(given)


def checked_files(files: object) -> tuple[str, ...] | None:
    """The paths that `files=` gives: one, several, none, or None for those that are found.

    Raises:
        TypeError: They are no paths.
    """
    if files is None:
        return None
    given = _several(files, (str, os.PathLike))
    paths = None if given is None else [os.fspath(path) for path in given]
    if paths is None or not all(isinstance(path, str) for path in paths):
        raise TypeError(
            f'files= takes a path, or several: files=("a.csv", "b.csv"); files=() looks at none; got {files!r:.80}'
        )
    return tuple(paths)


def _several(given: Any, kind: Any) -> list[Any] | None:
    items = (
        [given]
        if isinstance(given, kind)
        else list(given)
        if isinstance(given, list | tuple | set | frozenset)
        else None
    )
    return items if items is not None and all(isinstance(item, kind) for item in items) else None
